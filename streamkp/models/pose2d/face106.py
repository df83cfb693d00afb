"""106 points of a face and the angles of the head, from the region of one face."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from streamkp.packet import Detections, FloatArray, Image
from streamkp.poses import Pose, Region
from streamkp.runtimes.image_networks import Runner
from streamkp.vision import affine, face_crop


@dataclass(slots=True)
class FacePose(Pose):
    """`angles` is float32 (3,): pitch, roll and yaw in radians, of the head in its crop, as the network gives them.

    `turn` is the angle in radians by which that crop was turned against the image (see `streamkp.poses`).
    """

    angles: FloatArray = field(default_factory=lambda: np.zeros(3, np.float32))
    turn: float = 0.0


class Face106Estimator:
    """EasyCV's face alignment network. It does not say whether there is a face: every score is 1.

    The reference looks seven times, each time around the points found before; here it looks once at what it is
    given, and `next_region` is where it would look next.
    """

    skeleton = "face106"

    def __init__(self, name: str, run: Runner) -> None:
        self.name = name
        self._run = run

    def region_from_box(self, box: FloatArray) -> Region:
        """The box (4,) x, y, w, h of a face, a tenth larger on every side."""
        return face_crop.enlarged_region(box)

    def region_from_detection(self, detections: Detections, i: int) -> Region:
        """The region for box `i`."""
        return self.region_from_box(detections.boxes[i])

    def estimate(self, crops: Sequence[tuple[Image, Region]]) -> list[Pose]:
        """The face in each region, in order, as `FacePose`."""
        return list(self.faces(crops))

    def faces(self, crops: Sequence[tuple[Image, Region]]) -> list[FacePose]:
        """The face in each region, in order."""
        if not crops:
            return []
        pixels = np.empty((len(crops), face_crop.INPUT, face_crop.INPUT, 3), np.uint8)
        for (image, region), out in zip(crops, pixels, strict=True):
            face_crop.crop_upright(image, region, out)
        in_crop, angles = self._run(affine.network_input(pixels, face_crop.MEAN, face_crop.STD, rgb=False))
        return [
            self._face(points, turned, region)
            for points, turned, (_, region) in zip(in_crop, angles, crops, strict=True)
        ]

    @staticmethod
    def _face(in_crop: FloatArray, angles: FloatArray, region: Region) -> FacePose:
        points = np.ones((len(in_crop), 3), np.float32)
        points[:, :2] = face_crop.upright_to_image(in_crop, region)
        return FacePose(
            points, 1.0, face_crop.upright_region(in_crop, region), angles=angles.copy(), turn=float(region[4])
        )

    def close(self) -> None:
        """Let go of the network."""
        self._run.close()
