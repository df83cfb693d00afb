"""Networks on the CPU: ONNX and TFLite files executed by OpenVINO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset8 as ops
from openvino.preprocess import PrePostProcessor

from streamkp.errors import ModelError

PRECISIONS = ("f32", "bf16")
_POINTWISE = ("Sigmoid", "FakeQuantize")


@dataclass(frozen=True)
class Pixels:
    """How a network wants its image. With it the input is uint8 (B, H, W, 3) BGR, and the graph does the rest.

    The network gets (value - `mean`) / `scale` of each 0..255 value, as RGB where `rgb` is set, in its own layout.
    Both may be given by channel, in the order of the network's.
    """

    rgb: bool = True
    mean: float | tuple[float, ...] = 0.0
    scale: float | tuple[float, ...] = 1.0


@dataclass(frozen=True)
class Signature:
    """Shapes of a model file's inputs and outputs, by name; -1 where a dimension is free."""

    inputs: dict[str, tuple[int, ...]]
    outputs: dict[str, tuple[int, ...]]


@cache
def core() -> Any:
    """The one OpenVINO core of the process.

    It must outlive every network: the CPU plugin gives the thread that first compiles one an alternative signal
    stack, and takes the memory back when the last core goes, perhaps in another thread. The next signal in the
    first thread would then have no stack to run on.
    """
    return ov.Core()


