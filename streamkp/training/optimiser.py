"""Muon for the matrices of the layers, Adam for all other weights, of operations on the device alone.

Muon (Jordan et al., 2024) makes the singular values of a matrix's momentum alike by Newton-Schulz iterations; matrices
of one shape, or of its transpose, go through them together. Nothing here waits for the device, and the learning rate
is a number on it, so that a whole step can be recorded as a CUDA graph.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

MOMENTUM, DECAY = 0.95, 0.01  # of Muon; the decay is times the rate
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the iteration: Jordan et al.
ITERATIONS = 5
ADAM = (0.9, 0.999)
LARGEST_GRADIENT = 1.0


class Optimiser:
    """Changes `matrices` by Muon, at the size of Adam's changes (Liu et al., 2025), and `others` by Adam."""

    def __init__(self, matrices: Sequence[Tensor], others: Sequence[Tensor]) -> None:
        self._others = list(others)
        self._groups: dict[tuple[int, int], list[Tensor]] = {}
        for matrix in matrices:
            low, high = sorted(matrix.shape)
            self._groups.setdefault((low, high), []).append(matrix)
        self.weights = [matrix for group in self._groups.values() for matrix in group] + self._others
        device = self.weights[0].device
        self._momenta = [torch.zeros(len(group), *shape, device=device) for shape, group in self._groups.items()]
        self._means = [torch.zeros_like(weight) for weight in self._others]
        self._squares = [torch.zeros_like(weight) for weight in self._others]
        self._steps = torch.zeros((), device=device)

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], rate: Tensor) -> None:
        """One step with the gradients of `weights`; gradients that are not finite count as 0."""
        norm = torch.stack(torch._foreach_norm(list(gradients))).norm()
        finite, scale = norm.isfinite(), (LARGEST_GRADIENT / norm).clamp(max=1.0)
        gradients = [torch.where(finite, gradient * scale, 0.0) for gradient in gradients]
        start = 0
        for momentum, ((low, high), group) in zip(self._momenta, self._groups.items(), strict=True):
            found = torch.stack([_flat(each) for each in gradients[start : start + len(group)]])
            start += len(group)
            momentum.lerp_(found, 1 - MOMENTUM)
            change = orthogonal(found.lerp(momentum, MOMENTUM)) * (-0.2 * math.sqrt(high) * rate)
            torch._foreach_mul_(group, 1 - DECAY * rate)
            shaped = [
                each if matrix.shape == (low, high) else each.T for matrix, each in zip(group, change, strict=True)
            ]
            torch._foreach_add_(group, shaped)
        rest = list(gradients[start:])
        self._steps += 1
        torch._foreach_lerp_(self._means, rest, 1 - ADAM[0])
        torch._foreach_mul_(self._squares, ADAM[1])
        torch._foreach_addcmul_(self._squares, rest, rest, 1 - ADAM[1])
        sizes = torch._foreach_sqrt(self._squares)
        torch._foreach_mul_(sizes, (1 - ADAM[1] ** self._steps).rsqrt())
        torch._foreach_add_(sizes, 1e-8)
        changes = torch._foreach_div(self._means, sizes)
        torch._foreach_mul_(changes, -rate / (1 - ADAM[0] ** self._steps))
        torch._foreach_add_(self._others, changes)

    def state(self) -> list[Tensor]:
        """What `restore` takes."""
        return [*self._momenta, *self._means, *self._squares, self._steps]

    @torch.no_grad()
    def restore(self, state: Sequence[Tensor]) -> None:
        """Go on as after `state` was asked for."""
        for own, value in zip(self.state(), state, strict=True):
            own.copy_(value)


def orthogonal(matrices: Tensor) -> Tensor:
    """[N, r, c], r <= c, each about its nearest matrix with orthonormal rows (singular values of 0.7 to 1.2)."""
    a, b, c = COEFFICIENTS
    x = matrices / matrices.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    x = x.bfloat16() if x.is_cuda else x
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    out: Tensor = x.float()
    return out


def _flat(matrix: Tensor) -> Tensor:
    """With no more rows than columns."""
    return matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
