"""Torch modules run by torch itself, on the CPU or a GPU. torch is imported only when a network is opened."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from streamkp.errors import ModelError
from streamkp.runtimes.base import (
    Array,
    NetworkSource,
    Pixels,
    Port,
    RunOptions,
    Threads,
    TorchModule,
    choose,
    open_network,
    processors,
    require_finite,
)
from streamkp.runtimes.base import (
    Device as Device,
)
from streamkp.runtimes.base import (
    Runtime as Runtime,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

Float32 = NDArray[np.float32]


def open_torch(source: NetworkSource, options: RunOptions, device: str) -> TorchNetwork:
    """The module of a source in torch on "cpu" or "cuda". Raises `ModelError` if torch is not installed."""
    require_torch(source.name)
    return TorchNetwork(source, options, device)


def require_torch(name: str) -> None:
    """Raises `ModelError`, saying how to install it, where torch is missing; `name` is what needs it."""
    try:
        import torch  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ModelError(f"{name} runs in torch, which is not installed: pip install 'streamkp[torch]'") from None


class TorchNetwork:
    """A module in torch, a `streamkp.runtimes.base.Network`: up to the largest bucket of samples at once."""

    def __init__(self, source: NetworkSource, options: RunOptions, device: str) -> None:
        import torch

        assert source.module is not None
        if device == "cpu":
            torch.set_num_threads(processors(options.threads))
        self.name = source.name
        self.device = device
        self.buckets = options.buckets
        self._largest = options.buckets[-1] if options.buckets and len(options.buckets) > 1 else None
        self._dtype = {"f32": None, "bf16": torch.bfloat16, "f16": torch.float16}[options.precision]
        self._network: nn.Module | None = source.module.build().requires_grad_(False).eval().to(device)
        self._pixels = source.pixels
        self._channels = source.channels
        self._wanted = source.outputs or source.module.outputs
        self._names = source.module.outputs
        shapes = source.module.inputs.items()
        self.inputs: Mapping[str, Port] = {name: _port(shape, source.pixels) for name, shape in shapes}
        found = self._run([np.zeros((1, *port.shape[1:]), port.dtype) for port in self.inputs.values()])
        self.outputs: Mapping[str, Port] = {
            name: Port((-1, *values.shape[1:]), np.dtype(np.float32)) for name, values in found.items()
        }

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See `Network`."""
        return self.submit(inputs).result()

    def submit(self, inputs: Mapping[str, Array]) -> _Done:
        """See `Network`. On a CPU the work is done before it returns."""
        given = [inputs[name] for name in self.inputs]
        samples = len(given[0])
        step = self._largest or max(samples, 1)
        parts = [self._run([values[i : i + step] for values in given]) for i in range(0, max(samples, 1), step)]
        return _Done(self.name, {name: [part[name] for part in parts] for name in self._wanted})

    def close(self) -> None:
        """Let go of the network."""
        self._network = None

    def _run(self, given: Sequence[Any]) -> dict[str, Tensor]:
        import torch

        assert self._network is not None, "the network is closed"
        with torch.inference_mode(), torch.autocast(self.device, self._dtype, enabled=self._dtype is not None):
            tensors = [(x if torch.is_tensor(x) else torch.from_numpy(x)).to(self.device) for x in given]
            if self._pixels is not None:
                tensors = [normalised(tensors[0], self._pixels)]
            outputs = self._network(*tensors)
        named = dict(zip(self._names, outputs if isinstance(outputs, tuple) else (outputs,), strict=True))
        for name, index in self._channels.items():
            named[name] = named[name][..., index : index + 1]
        return {name: named[name].float() for name in self._wanted}


class _Done:
    """A `Pending`: tensors on their way to the host."""

    def __init__(self, name: str, parts: Mapping[str, Sequence[Tensor]]) -> None:
        self._name = name
        self._parts = parts

    def result(self) -> dict[str, Array]:
        """See `Pending`."""
        import torch

        found = {name: torch.cat(list(parts)).cpu().numpy() for name, parts in self._parts.items()}
        require_finite(self._name, found)
        return found


def normalised(images: Tensor, pixels: Pixels) -> Tensor:
    """A network's input float32 (N, 3, H, W) from uint8 images (N, H, W, 3) BGR."""
    import torch

    channels = images.flip(-1) if pixels.rgb else images
    mean, scale = (torch.tensor(v, dtype=torch.float32, device=images.device) for v in (pixels.mean, pixels.scale))
    return ((channels.float() - mean) / scale).permute(0, 3, 1, 2).contiguous()


def _port(shape: tuple[int, ...], pixels: Pixels | None) -> Port:
    if pixels is None:
        return Port((-1, *shape), np.dtype(np.float32))
    channels, height, width = shape
    return Port((-1, height, width, channels), np.dtype(np.uint8))


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
    options = RunOptions(device, runtime, threads, buckets=(1, 2, 4, 8) if many_small else None)
    opened = open_network(NetworkSource(type(network).__name__.strip("_").lower(), module=module), options)

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
