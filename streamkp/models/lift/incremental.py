"""VideoPose3D (and TPNet's pose network) one frame at a time, with the results of the whole window.

Layer i gives for a frame p a function of the frames from p - lead to p + lag. So of each layer's outputs ("columns")

* those up to `lag` frames behind the newest never change again: every new frame adds one, and the last
  (taps - 1) * dilation of them are kept for the next layer;
* those from `lead` frames after the newest on see only its repetition (at the end of a sequence the last frame
  stands for what is to come, as at its beginning the first one does): they are all the same column;
* of those in between, the pose that is asked for depends on at most one per layer, whatever the look-ahead: such
  columns are as far apart as the next layer's taps, and there are fewer of them between the two limits than that.

A new frame therefore costs at most three columns in each layer: a settled one, one in between, and the repeated one.
A causal network, and one whose look-ahead spans its padding, need only the first. The three share one product per
layer, and so do all tracks: for a few columns the time goes into reading the weights (67 MB for 243 frames).

Measured on two threads, 243 frames, milliseconds per person and frame (`streamkp bench lifter`): one person 4.4,
against 31 for the network over the whole window and 4.7 for its strided form, which computes a 15th of that; eight
people 1.3, against 29 and 2.8. OpenVINO is the fastest here too: torch takes up to twice as long for a few columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from streamkp.models.networks.videopose3d import VideoPose3D
from streamkp.runtimes.torch import Run, open_run

Float32 = NDArray[np.float32]
Tap = int | Literal["between", "repeated"]  # so many frames before the newest settled column, or one of the other two

_CHUNK = 8  # new frames of a track that go through a layer together


@dataclass(frozen=True)
class Plan:
    """Where the columns of one layer come from."""

    settled: tuple[int, ...]  # taps of a settled column
    between: tuple[Tap, ...] | None  # taps of the column in between, if needed
    repeated: bool  # whether the repeated column is needed

    def columns(self, rows: int, last: bool) -> int:
        """Columns computed for `rows` new frames."""
        return (0 if last else rows) + (self.between is not None) + self.repeated


def plan(network: VideoPose3D, lookahead: int) -> list[Plan]:
    """What a new frame needs of each layer to give the pose of the frame `lookahead` before it.

    The wanted pose counts as the last layer's column in between, also where it is settled.
    Raises ValueError unless 0 <= lookahead <= the frames after a pose that it depends on.
    """
    if not 0 <= lookahead <= network.padding[1]:
        raise ValueError(f"lookahead must be 0 to {network.padding[1]}, not {lookahead}")
    before = [tap * dilation for tap, dilation in zip(network.residual_taps, network.dilations, strict=True)]
    reach = [(w - 1) * dilation for w, dilation in zip(network.filter_widths, network.dilations, strict=True)]
    lead = [sum(before[:i]) for i in range(len(before))]  # of what layer i reads
    lag = [sum(reach[:i]) - lead[i] for i in range(len(reach))]
    plans: list[Plan] = []
    wanted: int | None = -lookahead  # the frame of the column in between, the newest frame being 0
    repeated = False
    for i in reversed(range(len(before))):
        settled = tuple(range(reach[i], -1, -network.dilations[i]))
        below: int | None = None
        between: list[Tap] = []
        for at in () if wanted is None else [wanted - before[i] + reach[i] - back for back in settled]:
            if at <= -lag[i]:
                between.append(-lag[i] - at)
            elif at >= lead[i]:
                between.append("repeated")
            else:
                assert below in (None, at), "at most one column in between: see above"
                below = at
                between.append("between")
        plans.append(Plan(settled, tuple(between) or None, repeated))
        wanted, repeated = below, repeated or "repeated" in between
    return plans[::-1]


def worthwhile(network: VideoPose3D, lookahead: int) -> bool:
    """Whether fewer columns are computed than for one pose of a whole window, if each call brings two new frames."""
    plans = plan(network, lookahead)
    widths = network.filter_widths
    whole = sum(int(np.prod(widths[i + 1 :])) for i in range(1, len(widths)))
    return sum(p.columns(2, last=p is plans[-1]) for p in plans[1:]) < whole


class Track:
    """What is kept of one track: for each layer a ring of what it reads, [frames, channels]; about 1 MB for 243."""

    __slots__ = ("rings", "time")

    def __init__(self) -> None:
        self.rings: list[Float32] = []
        self.time = 0  # frames seen

    def take(self, i: int, time: int, back: Sequence[int]) -> Float32:
        """What layer i reads, `back` frames before `time`: [len(back), channels]."""
        ring = self.rings[i]
        return ring[[(time - b) % len(ring) for b in back]]

    def put(self, i: int, time: int, column: Float32) -> None:
        """Keep what layer i reads at `time`."""
        ring = self.rings[i]
        ring[time % len(ring)] = column


class IncrementalNetwork:
    """[rows, 17, 2] new poses of each track -> [B, joints_out, 3], the pose `lookahead` frames before its newest.

    The results are those of `network` over the whole sequence padded by edge replication, to rounding. Weights and
    batch statistics are taken over at the beginning. Dropout is off.
    """

    def __init__(self, network: VideoPose3D, *, lookahead: int = 0, open_run: Callable[..., Run] = open_run) -> None:
        """`open_run`: see there; with device, runtime and threads."""
        self._plans = plan(network, lookahead)
        self._sizes = [p.settled[0] + _CHUNK for p in self._plans]
        layers = _layers(network)
        inputs = [network.expand_conv.in_channels] + [network.expand_conv.out_channels] * (len(layers) - 1)
        self._runs = [
            open_run(layer.eval(), [np.zeros((1, width, channels), np.float32)])
            for layer, width, channels in zip(layers, network.filter_widths, inputs, strict=True)
        ]
        self._joints_out = network.joints_out

    def step(self, tracks: Sequence[Track], poses: Sequence[NDArray[Any]]) -> Float32:
        """Go on with any tracks, each named once, by at least one new pose each, oldest first.

        A new `Track` begins as if its first pose had always been there.
        """
        rows = [np.asarray(new, np.float32).reshape(len(new), -1) for new in poses]
        fresh = [k for k, track in enumerate(tracks) if not track.rings]
        if fresh:
            self._start([tracks[k] for k in fresh], np.stack([rows[k][0] for k in fresh]))
        while max(map(len, rows)) > _CHUNK:
            behind = [k for k, new in enumerate(rows) if len(new) > _CHUNK]
            self._advance([tracks[k] for k in behind], [rows[k][:_CHUNK] for k in behind], pose=False)
            rows = [new[_CHUNK:] if len(new) > _CHUNK else new for new in rows]
        out = self._advance(tracks, rows, pose=True)
        return out.reshape(len(tracks), self._joints_out, 3)

    def _start(self, tracks: Sequence[Track], first: Float32) -> None:
        for i, (size, layer) in enumerate(zip(self._sizes, self._plans, strict=True)):
            for track, column in zip(tracks, first, strict=True):
                track.rings.append(np.tile(column, (size, 1)))
            if i + 1 < len(self._plans):
                (first,) = self._runs[i](_repeat(first, len(layer.settled)))

    def _advance(self, tracks: Sequence[Track], rows: Sequence[Float32], pose: bool) -> Float32:
        """Put new frames through the layers; without `pose`, only what later frames need, and the result is empty."""
        new: list[tuple[Track, int]] = []
        for track, poses in zip(tracks, rows, strict=True):
            for row in poses:
                track.time += 1
                track.put(0, track.time, row)
                new.append((track, track.time))
        between = repeated = np.stack([poses[-1] for poses in rows])
        for i, layer in enumerate(self._plans):
            last = i + 1 == len(self._plans)
            if last and not pose:
                break
            parts = [] if last else [np.stack([track.take(i, time, layer.settled) for track, time in new])]
            if pose and layer.between is not None:
                parts.append(self._between(i, layer.between, tracks, between, repeated))
            if pose and layer.repeated:
                parts.append(_repeat(repeated, len(layer.settled)))
            (out,) = self._runs[i](np.concatenate(parts))
            if last:
                return out
            for (track, time), column in zip(new, out, strict=False):
                track.put(i + 1, time, column)
            rest = out[len(new) :]
            between, repeated = rest[: len(tracks)], rest[-len(tracks) :]
        return np.empty((0, 0), np.float32)

    def _between(
        self,
        i: int,
        taps: Sequence[Tap],
        tracks: Sequence[Track],
        between: Float32,
        repeated: Float32,
    ) -> Float32:
        out = np.empty((len(tracks), len(taps), tracks[0].rings[i].shape[1]), np.float32)
        for j, tap in enumerate(taps):
            if tap == "between":
                out[:, j] = between
            elif tap == "repeated":
                out[:, j] = repeated
            else:
                for k, track in enumerate(tracks):
                    out[k, j] = track.take(i, track.time, [tap])[0]
        return out


def _repeat(columns: Float32, taps: int) -> Float32:
    return np.repeat(columns[:, None], taps, axis=1)


def _layers(network: VideoPose3D) -> list[nn.Module]:
    """The layers of a network, each from what its taps read to one column; the last one goes on to the pose."""
    with torch.no_grad():
        stem = nn.Sequential(nn.Flatten(), _dense(network.expand_conv, network.expand_bn), nn.ReLU())
        layers: list[nn.Module] = [stem]
        convolutions = list(pairwise(network.layers_conv))[::2]
        norms = list(pairwise(network.layers_bn))[::2]
        for i, (convolution, norm) in enumerate(zip(convolutions, norms, strict=True), 1):
            layers.append(_Layer(convolution, norm, network.residual_taps[i]))
        head = _dense(network.shrink, nn.Identity())
    layers[-1] = nn.Sequential(layers[-1], head)
    return layers


class _Layer(nn.Module):
    """A dilated layer with its residual: [N, taps, channels] -> [N, channels]."""

    def __init__(self, convolutions: tuple[Any, Any], norms: tuple[Any, Any], residual_tap: int) -> None:
        super().__init__()
        first, second = (_dense(*pair) for pair in zip(convolutions, norms, strict=True))
        self.block = nn.Sequential(nn.Flatten(), first, nn.ReLU(), second, nn.ReLU())
        self.residual_tap = residual_tap

    def forward(self, taps: Tensor) -> Tensor:
        out: Tensor = taps[:, self.residual_tap] + self.block(taps)
        return out


def _dense(convolution: nn.Conv1d, norm: nn.Module) -> nn.Linear:
    """A convolution and its batch norm in one product, for columns laid out [taps, channels]."""
    scale, shift = torch.ones(convolution.out_channels), torch.zeros(convolution.out_channels)
    if isinstance(norm, nn.BatchNorm1d):
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        shift = norm.bias - norm.running_mean * scale
    weight = convolution.weight.transpose(1, 2).flatten(1) * scale[:, None]
    bias = shift if convolution.bias is None else shift + convolution.bias * scale
    dense = nn.Linear(weight.shape[1], weight.shape[0])
    dense.weight.copy_(weight)
    dense.bias.copy_(bias)
    return dense
