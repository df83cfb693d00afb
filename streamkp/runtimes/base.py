"""The one interface of a network in execution, and the one way to choose what executes it.

    source = NetworkSource("yolox-nano", file=path, pixels=Pixels(rgb=False))
    network = open_network(source, RunOptions(threads=2))
    outputs = network({"images": crops})            # named arrays in, named arrays out, any number of samples
    pending = network.submit({"images": crops})     # the same, in the background
    network.close()

What runs it, where `runtime` and `device` are `auto`:

* on a CPU OpenVINO: ONNX and TFLite files as they are, torch modules converted once (`runtimes.conversion`);
* on CUDA torch for whatever has a torch module, ONNX Runtime for other ONNX files. `tensorrt` is ONNX Runtime too, with
  NVIDIA's compiler, which takes minutes the first time and keeps what it makes.

Measured on two Xeon cores: HRNet-W32 at 256 x 192 takes 148 ms a crop in OpenVINO and 186 in torch, HDFormer over 96
frames with its mirrored twin 21 ms and 54. Therefore torch is not what `auto` means on a CPU.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, get_args

import numpy as np
from annotated_types import Ge
from numpy.typing import NDArray

from streamkp.errors import ModelError, UsageError

if TYPE_CHECKING:
    from torch import nn

Array = NDArray[Any]
Device = Literal["auto", "cpu", "cuda"]
Runtime = Literal["auto", "openvino", "torch", "onnxruntime", "tensorrt"]
Precision = Literal["f32", "tf32", "bf16", "f16"]
Buckets = tuple[int, ...] | Literal["auto"] | None
Threads = Annotated[int, Ge(1)] | Literal["auto"]

_ALONE = 4  # threads of one small network beyond which more of them hardly help


@dataclass(frozen=True)
class RunOptions:
    """How a network is to be run.

    Attributes:
        device: `auto` is CUDA where there is a GPU and the network can run on it.
        runtime: `auto` is described at the head of this module.
        threads: CPU threads; `auto` is the processors that this process may use. Those of torch are set for the
            whole process.
        precision: arithmetic of the network. bf16 and f16 are faster on processors that have them. tf32 is f32 whose
            products a GPU makes of 11 significant bits; on a CPU it is f32.
        buckets: numbers of samples for which a network with fixed shapes is made ready, ascending; OpenVINO needs 1
            among them. None for any number at once, in one graph of free shape. `auto` is 1 in OpenVINO, any number in
            torch on a CPU, and powers of two on CUDA: a CPU gains nothing from larger batches of large networks;
            small ones (lifters) and GPUs do.
    """

    device: Device = "auto"
    runtime: Runtime = "auto"
    threads: Threads = "auto"
    precision: Precision = "f32"
    buckets: Buckets = "auto"

    def __post_init__(self) -> None:
        for name, value, known in (
            ("device", self.device, get_args(Device)),
            ("runtime", self.runtime, get_args(Runtime)),
            ("precision", self.precision, get_args(Precision)),
        ):
            if value not in known:
                raise UsageError(f"{name} {value!r} is not known; it is one of {', '.join(known)}")
        if self.threads != "auto" and self.threads < 1:
            raise UsageError(f"threads must be at least 1, or auto, not {self.threads}")
        if isinstance(self.buckets, tuple) and (
            not self.buckets or self.buckets[0] < 1 or list(self.buckets) != sorted(set(self.buckets))
        ):
            raise UsageError(f"buckets must ascend from 1, not be {self.buckets}")


@dataclass(frozen=True)
class Port:
    """An input or output: shape with the batch first, -1 where a dimension is free, and numpy's dtype."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class Pixels:
    """How a network wants its image. With it the input is uint8 (N, H, W, 3) BGR, and the runtime does the rest.

    The network gets (value - `mean`) / `scale` of each 0..255 value, as RGB where `rgb` is set, in its own layout.
    Both may be given by channel, in the order of the network's channels.
    """

    rgb: bool = True
    mean: float | tuple[float, ...] = 0.0
    scale: float | tuple[float, ...] = 1.0


