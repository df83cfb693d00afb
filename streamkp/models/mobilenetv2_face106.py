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
    0.054867, 0.244419, 0.054699, 0.303968, 0.055207, 0.364319, 0.058655, 0.424538, 0.066160, 0.485314,
    0.078077, 0.545213, 0.093333, 0.604784, 0.113314, 0.663114, 0.138978, 0.717230, 0.171258, 0.767969,
    0.208317, 0.814660, 0.249446, 0.857321, 0.293299, 0.897390, 0.338438, 0.935058, 0.386478, 0.966903,
    0.441197, 0.987863, 0.500039, 0.993489, 0.558859, 0.987851, 0.613583, 0.966866, 0.661629, 0.935007,
    0.706773, 0.897341, 0.750617, 0.857296, 0.791758, 0.814628, 0.828803, 0.767902, 0.861092, 0.717162,
    0.886749, 0.663034, 0.906729, 0.604710, 0.921965, 0.545130, 0.933862, 0.485229, 0.941346, 0.424455,
    0.944775, 0.364235, 0.945265, 0.303885, 0.945085, 0.244327, 0.159480, 0.174952, 0.208292, 0.127584,
    0.276759, 0.117122, 0.346606, 0.127826, 0.413723, 0.147885, 0.412389, 0.188142, 0.349893, 0.176407,
    0.285902, 0.168953, 0.221940, 0.169859, 0.586181, 0.147863, 0.653290, 0.127804, 0.723142, 0.117091,
    0.791608, 0.127539, 0.840444, 0.174887, 0.777985, 0.169826, 0.714026, 0.168938, 0.650025, 0.176406,
    0.587527, 0.188154, 0.499969, 0.277057, 0.499965, 0.354084, 0.499967, 0.432270, 0.499974, 0.509931,
    0.443147, 0.283702, 0.407931, 0.472952, 0.378622, 0.538802, 0.416624, 0.582223, 0.455675, 0.588796,
    0.499987, 0.595186, 0.544330, 0.588780, 0.583372, 0.582201, 0.621351, 0.538776, 0.592014, 0.472933,
    0.556785, 0.283686, 0.233960, 0.275314, 0.271565, 0.255874, 0.314879, 0.252303, 0.356919, 0.262734,
    0.386663, 0.291362, 0.348292, 0.300994, 0.306444, 0.303735, 0.267240, 0.296190, 0.313574, 0.276111,
    0.613290, 0.291351, 0.643040, 0.262708, 0.685071, 0.252273, 0.728378, 0.255831, 0.766004, 0.275264,
    0.732705, 0.296150, 0.693517, 0.303695, 0.651653, 0.300992, 0.686398, 0.276090, 0.358119, 0.723317,
    0.405120, 0.693180, 0.462963, 0.671803, 0.500002, 0.679915, 0.537051, 0.671781, 0.594871, 0.693158,
    0.641888, 0.723289, 0.608813, 0.771341, 0.560145, 0.805250, 0.500018, 0.816075, 0.439891, 0.805270,
    0.391203, 0.771376, 0.368888, 0.724175, 0.433110, 0.719454, 0.500019, 0.721682, 0.566896, 0.719430,
    0.631123, 0.724146, 0.567846, 0.738636, 0.500008, 0.747960, 0.432175, 0.738654, 0.313718, 0.275333,
    0.686249, 0.275294,
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
