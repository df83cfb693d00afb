"""Clips in the test's own folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.sources.videos import MakeClip, Watch, play, write_clip


@pytest.fixture
def make_clip(tmp_path: Path) -> MakeClip:
    """`write_clip` to a name in the test's folder."""

    def make(name: str = "clip.mp4", **options: Any) -> Path:
        return write_clip(tmp_path / name, **options)

    return make


@pytest.fixture
def watch() -> Watch:
    """`play`."""
    return play
