from __future__ import annotations

import gc

import av

from streamkp.sources.container import VideoReader
from tests.sources.videos import MakeClip


def test_frames_are_free_as_soon_as_they_are_done_with(make_clip: MakeClip) -> None:
    """Not when the garbage collector comes: to it a frame is a small object, and gigabytes of them wait unnoticed."""
    with VideoReader(str(make_clip()), "clip", threads=1, max_pixels=10**6) as reader:
        gc.collect()
        gc.disable()
        try:
            assert sum(1 for _ in reader.pictures()) == 30
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            waiting = [thing.width for thing in gc.garbage if isinstance(thing, av.VideoFrame)]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
    assert waiting in ([], [16])  # the tiny one whose orientation was looked up
