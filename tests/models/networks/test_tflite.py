"""TensorFlow Lite files as torch modules against the reference interpreter's outputs and against OpenVINO."""

from pathlib import Path

import numpy as np
import openvino as ov
import pytest
import torch

from streamkp.errors import ModelError
from streamkp.models.networks.tflite import TFLiteNetwork
from streamkp.runtimes.openvino import core

FLOAT = ("pose_detection", "pose_landmark_lite", "pose_landmark_full", "palm_detection_lite", "hand_landmark_lite")


def _in_torch(path: Path, given: np.ndarray) -> dict[str, np.ndarray]:
    network = TFLiteNetwork(path)
    with torch.inference_mode():
        outputs = network(torch.from_numpy(given))
    return {name: values.numpy() for name, values in zip(network.output_names, outputs, strict=True)}


def _in_openvino(path: Path, given: np.ndarray) -> dict[str, np.ndarray]:
    compiled = core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled(ov.Tensor(given))
    return {port.any_name: np.array(found[port]) for port in compiled.outputs}


def _images(path: Path, count: int = 1) -> np.ndarray:
    shape = TFLiteNetwork(path).input_shape
    return np.random.default_rng(0).uniform(0, 1, (count, *shape[1:])).astype(np.float32)


@pytest.mark.parametrize("name", FLOAT)
def test_torch_gives_what_openvino_gives(name: str, assets: Path) -> None:
    path = assets / "models" / "mediapipe" / f"{name}.tflite"
    given = _images(path)
    wanted = _in_openvino(path, given)
    got = _in_torch(path, given)
    assert got.keys() == wanted.keys()
    for output, values in wanted.items():
        assert got[output].shape == values.shape
        assert np.abs(got[output] - values).max() <= 1e-3 * np.abs(values).max()


def test_a_quantised_network_differs_by_rounding(assets: Path) -> None:
    """The sums of a layer may fall on the other side of half a step of its grid; most do not."""
    path = assets / "models" / "efficientdet_lite0_uint8_320.tflite"
    given = np.random.default_rng(0).integers(0, 256, (1, 320, 320, 3), np.uint8)
    wanted = _in_openvino(path, given)
    for output, values in _in_torch(path, given).items():
        assert np.abs(values - wanted[output]).mean() <= 1e-2 * np.abs(wanted[output]).max()


def test_samples_of_a_batch_do_not_mix(assets: Path) -> None:
    path = assets / "models" / "mediapipe" / "pose_detection.tflite"
    given = _images(path, 3)
    alone = _in_torch(path, given[1:2])
    for output, values in _in_torch(path, given).items():
        np.testing.assert_allclose(values[1:2], alone[output], atol=1e-3 * np.abs(alone[output]).max())


def test_only_what_is_asked_for_is_computed(assets: Path) -> None:
    path = assets / "models" / "efficientdet_lite0_uint8_320.tflite"
    scores, codes = "StatefulPartitionedCall:1", "StatefulPartitionedCall:0"
    whole = TFLiteNetwork(path)
    part = TFLiteNetwork(path, outputs=(scores, codes), channels={scores: 0})
    given = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 320, 320, 3), np.uint8))
    with torch.inference_mode():
        everything = dict(zip(whole.output_names, whole(given), strict=True))
        of_people, boxes = part(given)
    # A different blocking of the sums may move a value to the next step of its grid.
    assert (of_people - everything[scores][..., :1]).abs().mean() < 1e-4
    assert torch.allclose(boxes, everything[codes])
    assert sum(p.numel() for p in part.parameters()) < sum(p.numel() for p in whole.parameters())


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"no model at all", "not a TensorFlow Lite model"), (b"\x08\x00\x00\x00TFL3" + bytes(40), "is damaged")],
)
def test_what_is_no_model_is_refused(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.tflite"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=words):
        TFLiteNetwork(path)


def test_an_operator_that_torch_does_not_run_is_named(assets: Path) -> None:
    path = assets / "models" / "movenet_singlepose_lightning_int8_4.tflite"
    with pytest.raises(ModelError, match="which torch does not run here"):
        TFLiteNetwork(path)
