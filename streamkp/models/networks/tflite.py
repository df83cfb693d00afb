"""Networks of TensorFlow Lite files as torch modules: BlazePose, EfficientDet-Lite, hands, faces.

The operators are those that such files use; another one is refused by name. Activations are NHWC in the file and NCHW
in torch's channels-last memory here, which are the same bytes. There is no control flow on data and nothing waits for
the device, so a module can be captured in a CUDA graph or compiled.

Quantised networks compute in real numbers that are rounded to the file's integer grid after every operator, as
OpenVINO does; results differ from integer arithmetic where a sum falls between two integers. In half precisions,
whose own rounding is of the same size, they are only kept within the range of the grid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamkp.errors import ModelError
from streamkp.models.networks.tflite_file import Operator, Quantisation, TFLiteGraph, read

_SAME, _VALID = 0, 1  # of the schema's Padding
_NONE, _RELU, _RELU_N1_TO_1, _RELU6 = 0, 1, 2, 3  # of the schema's ActivationFunctionType
# What puts out the numbers that it was given, on the same grid.
_KEEPS_GRID = ("MAX_POOL_2D", "RESHAPE", "RESIZE_NEAREST_NEIGHBOR", "DEQUANTIZE", "CHANNEL")

Step = Callable[..., Tensor]


class TFLiteNetwork(nn.Module):
    """A network with one input, from a file.

    `forward` takes (N, H, W, C) in the file's layout, of any dtype (pixels 0..255 for a quantised input), and gives
    a tuple of the outputs in the order of `output_names`, in the file's layout, in the dtype of the weights.
    """

    def __init__(
        self, path: Path, *, outputs: Sequence[str] | None = None, channels: Mapping[str, int] | None = None
    ) -> None:
        """`outputs`: those to compute, all by default; what only others need is left out. `channels`: of these
        outputs only that index of the last dimension, which then has length 1.

        Raises:
            ModelError: the file cannot be read, has no such output, not one input, or an operator not known here.
        """
        super().__init__()
        graph = read(path)
        self.path = path
        if len(graph.inputs) != 1:
            raise ModelError(f"{path} has {len(graph.inputs)} inputs; a network with one input is needed")
        graph = graph.reduced_to(outputs or tuple(graph.outputs), channels)
        ((self.input_name, self._input),) = graph.inputs.items()
        self.output_names = tuple(graph.outputs)
        self._outputs = tuple(graph.outputs.values())
        self.input_shape = graph.values[self._input].shape
        self.output_shapes = {name: graph.values[i].shape for name, i in graph.outputs.items()}
        given = graph.values[self._input].quantisation
        self._given = (float(given.scale[0]), float(given.zero[0])) if given is not None else None
        self.steps = nn.ModuleList()
        self._plan: list[tuple[tuple[int, ...], int, tuple[int, ...]]] = []
        last_read = {i: n for n, op in enumerate(graph.operators) for i in op.inputs}
        for n, operator in enumerate(graph.operators):
            constant = [i for i in operator.inputs if i >= 0 and graph.values[i].data is not None]
            reads = tuple(i for i in operator.inputs if i >= 0 and i not in constant)
            done = tuple(i for i in dict.fromkeys(reads) if last_read[i] == n and i not in self._outputs)
            self.steps.append(_step(graph, operator))
            self._plan.append((reads, operator.outputs[0], done))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        x = x.to(self._dtype())
        if self._given is not None:
            scale, zero = self._given
            x = (x - zero) * scale
        values = {self._input: _to_torch(x)}
        for step, (reads, writes, done) in zip(self.steps, self._plan, strict=True):
            values[writes] = step(*(values[i] for i in reads))
            for i in done:
                del values[i]
        return tuple(_to_file(values[i]) for i in self._outputs)

    def _dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype


def _to_torch(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2) if x.ndim == 4 else x


def _to_file(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1) if x.ndim == 4 else x


class _Conv(nn.Module):
    """Convolution of NCHW, with the padding that TensorFlow calls SAME where asked for."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        padding: tuple[int, int, int, int],
        stride: tuple[int, int],
        dilation: tuple[int, int],
        groups: int,
        activation: Step,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last), requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False) if bias is not None else None
        left, right, top, bottom = padding
        # Padding of both ends alike costs nothing; only where they differ does the input have to be copied.
        self._inside = (top, left) if (left, top) == (right, bottom) else (0, 0)
        self._outside = padding if (left, top) != (right, bottom) else None
        self._stride, self._dilation, self._groups, self._activation = stride, dilation, groups, activation

    def forward(self, x: Tensor) -> Tensor:
        if self._outside is not None:
            x = F.pad(x, self._outside)
        y = F.conv2d(x, self.weight, self.bias, self._stride, self._inside, self._dilation, self._groups)
        return self._activation(y)


