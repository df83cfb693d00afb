"""HDFormer: a window of 2D poses to 3D poses through joint attention of first and higher order.

Chen et al., "HDFormer: High-order Directed Transformer for 3D Human Pose Estimation", IJCAI 2023
(arXiv 2302.01825). A U-shaped network over time: every block mixes the joints with learned adjacency matrices
(first order) and then the frames; the four skip connections from the coarse side also let each joint attend to
the bones and to chains of two, three and four bones (higher order).

Parameter names are those of the public checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Parents of the Human3.6M joints; joint 0 is the root.
PARENTS = (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15)
JOINTS = len(PARENTS)
HEADS = 8
FRAME_MULTIPLE = 16


def chains(bones: int) -> list[tuple[int, ...]]:
    """Downward paths of `bones` bones that the checkpoints have a weight for, as joint indices.

    Two paths that go straight down exist in the skeleton but not in the network: from the root to a shoulder.
    """
    paths = []
    for end in range(1, JOINTS):
        path = [end]
        while len(path) <= bones and path[0] > 0:
            path.insert(0, PARENTS[path[0]])
        if len(path) == bones + 1:
            paths.append(tuple(path))
    left_out = {(0, 7, 8, 11), (0, 7, 8, 14)}
    return sorted(path for path in paths if path not in left_out)


def adjacency() -> Tensor:
    """[3, 17, 17]: self links, links towards the root, links away from it; columns add up to 1."""
    toward = torch.zeros(JOINTS, JOINTS)
    for child, parent in enumerate(PARENTS):
        # The root's parent, -1, is the last joint here: the published weights were trained with that link.
        toward[parent, child] = 1
    stack = torch.stack([torch.eye(JOINTS), toward, toward.T])
    return stack / stack.sum(1, keepdim=True).clamp(min=1)


def bone_vectors(x: Tensor, parents: Tensor) -> Tensor:
    """[..., 17] joints -> [..., 16] bones, child minus parent, in the order of the children."""
    return x[..., 1:] - x[..., parents]


def resize_frames(x: Tensor, scale: int) -> Tensor:
    """[B, C, T, V] -> [B, C, scale * T, V], linear."""
    return F.interpolate(x, scale_factor=(float(scale), 1.0), mode="bilinear", align_corners=False)


def stacked(layers: nn.ModuleList) -> tuple[list[Tensor], list[Tensor]]:
    """The weights and the biases of convolutions or linear layers that run as one."""
    linear = cast(Sequence[nn.Linear], layers)  # a convolution has the same two
    return [layer.weight for layer in linear], [layer.bias for layer in linear]


class FirstOrderAttention(nn.Module):
    """Mixes the joints with three adjacency matrices: fixed + learned + computed from the window."""

    A: Tensor

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.register_buffer("A", adjacency(), persistent=False)
        self.PA = nn.Parameter(torch.full((3, JOINTS, JOINTS), 1e-6))
        inner = out_channels // 4
        self.conv_a = nn.ModuleList(nn.Conv2d(in_channels, inner, 1) for _ in range(3))
        self.conv_b = nn.ModuleList(nn.Conv2d(in_channels, inner, 1) for _ in range(3))
        self.conv_d = nn.ModuleList(nn.Conv2d(in_channels, out_channels, 1) for _ in range(3))
        self.linears = nn.ModuleList(nn.Linear(in_channels, in_channels) for _ in range(3))
        self.down: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.down = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1), nn.BatchNorm2d(out_channels))
        self.bn = nn.BatchNorm2d(out_channels)
        self._reset()

    def _reset(self) -> None:
        for name, weight in self.named_parameters():
            if name.startswith("conv_d.") and weight.ndim == 4:
                nn.init.normal_(weight, 0, math.sqrt(2 / (3 * weight.numel())))
            elif weight.ndim == 4:
                nn.init.kaiming_normal_(weight, mode="fan_out")
            elif name.startswith(("conv_", "down.0")):
                nn.init.zeros_(weight)
        nn.init.constant_(self.bn.weight, 1e-6)  # a block starts as its skip connection

    def forward(self, x: Tensor) -> Tensor:
        # The three branches are one convolution each way: a third of the operations.
        a, b, values = (self._branches(layers, x) for layers in (self.conv_a, self.conv_b, self.linears))
        attention = (a.transpose(2, 3) @ b / a.shape[2]).softmax(2) + self.A + self.PA
        mixed = torch.unflatten(values @ attention, 2, (-1, x.shape[2])).flatten(1, 2)
        weights, biases = stacked(self.conv_d)
        y: Tensor = self.bn(F.conv2d(mixed, torch.cat(weights, 1), torch.stack(biases).sum(0))) + self.down(x)
        return F.relu(y)

    def _branches(self, layers: nn.ModuleList, x: Tensor) -> Tensor:
        """Each of the three layers at every joint and frame: [B, C, T, V] -> [B, 3, C' * T, V]."""
        weights, biases = stacked(layers)
        y = F.conv2d(x, torch.cat(weights).reshape(-1, x.shape[1], 1, 1), torch.cat(biases))
        return torch.unflatten(y, 1, (3, -1)).flatten(2, 3)


class CrossAttention(nn.Module):
    """Joints ask, bones and chains of bones answer: [B, V, C], [B, E, C] -> [B, V, C]."""

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(channels, channels)
        self.to_v = nn.Linear(channels, channels)
        self.proj = nn.Linear(channels, channels)
        self.dropout = nn.Dropout(dropout)

    def _heads(self, x: Tensor) -> Tensor:
        return torch.unflatten(x, 2, (HEADS, -1)).transpose(1, 2)

    def forward(self, joints: Tensor, edges: Tensor) -> Tensor:
        query, key = self._heads(self.to_q(joints)), self._heads(self.to_k(edges))
        value = self._heads(self.to_v(edges))
        attention = self.dropout((query / math.sqrt(query.shape[-1]) @ key.transpose(2, 3)).softmax(-1))
        y: Tensor = self.dropout(self.proj((attention @ value).transpose(1, 2).flatten(2)))
        return y


class Mlp(nn.Module):
    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, 2 * channels)
        self.fc2 = nn.Linear(2 * channels, channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.dropout(self.fc2(self.dropout(F.gelu(self.fc1(x)))))
        return y


class Block(nn.Module):
    """First-order attention over the joints, then a convolution over nine frames, around a skip connection.

    [B, in_channels, T, 17] -> [B, out_channels, T / stride, 17].
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int = 1, dropout: float = 0.0, residual: bool = True
    ) -> None:
        super().__init__()
        self.foa_block = FirstOrderAttention(in_channels, out_channels)
        self.tcn_v = nn.Sequential(
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            nn.Conv2d(out_channels, out_channels, (9, 1), (stride, 1), (4, 0)),
            nn.BatchNorm2d(out_channels),
            nn.Dropout(dropout),
        )
        self.residual = residual
        self.residual_v: nn.Module = nn.Identity()
        if residual and (in_channels != out_channels or stride > 1):
            self.residual_v = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, (stride, 1)), nn.BatchNorm2d(out_channels)
            )

    def mix_joints(self, x: Tensor) -> Tensor:
        out: Tensor = self.foa_block(x)
        return out

    def forward(self, x: Tensor) -> Tensor:
        y = self.tcn_v(self.mix_joints(x))
        return F.relu(y + self.residual_v(x) if self.residual else y)


class ChainSums(nn.ModuleList):
    """One weighted sum of bones per chain of `length` bones: [..., 16] -> [..., chains]."""

    bones: Tensor

    def __init__(self, length: int) -> None:
        paths = chains(length)
        super().__init__(nn.Linear(length, 1) for _ in paths)
        bones = torch.tensor([[joint - 1 for joint in path[1:]] for path in paths])
        # On the device from the start: a copy from the host could not be recorded in a CUDA graph.
        self.register_buffer("bones", bones, persistent=False)

    def forward(self, bones: Tensor) -> Tensor:
        weights, biases = stacked(self)
        return (bones[..., self.bones] * torch.cat(weights)).sum(-1) + torch.cat(biases)


class HighOrderBlock(Block):
    """A block in which every joint also attends to chains of one to four bones, frame by frame."""

    parents: Tensor

    def __init__(self, in_channels: int, out_channels: int, dropout: float = 0.0) -> None:
        super().__init__(in_channels, out_channels, dropout=dropout)
        self.register_buffer("parents", torch.tensor(PARENTS[1:]), persistent=False)
        self.cross_attn = CrossAttention(out_channels, dropout)
        self.norm_v = nn.LayerNorm(out_channels)
        self.mlp = Mlp(out_channels, dropout)
        self.norm_mlp = nn.LayerNorm(out_channels)
        self.linears = nn.ModuleList(ChainSums(length) for length in (2, 3, 4))

    def _edges(self, joints: Tensor) -> Tensor:
        """[..., 17] -> [..., 42]: the bones, then one weighted sum of bones per chain."""
        bones = bone_vectors(joints, self.parents)
        return torch.cat([bones, *(sums(bones) for sums in self.linears)], -1)

    def mix_joints(self, x: Tensor) -> Tensor:
        y = super().mix_joints(x)
        frames = y.shape[2]
        edges = self._edges(y).permute(0, 2, 3, 1).flatten(0, 1)
        joints = y.permute(0, 2, 3, 1).flatten(0, 1)
        joints = joints + self.norm_v(self.cross_attn(joints, edges))
        joints = joints + self.mlp(self.norm_mlp(joints))
        return torch.unflatten(joints, 0, (-1, frames)).permute(0, 3, 1, 2)


class Backbone(nn.Module):
    """[B, in_channels, T, 17] -> [B, channels[0], T, 17]."""

    def __init__(self, in_channels: int, channels: tuple[int, int, int, int, int], dropout: float) -> None:
        super().__init__()
        c0, c1, c2, c3, c4 = channels
        self.data_bn = nn.BatchNorm1d(in_channels * JOINTS)
        self.downsample = nn.ModuleList(
            [
                Block(in_channels, c0, residual=False),
                Block(c0, c1, stride=2),
                Block(c1, c1),
                Block(c1, c2, stride=2),
                Block(c2, c2),
                Block(c2, c3, stride=2, dropout=dropout),
                Block(c3, c3, dropout=dropout),
                Block(c3, c4, stride=2, dropout=dropout),
                Block(c4, c4, dropout=dropout),
            ]
        )
        self.upsample = nn.ModuleList(
            [Block(c4, c3, dropout=dropout), Block(c3, c2, dropout=dropout), Block(c2, c1), Block(c1, c0)]
        )
        self.merge = nn.ModuleList(
            [
                HighOrderBlock(c4, c0, dropout),
                HighOrderBlock(c3, c0, dropout),
                HighOrderBlock(c2, c0),
                HighOrderBlock(c1, c0),
            ]
        )

    def _normalise(self, x: Tensor) -> Tensor:
        """Batch norm with statistics per channel and joint."""
        y = self.data_bn(x.transpose(2, 3).flatten(1, 2))
        return torch.unflatten(y, 1, (-1, JOINTS)).transpose(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self._normalise(x)
        skips = []
        for i, block in enumerate(self.downsample):
            x = block(x)
            if i in (0, 2, 4, 6):
                skips.append(x)
        coarse = []
        for block, skip in zip(self.upsample, reversed(skips), strict=True):
            coarse.append(x)
            x = resize_frames(block(x), 2) + skip
        for block, y, scale in zip(self.merge, coarse, (16, 8, 4, 2), strict=True):
            x = x + resize_frames(block(y), scale)
        return x


class HDFormer(nn.Module):
    """The published network has the default arguments (3,718,089 parameters)."""

    def __init__(
        self,
        in_channels: int = 2,
        channels: tuple[int, int, int, int, int] = (16, 32, 64, 128, 256),
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.backbone = Backbone(in_channels, channels, dropout)
        self.joint_regressor = nn.Conv2d(channels[0], 3 * (JOINTS - 1), (3, JOINTS), padding=(1, 0))

    def forward(self, x: Tensor, mean: Tensor | None = None, std: Tensor | None = None) -> Tensor:
        """2D windows to 3D windows.

        Args:
            x: [B, in_channels, T, 17] normalised image coordinates (x right, y down) and what else the network was
                trained with, T a multiple of 16.
            mean, std: [1, 3, 1, 17], statistics of the 3D training poses; both or none.

        Returns:
            [B, 3, T, 17]: `raw * std + mean`, in the units of the statistics (millimetres for the published
            weights); without them `raw`, whose root is 0.
        """
        if x.shape[2] % FRAME_MULTIPLE:
            raise ValueError(f"HDFormer takes a multiple of {FRAME_MULTIPLE} frames, not {x.shape[2]}")
        y = self.joint_regressor(self.backbone(x)).squeeze(-1)
        y = F.pad(torch.unflatten(y, 1, (3, JOINTS - 1)).transpose(2, 3), (1, 0))
        if mean is not None and std is not None:
            y = y * std + mean
        return y


def infer_config(state: Mapping[str, Tensor], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `HDFormer` that the shapes tell; {} when the weights are of something else."""
    norms = [state.get(f"backbone.downsample.{i}.foa_block.bn.weight") for i in (0, 2, 4, 6, 8)]
    first = state.get("backbone.data_bn.weight")
    if first is None or any(norm is None for norm in norms):
        return {}
    return {
        "in_channels": first.numel() // JOINTS,
        "channels": tuple(norm.numel() for norm in norms if norm is not None),
    }
