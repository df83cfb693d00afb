"""Files that sinks may write: one rule for graph files and for the command line."""

from __future__ import annotations

from pathlib import Path

from streamkp.errors import UsageError


def refuse_existing(stage: str, path: Path, overwrite: bool) -> None:
    """Raise UsageError where `path` is a file that may not be replaced, or lies in no folder.

    Pipes and devices are written to, never replaced.
    """
    if path.is_file() and not overwrite:
        raise UsageError(
            f"{stage}: {path} exists; choose another path, or replace it with --overwrite (`overwrite: true` in a "
            "graph file)"
        )
    if not path.parent.is_dir():
        raise UsageError(f"{stage}: {path} cannot be written: there is no folder {path.parent}")
