"""From people in an image to people in space: what a lifter must offer, and how to open one."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from streamkp.errors import ModelError
from streamkp.packet import Keypoints3D, Packet, Person


class Lifter(Protocol):
    """Gives people a third dimension. Used by one thread at a time.

    A lifter that reads windows names the layout (`skeleton`), the number of poses (`frames`) and the rate in Hz
    (`rate`) that it wants them in; the `window` stage above must be set to these. One that does not has
    `skeleton` None and `frames` 0.
    """

    name: str
    skeleton: str | None
    skeleton_3d: str
    frames: int
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
    rate: float | None = None

    def lift(self, people: Sequence[tuple[Packet, Person]]) -> list[Keypoints3D | None]:
        """`world` of each person; None for a person without, such as a predicted one."""
        return [
            None if person.world is None else replace(person.world, frame_seq=packet.seq) for packet, person in people
        ]

    def close(self) -> None:
        """Nothing to let go of."""


# name -> how to open it with (look-ahead in frames, CPU threads)
LIFTERS: dict[str, Callable[[int, int], Lifter]] = {
    "blazepose-world": lambda lookahead, threads: BlazePoseWorld(),
}


def open_lifter(model: str, *, lookahead: int = 0, threads: int = 2) -> Lifter:
    """A lifter by catalog name, giving the pose of `lookahead` frames before the newest, on `threads` CPU threads.

    Raises `ModelError` if there is no such lifter.
    """
    if model not in LIFTERS:
        near = difflib.get_close_matches(model, LIFTERS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"the lifters are {', '.join(LIFTERS)}"
        raise ModelError(f"there is no lifter named {model!r}; {hint}")
    return LIFTERS[model](lookahead, threads)