@dataclass(frozen=True)
class TorchModule:
    """A network in torch, made only when it is needed.

    Attributes:
        build: makes the module in eval mode with its weights; float32 tensors by position in the order of `inputs`,
            the batch first, to one tensor or a tuple of them. Raises `ModelError`.
        inputs: shape of one sample by name. Of an image the channels may come first or last.
        outputs: names of the outputs, in order.
        fingerprint: text that changes whenever the weights or the code of the module do; key of what is converted
            from it. Called only where something is converted.
        uint8: inputs that are uint8 and not float32.
    """

    build: Callable[[], nn.Module]
    inputs: Mapping[str, tuple[int, ...]]
    outputs: tuple[str, ...]
    fingerprint: Callable[[], str]
    uint8: frozenset[str] = frozenset()


@dataclass(frozen=True)
class NetworkSource:
    """What to run: a file (ONNX, TFLite, OpenVINO), a torch module, or both forms of the same network.

    Attributes:
        name: for messages.
        file: a file that OpenVINO (and, if it ends in .onnx, ONNX Runtime) reads.
        module: the network in torch. With `file` too, it has the same input and output names.
        outputs: those that are read, others are cut away; None for all.
        channels: of these outputs only that index of the last dimension is left, which then has length 1.
        pixels: the network's only input is an image, given as uint8 (N, H, W, 3) BGR.
        own_torch: `file` is TFLite, and the family opens a form of it in torch by itself where `choose` says torch,
            with images on the device.
    """

    name: str
    file: Path | None = None
    module: TorchModule | None = None
    outputs: tuple[str, ...] | None = None
    channels: Mapping[str, int] = field(default_factory=dict)
    pixels: Pixels | None = None
    own_torch: bool = False

    @property
    def in_torch(self) -> bool:
        """Whether there is a form in torch."""
        return self.module is not None or self.own_torch

    @property
    def packages(self) -> tuple[str, ...]:
        """What the form in torch needs, by the names under which it is imported."""
        return ("torch", "tflite") if self.own_torch else ("torch",)


class Pending(Protocol):
    """Samples on their way through a network."""

    def result(self) -> dict[str, Array]:
        """Wait for the outputs by name, which belong to the caller.

        Raises `ModelError` if one is NaN or infinite.
        """


