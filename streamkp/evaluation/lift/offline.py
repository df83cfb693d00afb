"""Whole sequences through the lifters that read windows, each with its own steps before and after the network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from streamkp.errors import ModelError, UsageError
from streamkp.evaluation.lift import lifter_windows
from streamkp.hub import catalog, store
from streamkp.models import registry, settings, zoo
from streamkp.models.lift.hdformer_windows import PersonViewWindows
from streamkp.models.lift.lifter_choices import Choices
from streamkp.models.lift.lifters import LIFTERS
from streamkp.models.lift.whole_windows import WindowNetwork
from streamkp.motion import tpnet
from streamkp.motion.camera import Intrinsics, screen_coordinates
from streamkp.motion.sliding_window import pad_edges, plan_tiles
from streamkp.runtimes.torch import open_run, uses_cuda

if TYPE_CHECKING:
    from torch import nn

Floats = NDArray[np.floating[Any]]

# (points [T, 17, 3]: x, y in pixels and score; image width and height; lens) -> poses [T, 17, 3] in metres, camera
# axes, root at the origin
Offline = Callable[[Floats, tuple[int, int], Intrinsics], Floats]

THREADS = 2
CHUNK = 2000  # frames of the convolutional networks at once
_HIP = 0


@dataclass(frozen=True)
class Opened:
    """A lifter for whole sequences, the layout of the 2D poses that it reads, and what it is made of.

    `windows` is the network where it gives a pose for every frame of a window, otherwise None.
    """

    lift: Offline
    skeleton: str
    windows: WindowNetwork | None = None


def open_offline(name: str, checkpoint: Path | None = None) -> Opened:
    """A lifter by catalog name or checkpoint file.

    Without `checkpoint` the weights of the catalog are used, and fetched if absent. Raises `UsageError` for a model
    that lifts no 2D poses, `ModelError` for one that is unknown, cannot be fetched, or does not fit its checkpoint.
    """
    network_name, skeleton, weights = _which(name, checkpoint)
    if network_name == "hdformer":
        windows = _open_windows(weights)
        return Opened(_checked(name, _windows(windows)), skeleton, windows)
    network = zoo.load(network_name, weights)
    lift = _tpnet(network, weights) if network_name == "tpnet" else _videopose3d(network)
    return Opened(_checked(name, lift), skeleton)


def _open_windows(weights: Path) -> WindowNetwork:
    choices = Choices(cuda=uses_cuda("auto", "auto"), open_run=partial(open_run, threads=THREADS), threads=THREADS)
    if weights.suffix == ".onnx" and not choices.cuda:
        from streamkp.models.lift import onnx_lifters

        return onnx_lifters.open_windows(weights, choices)
    zoo.require_torch("hdformer")
    from streamkp.models.lift import lifter_networks

    return lifter_networks.open_windows(weights, choices)


def _which(name: str, checkpoint: Path | None) -> tuple[str, str, Path]:
    """The network, the layout that it reads, and the file with its weights."""
    lifters = {row.name: row for row in catalog.table().model if row.task == "body-3d-keypoints"}
    able = f"Models that it can measure: {', '.join(row.name for row in lifters.values() if row.network)}"
    if name in LIFTERS:
        raise UsageError(
            f"{name} takes its poses from images, not from windows of 2D poses: `eval lifter` cannot measure it. {able}"
        )
    file = Path(name).expanduser()
    if file.suffix == ".onnx" and file.is_file():
        return "hdformer", "h36m17", file  # the one lifter that there is in this format
    if name not in lifters and file.is_file():
        from streamkp.models.lift import lifter_networks

        return lifter_networks.tell(file), "h36m17", file
    row = catalog.get(name)
    if row.network is None or row.name not in lifters:
        raise UsageError(f"`eval lifter` cannot measure {name}, a model for {row.task}. {able}")
    return registry.network_name(row), row.input_skeleton or "h36m17", checkpoint or store.path(row.name)


def _checked(name: str, lift: Offline) -> Offline:
    def checked(points: Floats, size: tuple[int, int], lens: Intrinsics) -> Floats:
        poses = lift(points, size, lens)
        if not np.isfinite(poses).all():
            raise ModelError(f"{name} gave values that are not finite")
        return poses - poses[:, _HIP : _HIP + 1]

    return checked


def _windows(network: WindowNetwork) -> Offline:
    """Windows side by side, as in the evaluation of HDFormer's authors; overlapping ones for the shipped network."""
    shipped = isinstance(network, PersonViewWindows)

    def lift(points: Floats, size: tuple[int, int], lens: Intrinsics) -> Floats:
        if shipped:
            return lifter_windows.blend(network, points, size, lens, network.frames // 2)
        tiles = plan_tiles(len(points), network.frames, network.frames)
        return lifter_windows.spread(network, points, size, lens, tiles)

    return lift


def _tpnet(network: nn.Module, weights: Path) -> Offline:
    options = settings.configuration(weights).get("model", {}).get("MODEL", {})
    offsets = bool(options.get("USE_2D_OFFSETS", False))
    pose: Any = network.model_pos  # the trajectory is not measured

    def lift(points: Floats, size: tuple[int, int], lens: Intrinsics) -> Floats:
        padded, _ = tpnet.network_inputs(points[..., :2], lens, size, pose.padding, offsets)
        return _in_chunks(pose, padded[0])

    return lift


def _videopose3d(network: nn.Module) -> Offline:
    pose: Any = getattr(network, "model_pos", network)

    def lift(points: Floats, size: tuple[int, int], lens: Intrinsics) -> Floats:
        screen = screen_coordinates(points[..., :2], *size)
        return _in_chunks(pose, pad_edges(screen, *pose.padding).astype(np.float32))

    return lift


def _in_chunks(network: Any, padded: Floats) -> Floats:
    """A sequence [T + padding, 17, 2] through a convolutional network, some frames at a time -> [T, 17, 3]."""
    import torch

    around = network.receptive_field - 1
    starts = range(0, len(padded) - around, CHUNK)
    with torch.inference_mode():
        parts = [network(torch.from_numpy(padded[None, i : i + CHUNK + around])) for i in starts]
    return np.concatenate([part[0].numpy() for part in parts])
