"""What every family of lifters works with: options, windows as a network reads them, and results.

The family of a lifter is a module, named in its row of the registry, with four functions:

    recognise(file: ModelFile) -> Model | None
        The row of a file of one's own, if it is of this family, by its shapes or its keys; None if it is not.
    window(name, row: Model, path: Path | None, options: LifterOptions) -> WindowRequest
        What the `window` stage must hold. `path` is a file of one's own; without, the row alone tells it: nothing is
        fetched.
    open_live(name, row: Model, path: Path, options: LifterOptions, memory: Memory | None) -> LiveNetwork
        From the newest poses of tracks to one 3D pose each. Without `memory` every window is read by itself.
    open_sequence(name, row: Model, path: Path, options: LifterOptions) -> SequenceNetwork
        From a whole sequence of 2D poses to as many 3D poses.

Frames: image axes x right, y down, pixels; camera axes x right, y down, z away from the camera, metres.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from streamkp.errors import ModelError, UsageError
from streamkp.motion.camera import Intrinsics
from streamkp.motion.sliding_window import pad_edges
from streamkp.packet import PoseWindow
from streamkp.runtimes.base import RunOptions

Floats = NDArray[np.floating[Any]]
Memory = MutableMapping[tuple[str, int], Any]  # what a lifter keeps of each track, by stream and track id

# Windows in one request of a live lifter on the CPU, for each thread; a person and the mirrored one are two. Each size
# costs a second at the start.
LIVE_BUCKETS = (1, 2, 4, 8)
ASSUMED_HEIGHT = 1.7  # metres: the people of the training data, and so everybody's height unless it is given


@dataclass(frozen=True)
class LifterOptions:
    """How a lifter is opened.

    Attributes:
        checkpoint: a file to read instead of the catalog's, of the network that the model names.
        lookahead: frames by which a pose comes later than its frame; None for the middle of the window.
        stride: networks that read whole windows run every so many rows of the window, and a pose comes `stride` - 1
            rows later; None for what its cost suggests. Needs a memory, and is 1 without.
        flip: average with the mirrored pose; None as the network's authors do (HDFormer does, the others do not).
        causal: a convolution network was trained to see no later frames, which weights do not tell; None as
            configuration.json beside the checkpoint says, otherwise no.
        trajectory: also give the position of the pelvis in camera space.
        incremental: run a convolution network frame by frame; None where that costs less.
        height_m: height of the people in metres, to which poses are scaled; None for `ASSUMED_HEIGHT`.
        cameras: intrinsics by stream id; the others as `Intrinsics.assumed`.
        run: device, runtime, threads and precision; `buckets` (on the CPU) of networks that read whole windows.
    """

    checkpoint: str | Path | None = None
    lookahead: int | None = 0
    stride: int | None = None
    flip: bool | None = None
    causal: bool | None = None
    trajectory: bool = False
    incremental: bool | None = None
    height_m: float | None = None
    cameras: Mapping[str, Intrinsics] = field(default_factory=dict)
    run: RunOptions = field(default_factory=lambda: RunOptions(threads=2))

    @property
    def scale(self) -> float:
        """Factor from the poses of a network to those of a person of `height_m`."""
        return 1.0 if self.height_m is None else self.height_m / ASSUMED_HEIGHT


class Lifted(NamedTuple):
    """3D poses of a batch in camera axes, metres.

    `poses` is (B, 17, 3), not moved to its root; `roots` (B, 3), the position of joint 0 in camera space where it was
    asked for, NaN where the joints do not tell it; `sigma` (B, 17), standard deviation of each joint in metres, where
    the network estimates it.
    """

    poses: Floats
    roots: Floats | None = None
    sigma: Floats | None = None


def refuse_cuda(name: str, options: LifterOptions) -> None:
    """Raise a `UsageError` if a lifter that runs in NumPy must run on a GPU."""
    if options.run.device == "cuda":
        raise UsageError(f"{name} runs on the CPU only, and at little cost: leave out device")


@dataclass(frozen=True, slots=True)
class Clip:
    """The window of one track as a network reads it. `track` is the stream and the track id."""

    window: PoseWindow
    camera: Intrinsics
    track: tuple[str, int]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the image in pixels."""
        return self.window.width, self.window.height

    def newest(self, frames: int) -> NDArray[np.float64]:
        """The newest poses, float64 (frames, 17, 3): x, y in pixels and score.

        Where the window holds fewer, its oldest pose stands for what is missing. Raises `ModelError` if a value is
        not finite.
        """
        points = self.window.points[-frames:]
        if not np.isfinite(points).all():
            stream, track = self.track
            raise ModelError(f"the keypoints of track {track} in stream {stream} are not finite")
        missing = frames - len(points)
        return (pad_edges(points, missing, 0) if missing else points).astype(np.float64)


class LiveNetwork(Protocol):
    """Gives each track the pose of `lookahead` rows before its newest one. Used by one thread at a time.

    Attributes:
        frames: poses that it reads of a window.
        rate: poses per second that it was trained with.
        restarts: it reads only new rows; `frames` is what it reads where it starts afresh.
    """

    frames: int
    rate: float
    lookahead: int
    restarts: bool

    def poses(self, clips: Sequence[Clip]) -> Lifted:
        """Lift one pose per clip; with a memory each track at most once. Raises `ModelError`."""


class WindowNetwork(Protocol):
    """A network from `frames` poses to as many 3D poses, at `rate` Hz."""

    frames: int
    rate: float

    def rows(
        self, windows: Floats, cameras: Sequence[Intrinsics], start: int, stop: int
    ) -> tuple[Floats, Floats | None]:
        """Poses of the rows `start` to `stop` of windows (B, frames, 17, 3): pixels and scores.

        Returns (B, n, 17, 3) metres, camera axes, and the positions of joint 0 (B, n, 3) if asked for, NaN where the
        joints do not tell.
        """


class SequenceNetwork(Protocol):
    """Lifts whole sequences. `windows` is the network where it gives a pose for each frame of a window.

    One that reads each row once may have `live` as well (`RowNetwork`).
    """

    rate: float
    windows: WindowNetwork | None

    def poses(self, points: Floats, size: tuple[int, int], camera: Intrinsics) -> Floats:
        """(T, 17, 3) pixels and scores, of an image of `size` (width, height), to (T, 17, 3) metres, camera axes."""


@runtime_checkable
class RowNetwork(Protocol):
    """A `SequenceNetwork` whose live poses need no windows."""

    def live(self, points: Floats, camera: Intrinsics, lookaheads: Sequence[int]) -> dict[int, Lifted]:
        """Poses (T, 17, 3) and sigma (T, 17) of a sequence (T, 17, 3) by look-ahead k, each from rows up to k later.

        The last k rows are NaN. Raises `UsageError` for a look-ahead that the network was not trained for.
        """


def checked_lookahead(name: str, lookahead: int | None, middle: int, most: int) -> int:
    """The look-ahead asked for, or that of the middle of the window. `UsageError` if the network cannot use so many."""
    if lookahead is None:
        return middle
    if lookahead > most:
        allowed = f"at most {most}" if most else "0, since it sees no later frames"
        raise UsageError(f"{name} cannot use {lookahead} later frames: lookahead must be {allowed}")
    return lookahead
