import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from streamkp.errors import ModelError
from streamkp.runtimes.openvino import OpenVinoModel, OpenVinoNetwork, Pixels


def _save(path: Path, nodes: list[onnx.NodeProto], shape: list[int], outputs: dict[str, list[int]]) -> OpenVinoModel:
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items()]
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "g", [image], infos)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return OpenVinoModel(path)


@pytest.fixture
def model(tmp_path: Path) -> OpenVinoModel:
    """x (1, 3, 2, 4) -> twice: 2 x, root: sqrt(x), squash: sigmoid(x)."""
    nodes = [
        helper.make_node("Add", ["x", "x"], ["twice"]),
        helper.make_node("Sqrt", ["x"], ["root"]),
        helper.make_node("Sigmoid", ["x"], ["squash"]),
    ]
    shape = [1, 3, 2, 4]
    return _save(tmp_path / "m.onnx", nodes, shape, {"twice": shape, "root": shape, "squash": shape})


def test_the_signature_names_inputs_and_outputs(model: OpenVinoModel) -> None:
    assert model.signature.inputs == {"x": (1, 3, 2, 4)}
    assert set(model.signature.outputs) == {"twice", "root", "squash"}


def test_only_the_named_outputs_are_there_in_the_order_named(model: OpenVinoModel) -> None:
    network = OpenVinoNetwork(model, outputs=("root", "twice"), threads=1)
    network.input(1)[:] = 4
    root, twice = network.run(1)
    assert (root == 2).all()
    assert (twice == 8).all()


def test_pixels_go_in_as_they_are_decoded(model: OpenVinoModel) -> None:
    network = OpenVinoNetwork(model, outputs=("twice",), threads=1, pixels=Pixels(rgb=True, mean=10, scale=2))
    image = network.input(1)
    assert (image.shape, image.dtype) == ((1, 2, 4, 3), np.uint8)
    image[...] = [10, 20, 30]  # B, G, R
    (out,) = network.run(1)
    np.testing.assert_allclose(out[0, :, 1, 1], [20, 10, 0])


def test_batches_are_powers_of_two_up_to_the_limit(model: OpenVinoModel) -> None:
    network = OpenVinoNetwork(model, outputs=("twice",), threads=1, max_batch=5)
    assert [network.bucket(n) for n in (1, 2, 3, 4, 7, 100)] == [1, 2, 2, 4, 4, 4]
    network.input(4)[:] = np.arange(4).reshape(4, 1, 1, 1)
    (out,) = network.run(4)
    assert out[:, 0, 0, 0].tolist() == [0, 2, 4, 6]


def test_one_channel_of_an_output_is_the_same_as_in_the_whole(model: OpenVinoModel) -> None:
    network = OpenVinoNetwork(model, outputs=("squash", "twice"), threads=1, channels={"squash": 2})
    network.input(1)[:] = np.arange(24).reshape(1, 3, 2, 4)
    squash, twice = network.run(1)
    assert twice.shape == (1, 3, 2, 4)
    np.testing.assert_allclose(squash, 1 / (1 + np.exp(-twice[..., 2:3] / 2)), atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1])
def test_what_is_not_finite_is_an_error_and_the_next_run_is_not(model: OpenVinoModel, value: float) -> None:
    network = OpenVinoNetwork(model, outputs=("root",), threads=1)
    network.input(1)[:] = 4
    network.input(1)[0, 0, 0, 0] = value
    with pytest.raises(ModelError, match=r"m\.onnx gave a value that is not finite in its output root"):
        network.run(1)
    network.input(1)[:] = 4
    assert (network.run(1)[0] == 2).all()


def test_a_file_that_is_missing_or_no_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        OpenVinoModel(tmp_path / "none.onnx")
    for name in ("a.onnx", "a.tflite", "a.bin"):
        (tmp_path / name).write_bytes(b"not a model at all" * 100)
        with pytest.raises(ModelError, match=rf"{name} is not an ONNX or TFLite model"):
            OpenVinoModel(tmp_path / name)
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(ModelError, match=rf"{name} is not an ONNX or TFLite model"):
            OpenVinoModel(tmp_path / name)


def test_an_output_that_is_not_there_and_a_precision_unknown_are_errors(model: OpenVinoModel) -> None:
    with pytest.raises(ModelError, match="has no output third; it has"):
        OpenVinoNetwork(model, outputs=("third",), threads=1)
    with pytest.raises(ModelError, match="precision 'f8' is not known"):
        OpenVinoNetwork(model, outputs=("twice",), threads=1, precision="f8")


def test_a_signal_finds_its_stack_after_the_last_network_has_gone(assets: Path) -> None:
    program = """
import signal, sys, threading
from streamkp.models.registry import open_estimator

estimator = open_estimator(sys.argv[1], threads=1)
closing = threading.Thread(target=estimator.close)  # as a stage's thread does
closing.start()
closing.join()
del estimator
signal.signal(signal.SIGINT, lambda *_: None)
signal.raise_signal(signal.SIGINT)
"""
    file = assets / "models/mediapipe/pose_landmark_lite.tflite"
    done = subprocess.run([sys.executable, "-c", program, str(file)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
