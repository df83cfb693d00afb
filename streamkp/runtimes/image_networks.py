"""What executes a torch network of the zoo on images: torch on CPU or GPU, or OpenVINO on the CPU.

Measured with HRNet-W32 at 256 x 192 on two cores: OpenVINO 148 ms a crop, torch 186 ms; HRNet-W18 at 256 x 256: 62 ms
against 520 ms. So OpenVINO is what runs on CPUs, and torch on GPUs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from streamkp.errors import ModelError
from streamkp.models import zoo
from streamkp.runtimes.conversion import openvino_file
from streamkp.runtimes.openvino import OpenVinoModel, OpenVinoNetwork

Device = Literal["auto", "cpu", "cuda"]
Runtime = Literal["auto", "openvino", "torch"]
Floats = NDArray[np.float32]


class Runner(Protocol):
    """A network in execution, for one thread at a time."""

    def __call__(self, images: Floats) -> list[Floats]:
        """Outputs for float32 (N, C, H, W), each (N, ...). Raises `ModelError` if one is not finite."""

    def close(self) -> None:
        """Let go of the network."""


class OpenVinoRunner:
    """Any number of samples, in turns of up to `batch`."""

    def __init__(self, model: OpenVinoModel, *, threads: int, precision: str, batch: int) -> None:
        self._network = OpenVinoNetwork(
            model, outputs=tuple(model.signature.outputs), threads=threads, precision=precision, max_batch=batch
        )

    def __call__(self, images: Floats) -> list[Floats]:
        parts: list[list[Floats]] = []
        done = 0
        while done < len(images):
            batch = self._network.bucket(len(images) - done)
            np.copyto(self._network.input(batch), images[done : done + batch])
            parts.append([output.copy() for output in self._network.run(batch)])
            done += batch
        return [np.concatenate(output) for output in zip(*parts, strict=True)]

    def close(self) -> None:
        self._network.close()


class TorchRunner:
    """All samples at once, on one device."""

    def __init__(self, name: str, checkpoint: Path, *, device: str, threads: int, precision: str) -> None:
        network = zoo.load(name, checkpoint)
        import torch

        if device == "cpu":
            torch.set_num_threads(threads)
        self._name = name
        self._device = torch.device(device)
        self._network: Callable[[Any], Any] | None = network.to(self._device)
        self._autocast = precision == "bf16"

    def __call__(self, images: Floats) -> list[Floats]:
        import torch

        assert self._network is not None
        with torch.inference_mode(), torch.autocast(self._device.type, torch.bfloat16, enabled=self._autocast):
            outputs = self._network(torch.from_numpy(images).to(self._device))
        arrays = [output.float().cpu().numpy() for output in (outputs if isinstance(outputs, tuple) else (outputs,))]
        if not all(np.isfinite(array.sum()) for array in arrays):
            raise ModelError(f"{self._name} gave a value that is not finite")
        return arrays

    def close(self) -> None:
        self._network = None


def open_runner(
    name: str,
    checkpoint: Path,
    input_shape: tuple[int, int, int],
    *,
    device: Device,
    runtime: Runtime,
    threads: int,
    precision: str,
    batch: int,
) -> Runner:
    """The torch network `name` with these weights, on the device and runtime that suit it best, or those asked for.

    `input_shape` is (channels, height, width). Raises `ModelError` if the checkpoint is not of this network, torch is
    needed and not installed, or there is no such device.
    """
    if device == "cuda" and runtime == "openvino":
        raise ModelError("OpenVINO runs on the CPU here: use runtime torch for device cuda")
    if device == "cpu" or runtime == "openvino":
        chosen = "cpu"
    else:
        chosen = _cuda(required=device == "cuda")
    if chosen == "cpu" and runtime != "torch":
        model = OpenVinoModel(openvino_file(name, checkpoint, input_shape))
        return OpenVinoRunner(model, threads=threads, precision=precision, batch=batch)
    return TorchRunner(name, checkpoint, device=chosen, threads=threads, precision=precision)


def _cuda(*, required: bool) -> str:
    try:
        import torch
    except ModuleNotFoundError:
        if required:
            raise ModelError("device cuda needs torch: pip install 'streamkp[torch]'") from None
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    if required:
        raise ModelError("device cuda: torch finds no GPU here (or it was installed without CUDA)")
    return "cpu"
