"""What a lifter is trained for: right joints, right shape whatever the size, right motion, bones of right length."""

from __future__ import annotations

import torch
from torch import Tensor

from streamkp.training.bones import PARENTS

SHAPE, MOTION, BONES = 0.5, 2.0, 0.5  # weights beside the position's 1
NEWEST, NEWEST_WEIGHT = 4, 4.0  # the last that count, count more: a live system without look-ahead shows them


def loss(predicted: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """A scalar, in metres.

    Args:
        predicted, target: [B, 3, T, 17] in metres, root at the origin.
        known: [B, T], 1 for the rows that count, otherwise 0.
    """
    still_to_come = known.flip(1).cumsum(1).flip(1)
    weight = torch.where(still_to_come <= NEWEST, NEWEST_WEIGHT, 1.0) * known
    position = _mean(_length(predicted - target), weight)
    along = (predicted * target).sum((1, 3), keepdim=True)
    squared = (predicted * predicted).sum((1, 3), keepdim=True)
    shape = _mean(_length(predicted * (along / squared.clamp(min=1e-3)) - target), weight)
    both = known[:, 1:] * known[:, :-1]
    motion = _mean(_length(predicted.diff(dim=2) - target.diff(dim=2)), both)
    bones = _mean((_bones(predicted) - _bones(target)).abs(), weight)
    return position + SHAPE * shape + MOTION * motion + BONES * bones


def _length(vectors: Tensor) -> Tensor:
    """[B, 3, T, N] -> [B, T, N]; the smallest summand keeps the gradient of 0 finite."""
    return torch.sqrt((vectors * vectors).sum(1) + 1e-8)


def _bones(poses: Tensor) -> Tensor:
    return _length(poses[..., 1:] - poses[..., list(PARENTS[1:])])


def _mean(errors: Tensor, weight: Tensor) -> Tensor:
    """[B, T, N] with weights [B, T] -> scalar."""
    return (errors.mean(2) * weight).sum() / weight.sum().clamp(min=1.0)
