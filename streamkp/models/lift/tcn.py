"""The causal temporal network (`models.networks.tcn`) one row at a time, for all tracks at once, without torch.

Of each layer's normalised columns the last 2 x dilation + 1 are kept for each track; a new row adds one column to each
layer, which is one product for all tracks. What a row looks like depends on it and on earlier rows only
(`motion.track_view`), so the poses are those of the network over the whole sequence, to rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from streamkp.errors import ModelError, UsageError
from streamkp.models.networks.tcn_shape import DILATIONS, EPSILON, JOINTS, LOOKAHEADS, NUMBERS, TAPS
from streamkp.motion import track_view

Floats = NDArray[np.floating[Any]]
Float32 = NDArray[np.float32]

FRAMES = 1 + (TAPS - 1) * sum(DILATIONS) + track_view.ROWS - 1  # rows that a pose depends on


@dataclass(frozen=True)
class _Layer:
    dilation: int
    enter: tuple[Float32, Float32]  # weights [in, out] and bias
    leave: tuple[Float32, Float32]


class Track:
    """What is kept of one track; some 90 kB."""

    __slots__ = ("rings", "summaries", "time")

    def __init__(self) -> None:
        self.time = 0  # rows seen
        self.summaries: Floats = np.empty(0)  # ring [ROWS, SUMMARY]
        self.rings: list[Float32] = []  # [2 x dilation + 1, channels] for each layer with a dilation


class TemporalSteps:
    """New rows of any tracks to their poses."""

    def __init__(self, weights: Mapping[str, Float32], lookahead: int = 0) -> None:
        """`weights`: of the network in torch. Raises `UsageError` for a look-ahead that it has no head for."""
        if lookahead not in LOOKAHEADS:
            able = ", ".join(map(str, LOOKAHEADS))
            raise UsageError(f"this lifter cannot look {lookahead} rows ahead: lookahead must be one of {able}")
        self._stem = _linear(weights, "stem")
        self._layers = [
            _Layer(dilation, _linear(weights, f"layers.{i}.enter"), _linear(weights, f"layers.{i}.leave"))
            for i, dilation in enumerate(DILATIONS)
        ]
        matrix, bias = _linear(weights, "head")
        first = LOOKAHEADS.index(lookahead) * JOINTS * NUMBERS
        of = slice(first, first + JOINTS * NUMBERS)
        self._head = np.ascontiguousarray(matrix[:, of]), bias[of]

    def step(
        self, tracks: Sequence[Track], points: Sequence[Floats], scores: Sequence[Floats]
    ) -> tuple[Floats, Floats]:
        """Go on with any tracks, each named once, by at least one new row each, oldest first.

        A new `Track` begins as if its first row had always been there.

        Args:
            points: [rows, 17, 2] of each track, (pixel - centre) / focal length, Human3.6M joints.
            scores: [rows, 17] of each track.

        Returns poses [B, 17, 3], metres in camera axes relative to the hip, `lookahead` rows before the newest row of
        each track, and the standard deviations [B, 17] in metres of their coordinates.
        """
        out = np.empty((len(tracks), JOINTS, NUMBERS), np.float32)
        turns = np.empty((len(tracks), 3, 3))
        for row in range(max(map(len, points))):
            now = [k for k, new in enumerate(points) if row < len(new)]
            columns, seen = self._advance(
                [tracks[k] for k in now],
                np.stack([points[k][row] for k in now]),
                np.stack([scores[k][row] for k in now]),
            )
            last = [i for i, k in enumerate(now) if row + 1 == len(points[k])]
            if last:
                ended = [now[i] for i in last]
                out[ended] = _times(columns[last], self._head).reshape(-1, JOINTS, NUMBERS)
                turns[ended] = seen[last]
        return track_view.turn_back(turns, out[..., :3]), 2 * np.exp(out[..., 3])

    def _advance(self, tracks: Sequence[Track], points: Floats, scores: Floats) -> tuple[Float32, Floats]:
        """One row of each track: the normalised last columns, and the turns of the rows' cameras."""
        summaries = track_view.summary(points, scores, np)
        for track, summary in zip(tracks, summaries, strict=True):
            if not track.time:
                track.summaries = np.tile(summary, (track_view.ROWS, 1))
            track.summaries[track.time % track_view.ROWS] = summary
        mean = np.stack([track.summaries for track in tracks]).mean(1)
        rows, turns = track_view.see(points, scores, mean, np)
        x = _times(rows.astype(np.float32), self._stem)
        ring = 0
        for layer in self._layers:
            read = _normalised(x)
            if layer.dilation:
                read = _with_history(tracks, ring, layer.dilation, read)
                ring += 1
            inner = _times(read, layer.enter)
            np.maximum(inner, 0, out=inner)
            x += _times(inner, layer.leave)
        for track in tracks:
            track.time += 1
        return _normalised(x), turns


def _with_history(tracks: Sequence[Track], ring: int, dilation: int, columns: Float32) -> Float32:
    """Keep the newest columns [B, C] of the tracks and put those before them that the taps read in front: [B, 3 C]."""
    out = np.empty((len(tracks), TAPS, columns.shape[1]), np.float32)
    out[:, -1] = columns
    for i, (track, column) in enumerate(zip(tracks, columns, strict=True)):
        if len(track.rings) == ring:
            track.rings.append(np.tile(column, ((TAPS - 1) * dilation + 1, 1)))
        kept = track.rings[ring]
        kept[track.time % len(kept)] = column
        for tap in range(TAPS - 1):
            out[i, tap] = kept[(track.time - (TAPS - 1 - tap) * dilation) % len(kept)]
    return out.reshape(len(tracks), -1)


def _normalised(columns: Float32) -> Float32:
    squares = np.einsum("bc,bc->b", columns, columns) / np.float32(columns.shape[1])
    out: Float32 = columns / np.sqrt(squares + np.float32(EPSILON))[:, None]
    return out


def _times(columns: Float32, linear: tuple[Float32, Float32]) -> Float32:
    out: Float32 = columns @ linear[0]
    out += linear[1]
    return out


def _linear(weights: Mapping[str, Float32], name: str) -> tuple[Float32, Float32]:
    matrix, bias = (np.asarray(weights[f"{name}.{part}"], np.float32) for part in ("weight", "bias"))
    return np.ascontiguousarray(matrix.T), bias


def read(path: Path) -> dict[str, Float32]:
    """The weights in a safetensors file. Raises `ModelError` if they are not of such a network."""
    try:
        weights = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"cannot read {path}: {error}") from None
    needed = {f"{name}.{part}" for name in ("stem", "head") for part in ("weight", "bias")}
    needed |= {f"layers.{i}.{name}.bias" for i in range(len(DILATIONS)) for name in ("enter", "leave")}
    rows, columns = (weights[name].shape if name in weights else (0, 0) for name in ("head.weight", "stem.weight"))
    if not needed <= set(weights) or rows[0] != len(LOOKAHEADS) * JOINTS * NUMBERS or columns[1] != track_view.FEATURES:
        raise ModelError(f"{path} holds no weights of a temporal network that streamkp.training.lifter has trained")
    return {name: value.astype(np.float32) for name, value in weights.items()}
