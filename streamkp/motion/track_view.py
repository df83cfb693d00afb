"""What the incremental lifter sees of a row: the person as a camera that looks straight at them, upright, sees them.

A person off the middle of the image is seen from the side, and one who stands on the hands is one whose arms are up,
upside down. Neither may change the pose, so each row is turned to a virtual camera whose axis goes through the person
(cf. Yu et al., "PCLs: Geometry-aware Neural Reconstruction of 3D Pose with Perspective Crop Layers", CVPR 2021) and
that is rolled until the trunk points up, and measured in sizes of the person. What it was turned by is told to the
network as well: gravity helps.

The camera of a row follows from that row and the `ROWS` - 1 before it, never from later ones: what a network has
computed of a row stays valid when the person moves on. That makes an incremental network exact.

Every function works on numpy arrays and torch tensors alike (`xp` is the module), so that a network reads the same
when it is trained as when it is used.
"""

from __future__ import annotations

from typing import Any

ROWS = 8  # over which axis, size and roll of the camera are averaged
RATE = 30.0  # rows per second of the motion capture that the network is trained on
SUMMARY = 5  # numbers of a row that the averages are taken of
FEATURES = 2 * 17 + 17 + SUMMARY  # of a row
UPRIGHT = 0.4  # in sizes of the person: a trunk that looks shorter than this does not turn the camera over
TYPICAL_SIZE = -1.8  # logarithm: of a person some three metres away
NEAREST = 0.2  # what lies further off the virtual axis than atan(1 / NEAREST) is taken to lie there
SMALLEST = 1e-4  # of a person's size, in focal lengths
_HIP, _THORAX = 0, 8


def summary(points: Any, scores: Any, xp: Any) -> Any:
    """What the camera of later rows depends on: [..., 17, 2] and [..., 17] -> [..., `SUMMARY`].

    Args:
        points: (pixel - centre) / focal length, Human3.6M joints.
        scores: 0..1.

    Returns x and y of the hip, the logarithm of the size, and the trunk in sizes of the person. The size is the root
    mean square of the distance of the joints from the hip, as directions seen from the camera.
    """
    rays = _unit(xp.concatenate([points, xp.ones_like(points[..., :1])], -1), xp)
    weights = xp.clip(scores, 0.05, 1.0)
    squared = ((rays - rays[..., _HIP : _HIP + 1, :]) ** 2).sum(-1)
    size = xp.sqrt((squared * weights).sum(-1) / weights.sum(-1))[..., None]
    size = xp.clip(size, SMALLEST, None)
    hip = points[..., _HIP, :]
    return xp.concatenate([hip, xp.log(size), (points[..., _THORAX, :] - hip) / size], -1)


def see(points: Any, scores: Any, mean: Any, xp: Any) -> tuple[Any, Any]:
    """Rows as their cameras see them.

    Args:
        points, scores: as for `summary`.
        mean: [..., `SUMMARY`], the mean of the `summary` of the row and those before it.

    Returns [..., `FEATURES`] for the network, and the rotations [..., 3, 3] from camera axes to the virtual camera's.
    """
    zero, one = xp.zeros_like(mean[..., :1]), xp.ones_like(mean[..., :1])
    z = _unit(xp.concatenate([mean[..., :2], one], -1), xp)
    across = _unit(xp.concatenate([z[..., 2:], zero, -z[..., :1]], -1), xp)  # level
    down = xp.stack(
        [
            z[..., 1] * across[..., 2],
            z[..., 2] * across[..., 0] - z[..., 0] * across[..., 2],
            -z[..., 1] * across[..., 0],
        ],
        -1,
    )
    up = _unit(mean[..., 3:5] - UPRIGHT * xp.concatenate([zero, one], -1), xp)
    right, above = up[..., :1], up[..., 1:]
    turns = xp.stack([-above * across + right * down, -right * across - above * down, z], -2)
    rays = xp.concatenate([points, xp.ones_like(points[..., :1])], -1)
    seen = turn(turns, rays)
    plane = seen[..., :2] / xp.clip(seen[..., 2:], NEAREST, None)
    hip = plane[..., :1, :]
    around = xp.concatenate([hip, plane[..., 1:, :] - hip], -2) / xp.exp(mean[..., 2])[..., None, None]
    flat = around.reshape(*around.shape[:-2], 2 * 17)
    return xp.concatenate([flat, scores, mean[..., :2], mean[..., 2:3] - TYPICAL_SIZE, up], -1), turns


def trailing_mean(summaries: Any, xp: Any) -> Any:
    """[B, T, N] -> the same: of each row the mean with the `ROWS` - 1 before it; the first stands for those missing."""
    first = summaries[:, :1]
    padded = xp.concatenate([*[first] * (ROWS - 1), summaries], 1)
    return sum(padded[:, i : i + summaries.shape[1]] for i in range(ROWS)) / ROWS


def turn(rotations: Any, vectors: Any) -> Any:
    """Rotations [..., 3, 3] applied to vectors [..., N, 3]."""
    return sum(rotations[..., None, :, k] * vectors[..., k : k + 1] for k in range(3))


def turn_back(rotations: Any, vectors: Any) -> Any:
    """The inverse of `turn`."""
    return sum(rotations[..., None, k, :] * vectors[..., k : k + 1] for k in range(3))


def _unit(vectors: Any, xp: Any) -> Any:
    length = xp.sqrt((vectors * vectors).sum(-1))[..., None]
    return vectors / xp.clip(length, 1e-6, None)