class OpenVinoModel:
    """A model file that has been read and not yet compiled. Raises `ModelError` if it is not a model."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise ModelError(f"{path}: there is no such file")
        try:
            self._model = core().read_model(path)
        except RuntimeError as error:
            raise ModelError(f"{path} is not an ONNX or TFLite model that OpenVINO can read") from error
        self.signature = Signature(
            {port.any_name: _shape(port) for port in self._model.inputs},
            {port.any_name: _shape(port) for port in self._model.outputs},
        )

    def graph(self) -> Any:
        """A copy of the graph, as the file has it."""
        return self._model.clone()

    def constants(self) -> dict[str, NDArray[Any]]:
        """The arrays in the file by name."""
        found = (node for node in self._model.get_ops() if node.get_type_name() == "Constant")
        return {node.get_friendly_name(): node.data for node in found}

    def first_operations(self) -> set[str]:
        """The types of the operations that read the inputs."""
        readers = (reader for port in self._model.inputs for reader in port.get_node().output(0).get_target_inputs())
        return {reader.get_node().get_type_name() for reader in readers}

    def batched(self, batch: int, outputs: Sequence[str], pixels: Pixels | None, channels: Mapping[str, int]) -> Any:
        """The graph for `batch` samples (first dimension of its only input), reduced to `outputs`.

        Of an output in `channels` only that index of the last dimension is left, which then has length 1.
        """
        model = self._model.clone()
        ports = {port.any_name: port for port in model.outputs}
        if missing := [name for name in outputs if name not in ports]:
            raise ModelError(f"{self.path} has no output {missing[0]}; it has {', '.join(ports)}")
        if len(model.inputs) != 1:
            raise ModelError(f"{self.path} has {len(model.inputs)} inputs; a network with one input is needed")
        for name, index in channels.items():
            _keep_channel(ports[name], index)
        model = ov.Model([ports[name] for name in outputs], model.get_parameters(), self.path.stem)
        try:
            model.reshape([batch, *_shape(model.inputs[0])[1:]])
        except RuntimeError as error:
            raise ModelError(f"{self.path} cannot work on {batch} images at once") from error
        return _take_pixels(model, pixels) if pixels else model


class OpenVinoNetwork:
    """A compiled network with its own input and output arrays, for one thread at a time.

    It is compiled for 1, 2, 4, ... up to `max_batch` samples; parts that only other outputs need are cut away, and
    with `channels` all but one index of an output's last dimension. Fill `input(n)` and call `run(n)`: nothing is
    copied on the way in or out.

    Raises:
        ModelError: the file has other outputs than `outputs`, or cannot take that batch.
    """

    def __init__(
        self,
        model: OpenVinoModel,
        *,
        outputs: Sequence[str],
        threads: int,
        precision: str = "f32",
        pixels: Pixels | None = None,
        channels: Mapping[str, int] | None = None,
        max_batch: int = 1,
    ) -> None:
        if precision not in PRECISIONS:
            raise ModelError(f"precision {precision!r} is not known; it is one of {', '.join(PRECISIONS)}")
        self.path = model.path
        self._outputs = tuple(outputs)
        self._buckets: dict[int, _Compiled] = {}
        config = _config(threads, precision)
        batch = 1
        while batch <= max_batch:
            graph = model.batched(batch, self._outputs, pixels, channels or {})
            self._buckets[batch] = _Compiled(core().compile_model(graph, "CPU", config))
            batch *= 2

    def bucket(self, wanted: int) -> int:
        """The largest batch size compiled that is not above `wanted`."""
        return max(size for size in self._buckets if size <= wanted)

    def input(self, batch: int) -> NDArray[Any]:
        """The input array of a compiled batch size, to be filled before `run(batch)`."""
        return self._buckets[batch].input

    def run(self, batch: int) -> list[NDArray[Any]]:
        """The outputs for what lies in `input(batch)`, in the order of `outputs`; valid until the next call.

        Raises:
            ModelError: an output is NaN or infinite.
        """
        compiled = self._buckets[batch]
        compiled.request.start_async()
        compiled.request.wait()
        outputs = compiled.results()
        for name, output in zip(self._outputs, outputs, strict=True):
            # A sum is not finite if any part is not, and far cheaper than looking at each.
            if not np.isfinite(output.sum(dtype=np.float32)):
                raise ModelError(f"{self.path.name} gave a value that is not finite in its output {name}")
        return outputs

    def close(self) -> None:
        """Let go of the compiled graphs and their threads."""
        self._buckets.clear()


class OpenVinoRun:
    """A graph whose batch is free, ready to run on any number of samples: float32 arrays in, float32 arrays out.

    It is a `Run` of `streamkp.runtimes.torch`. `fixed`, the shapes of the inputs of one batch size, gets a graph
    of its own, which is a little faster.
    """

    def __init__(self, graph: Any, *, threads: int, fixed: Sequence[Sequence[int]] = ()) -> None:
        config = _config(threads, "f32")
        self._fixed_batch = 0
        if fixed:
            self._fixed_batch = fixed[0][0]
            same = graph.clone()
            same.reshape({i: list(shape) for i, shape in enumerate(fixed)})
            self._fixed = core().compile_model(same, "CPU", config).create_infer_request()
        self._any = core().compile_model(graph, "CPU", config).create_infer_request()

    def __call__(self, *inputs: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        """Run one batch; what is returned belongs to the caller."""
        request = self._fixed if len(inputs[0]) == self._fixed_batch else self._any
        outputs = request.infer(list(inputs))
        return tuple(outputs[i] for i in range(len(outputs)))


class _Compiled:
    """One compiled graph, its request, and the arrays that the request reads and writes in place."""

    def __init__(self, compiled: Any) -> None:
        self.request = compiled.create_infer_request()
        self.input = _array(compiled.inputs[0])
        # An output whose size depends on what is seen, such as the boxes of a detector, is fetched after each run.
        self._outputs = [None if port.partial_shape.is_dynamic else _array(port) for port in compiled.outputs]
        self.request.set_input_tensor(ov.Tensor(self.input, shared_memory=True))
        for i, output in enumerate(self._outputs):
            if output is not None:
                self.request.set_output_tensor(i, ov.Tensor(output, shared_memory=True))

    def results(self) -> list[NDArray[Any]]:
        return [
            self.request.get_output_tensor(i).data if output is None else output
            for i, output in enumerate(self._outputs)
        ]


def _config(threads: int, precision: str) -> dict[str, str]:
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": str(threads),
        "INFERENCE_PRECISION_HINT": precision,
        # Pinned threads of two networks, or of two processes, would queue on the same core.
        "ENABLE_CPU_PINNING": "NO",
    }


def _array(port: Any) -> NDArray[Any]:
    return np.zeros(tuple(port.shape), port.element_type.to_dtype())


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
