"""HDFormer: the one shipped with streamkp (`person_view`) and that of its authors (`published`).

The input channels of a checkpoint tell which of the two it is. The shipped one is an ONNX file that OpenVINO runs
without torch; the same file fills the network in torch.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from streamkp.errors import ModelError
from streamkp.hub.catalog import Model
from streamkp.models import settings, zoo
from streamkp.models.lift.base import LifterOptions, Memory, WindowNetwork
from streamkp.models.lift.hdformer import person_view, published
from streamkp.models.lift.hdformer.windows import SequenceOfWindows, StridedWindows, lookahead_and_stride
from streamkp.models.registry import ModelFile
from streamkp.packet import WindowRequest
from streamkp.runtimes.base import NetworkSource, RunOptions, choose, open_network
from streamkp.runtimes.openvino import read_signature

Float32 = NDArray[np.float32]

SHIPPED = "hdformer-streamkp"
_JOINTS = 17
_INPUT, _OUTPUT = "x", "poses"

log = logging.getLogger("streamkp.models")


def recognise(file: ModelFile) -> Model | None:
    """The row of a file: the shipped one's for ONNX files of its shapes and for checkpoints with its channels."""
    from streamkp.hub import catalog

    if file.signature is not None:
        return catalog.get(SHIPPED) if file.path.suffix == ".onnx" and _is_person_view(file.path) else None
    row = file.fitting(__name__)
    return None if row is None else catalog.get(SHIPPED if _channels(file.path) == person_view.CHANNELS else "hdformer")


def window(name: str, row: Model, path: Path | None, options: LifterOptions) -> WindowRequest:
    """16 poses at 30 Hz, or 96 at 50 Hz; a file of one's own tells by its channels."""
    shipped = row.rate == person_view.RATE
    if path is not None and path.suffix != ".onnx" and path.is_file():
        shipped = _channels(path) == person_view.CHANNELS
    network = person_view if shipped else published
    return WindowRequest(name, row.input_skeleton or "h36m17", network.RATE, network.FRAMES, least=network.FRAMES)


def open_live(name: str, row: Model, path: Path, options: LifterOptions, memory: Memory | None) -> StridedWindows:
    """See `streamkp.models.lift.base`."""
    # What no such network can do is an error before anything is read.
    lookahead_and_stride(name, row.frames or published.FRAMES, options, memory=memory is not None, cuda=False)
    windows, cuda = _open(name, row, path, options)
    lookahead, stride = lookahead_and_stride(name, windows.frames, options, memory=memory is not None, cuda=cuda)
    return StridedWindows(windows, lookahead=lookahead, stride=stride, memory=memory)


def open_sequence(name: str, row: Model, path: Path, options: LifterOptions) -> SequenceOfWindows:
    """See `streamkp.models.lift.base`. Windows overlap for the shipped network, and lie side by side for the other."""
    windows, _ = _open(name, row, path, options)
    step = windows.frames // 2 if isinstance(windows, person_view.PersonViewNetwork) else None
    return SequenceOfWindows(windows, step)


def _open(name: str, row: Model, path: Path, options: LifterOptions) -> tuple[WindowNetwork, bool]:
    """The network with what comes before and after it, and whether it runs on CUDA."""
    onnx = path.suffix == ".onnx"
    if onnx and not _is_person_view(path):
        signature = read_signature(path)
        shapes = [*signature.inputs.values(), *signature.outputs.values()]
        found = " to ".join(str(list(shape)) for shape in shapes)
        wanted = " to ".join(str([-1, n, person_view.FRAMES, _JOINTS]) for n in (person_view.CHANNELS, 3))
        raise ModelError(f"{path} is not a lifter: it is a network from {found}, and one from {wanted} is needed")
    channels = person_view.CHANNELS if onnx else _channels(path, row.name)
    frames = person_view.FRAMES if channels == person_view.CHANNELS else published.FRAMES
    source = zoo.source(row.name, row, path, {_INPUT: (channels, frames, _JOINTS)}, (_OUTPUT,))
    source = replace(source, file=path) if onnx else source
    cuda = choose(source, options.run)[1] == "cuda"
    run = _run(source, replace(options.run, buckets=None) if cuda else options.run)
    flip = options.flip is not False
    if channels == person_view.CHANNELS:
        return person_view.PersonViewNetwork(run, flip=flip, trajectory=options.trajectory), cuda
    plane, space = settings.statistics(path, 2), settings.statistics(path, 3)
    if plane is None or space is None:
        log.warning(
            "mean_std_2d.npy and mean_std_3d.npy are not beside %s: the poses are scaled by default statistics, "
            "and will be less exact than with the network's own", path,
        )  # fmt: skip
    plane, space = plane or published.DEFAULT_PLANE, space or published.DEFAULT_SPACE
    return published.PublishedNetwork(run, plane, space, flip=flip, trajectory=options.trajectory), cuda


def _run(source: NetworkSource, options: RunOptions) -> Callable[[Float32], Float32]:
    network = open_network(source, options)
    return lambda inputs: cast(Float32, network({_INPUT: inputs})[_OUTPUT])


def _is_person_view(path: Path) -> bool:
    signature = read_signature(path)
    shapes = [*signature.inputs.values(), *signature.outputs.values()]
    return shapes == [(-1, n, person_view.FRAMES, _JOINTS) for n in (person_view.CHANNELS, 3)]


def _channels(path: Path, name: str = "hdformer") -> int:
    """Input channels of the network in a checkpoint. Raises `ModelError` if it is of another network."""
    zoo.require_torch(name)
    from streamkp.models import checkpoint
    from streamkp.models.networks import hdformer

    weights = checkpoint.read(path)
    channels = hdformer.infer_config(weights, {}).get("in_channels")
    if channels is None:
        zoo.load(name, path)  # says which network it is of
        raise ModelError(f"{path} is not a checkpoint of {name}")
    return cast(int, channels)
