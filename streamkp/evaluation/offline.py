"""Whole sequences through the lifters that read windows, each with its own steps before and after the network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from streamkp.errors import ModelError, UsageError
from streamkp.models import catalog, hub, settings, zoo
from streamkp.models.lifters import LIFTERS
from streamkp.motion import hdformer, tpnet
from streamkp.motion.camera import Intrinsics, screen_coordinates
from streamkp.motion.tiling import cut, join, pad_edges, plan_tiles

if TYPE_CHECKING:
    from torch import nn

Floats = NDArray[np.floating[Any]]

# (points [T, 17, 3]: x, y in pixels and score; image width and height; lens) -> poses [T, 17, 3] in metres, camera
# axes, root at the origin
Offline = Callable[[Floats, tuple[int, int], Intrinsics], Floats]

BATCH = 16  # windows of HDFormer at once
CHUNK = 2000  # frames of the convolutional networks at once
_HIP = 0


def open_offline(name: str, checkpoint: Path | None = None) -> tuple[Offline, str]:
    """A lifter for whole sequences, and the layout of the 2D poses that it reads.

    Without `checkpoint` the weights of the catalog are used, and fetched if absent. Raises `UsageError` for a model
    that lifts no 2D poses, `ModelError` for one that is unknown, cannot be fetched, or does not fit its checkpoint.
    """
    known = {model.name for model in catalog.table().model if model.task == "body-3d-keypoints"}
    if name in LIFTERS and name not in known:
        raise UsageError(
            f"{name} does not lift 2D poses: it reads images, which this data has none of, "
            f"so that `eval lifter` cannot measure it. Models that it can measure: {', '.join(sorted(known))}"
        )
    model = catalog.get(name)
    if model.task != "body-3d-keypoints" or model.network is None:
        raise UsageError(f"{name} is for {model.task}, and does not lift 2D poses. See {', '.join(sorted(known))}")
    weights = checkpoint or hub.path(model.name)
    network = zoo.load(model.network, weights)
    if model.network == "hdformer":
        lift = _hdformer(network, weights)
    elif model.network == "tpnet":
        lift = _tpnet(network, weights)
    else:
        lift = _videopose3d(network)
    return _checked(model.name, lift), model.input_skeleton or "h36m17"


def _checked(name: str, lift: Offline) -> Offline:
    def checked(points: Floats, size: tuple[int, int], lens: Intrinsics) -> Floats:
        poses = lift(points, size, lens)
        if not np.isfinite(poses).all():
            raise ModelError(f"{name} gave values that are not finite")
        return poses - poses[:, _HIP : _HIP + 1]

    return checked


def _hdformer(network: nn.Module, weights: Path) -> Offline:
    """Windows side by side, as in the evaluation of its authors, averaged with those of the mirrored person."""
    import torch

    before, after = settings.statistics(weights, 2), settings.statistics(weights, 3)
    if before is None or after is None:
        raise ModelError(f"{weights}: HDFormer needs mean_std_2d.npy and mean_std_3d.npy, and they must lie beside it")
    mean, std = (torch.from_numpy(v.T[None, :, None]).float() for v in (after.mean, after.std))

    def lift(points: Floats, size: tuple[int, int], lens: Intrinsics) -> Floats:
        tiles = plan_tiles(len(points), hdformer.FRAMES, hdformer.FRAMES)
        windows = cut(points[..., :2], tiles, hdformer.FRAMES)
        inputs = hdformer.network_inputs(windows, lens, before.mean, before.std)
        with torch.inference_mode():
            plain, flipped = (
                np.concatenate(
                    [network(torch.from_numpy(x[i : i + BATCH]), mean, std).numpy() for i in range(0, len(x), BATCH)]
                )
                for x in inputs
            )
        return join(hdformer.network_outputs(plain, flipped), tiles)

    return lift


def _tpnet(network: nn.Module, weights: Path) -> Offline:
    """The root-relative pose; the trajectory is not measured."""
    options = settings.configuration(weights).get("model", {}).get("MODEL", {})
    offsets, canonical = bool(options.get("USE_2D_OFFSETS", False)), bool(options.get("USE_CANONICAL_COORDS", True))
    padding: Any = network.padding

    def lift(points: Floats, size: tuple[int, int], lens: Intrinsics) -> Floats:
        pose, plane = tpnet.network_inputs(points[..., :2], lens, size, padding, offsets, canonical)
        return _in_chunks(network, sum(padding), pose[0], plane[0])

    return lift


def _videopose3d(network: nn.Module) -> Offline:
    padding: Any = network.padding

    def lift(points: Floats, size: tuple[int, int], lens: Intrinsics) -> Floats:
        screen = screen_coordinates(points[..., :2], *size)
        return _in_chunks(network, sum(padding), pad_edges(screen, *padding).astype(np.float32))

    return lift


def _in_chunks(network: nn.Module, around: int, *padded: Floats) -> Floats:
    """Sequences [T + around, 17, 2] through a convolutional network, some frames at a time -> [T, 17, 3]."""
    import torch

    poses = []
    with torch.inference_mode():
        for start in range(0, len(padded[0]) - around, CHUNK):
            out = network(*(torch.from_numpy(x[None, start : start + CHUNK + around]) for x in padded))
            poses.append((out[0] if isinstance(out, tuple) else out)[0].numpy())
    return np.concatenate(poses)
