"""HDFormer as ModelScope ships it: 96 frames at 50 Hz, scaled by the statistics of Human3.6M, millimetres.

Source: ModelScope's `body-3d-keypoints-video` pipeline for HDFormer. The statistics lie beside its checkpoint; where
they are missing, default statistics stand in. Those are means and deviations per Human3.6M joint, left and right
alike, from the CMU motion capture (mocap.cs.cmu.edu) as seen by cameras like those of Human3.6M: 1.6 m high, 5.2 m
from a person who turns any way and moves within 2 m. Mirrored poses count too, so the means of x are 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkp import skeletons
from streamkp.models.settings import Statistics
from streamkp.motion.camera import Intrinsics, canonical_coordinates
from streamkp.motion.mirror import flip_average, mirror
from streamkp.motion.root import locate_all

Floats = NDArray[np.floating[Any]]
Float32 = NDArray[np.float32]

FRAMES = 96
RATE = 50.0  # Hz, of Human3.6M
CHANNELS = 2
MILLIMETRES = 1000.0
_H36M17 = skeletons.get("h36m17")


class PublishedNetwork:
    """A `WindowNetwork` around the network itself.

    `run` takes float32 (B, 2, 96, 17) and gives (B, 3, 96, 17). `plane` and `space` are the statistics of canonical
    coordinates and of poses in millimetres. With `flip` it is averaged with the mirrored person.
    """

    frames = FRAMES
    rate = RATE

    def __init__(
        self,
        run: Callable[[Float32], Float32],
        plane: Statistics,
        space: Statistics,
        *,
        flip: bool = True,
        trajectory: bool = False,
    ) -> None:
        self._run, self._plane, self._flip, self._trajectory = run, plane, flip, trajectory
        self._mean, self._std = (values.T[None, :, None] for values in (space.mean, space.std))

    def rows(
        self, windows: Floats, cameras: Sequence[Intrinsics], start: int, stop: int
    ) -> tuple[Floats, Floats | None]:
        """See `WindowNetwork`."""
        pairs = [
            network_inputs(window[None, ..., :2], camera, self._plane.mean, self._plane.std)
            for window, camera in zip(windows, cameras, strict=True)
        ]
        inputs = [plain for plain, _ in pairs] + [flipped for _, flipped in pairs if self._flip]
        raw = self._run(np.concatenate(inputs))
        millimetres = raw[:, :, start:stop] * self._std + self._mean
        poses: Floats = np.moveaxis(millimetres, 1, 3) / MILLIMETRES
        if self._flip:
            poses = network_outputs(millimetres[: len(windows)], millimetres[len(windows) :])
        return poses, locate_all(poses, windows[:, start:stop], cameras) if self._trajectory else None


def network_inputs(points: Floats, camera: Intrinsics, mean: Floats, std: Floats) -> tuple[Float32, Float32]:
    """Pixel windows to the network's input, and the same for the mirrored person.

    Args:
        points: (B, T, 17, 2) pixels, Human3.6M joints.
        mean, std: (17, 2) statistics of canonical coordinates, from mean_std_2d.npy.

    Returns two float32 arrays (B, 2, T, 17).
    """
    # The reference counts pixels from their corners: the middle of the first is 0.5.
    canonical = canonical_coordinates(np.asarray(points, np.float64) - 0.5, camera)

    def scaled(poses: Floats) -> Float32:
        return np.moveaxis((poses - mean) / std, -1, -3).astype(np.float32)

    return scaled(canonical), scaled(mirror(canonical, _H36M17))


def network_outputs(plain: Floats, flipped: Floats) -> Floats:
    """The network's outputs (B, 3, T, 17) in millimetres, for both inputs, to poses (B, T, 17, 3) in metres.

    Camera axes; the root is where the statistics put it (near the origin), and is not moved.
    """
    poses = [np.moveaxis(output, -3, -1) for output in (plain, flipped)]
    return flip_average(poses[0], poses[1], _H36M17) / MILLIMETRES


def _joints(
    middle: list[tuple[float, ...]], leg: list[tuple[float, ...]], arm: list[tuple[float, ...]]
) -> NDArray[np.float64]:
    """`middle`: hip, spine, thorax, neck, head; `leg`: hip, knee, ankle; `arm`: shoulder, elbow, wrist."""
    return np.array([middle[0], *leg, *leg, *middle[1:], *arm, *arm], np.float64)


# Camera plane, (x - centre) / focal length: (17, 2) each.
_PLANE_MEAN = _joints(
    [(0, 0.010), (0, -0.032), (0, -0.078), (0, -0.113), (0, -0.130)],
    [(0, 0.010), (0, 0.082), (0, 0.152)],
    [(0, -0.087), (0, -0.044), (0, -0.027)],
)
_PLANE_STD = _joints(
    [(0.156, 0.025), (0.157, 0.020), (0.158, 0.015), (0.158, 0.014), (0.159, 0.015)],
    [(0.156, 0.025), (0.156, 0.036), (0.158, 0.049)],
    [(0.161, 0.016), (0.163, 0.030), (0.164, 0.046)],
)
# Camera axes relative to the hip, millimetres: (17, 3) each.
_SPACE_MEAN = _joints(
    [(0, 0, 0), (0, -215, -30), (0, -442, -60), (0, -617, -81), (0, -701, -93)],
    [(0, 0, 0), (0, 374, 53), (0, 738, 93)],
    [(0, -489, -65), (0, -276, -34), (0, -191, -17)],
)
_SPACE_STD = _joints(
    [(0, 0, 0), (28, 13, 29), (51, 31, 51), (72, 44, 70), (86, 53, 81)],
    [(65, 13, 63), (126, 59, 122), (188, 106, 181)],
    [(147, 47, 144), (211, 117, 207), (243, 198, 238)],
)
DEFAULT_PLANE = Statistics(_PLANE_MEAN, _PLANE_STD)
DEFAULT_SPACE = Statistics(_SPACE_MEAN, _SPACE_STD)
