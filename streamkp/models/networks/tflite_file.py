"""Reads a TensorFlow Lite file into a plain graph of named operators and numpy arrays.

The file format is FlatBuffers; its schema is that of the `tflite` package, generated from TensorFlow's own
(https://github.com/tensorflow/tensorflow/blob/master/tensorflow/compiler/mlir/lite/schema/schema.fbs). Constants are
made dense and dequantised here, so that what is left are the operators that work on activations.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkp.errors import ModelError

Array = NDArray[Any]

_IDENTIFIER = b"TFL3"
_MAX_BYTES = 1 << 30
_CONV = ("Padding", "StrideH", "StrideW", "DilationHFactor", "DilationWFactor", "FusedActivationFunction")
_POOL = ("Padding", "StrideH", "StrideW", "FilterHeight", "FilterWidth", "FusedActivationFunction")
_RESIZE = ("AlignCorners", "HalfPixelCenters")
# operator -> table of its options in the schema, and which of them matter
_OPTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "CONV_2D": ("Conv2DOptions", _CONV),
    "DEPTHWISE_CONV_2D": ("DepthwiseConv2DOptions", _CONV),
    "MAX_POOL_2D": ("Pool2DOptions", _POOL),
    "AVERAGE_POOL_2D": ("Pool2DOptions", _POOL),
    "FULLY_CONNECTED": ("FullyConnectedOptions", ("FusedActivationFunction", "KeepNumDims", "WeightsFormat")),
    "ADD": ("AddOptions", ("FusedActivationFunction",)),
    "SUB": ("SubOptions", ("FusedActivationFunction",)),
    "MUL": ("MulOptions", ("FusedActivationFunction",)),
    "CONCATENATION": ("ConcatenationOptions", ("Axis", "FusedActivationFunction")),
    "RESIZE_BILINEAR": ("ResizeBilinearOptions", _RESIZE),
    "RESIZE_NEAREST_NEIGHBOR": ("ResizeNearestNeighborOptions", _RESIZE),
    "DEPTH_TO_SPACE": ("DepthToSpaceOptions", ("BlockSize",)),
    "MEAN": ("ReducerOptions", ("KeepDims",)),
}
_OF_CONSTANTS = ("DEQUANTIZE", "DENSIFY")
_ONE_TO_ONE = ("LOGISTIC", "DEQUANTIZE", "QUANTIZE")


@dataclass(frozen=True)
class Quantisation:
    """real = (integer - `zero`) * `scale`, by channel of dimension `axis` where there are several. `low`, `high` are
    the integers that the type can hold."""

    scale: Array
    zero: Array
    axis: int
    low: int
    high: int


@dataclass(frozen=True)
class Value:
    """One tensor: `data` of a constant, dequantised to float32 where it stands for real numbers; else None."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    quantisation: Quantisation | None = None
    data: Array | None = None


@dataclass(frozen=True)
class Operator:
    """What computes `outputs` from `inputs`, numbers of `TFLiteGraph.values`; -1 stands for an input left out."""

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class TFLiteGraph:
    """The first (usually the only) graph of a file, operators in the order of execution."""

    path: Path
    values: list[Value]
    operators: list[Operator]
    inputs: dict[str, int]
    outputs: dict[str, int]

    def reduced_to(self, outputs: Sequence[str], channels: Mapping[str, int] | None = None) -> TFLiteGraph:
        """The part of the graph that `outputs` need, in that order; of those in `channels` that index alone of the
        last dimension, which then has length 1.

        Raises `ModelError` for an output that the file does not have.
        """
        if missing := [name for name in outputs if name not in self.outputs]:
            raise ModelError(f"{self.path} has no output {missing[0]}; it has {', '.join(self.outputs)}")
        graph = replace(
            self,
            values=list(self.values),
            operators=list(self.operators),
            outputs={name: self.outputs[name] for name in outputs},
        )
        for name, index in (channels or {}).items():
            _keep_channel(graph, graph.outputs[name], index)
        needed = set(graph.outputs.values())
        kept = []
        for operator in reversed(graph.operators):
            if needed.intersection(operator.outputs):
                needed.update(operator.inputs)
                kept.append(operator)
        graph.operators = kept[::-1]
        return graph

    def producer(self, value: int) -> Operator | None:
        """The operator that computes a value; None for an input or constant."""
        return next((operator for operator in self.operators if value in operator.outputs), None)


