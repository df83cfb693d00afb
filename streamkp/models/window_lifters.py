"""Lifters that read windows of 2D poses: what goes into the networks and what comes out, all tracks in one call.

Every network here was trained on Human3.6M in camera axes (x right, y down, z away), so its poses need no turning:
they are scaled to metres where they are in millimetres, and moved so that the pelvis is at the origin.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from streamkp import skeletons
from streamkp.errors import ModelError, UsageError
from streamkp.models.runtime_torch import Run
from streamkp.models.settings import Statistics
from streamkp.motion import hdformer
from streamkp.motion.camera import Intrinsics
from streamkp.motion.mirror import mirror
from streamkp.motion.root import split_root
from streamkp.motion.tiling import pad_edges
from streamkp.packet import Keypoints3D, Packet, Person, PoseWindow

Floats = NDArray[np.floating[Any]]

RATE = 50.0  # frames per second of Human3.6M, on which all of them were trained
_H36M17 = skeletons.get("h36m17")

log = logging.getLogger("streamkp.models")


@dataclass(frozen=True)
class Clip:
    """What a network sees of one track: `points` [frames, 17, 2] pixels, image width and height, the camera.

    `track` is the stream and track id, `pts` [valid] the times in ns of the last `valid` poses; those before them
    repeat the oldest one.
    """

    points: Floats
    size: tuple[int, int]
    camera: Intrinsics
    track: tuple[str, int]
    pts: NDArray[np.int64]


class Method(Protocol):
    """From clips to poses. It reads `frames` poses and gives that of the frame `lookahead` before the last."""

    frames: int
    lookahead: int

    def poses(self, clips: Sequence[Clip]) -> tuple[Floats, Floats | None]:
        """Poses [B, 17, 3], and where joint 0 of the camera is in space [B, 3] if asked for; metres, camera axes."""


class HDFormerMethod:
    """96 poses in, 96 out. `raw` of the network, in deviations, becomes millimetres by the 3D statistics."""

    frames = hdformer.FRAMES

    def __init__(self, run: Run, plane: Statistics, space: Statistics, *, lookahead: int | None, flip: bool) -> None:
        self.lookahead = checked_lookahead("hdformer", lookahead, self.frames // 2, self.frames - 1)
        self._run, self._plane, self._flip = run, plane, flip
        self._mean, self._std = (values.T[None, :, None] for values in (space.mean, space.std))

    def poses(self, clips: Sequence[Clip]) -> tuple[Floats, None]:
        """See `Method`."""
        pairs = [
            hdformer.network_inputs(clip.points[None], clip.camera, self._plane.mean, self._plane.std) for clip in clips
        ]
        inputs = [plain for plain, _ in pairs] + [flipped for _, flipped in pairs if self._flip]
        (raw,) = self._run(np.concatenate(inputs))
        at = self.frames - 1 - self.lookahead
        millimetres = raw[:, :, at : at + 1] * self._std + self._mean
        if self._flip:
            return hdformer.network_outputs(millimetres[: len(clips)], millimetres[len(clips) :])[:, 0], None
        return np.moveaxis(millimetres[:, :, 0], 1, 2) / hdformer.MILLIMETRES, None


class ConvolutionMethod:
    """One pose from a receptive field of poses: the middle one, or the newest of a causal network.

    The frames after the newest, of which `lookahead` spares as many, repeat it: the references pad the end of a
    sequence in the same way. `prepare` makes the network's inputs [1, frames + repeated, 17, 2] of a clip.
    """

    def __init__(
        self,
        run: Run,
        prepare: Callable[[Clip, int], tuple[NDArray[np.float32], ...]],
        padding: tuple[int, int],
        *,
        name: str,
        lookahead: int | None,
        flip: bool,
    ) -> None:
        before, after = padding
        self.lookahead = checked_lookahead(name, lookahead, after, after)
        self.frames = before + 1 + self.lookahead
        self._run, self._prepare, self._repeat, self._flip = run, prepare, after - self.lookahead, flip

    def poses(self, clips: Sequence[Clip]) -> tuple[Floats, Floats | None]:
        """See `Method`."""
        prepared = [self._prepare(clip, self._repeat) for clip in clips]
        inputs = [np.concatenate(part) for part in zip(*prepared, strict=True)]
        if self._flip:
            inputs = [np.concatenate([part, mirror(part, _H36M17)]) for part in inputs]
        pose, *roots = (output.astype(np.float64) for output in self._run(*inputs))
        root = roots[0] if roots else None
        if self._flip:
            n = len(clips)
            pose = (pose[:n] + mirror(pose[n:], _H36M17)) / 2
            root = None if root is None else (root[:n] + root[n:] * (-1, 1, 1)) / 2
        return pose, None if root is None else root + pose[:, 0]


def checked_lookahead(name: str, lookahead: int | None, middle: int, most: int) -> int:
    """What was asked for, or the middle of the window. Raises `UsageError` if the network cannot use so many."""
    if lookahead is None:
        return middle
    if lookahead > most:
        allowed = f"at most {most}" if most else "0, since it sees no later frames"
        raise UsageError(f"{name} cannot use {lookahead} later frames: lookahead must be {allowed}")
    return lookahead


class WindowLifter:
    """A `Lifter` (see `streamkp.models.lifters`) around a method.

    A window may be longer than needed, or shorter: then the oldest pose stands for what is missing, and a warning
    says so once. Poses of another layout are converted.
    """

    skeleton_3d = "h36m17"
    rate: float | None = RATE

    def __init__(self, name: str, method: Method, skeleton: str, cameras: Mapping[str, Intrinsics]) -> None:
        """`cameras` by stream id; the others are assumed as `Intrinsics.assumed` tells."""
        self.name = name
        self.skeleton: str | None = skeleton
        self.frames = method.frames
        self.lookahead = method.lookahead
        self._method, self._skeleton, self._cameras = method, skeleton, cameras
        self._warned = False

    def lift(self, people: Sequence[tuple[Packet, Person]]) -> list[Keypoints3D | None]:
        """The pose of each person who has a window; see `streamkp.models.lifters.Lifter`.

        Raises:
            UsageError: there is no window stage above, or its poses cannot be converted.
            ModelError: keypoints or poses are not finite.
        """
        out: list[Keypoints3D | None] = [None] * len(people)
        found = [(i, self._window(person)) for i, (_, person) in enumerate(people)]
        windows = [(i, window) for i, window in found if window is not None]
        if not windows:
            return out
        poses, roots = self._method.poses([self._clip(*people[i], window) for i, window in windows])
        if not np.isfinite(poses).all() or not (roots is None or np.isfinite(roots).all()):
            raise ModelError(f"{self.name} gave a value that is not finite")
        relative = split_root(poses)[0].astype(np.float32)
        for row, (i, window) in enumerate(windows):
            root = None if roots is None else roots[row].astype(np.float32)
            out[i] = Keypoints3D(self.skeleton_3d, relative[row], self._frame(window), root=root)
        return out

    def close(self) -> None:
        """Let go of the network."""
        del self._method

    def _window(self, person: Person) -> PoseWindow | None:
        if person.window is None and person.keypoints_2d is not None and person.state != "predicted":
            raise UsageError(
                f"{self.name} reads windows of poses, and no stage above makes them; put above it "
                f"`window: {{use: window, frames: {self.frames}, rate: {RATE:g}, skeleton: {self.skeleton}}}`"
            )
        return person.window

    def _frame(self, window: PoseWindow) -> int:
        return int(window.seq[max(len(window.seq) - 1 - self._method.lookahead, 0)])

    def _clip(self, packet: Packet, person: Person, window: PoseWindow) -> Clip:
        points = window.points[-self.frames :]
        missing = self.frames - len(points)
        if missing and not self._warned:
            self._warned = True
            log.warning(
                "%s reads %d poses and the window holds %d: set `frames: %d` in the window stage",
                self.name, self.frames, len(points), self.frames,
            )  # fmt: skip
        if window.skeleton != self._skeleton:
            try:
                points = skeletons.convert(points, window.skeleton, self._skeleton)
            except UsageError as error:
                raise UsageError(f"{self.name} reads {self._skeleton} poses: {error}") from None
        pixels = pad_edges(points[..., :2].astype(np.float64), missing, 0)
        if not np.isfinite(pixels).all():
            raise ModelError(f"{self.name} was given keypoints that are not finite")
        size = (window.width, window.height)
        camera = self._cameras.get(packet.stream) or Intrinsics.assumed(*size)
        pts = window.pts[-min(window.valid, self.frames) :]
        return Clip(pixels, size, camera, (packet.stream, person.track), pts)
