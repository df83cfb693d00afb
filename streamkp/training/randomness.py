"""Random numbers on the device that trains, those that vary over time among them, and random rotations."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor


@cache
def constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Numbers or indices on a device, brought there once."""
    return torch.tensor(values, device=device)


class Random:
    """A generator on a device; `state` and `restore` make a run that was interrupted go on as if it had not been."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self.device = device
        self.generator = torch.Generator(device).manual_seed(seed)

    def state(self) -> Tensor:
        """What `restore` takes."""
        return self.generator.get_state()

    def restore(self, state: Tensor) -> None:
        """Go on as after `state` was asked for."""
        self.generator.set_state(state.cpu())

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Between `low` and `high`."""
        return low + (high - low) * torch.rand(shape, generator=self.generator, device=self.device)

    def normal(self, *shape: int) -> Tensor:
        """Of mean 0 and variance 1."""
        return torch.randn(shape, generator=self.generator, device=self.device)

    def chance(self, share: float, *shape: int) -> Tensor:
        """True for about `share` of the elements."""
        return torch.rand(shape, generator=self.generator, device=self.device) < share

    def integers(self, below: int, *shape: int) -> Tensor:
        """0 to `below` - 1."""
        return torch.randint(below, shape, generator=self.generator, device=self.device)

    def choice(self, values: tuple[float, ...], *shape: int) -> Tensor:
        """One of `values` each."""
        return constant(values, self.device)[self.integers(len(values), *shape)]

    def drawn(self, shares: Tensor, count: int) -> Tensor:
        """[count] indices of `shares`, each as often as its share says."""
        sums = shares.cumsum(0)
        return torch.searchsorted(sums, self.uniform(0, 1, count) * sums[-1]).clamp(max=len(shares) - 1)

    def others(self, batch: int) -> Tensor:
        """[batch]: another of the batch for each, in random order."""
        return self.uniform(0, 1, batch).argsort()

    def wander(self, shape: tuple[int, ...], frames: int, spacing: float | Tensor, shortest: float = 4.0) -> Tensor:
        """Smooth noise of unit variance [B, frames, ...] for `shape` [B, ...].

        A cubic B-spline through random values `spacing` frames apart (a number, or a tensor of no dimension that is
        not below `shortest`).
        """
        if not isinstance(spacing, Tensor):
            shortest = spacing
        knots = math.ceil((frames - 1) / shortest) + 4
        time = torch.arange(frames, device=self.device) / spacing + 1 + self.uniform(0, 1)
        weights = _b_spline(time[:, None] - torch.arange(knots, device=self.device))
        weights = weights / weights.square().sum(1, keepdim=True).sqrt()
        values = self.normal(shape[0], knots, math.prod(shape[1:]))
        return (weights @ values).reshape(shape[0], frames, *shape[1:])

    def episodes(self, shape: tuple[int, ...], frames: int, starts: float | Tensor, lasts: float) -> Tensor:
        """[B, frames, ...]: when something that starts with a chance of `starts` a frame, for `lasts` frames, is on."""
        full = (shape[0], frames, *shape[1:])
        time = torch.arange(frames, device=self.device).reshape(1, frames, *[1] * (len(full) - 2))
        length = -lasts * torch.log(1 - self.uniform(0, 1, *full))
        end = torch.where(self.uniform(0, 1, *full) < starts, time + length.floor(), -1.0)
        return end.cummax(1).values >= time


def _b_spline(x: Tensor) -> Tensor:
    """The cubic B-spline around 0."""
    near, far = 2 / 3 - x.square() + x.abs() ** 3 / 2, (2 - x.abs()).clamp(min=0) ** 3 / 6
    return torch.where(x.abs() < 1, near, far)


def rotations(vectors: Tensor) -> Tensor:
    """Rotation matrices [..., 3, 3] of rotation vectors [..., 3] in radians."""
    angle = vectors.square().sum(-1, keepdim=True).add(1e-12).sqrt()
    x, y, z = (vectors / angle).unbind(-1)
    sin, cos = angle.sin()[..., 0], angle.cos()[..., 0]
    rest = 1 - cos
    rows = (
        (cos + x * x * rest, x * y * rest - z * sin, x * z * rest + y * sin),
        (y * x * rest + z * sin, cos + y * y * rest, y * z * rest - x * sin),
        (z * x * rest - y * sin, z * y * rest + x * sin, cos + z * z * rest),
    )
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def about(axis: int, angles: Tensor) -> Tensor:
    """Rotation matrices [..., 3, 3] about a coordinate axis by angles [...] in radians."""
    zero, one, sin, cos = torch.zeros_like(angles), torch.ones_like(angles), angles.sin(), angles.cos()
    rows = {
        0: ((one, zero, zero), (zero, cos, -sin), (zero, sin, cos)),
        1: ((cos, zero, sin), (zero, one, zero), (-sin, zero, cos)),
        2: ((cos, -sin, zero), (sin, cos, zero), (zero, zero, one)),
    }[axis]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)