class Network(Protocol):
    """A network in execution, used by one thread at a time. Several networks may run at the same time.

    Attributes:
        name: for messages.
        device: "cpu" or "cuda".
        inputs, outputs: by name, in order.
    """

    name: str
    device: str
    inputs: Mapping[str, Port]
    outputs: Mapping[str, Port]

    @property
    def buckets(self) -> tuple[int, ...] | None:
        """Numbers of samples that it is made ready for, None for any. More are done in turns, or side by side."""

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name for any number of samples, the first dimension of every array; they belong to the caller.

        A network on CUDA also takes tensors that lie there. Nothing else waits for the processors: a single sample
        may use them all, several samples run side by side with one thread each. Raises `ModelError` if an output is
        NaN or infinite.
        """

    @property
    def side_by_side(self) -> int | None:
        """Samples that are worked on at a time, each by a thread; None where a batch is worked on as a whole."""

    def submit(self, inputs: Mapping[str, Array], *, crowded: bool = True) -> Pending:
        """Start the same in the background: each sample with one thread, so that others run beside it.

        Not `crowded`, a single sample may use all threads. The arrays must not change until the result is there.
        Returns when all samples are under way or next in turn: it waits while twice as many are as there are threads.
        """

    def close(self) -> None:
        """Let go of the network, its memory and its threads."""


def open_network(source: NetworkSource, options: RunOptions) -> Network:
    """Make a network ready to run by the runtime and on the device that suit it best, or those asked for.

    Raises:
        UsageError: options contradict each other, or the network has no form for that runtime.
        ModelError: the file or checkpoint is not this network, a package that is needed is not installed, or there
            is no such device.
    """
    runtime, device = choose(source, options)
    if runtime == "openvino":
        from streamkp.runtimes.openvino import OpenVinoNetwork

        return OpenVinoNetwork(source, options)
    if runtime == "torch":
        from streamkp.runtimes.torch import open_torch

        return open_torch(source, options, device)
    from streamkp.runtimes.onnxruntime import OnnxNetwork

    return OnnxNetwork(source, options, device, tensorrt=runtime == "tensorrt")


def choose(source: NetworkSource, options: RunOptions) -> tuple[Runtime, Literal["cpu", "cuda"]]:
    """The runtime and the device for a network; see `open_network`. Makes nothing ready and imports no runtime."""
    runtime, device = options.runtime, options.device
    onnx = source.file is not None and source.file.suffix == ".onnx"
    if runtime == "openvino" and device == "cuda":
        raise UsageError("runtime openvino runs on the CPU: for device cuda leave out runtime, or set torch")
    if runtime == "torch" and not source.in_torch:
        raise UsageError(f"{source.name} has no form in torch: leave out runtime")
    if runtime in ("onnxruntime", "tensorrt") and not onnx:
        raise UsageError(f"{source.name} is not an ONNX file, which runtime {runtime} needs: leave out runtime")
    if runtime == "tensorrt":
        if device == "cpu":
            raise UsageError("runtime tensorrt runs on a GPU: for device cpu leave out runtime")
        device = "cuda"
    if device == "cuda" and not source.in_torch and not onnx:
        raise UsageError(f"{source.name} can only be run by OpenVINO on the CPU: leave out device")
    if device != "cpu" and runtime != "openvino" and _on_cuda(source, runtime, onnx, required=device == "cuda"):
        return ("torch" if runtime == "auto" and source.in_torch else _named(runtime, "onnxruntime")), "cuda"
    return _named(runtime, "openvino"), "cpu"


def _named(runtime: Runtime, otherwise: Runtime) -> Runtime:
    return otherwise if runtime == "auto" else runtime


def _on_cuda(source: NetworkSource, runtime: Runtime, onnx: bool, *, required: bool) -> bool:
    """Whether the network can run on CUDA here. Raises `ModelError`, saying why not, where it must."""
    if not cuda_devices():
        why = "the CUDA driver finds no GPU"
    elif source.in_torch and runtime in ("auto", "torch"):
        missing = [name for name in source.packages if find_spec(name) is None]
        if not missing:
            return True
        why = f"{missing[0]} is not installed: pip install 'streamkp[cuda]'"
    elif onnx:
        provider = "TensorrtExecutionProvider" if runtime == "tensorrt" else "CUDAExecutionProvider"
        if find_spec("onnxruntime") is not None and provider in _onnxruntime_providers():
            return True
        what = "TensorRT" if runtime == "tensorrt" else "CUDA"
        why = f"onnxruntime with {what} is not installed: pip install 'streamkp[onnxruntime-gpu]'"
    else:
        return False
    if required:
        raise ModelError(f"{source.name} cannot run on device cuda: {why}")
    return False


def _onnxruntime_providers() -> list[str]:
    import onnxruntime

    found: list[str] = onnxruntime.get_available_providers()
    return found


@cache
def cuda_devices() -> int:
    """How many GPUs the CUDA driver shows this process; 0 without a driver.

    Asks the driver itself: importing torch to learn that there is no GPU would cost seconds and 200 MB.
    """
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        count = ctypes.c_int()
        if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
            return 0
        return count.value
    except (OSError, AttributeError):
        return 0


def processors(threads: Threads) -> int:
    """The number of CPU threads that `threads` means: `auto` is the processors that this process may use."""
    if threads != "auto":
        return threads
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_alone(threads: Threads) -> int:
    """The threads of a network while it is alone: `auto` stops where more of them hardly help."""
    return min(_ALONE, processors("auto")) if threads == "auto" else threads


def chunks(samples: int, buckets: tuple[int, ...], workers: int) -> list[int]:
    """Sizes from `buckets` that add up to `samples`, at least one for each of `workers` where there are so many."""
    share = -(-samples // workers)
    sizes = []
    while samples:
        sizes.append(max(size for size in buckets if size <= min(share, samples)))
        samples -= sizes[-1]
    return sizes


def require_finite(name: str, outputs: Mapping[str, Array]) -> None:
    """Raises `ModelError` if a value of an output is NaN or infinite."""
    for output, values in outputs.items():
        # A sum is not finite if any part is not, and far cheaper than looking at each.
        if values.dtype.kind == "f" and not np.isfinite(values.sum(dtype=np.float32)):
            raise ModelError(f"{name} gave a value that is not finite in its output {output}")
