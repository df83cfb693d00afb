"""2D keypoints from one person's crop: heatmap networks (HRNet) and SimCC networks (RTMPose).

A `Framing` says which part of the image a network sees, a `Reader` what it reads there; the estimator is the two of
them together. All conventions are those of the references (MMPose 1.x, EasyCV, ModelScope); see `vision.affine`,
`vision.body15`, `vision.heatmap` and `vision.simcc`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from streamkp.packet import Detections, FloatArray, Image
from streamkp.poses import Pose, Region
from streamkp.runtimes.image_networks import Runner
from streamkp.runtimes.openvino import OpenVinoModel, OpenVinoNetwork, Pixels, Signature
from streamkp.vision import affine, body15, heatmap, simcc

Crop = tuple[Image, Region]
Crops = NDArray[np.uint8]  # (N, H, W, 3) BGR
Back = Callable[[NDArray[Any]], NDArray[Any]]  # points (N, K, 2) in crop pixels to image pixels
Decode = Callable[[NDArray[np.float32]], tuple[NDArray[np.float32], NDArray[np.float32]]]

_SEEN = 0.2  # score from which a joint counts for the next region
_EXPANSION = 1.25  # of the box around the joints: rtmlib's PoseTracker and MMDeploy's use the same
_SLACK = 1.25  # how much larger than needed a region may stay before it shrinks
_BODY = {"wholebody133": slice(0, 17)}  # the joints that tell whether somebody is there
_TELLING = 2 / 3  # quantile of the joint scores that is the presence: a third of the joints must reach it


class Framing(Protocol):
    """From boxes to crops, and back."""

    def region(self, box: FloatArray) -> Region:
        """The region for a box (4,): x, y, w, h in source pixels."""

    def cut(self, crops: Sequence[Crop]) -> tuple[Crops, Back]:
        """The crops, and how points in them go back to their images. Raises ValueError where one is not finite."""


class AffineFraming:
    """MMPose's: the padded box in the network's aspect ratio, black outside the image. `size` is (width, height)."""

    def __init__(self, size: affine.Size) -> None:
        self._size = size

    def region(self, box: FloatArray) -> Region:
        centre, size = affine.crop_region(box, self._size)
        return np.array((*centre[0], *size[0], 0), np.float32)

    def cut(self, crops: Sequence[Crop]) -> tuple[Crops, Back]:
        regions = np.stack([region for _, region in crops]).astype(np.float64)
        matrices = affine.crop_matrix(regions[:, :2], regions[:, 2:4], self._size, np.rad2deg(regions[:, 4]))
        pixels = np.concatenate(
            [affine.crop(image, matrix[None], self._size) for (image, _), matrix in zip(crops, matrices, strict=True)]
        )
        inverse = affine.invert(matrices)
        return pixels, lambda points: affine.transform(inverse, points)


class Body15Framing:
    """ModelScope's: the box a little enlarged, cut at the edges of the image, letterboxed. A region is a plain box."""

    def region(self, box: FloatArray) -> Region:
        x, y, w, h = (float(v) for v in box)
        return np.array((x + w / 2, y + h / 2, w, h, 0), np.float32)

    def cut(self, crops: Sequence[Crop]) -> tuple[Crops, Back]:
        done = [
            body15.crop(image, [(cx - w / 2, cy - h / 2, w, h)])
            for image, (cx, cy, w, h, _) in ((image, region.tolist()) for image, region in crops)
        ]
        placements = [placement for _, placement in done]

        def back(points: NDArray[Any]) -> NDArray[Any]:
            return np.concatenate([body15.to_image(p[None], at) for p, at in zip(points, placements, strict=True)])

        return np.concatenate([pixels for pixels, _ in done]), back


