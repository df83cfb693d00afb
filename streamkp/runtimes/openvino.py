"""Networks on the CPU: ONNX and TFLite files, and converted torch modules, executed by OpenVINO."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset8 as ops
from openvino.preprocess import PrePostProcessor

from streamkp.errors import ModelError, UsageError
from streamkp.runtimes import conversion
from streamkp.runtimes.base import (
    Array,
    NetworkSource,
    Pixels,
    Port,
    RunOptions,
    chunks,
    processors,
    require_finite,
    threads_alone,
)

_POINTWISE = ("Sigmoid", "FakeQuantize")


@dataclass(frozen=True)
class Signature:
    """Shapes of a model file's inputs and outputs by name; -1 where a dimension is free.

    `first_operations` are the types of the operations that read the inputs.
    """

    inputs: dict[str, tuple[int, ...]]
    outputs: dict[str, tuple[int, ...]]
    first_operations: frozenset[str] = frozenset()


@cache
def core() -> Any:
    """The one OpenVINO core of the process.

    It must outlive every network: the CPU plugin gives the thread that first compiles one an alternative signal
    stack, and takes the memory back when the last core goes, perhaps in another thread. The next signal in the
    first thread would then have no stack to run on.
    """
    return ov.Core()


def read_graph(path: Path) -> Any:
    """The graph in an ONNX, TFLite or OpenVINO file. Raises `ModelError` if there is none."""
    if not path.is_file():
        raise ModelError(f"{path}: there is no such file")
    try:
        return core().read_model(path)
    except RuntimeError as error:
        raise ModelError(f"{path} is not an ONNX or TFLite model that OpenVINO can read") from error


def read_signature(path: Path) -> Signature:
    """The inputs and outputs of a model file. Raises `ModelError` if it is not one."""
    graph = read_graph(path)
    readers = (reader for port in graph.inputs for reader in port.get_node().output(0).get_target_inputs())
    return Signature(
        {port.any_name: _shape(port) for port in graph.inputs},
        {port.any_name: _shape(port) for port in graph.outputs},
        frozenset(reader.get_node().get_type_name() for reader in readers),
    )


def read_constants(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays in a model file by name. Raises `ModelError` if it is not one."""
    graph = read_graph(path)
    found = (node for node in graph.get_ops() if node.get_type_name() == "Constant")
    return {node.get_friendly_name(): node.data.copy() for node in found}


