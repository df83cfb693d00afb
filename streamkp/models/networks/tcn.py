"""A causal network of dilated temporal convolutions: from rows of a person, as `motion.track_view` sees them, to poses.

The shape is that of VideoPose3D (Pavllo et al., CVPR 2019): residual layers of convolutions over three rows, 1, 3, 9
and 27 rows apart. There are also layers that look at one row alone, a norm of each row before every layer, and heads
for poses of some rows ago. Every output of a layer depends on its row and on earlier ones only, so that live each new
row costs one column of each layer (`streamkp.models.lift.tcn`, without torch).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamkp.models.networks.tcn_shape import DILATIONS, EPSILON, JOINTS, LOOKAHEADS, NUMBERS, TAPS
from streamkp.motion.track_view import FEATURES


class TemporalNetwork(nn.Module):
    """[B, T, FEATURES] -> [B, T, heads, 17, 4]: metres in the axes of the row's virtual camera relative to the hip, and
    the logarithm of the spread b of the position, whose standard deviation along an axis is 2 b.

    Before the first row that row is repeated.
    """

    def __init__(self, channels: int = 256, hidden: int = 320) -> None:
        super().__init__()
        self.stem = nn.Linear(FEATURES, channels)
        self.layers = nn.ModuleList(Layer(channels, hidden, dilation) for dilation in DILATIONS)
        self.head = nn.Linear(channels, len(LOOKAHEADS) * JOINTS * NUMBERS)
        nn.init.normal_(self.head.weight, std=0.01)

    def forward(self, rows: Tensor) -> Tensor:
        with torch.autocast(rows.device.type, enabled=False):  # half precision would round the joints to millimetres
            x = self.stem(rows)
        for layer in self.layers:
            x = x + layer(x)
        with torch.autocast(rows.device.type, enabled=False):
            y = self.head(normalised(x.float()))
        out: Tensor = y.reshape(*y.shape[:-1], len(LOOKAHEADS), JOINTS, NUMBERS)
        return out


class Layer(nn.Module):
    """What a layer adds: [B, T, channels] -> the same."""

    def __init__(self, channels: int, hidden: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.enter = nn.Linear((TAPS if dilation else 1) * channels, hidden)
        self.leave = nn.Linear(hidden, channels)
        nn.init.zeros_(self.leave.weight)  # the network starts as a straight line through the row
        nn.init.zeros_(self.leave.bias)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.leave(F.relu(self.enter(taps(normalised(x), self.dilation))))
        return y


def normalised(x: Tensor) -> Tensor:
    """Columns [..., channels] at a root mean square of 1."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPSILON)


def taps(x: Tensor, dilation: int) -> Tensor:
    """[B, T, C] -> [B, T, 3 C]: each column behind the two `dilation` and twice that before it, oldest first."""
    if not dilation:
        return x
    frames, back = x.shape[1], (TAPS - 1) * dilation
    padded = torch.cat([x[:, :1].expand(-1, back, -1), x], 1)
    return torch.cat([padded[:, i * dilation : i * dilation + frames] for i in range(TAPS)], -1)
