"""The 106-point face alignment network of EasyCV and ModelScope: a small MobileNetV2 with two heads.

Blocks after Sandler et al., "MobileNetV2", CVPR 2018 (without its shortcuts). Parameters carry EasyCV's names.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

INPUT_SIZE = 96

# EasyCV's mean face: x, y of the 106 points in a unit square; the network predicts the deviation from it.
# fmt: off
_MEAN_FACE = (
    0.0548667, 0.2444190, 0.0546993, 0.3039683, 0.0552065, 0.3643191, 0.0586550, 0.4245385, 0.0661604,
    0.4853138, 0.0780768, 0.5452127, 0.0933332, 0.6047841, 0.1133143, 0.6631144, 0.1389781, 0.7172296,
    0.1712581, 0.7679689, 0.2083170, 0.8146603, 0.2494462, 0.8573213, 0.2932994, 0.8973901, 0.3384382,
    0.9350576, 0.3864780, 0.9669030, 0.4411975, 0.9878630, 0.5000391, 0.9934886, 0.5588590, 0.9878511,
    0.6135829, 0.9668656, 0.6616294, 0.9350065, 0.7067735, 0.8973410, 0.7506168, 0.8572958, 0.7917579,
    0.8146282, 0.8288026, 0.7679020, 0.8610919, 0.7171624, 0.8867491, 0.6630344, 0.9067294, 0.6047095,
    0.9219649, 0.5451295, 0.9338619, 0.4852292, 0.9413456, 0.4244548, 0.9447753, 0.3642347, 0.9452650,
    0.3038846, 0.9450855, 0.2443274, 0.1594802, 0.1749518, 0.2082918, 0.1275838, 0.2767590, 0.1171223,
    0.3466058, 0.1278255, 0.4137234, 0.1478846, 0.4123890, 0.1881423, 0.3498928, 0.1764065, 0.2859021,
    0.1689527, 0.2219397, 0.1698586, 0.5861805, 0.1478635, 0.6532904, 0.1278041, 0.7231424, 0.1170910,
    0.7916076, 0.1275387, 0.8404440, 0.1748872, 0.7779848, 0.1698261, 0.7140265, 0.1689377, 0.6500249,
    0.1764058, 0.5875270, 0.1881542, 0.4999687, 0.2770571, 0.4999647, 0.3540843, 0.4999673, 0.4322703,
    0.4999737, 0.5099309, 0.4431470, 0.2837022, 0.4079307, 0.4729520, 0.3786223, 0.5388018, 0.4166237,
    0.5822230, 0.4556755, 0.5887956, 0.4999873, 0.5951856, 0.5443301, 0.5887797, 0.5833722, 0.5822010,
    0.6213509, 0.5387761, 0.5920138, 0.4729325, 0.5567854, 0.2836859, 0.2339599, 0.2753137, 0.2715652,
    0.2558736, 0.3148795, 0.2523033, 0.3569190, 0.2627343, 0.3866626, 0.2913618, 0.3482919, 0.3009937,
    0.3064437, 0.3037350, 0.2672400, 0.2961896, 0.3135745, 0.2761110, 0.6132904, 0.2913514, 0.6430397,
    0.2627079, 0.6850714, 0.2522730, 0.7283777, 0.2558312, 0.7660036, 0.2752638, 0.7327054, 0.2961495,
    0.6935172, 0.3036952, 0.6516533, 0.3009921, 0.6863984, 0.2760905, 0.3581190, 0.7233174, 0.4051200,
    0.6931801, 0.4629631, 0.6718032, 0.5000016, 0.6799150, 0.5370506, 0.6717809, 0.5948715, 0.6931581,
    0.6418878, 0.7232891, 0.6088130, 0.7713407, 0.5601450, 0.8052500, 0.5000181, 0.8160750, 0.4398906,
    0.8052698, 0.3912032, 0.7713759, 0.3688877, 0.7241751, 0.4331097, 0.7194544, 0.5000189, 0.7216823,
    0.5668959, 0.7194302, 0.6311226, 0.7241462, 0.5678462, 0.7386356, 0.5000083, 0.7479601, 0.4321753,
    0.7386539, 0.3137176, 0.2753328, 0.6862488, 0.2752940,
)
# fmt: on


class Depthwise(nn.Module):
    """Depthwise 3x3 and pointwise convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int, padding: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(inputs, inputs, 3, stride, padding, groups=inputs, bias=False),
            nn.BatchNorm2d(inputs),
            nn.ReLU(),
            nn.Conv2d(inputs, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y


class Inverted(nn.Module):
    """Pointwise expansion to twice the channels, depthwise 3x3, linear pointwise projection."""

    def __init__(self, inputs: int, outputs: int, stride: int, padding: int) -> None:
        super().__init__()
        hidden = 2 * inputs
        self.conv = nn.Sequential(
            nn.Conv2d(inputs, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.PReLU(hidden),
            nn.Conv2d(hidden, hidden, 3, stride, padding, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y


class Backbone(nn.Sequential):
    """Image [B, 3, 96, 96] to features [B, 48, 3, 3]."""

    def __init__(self) -> None:
        super().__init__()
        blocks = (
            Depthwise(3, 12, 2, 0),
            Depthwise(12, 12, 1, 0),
            Depthwise(12, 12, 1, 1),
            Depthwise(12, 12, 1, 0),
            Depthwise(12, 24, 2, 0),
            Depthwise(24, 24, 1, 0),
            Depthwise(24, 24, 1, 1),
            Depthwise(24, 24, 1, 1),
            Inverted(24, 48, 2, 0),
            Inverted(48, 48, 1, 0),
            Inverted(48, 48, 1, 1),
            Inverted(48, 48, 1, 1),
            Inverted(48, 48, 1, 1),
            Inverted(48, 48, 2, 0),
        )
        for number, block in enumerate(blocks, start=1):
            self.add_module(f"conv{number}", block)


class Head(nn.Module):
    """Features [B, 48, 3, 3] to [B, outputs]."""

    def __init__(self, channels: int, hidden: int, outputs: int) -> None:
        super().__init__()

        def layer(inputs: int, outputs: int, *activation: nn.Module) -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), *activation)

        branch = nn.Sequential(
            Inverted(48, channels, 1, 1),
            nn.PixelUnshuffle(3),  # the 3x3 map becomes channels
            layer(9 * channels, hidden, nn.PReLU(hidden)),
            layer(hidden, hidden, nn.PReLU(hidden)),
            layer(hidden, outputs),
        )
        self.branches = nn.ModuleList([branch])

    def forward(self, features: Tensor) -> Tensor:
        y: Tensor = self.branches[0](features)
        return y.flatten(1)


class Face106(nn.Module):
    """106 face points and the angles of the head from a face crop.

    Input: BGR float32 [B, 3, 96, 96], pixel / 255 - (0.4076, 0.458, 0.485), the crop stretched to the square.
    Output: points float32 [B, 106, 2], pixels of the 96x96 input; angles float32 [B, 3], pitch, roll and yaw in
    radians.
    """

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.keypoint_head = Head(96, 128, 2 * 106)
        self.pose_head = Head(48, 48, 3)
        self.mean_face: Tensor
        self.register_buffer("mean_face", torch.tensor(_MEAN_FACE).view(106, 2), persistent=False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        features = self.backbone(image)
        deviation = self.keypoint_head(features).unflatten(1, (106, 2))
        return (deviation * 0.5 + self.mean_face) * INPUT_SIZE, self.pose_head(features)
