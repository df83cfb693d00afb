import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from streamkp.errors import ModelError, UsageError
from streamkp.runtimes.base import Network, NetworkSource, Pixels, RunOptions, open_network
from streamkp.runtimes.openvino import read_signature

SHAPE = [1, 3, 2, 4]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """x (1, 3, 2, 4) -> twice: 2 x, root: sqrt(x), squash: sigmoid(x)."""
    nodes = [
        helper.make_node("Add", ["x", "x"], ["twice"]),
        helper.make_node("Sqrt", ["x"], ["root"]),
        helper.make_node("Sigmoid", ["x"], ["squash"]),
    ]
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, SHAPE) for n in ("twice", "root", "squash")]
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)
    graph = helper.make_graph(nodes, "g", [image], outputs)
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def opened(
    model: Path, *outputs: str, pixels: Pixels | None = None, channels: dict[str, int] | None = None, **options: object
) -> Network:
    source = NetworkSource("m", file=model, outputs=outputs, pixels=pixels, channels=channels or {})
    return open_network(source, RunOptions("cpu", "openvino", **options))  # type: ignore[arg-type]


def counted(samples: int) -> np.ndarray:
    return np.ones((samples, 3, 2, 4), np.float32) * np.arange(samples, dtype=np.float32)[:, None, None, None]


def test_the_signature_names_inputs_and_outputs(model: Path) -> None:
    signature = read_signature(model)
    assert signature.inputs == {"x": (1, 3, 2, 4)}
    assert set(signature.outputs) == {"twice", "root", "squash"}
    assert signature.first_operations == {"Add", "Sqrt", "Sigmoid"}


def test_only_the_named_outputs_are_there_in_the_order_named(model: Path) -> None:
    found = opened(model, "root", "twice", threads=1)({"x": np.full(SHAPE, 4, np.float32)})
    assert list(found) == ["root", "twice"]
    assert (found["root"] == 2).all()
    assert (found["twice"] == 8).all()


def test_pixels_go_in_as_they_are_decoded(model: Path) -> None:
    network = opened(model, "twice", threads=1, pixels=Pixels(rgb=True, mean=10, scale=2))
    assert network.inputs["x"].shape == (-1, 2, 4, 3)
    assert network.inputs["x"].dtype == np.uint8
    image = np.broadcast_to(np.array([10, 20, 30], np.uint8), (1, 2, 4, 3))  # B, G, R
    np.testing.assert_allclose(network({"x": image})["twice"][0, :, 1, 1], [20, 10, 0])


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("buckets", [(1,), (1, 2, 4), None])
@pytest.mark.parametrize("samples", [0, 1, 2, 3, 7, 20])
def test_any_number_of_samples_comes_back_in_order(
    model: Path, threads: int, buckets: tuple[int, ...] | None, samples: int
) -> None:
    network = opened(model, "twice", threads=threads, buckets=buckets)
    for _ in range(2):
        found = network({"x": counted(samples)})["twice"]
        assert found.shape == (samples, 3, 2, 4)
        assert found[:, 0, 0, 0].tolist() == [2 * i for i in range(samples)]


def test_results_in_the_background_keep_their_values_in_any_order(model: Path) -> None:
    network = opened(model, "twice", threads=2)
    pending = [network.submit({"x": counted(3) + 10 * i}) for i in range(5)]  # far more than there are requests
    for i in (4, 0, 2, 1, 3):
        assert pending[i].result()["twice"][:, 0, 0, 0].tolist() == [20 * i, 20 * i + 2, 20 * i + 4]
    network.close()


@pytest.mark.parametrize("crowded", [False, True])
def test_a_sample_by_itself_or_beside_others_is_the_same_to_the_last_bit(model: Path, crowded: bool) -> None:
    network = opened(model, "squash", threads=2)
    x = np.linspace(-3, 3, 24, dtype=np.float32).reshape(1, 3, 2, 4)
    (expected,) = network({"x": x}).values()
    pending = [network.submit({"x": x}, crowded=crowded) for _ in range(9)]
    for each in reversed(pending):
        np.testing.assert_array_equal(each.result()["squash"], expected)
    assert network.side_by_side == 2
    network.close()


def test_one_channel_of_an_output_is_the_same_as_in_the_whole(model: Path) -> None:
    network = opened(model, "squash", "twice", threads=1, channels={"squash": 2})
    found = network({"x": np.arange(24, dtype=np.float32).reshape(1, 3, 2, 4)})
    assert found["twice"].shape == (1, 3, 2, 4)
    np.testing.assert_allclose(found["squash"], 1 / (1 + np.exp(-found["twice"][..., 2:3] / 2)), atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1])
def test_what_is_not_finite_is_an_error_and_the_next_run_is_not(model: Path, value: float) -> None:
    network = opened(model, "root", threads=1)
    sound = np.full((3, 3, 2, 4), 4, np.float32)
    broken = sound.copy()
    broken[1, 0, 0, 0] = value
    with pytest.raises(ModelError, match="m gave a value that is not finite in its output root"):
        network({"x": broken})
    assert (network({"x": sound})["root"] == 2).all()


def test_a_file_that_is_missing_or_no_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        opened(tmp_path / "none.onnx", "twice")
    for name in ("a.onnx", "a.tflite", "a.bin"):
        for content in (b"not a model at all" * 100, b""):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(ModelError, match=rf"{name} is not an ONNX or TFLite model"):
                opened(tmp_path / name, "twice")


def test_an_output_that_is_not_there_is_an_error(model: Path) -> None:
    with pytest.raises(ModelError, match="has no output third; it has"):
        opened(model, "third", threads=1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"precision": "f8"}, "precision 'f8' is not known; it is one of f32, tf32, bf16, f16"),
        ({"threads": 0}, "threads must be at least 1"),
        ({"buckets": (2, 4)}, "buckets must ascend from 1"),
    ],
)
def test_options_that_make_no_sense_are_refused(model: Path, options: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        opened(model, "twice", **options)


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
