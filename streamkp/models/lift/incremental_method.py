"""From windows to an incremental network: what is new in each, and how to go on when it is not what was expected."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkp import skeletons
from streamkp.models.lift.incremental import IncrementalNetwork, Track
from streamkp.models.lift.lifter_choices import Memory
from streamkp.models.lift.window_lifters import H36M_RATE, Clip
from streamkp.motion.mirror import flip_average, mirror

Floats = NDArray[np.floating[Any]]
Float32 = NDArray[np.float32]

_H36M17 = skeletons.get("h36m17")


@dataclass(slots=True)
class _Remembered:
    pts: int = 0
    newest: Floats = field(default_factory=lambda: np.empty(0))  # pixels [17, 2]: the pose at `pts`
    track: Track = field(default_factory=Track)
    mirrored: Track = field(default_factory=Track)
    pose: Floats = field(default_factory=lambda: np.empty(0))  # [17, 3], the last result


class IncrementalMethod:
    """A `Method` (see `streamkp.models.lift.window_lifters`) that reads of each window only the poses that are new.

    A window that does not go on from where the track was (a silence, a camera changed, more frames lost than it
    holds) begins anew: its poses go through the network one after the other, which gives what the whole window would.
    """

    rate = H36M_RATE

    def __init__(
        self,
        network: IncrementalNetwork,
        prepare: Callable[[Clip, int], tuple[Float32, ...]],
        memory: Memory,
        *,
        frames: int,
        lookahead: int,
        flip: bool,
    ) -> None:
        """`prepare` as for `ConvolutionMethod`. Whoever gives `memory` deletes the tracks that end from it."""
        self.frames = frames
        self.lookahead = lookahead
        self._network, self._prepare, self._memory, self._flip = network, prepare, memory, flip

    def poses(self, clips: Sequence[Clip]) -> tuple[Floats, None]:
        """See `Method`; each track at most once."""
        people, behind = [], []
        for clip in clips:
            points = clip.points[-len(clip.pts) :]
            known = self._memory.pop(clip.track, None)  # comes back when all went well
            new = None if known is None else clip.rows_after(known.pts, known.newest)
            person = _Remembered() if new is None else known
            if new != 0:
                fresh = points if new is None else points[-new:]
                behind.append((person, self._prepare(replace(clip, points=fresh), 0)[0][0]))
                person.pts, person.newest = int(clip.pts[-1]), points[-1]
            people.append(person)
        if behind:
            self._step([person for person, _ in behind], [poses for _, poses in behind])
        self._memory.update(zip((clip.track for clip in clips), people, strict=True))
        return np.stack([person.pose for person in people]).astype(np.float64), None

    def _step(self, people: Sequence[_Remembered], poses: Sequence[Float32]) -> None:
        tracks, inputs = [known.track for known in people], list(poses)
        if self._flip:
            tracks += [known.mirrored for known in people]
            inputs += [mirror(new, _H36M17) for new in poses]
        out: Floats = self._network.step(tracks, inputs)
        if self._flip:
            out = flip_average(out[: len(people)], out[len(people) :], _H36M17)
        for known, pose in zip(people, out, strict=True):
            known.pose = pose
