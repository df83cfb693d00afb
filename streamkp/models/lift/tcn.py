"""The causal temporal network (`models.networks.tcn`), live one row at a time for all tracks at once, without torch.

Of each layer's normalised columns the last 2 x dilation + 1 are kept for each track; a new row adds one column to each
layer, which is one product for all tracks. What a row looks like depends on it and on earlier rows only
(`motion.track_view`), so the poses are those of the network over the whole sequence, to rounding.

The errors of successive rows are hardly related, so that a result is the mean of the poses of a row and of the row
before it: a third less jitter for 12 ms of lag.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from streamkp import skeletons
from streamkp.errors import ModelError, UsageError
from streamkp.hub.catalog import Model
from streamkp.models.lift.base import Clip, Lifted, LifterOptions, Memory, WindowNetwork, refuse_cuda
from streamkp.models.networks.tcn_shape import DILATIONS, EPSILON, JOINTS, LOOKAHEADS, NUMBERS, TAPS
from streamkp.models.registry import ModelFile
from streamkp.motion import track_view
from streamkp.motion.camera import Intrinsics, canonical_coordinates
from streamkp.motion.mirror import flip_average, mirror
from streamkp.motion.root import locate_all, split_root
from streamkp.packet import WindowRequest

Floats = NDArray[np.floating[Any]]
Float32 = NDArray[np.float32]

SHIPPED = "tcn-streamkp"
CHUNK = 4000  # rows of a sequence at once
NEWEST = 0.65  # share of a row's own pose in the result; the rest is the pose of the row before
FRAMES = 1 + (TAPS - 1) * sum(DILATIONS) + track_view.ROWS - 1 + 1  # rows that a result depends on
_H36M17 = skeletons.get("h36m17")
_MIRROR = list(_H36M17.mirror)


def recognise(file: ModelFile) -> Model | None:
    """The shipped row for a .safetensors file that `streamkp.training.lifter` has written."""
    from streamkp.hub import catalog

    if file.path.suffix != ".safetensors":
        return None
    try:
        read(file.path)
    except ModelError:
        return None
    return catalog.get(SHIPPED)


def window(name: str, row: Model, path: Path | None, options: LifterOptions) -> WindowRequest:
    """30 Hz and what a pose depends on; live, only rows that are new are read of it."""
    return WindowRequest(name, row.input_skeleton or "h36m17", track_view.RATE, FRAMES)


def open_live(name: str, row: Model, path: Path, options: LifterOptions, memory: Memory | None) -> TemporalLive:
    """See `streamkp.models.lift.base`. It runs on the CPU; `UsageError` if it must run elsewhere."""
    _check(name, options)
    steps = TemporalSteps(read(path), options.lookahead or 0, name)
    if options.incremental is False:
        memory = None
    return TemporalLive(steps, memory, flip=bool(options.flip), trajectory=options.trajectory)


def open_sequence(name: str, row: Model, path: Path, options: LifterOptions) -> TemporalSequence:
    """See `streamkp.models.lift.base`. Whole sequences are averaged with the mirrored person unless `flip` is false."""
    _check(name, options)
    return TemporalSequence(TemporalSteps(read(path)), flip=options.flip)


def _check(name: str, options: LifterOptions) -> None:
    refuse_cuda(name, options)
    _head(options.lookahead or 0, name)
    if options.stride not in (None, 1):
        raise UsageError(f"{name} gives a pose in every row: stride is for HDFormer networks, leave it out")


# NumPy's OpenBLAS takes several threads for a product of more multiplications than 2^18, which then spin between the
# products of a row and cost more than they gain, so that none is larger: so many rows by so many outputs at once.
ROWS_AT_ONCE, OUTPUTS_AT_ONCE = 16, 16


def _head(lookahead: int, name: str) -> int:
    """The number of the head for a look-ahead."""
    if lookahead not in LOOKAHEADS:
        able = ", ".join(map(str, LOOKAHEADS[:-1]))
        raise UsageError(f"{name} cannot use {lookahead} later frames: lookahead must be {able} or {LOOKAHEADS[-1]}")
    return LOOKAHEADS.index(lookahead)


@dataclass(frozen=True)
class _Linear:
    blocks: Float32  # weights [blocks, outputs of a block, in]
    bias: Float32


@dataclass(frozen=True)
class _Layer:
    dilation: int
    enter: _Linear
    leave: _Linear


class Track:
    """What is kept of one track; some 90 kB."""

    __slots__ = ("pose", "rings", "summaries", "time")

    def __init__(self) -> None:
        self.time = 0  # rows seen
        self.pose: Floats | None = None  # [17, 3], of the newest row alone
        self.summaries: Floats = np.empty(0)  # ring [ROWS, SUMMARY]
        self.rings: list[Float32] = []  # [2 x dilation + 1, channels] for each layer with a dilation


class TemporalSteps:
    """New rows of any tracks to their poses."""

    def __init__(self, weights: Mapping[str, Float32], lookahead: int = 0, name: str = "this lifter") -> None:
        """`weights`: of the network in torch; `lookahead`: of what `step` gives. Raises `UsageError` for another one
        than those of `LOOKAHEADS`.
        """
        self.lookahead = lookahead
        self._stem = _linear(weights, "stem")
        self._layers = [
            _Layer(dilation, _linear(weights, f"layers.{i}.enter"), _linear(weights, f"layers.{i}.leave"))
            for i, dilation in enumerate(DILATIONS)
        ]
        self._heads = _linear(weights, "head")
        first = _head(lookahead, name) * JOINTS * NUMBERS
        self._head = _linear(weights, "head", slice(first, first + JOINTS * NUMBERS))

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
        poses, sigma = np.empty((len(tracks), JOINTS, 3)), np.empty((len(tracks), JOINTS))
        for row in range(max(map(len, points))):
            now = [k for k, new in enumerate(points) if row < len(new)]
            columns, seen = self._advance(
                [tracks[k] for k in now],
                np.stack([points[k][row] for k in now]),
                np.stack([scores[k][row] for k in now]),
            )
            out = _times(columns, self._head).reshape(-1, JOINTS, NUMBERS)
            sigma[now] = 2 * np.exp(out[..., 3])
            for k, pose in zip(now, track_view.turn_back(seen, out[..., :3]), strict=True):
                before = tracks[k].pose
                poses[k] = pose if before is None else NEWEST * pose + (1 - NEWEST) * before
                tracks[k].pose = pose
        return poses, sigma

    def over(self, points: Floats, scores: Floats) -> tuple[Floats, Floats]:
        """What `step` gives of each row of one track, with every look-ahead.

        Args:
            points, scores: [T, 17, 2] and [T, 17], as for `step`.

        Returns poses [T, heads, 17, 3] and standard deviations [T, heads, 17], heads in the order of `LOOKAHEADS`.
        """
        parts = []
        for first in range(0, len(points), CHUNK):
            before = min(first, FRAMES - 1)
            rows = slice(first - before, first + CHUNK)
            parts.append([part[before:] for part in self._over(points[rows], scores[rows])])
        poses, sigma = (np.concatenate(part) for part in zip(*parts, strict=True))
        return poses, sigma

    def _over(self, points: Floats, scores: Floats) -> tuple[Floats, Floats]:
        mean = track_view.trailing_mean(track_view.summary(points, scores, np)[None], np)[0]
        rows, turns = track_view.see(points, scores, mean, np)
        x = _times(rows.astype(np.float32), self._stem)
        for layer in self._layers:
            read = _normalised(x)
            if layer.dilation:
                back = (TAPS - 1) * layer.dilation
                padded = np.concatenate([np.repeat(read[:1], back, 0), read])
                read = np.concatenate([padded[i * layer.dilation :][: len(x)] for i in range(TAPS)], -1)
            x += _times(np.maximum(_times(read, layer.enter), 0), layer.leave)
        out = _times(_normalised(x), self._heads).reshape(len(x), len(LOOKAHEADS), JOINTS, NUMBERS)
        poses = track_view.turn_back(turns[:, None], out[..., :3])
        poses[1:] = NEWEST * poses[1:] + (1 - NEWEST) * poses[:-1]
        return poses, 2 * np.exp(out[..., 3])

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


@dataclass(slots=True)
class _Remembered:
    row: int = 0  # number of the newest row that the network has read
    track: Track = field(default_factory=Track)
    mirrored: Track = field(default_factory=Track)
    pose: Floats = field(default_factory=lambda: np.empty(0))  # (17, 3), the last result
    sigma: Floats = field(default_factory=lambda: np.empty(0))  # (17,)


class TemporalLive:
    """A `LiveNetwork` that reads of each window only the new rows.

    A window that does not go on from the last row read (a silence, another image size, more rows lost than it holds)
    begins anew: its poses go through the network one after the other.
    """

    frames = FRAMES
    rate = track_view.RATE
    restarts = True

    def __init__(self, steps: TemporalSteps, memory: Memory | None, *, flip: bool, trajectory: bool) -> None:
        """Whoever gives `memory` deletes the tracks that end from it; without, every window begins anew."""
        self.lookahead = steps.lookahead
        self._steps, self._memory, self._flip, self._trajectory = steps, memory, flip, trajectory

    def poses(self, clips: Sequence[Clip]) -> Lifted:
        """See `LiveNetwork`."""
        people: list[_Remembered] = []
        behind: list[tuple[_Remembered, Floats]] = []
        for clip in clips:
            person: _Remembered | None = None
            if self._memory is not None:
                person = self._memory.pop(clip.track, None)  # put back when all went well
            new = person and clip.window.rows_after(person.row)
            if person is None or new is None:
                person, new = _Remembered(), min(clip.window.valid, self.frames)
            if new:
                behind.append((person, _canonical(clip.newest(new), clip.camera)))
                person.row = clip.window.row
            people.append(person)
        if behind:
            self._advance([person for person, _ in behind], [rows for _, rows in behind])
        if self._memory is not None:
            self._memory.update(zip((clip.track for clip in clips), people, strict=True))
        poses = np.stack([person.pose for person in people])
        roots = None
        if self._trajectory:
            seen = np.stack([clip.newest(self.lookahead + 1)[:1] for clip in clips])
            roots = locate_all(poses[:, None], seen, [clip.camera for clip in clips])[:, 0]
        return Lifted(poses, roots, np.stack([person.sigma for person in people]))

    def _advance(self, people: Sequence[_Remembered], rows: Sequence[Floats]) -> None:
        tracks, inputs, n = [known.track for known in people], list(rows), len(people)
        if self._flip:
            tracks += [known.mirrored for known in people]
            inputs += [mirror(new, _H36M17) for new in rows]
        poses, sigma = self._steps.step(tracks, [new[..., :2] for new in inputs], [new[..., 2] for new in inputs])
        if self._flip:
            poses = flip_average(poses[:n], poses[n:], _H36M17)
            sigma = (sigma[:n] + sigma[n:, _MIRROR]) / 2
        for known, pose, spread in zip(people, poses, sigma, strict=True):
            known.pose, known.sigma = pose, spread


class TemporalSequence:
    """A `SequenceNetwork` that computes all rows of a sequence in a few products.

    Poses of a whole sequence are means of what the network gives forwards and backwards in time, so that they know
    what comes later; it was trained on motion played either way. Live poses are what `TemporalLive` gives.
    """

    rate = track_view.RATE
    windows: WindowNetwork | None = None

    def __init__(self, steps: TemporalSteps, *, flip: bool | None = None) -> None:
        """`flip`: average with the mirrored person; None: whole sequences, but not live."""
        self._steps, self._flip = steps, flip

    def poses(self, points: Floats, size: tuple[int, int], camera: Intrinsics) -> Floats:
        """See `SequenceNetwork`."""
        rows, flip = _canonical(np.asarray(points, np.float64), camera), self._flip is not False
        forwards, backwards = self._over(rows, flip)[0][:, 0], self._over(rows[::-1], flip)[0][::-1, 0]
        return (split_root(forwards)[0] + split_root(backwards)[0]) / 2

    def live(self, points: Floats, camera: Intrinsics, lookaheads: Sequence[int]) -> dict[int, Lifted]:
        """See `RowNetwork`."""
        heads = {k: _head(k, "this lifter") for k in lookaheads}
        poses, sigma = self._over(_canonical(np.asarray(points, np.float64), camera), bool(self._flip))
        return {k: Lifted(_later(poses[:, head], k), None, _later(sigma[:, head], k)) for k, head in heads.items()}

    def _over(self, rows: Floats, flip: bool) -> tuple[Floats, Floats]:
        """Poses [T, heads, 17, 3] and standard deviations [T, heads, 17] of each row."""
        poses, sigma = self._steps.over(rows[..., :2], rows[..., 2])
        if flip:
            rows = mirror(rows, _H36M17)
            others, spread = self._steps.over(rows[..., :2], rows[..., 2])
            poses = flip_average(poses, others, _H36M17)
            sigma = (sigma + spread[..., _MIRROR]) / 2
        return poses, sigma


def _later(values: Floats, rows: int) -> Floats:
    """[T, ...] moved so that what came `rows` rows after a row is its own; the last are NaN."""
    out = np.full_like(values, np.nan)
    out[: max(len(out) - rows, 0)] = values[rows:]
    return out


def _canonical(rows: Floats, camera: Intrinsics) -> Floats:
    """[T, 17, 3] in pixels with scores -> the same in focal lengths from the principal point."""
    return np.concatenate([canonical_coordinates(rows[..., :2], camera), rows[..., 2:]], -1)


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


def _times(columns: Float32, linear: _Linear) -> Float32:
    """[B, in] -> [B, out]."""
    parts = [
        (linear.blocks @ columns[i : i + ROWS_AT_ONCE].T).reshape(len(linear.bias), -1).T
        for i in range(0, len(columns), ROWS_AT_ONCE)
    ]
    out: Float32 = np.concatenate(parts) if len(parts) > 1 else parts[0]
    out += linear.bias
    return out


def _linear(weights: Mapping[str, Float32], name: str, of: slice = slice(None)) -> _Linear:
    """The rows `of` a linear layer of the network in torch."""
    matrix, bias = (np.asarray(weights[f"{name}.{part}"], np.float32)[of] for part in ("weight", "bias"))
    width = next(width for width in range(OUTPUTS_AT_ONCE, 0, -1) if len(bias) % width == 0)
    return _Linear(np.ascontiguousarray(matrix).reshape(-1, width, matrix.shape[1]), bias)


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
