"""ModelScope's 15-point network: crops, decoding and the way back, against the reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from streamkp.models.pose2d import body15
from tests.reference.network_input import network_input

IMAGE = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)


def test_body15_crops_are_the_reference(golden: Path) -> None:
    io = np.load(golden / "hrnet_w48_body15" / "io.npz")
    crops, placement = body15.crop(io["image_bgr"], io["boxes_xywh"])
    np.testing.assert_allclose(placement.boxes.reshape(-1, 2, 2), io["human_box"], rtol=1e-6)
    np.testing.assert_allclose(placement.boxes.reshape(-1, 2, 2), io["out_boxes"], rtol=1e-6)
    np.testing.assert_allclose(placement.scale, io["meta_s"][:, 0])
    np.testing.assert_array_equal(placement.offset, io["meta_o"])
    x = network_input(crops)
    np.testing.assert_allclose(x[:1], io["x"], atol=1e-6)
    np.testing.assert_allclose(x[1:], io["x_others_f16"], atol=2e-3)


def test_body15_decoding_is_the_reference(golden: Path) -> None:
    io = np.load(golden / "hrnet_w48_body15" / "io.npz")
    data = np.load(golden / "hrnet_w48_body15" / "decode.npz")
    _, placement = body15.crop(io["image_bgr"], io["boxes_xywh"])
    points, scores = body15.decode(data["heatmaps"])
    np.testing.assert_array_equal(points / 4, data["pts_heatmap"])
    np.testing.assert_array_equal(scores, data["scores"])
    np.testing.assert_allclose(body15.to_image(points, placement), data["poses"], atol=1e-9)


@pytest.mark.parametrize("box", [(500, 500, 20, 40), (-90, 10, 30, 30), (30, 40, 1, 1), (30, 40, 0, 0), (5, 0, 1, 90)])
def test_body15_takes_any_box(box: tuple[float, ...]) -> None:
    crops, placement = body15.crop(IMAGE, [box])
    assert crops.any()
    centre = body15.to_image(np.full((1, 1, 2), 64.0), placement)[0, 0]
    assert ((centre >= -1) & (centre <= [121, 91])).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_box_must_be_finite(bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        body15.crop(IMAGE, [[bad, 0, 10, 10]])
