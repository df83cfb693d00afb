"""Opens torch modules; what runs them is `streamkp.runtimes.torch_network`. torch is imported only then."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from streamkp.errors import ModelError
from streamkp.runtimes.base import (
    Device as Device,
)
from streamkp.runtimes.base import (
    NetworkSource,
    RunOptions,
    Threads,
    TorchModule,
    choose,
    open_network,
)
from streamkp.runtimes.base import (
    Runtime as Runtime,
)

if TYPE_CHECKING:
    from torch import nn

    from streamkp.runtimes.torch_network import TorchNetwork

Float32 = NDArray[np.float32]


def open_torch(source: NetworkSource, options: RunOptions, device: str, **settings: Any) -> TorchNetwork:
    """The module of a source in torch on "cpu" or "cuda"; `settings` are those of `TorchNetwork`.

    Raises `ModelError` as `TorchNetwork` does, or if torch is not installed.
    """
    require_torch(source.name)
    from streamkp.runtimes.torch_network import TorchNetwork

    return TorchNetwork(source, options, device, **settings)


def require_torch(name: str) -> None:
    """Raises `ModelError`, saying how to install it, where torch is missing; `name` is what needs it."""
    try:
        import torch  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ModelError(f"{name} runs in torch, which is not installed: pip install 'streamkp[torch]'") from None


class Run(Protocol):
    """A network ready to run: float32 arrays in, float32 arrays out, the first dimension is the batch."""

    def __call__(self, *inputs: Float32) -> tuple[Float32, ...]:
        """Run one batch; what is returned belongs to the caller."""


def _nothing() -> nn.Module:
    raise NotImplementedError


def uses_cuda(device: Device, runtime: Runtime) -> bool:
    """Whether a torch module runs on CUDA, where there is any; not without torch."""
    source = NetworkSource("network", module=TorchModule(_nothing, {}, (), str))
    return choose(source, RunOptions("auto" if device == "cuda" else device, runtime))[1] == "cuda"


def open_run(
    network: nn.Module,
    examples: Sequence[Float32],
    *,
    device: Device = "auto",
    runtime: Runtime = "auto",
    threads: Threads = 2,
    many_small: bool = False,
) -> Run:
    """Make a network in eval mode ready to run on any number of samples; errors as for `base.open_network`.

    `examples` are inputs of the shapes to come; the batch may differ. `many_small` says that the network is of many
    small operations, which OpenVINO runs a quarter faster with fixed shapes.
    """
    import torch

    with torch.inference_mode():
        outputs = network(*map(torch.from_numpy, examples))
    module = TorchModule(
        build=lambda: network,
        inputs={f"input{i}": x.shape[1:] for i, x in enumerate(examples)},
        outputs=tuple(f"output{i}" for i in range(len(outputs) if isinstance(outputs, tuple) else 1)),
        fingerprint=lambda: _fingerprint(network),
    )
    source = NetworkSource(type(network).__name__.strip("_").lower(), module=module)
    options = RunOptions(device, runtime, threads, buckets=None)
    if many_small and choose(source, options)[0] == "openvino":
        options = replace(options, buckets=(1, 2, 4, 8))
    opened = open_network(source, options)

    def run(*inputs: Float32) -> tuple[Float32, ...]:
        return tuple(opened(dict(zip(module.inputs, inputs, strict=True))).values())

    return run


def _fingerprint(network: nn.Module) -> str:
    """Changes with the weights, the structure, and the source files of the modules."""
    plain = (bool, int, float, str, tuple)
    attributes = [{k: v for k, v in vars(m).items() if isinstance(v, plain)} for m in network.modules()]
    digest = hashlib.sha256(repr((network, attributes)).encode())
    for file in sorted({inspect.getfile(type(module)) for module in network.modules()}):
        if "site-packages" not in file:
            with open(file, "rb") as handle:
                digest.update(handle.read())
    for name, values in network.state_dict().items():
        digest.update(name.encode() + values.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
