"""Lifts whole sequences: what `streamkp.pipeline`, `streamkp eval` and the trainer use, and what tables measure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkp.errors import ModelError, UsageError
from streamkp.models.lift.base import LifterOptions, RowNetwork, SequenceNetwork, WindowNetwork
from streamkp.models.lift.lifters import WEIGHTLESS, resolve
from streamkp.models.registry import family_of
from streamkp.motion.camera import Intrinsics

Floats = NDArray[np.floating[Any]]


class SequenceLifter:
    """A lifter for whole sequences.

    Attributes:
        name: for messages.
        skeleton: layout of the 2D poses that it reads. It gives `h36m17`.
        rate: poses per second that it was trained with.
        windows: the network where it gives a pose for each frame of a window, otherwise None.
        rows: the network where it reads each row once, otherwise None.
    """

    def __init__(self, name: str, skeleton: str, network: SequenceNetwork) -> None:
        self.name = name
        self.skeleton = skeleton
        self.rate = network.rate
        self.windows: WindowNetwork | None = network.windows
        self.rows: RowNetwork | None = network if isinstance(network, RowNetwork) else None
        self._network = network

    def __call__(self, points: Floats, size: tuple[int, int], camera: Intrinsics) -> Floats:
        """2D poses (T, K, 3) of `skeleton` to 3D poses (T, 17, 3).

        Args:
            points: x and y in pixels and score, at `rate` poses per second.
            size: width and height of the image.
            camera: its intrinsics.

        Returns float64, metres, camera axes, joint 0 at the origin. Raises `ModelError` if a value is not finite.
        """
        poses = np.asarray(self._network.poses(points, size, camera), np.float64)
        if not np.isfinite(poses).all():
            raise ModelError(f"{self.name} gave values that are not finite")
        return poses - poses[:, :1]


def open_sequence_lifter(model: str, options: LifterOptions | None = None) -> SequenceLifter:
    """A lifter for whole sequences by catalog name or checkpoint file; of `options`, those about time do not count.

    Raises:
        ModelError: the model is unknown, cannot be fetched, or does not fit its checkpoint.
        UsageError: it lifts no windows of 2D poses.
    """
    if model in WEIGHTLESS:
        raise UsageError(f"{model} takes its poses from images, not from sequences of 2D poses")
    options = replace(options or LifterOptions(), trajectory=False, incremental=None, lookahead=0, stride=None)
    if options.run.buckets == (1,):
        options = replace(options, run=replace(options.run, buckets=None))  # batches are large
    name, row, path = resolve(model, options.checkpoint)
    network = family_of(row).open_sequence(name, row, path, options)
    return SequenceLifter(name, row.input_skeleton or "h36m17", network)
