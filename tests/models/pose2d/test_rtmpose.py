"""RTMPose through a real ONNX file of the same interface."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from streamkp.models.pose2d import rtmpose
from streamkp.models.pose2d.topdown import AffineFraming
from tests.reference.network_input import network_input


class Colours(nn.Module):
    """Three joints: where the crop is reddest, greenest and bluest, as SimCC distributions."""

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        bins = image.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        return bins.amax(dim=2), bins.amax(dim=3)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> onnxruntime.InferenceSession:
    path = tmp_path_factory.mktemp("onnx") / "pose.onnx"
    torch.onnx.export(
        Colours(),
        (torch.zeros(1, 3, 256, 192),),
        path,
        input_names=["input"],
        output_names=["simcc_x", "simcc_y"],
        dynamic_axes={name: {0: "batch"} for name in ("input", "simcc_x", "simcc_y")},
        dynamo=False,
    )
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def test_joints_come_back_to_where_they_are(session: onnxruntime.InferenceSession) -> None:
    image = np.zeros((240, 320, 3), np.uint8)
    spots = {"red": (60, 80), "green": (90, 60), "blue": (75, 120)}
    for channel, (x, y) in zip((2, 1, 0), spots.values(), strict=True):
        image[y - 1 : y + 2, x - 1 : x + 2, channel] = 255
    framing = AffineFraming((192, 256))
    boxes = np.array([[40, 40, 70, 100], [30, 50, 80, 90]], np.float32)
    pixels, back = framing.cut([(image, framing.region(box)) for box in boxes])
    assert pixels.shape == (2, 256, 192, 3)
    x = network_input(pixels)
    points, scores = rtmpose.decode(*session.run(["simcc_x", "simcc_y"], {"input": x}))
    assert points.shape == (2, 3, 2)
    assert (scores > 0).all()
    # The maximum is a plateau of three image pixels.
    np.testing.assert_allclose(back(points), np.broadcast_to(list(spots.values()), (2, 3, 2)), atol=2)


def test_score_is_the_lower_maximum_and_bins_are_halves() -> None:
    simcc_x, simcc_y = np.zeros((1, 2, 384), np.float32), np.zeros((1, 2, 512), np.float32)
    simcc_x[0, 0, 101], simcc_y[0, 0, 300] = 0.9, 0.6
    simcc_x[0, 1, 7] = 0.8
    points, scores = rtmpose.decode(simcc_x, simcc_y)
    np.testing.assert_allclose(points, [[[50.5, 150], [-0.5, -0.5]]])
    np.testing.assert_allclose(scores, [[0.6, 0]])


def test_nan_is_an_error() -> None:
    with pytest.raises(ValueError, match="NaN"):
        rtmpose.decode(np.full((1, 1, 4), np.nan, np.float32), np.ones((1, 1, 4), np.float32))
