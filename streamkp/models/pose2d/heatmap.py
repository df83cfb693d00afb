"""HRNet and other networks that give one heatmap per joint (MMPose, EasyCV; Apache-2.0).

Options of a row (`ModelSpec.options`): `decode`, "quarter" or "dark", and `blur`, the width of DARK's Gaussian in
heatmap pixels. The conventions are those of MMPose 1.x, see `streamkp.vision.affine` and `streamkp.vision.heatmap`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamkp import skeletons
from streamkp.errors import ModelError
from streamkp.hub.catalog import ModelSpec
from streamkp.models import zoo
from streamkp.models.pose2d.topdown import IMAGENET, AffineFraming, Crops, TopDownEstimator
from streamkp.models.registry import ModelFile, ModelOptions
from streamkp.runtimes.base import Network, open_network
from streamkp.vision import heatmap

Decode = Callable[[NDArray[np.float32]], tuple[NDArray[np.float32], NDArray[np.float32]]]


def recognise(file: ModelFile) -> ModelSpec | None:
    """See `streamkp.models.registry`: the keys and shapes of a checkpoint are those of a row of this family."""
    return file.fitting(__name__)


def open_model(name: str, spec: ModelSpec, path: Path, options: ModelOptions) -> TopDownEstimator:
    """See `streamkp.models.registry`."""
    if spec.skeleton is None or spec.input_size is None:
        raise ModelError(f"the row of {name} needs skeleton and input_size")
    height, width = spec.input_size
    source = zoo.source(name, spec, path, {"image": (3, height, width)}, ("heatmaps",), pixels=IMAGENET)
    network = open_network(source, options.run)
    mirror = skeletons.get(spec.skeleton).mirror if options.flip else None
    reader = HeatmapDecoder(network, decoder(spec), mirror)
    return TopDownEstimator(name, spec.skeleton, AffineFraming((width, height)), reader)


def decoder(spec: ModelSpec) -> Decode:
    """How the heatmaps of a row are read. Raises `ModelError` if its options do not tell."""
    assert spec.input_size is not None
    size = spec.input_size[::-1]
    how = spec.options.get("decode")
    if how == "quarter":
        return partial(heatmap.decode_quarter, input_size=size)
    if how == "dark":
        return partial(heatmap.decode_dark, input_size=size, blur_kernel=spec.options.get("blur", 11))
    raise ModelError(f"decode is one of quarter, dark, not {how!r}")


class HeatmapDecoder:
    """A heatmap network; with `mirror` (`Skeleton.mirror`) it looks at each crop and its mirror image."""

    def __init__(self, network: Network, decode: Decode, mirror: tuple[int, ...] | None = None) -> None:
        self._network = network
        self._decode = decode
        self._mirror = mirror

    def read(self, crops: Crops) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """See `streamkp.models.pose2d.topdown.JointDecoder`."""
        images = crops if self._mirror is None else np.concatenate([crops, crops[:, :, ::-1]])
        (maps,) = self._network({"image": images}).values()
        if self._mirror is not None:
            maps = heatmap.flip_average(maps[: len(crops)], maps[len(crops) :], self._mirror)
        return self._decode(maps)

    def close(self) -> None:
        """Let go of the network."""
        self._network.close()
