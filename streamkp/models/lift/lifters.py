"""From people in an image to people in space: what a lifter must offer, and how to open one."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from streamkp.errors import ModelError, UsageError
from streamkp.hub import catalog, store
from streamkp.models import registry, zoo
from streamkp.models.lift.lifter_choices import Choices
from streamkp.models.lift.window_lifters import Method, WindowLifter
from streamkp.motion.camera import Intrinsics
from streamkp.packet import Keypoints3D, Packet, Person
from streamkp.runtimes.torch import Device, Runtime, open_run, uses_cuda


class Lifter(Protocol):
    """Gives people a third dimension. Used by one thread at a time.

    A lifter that reads windows names the layout (`skeleton`), the number of poses (`frames`) and the rate in Hz
    (`rate`) that it wants them in; set the `window` stage above to these. It lifts the pose `lookahead` before the
    last. One that does not read windows has `skeleton` None and `frames` 0.
    """

    name: str
    skeleton: str | None
    skeleton_3d: str
    frames: int
    lookahead: int
    rate: float | None

    def lift(self, people: Sequence[tuple[Packet, Person]]) -> list[Keypoints3D | None]:
        """The pose in space of each person, all tracks of all streams at once; None where there is nothing to lift.

        `frame_seq` says which frame a pose describes. Raises `ModelError` if the network gives NaN.
        """

    def close(self) -> None:
        """Let go of the network."""


class BlazePoseWorld:
    """Hands on the world landmarks that BlazePose gives beside its 2D keypoints: the frame itself, no window."""

    name = "blazepose-world"
    skeleton: str | None = None
    skeleton_3d = "blazepose33"
    frames = 0
    lookahead = 0
    rate: float | None = None

    def lift(self, people: Sequence[tuple[Packet, Person]]) -> list[Keypoints3D | None]:
        """`world` of each person; None for a person without, such as a predicted one."""
        return [
            None if person.world is None else replace(person.world, frame_seq=packet.seq) for packet, person in people
        ]

    def close(self) -> None:
        """Nothing to let go of."""


# Lifters without weights: name -> how to open one.
LIFTERS: dict[str, Callable[[], Lifter]] = {"blazepose-world": BlazePoseWorld}


def open_lifter(
    model: str,
    *,
    checkpoint: str | Path | None = None,
    lookahead: int | None = 0,
    hop: int | None = None,
    threads: int = 2,
    device: Device = "auto",
    runtime: Runtime = "auto",
    flip: bool | None = None,
    causal: bool | None = None,
    trajectory: bool = False,
    cameras: Mapping[str, Intrinsics] | None = None,
    incremental: bool | None = None,
    memory: MutableMapping[tuple[str, int], Any] | None = None,
) -> Lifter:
    """A lifter by catalog name or file, giving the pose of `lookahead` frames before the newest.

    Args:
        model: catalog name, or a checkpoint whose network its shapes tell.
        lookahead: in frames; None for as many as there are before it, the middle of the window.
        hop: run a network of the HDFormer kind every so many rows of the window (`lift.whole_windows`); a pose
            then comes `hop` - 1 rows later. None for what its cost suggests. Needs `memory`, and is 1 without.
        checkpoint: a file to read instead of the catalog's, of the network that `model` names.
        threads: CPU threads. Those of torch are set for the whole process.
        device, runtime: see `streamkp.runtimes.torch.open_run`.
        flip: average with the mirrored pose; None as the network's reference does (HDFormer does, the others do not).
        causal: a convolution network was trained to see no later frames, which weights do not tell; None as the
            settings beside the checkpoint say, otherwise no.
        trajectory: give `Keypoints3D.root` too (TPNet, the semi-supervised VideoPose3D, and the HDFormer kind, whose
            root is placed by least squares, see `streamkp.motion.root.locate`).
        cameras: intrinsics by stream id; the others as `Intrinsics.assumed`.
        incremental: run a convolution network frame by frame (`lift.incremental`), for windows that each go
            on from the last one of their track; None where that costs less.
        memory: where a lifter keeps what it knows of each track. The caller deletes tracks that end. Without
            it every window is read whole, and may be of any track and time.

    Raises:
        ModelError: there is no such lifter, its weights cannot be fetched or are another's, or there is no torch.
        UsageError: the lifter cannot do what was asked for.
    """
    if model in LIFTERS:
        if lookahead:
            raise UsageError(f"{model} lifts each frame by itself: lookahead must be 0, not {lookahead}")
        if checkpoint is not None or trajectory:
            what = "trajectory" if checkpoint is None else "checkpoint"
            raise UsageError(f"{model} hands on what the 2D network gives: it has no {what}")
        return LIFTERS[model]()
    row = _row(model)
    path = store.path(model) if checkpoint is None else Path(checkpoint).expanduser()
    choices = Choices(
        lookahead=lookahead,
        hop=hop,
        flip=flip,
        causal=causal,
        trajectory=trajectory,
        incremental=incremental,
        memory=memory,
        threads=threads,
        cuda=uses_cuda(device, runtime),
        open_run=partial(open_run, device=device, runtime=runtime, threads=threads),
    )
    name = row.name if row else path.name
    by_torch = runtime == "torch" or device == "cuda" or choices.cuda
    if path.suffix == ".onnx" and not by_torch:
        from streamkp.models.lift import onnx_lifters

        method: Method = onnx_lifters.open_method(name, path, choices)
    else:
        zoo.require_torch(model)
        from streamkp.models.lift import lifter_networks

        network = lifter_networks.tell(path) if row is None else registry.network_name(row)
        method = lifter_networks.open_method(network, path, choices)
    skeleton = (row and row.input_skeleton) or "h36m17"
    return WindowLifter(name, method, skeleton, cameras or {})


def check(model: str) -> None:
    """Raise a `ModelError` if `open_lifter` would find neither a file nor a lifter of that name; fetches nothing."""
    if model not in LIFTERS:
        _row(model)


def _row(model: str) -> catalog.Model | None:
    """The catalog's row of a lifter; None for a file."""
    rows = [row for row in catalog.table().model if row.task == "body-3d-keypoints"]
    for row in rows:
        if model == row.name or model in row.aliases:
            return row
    if Path(model).expanduser().is_file():
        return None
    names = [*LIFTERS, *(row.name for row in rows)]
    near = difflib.get_close_matches(model, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"the lifters are {', '.join(names)}, or name a checkpoint file"
    raise ModelError(f"there is no lifter named {model!r}; {hint}")
