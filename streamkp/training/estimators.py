"""What 2D networks make of the true keypoints of a window.

Keypoints tremble, wander over some frames, sit off their true place for as long as a person stands in some way, get
lost behind other limbs or the edge of the image, and change sides. Scores tell of it, more or less: each network has
its own scale. A filter after the network lags. Amounts are in sizes of the person, and drawn anew for every window.
"""

from __future__ import annotations

import torch
from torch import Tensor

from streamkp import skeletons
from streamkp.training import bones
from streamkp.training.randomness import Random, constant

CLEAN = 0.2  # share of windows with nothing wrong
TREMBLES, WANDERS, SITS_OFF = 0.008, 0.012, 0.010  # greatest standard deviations, in heights of the person
LOST, STAYS_LOST = 0.004, 12.0  # chance per joint and frame, frames
WANDERS_WHEN_LOST = 0.06
SWAPS, STAYS_SWAPPED = 0.003, 10.0  # chance per frame of legs, arms or both; frames
CROPPED = 0.08  # share of windows without legs in the image
FILTERED = 0.5  # share of windows that a filter has smoothed
SMOOTHING = (0.35, 0.95)  # weight of the newest frame in it

# As large as the errors of the trunk are those of other joints, times: by the last word of their names.
_DIFFICULTY = {"knee": 1.2, "ankle": 1.5, "elbow": 1.3, "wrist": 1.7, "spine": 0.8, "thorax": 0.8, "hip": 1.2}
DIFFICULTY = tuple(_DIFFICULTY.get(joint.split("_")[-1], 1.0) for joint in skeletons.get("h36m17").joints)
_LEGS, _ARMS = (1, 2, 3, 4, 5, 6), (11, 12, 13, 14, 15, 16)
_BELOW_HIPS = (2, 3, 5, 6)


def disturb(points: Tensor, pixel: Tensor, random: Random) -> tuple[Tensor, Tensor]:
    """True keypoints [B, T, 17, 2] to estimated ones, and their scores [B, T, 17].

    `pixel` [B] is the size of a pixel in the units of `points`: nothing is found more finely than to half of one.
    """
    batch, frames, joints = points.shape[:3]
    size = (points.amax(2) - points.amin(2)).norm(dim=-1).median(1).values[:, None, None]
    difficulty = constant(DIFFICULTY, random.device)

    def amount(greatest: float) -> Tensor:
        return (random.uniform(0, greatest, batch, 1, 1) * difficulty)[..., None]

    off = amount(TREMBLES) * random.normal(*points.shape)
    off = off + amount(WANDERS) * random.wander((batch, joints, 2), frames, random.uniform(4, 20))
    off = off + amount(SITS_OFF) * random.normal(batch, 1, joints, 2)

    lost = random.episodes((batch, joints), frames, LOST * random.uniform(0, 2, batch, 1, 1), STAYS_LOST)
    lost = lost | (random.chance(CROPPED, batch)[:, None, None] & _among(_BELOW_HIPS, random.device))
    off = off + lost[..., None] * (WANDERS_WHEN_LOST * random.wander((batch, joints, 2), frames, 10.0))

    seen = points + size[..., None] * off
    seen = seen + pixel[:, None, None, None] * random.uniform(-0.5, 0.5, *seen.shape)
    stays = lost & random.chance(0.5, batch)[:, None, None]  # the other networks leave a lost joint where it was
    seen = _hold(seen, stays)
    seen, swapped = _swap(seen, random)

    certain = random.uniform(0.6, 1.0, batch, 1, 1)
    scores = certain - 0.3 * off[..., 0].abs() / (0.03 * difficulty) * random.uniform(0, 1, batch, 1, 1)
    scores = torch.where(lost, random.uniform(0, 0.45, batch, 1, joints), scores)
    scores = torch.where(swapped, scores * random.uniform(0.5, 1.1, batch, 1, 1), scores)
    scores = scores + 0.03 * random.normal(*scores.shape)
    silent = random.chance(0.1, batch)[:, None, None]  # whose scores tell nothing
    scores = torch.where(silent, certain, scores).clamp(0, 1)

    smoothing = torch.where(random.chance(FILTERED, batch), random.uniform(*SMOOTHING, batch), 1.0)
    seen = _smooth(seen, smoothing)
    clean = random.chance(CLEAN, batch)[:, None, None]
    return torch.where(clean[..., None], points, seen), torch.where(clean, 1.0, scores)


def _among(joints: tuple[int, ...], device: torch.device) -> Tensor:
    """[17]: whether a joint is one of these."""
    return constant(tuple(joint in joints for joint in range(17)), device)


def _hold(points: Tensor, stays: Tensor) -> Tensor:
    """Joints that stay [B, T, K] are where they were in the last frame in which they did not."""
    frames = torch.arange(points.shape[1], device=points.device)[:, None]
    row = torch.where(stays, 0, frames).cummax(1).values
    return points.gather(1, row[..., None].expand_as(points))


def _swap(points: Tensor, random: Random) -> tuple[Tensor, Tensor]:
    batch, frames = points.shape[:2]
    swapped = torch.zeros(points.shape[:3], dtype=torch.bool, device=points.device)
    for limbs in (_LEGS, _ARMS, _LEGS + _ARMS):
        on = random.episodes((batch,), frames, SWAPS, STAYS_SWAPPED)
        swapped = swapped | (on[..., None] & _among(limbs, points.device))
    return torch.where(swapped[..., None], bones.of(points, bones.MIRROR), points), swapped


def _smooth(points: Tensor, weight: Tensor) -> Tensor:
    """[B, T, 17, 2] through y[t] = y[t-1] + w (x[t] - y[t-1]) with weights w [B], as one product over time."""
    frames = torch.arange(points.shape[1], device=points.device)
    age = frames[:, None] - frames
    rest = (1 - weight)[:, None, None]
    shares = torch.where(age >= 0, rest ** age.clamp(min=0), 0.0)
    shares = torch.where(frames == 0, shares, shares * weight[:, None, None])  # the first frame was always there
    return (shares @ points.flatten(2)).reshape(points.shape)