class OpenVinoNetwork:
    """A compiled network, a `streamkp.runtimes.base.Network`.

    It is compiled twice where it may use several threads: once for a single sample on all of them, and for each
    bucket as many one-thread requests as there are threads, which run side by side. Several samples in one request
    are slower: BlazePose's landmarks on two cores take 3.5 ms a crop in batches of four, 3.2 side by side.

    Raises:
        UsageError: the first of the buckets is not 1.
        ModelError: the file has other outputs than `source.outputs`, or cannot take that batch.
    """

    device = "cpu"

    def __init__(self, source: NetworkSource, options: RunOptions) -> None:
        if source.file is None:
            assert source.module is not None, "a source is a file or a module"
            file = conversion.openvino_file(source.name, source.module)
        else:
            file = source.file
        graph = _reduced(source, read_graph(file), file)
        self.name = source.name
        buckets = (1,) if options.buckets == "auto" else options.buckets
        if buckets is not None and buckets[0] != 1:
            raise UsageError(f"{source.name}: buckets must ascend from 1 in OpenVINO, not be {buckets}")
        self.buckets = buckets
        self._workers = processors(options.threads)
        alone = threads_alone(options.threads)
        self._beside: dict[int, _Requests] = {}
        for batch in buckets or ():
            compiled = _compiled(_batched(graph, batch, source), self._workers, self._workers, options.precision)
            self._beside[batch] = _Requests(compiled, 2 * self._workers)  # one half may wait for the other
        if buckets is None or alone > 1:
            batch = -1 if buckets is None else 1
            self._alone = _Requests(_compiled(_batched(graph, batch, source), alone, 1, options.precision), 1)
        else:
            self._alone = self._beside[1]
        self.inputs: Mapping[str, Port] = self._alone.inputs
        self.outputs: Mapping[str, Port] = self._alone.outputs

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See `Network`."""
        return self.submit(inputs, crowded=False).result()

    @property
    def side_by_side(self) -> int:
        """See `Network`."""
        return self._workers

    def submit(self, inputs: Mapping[str, Array], *, crowded: bool = True) -> _Job:
        """See `Network`."""
        alone = not crowded and len(next(iter(inputs.values()))) == 1
        return self._start(inputs, {1: self._alone} if alone else self._beside)

    def close(self) -> None:
        """Let go of the compiled graphs and their threads."""
        for requests in (self._alone, *self._beside.values()):
            requests.close()

    def _start(self, inputs: Mapping[str, Array], prepared: Mapping[int, _Requests]) -> _Job:
        arrays = [np.ascontiguousarray(inputs[name], port.dtype) for name, port in self.inputs.items()]
        samples = len(arrays[0])
        outputs = {
            name: None if -1 in port.shape[1:] else np.empty((samples, *port.shape[1:]), port.dtype)
            for name, port in self.outputs.items()
        }
        runs = []
        start = 0
        sizes = [samples] if self.buckets is None else chunks(samples, tuple(prepared), self._workers)
        for size in sizes if samples else ():
            part = slice(start, start + size)
            run = _BatchRequest(
                [a[part] for a in arrays], [None if out is None else out[part] for out in outputs.values()]
            )
            (self._alone if self.buckets is None else prepared[size]).start(run)
            runs.append(run)
            start += size
        return _Job(self.name, outputs, runs)


class _BatchRequest:
    """One batch in a request: views of the caller's arrays that the request reads and writes in place."""

    __slots__ = ("error", "inputs", "outputs", "request")

    def __init__(self, inputs: list[Array], outputs: list[Array | None]) -> None:
        self.inputs = inputs
        self.outputs = outputs  # None: its size depends on what is seen, so it is fetched afterwards
        self.request: Any = None  # while it runs
        self.error: RuntimeError | None = None

    def start(self, request: Any) -> None:
        for i, array in enumerate(self.inputs):
            request.set_input_tensor(i, ov.Tensor(array, shared_memory=True))
        for i, output in enumerate(self.outputs):
            if output is not None:
                request.set_output_tensor(i, ov.Tensor(output, shared_memory=True))
        request.start_async()
        self.request = request

    def finish(self) -> None:
        if self.request is None:
            return
        request, self.request = self.request, None
        try:
            request.wait()
        except RuntimeError as error:
            self.error = error
            return
        for i, output in enumerate(self.outputs):
            if output is None:
                self.outputs[i] = request.get_output_tensor(i).data.copy()


class _Requests:
    """The requests of one compiled graph, each used again when what it did last is finished."""

    def __init__(self, compiled: Any, count: int) -> None:
        self.inputs = {port.any_name: _port(port) for port in compiled.inputs}
        self.outputs = {port.any_name: _port(port) for port in compiled.outputs}
        self._requests = [compiled.create_infer_request() for _ in range(count)]
        self._runs: list[_BatchRequest | None] = [None] * count
        self._next = 0

    def start(self, run: _BatchRequest) -> None:
        at = self._next
        self._next = (at + 1) % len(self._requests)
        if (last := self._runs[at]) is not None:
            last.finish()
        self._runs[at] = run
        run.start(self._requests[at])

    def close(self) -> None:
        for run in self._runs:
            if run is not None:
                run.finish()
        self._requests.clear()
        self._runs.clear()


class _Job:
    """A `Pending`: the runs of one call."""

    def __init__(self, name: str, outputs: Mapping[str, Array | None], runs: list[_BatchRequest]) -> None:
        self._name = name
        self._outputs = outputs
        self._runs = runs

    def result(self) -> dict[str, Array]:
        """See `Pending`."""
        for run in self._runs:
            run.finish()
        for run in self._runs:
            if run.error is not None:
                raise ModelError(f"{self._name} failed: {run.error}") from run.error
        found: dict[str, Array] = {}
        for i, (name, output) in enumerate(self._outputs.items()):
            parts = [part for run in self._runs if (part := run.outputs[i]) is not None]
            found[name] = output if output is not None else np.concatenate(parts)
        require_finite(self._name, found)
        return found


