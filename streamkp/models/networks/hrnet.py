"""HRNet: keypoint heatmaps from one person's crop, at a quarter of its resolution.

Sun et al., "Deep High-Resolution Representation Learning for Human Pose Estimation", CVPR 2019; the multi-scale
head is HRNetV2's (Wang et al., TPAMI 2020). Parameters carry MMPose's names; checkpoints with the names of
MMPose 0.x, EasyCV, ModelScope and the original repository load too (`rename_keys`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_STAGES = 3  # after the stem; the first has two branches, each further one more


def _conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1, relu: bool = True) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), *([nn.ReLU()] if relu else []))


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions around a shortcut; the first block of the layer widens to 256 channels."""

    def __init__(self, inputs: int, planes: int) -> None:
        super().__init__()
        outputs = 4 * planes
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = _conv_bn(inputs, outputs, 1, relu=False) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + x)


class HRModule(nn.Module):
    """Parallel branches at 1/4, 1/8, ... resolution, then every output sums all of them, resampled."""

    def __init__(self, channels: list[int], outputs: int, blocks: int, upsample: str) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Sequential(*(BasicBlock(c) for _ in range(blocks))) for c in channels)
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(self._resample(channels, source, target, upsample) for source in range(len(channels)))
            for target in range(outputs)
        )

    @staticmethod
    def _resample(channels: list[int], source: int, target: int, upsample: str) -> nn.Module:
        if source == target:
            return nn.Identity()
        if source > target:
            project = _conv_bn(channels[source], channels[target], 1, relu=False)
            return project.append(nn.Upsample(scale_factor=2 ** (source - target), mode=upsample))
        halve = [_conv_bn(channels[source], channels[source], 3, 2) for _ in range(target - source - 1)]
        return nn.Sequential(*halve, _conv_bn(channels[source], channels[target], 3, 2, relu=False))

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        xs = [branch(x) for branch, x in zip(self.branches, xs, strict=True)]
        fused = []
        for layers in self.fuse_layers:
            assert isinstance(layers, nn.ModuleList)
            parts = [layer(x) for layer, x in zip(layers, xs, strict=True)]
            fused.append(F.relu(reduce(torch.add, parts)))
        return fused


class Backbone(nn.Module):
    """Image to feature maps at 1/4 resolution, or at 1/4, 1/8, 1/16 and 1/32 with `multiscale`."""

    def __init__(self, width: int, multiscale: bool, upsample: str, modules: tuple[int, int, int], blocks: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.conv2 = nn.Conv2d(64, 64, 3, 2, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(Bottleneck(64, 64), *(Bottleneck(256, 64) for _ in range(3)))
        channels = [256]
        for number, count in enumerate(modules, start=1):
            before, channels = channels, [width * 2**i for i in range(number + 1)]
            outputs = [len(channels)] * count
            if number == _STAGES and not multiscale:
                outputs[-1] = 1
            stage = nn.Sequential(*(HRModule(channels, n, blocks, upsample) for n in outputs))
            setattr(self, f"transition{number}", self._transition(before, channels))
            setattr(self, f"stage{number + 1}", stage)

    @staticmethod
    def _transition(before: list[int], after: list[int]) -> nn.ModuleList:
        """Each stage adds one branch, at half the resolution of the last one before it."""
        kept = [nn.Identity() if a == b else _conv_bn(b, a, 3) for b, a in zip(before, after[:-1], strict=True)]
        return nn.ModuleList([*kept, nn.Sequential(_conv_bn(before[-1], after[-1], 3, 2))])

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        xs = [self.layer1(x)]
        for number in range(1, _STAGES + 1):
            sources = [*xs, xs[-1]]
            transition = getattr(self, f"transition{number}")
            xs = getattr(self, f"stage{number + 1}")(
                [layer(source) for layer, source in zip(transition, sources, strict=True)]
            )
        return xs


class Head(nn.Module):
    """A 1x1 convolution to heatmaps; with `multiscale` it mixes the four scales at 1/4 resolution first."""

    def __init__(self, width: int, joints: int, multiscale: bool) -> None:
        super().__init__()
        channels = 15 * width if multiscale else width
        self.conv_layers = (
            nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels), nn.ReLU())
            if multiscale
            else nn.Identity()
        )
        self.final_layer = nn.Conv2d(channels, joints, 1)

    def forward(self, xs: list[Tensor]) -> Tensor:
        size = xs[0].shape[-2:]
        scaled = [F.interpolate(x, size=size, mode="bilinear", align_corners=False) for x in xs[1:]]
        heatmaps: Tensor = self.final_layer(self.conv_layers(torch.cat([xs[0], *scaled], dim=1)))
        return heatmaps


class HRNet(nn.Module):
    """Top-down heatmap network of `width` channels for `joints` keypoints; `multiscale` is the V2 head.

    `upsample`, "nearest" or "bilinear", is how branches of lower resolution are brought up when they are summed:
    weights work only with the one that they were trained with. `modules` per stage and residual `blocks` per branch
    are the same in all published pose networks.

    Input: RGB float32 [B, 3, H, W] with H and W multiples of 32, normalised with ImageNet's mean and standard
    deviation. Output: heatmaps float32 [B, joints, H/4, W/4], unbounded, the maximum being the score; read them
    with `streamkp.vision.heatmap`.
    """

    def __init__(
        self,
        width: int,
        joints: int,
        multiscale: bool = False,
        upsample: str = "nearest",
        modules: tuple[int, int, int] = (1, 4, 3),
        blocks: int = 4,
    ) -> None:
        super().__init__()
        self.backbone = Backbone(width, multiscale, upsample, modules, blocks)
        self.head = Head(width, joints, multiscale)

    def forward(self, image: Tensor) -> Tensor:
        heatmaps: Tensor = self.head(self.backbone(image))
        return heatmaps


def rename_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under MMPose 1.x names; keys that are no HRNet's stay as they are.

    MMPose 0.x and EasyCV say `keypoint_head.` for `head.`; ModelScope and the original repository have no
    `backbone.` prefix, and `final_layer.` is the head. All of them number the multi-scale head's layers
    `final_layer.0`, `.1` and `.3`.
    """
    bare = "conv1.weight" in state
    return {_mmpose_name(key, bare): value for key, value in state.items()}


_HEAD_LAYERS = {
    "final_layer.0.": "conv_layers.0.",
    "final_layer.1.": "conv_layers.1.",
    "final_layer.3.": "final_layer.",
}


def _mmpose_name(key: str, bare: bool) -> str:
    if key.startswith("keypoint_head.") or (bare and key.startswith("final_layer.")):
        key = key.removeprefix("keypoint_head.")
        old = next((old for old in _HEAD_LAYERS if key.startswith(old)), "")
        return "head." + _HEAD_LAYERS.get(old, "") + key.removeprefix(old)
    return f"backbone.{key}" if bare else key
