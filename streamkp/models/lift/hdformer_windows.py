"""HDFormer networks with what comes before and after them: that of its authors, and the one shipped with streamkp."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkp.models.lift.window_lifters import H36M_RATE, Clip
from streamkp.models.settings import Statistics
from streamkp.motion import hdformer, person_view
from streamkp.motion.camera import canonical_coordinates
from streamkp.motion.root import locate, split_root
from streamkp.runtimes.torch import Run

Floats = NDArray[np.floating[Any]]


class PublishedWindows:
    """The network of its authors, a `WindowNetwork`: scaled by the statistics of Human3.6M, millimetres."""

    frames = hdformer.FRAMES
    rate = H36M_RATE

    def __init__(
        self, run: Run, plane: Statistics, space: Statistics, *, flip: bool = True, trajectory: bool = False
    ) -> None:
        self._run, self._plane, self._flip, self._trajectory = run, plane, flip, trajectory
        self._mean, self._std = (values.T[None, :, None] for values in (space.mean, space.std))

    def rows(self, clips: Sequence[Clip], start: int, stop: int) -> tuple[Floats, Floats | None]:
        """See `WindowNetwork`."""
        pairs = [
            hdformer.network_inputs(clip.points[None], clip.camera, self._plane.mean, self._plane.std) for clip in clips
        ]
        inputs = [plain for plain, _ in pairs] + [flipped for _, flipped in pairs if self._flip]
        (raw,) = self._run(np.concatenate(inputs))
        millimetres = raw[:, :, start:stop] * self._std + self._mean
        poses: Floats = np.moveaxis(millimetres, 1, 3) / hdformer.MILLIMETRES
        if self._flip:
            poses = hdformer.network_outputs(millimetres[: len(clips)], millimetres[len(clips) :])
        return poses, _places(poses, clips, start, stop) if self._trajectory else None


class PersonViewWindows:
    """The shipped network, a `WindowNetwork`: each person as a camera that looks straight at them sees them."""

    frames = person_view.FRAMES
    rate = person_view.RATE

    def __init__(self, run: Run, *, flip: bool = True, trajectory: bool = False) -> None:
        self._run, self._flip, self._trajectory = run, flip, trajectory

    def rows(self, clips: Sequence[Clip], start: int, stop: int) -> tuple[Floats, Floats | None]:
        """See `WindowNetwork`."""
        canonical = np.stack([canonical_coordinates(clip.points, clip.camera) for clip in clips])
        inputs, turns = person_view.network_inputs(canonical, np.stack([clip.scores for clip in clips]))
        if self._flip:
            inputs = np.concatenate([inputs, person_view.mirrored(inputs)])
        raw: Floats = self._run(inputs)[0][:, :, start:stop]
        if self._flip:
            raw = (raw[: len(clips)] + person_view.mirrored(raw[len(clips) :])) / 2
        poses = person_view.network_outputs(raw, turns)
        return poses, _places(poses, clips, start, stop) if self._trajectory else None


def _places(poses: Floats, clips: Sequence[Clip], start: int, stop: int) -> Floats:
    """Where joint 0 is [B, n, 3], for the poses [B, n, 17, 3] to be seen where the joints are in the image."""
    found = [
        locate(relative, clip.points[start:stop], clip.camera, clip.scores[start:stop])
        for relative, clip in zip(split_root(poses)[0], clips, strict=True)
    ]
    return np.stack(found)