class _Linear(nn.Module):
    def __init__(self, weight: Tensor, bias: Tensor | None, keep: bool, activation: Step) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False) if bias is not None else None
        self._keep, self._activation = keep, activation

    def forward(self, x: Tensor) -> Tensor:
        rows = _to_file(x)
        return self._activation(F.linear(rows if self._keep else rows.flatten(1), self.weight, self.bias))


class _WithConstant(nn.Module):
    """A function of one activation and one constant; `first` says that the constant is the first argument."""

    def __init__(self, function: Step, constant: Tensor, first: bool) -> None:
        super().__init__()
        self.constant = nn.Parameter(constant, requires_grad=False)
        self._function, self._first = function, first

    def forward(self, x: Tensor) -> Tensor:
        return self._function(self.constant, x) if self._first else self._function(x, self.constant)


class _Function(nn.Module):
    def __init__(self, function: Step) -> None:
        super().__init__()
        self._function = function

    def forward(self, *x: Tensor) -> Tensor:
        return self._function(*x)


class _Rounded(nn.Module):
    """A step whose result is rounded to the grid of a quantised tensor."""

    def __init__(self, step: nn.Module, grid: Quantisation) -> None:
        super().__init__()
        self.step = step
        self._scale, self._zero = float(grid.scale[0]), int(grid.zero[0])
        self._low, self._high = grid.low, grid.high

    def forward(self, *x: Tensor) -> Tensor:
        y: Tensor = self.step(*x)
        if y.dtype != torch.float32:
            return y.clamp((self._low - self._zero) * self._scale, (self._high - self._zero) * self._scale)
        return torch.fake_quantize_per_tensor_affine(y, self._scale, self._zero, self._low, self._high)


def _step(graph: TFLiteGraph, operator: Operator) -> nn.Module:
    if operator.kind not in _BUILDERS:
        able = ", ".join(sorted(_BUILDERS))
        raise ModelError(
            f"{graph.path} uses the operator {operator.kind}, which torch does not run here; it runs {able}"
        )
    if len(operator.outputs) != 1:
        raise ModelError(f"{graph.path}: {operator.kind} with {len(operator.outputs)} outputs cannot be run in torch")
    step = _BUILDERS[operator.kind](graph, operator)
    grid = graph.values[operator.outputs[0]].quantisation
    if grid is None:
        return step
    same = [_same_grid(grid, graph.values[i].quantisation) for i in operator.inputs if graph.values[i].data is None]
    keeps = operator.kind in (*_KEEPS_GRID, "CONCATENATION", "PAD")
    return step if keeps and all(same) else _Rounded(step, grid)


def _same_grid(a: Quantisation, b: Quantisation | None) -> bool:
    return b is not None and bool((a.scale == b.scale).all() and (a.zero == b.zero).all()) and a.low == b.low


def _constant(graph: TFLiteGraph, number: int) -> np.ndarray[Any, Any]:
    data = graph.values[number].data
    if data is None:
        raise ModelError(f"{graph.path}: {graph.values[number].name} has to be a constant to be run in torch")
    return data


def _activation(graph: TFLiteGraph, operator: Operator) -> Step:
    kind = operator.options.get("FusedActivationFunction", _NONE)
    known: dict[int, Step] = {
        _NONE: lambda x: x,
        _RELU: F.relu,
        _RELU_N1_TO_1: lambda x: x.clamp(-1, 1),
        _RELU6: F.relu6,
    }
    if kind not in known:
        raise ModelError(
            f"{graph.path}: {operator.kind} has an activation of kind {kind}, which torch does not run here"
        )
    return known[kind]


