"""Lifters for live streams: 3D poses of the people of many streams from the windows of their tracks."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from streamkp.errors import ModelError, UsageError
from streamkp.hub import store
from streamkp.hub.catalog import Model
from streamkp.models import registry
from streamkp.models.lift.base import Clip, LifterOptions, LiveNetwork, Memory, refuse_cuda
from streamkp.models.registry import ModelFile
from streamkp.motion.camera import Intrinsics
from streamkp.motion.root import split_root
from streamkp.packet import Keypoints3D, Packet, Person, PoseWindow, WindowRequest

Floats = NDArray[np.floating[Any]]

log = logging.getLogger("streamkp.models")


class Lifter(Protocol):
    """Lifts 2D poses to 3D. Used by one thread at a time.

    Attributes:
        name: for messages.
        skeleton: joint layout of the windows that it reads; None for a lifter that reads no windows.
        skeleton_3d: joint layout of its poses.
        frames: poses that it reads of each window; 0 for none.
        lookahead: rows of the window between the pose that it gives and the newest one.
        rate: poses per second of the windows.
    """

    name: str
    skeleton: str | None
    skeleton_3d: str
    frames: int
    lookahead: int
    rate: float | None

    def lift(self, people: Sequence[tuple[Packet, Person]]) -> list[Keypoints3D | None]:
        """The 3D pose of each person, all tracks of all streams in one call; None where there is nothing to lift.

        `frame_seq` says which frame a pose describes. Raises `ModelError` if a value is not finite.
        """

    def close(self) -> None:
        """Let go of the network."""


class BlazePoseWorld:
    """Hands on the world landmarks that BlazePose gives beside its 2D keypoints: of the frame itself, no window."""

    name = "blazepose-world"
    skeleton: str | None = None
    skeleton_3d = "blazepose33"
    frames = 0
    lookahead = 0
    rate: float | None = None

    def __init__(self, options: LifterOptions) -> None:
        """Raises `UsageError` for options that need a network."""
        if options.lookahead:
            raise UsageError(f"{self.name} lifts each frame by itself: lookahead must be 0, not {options.lookahead}")
        if options.checkpoint is not None or options.trajectory:
            what = "trajectory" if options.checkpoint is None else "checkpoint"
            raise UsageError(f"{self.name} hands on what the 2D network gives: it has no {what}")
        self._scale = options.scale

    def lift(self, people: Sequence[tuple[Packet, Person]]) -> list[Keypoints3D | None]:
        """`world` of each person; None for a person without, such as a predicted one."""
        return [
            None if person.world is None else _scaled(replace(person.world, frame_seq=packet.seq), self._scale)
            for packet, person in people
        ]

    def close(self) -> None:
        """Nothing to let go of."""


# Lifters without weights, by name.
WEIGHTLESS: dict[str, Callable[[LifterOptions], Lifter]] = {"blazepose-world": BlazePoseWorld}


class WindowLifter:
    """A `Lifter` that reads windows.

    A window may hold more poses than are read, or fewer: then the oldest pose stands for what is missing, and a
    warning says so once.
    """

    skeleton_3d = "h36m17"

    def __init__(self, name: str, network: LiveNetwork, skeleton: str, options: LifterOptions) -> None:
        self.name = name
        self.skeleton: str | None = skeleton
        self.frames = network.frames
        self.rate: float | None = network.rate
        self.lookahead = network.lookahead
        self._network: LiveNetwork | None = network
        self._cameras, self._scale = options.cameras, options.scale
        self._warned = network.restarts

    def lift(self, people: Sequence[tuple[Packet, Person]]) -> list[Keypoints3D | None]:
        """See `Lifter`.

        Raises:
            UsageError: a person has no window, or one of another skeleton or rate.
            ModelError: keypoints or poses are not finite.
        """
        assert self._network is not None, "the lifter is closed"
        out: list[Keypoints3D | None] = [None] * len(people)
        found = [(i, self._window(person)) for i, (_, person) in enumerate(people)]
        windows = [(i, window) for i, window in found if window is not None]
        if not windows:
            return out
        poses, roots, sigma = self._network.poses([self._clip(*people[i], window) for i, window in windows])
        if not np.isfinite(poses).all() or (roots is not None and np.isinf(roots).any()):
            raise ModelError(f"{self.name} gave a value that is not finite")
        relative = split_root(poses)[0].astype(np.float32)
        for n, (i, window) in enumerate(windows):
            known = roots is not None and not np.isnan(roots[n]).any()
            pose = Keypoints3D(
                self.skeleton_3d,
                relative[n],
                self._frame(window),
                root=roots[n].astype(np.float32) if roots is not None and known else None,
                sigma=None if sigma is None else sigma[n].astype(np.float32),
            )
            out[i] = _scaled(pose, self._scale)
        return out

    def close(self) -> None:
        """Let go of the network."""
        self._network = None

    def _window(self, person: Person) -> PoseWindow | None:
        window = person.window
        if window is None:
            if person.keypoints_2d is None or person.state == "predicted":
                return None
            found = "no stage above makes them"
        elif window.skeleton != self.skeleton:
            found = f"the window holds {window.skeleton}"
        elif window.rate != self.rate:
            found = f"the window has {'a row for each frame' if window.rate is None else f'{window.rate:g} Hz'}"
        else:
            return window
        raise UsageError(
            f"{self.name} reads windows of {self.skeleton} poses at {self.rate:g} Hz, and {found}: "
            "put `window: {use: window}` above it, without rate and skeleton"
        )

    def _frame(self, window: PoseWindow) -> int:
        return int(window.seq[max(len(window.seq) - 1 - self.lookahead, 0)])

    def _clip(self, packet: Packet, person: Person, window: PoseWindow) -> Clip:
        if not self._warned and len(window.points) < self.frames:
            self._warned = True
            log.warning(
                "%s reads %d poses and the window holds %d: leave `frames` out of the window stage, or set it to %d",
                self.name, self.frames, len(window.points), self.frames,
            )  # fmt: skip
        camera = self._cameras.get(packet.stream) or Intrinsics.assumed(window.width, window.height)
        return Clip(window, camera, (packet.stream, person.track))


def open_lifter(model: str, options: LifterOptions | None = None, memory: Memory | None = None) -> Lifter:
    """A lifter by catalog name or file.

    Args:
        model: catalog name, or a checkpoint whose network its keys and shapes tell.
        options: see `LifterOptions`.
        memory: where a lifter keeps what it knows of each track. The caller deletes tracks that end. Without it every
            window is read whole, and may be of any track and time.

    Raises:
        ModelError: there is no such lifter, its weights cannot be fetched or are another's, or there is no torch.
        UsageError: the lifter cannot do what was asked for.
    """
    options = options or LifterOptions()
    if model in WEIGHTLESS:
        refuse_cuda(model, options)
        return WEIGHTLESS[model](options)
    name, row, path = resolve(model, options.checkpoint)
    network = registry.family_of(row).open_live(name, row, path, options, memory)
    return WindowLifter(name, network, row.input_skeleton or "h36m17", options)


def window_request(model: str, options: LifterOptions) -> WindowRequest | None:
    """What the window stage above a lifter must hold; None for one that reads no windows. Fetches nothing.

    Of a file that is not there nothing is known, and None is the answer. Raises `ModelError` for a file of no lifter.
    """
    if model in WEIGHTLESS:
        return None
    row = _row(model)
    given = model if row is None else options.checkpoint
    path = None if given is None else Path(given).expanduser()
    if row is None:
        assert path is not None
        row = _recognised(path)
    request = registry.family_of(row).window(row.name if path is None else path.name, row, path, options)
    return cast(WindowRequest, request)


def check(model: str) -> None:
    """Raise a `ModelError` if `open_lifter` would find neither a file nor a lifter of that name; fetches nothing."""
    if model not in WEIGHTLESS:
        _row(model)


def resolve(model: str, checkpoint: str | Path | None) -> tuple[str, Model, Path]:
    """Name, row and file of a lifter; the file is fetched if need be. Raises `ModelError` if there is none."""
    row = _row(model)
    if row is None:
        path = Path(model).expanduser() if checkpoint is None else Path(checkpoint).expanduser()
        return path.name, _recognised(path), path
    return row.name, row, store.path(model) if checkpoint is None else Path(checkpoint).expanduser()


def _row(model: str) -> Model | None:
    """The row of a lifter; None for a file."""
    rows = registry.rows(registry.LIFTING)
    for row in rows:
        if model == row.name or model in row.aliases:
            return row
    if Path(model).expanduser().is_file():
        return None
    if (other := registry.find(model)) is not None:
        raise ModelError(f"{model} is a model for {other.task}, not a lifter")
    names = list(dict.fromkeys([*WEIGHTLESS, *(row.name for row in rows)]))
    near = difflib.get_close_matches(model, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"the lifters are {', '.join(names)}, or name a checkpoint file"
    raise ModelError(f"there is no lifter named {model!r}; {hint}")


def _recognised(path: Path) -> Model:
    """The row that a file of one's own is opened as."""
    file = ModelFile(path.name, path)
    families = dict.fromkeys(row.family for row in registry.rows(registry.LIFTING) if not row.weightless)
    for row in registry.rows(registry.LIFTING):
        if row.family in families:
            del families[row.family]
            if (found := registry.family_of(row).recognise(file)) is not None:
                return cast(Model, found)
    if file.signature is not None:
        outputs = ", ".join(f"{name} {list(shape)}" for name, shape in file.signature.outputs.items())
        raise ModelError(f"{path} is not a lifter: its outputs are {outputs}")
    raise ModelError(f"{path} is a checkpoint of none of the lifters; {_belongs(file)}")


def _belongs(file: ModelFile) -> str:
    from streamkp.models import zoo

    rows = registry.torch_models()
    other = [row.name for row in rows if row.task not in registry.LIFTING and zoo.fits(row, file.weights or {})]
    return (
        f"it fits {other[0]}" if other else f"they are {', '.join(r.name for r in rows if r.task in registry.LIFTING)}"
    )


def _scaled(pose: Keypoints3D, scale: float) -> Keypoints3D:
    if scale == 1.0:
        return pose
    factor = np.float32(scale)
    root = None if pose.root is None else pose.root * factor
    sigma = None if pose.sigma is None else pose.sigma * factor
    return replace(pose, points=pose.points * factor, root=root, sigma=sigma)
