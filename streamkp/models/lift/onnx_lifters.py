"""Lifters in ONNX files, such as the shipped one, run by OpenVINO without torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamkp.errors import ModelError
from streamkp.models.lift.hdformer_windows import PersonViewWindows
from streamkp.models.lift.lifter_choices import Choices
from streamkp.models.lift.whole_windows import WholeWindows, plan
from streamkp.motion import person_view
from streamkp.runtimes.base import NetworkSource, RunOptions, open_network
from streamkp.runtimes.openvino import read_signature

_JOINTS = 17


def open_windows(path: Path, choices: Choices) -> PersonViewWindows:
    """The network in an ONNX file. Raises `ModelError` if it is not one from windows [B, 4, 16, 17] to [B, 3, 16, 17].

    What it reads and gives is told in `streamkp.motion.person_view`.
    """
    signature = read_signature(path)
    window = (person_view.FRAMES, _JOINTS)
    shapes = [*signature.inputs.values(), *signature.outputs.values()]
    if shapes != [(-1, person_view.CHANNELS, *window), (-1, 3, *window)]:
        found = " to ".join(str(list(shape)) for shape in shapes)
        raise ModelError(
            f"{path} is not a lifter: it is a network from {found}, and one from "
            f"{[-1, person_view.CHANNELS, *window]} to {[-1, 3, *window]} is needed"
        )
    flip = choices.flip is not False
    options = RunOptions("cpu", "openvino", choices.threads, buckets=(1, 2, 4, 8))
    network = open_network(NetworkSource(path.name, file=path), options)
    (name,) = network.inputs

    def run(*inputs: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        return tuple(network({name: inputs[0]}).values())

    return PersonViewWindows(run, flip=flip, trajectory=choices.trajectory)


def open_method(name: str, path: Path, choices: Choices) -> WholeWindows:
    """The lifter in an ONNX file; see `open_windows`. Raises `UsageError` for choices that it cannot fulfil."""
    lookahead, hop = plan(name, PersonViewWindows.frames, choices)
    return WholeWindows(open_windows(path, choices), lookahead=lookahead, hop=hop, memory=choices.memory)
