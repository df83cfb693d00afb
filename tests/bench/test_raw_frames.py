"""The frames for a peer are those that the program works on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from streamkp.bench import raw_frames
from tests.sources.videos import write_clip


def test_standard_output_holds_every_frame(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    write_clip(clip, frames=4)
    width, height = raw_frames.size(str(clip))
    done = subprocess.run([sys.executable, "-m", raw_frames.__name__, str(clip)], capture_output=True, check=True)
    found = np.frombuffer(done.stdout, np.uint8).reshape(-1, height, width, 3)
    np.testing.assert_array_equal(found, np.stack([*raw_frames.frames(str(clip))]))
    assert len(found) == 4
