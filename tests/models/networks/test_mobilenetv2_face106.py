"""The 106-point face network against EasyCV, from the face crop to points in the picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from streamkp.models import zoo
from streamkp.models.pose2d.face106 import PIXELS
from streamkp.runtimes.onnxruntime import normalised
from tests.reference import face_crop

Weights = Callable[..., dict[str, torch.Tensor]]
Check = Callable[..., None]

FOLDER = "easycv_face106"


def test_parity(golden: Path, weights: Weights, assert_parity: Check) -> None:
    io = np.load(golden / FOLDER / "io.npz")
    network = zoo.load("mobilenetv2-face106", weights(FOLDER))
    x = torch.from_numpy(io["x"])
    with torch.inference_mode():
        points, angles = network(x)
        features = network.backbone(x)
    assert_parity(features, io["features"])
    assert_parity(points.flatten(1), io["points"])
    assert_parity(angles, io["pose"])


def test_from_the_crop_to_the_image(golden: Path, weights: Weights) -> None:
    io = np.load(golden / FOLDER / "io.npz")
    image = io["image_bgr"]
    whole = np.array([[0, 0, image.shape[1], image.shape[0]]])
    crops = face_crop.crop(image, whole)
    np.testing.assert_array_equal(crops[0], io["resized_bgr"])
    x = normalised(crops, PIXELS)
    np.testing.assert_allclose(x, io["x"][:1], atol=1e-6)
    with torch.inference_mode():
        points, _ = zoo.load("mobilenetv2-face106", weights(FOLDER))(torch.from_numpy(x))
    np.testing.assert_allclose(face_crop.to_image(points.numpy(), whole)[0], io["points_image"], rtol=0, atol=1e-3)


def test_runs_everywhere(assert_portable: Check) -> None:
    torch.manual_seed(0)
    assert_portable(zoo.create("mobilenetv2-face106").eval(), torch.rand(2, 3, 96, 96))
