"""TPNet, ModelScope's canonical-pose model: a pose network and a trajectory network over canonical coordinates.

The pose network is VideoPose3D's. The trajectory network looks at a window of camera-normalised 2D poses and at
the 3D pose of its frame, and gives the position of the root in camera space.

Parameter names are those of the public checkpoint: {"model_pos": ..., "model_traj": ...}.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamkp.models.networks.videopose3d import OneFrame, VideoPose3D, infer_temporal

EMBEDDING = 500


class TrajectoryNetwork(nn.Module):
    """One root position per window.

    Args of forward:
        poses_2d: [N, frames, joints * 2] canonical coordinates, (x - centre) / focal length.
        pose_3d: [N, joints * 3] the root-relative pose of the window's output frame.

    Returns [N, 3].
    """

    def __init__(
        self, frames: int, joints: int = 17, joints_out: int = 17, channels: int = 1024, blocks: int = 4
    ) -> None:
        super().__init__()
        # The checkpoint lists this layer twice, as expand_bn and as conv1.2.
        self.expand_bn = nn.BatchNorm1d(channels)
        self.conv1 = nn.Sequential(
            nn.ReplicationPad1d(1),
            nn.Conv1d(joints * 2, channels, 3, bias=False),
            self.expand_bn,
            nn.ReLU(),
            nn.Dropout(0.25),
        )
        self.layers_conv = nn.ModuleList(
            nn.Conv1d(channels, channels, 5, dilation=2, bias=False) for _ in range(blocks)
        )
        self.layers_bn = nn.ModuleList(nn.BatchNorm1d(channels) for _ in range(blocks))
        self.reduce = nn.Conv1d(channels, channels, frames)
        self.embedding_3d_1 = nn.Linear(joints_out * 3, EMBEDDING)
        self.embedding_3d_2 = nn.Linear(EMBEDDING, EMBEDDING)  # in the checkpoint, though the model never uses it
        self.out1 = nn.Linear(channels + EMBEDDING, channels)
        self.out2 = nn.Linear(channels, 3)
        self.dropout = nn.Dropout(0.25)

    def forward(self, poses_2d: Tensor, pose_3d: Tensor) -> Tensor:
        x = self.conv1(poses_2d.transpose(1, 2))
        for convolution, norm in zip(self.layers_conv, self.layers_bn, strict=True):
            x = x + self.dropout(F.relu(norm(convolution(F.pad(x, (4, 4), mode="replicate")))))
        window = F.relu(self.reduce(x)).squeeze(2)
        pose = F.leaky_relu(self.embedding_3d_1(pose_3d))
        y: Tensor = self.out2(F.leaky_relu(self.out1(torch.cat([window, pose], 1))))
        return y


class TPNet(nn.Module):
    """Pose and trajectory for every frame of a padded sequence."""

    def __init__(
        self,
        filter_widths: Sequence[int] = (3, 3, 3, 3, 3),
        joints: int = 17,
        joints_out: int = 17,
        channels: int = 1024,
        causal: bool = False,
        dropout: float = 0.25,
        trajectory_channels: int = 1024,
        trajectory_blocks: int = 4,
    ) -> None:
        super().__init__()
        self.model_pos = VideoPose3D(
            filter_widths, joints, joints_out=joints_out, channels=channels, dropout=dropout, causal=causal
        )
        self.model_traj = TrajectoryNetwork(
            self.receptive_field, joints, joints_out, trajectory_channels, trajectory_blocks
        )

    @property
    def receptive_field(self) -> int:
        return self.model_pos.receptive_field

    @property
    def padding(self) -> tuple[int, int]:
        return self.model_pos.padding

    def forward(self, poses: Tensor, canonical: Tensor) -> tuple[Tensor, Tensor]:
        """T frames padded to T + receptive_field - 1 with `padding`.

        Args:
            poses: [B, T + receptive_field - 1, 17, 2] what the pose network sees.
            canonical: the same shape; what the trajectory network sees.
                `streamkp.models.lift.tpnet.network_inputs` makes both.

        Returns:
            pose [B, T, 17, 3] in camera axes relative to the root, trajectory [B, T, 1, 3] in camera space.
        """
        pose = self.model_pos(poses)
        windows = canonical.flatten(2).unfold(1, self.receptive_field, 1).transpose(2, 3)
        root = self.model_traj(windows.flatten(0, 1), pose.flatten(2).flatten(0, 1))
        return pose, torch.unflatten(root, 0, pose.shape[:2]).unsqueeze(2)


class OneFrameWithRoot(OneFrame):
    """Screen and canonical coordinates [B, receptive field, 17, 2] -> pose [B, 17, 3], position of the root [B, 3]."""

    inputs = 2

    def __init__(self, pose: VideoPose3D, trajectory: TrajectoryNetwork) -> None:
        super().__init__(pose, None)
        self.root = trajectory

    def forward(self, screen: Tensor, canonical: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        pose: Tensor = self.pose(screen)[:, 0]
        return pose, self.root(canonical.flatten(2), pose.flatten(1))


def infer_config(state: Mapping[str, Tensor], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Sizes from the weights; `causal` from ModelScope's configuration.json, since weights cannot tell."""
    config = infer_temporal(state, "model_pos.")
    reduce = state.get("model_traj.reduce.weight")
    if reduce is not None:
        config["trajectory_channels"] = reduce.shape[0]
        blocks = [key for key in state if key.startswith("model_traj.layers_conv.")]
        config["trajectory_blocks"] = len(blocks)
    options = settings.get("model", {}).get("MODEL", {})
    if "CAUSAL" in options:
        config["causal"] = bool(options["CAUSAL"])
    return config
