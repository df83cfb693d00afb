"""Networks written in torch, run by torch itself (CPU, CUDA) or converted to OpenVINO (CPU).

Measured on two Xeon threads, f32, one person (milliseconds, torch / OpenVINO): HDFormer over 96 frames with its
mirrored twin 54 / 21, VideoPose3D over 243 frames 11 / 4.4, over 27 frames 4.4 / 1.4; on one thread, and with more
people, the ratio is about the same. So OpenVINO is what `auto` means on a CPU; converting costs 2 to 6 s at the start.

torch is imported only when a network is opened.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from streamkp.errors import ModelError, UsageError

if TYPE_CHECKING:
    from torch import nn

Device = Literal["auto", "cpu", "cuda"]
Runtime = Literal["auto", "torch", "openvino"]
Float32 = NDArray[np.float32]


class Run(Protocol):
    """A network ready to run: float32 arrays in, float32 arrays out, the first dimension is the batch."""

    def __call__(self, *inputs: Float32) -> tuple[Float32, ...]:
        """Run one batch; what is returned belongs to the caller."""


def uses_cuda(device: Device, runtime: Runtime) -> bool:
    """Whether a network runs on CUDA, where there is any; not without torch."""
    if device == "cpu" or runtime == "openvino" or find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()


def open_run(
    network: nn.Module,
    examples: Sequence[Float32],
    *,
    device: Device = "auto",
    runtime: Runtime = "auto",
    threads: int = 2,
    many_small: bool = False,
) -> Run:
    """Make a network in eval mode ready to run on any number of samples.

    Args:
        examples: inputs of the shapes to come; the batch may differ.
        device: `auto` is CUDA where torch sees a device.
        runtime: `auto` is torch on CUDA and OpenVINO on a CPU.
        threads: CPU threads. Of torch they are the threads of the whole process: the last network opened decides.
        many_small: the network is of many small operations, which OpenVINO runs a quarter faster with fixed shapes.
            The batch of `examples` then gets a graph of its own.

    Raises:
        UsageError: OpenVINO was asked to run on CUDA.
        ModelError: there is no CUDA device.
    """
    import torch

    if device == "cuda" and runtime == "openvino":
        raise UsageError("runtime: openvino runs on the CPU; set runtime: torch for device: cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise ModelError(
            "device: cuda, but torch sees no CUDA device; install a CUDA build of torch, or set device: cpu"
        )
    on_cuda = uses_cuda(device, runtime)
    network = network.requires_grad_(False)
    if on_cuda or runtime == "torch":
        return _Torch(network, "cuda" if on_cuda else "cpu", threads)
    from streamkp.runtimes.openvino import OpenVinoRun

    graph = _convert(network, examples)
    return OpenVinoRun(graph, threads=threads, fixed=[x.shape for x in examples] if many_small else ())


class _Torch:
    def __init__(self, network: nn.Module, device: str, threads: int) -> None:
        import torch

        self._device = torch.device(device)
        self._network = network.to(self._device)
        if device == "cpu":
            torch.set_num_threads(threads)

    def __call__(self, *inputs: Float32) -> tuple[Float32, ...]:
        import torch

        with torch.inference_mode():
            outputs = self._network(*(torch.from_numpy(x).to(self._device) for x in inputs))
        return tuple(y.cpu().numpy() for y in (outputs if isinstance(outputs, tuple) else (outputs,)))


def _convert(network: nn.Module, examples: Sequence[Float32]) -> Any:
    import openvino as ov
    import torch

    # Tracing is several times faster than torch.export here, and freezing first halves OpenVINO's part. A batch of
    # two, because a length of one could be taken for a constant.
    two = tuple(torch.from_numpy(np.concatenate([x, x])[:2]) for x in examples)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of checks and constants in forward(), which are the same for every batch
        traced = torch.jit.trace(network, two, check_trace=False)  # type: ignore[no-untyped-call]
        shapes = [(ov.PartialShape([-1, *x.shape[1:]]), ov.Type.f32) for x in examples]
        return ov.convert_model(torch.jit.freeze(traced), input=shapes)
