"""What a lifter is trained for: right joints, right shape whatever the size, right motion, bones of right length, and
to know how far off its joints may be.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from streamkp.training.bones import PARENTS

SHAPE, MOTION, BONES, LIKELIHOOD = 0.5, 2.0, 0.5, 0.02  # weights beside the position's 1


def loss(predicted: Tensor, spread: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """A scalar, in metres.

    Args:
        predicted, target: [B, T, 17, 3] in metres, root at the origin.
        spread: [B, T, 17], the logarithm of b of the density exp(-|error| / b) / (8 pi b^3) of each joint.
        weight: [B, T] of the rows.
    """
    error = _length(predicted - target)
    position = _mean(error, weight)
    along = (predicted * target).sum((2, 3), keepdim=True)
    squared = (predicted * predicted).sum((2, 3), keepdim=True)
    shape = _mean(_length(predicted * (along / squared.clamp(min=1e-3)) - target), weight)
    motion = _mean(_length(predicted.diff(dim=1) - target.diff(dim=1)), weight[:, 1:])
    bones = _mean((_bones(predicted) - _bones(target)).abs(), weight)
    likelihood = _mean(negative_log_likelihood(error.detach(), spread), weight)  # as sure as the position allows
    return position + SHAPE * shape + MOTION * motion + BONES * bones + LIKELIHOOD * likelihood


def negative_log_likelihood(error: Tensor, spread: Tensor) -> Tensor:
    """Of distances in metres from the truth, joint by joint, without its constant."""
    return 3 * spread + error * torch.exp(-spread) + math.log(8 * math.pi)


def _length(vectors: Tensor) -> Tensor:
    """[..., 3] -> [...]; the smallest summand keeps the gradient of 0 finite."""
    return torch.sqrt((vectors * vectors).sum(-1) + 1e-8)


def _bones(poses: Tensor) -> Tensor:
    # No tensor of indices: compiled, it would be copied to the device in each step, and no CUDA graph can hold that.
    starts = torch.stack([poses[..., parent, :] for parent in PARENTS[1:]], -2)
    return _length(poses[..., 1:, :] - starts)


def _mean(errors: Tensor, weight: Tensor) -> Tensor:
    """[B, T, N] with weights [B, T] -> scalar."""
    return (errors.mean(2) * weight).sum() / weight.sum().clamp(min=1.0)
