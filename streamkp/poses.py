"""What a 2D pose network works on (a region of the image) and what it says (a pose).

A region is a float32 array (5,): cx, cy, w, h in source pixels, and the angle in radians by which the crop is turned
against the image: a positive angle turns the crop's x axis from the image's x axis towards its y axis (clockwise on
the screen), about the centre.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamkp.packet import FloatArray

Region = FloatArray  # (5,): cx, cy, w, h, angle


@dataclass(slots=True)
class Pose:
    """One person as the network sees them in one region.

    `points` is float32 (K, 3): x, y in source pixels, score 0..1. `presence`, 0..1, says whether there is a person at
    all. `world`, where the network gives it, is float32 (K, 3) in metres, camera frame (x right, y down, z away from
    the camera), pelvis at the origin. `next_region` is where to look for this person in the next frame.
    """

    points: FloatArray
    presence: float
    next_region: Region
    world: FloatArray | None = None
