"""Lifters that read windows of 2D poses: what goes into the networks and what comes out, all tracks in one call.

All of them give poses in camera axes (x right, y down, z away), which are moved so that the pelvis is at the origin.
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
from streamkp.motion.camera import Intrinsics
from streamkp.motion.mirror import mirror
from streamkp.motion.root import split_root
from streamkp.motion.sliding_window import pad_edges
from streamkp.packet import Keypoints3D, Packet, Person, PoseWindow
from streamkp.runtimes.torch import Run

Floats = NDArray[np.floating[Any]]

H36M_RATE = 50.0  # frames per second of Human3.6M, on which the networks of others were trained
_H36M17 = skeletons.get("h36m17")

log = logging.getLogger("streamkp.models")


@dataclass(frozen=True)
class Clip:
    """What a network sees of one track: `points` [frames, 17, 2] pixels, image width and height, the camera.

    `scores` [frames, 17] are those of the points, 0..1. `track` is the stream and track id, `pts` [valid] the times
    in ns of the last `valid` poses; those before them repeat the oldest one.
    """

    points: Floats
    scores: Floats
    size: tuple[int, int]
    camera: Intrinsics
    track: tuple[str, int]
    pts: NDArray[np.int64]

    def rows_after(self, pts: int, pose: Floats) -> int | None:
        """How many poses follow the one at `pts` that is `pose` [17, 2]; None where there is no such one."""
        at = int(np.searchsorted(self.pts, pts))
        rows = len(self.pts) - at
        if not rows or self.pts[at] != pts or not np.array_equal(self.points[-rows], pose):
            return None
        return rows - 1


class Method(Protocol):
    """From clips to poses. It reads `frames` poses, `rate` a second, and gives that `lookahead` before the last."""

    frames: int
    rate: float
    lookahead: int

    def poses(self, clips: Sequence[Clip]) -> tuple[Floats, Floats | None]:
        """Poses [B, 17, 3], and where joint 0 is in space [B, 3] if asked for; metres, camera axes.

        A place that the joints do not tell is NaN.
        """


class ConvolutionMethod:
    """One pose from a receptive field of poses: the middle one, or the newest of a causal network.

    The frames after the newest, of which `lookahead` spares as many, repeat it: the references pad the end of a
    sequence in the same way. `prepare` makes the network's inputs [1, frames + repeated, 17, 2] of a clip.
    """

    rate = H36M_RATE

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
    """A `Lifter` (see `streamkp.models.lift.lifters`) around a method.

    A window may be longer than needed, or shorter: then the oldest pose stands for what is missing, and a warning
    says so once. Poses of another layout are converted.
    """

    skeleton_3d = "h36m17"

    def __init__(self, name: str, method: Method, skeleton: str, cameras: Mapping[str, Intrinsics]) -> None:
        """`cameras` by stream id; the others are assumed as `Intrinsics.assumed` tells."""
        self.name = name
        self.skeleton: str | None = skeleton
        self.frames = method.frames
        self.rate: float | None = method.rate
        self.lookahead = method.lookahead
        self._method, self._skeleton, self._cameras = method, skeleton, cameras
        self._warned = False

    def lift(self, people: Sequence[tuple[Packet, Person]]) -> list[Keypoints3D | None]:
        """The pose of each person who has a window; see `streamkp.models.lift.lifters.Lifter`.

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
        if not np.isfinite(poses).all() or (roots is not None and np.isinf(roots).any()):
            raise ModelError(f"{self.name} gave a value that is not finite")
        relative = split_root(poses)[0].astype(np.float32)
        for row, (i, window) in enumerate(windows):
            known = roots is not None and not np.isnan(roots[row]).any()
            root = roots[row].astype(np.float32) if roots is not None and known else None
            out[i] = Keypoints3D(self.skeleton_3d, relative[row], self._frame(window), root=root)
        return out

    def close(self) -> None:
        """Let go of the network."""
        del self._method

    def _window(self, person: Person) -> PoseWindow | None:
        if person.window is None and person.keypoints_2d is not None and person.state != "predicted":
            raise UsageError(
                f"{self.name} reads windows of poses, and no stage above makes them; put above it "
                f"`window: {{use: window, frames: {self.frames}, rate: {self.rate:g}, skeleton: {self.skeleton}}}`"
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
        points = pad_edges(points.astype(np.float64), missing, 0)
        if not np.isfinite(points).all():
            raise ModelError(f"{self.name} was given keypoints that are not finite")
        size = (window.width, window.height)
        camera = self._cameras.get(packet.stream) or Intrinsics.assumed(*size)
        pts = window.pts[-min(window.valid, self.frames) :]
        return Clip(points[..., :2], points[..., 2], size, camera, (packet.stream, person.track), pts)
