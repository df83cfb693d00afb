"""Runs torch networks in batches of fixed sizes: on a GPU as CUDA graphs, on a CPU by the same code without graphs.

Each network has a CUDA stream of its own. For every batch size (bucket) the inputs and outputs lie at fixed places,
and one recorded graph does everything from input to packed result, so that a call costs one launch whatever the
number of layers. All outputs of a batch are packed into one float32 row per sample and come back in one copy.
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

log = logging.getLogger("streamkp.runtimes")

PRECISIONS = {"f32": torch.float32, "tf32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
BUCKETS = (1, 2, 4, 8, 16, 32, 64)
_WARM_UP = 3  # runs before recording: libraries choose their kernels and allocate in the first ones
# Recording a graph forbids some calls of other threads; networks are opened one after another.
_RECORDING = threading.Lock()


@dataclass(frozen=True)
class Input:
    """An input of one sample: shape without the batch, and how it is given. Floating inputs are float32."""

    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32


class TorchNetwork:
    """A `streamkp.runtimes.base.Network` around a module that takes its inputs by position and gives a tuple.

    `launch` leaves the results on their way, so that the caller's thread can prepare the next batch; `__call__` is
    for arrays of any number of samples. Used by one thread at a time.

    Raises:
        ModelError: there is no CUDA device, the precision is unknown, or not even one sample fits into memory.
    """

    def __init__(
        self,
        name: str,
        module: nn.Module,
        inputs: Mapping[str, Input],
        outputs: Sequence[str],
        *,
        device: str = "cuda",
        precision: str = "f32",
        buckets: Sequence[int] = BUCKETS,
        graphs: bool = True,
        tuned: bool = True,
        compiled: bool = False,
    ) -> None:
        """`graphs`: record CUDA graphs. `tuned`: try which of cuDNN's kernels is fastest, for some seconds at the
        start. Neither has an effect on a CPU. `compiled`: fuse by torch.compile, which takes minutes.
        """
        if precision not in PRECISIONS:
            raise ModelError(f"precision {precision!r} is not known; it is one of {', '.join(PRECISIONS)}")
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise ModelError(f"{name}: device {device}, but torch sees no CUDA device; set device: cpu")
        self.name, self.device, self.precision = name, device, precision
        self._on_gpu = device.startswith("cuda")
        self._inputs, self._outputs = dict(inputs), tuple(outputs)
        self._dtype, self._tuned = PRECISIONS[precision], tuned
        module = module.eval().requires_grad_(False).to(device=device, dtype=self._dtype)
        self._module: Callable[..., tuple[Tensor, ...]] = torch.compile(module, dynamic=False) if compiled else module
        self._stream = torch.cuda.Stream(device) if self._on_gpu else None
        self._pool = torch.cuda.graph_pool_handle() if self._on_gpu and graphs else None
        self._prepared: dict[int, _Bucket] = {}
        self._pending: Pending | None = None
        # The largest first: graphs of smaller batches then find room in the memory of the larger ones.
        for bucket in sorted(set(buckets), reverse=True):
            self._prepare(bucket)
        if not self._prepared:
            raise ModelError(f"{name}: not even one sample fits into the memory of {device}")

    @property
    def buckets(self) -> tuple[int, ...]:
        """Batch sizes prepared, ascending; the larger ones go when memory runs out."""
        return tuple(sorted(self._prepared))

    def prepare(self, bucket: int) -> bool:
        """Add a batch size; whether it fits into memory. Where it does not, a half of it is tried, and so on."""
        self._prepare(bucket)
        return bucket in self._prepared

    def bucket(self, wanted: int) -> int:
        """The smallest batch size prepared that holds `wanted` samples, or the largest there is."""
        fitting = [size for size in self._prepared if size >= wanted]
        return min(fitting) if fitting else max(self._prepared)

    def stream(self) -> Any:
        """A context in which work is queued on the network's stream; work queued before goes first."""
        if self._stream is None:
            return nullcontext()
        self._stream.wait_stream(torch.cuda.current_stream(self.device))
        return torch.cuda.stream(self._stream)

    def inputs(self, samples: int) -> dict[str, Tensor]:
        """The inputs of the bucket for `samples`, on the device, to be filled within `stream()` before `launch`."""
        self._collect()
        return self._prepared[self.bucket(samples)].inputs

    def launch(self, samples: int) -> Pending:
        """Run what lies in `inputs(samples)`, of which `samples` count; returns before it is done."""
        self._collect()
        bucket = self._prepared[self.bucket(samples)]
        with self.stream(), torch.no_grad():
            if bucket.graph is not None:
                bucket.graph.replay()
                packed = bucket.packed
            else:
                with self._arithmetic():
                    packed = self._packed(bucket.inputs)
            assert packed is not None
            bucket.host[:samples].copy_(packed[:samples], non_blocking=True)
            done = torch.cuda.Event() if self._on_gpu else None
            if done is not None:
                done.record()
        self._pending = Pending(self, bucket, samples, done)
        return self._pending

    def __call__(self, inputs: Mapping[str, Any]) -> dict[str, NDArray[np.float32]]:
        """See `Network`. Inputs are numpy arrays or tensors, on the device or not."""
        total = len(next(iter(inputs.values())))
        parts: list[dict[str, NDArray[np.float32]]] = []
        done = 0
        while done < total:
            count = min(total - done, max(self._prepared))
            try:
                parts.append(self._run({k: v[done : done + count] for k, v in inputs.items()}, count))
                done += count
            except torch.OutOfMemoryError:
                self.shrink()
        if not parts:
            return {name: np.zeros((0, *shape), np.float32) for name, shape in self._shapes().items()}
        return {name: np.concatenate([part[name] for part in parts]) for name in self._outputs}

    def shrink(self) -> None:
        """Give up the largest batch size, because memory ran out.

        Raises `ModelError` if it is the only one.
        """
        largest = max(self._prepared)
        if len(self._prepared) == 1 and largest == 1:
            raise ModelError(f"{self.name}: not even one sample fits into the memory of {self.device}")
        self._pending = None
        del self._prepared[largest]
        if self._on_gpu:
            torch.cuda.empty_cache()
        if not self._prepared:
            self._prepare(largest // 2)
        if not self._prepared:
            raise ModelError(f"{self.name}: not even one sample fits into the memory of {self.device}")
        log.warning("%s: out of memory on %s with %d at once; going on with %d", self.name, self.device, largest, max(self._prepared))  # fmt: skip

    def close(self) -> None:
        """Let go of the graphs and of the memory of the device."""
        if self._stream is not None:
            self._stream.synchronize()
        self._prepared.clear()
        self._pending = None
        self._module = _closed

    def _run(self, inputs: Mapping[str, Any], count: int) -> dict[str, NDArray[np.float32]]:
        targets = self.inputs(count)
        with self.stream():
            for name, target in targets.items():
                given = inputs[name]
                tensor = given if isinstance(given, Tensor) else torch.from_numpy(np.ascontiguousarray(given))
                target[:count].copy_(tensor, non_blocking=True)
        return self.launch(count).result()

    def _collect(self) -> None:
        """Take home what was launched and not asked for: its place is needed."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.fetch()

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        return dict(zip(self._outputs, next(iter(self._prepared.values())).shapes, strict=True))

    def _packed(self, inputs: Mapping[str, Tensor]) -> Tensor:
        outputs = self._forward(inputs)
        return torch.cat([output.reshape(len(output), -1).float() for output in outputs], 1)

    def _forward(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        given = [x.to(self._dtype) if x.is_floating_point() else x for x in inputs.values()]
        outputs = self._module(*given)
        return outputs if isinstance(outputs, tuple) else (outputs,)

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

    def _prepare(self, bucket: int) -> None:
        """Record the graph of one batch size; if it does not fit, that of half the size, and so on."""
        while bucket and bucket not in self._prepared:
            try:
                self._prepared[bucket] = self._record(bucket)
                return
            except torch.OutOfMemoryError:
                log.warning("%s: a batch of %d does not fit into the memory of %s", self.name, bucket, self.device)
                if self._on_gpu:
                    torch.cuda.empty_cache()
                bucket //= 2

    def _record(self, size: int) -> _Bucket:
        inputs = {
            name: torch.zeros((size, *of.shape), dtype=of.dtype, device=self.device)
            for name, of in self._inputs.items()
        }
        with _RECORDING, torch.no_grad(), self._arithmetic():
            with self.stream():
                for _ in range(_WARM_UP if self._on_gpu else 1):
                    outputs = self._forward(inputs)
            shapes = [tuple(output.shape[1:]) for output in outputs]
            del outputs
            graph, packed = None, None
            if self._pool is not None:
                assert self._stream is not None
                with self.stream():
                    self._packed(inputs)
                self._stream.synchronize()
                graph = torch.cuda.CUDAGraph()
                # Other threads may allocate meanwhile: only calls of this one may not be recorded.
                with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                    packed = self._packed(inputs)
        host = torch.empty((size, sum(prod(shape) for shape in shapes)), pin_memory=self._on_gpu)
        return _Bucket(inputs, shapes, host, graph, packed)


@dataclass
class _Bucket:
    """One batch size: where its inputs and results lie, and the recorded work between them."""

    inputs: dict[str, Tensor]
    shapes: list[tuple[int, ...]]
    host: Tensor  # pinned, (size, all outputs of one sample)
    graph: Any | None
    packed: Tensor | None


class Pending:
    """Results on their way."""

    def __init__(self, network: TorchNetwork, bucket: _Bucket, samples: int, done: Any | None) -> None:
        self._network, self._bucket, self._samples, self._done = network, bucket, samples, done
        self._rows: NDArray[np.float32] | None = None

    def fetch(self) -> NDArray[np.float32]:
        """Wait, and take the rows out of the buffer, which the next batch will use."""
        if self._rows is None:
            if self._done is not None:
                self._done.synchronize()
            self._rows = self._bucket.host[: self._samples].numpy().copy()
        return self._rows

    def result(self) -> dict[str, NDArray[np.float32]]:
        """Outputs by name, float32, waiting for them. Raises `ModelError` if one is NaN or infinite."""
        rows = self.fetch()
        if not np.isfinite(rows.sum(dtype=np.float64)):
            raise ModelError(f"{self._network.name} gave a value that is not finite")
        found: dict[str, NDArray[np.float32]] = {}
        start = 0
        for name, shape in zip(self._network._outputs, self._bucket.shapes, strict=True):
            size = prod(shape)
            found[name] = rows[:, start : start + size].reshape(len(rows), *shape)
            start += size
        return found


def _closed(*_: Tensor) -> tuple[Tensor, ...]:
    raise ModelError("the network has been closed")
