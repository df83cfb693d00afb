"""One interface, whatever runs a network, and one way to choose it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from streamkp.errors import ModelError, UsageError
from streamkp.runtimes import base, conversion
from streamkp.runtimes.base import NetworkSource, Pixels, RunOptions, TorchModule, choose, chunks, open_network

BUILT: list[int] = []


class Halves(nn.Module):
    """An image to its half size and to the mean of each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(2)
        self.gain = nn.Parameter(torch.tensor(2.0))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return self.pool(image) * self.gain, image.mean((2, 3))


def build() -> nn.Module:
    BUILT.append(1)
    return Halves().eval()


MODULE = TorchModule(build, {"image": (3, 4, 6)}, ("small", "means"), lambda: "version 1")
PIXELS = Pixels(rgb=True, mean=(10, 20, 30), scale=2.0)


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    patch = pytest.MonkeyPatch()
    folder = tmp_path_factory.mktemp("home")
    patch.setenv("STREAMKP_HOME", str(folder))
    yield folder
    patch.undo()


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "halves.onnx"
    names = {"input_names": ["image"], "output_names": ["small", "means"]}
    batch = {name: {0: "batch"} for name in ("image", "small", "means")}
    torch.onnx.export(Halves().eval(), (torch.zeros(1, 3, 4, 6),), path, **names, dynamic_axes=batch, dynamo=False)
    return path


@pytest.fixture(params=["openvino", "torch", "onnxruntime", "converted"])
def source(request: pytest.FixtureRequest, onnx_file: Path) -> tuple[NetworkSource, Any]:
    if request.param in ("openvino", "onnxruntime"):
        return NetworkSource("halves", file=onnx_file, pixels=PIXELS), request.param
    runtime = "torch" if request.param == "torch" else "openvino"
    return NetworkSource("halves", module=MODULE, pixels=PIXELS), runtime


@pytest.mark.parametrize("samples", [1, 3])
def test_every_runtime_gives_the_same(source: tuple[NetworkSource, Any], samples: int) -> None:
    network = open_network(source[0], RunOptions("cpu", source[1], threads=2))
    images = np.random.default_rng(0).integers(0, 256, (samples, 4, 6, 3), np.uint8)
    planes = ((images[..., ::-1].astype(np.float32) - (10, 20, 30)) / 2).transpose(0, 3, 1, 2)
    assert {name: port.shape for name, port in network.inputs.items()} == {"image": (-1, 4, 6, 3)}
    assert list(network.outputs) == ["small", "means"]
    for found in (network({"image": images}), network.submit({"image": images}).result()):
        np.testing.assert_allclose(found["means"], planes.mean((2, 3)), rtol=1e-5)
        halves = planes.reshape(samples, 3, 2, 2, 3, 2).mean((3, 5)) * 2
        np.testing.assert_allclose(found["small"], halves, rtol=1e-5, atol=1e-4)
        assert found["small"].dtype == np.float32
    network.close()


def test_every_runtime_says_the_same_of_a_value_that_is_not_finite(source: tuple[NetworkSource, Any]) -> None:
    blind = NetworkSource("halves", source[0].file, source[0].module, pixels=Pixels(scale=2e-38))
    network = open_network(blind, RunOptions("cpu", source[1]))
    with pytest.raises(ModelError, match="halves gave a value that is not finite in its output small"):
        network({"image": np.full((1, 4, 6, 3), 200, np.uint8)})


def test_a_module_is_converted_once_whoever_asks(home: Path) -> None:
    module = TorchModule(build, MODULE.inputs, MODULE.outputs, lambda: "version 2")
    BUILT.clear()
    files: list[Path] = []
    asking = [
        threading.Thread(target=lambda: files.append(conversion.openvino_file("a/b c.pth", module))) for _ in range(4)
    ]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert len(BUILT) == 1
    assert len(set(files)) == 1
    assert files[0].parent == home / "converted"
    assert files[0].name.startswith("b-c-")
    newer = TorchModule(build, MODULE.inputs, MODULE.outputs, lambda: "version 3")
    assert conversion.openvino_file("a/b c.pth", newer) != files[0]
    assert len(BUILT) == 2


FILE = NetworkSource("a.onnx", file=Path("a.onnx"))
TFLITE = NetworkSource("a.tflite", file=Path("a.tflite"))
TORCH = NetworkSource("a", module=MODULE)
OWN = NetworkSource("a.tflite", file=Path("a.tflite"), own_torch=True)
BOTH = NetworkSource("b", file=Path("b.tflite"), module=MODULE)


@pytest.mark.parametrize(
    ("source", "device", "runtime", "gpus", "expected"),
    [
        (FILE, "auto", "auto", 0, ("openvino", "cpu")),
        (TORCH, "auto", "auto", 0, ("openvino", "cpu")),
        (TORCH, "cpu", "torch", 0, ("torch", "cpu")),
        (FILE, "cpu", "onnxruntime", 0, ("onnxruntime", "cpu")),
        (TORCH, "auto", "auto", 1, ("torch", "cuda")),
        (BOTH, "auto", "auto", 1, ("torch", "cuda")),
        (BOTH, "cpu", "auto", 1, ("openvino", "cpu")),
        (TORCH, "auto", "openvino", 1, ("openvino", "cpu")),
        (TFLITE, "auto", "auto", 1, ("openvino", "cpu")),
        (OWN, "auto", "auto", 1, ("torch", "cuda")),
        (OWN, "auto", "auto", 0, ("openvino", "cpu")),
        (OWN, "cpu", "torch", 0, ("torch", "cpu")),
    ],
)
def test_what_is_chosen(
    source: NetworkSource,
    device: Any,
    runtime: Any,
    gpus: int,
    expected: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(base, "cuda_devices", lambda: gpus)
    assert choose(source, RunOptions(device, runtime)) == expected


@pytest.mark.parametrize(
    ("source", "device", "runtime", "error", "words"),
    [
        (TORCH, "cuda", "openvino", UsageError, "for device cuda leave out runtime, or set torch"),
        (FILE, "auto", "torch", UsageError, "has no form in torch"),
        (TORCH, "auto", "onnxruntime", UsageError, "not an ONNX file"),
        (TFLITE, "auto", "tensorrt", UsageError, "not an ONNX file, which runtime tensorrt needs"),
        (FILE, "cpu", "tensorrt", UsageError, "runtime tensorrt runs on a GPU"),
        (FILE, "auto", "tensorrt", ModelError, "cannot run on device cuda: the CUDA driver finds no GPU"),
        (TFLITE, "cuda", "auto", UsageError, "only be run by OpenVINO on the CPU"),
        (TORCH, "cuda", "auto", ModelError, "cannot run on device cuda: the CUDA driver finds no GPU"),
        (FILE, "cuda", "auto", ModelError, "cannot run on device cuda: the CUDA driver finds no GPU"),
    ],
)
def test_what_cannot_be_chosen(
    source: NetworkSource,
    device: Any,
    runtime: Any,
    error: type[Exception],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(base, "cuda_devices", lambda: 0)
    with pytest.raises(error, match=words):
        choose(source, RunOptions(device, runtime))


def test_samples_are_shared_out() -> None:
    assert chunks(8, (1,), 2) == [1] * 8
    assert chunks(8, (1, 2, 4, 8), 2) == [4, 4]
    assert chunks(7, (1, 2, 4, 8), 2) == [4, 2, 1]
    assert chunks(3, (1, 2, 4), 4) == [1, 1, 1]
    assert chunks(5, (1, 2, 4), 1) == [4, 1]
    assert chunks(0, (1, 2), 2) == []
