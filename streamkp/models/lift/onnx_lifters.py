"""Lifters in ONNX files, such as the shipped one, run by OpenVINO without torch."""

from __future__ import annotations

from pathlib import Path

from streamkp.errors import ModelError
from streamkp.models.lift.hdformer_windows import PersonViewWindows
from streamkp.models.lift.lifter_choices import Choices
from streamkp.models.lift.whole_windows import WholeWindows, plan
from streamkp.motion import person_view
from streamkp.runtimes.openvino import OpenVinoModel, OpenVinoRun

_JOINTS = 17


def open_windows(path: Path, choices: Choices) -> PersonViewWindows:
    """The network in an ONNX file. Raises `ModelError` if it is not one from windows [B, 4, 16, 17] to [B, 3, 16, 17].

    What it reads and gives is told in `streamkp.motion.person_view`.
    """
    model = OpenVinoModel(path)
    window = (person_view.FRAMES, _JOINTS)
    shapes = [*model.signature.inputs.values(), *model.signature.outputs.values()]
    if shapes != [(-1, person_view.CHANNELS, *window), (-1, 3, *window)]:
        found = " to ".join(str(list(shape)) for shape in shapes)
        raise ModelError(
            f"{path} is not a lifter: it is a network from {found}, and one from "
            f"{[-1, person_view.CHANNELS, *window]} to {[-1, 3, *window]} is needed"
        )
    flip = choices.flip is not False
    fixed = [(1 + flip, person_view.CHANNELS, *window)]
    run = OpenVinoRun(model.graph(), threads=choices.threads, fixed=fixed)
    return PersonViewWindows(run, flip=flip, trajectory=choices.trajectory)


def open_method(name: str, path: Path, choices: Choices) -> WholeWindows:
    """The lifter in an ONNX file; see `open_windows`. Raises `UsageError` for choices that it cannot fulfil."""
    lookahead, hop = plan(name, PersonViewWindows.frames, choices)
    return WholeWindows(open_windows(path, choices), lookahead=lookahead, hop=hop, memory=choices.memory)
