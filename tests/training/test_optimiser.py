"""The optimiser of the lifter's trainer does what PyTorch's own optimisers do."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from streamkp.training.optimiser import DECAY, MOMENTUM, Optimiser, orthogonal

RATE = 0.01


def _weights() -> list[Tensor]:
    random = torch.Generator().manual_seed(0)
    shapes = ((8, 24), (24, 8), (16, 16), (5,), (7, 3))
    return [torch.randn(*shape, generator=random) for shape in shapes]


def _gradients(weights: list[Tensor]) -> list[Tensor]:
    """Of a steep valley; larger than what is cut down."""
    return [20 * (weight - 0.3) for weight in weights]


def test_it_steps_like_muon_and_adam_of_pytorch() -> None:
    ours, theirs = _weights(), [nn.Parameter(weight) for weight in _weights()]
    optimiser = Optimiser(ours[:3], ours[3:])
    muon = torch.optim.Muon(theirs[:3], lr=RATE, weight_decay=DECAY, momentum=MOMENTUM, adjust_lr_fn="match_rms_adamw")
    adam = torch.optim.Adam(theirs[3:], lr=RATE)
    for _ in range(5):
        optimiser.step(_gradients(optimiser.weights), torch.tensor(RATE))
        for weight in theirs:
            weight.grad = 20 * (weight.detach() - 0.3)
        nn.utils.clip_grad_norm_(theirs, 1.0)
        muon.step()
        adam.step()
    for own, other, start in zip(ours, theirs, _weights(), strict=True):
        moved = (other.detach() - start).norm()
        assert (own - other.detach()).norm() < 0.03 * moved  # PyTorch's iterations are in half precision
        assert moved > 0


def test_gradients_that_are_not_finite_leave_the_weights_finite() -> None:
    weights = _weights()
    optimiser = Optimiser(weights[:3], weights[3:])
    gradients = _gradients(optimiser.weights)
    gradients[1][0, 0] = torch.nan
    optimiser.step(gradients, torch.tensor(RATE))
    assert all(bool(weight.isfinite().all()) for weight in weights)
    for weight, start in zip(weights[3:], _weights()[3:], strict=True):
        assert torch.equal(weight, start)


def test_it_goes_on_from_its_state() -> None:
    one, other = _weights(), _weights()
    whole, first = Optimiser(one[:3], one[3:]), Optimiser(other[:3], other[3:])
    second = Optimiser(other[:3], other[3:])
    for step in range(4):
        whole.step(_gradients(whole.weights), torch.tensor(RATE))
        if step == 2:
            second.restore(first.state())
        parts = first if step < 2 else second
        parts.step(_gradients(parts.weights), torch.tensor(RATE))
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_singular_values_become_alike() -> None:
    matrices = torch.randn(3, 10, 40, generator=torch.Generator().manual_seed(1)) * 100
    values = torch.linalg.svdvals(orthogonal(matrices))
    assert values.min() > 0.6
    assert values.max() < 1.3