def _pads(graph: TFLiteGraph, operator: Operator, kernel: Sequence[int]) -> tuple[int, int, int, int]:
    """left, right, top, bottom."""
    if operator.options["Padding"] == _VALID:
        return 0, 0, 0, 0
    shape = graph.values[operator.inputs[0]].shape
    around: list[int] = []
    for size, side, axis in ((shape[2], kernel[1], "W"), (shape[1], kernel[0], "H")):
        stride, reach = operator.options[f"Stride{axis}"], operator.options.get(f"Dilation{axis}Factor", 1)
        total = max((-(-size // stride) - 1) * stride + (side - 1) * reach + 1 - size, 0)
        around += [total // 2, total - total // 2]
    return around[0], around[1], around[2], around[3]


def _bias(graph: TFLiteGraph, operator: Operator) -> Tensor | None:
    if len(operator.inputs) < 3 or operator.inputs[2] < 0:
        return None
    return torch.from_numpy(_constant(graph, operator.inputs[2]).astype(np.float32))


def _convolution(graph: TFLiteGraph, operator: Operator) -> nn.Module:
    weight = torch.from_numpy(_constant(graph, operator.inputs[1]).copy())
    channels = graph.values[operator.inputs[0]].shape[3]
    if operator.kind == "DEPTHWISE_CONV_2D":
        weight, groups = weight.permute(3, 0, 1, 2), channels
    else:
        weight, groups = weight.permute(0, 3, 1, 2), channels // weight.shape[3]
    o = operator.options
    return _Conv(
        weight,
        _bias(graph, operator),
        _pads(graph, operator, weight.shape[2:]),
        (o["StrideH"], o["StrideW"]),
        (o["DilationHFactor"], o["DilationWFactor"]),
        groups,
        _activation(graph, operator),
    )


def _linear(graph: TFLiteGraph, operator: Operator) -> nn.Module:
    if operator.options.get("WeightsFormat", 0):
        raise ModelError(f"{graph.path}: FULLY_CONNECTED with shuffled weights cannot be run in torch")
    weight = torch.from_numpy(_constant(graph, operator.inputs[1]).copy())
    keep = bool(operator.options.get("KeepNumDims"))
    return _Linear(weight, _bias(graph, operator), keep, _activation(graph, operator))


def _arithmetic(graph: TFLiteGraph, operator: Operator) -> nn.Module:
    act = _activation(graph, operator)
    functions: dict[str, Step] = {"ADD": torch.add, "SUB": torch.sub, "MUL": torch.mul}
    function = functions[operator.kind]
    constants = [i for i in operator.inputs if graph.values[i].data is not None]
    if not constants:
        return _Function(lambda a, b: act(function(a, b)))
    data = _constant(graph, constants[0]).astype(np.float32)
    rank = len(graph.values[operator.outputs[0]].shape)
    data = data.reshape((1,) * (rank - data.ndim) + data.shape)
    constant = torch.from_numpy(data.transpose(0, 3, 1, 2).copy() if rank == 4 else data.copy())
    return _WithConstant(lambda a, b: act(function(a, b)), constant, operator.inputs[0] == constants[0])


def _pool(graph: TFLiteGraph, operator: Operator) -> nn.Module:
    o, act = operator.options, _activation(graph, operator)
    kernel, stride = (o["FilterHeight"], o["FilterWidth"]), (o["StrideH"], o["StrideW"])
    pads = _pads(graph, operator, kernel)
    if operator.kind == "AVERAGE_POOL_2D":
        if any(pads):
            raise ModelError(f"{graph.path}: AVERAGE_POOL_2D with padding cannot be run in torch")
        return _Function(lambda x: act(F.avg_pool2d(x, kernel, stride)))
    if not any(pads):
        return _Function(lambda x: act(F.max_pool2d(x, kernel, stride)))
    return _Function(lambda x: act(F.max_pool2d(F.pad(x, pads, value=float("-inf")), kernel, stride)))


def _pad(graph: TFLiteGraph, operator: Operator) -> nn.Module:
    pads = _constant(graph, operator.inputs[1]).astype(int).tolist()
    if len(pads) == 4:
        pads = [pads[0], pads[3], pads[1], pads[2]]
    amounts = [n for pair in reversed(pads) for n in pair]
    return _Function(lambda x: F.pad(x, amounts))


def _prelu(graph: TFLiteGraph, operator: Operator) -> nn.Module:
    alpha = _constant(graph, operator.inputs[1]).astype(np.float32)
    if alpha.size != alpha.shape[-1]:
        raise ModelError(f"{graph.path}: PRELU with a slope for every pixel cannot be run in torch")
    return _WithConstant(F.prelu, torch.from_numpy(alpha.reshape(-1).copy()), False)


def _reshape(graph: TFLiteGraph, operator: Operator) -> nn.Module:
    before, after = graph.values[operator.inputs[0]].shape, graph.values[operator.outputs[0]].shape
    if before[:1] != after[:1] or -1 in after:
        raise ModelError(f"{graph.path}: RESHAPE from {before} to {after} moves the batch dimension")
    return _Function(lambda x: _to_torch(_to_file(x).reshape(x.shape[0], *after[1:])))


def _concatenation(graph: TFLiteGraph, operator: Operator) -> nn.Module:
    if any(graph.values[i].data is not None for i in operator.inputs):
        raise ModelError(f"{graph.path}: CONCATENATION with a constant cannot be run in torch")
    rank = len(graph.values[operator.outputs[0]].shape)
    axis, act = operator.options["Axis"] % rank, _activation(graph, operator)
    axis = (0, 2, 3, 1)[axis] if rank == 4 else axis
    return _Function(lambda *x: act(torch.cat(x, axis)))


def _resize(graph: TFLiteGraph, operator: Operator) -> nn.Module:
    _, height, width, _ = graph.values[operator.outputs[0]].shape
    size, corners, half = (height, width), operator.options["AlignCorners"], operator.options["HalfPixelCenters"]
    if operator.kind == "RESIZE_NEAREST_NEIGHBOR":
        if corners:
            raise ModelError(f"{graph.path}: RESIZE_NEAREST_NEIGHBOR with aligned corners cannot be run in torch")
        mode = "nearest-exact" if half else "nearest"
        return _Function(lambda x: F.interpolate(x, size, mode=mode))
    if not corners and not half:
        return _FromCorner(graph.values[operator.inputs[0]].shape[1:3], size)
    return _Function(lambda x: F.interpolate(x, size, mode="bilinear", align_corners=bool(corners)))


class _FromCorner(nn.Module):
    """Bilinear resizing in which output i lies at input i * in / out: neither corners nor centres are aligned."""

    def __init__(self, before: Sequence[int], after: Sequence[int]) -> None:
        super().__init__()
        for axis, old, new in zip("hw", before, after, strict=True):
            at = torch.arange(new) * (old / new)
            low = at.floor().long()
            self.register_buffer(f"low_{axis}", low.clamp(max=old - 1), persistent=False)
            self.register_buffer(f"high_{axis}", (low + 1).clamp(max=old - 1), persistent=False)
            self.register_buffer(f"part_{axis}", at - low, persistent=False)

    low_h: Tensor
    high_h: Tensor
    part_h: Tensor
    low_w: Tensor
    high_w: Tensor
    part_w: Tensor

    def forward(self, x: Tensor) -> Tensor:
        x = torch.lerp(x[:, :, self.low_h], x[:, :, self.high_h], self.part_h.to(x.dtype)[:, None])
        return torch.lerp(x[..., self.low_w], x[..., self.high_w], self.part_w.to(x.dtype))


def _depth_to_space(graph: TFLiteGraph, operator: Operator) -> nn.Module:
    block = operator.options["BlockSize"]

    def spread(x: Tensor) -> Tensor:  # unlike torch's pixel shuffle, the place in the block comes before the channel
        parts = x.reshape(x.shape[0], block, block, -1, *x.shape[2:]).permute(0, 4, 1, 5, 2, 3)
        return _to_torch(parts.reshape(x.shape[0], x.shape[2] * block, x.shape[3] * block, -1))

    return _Function(spread)


def _mean(graph: TFLiteGraph, operator: Operator) -> nn.Module:
    rank = len(graph.values[operator.inputs[0]].shape)
    axes = [int(a) % rank for a in _constant(graph, operator.inputs[1]).reshape(-1)]
    keep = bool(operator.options["KeepDims"])
    return _Function(lambda x: _to_torch(_to_file(x).mean(axes, keepdim=keep)))


def _simple(function: Step) -> Callable[[TFLiteGraph, Operator], nn.Module]:
    return lambda graph, operator: _Function(function)


def _channel(graph: TFLiteGraph, operator: Operator) -> nn.Module:
    index = operator.options["Index"]
    return _Function(lambda x: _to_torch(_to_file(x)[..., index : index + 1]))


_BUILDERS: dict[str, Callable[[TFLiteGraph, Operator], nn.Module]] = {
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _convolution,
    "FULLY_CONNECTED": _linear,
    "ADD": _arithmetic,
    "SUB": _arithmetic,
    "MUL": _arithmetic,
    "MAX_POOL_2D": _pool,
    "AVERAGE_POOL_2D": _pool,
    "PAD": _pad,
    "PRELU": _prelu,
    "RELU": _simple(F.relu),
    "RELU6": _simple(F.relu6),
    "LOGISTIC": _simple(torch.sigmoid),
    "RESHAPE": _reshape,
    "CONCATENATION": _concatenation,
    "RESIZE_BILINEAR": _resize,
    "RESIZE_NEAREST_NEIGHBOR": _resize,
    "DEPTH_TO_SPACE": _depth_to_space,
    "MEAN": _mean,
    "QUANTIZE": _simple(lambda x: x),
    "DEQUANTIZE": _simple(lambda x: x),
    "CHANNEL": _channel,
}
