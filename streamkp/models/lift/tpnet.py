"""TPNet, ModelScope's canonical-pose network: VideoPose3D's pose network and one for the trajectory, at 50 Hz.

Source: ModelScope's `body-3d-keypoints-video` pipeline for canonical poses. `configuration.json` beside the
checkpoint says how its inputs are made.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from streamkp.hub.catalog import Model
from streamkp.models import settings, zoo
from streamkp.models.lift import videopose3d
from streamkp.models.lift.base import LifterOptions, LiveNetwork, Memory
from streamkp.models.lift.videopose3d import ConvolvedSequence, Prepare, open_convolution
from streamkp.models.registry import ModelFile
from streamkp.motion.camera import Intrinsics, canonical_coordinates, screen_coordinates
from streamkp.motion.sliding_window import pad_edges
from streamkp.packet import WindowRequest

Floats = NDArray[np.floating[Any]]


def recognise(file: ModelFile) -> Model | None:
    """The row, if the file has the keys of the network."""
    found = file.fitting(__name__)
    return found if isinstance(found, Model) else None


def window(name: str, row: Model, path: Path | None, options: LifterOptions) -> WindowRequest:
    """As of its pose network."""
    return videopose3d.window(name, row, path, options)


def open_live(name: str, row: Model, path: Path, options: LifterOptions, memory: Memory | None) -> LiveNetwork:
    """See `streamkp.models.lift.base`."""
    from streamkp.models.networks.tpnet import OneFrameWithRoot, TPNet
    from streamkp.models.networks.videopose3d import OneFrame, strided_form

    causal = {} if options.causal is None else {"causal": options.causal}
    network = cast(TPNet, zoo.load(row.name, path, **causal))
    pose = strided_form(network.model_pos)
    frame = OneFrameWithRoot(pose, network.model_traj) if options.trajectory else OneFrame(pose, None)
    return open_convolution(name, path, frame, _prepare(path), options, memory)


def open_sequence(name: str, row: Model, path: Path, options: LifterOptions) -> ConvolvedSequence:
    """See `streamkp.models.lift.base`."""
    from streamkp.models.networks.tpnet import TPNet

    causal = {} if options.causal is None else {"causal": options.causal}
    network = cast(TPNet, zoo.load(row.name, path, **causal))
    return ConvolvedSequence(network.model_pos, _prepare(path), options)


def _prepare(path: Path) -> Prepare:
    beside = settings.configuration(path).get("model", {}).get("MODEL", {})
    offsets, canonical = bool(beside.get("USE_2D_OFFSETS", False)), bool(beside.get("USE_CANONICAL_COORDS", True))

    def prepare(
        points: Floats, camera: Intrinsics, size: tuple[int, int], padding: tuple[int, int]
    ) -> tuple[NDArray[np.float32], ...]:
        return network_inputs(points[..., :2], camera, size, padding, offsets, canonical)

    return prepare


def network_inputs(
    points: Floats,
    camera: Intrinsics,
    size: tuple[int, int],
    padding: tuple[int, int],
    offsets: bool = False,
    canonical: bool = True,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A pixel sequence to what the pose network and the trajectory network read.

    Args:
        points: (T, 17, 2) pixels, Human3.6M joints.
        size: image width and height.
        padding: frames to repeat before and after: the network's `padding`.
        offsets: USE_2D_OFFSETS, poses relative to their root instead of screen coordinates.
        canonical: USE_CANONICAL_COORDS; without it the reference adds the root to the other joints (of the
            canonical coordinates all the same), and the weights were trained with that.

    Returns two float32 arrays (1, T + sum(padding), 17, 2).
    """
    screen = screen_coordinates(points, *size)
    if offsets:
        screen = screen - screen[:, :1]
    plane = canonical_coordinates(points, camera)
    if not canonical:
        plane = np.concatenate([plane[:, :1], plane[:, 1:] + plane[:, :1]], 1)
    pose, trajectory = (pad_edges(sequence, *padding)[None].astype(np.float32) for sequence in (screen, plane))
    return pose, trajectory
