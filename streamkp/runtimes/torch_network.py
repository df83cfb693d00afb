"""The runtime of torch modules: on a GPU in batches of fixed sizes as CUDA graphs, on a CPU by the same code without.

Each network has a CUDA stream of its own. For every batch size (bucket) the inputs and outputs lie at fixed places,
and one recorded graph does everything from input to packed result, so that a call costs one launch whatever the
number of layers. All outputs of a batch are packed into one float32 row per sample and come back in one copy.

This module imports torch; `streamkp.runtimes.torch` opens networks without importing it before.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from streamkp.errors import ModelError
from streamkp.runtimes.base import Array, NetworkSource, Pixels, Port, RunOptions, processors, require_finite

log = logging.getLogger("streamkp.runtimes")

BUCKETS = (1, 2, 4, 8, 16, 32, 64)  # what `auto` means on CUDA
_DTYPES = {"f32": torch.float32, "tf32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
_WARM_UP = 3  # runs before recording: libraries choose their kernels and allocate in the first ones
# Recording a graph forbids some calls of other threads; networks are opened one after another.
_RECORDING = threading.Lock()


class TorchNetwork:
    """A module in torch, a `streamkp.runtimes.base.Network`.

    Code that prepares the input on the device itself fills `buffers(n)` within `stream()` and calls `launch(n)`;
    the results are then on their way, and the caller's thread can prepare the next batch.
    """

    def __init__(
        self,
        source: NetworkSource,
        options: RunOptions,
        device: str,
        *,
        graphs: bool = True,
        tuned: bool = False,
        compiled: bool = False,
    ) -> None:
        """`graphs`: record CUDA graphs. `tuned`: try which of cuDNN's kernels is fastest for each bucket, which takes
        minutes. Neither has an effect on a CPU. `compiled`: fuse by torch.compile, which takes minutes.

        Raises:
            ModelError: the module cannot be made, torch sees no CUDA device, or not even one sample fits into memory.
        """
        assert source.module is not None
        self._on_gpu = device.startswith("cuda")
        if self._on_gpu and not torch.cuda.is_available():
            raise ModelError(f"{source.name} cannot run on device {device}: torch sees no CUDA device")
        if not self._on_gpu:
            torch.set_num_threads(processors(options.threads))
        self.name, self.device, self.precision = source.name, device, options.precision
        self._dtype, self._tuned = _DTYPES[options.precision], tuned
        self._names, self._wanted = source.module.outputs, source.outputs or source.module.outputs
        self._channels = source.channels
        self._pixels = None if source.pixels is None else _Pixels(source, device)
        self.inputs: Mapping[str, Port] = {
            name: _port(shape, name in source.module.uint8, source.pixels)
            for name, shape in source.module.inputs.items()
        }
        module = source.module.build().eval().requires_grad_(False).to(device=device, dtype=self._dtype)
        self._module: Callable[..., Tensor | tuple[Tensor, ...]] = (
            torch.compile(module, dynamic=False) if compiled else module
        )
        self._stream: Any = torch.cuda.Stream(device) if self._on_gpu else None  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle() if self._on_gpu and graphs else None
        self._prepared: dict[int, _Bucket] = {}
        self._pending: Launched | None = None
        # On a CPU there is no need of fixed sizes: batches are as large as they come.
        self._free = options.buckets is None or options.buckets == "auto"
        buckets = options.buckets if isinstance(options.buckets, tuple) else BUCKETS if self._on_gpu else (1,)
        # The largest first: graphs of smaller batches then find room in the memory of the larger ones.
        for bucket in sorted(buckets, reverse=True):
            self._prepare(bucket)
        self._free = self._free and not self._on_gpu
        self.outputs: Mapping[str, Port] = {
            name: Port((-1, *shape), np.dtype(np.float32)) for name, shape in self._shapes().items()
        }

    @property
    def buckets(self) -> tuple[int, ...] | None:
        """Batch sizes prepared, ascending; the larger ones go when memory runs out. None for any."""
        return None if self._free else tuple(sorted(self._prepared))

    def prepare(self, bucket: int) -> bool:
        """Add a batch size; whether it fits into memory. Where it does not, a half of it is tried, and so on."""
        self._prepare(bucket)
        return bucket in self._prepared

    def most(self, wanted: int) -> int:
        """How many of `wanted` samples one launch takes."""
        return wanted if self._free else min(wanted, max(self._prepared))

    def stream(self) -> Any:
        """A context in which work is queued on the network's stream; work queued before goes first."""
        if self._stream is None:
            return nullcontext()
        self._stream.wait_stream(torch.cuda.current_stream(self.device))
        return torch.cuda.stream(self._stream)

    def buffers(self, samples: int) -> dict[str, Tensor]:
        """Where the inputs of `samples` go, on the device, to be filled within `stream()` before `launch`.

        They may have room for more.
        """
        self._collect()
        return self._bucket(samples).inputs

    @property
    def module(self) -> nn.Module:
        """The module in execution."""
        assert isinstance(self._module, nn.Module)
        return self._module

    def step(self, samples: int) -> None:
        """Run the module once without a graph on what lies in `buffers(samples)`, for tools that watch it."""
        self._forward(self.buffers(samples))

    def launch(self, samples: int, *, forget: bool = False) -> Launched:
        """Run what lies in `buffers(samples)`; returns before it is done. `forget`: nobody will ask for the results.

        Raises `torch.OutOfMemoryError`, upon which `shrink` makes room.
        """
        self._collect()
        bucket = self._bucket(samples)
        with self.stream(), torch.no_grad():
            if bucket.graph is not None:
                bucket.graph.replay()
                packed = bucket.packed
            else:
                with self._arithmetic():
                    packed = self._packed({name: values[:samples] for name, values in bucket.inputs.items()})
            assert packed is not None
            bucket.host[:samples].copy_(packed[:samples], non_blocking=True)
            done = None
            if self._on_gpu:
                done = torch.cuda.Event()  # type: ignore[no-untyped-call]
                done.record()
        launched = Launched(self.name, self._wanted, bucket, samples, done)
        self._pending = None if forget else launched
        return launched

    def __call__(self, inputs: Mapping[str, Any]) -> dict[str, Array]:
        """See `Network`."""
        return self.submit(inputs).result()

    side_by_side = None

    def submit(self, inputs: Mapping[str, Any], *, crowded: bool = True) -> Job:
        """See `Network`. On a CPU the work is done before it returns."""
        given = {name: _tensor(inputs[name], port) for name, port in self.inputs.items()}
        total = len(next(iter(given.values())))
        parts: list[Launched] = []
        done = 0
        while done < total:
            count = self.most(total - done)
            try:
                targets = self.buffers(count)
                with self.stream():
                    for name, target in targets.items():
                        target[:count].copy_(given[name][done : done + count], non_blocking=True)
                parts.append(self.launch(count))
                done += count
            except torch.OutOfMemoryError:
                self.shrink(count)
        return Job(self.name, self.outputs, parts)

    def shrink(self, samples: int) -> None:
        """Give up the largest batch size, or halve `samples`, because memory ran out; says so in the log.

        Raises `ModelError` if one sample is too much.
        """
        largest = samples if self._free else max(self._prepared)
        self._pending = None
        self._free = False
        self._prepared = {size: bucket for size, bucket in self._prepared.items() if size < largest}
        if self._on_gpu:
            torch.cuda.empty_cache()
        if not self._prepared or max(self._prepared) < largest // 2:
            self._prepare(largest // 2)
        log.warning(
            "%s: out of memory on %s with %d at once; going on with %d",
            self.name,
            self.device,
            largest,
            max(self._prepared),
        )

    def close(self) -> None:
        """Let go of the graphs and of the memory of the device."""
        if self._stream is not None:
            self._stream.synchronize()
        self._prepared.clear()
        self._pending = None
        self._free = True
        self._module = _closed

    def _bucket(self, samples: int) -> _Bucket:
        """The smallest batch size prepared that holds the samples, or the largest there is."""
        if self._free and samples not in self._prepared:
            kept = next(iter(self._prepared.values()), None)
            if kept is None:
                _closed()
            assert kept is not None
            self._prepared = {samples: self._room(samples, kept.shapes)}
        return self._prepared[min((size for size in self._prepared if size >= samples), default=max(self._prepared))]

    def _collect(self) -> None:
        """Take home what was launched and not asked for: its place is needed."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.fetch()

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        return dict(zip(self._wanted, next(iter(self._prepared.values())).shapes, strict=True))

    def _packed(self, inputs: Mapping[str, Tensor]) -> Tensor:
        outputs = self._forward(inputs)
        return torch.cat([output.reshape(len(output), -1).float() for output in outputs], 1)

    def _forward(self, inputs: Mapping[str, Tensor]) -> list[Tensor]:
        given = list(inputs.values())
        if self._pixels is not None:
            given = [self._pixels(given[0])]
        outputs = self._module(*(x.to(self._dtype) if x.is_floating_point() else x for x in given))
        named = dict(zip(self._names, outputs if isinstance(outputs, tuple) else (outputs,), strict=True))
        for name, index in self._channels.items():
            named[name] = named[name][..., index : index + 1]
        return [named[name] for name in self._wanted]

    @contextmanager
    def _arithmetic(self) -> Iterator[None]:
        """Full float32 unless tf32 is asked for, which torch would otherwise use in convolutions."""
        if not self._on_gpu:
            yield
            return
        cudnn, matmul, short = torch.backends.cudnn, torch.backends.cuda.matmul, self.precision != "f32"
        before = cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32
        cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = self._tuned, short, short
        try:
            yield
        finally:
            cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = before

    def _prepare(self, size: int) -> None:
        """Record the graph of one batch size; if it does not fit, that of half the size, and so on.

        Raises `ModelError` if nothing fits.
        """
        bucket = size
        while bucket and bucket not in self._prepared:
            try:
                self._prepared[bucket] = self._record(bucket)
                return
            except torch.OutOfMemoryError:
                log.warning("%s: a batch of %d does not fit into the memory of %s", self.name, bucket, self.device)
                if self._on_gpu:
                    torch.cuda.empty_cache()
                bucket //= 2
        if not self._prepared:
            raise ModelError(f"{self.name}: not even one sample fits into the memory of {self.device}")

    def _room(self, size: int, shapes: Sequence[tuple[int, ...]] | None) -> _Bucket:
        inputs = {
            name: torch.zeros((size, *port.shape[1:]), dtype=_torch_dtype(port), device=self.device)
            for name, port in self.inputs.items()
        }
        row = sum(prod(shape) for shape in shapes or ())
        return _Bucket(inputs, list(shapes or ()), torch.empty((size, row), pin_memory=self._on_gpu and row > 0))

    def _record(self, size: int) -> _Bucket:
        empty = self._room(size, None).inputs
        graph, packed = None, None
        with _RECORDING, torch.no_grad(), self._arithmetic():
            with self.stream():
                for _ in range(_WARM_UP if self._on_gpu else 1):
                    outputs = self._forward(empty)
            shapes = [tuple(output.shape[1:]) for output in outputs]
            del outputs
            bucket = self._room(size, shapes)
            if self._pool is not None:
                with self.stream():
                    self._packed(bucket.inputs)
                self._stream.synchronize()
                graph, packed = self._captured(bucket.inputs)
        bucket.graph, bucket.packed = graph, packed
        return bucket

    def _captured(self, inputs: Mapping[str, Tensor]) -> tuple[Any, Tensor] | tuple[None, None]:
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads may allocate meanwhile: only calls of this one may not be recorded.
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                packed = self._packed(inputs)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # the module waits for the device, or copies from the host
            reason = str(error).partition("\n")[0]
            log.warning("%s cannot be a CUDA graph and runs layer by layer, which is slower: %s", self.name, reason)
            self._pool = None
            return None, None
        return graph, packed


@dataclass
class _Bucket:
    """One batch size: where its inputs and results lie, and the recorded work between them."""

    inputs: dict[str, Tensor]
    shapes: list[tuple[int, ...]]
    host: Tensor  # (size, all outputs of one sample), pinned where there is a GPU
    graph: Any | None = None
    packed: Tensor | None = None


class Launched:
    """The results of one launch on their way."""

    def __init__(self, name: str, outputs: Sequence[str], bucket: _Bucket, samples: int, done: Any | None) -> None:
        self._name, self._outputs = name, outputs
        self._bucket, self._samples, self._done = bucket, samples, done
        self._rows: NDArray[np.float32] | None = None

    def fetch(self) -> None:
        """Wait, and take the results out of the buffer, which the next launch will use."""
        if self._rows is None:
            if self._done is not None:
                self._done.synchronize()
            self._rows = self._bucket.host[: self._samples].numpy().copy()

    def values(self) -> dict[str, Array]:
        """Outputs by name, float32, waiting for them."""
        self.fetch()
        assert self._rows is not None
        found: dict[str, Array] = {}
        start = 0
        for name, shape in zip(self._outputs, self._bucket.shapes, strict=True):
            size = prod(shape)
            found[name] = self._rows[:, start : start + size].reshape(self._samples, *shape)
            start += size
        return found

    def result(self) -> dict[str, Array]:
        """See `streamkp.runtimes.base.Pending`."""
        found = self.values()
        require_finite(self._name, found)
        return found


class Job:
    """A `streamkp.runtimes.base.Pending`: the launches of one call."""

    def __init__(self, name: str, outputs: Mapping[str, Port], parts: Sequence[Launched]) -> None:
        self._name, self._outputs, self._parts = name, outputs, parts

    def result(self) -> dict[str, Array]:
        """See `Pending`."""
        found = [part.values() for part in self._parts]
        if not found:
            return {name: np.zeros((0, *port.shape[1:]), port.dtype) for name, port in self._outputs.items()}
        joined = found[0] if len(found) == 1 else {k: np.concatenate([f[k] for f in found]) for k in self._outputs}
        require_finite(self._name, joined)
        return joined


class _Pixels:
    """Makes a network's input of uint8 images (N, H, W, 3) BGR, on the device."""

    def __init__(self, source: NetworkSource, device: str) -> None:
        assert source.pixels is not None
        assert source.module is not None
        ((_, shape),) = source.module.inputs.items()
        self._last = _channels_last(shape)
        self._rgb = source.pixels.rgb
        # Made here: a copy from the host could not be recorded in a graph.
        self._mean = torch.tensor(source.pixels.mean, dtype=torch.float32, device=device)
        self._scale = torch.tensor(source.pixels.scale, dtype=torch.float32, device=device)

    def __call__(self, images: Tensor) -> Tensor:
        channels = images.flip(-1) if self._rgb else images
        values = (channels.float() - self._mean) / self._scale
        return values if self._last else values.permute(0, 3, 1, 2).contiguous()


def _channels_last(shape: Sequence[int]) -> bool:
    return shape[-1] == 3


def _port(shape: tuple[int, ...], uint8: bool, pixels: Pixels | None) -> Port:
    if pixels is None:
        return Port((-1, *shape), np.dtype(np.uint8 if uint8 else np.float32))
    height, width = shape[:2] if _channels_last(shape) else shape[1:]
    return Port((-1, height, width, 3), np.dtype(np.uint8))


def _torch_dtype(port: Port) -> torch.dtype:
    return torch.uint8 if port.dtype == np.uint8 else torch.float32


def _tensor(given: Any, port: Port) -> Tensor:
    return given if isinstance(given, Tensor) else torch.from_numpy(np.ascontiguousarray(given, port.dtype))


def _closed(*_: Tensor) -> tuple[Tensor, ...]:
    raise ModelError("the network has been closed")