def _compiled(graph: Any, threads: int, streams: int, precision: str) -> Any:
    config = {
        "PERFORMANCE_HINT": "LATENCY" if streams == 1 else "THROUGHPUT",
        "NUM_STREAMS": str(streams),
        "INFERENCE_NUM_THREADS": str(threads),
        "INFERENCE_PRECISION_HINT": "f32" if precision == "tf32" else precision,
        # Pinned threads of two networks, or of two processes, would queue on the same core.
        "ENABLE_CPU_PINNING": "NO",
    }
    try:
        return core().compile_model(graph, "CPU", config)
    except RuntimeError as error:
        raise ModelError(f"{graph.friendly_name} cannot be compiled for this CPU: {error}") from error


def _reduced(source: NetworkSource, graph: Any, file: Path) -> Any:
    """The graph with only the outputs and channels that are read."""
    ports = {port.any_name: port for port in graph.outputs}
    wanted = tuple(ports) if source.outputs is None else source.outputs
    if missing := [name for name in wanted if name not in ports]:
        raise ModelError(f"{file} has no output {missing[0]}; it has {', '.join(ports)}")
    for name, index in source.channels.items():
        _keep_channel(ports[name], index)
    return ov.Model([_with_batch(ports[name]) for name in wanted], graph.get_parameters(), source.name)


def _with_batch(port: Any) -> Any:
    """The output itself, or where it is a plain list of numbers for the one sample, the same as one row."""
    shape = _shape(port)
    if len(shape) != 1 or shape[0] in (-1, 1):
        return port
    name = port.any_name
    source = port.get_node().input(0).get_source_output()
    row = ops.unsqueeze(source, ops.constant(np.array([0]))).output(0)
    source.get_tensor().set_names(set())
    row.get_tensor().set_names({name})
    return row


def _batched(graph: Any, batch: int, source: NetworkSource) -> Any:
    """A copy of the graph for `batch` samples, reading pixels where the source says so."""
    model = graph.clone()
    if source.pixels is not None and len(model.inputs) != 1:
        raise ModelError(f"{source.name} has {len(model.inputs)} inputs; a network with one image is needed")
    try:
        model.reshape({i: [batch, *_shape(port)[1:]] for i, port in enumerate(model.inputs)})
    except RuntimeError as error:
        raise ModelError(f"{source.name} cannot work on {batch} samples at once") from error
    return model if source.pixels is None else _take_pixels(model, source.pixels)


def _port(port: Any) -> Port:
    return Port((-1, *_shape(port)[1:]), np.dtype(port.element_type.to_dtype()))


def _shape(port: Any) -> tuple[int, ...]:
    return tuple(d.get_length() if d.is_static else -1 for d in port.partial_shape)


def _keep_channel(port: Any, index: int) -> None:
    """Choose one channel before the functions of single values at the end of the graph, to save computing the rest."""
    reader = port.get_node().input(0)
    while reader.get_source_output().get_node().get_type_name() in _POINTWISE:
        reader = reader.get_source_output().get_node().input(0)
    chosen = ops.gather(reader.get_source_output(), ops.constant(np.array([index])), ops.constant(np.array(-1)))
    reader.replace_source_output(chosen.output(0))


def _values(value: float | tuple[float, ...]) -> float | list[float]:
    return list(value) if isinstance(value, tuple) else value


def _take_pixels(model: Any, pixels: Pixels) -> Any:
    shape = _shape(model.inputs[0])
    steps = PrePostProcessor(model)
    steps.input().tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    steps.input().model().set_layout(ov.Layout("NHWC" if shape[-1] == 3 else "NCHW"))
    work = steps.input().preprocess()
    if model.inputs[0].element_type != ov.Type.u8:
        work.convert_element_type(ov.Type.f32)
    if pixels.rgb:
        work.reverse_channels()
    if pixels.mean:
        work.mean(_values(pixels.mean))
    if pixels.scale != 1.0:
        work.scale(_values(pixels.scale))
    return steps.build()
