"""The frames of a clip as raw BGR on standard output, decoded as `decode` does it: for a peer that is to see the same.

python -m streamkp.bench.raw_frames CLIP
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import av
import numpy as np

from streamkp.packet import Image


def frames(clip: str) -> Iterator[Image]:
    """Every frame, uint8 (H, W, 3) BGR."""
    with av.open(clip) as container:
        for frame in container.decode(video=0):
            yield np.asarray(frame.to_ndarray(format="bgr24"), np.uint8)


def size(clip: str) -> tuple[int, int]:
    """(width, height) of the first frame."""
    height, width = next(frames(clip)).shape[:2]
    return width, height


if __name__ == "__main__":
    for image in frames(sys.argv[1]):
        sys.stdout.buffer.write(image.tobytes())
