"""A trained lifter as the ONNX file that is shipped: `python -m streamkp.training.export lifter.pt OUT.onnx`.

OpenVINO runs the file, and the network in torch reads its weights back (`streamkp.models.onnx_weights`).
The graph is left as it is exported, because optimising it would merge the weights; OpenVINO does that when it loads.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, cast

import numpy as np
import onnx
import torch
import typer
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from streamkp.errors import StreamkpError
from streamkp.models import zoo
from streamkp.models.lift.hdformer.person_view import FRAMES
from streamkp.models.networks.hdformer import JOINTS, HDFormer
from streamkp.runtimes.base import NetworkSource, RunOptions, open_network

INPUT, OUTPUT = "x", "poses"
OPSET = 18
SAME = {False: 1e-4, True: 2e-3}  # by which the file may differ from the network, by `half`; see `_difference`


def export(network: HDFormer, path: Path, *, half: bool = True) -> float:
    """Write `network` to `path`, whole or not at all, and return by how much the file's poses differ, at most.

    Input `x` [B, channels, 16, 17], output `poses` [B, 3, 16, 17] metres, any B. With `half` the matrices are stored
    in half precision; vectors, among them the statistics of the batch norms, stay exact. Raises `ValueError` if the
    file gives other poses than the network, which includes weights that half precision cannot hold.
    """
    return write(exported(network), network, path, half=half)


def write(graph: onnx.ModelProto, network: HDFormer, path: Path, *, half: bool) -> float:
    """The second half of `export`, for a graph of `network` that `exported` has made."""
    if half:
        graph = _halved(graph)
    partial = path.with_name(f".{path.name}.partial.onnx")
    try:
        onnx.save(graph, partial)
        difference = _difference(network, partial)
        if not difference <= SAME[half]:
            raise ValueError(f"the poses of the file differ by {1000 * difference:.3g} mm from those of the network")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return difference


def exported(network: HDFormer) -> onnx.ModelProto:
    """The network as a graph in single precision; takes half a minute."""
    network = network.cpu().eval()
    example = torch.zeros(2, network.in_channels, FRAMES, JOINTS)  # a batch of one could be taken for a constant
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network,
            (example,),
            dynamo=True,
            optimize=False,
            verbose=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )
    assert program is not None
    graph = program.model_proto
    _strip(graph)
    _name(graph, network.state_dict())
    return graph


def _strip(graph: onnx.ModelProto) -> None:
    """Leave out where in the source each operation came from: a third of the file, and paths of the machine."""
    del graph.graph.value_info[:], graph.graph.metadata_props[:], graph.metadata_props[:]
    for part in (*graph.graph.node, *graph.graph.initializer, *graph.graph.input, *graph.graph.output):
        part.doc_string = ""
        del part.metadata_props[:]


def _name(graph: onnx.ModelProto, weights: Mapping[str, torch.Tensor]) -> None:
    """Only weights keep the points in their names: see `streamkp.models.onnx_weights`."""
    names = {value.name: value.name.replace(".", "_") for value in graph.graph.initializer if value.name not in weights}
    for value in graph.graph.initializer:
        value.name = names.get(value.name, value.name)
    _rename_inputs(graph, names)


def _halved(whole: onnx.ModelProto) -> onnx.ModelProto:
    graph = onnx.ModelProto()
    graph.CopyFrom(whole)
    casts, names = [], {}
    for value in graph.graph.initializer:
        if value.data_type == TensorProto.FLOAT and len(value.dims) > 1:
            with np.errstate(over="ignore"):  # found by comparing the poses
                values = numpy_helper.to_array(value).astype(np.float16)
            value.CopyFrom(numpy_helper.from_array(values, value.name))
            names[value.name] = f"{value.name.replace('.', '_')}_single"
            casts.append(helper.make_node("Cast", [value.name], [names[value.name]], to=TensorProto.FLOAT))
    _rename_inputs(graph, names)
    nodes = [*casts, *graph.graph.node]
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
    return graph


def _rename_inputs(graph: onnx.ModelProto, names: Mapping[str, str]) -> None:
    for node in graph.graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = names.get(name, name)


def _difference(network: HDFormer, path: Path) -> float:
    """The largest difference in metres, or as a share of the largest number where that is more than a metre."""
    inputs = _likely(network)
    run = open_network(NetworkSource(path.name, file=path), RunOptions("cpu", threads=1, buckets=None))
    with torch.inference_mode():
        expected = network(torch.from_numpy(inputs)).numpy()
    largest = max(np.abs(run({INPUT: inputs[:n]})[OUTPUT] - expected[:n]).max() for n in (1, len(inputs)))
    return float(largest / max(1.0, np.abs(expected).max()))


def _likely(network: HDFormer) -> NDArray[np.float32]:
    """Three windows of the kind that the network was trained with."""
    random, norm = np.random.default_rng(0), network.backbone.data_bn
    assert norm.running_mean is not None
    assert norm.running_var is not None
    shape = (network.in_channels, 1, JOINTS)
    mean, std = norm.running_mean.reshape(shape).numpy(), norm.running_var.sqrt().reshape(shape).numpy()
    still, moving = random.normal(size=(3, *shape)), random.normal(size=(3, shape[0], FRAMES, JOINTS))
    out: NDArray[np.float32] = (mean + std * (still + 0.1 * moving)).astype(np.float32)
    return out


def main(
    weights: Annotated[Path, typer.Argument(help="What streamkp.training.lifter has left: lifter.pt.")],
    out: Annotated[Path, typer.Argument(help="The .onnx file to write.")],
    half: Annotated[bool, typer.Option(help="Store the matrices in half precision.")] = True,
) -> None:
    """Write a trained lifter as an ONNX file."""
    try:
        difference = export(cast(HDFormer, zoo.load("hdformer", weights)), out, half=half)
    except (StreamkpError, ValueError) as error:
        raise typer.BadParameter(str(error)) from None
    typer.echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB, poses within {1000 * difference:.3g} mm of the network's")


if __name__ == "__main__":
    typer.run(main)
