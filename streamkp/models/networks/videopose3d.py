"""VideoPose3D: a sequence of 2D poses to 3D poses through dilated temporal convolutions.

Pavllo et al., "3D human pose estimation in video with temporal convolutions and semi-supervised training",
CVPR 2019 (arXiv 1811.11742). The same network under other names is in MMPose (`VideoPoseLift`) and, as the pose
half, in ModelScope's canonical-pose model.

Parameter names are those of the original repository; `rename_keys` translates MMPose's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class VideoPose3D(nn.Module):
    """[B, T, 17, 2] -> [B, T - receptive_field + 1, 17, 3].

    Input: screen coordinates, x in -1..1 over the image width, y to the same scale, y down.
    Output: metres in camera axes, relative to the root (joint 0).

    Convolution i has `filter_widths[i]` taps, `dilations[i]` frames apart, and its residual is the tap
    `residual_taps[i]`: the middle one, or the newest when `causal`. These three lists, and `stem`, `layer` and
    `head`, are all that a form which computes one frame at a time needs; the weights do not depend on `causal`.

    With `strided` the network computes only every `receptive_field`-th output, so a batch of windows of exactly
    one receptive field costs far less (the "optimised 1 frame" form; same weights, same results).

    Args:
        filter_widths: odd; the receptive field is their product.
        causal: look back only; pad the sequence with `padding` to get as many outputs as inputs.
    """

    def __init__(
        self,
        filter_widths: Sequence[int] = (3, 3, 3),
        joints: int = 17,
        in_features: int = 2,
        joints_out: int = 17,
        channels: int = 1024,
        dropout: float = 0.25,
        causal: bool = False,
        strided: bool = False,
    ) -> None:
        super().__init__()
        if any(width % 2 == 0 for width in filter_widths):
            raise ValueError(f"filter widths must be odd, not {list(filter_widths)}")
        self.filter_widths = tuple(filter_widths)
        self.dilations = tuple(prod(self.filter_widths[:i]) for i in range(len(self.filter_widths)))
        self.residual_taps = tuple(width - 1 if causal else width // 2 for width in self.filter_widths)
        self.joints_out = joints_out
        self.causal = causal
        self.strided = strided

        def convolution(inputs: int, i: int) -> nn.Conv1d:
            width = self.filter_widths[i]
            stride, dilation = (width, 1) if strided else (1, self.dilations[i])
            return nn.Conv1d(inputs, channels, width, stride=stride, dilation=dilation, bias=False)

        self.expand_bn = nn.BatchNorm1d(channels)
        self.shrink = nn.Conv1d(channels, joints_out * 3, 1)
        self.expand_conv = convolution(joints * in_features, 0)
        self.layers_conv = nn.ModuleList()
        self.layers_bn = nn.ModuleList()
        for i in range(1, len(self.filter_widths)):
            self.layers_conv.extend([convolution(channels, i), nn.Conv1d(channels, channels, 1, bias=False)])
            self.layers_bn.extend([nn.BatchNorm1d(channels), nn.BatchNorm1d(channels)])
        self.dropout = nn.Dropout(dropout)

    @property
    def receptive_field(self) -> int:
        """Frames that one output depends on."""
        return prod(self.filter_widths)

    @property
    def padding(self) -> tuple[int, int]:
        """Frames to repeat before the first and after the last to get one output per input frame."""
        around = self.receptive_field - 1
        return (around, 0) if self.causal else (around // 2, around // 2)

    def stem(self, x: Tensor) -> Tensor:
        """[B, joints * in_features, T] -> [B, channels, T']."""
        y: Tensor = self.dropout(F.relu(self.expand_bn(self.expand_conv(x))))
        return y

    def layer(self, i: int, x: Tensor) -> Tensor:
        """Layer i (from 1) without its residual: [B, channels, T] -> [B, channels, T']."""
        first, second = 2 * i - 2, 2 * i - 1
        x = self.dropout(F.relu(self.layers_bn[first](self.layers_conv[first](x))))
        y: Tensor = self.dropout(F.relu(self.layers_bn[second](self.layers_conv[second](x))))
        return y

    def residual(self, i: int, x: Tensor) -> Tensor:
        """The input frames that layer i adds to its outputs."""
        tap = self.residual_taps[i]
        if self.strided:
            return x[:, :, tap :: self.filter_widths[i]]
        before = tap * self.dilations[i]
        after = (self.filter_widths[i] - 1 - tap) * self.dilations[i]
        return x[:, :, before : x.shape[2] - after]

    def head(self, x: Tensor) -> Tensor:
        """[B, channels, T] -> [B, T, joints_out, 3]."""
        return torch.unflatten(self.shrink(x).transpose(1, 2), 2, (self.joints_out, 3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x.flatten(2).transpose(1, 2))
        for i in range(1, len(self.filter_widths)):
            x = self.residual(i, x) + self.layer(i, x)
        return self.head(x)


class SemiVideoPose3D(nn.Module):
    """Semi-supervised model: a second network of the same form gives the trajectory of the root.

    Returns (pose, trajectory): [B, T', 17, 3] as for `VideoPose3D`, and [B, T', 1, 3] metres in camera space.
    """

    def __init__(self, filter_widths: Sequence[int] = (3, 3, 3), joints_out: int = 17, **options: Any) -> None:
        super().__init__()
        self.model_pos = VideoPose3D(filter_widths, joints_out=joints_out, **options)
        self.model_traj = VideoPose3D(filter_widths, joints_out=1, **options)

    @property
    def receptive_field(self) -> int:
        return self.model_pos.receptive_field

    @property
    def padding(self) -> tuple[int, int]:
        return self.model_pos.padding

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.model_pos(x), self.model_traj(x)


class OneFrame(nn.Module):
    """One frame of its receptive field: [B, receptive field, 17, 2] -> pose [B, 17, 3].

    With a trajectory network also the position of the root [B, 3].
    """

    inputs = 1

    def __init__(self, pose: VideoPose3D, trajectory: VideoPose3D | None) -> None:
        super().__init__()
        self.pose = pose
        self.trajectory = trajectory

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        pose: Tensor = self.pose(x)[:, 0]
        return pose if self.trajectory is None else (pose, self.trajectory(x)[:, 0, 0])


def strided_form(network: VideoPose3D) -> VideoPose3D:
    """The same network in the form that computes one output per receptive field."""
    joints, channels = network.expand_conv.in_channels // 2, network.expand_conv.out_channels
    twin = VideoPose3D(
        network.filter_widths,
        joints,
        joints_out=network.joints_out,
        channels=channels,
        causal=network.causal,
        strided=True,
    )
    twin.load_state_dict(network.state_dict())
    return twin


def infer_temporal(state: Mapping[str, Tensor], prefix: str = "") -> dict[str, Any]:
    """Arguments of `VideoPose3D` that the shapes tell; {} when the weights are of something else."""
    stem, head = state.get(f"{prefix}expand_conv.weight"), state.get(f"{prefix}shrink.weight")
    if stem is None or head is None or stem.ndim != 3:
        return {}
    widths = [stem.shape[2]]
    while (layer := state.get(f"{prefix}layers_conv.{2 * len(widths) - 2}.weight")) is not None:
        widths.append(layer.shape[2])
    return {
        "filter_widths": tuple(widths),
        "channels": stem.shape[0],
        "joints": stem.shape[1] // 2,
        "joints_out": head.shape[0] // 3,
    }


def infer_config(state: Mapping[str, Tensor], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of either network here; `settings` is not needed (the checkpoints come without any)."""
    prefix = "model_pos." if any(key.startswith("model_pos.") for key in state) else ""
    return infer_temporal(state, prefix)


# MMPose's name -> the original one; 0.x has `keypoint_head` and `traj_head` for the heads.
MMPOSE = [
    (re.compile(r"^(?:keypoint_)?head\.conv\."), "backbone.shrink."),
    (re.compile(r"^traj_head\.conv\."), "traj_backbone.shrink."),
    (re.compile(r"\.expand_conv\.conv\."), ".expand_conv."),
    (re.compile(r"\.expand_conv\.bn\."), ".expand_bn."),
]
MMPOSE_BLOCK = re.compile(r"\.tcn_blocks\.(\d+)\.conv([12])\.0\.(conv|bn)\.")


def _original_key(key: str) -> str:
    for pattern, name in MMPOSE:
        key = pattern.sub(name, key)
    key = MMPOSE_BLOCK.sub(lambda m: f".layers_{m[3]}.{2 * int(m[1]) + int(m[2]) - 1}.", key)
    return re.sub(r"^backbone\.", "model_pos.", re.sub(r"^traj_backbone\.", "model_traj.", key))


def rename_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """MMPose 0.x and 1.x names to the original ones; a pose network alone loses its `model_pos.` prefix."""
    renamed = {_original_key(key): tensor for key, tensor in state.items()}
    if all(key.startswith("model_pos.") for key in renamed):
        return {key.removeprefix("model_pos."): tensor for key, tensor in renamed.items()}
    return renamed
