"""Small networks with the inputs and outputs of the RTMPose project's ONNX files, which are not at hand."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

JOINTS = 17
# A standing person, x and y in the crop. The joints fill 0.64 of its height: the crop of the next frame, enlarged by
# 1.25 twice, is then the same again.
FIGURE = [
    (0.50, 0.18), (0.52, 0.20), (0.48, 0.20), (0.55, 0.21), (0.45, 0.21), (0.60, 0.31), (0.40, 0.31), (0.64, 0.43),
    (0.36, 0.43), (0.66, 0.52), (0.34, 0.52), (0.57, 0.52), (0.43, 0.52), (0.57, 0.67), (0.43, 0.67), (0.57, 0.82),
    (0.43, 0.82),
]  # fmt: skip


class Colours(nn.Module):
    """Joint k is where the crop is reddest, greenest or bluest (k modulo 3)."""

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        channels = image[:, [k % 3 for k in range(JOINTS)]]
        across, down = channels.amax(dim=2), channels.amax(dim=3)
        # Two bins a pixel; the shape is spelled out for the file to name it.
        return (
            torch.stack([across, across], dim=-1).reshape(-1, JOINTS, 2 * image.shape[3]),
            torch.stack([down, down], dim=-1).reshape(-1, JOINTS, 2 * image.shape[2]),
        )


class Figure(nn.Module):
    """The same person in every crop, with certainty 0.9."""

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        nothing = 0 * image.mean(dim=(1, 2, 3))[:, None, None]
        x, y = torch.tensor(FIGURE).T
        width, height = 2 * image.shape[3], 2 * image.shape[2]
        across = (torch.arange(width)[None] - (x * width).round()[:, None]) / 12
        down = (torch.arange(height)[None] - (y * height).round()[:, None]) / 12
        return 0.9 * torch.exp(-(across**2)) + nothing, 0.9 * torch.exp(-(down**2)) + nothing


class _Bright(nn.Module):
    """One person of score 0.9, the bright part of the image, and one of score 0.1, everything; two classes."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    def boxes(self, image: Tensor, scale: int) -> tuple[Tensor, Tensor]:
        bright = image.amin(dim=1) > self.threshold
        edges = [_edges(bright.any(dim=1)), _edges(bright.any(dim=2))]
        (left, right), (top, bottom) = edges
        rows = torch.stack([left, top, right, bottom], dim=-1) * scale
        score = torch.full_like(rows[:, :1], 0.9)
        everything = torch.tensor([[0.0, 0.0, 1000.0, 1000.0, 0.1]]).expand(len(rows), 5)
        dets = torch.stack([everything, torch.cat([rows, score], dim=1)], dim=1)
        kept = (dets[0, :, 4] > 0.05).nonzero().squeeze(1)  # how many there are depends on the image
        return dets[:, kept], torch.zeros_like(dets[:, kept, 0]).long()


def _edges(found: Tensor) -> tuple[Tensor, Tensor]:
    at = torch.arange(found.shape[1]).float()[None]
    return torch.where(found, at, 1e4).amin(dim=1), torch.where(found, at + 1, 0.0).amax(dim=1)


class RtmDet(_Bright):
    """Sees normalised pixels: the grey around the image is about 0, white is over 2."""

    def __init__(self) -> None:
        super().__init__(1.5)
        self.stem = nn.Conv2d(3, 3, 1, bias=False)
        self.stem.weight.data = torch.eye(3)[:, :, None, None]

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return self.boxes(self.stem(image), 1)


class Yolox(_Bright):
    """Sees pixels as they are; begins by taking every other one, as YOLOX does."""

    def __init__(self) -> None:
        super().__init__(200.0)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        corners = [image[:, :, y::2, x::2] for y in (0, 1) for x in (0, 1)]
        return self.boxes(torch.stack(corners).amin(dim=0), 2)


def write_pose(path: Path, network: nn.Module) -> Path:
    """An RTMPose file for any number of crops of 256 x 192."""
    names = ["input", "simcc_x", "simcc_y"]
    _export(path, network, torch.zeros(2, 3, 256, 192), names, {name: {0: "batch"} for name in names})
    return path


def write_detector(path: Path, network: nn.Module) -> Path:
    """A detector file for one image of 320 x 320."""
    dynamic = {"dets": {1: "count"}, "labels": {1: "count"}}
    _export(path, network, torch.rand(1, 3, 320, 320), ["input", "dets", "labels"], dynamic)
    return path


def _export(path: Path, network: nn.Module, x: Tensor, names: list[str], dynamic: dict[str, dict[int, str]]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter that needs no further package is deprecated
        torch.onnx.export(
            network.eval(),
            (x,),
            path,
            input_names=names[:1],
            output_names=names[1:],
            dynamic_axes=dynamic,
            dynamo=False,
        )
