"""VideoPose3D (Pavllo et al. 2019, MMPose): one pose from a receptive field of screen coordinates, at 50 Hz.

Live, a convolution network runs frame by frame (`incremental`) where that costs less than its whole receptive field
again. What TPNet, whose pose network is of the same form, shares with it is here too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from streamkp import skeletons
from streamkp.errors import ModelError, UsageError
from streamkp.hub.catalog import Model
from streamkp.models import registry, zoo
from streamkp.models.lift.base import (
    Clip,
    Lifted,
    LifterOptions,
    LiveNetwork,
    Memory,
    WindowNetwork,
    checked_lookahead,
)
from streamkp.models.registry import ModelFile
from streamkp.motion.camera import Intrinsics, screen_coordinates
from streamkp.motion.mirror import flip_average, mirror
from streamkp.motion.sliding_window import pad_edges
from streamkp.packet import WindowRequest
from streamkp.runtimes.torch import Run, open_run, uses_cuda

if TYPE_CHECKING:
    from torch import nn

    from streamkp.models.lift.incremental import IncrementalNetwork, Track
    from streamkp.models.networks.videopose3d import OneFrame, VideoPose3D

Floats = NDArray[np.floating[Any]]
Float32 = NDArray[np.float32]
# (points (T, 17, 3), camera, image size, frames to repeat before and after) -> the network's inputs (1, T', 17, 2)
Prepare = Callable[[Floats, Intrinsics, tuple[int, int], tuple[int, int]], tuple[Float32, ...]]

RATE = 50.0  # Hz, of Human3.6M
CHUNK = 2000  # frames of a sequence at once
_H36M17 = skeletons.get("h36m17")


def recognise(file: ModelFile) -> Model | None:
    """The first row whose network has the keys and shapes of the file."""
    found = file.fitting(__name__)
    return found if isinstance(found, Model) else None


def window(name: str, row: Model, path: Path | None, options: LifterOptions) -> WindowRequest:
    """50 Hz, and the receptive field up to the newest frame, of which a network run frame by frame needs less."""
    widths = row.arguments.get("filter_widths", (3, 3, 3, 3, 3))
    around = prod(widths) - 1
    before, after = (around, 0) if options.causal else (around // 2, around // 2)
    lookahead = after if options.lookahead is None else min(options.lookahead, after)
    return WindowRequest(name, row.input_skeleton or "h36m17", RATE, before + 1 + lookahead)


def open_live(name: str, row: Model, path: Path, options: LifterOptions, memory: Memory | None) -> LiveNetwork:
    """See `streamkp.models.lift.base`."""
    network = zoo.load(row.name, path, strided=True, causal=bool(options.causal))
    pose, trajectory = _parts(network)
    if options.trajectory and trajectory is None:
        able = ", ".join(each.name for each in registry.rows(registry.LIFTING) if _gives_trajectory(each))
        raise ModelError(f"{name} gives no trajectory; {able} do")
    from streamkp.models.networks.videopose3d import OneFrame

    frame = OneFrame(pose, trajectory if options.trajectory else None)
    return open_convolution(name, path, frame, prepare, options, memory)


def open_sequence(name: str, row: Model, path: Path, options: LifterOptions) -> ConvolvedSequence:
    """See `streamkp.models.lift.base`."""
    causal = {} if options.causal is None else {"causal": options.causal}
    pose, _ = _parts(zoo.load(row.name, path, **causal))
    return ConvolvedSequence(pose, prepare, options)


def prepare(points: Floats, camera: Intrinsics, size: tuple[int, int], padding: tuple[int, int]) -> tuple[Float32]:
    """Pixels (T, 17, 2 or 3) to screen coordinates (1, T + sum(padding), 17, 2), the ends repeated."""
    return (pad_edges(screen_coordinates(points[..., :2], *size), *padding)[None].astype(np.float32),)


def open_convolution(
    name: str, path: Path, frame: OneFrame, prepare: Prepare, options: LifterOptions, memory: Memory | None
) -> LiveNetwork:
    """The live form of a network that computes one frame, by whole windows or frame by frame.

    `frame.inputs` is how many arrays of `prepare` it reads. Raises `UsageError` for options it cannot fulfil and
    `ModelError` if the network does not read x and y of 17 joints.
    """
    if options.stride not in (None, 1):
        raise UsageError(f"{name} gives one pose of each window: stride is for HDFormer networks, leave it out")
    before, after = frame.pose.padding
    lookahead = checked_lookahead(name, options.lookahead, after, after)
    examples = [np.zeros((1, frame.pose.receptive_field, 17, 2), np.float32)] * frame.inputs
    _check(frame, examples, path)
    run = options.run
    opened = partial(open_run, device=run.device, runtime=run.runtime, threads=run.threads)
    frames, flip = before + 1 + lookahead, bool(options.flip)
    if memory is None or not _runs_incrementally(frame.pose, lookahead, options):
        network = opened(frame, examples)
        return WholeReceptiveField(
            network, prepare, frame.inputs, frames=frames, lookahead=lookahead, after=after, flip=flip
        )
    from streamkp.models.lift.incremental import IncrementalNetwork

    step = IncrementalNetwork(frame.pose, lookahead=lookahead, open_run=opened)
    return FrameByFrame(step, prepare, memory, frames=frames, lookahead=lookahead, flip=flip)


class WholeReceptiveField:
    """A `LiveNetwork` that computes the pose of each window from the beginning.

    The frames after the newest, of which `lookahead` spares as many, repeat it: the references pad the end of a
    sequence in the same way.
    """

    rate = RATE
    restarts = False

    def __init__(
        self, run: Run, prepare: Prepare, inputs: int, *, frames: int, lookahead: int, after: int, flip: bool
    ) -> None:
        self.frames = frames
        self.lookahead = lookahead
        self._run, self._prepare, self._inputs, self._flip = run, prepare, inputs, flip
        self._repeat = after - lookahead

    def poses(self, clips: Sequence[Clip]) -> Lifted:
        """See `LiveNetwork`."""
        prepared = [
            self._prepare(clip.newest(self.frames), clip.camera, clip.size, (0, self._repeat))[: self._inputs]
            for clip in clips
        ]
        inputs = [np.concatenate(part) for part in zip(*prepared, strict=True)]
        if self._flip:
            inputs = [np.concatenate([part, mirror(part, _H36M17)]) for part in inputs]
        outputs: list[Floats] = [output.astype(np.float64) for output in self._run(*inputs)]
        pose, root = outputs[0], outputs[1] if len(outputs) > 1 else None
        if self._flip:
            n = len(clips)
            pose = flip_average(pose[:n], pose[n:], _H36M17)
            root = None if root is None else (root[:n] + root[n:] * (-1, 1, 1)) / 2
        return Lifted(pose, None if root is None else root + pose[:, 0])


@dataclass(slots=True)
class _Remembered:
    row: int  # number of the newest row that the network has read
    track: Track
    mirrored: Track
    pose: Floats = field(default_factory=lambda: np.empty(0))  # (17, 3), the last result


class FrameByFrame:
    """A `LiveNetwork` that reads of each window only the new rows.

    A window that does not go on from the last row read (a silence, another image size, more rows lost than it holds)
    begins anew: its poses go through the network one after the other, which gives what the whole window would.
    """

    rate = RATE
    restarts = True

    def __init__(
        self,
        network: IncrementalNetwork,
        prepare: Prepare,
        memory: Memory,
        *,
        frames: int,
        lookahead: int,
        flip: bool,
    ) -> None:
        """Whoever gives `memory` deletes the tracks that end from it."""
        self.frames = frames
        self.lookahead = lookahead
        self._network, self._prepare, self._memory, self._flip = network, prepare, memory, flip

    def poses(self, clips: Sequence[Clip]) -> Lifted:
        """See `LiveNetwork`."""
        people: list[_Remembered] = []
        behind: list[tuple[_Remembered, Float32]] = []
        for clip in clips:
            person: _Remembered | None = self._memory.pop(clip.track, None)  # put back when all went well
            new = person and clip.window.rows_after(person.row)
            if person is None or new is None:
                person, new = self._begin(), min(clip.window.valid, self.frames)
            if new:
                (inputs, *_) = self._prepare(clip.newest(new), clip.camera, clip.size, (0, 0))
                behind.append((person, inputs[0]))
                person.row = clip.window.row
            people.append(person)
        if behind:
            self._step([person for person, _ in behind], [poses for _, poses in behind])
        self._memory.update(zip((clip.track for clip in clips), people, strict=True))
        return Lifted(np.stack([person.pose for person in people]).astype(np.float64))

    def _begin(self) -> _Remembered:
        from streamkp.models.lift.incremental import Track

        return _Remembered(0, Track(), Track())

    def _step(self, people: Sequence[_Remembered], poses: Sequence[Float32]) -> None:
        tracks, inputs = [known.track for known in people], list(poses)
        if self._flip:
            tracks += [known.mirrored for known in people]
            inputs += [mirror(new, _H36M17).astype(np.float32) for new in poses]
        out: Floats = self._network.step(tracks, inputs)
        if self._flip:
            out = flip_average(out[: len(people)], out[len(people) :], _H36M17)
        for known, pose in zip(people, out, strict=True):
            known.pose = pose


class ConvolvedSequence:
    """A `SequenceNetwork` that computes all frames in one convolution (dilated, in torch), some at a time."""

    rate = RATE
    windows: WindowNetwork | None = None

    def __init__(self, pose: VideoPose3D, prepare: Prepare, options: LifterOptions) -> None:
        import torch

        run = options.run
        self._device = torch.device("cuda" if uses_cuda(run.device, run.runtime) else "cpu")
        self._pose = pose.eval().requires_grad_(False).to(self._device)
        self._prepare, self._flip = prepare, bool(options.flip)

    def poses(self, points: Floats, size: tuple[int, int], camera: Intrinsics) -> Floats:
        """See `SequenceNetwork`."""
        (inputs, *_) = self._prepare(np.asarray(points, np.float64), camera, size, self._pose.padding)
        plain = self._in_chunks(inputs)
        return flip_average(plain, self._in_chunks(mirror(inputs, _H36M17)), _H36M17) if self._flip else plain

    def _in_chunks(self, padded: Floats) -> Floats:
        """(1, T + padding, 17, 2) -> (T, 17, 3)."""
        import torch

        around = self._pose.receptive_field - 1
        starts = range(0, padded.shape[1] - around, CHUNK)
        with torch.inference_mode():
            parts = [
                self._pose(torch.from_numpy(padded[:, i : i + CHUNK + around]).to(self._device))[0].cpu().numpy()
                for i in starts
            ]
        return np.concatenate(parts)


def _runs_incrementally(pose: VideoPose3D, lookahead: int, options: LifterOptions) -> bool:
    if options.trajectory:
        if options.incremental:
            raise UsageError("a trajectory needs whole windows: set trajectory: false, or leave incremental out")
        return False
    if options.incremental is None:
        from streamkp.models.lift.incremental import worthwhile

        return not uses_cuda(options.run.device, options.run.runtime) and worthwhile(pose, lookahead)
    return options.incremental


def _check(network: nn.Module, examples: Sequence[Float32], path: Path) -> None:
    import torch

    try:
        with torch.inference_mode():
            network.eval()(*map(torch.from_numpy, examples))
    except RuntimeError as error:
        raise ModelError(f"the network in {path} does not read x and y of 17 joints: {error}") from None


def _parts(network: nn.Module) -> tuple[VideoPose3D, VideoPose3D | None]:
    """The pose network, and that of the trajectory where there is one."""
    from streamkp.models.networks.videopose3d import SemiVideoPose3D, VideoPose3D

    if isinstance(network, SemiVideoPose3D):
        return network.model_pos, network.model_traj
    return cast(VideoPose3D, network), None


def _gives_trajectory(row: Model) -> bool:
    return bool(row.network) and not str(row.network).endswith(":VideoPose3D")
