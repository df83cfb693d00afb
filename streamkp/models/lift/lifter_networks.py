"""The lifters whose networks are written in torch: from a checkpoint to a `Method` of `window_lifters`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from streamkp.errors import ModelError, UsageError
from streamkp.models import checkpoint, registry, settings, zoo
from streamkp.models.lift.hdformer_windows import PersonViewWindows, PublishedWindows
from streamkp.models.lift.incremental import IncrementalNetwork, worthwhile
from streamkp.models.lift.incremental_method import IncrementalMethod
from streamkp.models.lift.lifter_choices import Choices
from streamkp.models.lift.whole_windows import WholeWindows, WindowNetwork, plan
from streamkp.models.lift.window_lifters import Clip, ConvolutionMethod, Method, checked_lookahead
from streamkp.models.networks.hdformer import HDFormer
from streamkp.models.networks.tpnet import TPNet
from streamkp.models.networks.videopose3d import SemiVideoPose3D, VideoPose3D
from streamkp.models.settings import Statistics
from streamkp.motion import hdformer, person_view, tpnet, typical_people
from streamkp.motion.camera import screen_coordinates
from streamkp.motion.sliding_window import pad_edges
from streamkp.runtimes.torch import Run

NETWORKS = tuple(row.name for row in registry.torch_models() if row.task in registry.LIFTING)
Float32 = NDArray[np.float32]

log = logging.getLogger("streamkp.models")


def tell(path: Path) -> str:
    """Which network a checkpoint is of; the first of those with the same shapes. Raises `ModelError` if of none."""
    weights = checkpoint.read(path)
    for name in NETWORKS:
        if zoo.fits(name, weights):
            return name
    others = [row.name for row in registry.torch_models() if row.name not in NETWORKS and zoo.fits(row, weights)]
    hint = f"it fits {others[0]}" if others else f"they are {', '.join(NETWORKS)}"
    raise ModelError(f"{path} is a checkpoint of none of the lifters; {hint}")


def open_method(name: str, path: Path, choices: Choices) -> Method:
    """Load network `name` from a checkpoint. Raises `ModelError`, or `UsageError` for choices it cannot fulfil."""
    if name == "hdformer":
        return _hdformer(path, choices)
    if name == "tpnet":
        return _tpnet(path, choices)
    return _videopose3d(name, path, choices)


def _hdformer(path: Path, choices: Choices) -> Method:
    plan("hdformer", hdformer.FRAMES, choices)  # what no such network can do is said before anything is read
    windows = open_windows(path, choices)
    lookahead, hop = plan("hdformer", windows.frames, choices)
    return WholeWindows(windows, lookahead=lookahead, hop=hop, memory=choices.memory)


def open_windows(path: Path, choices: Choices) -> WindowNetwork:
    """HDFormer from a checkpoint, with the steps around it that its input channels tell. Raises `ModelError`."""
    network = cast(HDFormer, zoo.load("hdformer", path))
    view = network.in_channels == person_view.CHANNELS
    return _person_view(network, path, choices) if view else _published(network, path, choices)


def _person_view(network: HDFormer, path: Path, choices: Choices) -> WindowNetwork:
    flip = choices.flip is not False
    example = np.zeros((1 + flip, person_view.CHANNELS, person_view.FRAMES, 17), np.float32)
    run = _run(network, [example], path, choices, many_small=True)
    return PersonViewWindows(run, flip=flip, trajectory=choices.trajectory)


def _published(network: HDFormer, path: Path, choices: Choices) -> WindowNetwork:
    plane, space = settings.statistics(path, 2), settings.statistics(path, 3)
    if plane is None or space is None:
        log.warning(
            "mean_std_2d.npy and mean_std_3d.npy are not beside %s: the poses are scaled as people usually are, "
            "and will be less exact than with the network's own statistics", path,
        )  # fmt: skip
    plane = plane or Statistics(typical_people.MEAN_2D, typical_people.STD_2D)
    space = space or Statistics(typical_people.MEAN_3D, typical_people.STD_3D)
    flip = choices.flip is not False
    example = np.zeros((1 + flip, 2, hdformer.FRAMES, 17), np.float32)
    run = _run(network, [example], path, choices, many_small=True)
    return PublishedWindows(run, plane, space, flip=flip, trajectory=choices.trajectory)


def _videopose3d(name: str, path: Path, choices: Choices) -> Method:
    network = zoo.load(name, path, strided=True, causal=bool(choices.causal))
    if isinstance(network, SemiVideoPose3D):
        pose, trajectory = network.model_pos, network.model_traj
    else:
        pose, trajectory = cast(VideoPose3D, network), None
    if choices.trajectory and trajectory is None:
        raise _no_trajectory(name)
    frame = _Frame(pose, trajectory if choices.trajectory else None)

    def prepare(clip: Clip, repeat: int) -> tuple[Float32]:
        screen = pad_edges(screen_coordinates(clip.points, *clip.size), 0, repeat)
        return (screen[None].astype(np.float32),)

    return _convolution(name, path, frame, 1, prepare, choices)


def _tpnet(path: Path, choices: Choices) -> Method:
    causal = {} if choices.causal is None else {"causal": choices.causal}
    network = cast(TPNet, zoo.load("tpnet", path, **causal))
    options = settings.configuration(path).get("model", {}).get("MODEL", {})
    offsets, canonical = bool(options.get("USE_2D_OFFSETS", False)), bool(options.get("USE_CANONICAL_COORDS", True))
    inputs = 2 if choices.trajectory else 1
    pose = _strided(network.model_pos)
    frame = _TPNetFrame(pose, network.model_traj) if choices.trajectory else _Frame(pose, None)

    def prepare(clip: Clip, repeat: int) -> tuple[Float32, ...]:
        both = tpnet.network_inputs(clip.points, clip.camera, clip.size, (0, repeat), offsets, canonical)
        return both[:inputs]

    return _convolution("tpnet", path, frame, inputs, prepare, choices)


def _convolution(
    name: str,
    path: Path,
    frame: _Frame | _TPNetFrame,
    inputs: int,
    prepare: Callable[[Clip, int], tuple[Float32, ...]],
    choices: Choices,
) -> Method:
    if choices.hop not in (None, 1):
        raise UsageError(f"{name} gives one pose of each window: hop is for HDFormer networks, leave it out")
    before, after = frame.pose.padding
    lookahead, flip = checked_lookahead(name, choices.lookahead, after, after), bool(choices.flip)
    examples = [np.zeros((1, frame.pose.receptive_field, 17, 2), np.float32)] * inputs
    if choices.memory is None or not _incremental(frame.pose, lookahead, choices):
        run = _run(frame, examples, path, choices)
        return ConvolutionMethod(run, prepare, (before, after), name=name, lookahead=lookahead, flip=flip)
    _check(frame, examples, path)
    network = IncrementalNetwork(frame.pose, lookahead=lookahead, open_run=choices.open_run)
    frames = before + 1 + lookahead
    return IncrementalMethod(network, prepare, choices.memory, frames=frames, lookahead=lookahead, flip=flip)


def _incremental(pose: VideoPose3D, lookahead: int, choices: Choices) -> bool:
    if choices.trajectory:
        if choices.incremental:
            raise UsageError("a trajectory needs whole windows: set trajectory: false, or leave incremental out")
        return False
    if choices.incremental is None:
        return not choices.cuda and worthwhile(pose, lookahead)
    return choices.incremental


def _run(network: nn.Module, examples: list[Float32], path: Path, choices: Choices, **options: Any) -> Run:
    _check(network, examples, path)
    return choices.open_run(network, examples, **options)


def _check(network: nn.Module, examples: list[Float32], path: Path) -> None:
    try:
        with torch.inference_mode():
            network.eval()(*map(torch.from_numpy, examples))
    except RuntimeError as error:
        raise ModelError(f"the network in {path} does not read x and y of 17 joints: {error}") from None


def _no_trajectory(name: str) -> ModelError:
    able = ", ".join(other for other in NETWORKS if other in ("hdformer", "tpnet") or "semi" in other)
    return ModelError(f"{name} gives no trajectory; {able} do")


def _strided(network: VideoPose3D) -> VideoPose3D:
    """The same network in the form that computes one output per receptive field."""
    joints, channels = network.expand_conv.in_channels // 2, network.expand_conv.out_channels
    twin = VideoPose3D(
        network.filter_widths,
        joints,
        joints_out=network.joints_out,
        channels=channels,
        causal=network.causal,
        strided=True,
    )
    twin.load_state_dict(network.state_dict())
    return twin


class _Frame(nn.Module):
    """[B, receptive field, 17, 2] -> pose [B, 17, 3], and position of the root [B, 3] with a trajectory network."""

    def __init__(self, pose: VideoPose3D, trajectory: VideoPose3D | None) -> None:
        super().__init__()
        self.pose = pose
        self.trajectory = trajectory

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        pose: Tensor = self.pose(x)[:, 0]
        return pose if self.trajectory is None else (pose, self.trajectory(x)[:, 0, 0])


class _TPNetFrame(nn.Module):
    """Screen and canonical coordinates [B, receptive field, 17, 2] -> pose [B, 17, 3], position of the root [B, 3]."""

    def __init__(self, pose: VideoPose3D, trajectory: nn.Module) -> None:
        super().__init__()
        self.pose = pose
        self.trajectory = trajectory

    def forward(self, screen: Tensor, canonical: Tensor) -> tuple[Tensor, Tensor]:
        pose: Tensor = self.pose(screen)[:, 0]
        return pose, self.trajectory(canonical.flatten(2), pose.flatten(1))
