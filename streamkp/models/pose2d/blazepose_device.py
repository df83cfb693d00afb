"""BlazePose's landmarks in torch: crops, network and refinement on the device, for all people of all streams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from streamkp.models.networks.tflite import TFLiteNetwork
from streamkp.models.pose2d import blazepose
from streamkp.packet import AnyImage, Detections, FloatArray
from streamkp.poses import Pose, Region
from streamkp.runtimes.base import NetworkSource, RunOptions, TorchModule
from streamkp.runtimes.torch_network import Launched, TorchNetwork
from streamkp.vision.crop import points_to_source
from streamkp.vision.device_image import DeviceImage, Uploader, crop_affine, region_matrices

# Outputs of the file: landmarks, presence, heatmaps, world landmarks. The segmentation mask (Identity_2) is left out.
_OUTPUTS = ("Identity", "Identity_1", "Identity_3", "Identity_4")
_KERNEL = 9  # of the heatmap around a point, as in `streamkp.models.pose2d.blazepose.refine`
_SURE = 0.5


class Landmarks(nn.Module):
    """From crops to refined points: uint8 (N, S, S, 3) RGB to places, visibility, presence and world.

    Places are (N, 35, 2) in units of the crop's size, refined with the heatmaps, visibility (N, 35) and presence
    (N, 1) are 0..1, world is (N, 33, 3) in metres, still in the crop's axes. All but the network is float32.
    """

    outputs = ("places", "visibility", "presence", "world")

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.network = TFLiteNetwork(path, outputs=_OUTPUTS)
        self.size = self.network.input_shape[1]

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        dtype = next(self.network.parameters()).dtype
        landmarks, presence, heatmaps, world = self.network(pixels.to(dtype) / 255)
        values = landmarks.float().unflatten(1, (-1, 5))[:, : blazepose.POINTS]
        places = refine(values[..., :2] / self.size, heatmaps)
        world = world.float().unflatten(1, (-1, 3))[:, : blazepose.JOINTS]
        return places, values[..., 3].sigmoid(), presence, world


def refine(places: Tensor, heatmaps: Tensor) -> Tensor:
    """`streamkp.models.pose2d.blazepose.refine` in torch: places float32 (N, K, 2), heatmaps (N, H, W, >= K)."""
    n, k, _ = places.shape
    height, width = heatmaps.shape[1:3]
    # Made of device operations: a copy from the host could not be recorded in a graph.
    size = torch.arange(2, device=places.device) * (height - width) + width
    cell = (places * size).long()  # towards zero, as in numpy
    reach = torch.arange(-(_KERNEL // 2), _KERNEL // 2 + 1, device=places.device)
    around = cell[..., None] + reach  # (N, K, 2, kernel)
    inside = (around >= 0) & (around < size[:, None])
    cols, rows = around[:, :, 0].clamp(0, width - 1), around[:, :, 1].clamp(0, height - 1)
    sample = torch.arange(n, device=places.device)[:, None, None, None]
    joint = torch.arange(k, device=places.device)[None, :, None, None]
    weights = heatmaps[sample, rows[..., :, None], cols[..., None, :], joint].float().sigmoid()
    weights = weights * (inside[:, :, 1, :, None] & inside[:, :, 0, None, :])
    total = weights.sum((2, 3)).clamp(min=1e-9)
    x = (weights.sum(2) * cols).sum(2) / (total * width)
    y = (weights.sum(3) * rows).sum(2) / (total * height)
    sure = (weights.amax((2, 3)) >= _SURE) & ((cell >= 0) & (cell < size)).all(2)
    return torch.where(sure[..., None], torch.stack((x, y), -1), places)


@dataclass
class BegunPoses:
    """Poses on their way, of `regions` (N, 5)."""

    regions: FloatArray
    pending: Launched

    def result(self) -> list[Pose]:
        """The pose in each region; waits. Raises `ModelError` if the network gave NaN."""
        return poses(self.pending.result(), self.regions)


class BlazePoseOnDevice:
    """33 joints per region, in the image and in space: a `PoseEstimator` whose images may be on the device already."""

    skeleton = "blazepose33"

    def __init__(
        self, name: str, path: Path, options: RunOptions | None = None, device: str = "cuda", **settings: bool
    ) -> None:
        """`settings` are those of `TorchNetwork`, whose errors are raised; `ModelError` if the file is another one."""
        self.name = name
        landmarks = Landmarks(path)
        self.size = landmarks.size
        self._uploader = Uploader(device)
        shape = {"pixels": (self.size, self.size, 3)}
        module = TorchModule(lambda: landmarks, shape, landmarks.outputs, str, uint8=frozenset(shape))
        self.network = TorchNetwork(NetworkSource(name, module=module), options or RunOptions(), device, **settings)

    def region_from_box(self, box: FloatArray) -> Region:
        """The upright square around the box (4,): x, y, w, h; a second pass with `next_region` is more accurate."""
        return blazepose.region_from_box(box)

    def region_from_detection(self, detections: Detections, i: int) -> Region:
        """The region for person `i`: from the alignment points where the detector gives them, else from the box."""
        if detections.anchors is None:
            return blazepose.region_from_box(detections.boxes[i])
        return blazepose.region_from_points(*detections.anchors[i, :2])

    def to_device(self, image: AnyImage) -> DeviceImage:
        """The image where the network is; uploads what is not there yet."""
        return self._uploader.device_image(image)

    def estimate(self, crops: Sequence[tuple[AnyImage, Region]]) -> list[Pose]:
        """The pose in each region, in order. A joint's score is its visibility."""
        uploaded: dict[int, DeviceImage] = {}
        for image, _ in crops:
            if id(image) not in uploaded:
                uploaded[id(image)] = self.to_device(image)
        there = [(uploaded[id(image)], region) for image, region in crops]
        poses: list[Pose] = []
        while len(poses) < len(there):
            count = self.network.most(len(there) - len(poses))
            try:
                poses += self.begin(there[len(poses) : len(poses) + count]).result()
            except torch.OutOfMemoryError:
                self.network.shrink(count)
        return poses

    def begin(self, crops: Sequence[tuple[DeviceImage, Region]]) -> BegunPoses:
        """Start on at most the largest batch of crops; the results are asked for later."""
        images = list({id(image): image for image, _ in crops}.values())
        index = {id(image): i for i, image in enumerate(images)}
        regions = np.stack([region for _, region in crops]).astype(np.float32)
        pixels = self.network.buffers(len(crops))["pixels"]
        matrices = region_matrices(regions, self.size, self.size)
        with self.network.stream(), torch.no_grad():
            crop_affine(images, [index[id(image)] for image, _ in crops], matrices, pixels)
        return BegunPoses(regions, self.network.launch(len(crops)))

    def close(self) -> None:
        """Let go of the network."""
        self.network.close()


def poses(found: dict[str, FloatArray], regions: FloatArray) -> list[Pose]:
    """What `Landmarks` gives for crops of `regions` (N, 5), in the source image and in metres."""
    points = np.concatenate([points_to_source(found["places"], regions), found["visibility"][..., None]], axis=-1)
    world = blazepose.decode_world(found["world"].reshape(len(regions), -1), regions)
    return [
        Pose(
            points=points[i, : blazepose.JOINTS],
            presence=float(found["presence"][i, 0]),
            next_region=blazepose.region_from_points(*points[i, blazepose.JOINTS :, :2]),
            world=world[i],
        )
        for i in range(len(regions))
    ]