class Reader(Protocol):
    """Reads joints in crops."""

    def read(self, crops: Crops) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Points (N, K, 2) in crop pixels, scores (N, K). Raises `ModelError` if the network gives NaN."""

    def close(self) -> None:
        """Let go of the network."""


class HeatmapReader:
    """A heatmap network; with `mirror` (`Skeleton.mirror`) it looks at each crop and its mirror image."""

    def __init__(self, run: Runner, decode: Decode, mirror: tuple[int, ...] | None = None) -> None:
        self._run = run
        self._decode = decode
        self._mirror = mirror

    def read(self, crops: Crops) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        (maps,) = self._run(affine.network_input(crops))
        if self._mirror is not None:
            (mirrored,) = self._run(affine.network_input(crops[:, :, ::-1]))
            maps = heatmap.flip_average(maps, mirrored, self._mirror)
        return self._decode(maps)

    def close(self) -> None:
        self._run.close()


class SimccReader:
    """An RTMPose ONNX file."""

    @staticmethod
    def fits(signature: Signature) -> bool:
        """Whether a model file has RTMPose's inputs and outputs."""
        return _simcc_outputs(signature) is not None

    def __init__(self, model: OpenVinoModel, *, threads: int, precision: str, batch: int) -> None:
        outputs = _simcc_outputs(model.signature)
        assert outputs is not None
        (_, _, height, width), *_ = model.signature.inputs.values()
        self.size = width, height
        self.joints = model.signature.outputs[outputs[0]][1]
        self._split = model.signature.outputs[outputs[0]][2] / width
        self._network = OpenVinoNetwork(
            model,
            outputs=outputs,
            threads=threads,
            precision=precision,
            pixels=Pixels(rgb=True, mean=affine.IMAGENET_MEAN, scale=affine.IMAGENET_STD),
            max_batch=batch,
        )

    def read(self, crops: Crops) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        parts = []
        done = 0
        while done < len(crops):
            batch = self._network.bucket(len(crops) - done)
            np.copyto(self._network.input(batch), crops[done : done + batch])
            simcc_x, simcc_y = self._network.run(batch)
            parts.append(simcc.decode(simcc_x, simcc_y, self._split))
            done += batch
        points, scores = zip(*parts, strict=True)
        return np.concatenate(points), np.concatenate(scores)

    def close(self) -> None:
        self._network.close()


def _simcc_outputs(signature: Signature) -> tuple[str, str] | None:
    """The names of the distributions over x and over y, by their shapes; None if these are not SimCC's."""
    shapes = list(signature.inputs.values())
    if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][1] != 3 or min(shapes[0][2:]) < 1:
        return None
    height, width = shapes[0][2:]
    outputs = {name: shape for name, shape in signature.outputs.items() if len(shape) == 3 and min(shape[1:]) > 0}
    if len(outputs) != 2 or len(signature.outputs) != 2:
        return None
    first, second = outputs
    if height == width and second == "simcc_x":  # squares look alike
        first, second = second, first
    for x, y in ((first, second), (second, first)):
        (_, joints, across), (_, joints_y, down) = outputs[x], outputs[y]
        if joints == joints_y and across * height == down * width and across % width == 0:
            return x, y
    return None


class TopDownEstimator:
    """Joints of one skeleton by one network. The score of a joint is the network's own, kept within 0..1."""

    def __init__(self, name: str, skeleton: str, framing: Framing, reader: Reader) -> None:
        self.name = name
        self.skeleton = skeleton
        self._framing = framing
        self._reader = reader
        self._telling = _BODY.get(skeleton, slice(None))

    def region_from_box(self, box: FloatArray) -> Region:
        """The region for a person's box (4,): x, y, w, h in source pixels."""
        return self._framing.region(box)

    def region_from_detection(self, detections: Detections, i: int) -> Region:
        """The region for the box of person `i`."""
        return self._framing.region(detections.boxes[i])

    def estimate(self, crops: Sequence[Crop]) -> list[Pose]:
        """The pose in each region, in order. `presence` is the score that a third of the body's joints reach."""
        if not crops:
            return []
        pixels, back = self._framing.cut(crops)
        in_crop, scores = self._reader.read(pixels)
        scores = np.clip(scores, 0, 1)
        points = np.concatenate([back(in_crop), scores[..., None]], axis=-1).astype(np.float32)
        presence = np.quantile(scores[:, self._telling], _TELLING, axis=1)
        return [
            Pose(points[i], float(presence[i]), self._next(points[i], region)) for i, (_, region) in enumerate(crops)
        ]

    def _next(self, points: FloatArray, region: Region) -> Region:
        """Around the joints that are seen. It grows at once, and shrinks only when it is far too large.

        Were it to follow every joint that wavers, what the network sees would change its size with every frame.
        """
        fresh = self._framing.region(_expanded_box(points))
        fresh[2:4] *= np.clip((region[2:4] / fresh[2:4]).min(), 1, _SLACK)
        return fresh

    def close(self) -> None:
        """Let go of the network."""
        self._reader.close()


def _expanded_box(points: FloatArray) -> FloatArray:
    """The box (4,) around the joints that are seen, or around all when fewer than a third are, enlarged."""
    seen = points[points[:, 2] >= _SEEN]
    if 3 * len(seen) < len(points):
        seen = points
    low, high = seen[:, :2].min(axis=0), seen[:, :2].max(axis=0)
    size = np.maximum(high - low, 1) * np.float32(_EXPANSION)
    return np.concatenate([(low + high - size) / 2, size])