def read(path: Path) -> TFLiteGraph:
    """The graph of a `.tflite` file.

    Raises:
        ModelError: it is no such file, it is damaged, or the package that knows the format is not installed.
    """
    try:
        import tflite
    except ModuleNotFoundError:
        raise ModelError(
            f"reading {path.name} into torch needs the tflite package: pip install 'streamkp[torch]'"
        ) from None
    if not path.is_file():
        raise ModelError(f"{path}: there is no such file")
    if path.stat().st_size > _MAX_BYTES:
        raise ModelError(f"{path} is larger than {_MAX_BYTES} bytes; this is no model of ours")
    content = path.read_bytes()
    if content[4:8] != _IDENTIFIER:
        raise ModelError(f"{path} is not a TensorFlow Lite model")
    try:
        return _Reader(tflite, content, path).graph()
    except (struct.error, IndexError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise ModelError(f"{path} is damaged: {error}") from error


class _Reader:
    def __init__(self, schema: Any, content: bytes, path: Path) -> None:
        self._schema, self._path = schema, path
        self._model = schema.Model.GetRootAsModel(content, 0)
        self._names = {v: k for k, v in vars(schema.BuiltinOperator).items() if not k.startswith("_")}
        types = {v: k for k, v in vars(schema.TensorType).items() if not k.startswith("_")}
        self._dtypes = {v: np.dtype(k.lower()) for v, k in types.items() if hasattr(np, k.lower())}

    def graph(self) -> TFLiteGraph:
        main = self._model.Subgraphs(0)
        values = [self._value(main.Tensors(i)) for i in range(main.TensorsLength())]
        operators = []
        for i in range(main.OperatorsLength()):
            operator = self._operator(main.Operators(i))
            if operator.kind in _OF_CONSTANTS and (data := values[operator.inputs[0]].data) is not None:
                target = values[operator.outputs[0]]
                values[operator.outputs[0]] = replace(target, data=data.astype(target.dtype))
            else:
                operators.append(operator)
        floats = [
            replace(v, data=v.data.astype(np.float32)) if v.data is not None and v.data.dtype == np.float16 else v
            for v in values
        ]
        inputs = {values[i].name: int(i) for i in main.InputsAsNumpy()}
        outputs = {values[i].name: int(i) for i in main.OutputsAsNumpy()}
        return TFLiteGraph(self._path, floats, operators, inputs, outputs)

    def _operator(self, raw: Any) -> Operator:
        code = self._model.OperatorCodes(raw.OpcodeIndex())
        kind = self._names.get(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()), "of an unknown number")
        if kind == "CUSTOM":
            kind = f"CUSTOM {(code.CustomCode() or b'').decode(errors='replace')}"
        inputs = tuple(int(i) for i in raw.InputsAsNumpy())
        outputs = tuple(int(i) for i in raw.OutputsAsNumpy())
        options: dict[str, Any] = {}
        if kind in _OPTIONS and (table := raw.BuiltinOptions()) is not None:
            class_name, names = _OPTIONS[kind]
            found = getattr(self._schema, class_name)()
            found.Init(table.Bytes, table.Pos)
            options = {name: getattr(found, name)() for name in names}
        return Operator(kind, inputs, outputs, options)

    def _value(self, raw: Any) -> Value:
        dtype = self._dtypes.get(raw.Type())
        name = raw.Name().decode()
        if dtype is None:
            raise ValueError(f"tensor {name} is of a type that is not known")
        shape = tuple(int(n) for n in raw.ShapeAsNumpy()) if raw.ShapeLength() else ()
        quantisation = _quantisation(raw.Quantization(), dtype)
        data = self._data(raw, shape, dtype)
        if data is not None and quantisation is not None:
            along = [1] * data.ndim
            if quantisation.scale.size > 1:
                along[quantisation.axis] = -1
            scale, zero = quantisation.scale.reshape(along), quantisation.zero.reshape(along)
            data = ((data.astype(np.float64) - zero) * scale).astype(np.float32)
        return Value(name, shape, dtype, quantisation, data)

    def _data(self, raw: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array | None:
        buffer = self._model.Buffers(raw.Buffer())
        if not buffer.DataLength():
            return None
        flat = buffer.DataAsNumpy().view(dtype)
        sparsity = raw.Sparsity()
        return flat.reshape(shape) if sparsity is None else _dense(flat, shape, sparsity, self._schema)


def _quantisation(raw: Any, dtype: np.dtype[Any]) -> Quantisation | None:
    if raw is None or not raw.ScaleLength() or dtype.kind not in "iu":
        return None
    scale = raw.ScaleAsNumpy().astype(np.float64)
    zero = raw.ZeroPointAsNumpy().astype(np.float64) if raw.ZeroPointLength() else np.zeros_like(scale)
    limits = np.iinfo(dtype)
    return Quantisation(scale, zero, raw.QuantizedDimension(), int(limits.min), int(limits.max))


def _dense(flat: Array, shape: tuple[int, ...], sparsity: Any, schema: Any) -> Array:
    """A constant that is stored sparse: the levels of `sparsity` say, dimension by dimension, where the values are.

    The last levels may be of blocks, whose size multiplies the coordinate of the dimension that they divide.
    """
    order = sparsity.TraversalOrderAsNumpy()
    blocks = sparsity.BlockMapAsNumpy() if sparsity.BlockMapLength() else np.zeros(0, int)
    place = np.zeros(1, np.int64)  # of each value so far within its level
    coordinates: list[Array] = []
    block_size: dict[int, int] = {}
    for level in range(sparsity.DimMetadataLength()):
        of = sparsity.DimMetadata(level)
        if of.Format() == schema.DimensionType.DENSE:
            size = of.DenseSize()
            counts = np.full(len(place), size)
            here = np.tile(np.arange(size), len(place))
            next_place = np.repeat(place * size, size) + here
            if order[level] >= len(shape):
                block_size[int(order[level])] = size
        else:
            segments, indices = _vector(of, "ArraySegments", schema), _vector(of, "ArrayIndices", schema)
            first, last = segments[place], segments[place + 1]
            counts = last - first
            next_place = (
                np.repeat(first, counts) + np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
            )
            here = indices[next_place]
        coordinates = [np.repeat(c, counts) for c in coordinates] + [here]
        place = next_place
    found = dict(zip((int(o) for o in order), coordinates, strict=True))
    at = [found[i] for i in range(len(shape))]
    for block, dimension in enumerate(blocks):
        number = len(shape) + block
        at[dimension] = at[dimension] * block_size[number] + found[number]
    dense = np.zeros(shape, flat.dtype)
    dense[tuple(at)] = flat[place]
    return dense


def _vector(of: Any, name: str, schema: Any) -> NDArray[np.int64]:
    """Indices of a sparse level, stored as 32, 16 or 8 bits."""
    kinds = {v: k for k, v in vars(schema.SparseIndexVector).items() if not k.startswith("_")}
    table = getattr(of, name)()
    found = getattr(schema, kinds[getattr(of, f"{name}Type")()])()
    found.Init(table.Bytes, table.Pos)
    return np.asarray(found.ValuesAsNumpy(), np.int64)


def _keep_channel(graph: TFLiteGraph, output: int, index: int) -> None:
    """Leave one channel of an output, and compute no other where its convolutions can be cut.

    Detection heads end in convolutions with (anchors x classes) channels, reshaped to a row per anchor and joined.
    """
    path: list[Operator] = []
    value = output
    while (operator := graph.producer(value)) is not None and operator.kind in _ONE_TO_ONE:
        path.append(operator)
        value = operator.inputs[0]
    heads = operator.inputs if operator is not None and operator.kind == "CONCATENATION" else ()
    cuts = [cut for cut in (_cut(graph, head, index) for head in heads) if cut is not None]
    if operator is None or operator.options["Axis"] != 1 or len(cuts) < max(len(heads), 1):
        last = replace(graph.values[output], shape=(*graph.values[output].shape[:-1], 1))
        graph.values.append(last)
        graph.operators.append(Operator("CHANNEL", (output,), (len(graph.values) - 1,), {"Index": index}))
        graph.outputs = {k: len(graph.values) - 1 if v == output else v for k, v in graph.outputs.items()}
        return
    for cut in cuts:
        cut()
    for changed in (value, *(i for op in path for i in op.outputs)):
        graph.values[changed] = replace(graph.values[changed], shape=(*graph.values[changed].shape[:-1], 1))


def _cut(graph: TFLiteGraph, head: int, index: int) -> Callable[[], None] | None:
    """How to leave one channel of a reshaped convolution; None if `head` is not one that nobody else reads."""
    reshape = graph.producer(head)
    if reshape is None or reshape.kind != "RESHAPE":
        return None
    convolution = graph.producer(reshape.inputs[0])
    if convolution is None or convolution.kind != "CONV_2D":
        return None
    wide, rows = graph.values[convolution.outputs[0]], graph.values[head]
    readers = [op for op in graph.operators if convolution.outputs[0] in op.inputs]
    channels = rows.shape[-1]
    if len(readers) != 1 or len(wide.shape) != 4 or len(rows.shape) != 3 or wide.shape[3] % channels:
        return None

    def cut() -> None:
        constants = []
        for number in convolution.inputs[1:]:
            value = graph.values[number]
            assert value.data is not None
            data = value.data[index::channels]
            graph.values.append(replace(value, data=data, shape=data.shape))
            constants.append(len(graph.values) - 1)
        anchors = wide.shape[3] // channels
        graph.values[convolution.outputs[0]] = replace(wide, shape=(*wide.shape[:3], anchors))
        graph.values[head] = replace(rows, shape=(*rows.shape[:-1], 1))
        at = graph.operators.index(convolution)
        graph.operators[at] = replace(convolution, inputs=(convolution.inputs[0], *constants))

    return cut
