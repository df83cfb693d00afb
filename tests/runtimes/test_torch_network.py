"""Batches of fixed sizes: the same code on the CPU, where it runs always, and on CUDA, where there is one."""

import threading
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from streamkp.errors import ModelError
from streamkp.runtimes.base import NetworkSource, RunOptions, TorchModule
from streamkp.runtimes.torch_network import TorchNetwork

CUDA = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
DEVICES = ["cpu", pytest.param("cuda", marks=CUDA)]
INPUTS = {"image": (8, 8, 3), "shift": (1,)}


class Small(nn.Module):
    """A convolution and a sum, two outputs of different shapes."""

    def __init__(self, most: int = 1 << 30) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3)
        self.most = most

    def forward(self, image: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        if len(image) > self.most:
            raise torch.OutOfMemoryError("as a device that is full does")
        x = image.permute(0, 3, 1, 2).to(self.conv.weight.dtype) / 255
        y = self.conv(x) + shift[:, :, None, None]
        return y, y.amax((1, 2, 3))


def _given(n: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(n)
    return {"image": rng.integers(0, 256, (n, 8, 8, 3), np.uint8), "shift": rng.normal(size=(n, 1)).astype(np.float32)}


def _wanted(given: dict[str, np.ndarray]) -> list[np.ndarray]:
    with torch.no_grad():
        return [y.numpy() for y in Small()(*(torch.from_numpy(x) for x in given.values()))]


def _open(device: str, most: int = 1 << 30, buckets: Any = (1, 2, 4), precision: Any = "f32") -> TorchNetwork:
    module = TorchModule(lambda: Small(most), INPUTS, ("map", "peak"), str, uint8=frozenset({"image"}))
    options = RunOptions(precision=precision, buckets=buckets)
    return TorchNetwork(NetworkSource("small", module=module), options, device)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("samples", [1, 2, 3, 4, 5, 11])
def test_any_number_of_samples_comes_out_in_order(device: str, samples: int) -> None:
    network = _open(device)
    given = _given(samples)
    got = network(given)
    assert got["map"].shape == (samples, 4, 6, 6)
    for ours, wanted in zip(got.values(), _wanted(given), strict=True):
        np.testing.assert_allclose(ours, wanted, atol=1e-5)
    assert network.buckets == (1, 2, 4)


def test_a_cpu_takes_any_number_at_once() -> None:
    network = _open("cpu", buckets="auto")
    for samples in (3, 1, 70):
        given = _given(samples)
        np.testing.assert_allclose(network(given)["map"], _wanted(given)[0], atol=1e-5)
        assert network.most(samples) == samples
    assert network.buckets is None


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_powers_of_two_are_made_ready_on_cuda() -> None:
    assert _open("cuda", buckets="auto").buckets == (1, 2, 4, 8, 16, 32, 64)


@pytest.mark.parametrize("device", DEVICES)
def test_no_samples_give_no_rows(device: str) -> None:
    got = _open(device)(_given(0))
    assert (got["map"].shape, got["peak"].shape) == ((0, 4, 6, 6), (0,))


@pytest.mark.parametrize("device", DEVICES)
def test_results_not_yet_asked_for_outlive_the_next_batch(device: str) -> None:
    network = _open(device)
    pending = []
    for n in (2, 2, 1):
        given = _given(n)
        targets = network.buffers(n)
        with network.stream():
            for name, target in targets.items():
                target[:n].copy_(torch.from_numpy(given[name]))
        pending.append((network.launch(n), given))
    for launched, given in pending:
        np.testing.assert_allclose(launched.result()["peak"], _wanted(given)[1], atol=1e-5)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("precision", "error"), [("f16", 2e-3), ("bf16", 2e-2)])
def test_short_precisions_stay_near(device: str, precision: str, error: float) -> None:
    given = _given(4)
    got = _open(device, precision=precision)(given)
    assert got["map"].dtype == np.float32
    np.testing.assert_allclose(got["map"], _wanted(given)[0], atol=error * 4)
    assert not np.array_equal(got["map"], _wanted(given)[0])


@pytest.mark.parametrize("device", DEVICES)
def test_a_batch_that_does_not_fit_at_the_start_is_left_out(device: str, caplog: pytest.LogCaptureFixture) -> None:
    network = _open(device, most=2, buckets=(1, 8))
    assert network.buckets == (1, 2)
    assert "a batch of 8 does not fit" in caplog.text
    given = _given(5)
    np.testing.assert_allclose(network(given)["peak"], _wanted(given)[1], atol=1e-5)


@pytest.mark.parametrize("buckets", [(8,), (1, 2, 4, 8), "auto"])
def test_out_of_memory_later_halves_the_batch_and_goes_on(buckets: Any, caplog: pytest.LogCaptureFixture) -> None:
    network = _open("cpu", buckets=buckets)
    network._module.most = 3  # type: ignore[attr-defined]
    given = _given(8)
    np.testing.assert_allclose(network(given)["map"], _wanted(given)[0], atol=1e-5)
    assert network.buckets is not None
    assert network.buckets[-1] == 2
    assert "out of memory" in caplog.text


def test_no_room_for_one_sample_is_an_error() -> None:
    with pytest.raises(ModelError, match="not even one sample"):
        _open("cpu", most=0)


@pytest.mark.parametrize("device", DEVICES)
def test_what_is_not_finite_is_an_error(device: str) -> None:
    given = _given(1)
    given["shift"][:] = np.nan
    with pytest.raises(ModelError, match="not finite"):
        _open(device)(given)


def test_a_closed_network_says_so() -> None:
    network = _open("cpu")
    network.close()
    with pytest.raises(ModelError, match="closed"):
        network(_given(1))


class Waiting(nn.Module):
    """Reads a value back from the device, which no graph can hold."""

    def forward(self, x: Tensor) -> Tensor:
        return x + float(x.sum())


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_module_that_cannot_be_recorded_runs_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    module = TorchModule(Waiting, {"x": (2,)}, ("y",), str)
    network = TorchNetwork(NetworkSource("waiting", module=module), RunOptions(buckets=(1, 2)), "cuda")
    got = network({"x": np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)})["y"]
    np.testing.assert_allclose(got, [[11, 12], [13, 14]])
    assert "cannot be a CUDA graph" in caplog.text


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_no_device_is_an_error() -> None:
    with pytest.raises(ModelError, match="sees no CUDA device"):
        _open("cuda")


@pytest.mark.parametrize("device", DEVICES)
def test_networks_of_two_threads_do_not_mix(device: str) -> None:
    """One is opened, which records graphs, while the other runs."""
    first = _open(device)
    given = [_given(n) for n in (1, 2, 3, 4)]
    wanted = [_wanted(x)[0] for x in given]
    wrong: list[str] = []
    stop = threading.Event()

    def work() -> None:
        try:
            while not stop.is_set():
                for x, want in zip(given, wanted, strict=True):
                    if not np.allclose(first(x)["map"], want, atol=1e-5):
                        wrong.append("differs")
        except Exception as error:
            wrong.append(repr(error))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        second = _open(device)
        for x, want in zip(given, wanted, strict=True):
            np.testing.assert_allclose(second(x)["map"], want, atol=1e-5)
    finally:
        stop.set()
        thread.join()
    assert not wrong
