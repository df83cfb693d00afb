"""HRNet against MMPose, EasyCV and ModelScope: heatmaps, flip average, decoded points, the whole body15 path."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from streamkp import skeletons
from streamkp.errors import ModelError
from streamkp.models import zoo
from streamkp.models.networks.hrnet import rename_keys
from streamkp.models.pose2d import body15
from streamkp.vision import heatmap
from tests.reference.network_input import network_input

NAMES = ["hrnet-body15", "hrnet-w32-coco17", "hrnet-w48-wholebody133", "hrnet-w18-hand21"]
# DARK's Newton step magnifies the last digits of a heatmap where it is nearly flat, as noise is in places.
PIXELS = 0.1

Weights = Callable[..., dict[str, torch.Tensor]]
Check = Callable[..., None]

MMPOSE = {
    "hrnet_w32_coco17": ("hrnet-w32-coco17", "coco17", heatmap.decode_quarter),
    "hrnet_w48_wholebody133": ("hrnet-w48-wholebody133", "wholebody133", heatmap.decode_dark),
    "hrnetv2_w18_hand21": ("hrnet-w18-hand21", "hand21", heatmap.decode_dark),
}
EASYCV = {
    "easycv_hand21": ("hrnet-w18-hand21", "hrnetv2_w18_hand21"),
    "easycv_wholebody133": ("hrnet-w48-wholebody133", "hrnet_w48_wholebody133"),
}


def _run(network: torch.nn.Module, x: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        result: np.ndarray = network(torch.from_numpy(x)).numpy()
    return result


def _assert_heatmaps(result: np.ndarray, io: Any, assert_parity: Check) -> None:
    assert_parity(result[:, io["channels"]], io["heatmaps"])
    flat = result[0].reshape(result.shape[1], -1)
    assert_parity(flat.max(axis=1), io["heatmap_max"])
    np.testing.assert_array_equal(flat.argmax(axis=1), io["heatmap_argmax"])


@pytest.mark.parametrize("folder", MMPOSE)
def test_mmpose_parity(folder: str, golden: Path, weights: Weights, assert_parity: Check) -> None:
    name, skeleton, decode = MMPOSE[folder]
    io = np.load(golden / folder / "io.npz")
    network = zoo.load(name, weights(folder))
    crop = io["crop_bgr"]
    size = crop.shape[1], crop.shape[0]
    x = network_input(np.stack([crop, crop[:, ::-1]]))
    heatmaps = _run(network, x)

    _assert_heatmaps(heatmaps[:1], io, assert_parity)
    assert_parity(heatmaps[0].mean(axis=(1, 2), dtype=np.float64), io["heatmap_mean"])
    points, scores = decode(heatmaps[:1], size)
    np.testing.assert_allclose(points, io["decoded"], atol=PIXELS)
    assert_parity(scores, io["decoded_scores"])

    averaged = heatmap.flip_average(heatmaps[:1], heatmaps[1:], skeletons.get(skeleton).mirror)
    stored = io["channels_flip_avg"] if "channels_flip_avg" in io else io["channels"]
    assert_parity(averaged[:, stored], io["heatmaps_flip_avg"])
    np.testing.assert_array_equal(averaged[0].reshape(len(points[0]), -1).argmax(axis=1), io["flip_argmax"])
    assert_parity(averaged[0].max(axis=(1, 2)), io["flip_max"])
    points, scores = decode(averaged, size)
    np.testing.assert_allclose(points, io["decoded_flip"], atol=PIXELS)
    assert_parity(scores, io["decoded_flip_scores"])


@pytest.mark.parametrize("folder", EASYCV)
def test_easycv_parity(folder: str, golden: Path, weights: Weights, assert_parity: Check) -> None:
    name, input_folder = EASYCV[folder]
    crop = np.load(golden / input_folder / "io.npz")["crop_bgr"]
    network = zoo.load(name, weights(folder))
    heatmaps = _run(network, network_input(crop[None]))
    _assert_heatmaps(heatmaps, np.load(golden / folder / "io.npz"), assert_parity)


def test_body15_from_the_image_to_the_image(golden: Path, weights: Weights, assert_parity: Check) -> None:
    io = np.load(golden / "hrnet_w48_body15" / "io.npz")
    network = zoo.load("hrnet-body15", weights("hrnet_w48_body15"))
    crops, placement = body15.crop(io["image_bgr"], io["boxes_xywh"])
    heatmaps = _run(network, network_input(crops))
    assert_parity(heatmaps, io["heatmaps"])
    points, scores = body15.decode(heatmaps)
    assert_parity(scores, io["scores"])
    np.testing.assert_allclose(body15.to_image(points, placement), io["poses"], atol=1e-4)


def _small(name: str) -> torch.nn.Module:
    """The same network of fewer and narrower layers: what converts does not depend on how many there are."""
    torch.manual_seed(0)
    return zoo.create(name, width=4, modules=(1, 1, 1), blocks=1).eval()


@pytest.mark.parametrize("name", NAMES)
def test_names_of_the_original_repository_and_of_mmpose_0x(name: str) -> None:
    state = _small(name).state_dict()
    to_old = {"head.conv_layers.": "final_layer.", "head.final_layer.": "final_layer."}
    if any(key.startswith("head.conv_layers.") for key in state):
        to_old["head.final_layer."] = "final_layer.3."

    def old_name(key: str) -> str:
        new = next((new for new in to_old if key.startswith(new)), "")
        return to_old.get(new, "") + key.removeprefix(new)

    original = {old_name(key.removeprefix("backbone.")): value for key, value in state.items()}
    mmpose_0x = {
        f"keypoint_head.{old_name(key)}" if key.startswith("head.") else key: value for key, value in state.items()
    }
    for names in (original, mmpose_0x):
        assert rename_keys(names).keys() == state.keys()
        loaded = zoo.load(name, {"state_dict": names}, width=4, modules=(1, 1, 1), blocks=1)
        torch.testing.assert_close(dict(loaded.state_dict()), dict(state))


def test_another_network_is_refused_by_name(weights: Weights) -> None:
    with pytest.raises(ModelError, match="hrnet-w18-hand21"):
        zoo.load("hrnet-w32-coco17", weights("easycv_hand21"))


@pytest.mark.parametrize("name", NAMES)
def test_runs_everywhere(name: str, assert_portable: Check) -> None:
    assert_portable(_small(name), torch.rand(2, 3, 64, 32))
