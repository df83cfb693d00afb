"""RTMPose's way in and out through a real ONNX file of the same interface, and RTMDet's."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from streamkp.vision import rtmdet, simcc


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
    x, matrices = simcc.prepare(image, [[40, 40, 70, 100], [30, 50, 80, 90]])
    assert x.shape == (2, 3, 256, 192)
    points, scores = simcc.decode(*session.run(["simcc_x", "simcc_y"], {"input": x}))
    assert points.shape == (2, 3, 2)
    assert (scores > 0).all()
    # The maximum is a plateau of three image pixels.
    np.testing.assert_allclose(
        simcc.to_image(points, matrices), np.broadcast_to(list(spots.values()), (2, 3, 2)), atol=2
    )


def test_score_is_the_lower_maximum_and_bins_are_halves() -> None:
    simcc_x, simcc_y = np.zeros((1, 2, 384), np.float32), np.zeros((1, 2, 512), np.float32)
    simcc_x[0, 0, 101], simcc_y[0, 0, 300] = 0.9, 0.6
    simcc_x[0, 1, 7] = 0.8
    points, scores = simcc.decode(simcc_x, simcc_y)
    np.testing.assert_allclose(points, [[[50.5, 150], [-0.5, -0.5]]])
    np.testing.assert_allclose(scores, [[0.6, 0]])


def test_nan_is_an_error_and_nobody_is_nobody() -> None:
    with pytest.raises(ValueError, match="NaN"):
        simcc.decode(np.full((1, 1, 4), np.nan, np.float32), np.ones((1, 1, 4), np.float32))
    x, matrices = simcc.prepare(np.zeros((20, 20, 3), np.uint8), np.zeros((0, 4)))
    assert x.shape == (0, 3, 256, 192)
    assert simcc.to_image(np.zeros((0, 17, 2), np.float32), matrices).shape == (0, 17, 2)


def test_rtmdet_scales_to_fit_and_back() -> None:
    images = [np.full((480, 1280, 3), 255, np.uint8), np.full((64, 32, 3), 0, np.uint8)]
    x, scales = rtmdet.prepare(images, (640, 320))
    assert x.shape == (2, 3, 320, 640)
    assert scales == [0.5, 5.0]
    np.testing.assert_allclose(x[0, :, 100, 100], (255 - np.array(rtmdet.MEAN)) / rtmdet.STD, rtol=1e-5)
    np.testing.assert_allclose(x[0, :, 300, 100], (114 - np.array(rtmdet.MEAN)) / rtmdet.STD, rtol=1e-5)
    dets = np.zeros((2, 3, 5), np.float32)
    dets[0, 0] = 10, 20, 60, 120, 0.9
    dets[0, 1] = 10, 20, 60, 120, 0.2
    dets[1, 0] = 50, 50, 100, 100, 0.8
    labels = np.array([[0, 0, 0], [1, 0, 0]])
    (boxes, scores), (nobody, _) = rtmdet.people(dets, labels, scales)
    np.testing.assert_allclose(boxes, [[20, 40, 100, 200]])
    np.testing.assert_allclose(scores, [0.9])
    assert nobody.shape == (0, 4)
