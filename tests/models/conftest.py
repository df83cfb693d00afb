"""The synthetic weights that the reference outputs were made with, and what every network must do with them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import openvino
import pytest
import torch

from streamkp.runtimes import conversion
from streamkp.runtimes.base import TorchModule


@pytest.fixture(scope="session")
def synth(golden: Path) -> ModuleType:
    """golden/synth.py: `load_manifest(folder)`, `synthetic_state(manifest, variant)`."""
    spec = importlib.util.spec_from_file_location("synth", golden / "synth.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def weights(synth: ModuleType) -> Callable[..., dict[str, torch.Tensor]]:
    """`weights(folder, variant)`: the synthetic state dict of a golden folder, the caller's own."""

    @cache
    def made(folder: str, variant: str | None) -> dict[str, np.ndarray]:
        state: dict[str, np.ndarray] = synth.synthetic_state(synth.load_manifest(folder), variant)
        return state

    def make(folder: str, variant: str | None = None) -> dict[str, torch.Tensor]:
        return {k: torch.from_numpy(v.copy()) for k, v in made(folder, variant).items()}

    return make


@pytest.fixture(scope="session")
def assert_portable() -> Callable[..., None]:
    """`assert_portable(network, *inputs)`: export, compilation and OpenVINO give what the network gives.

    Exported for any number of samples, since how many people there are changes from frame to frame.
    """
    return _assert_portable


def _assert_portable(network: torch.nn.Module, *inputs: torch.Tensor) -> None:
    with torch.no_grad():
        expected = _tuple(network(*inputs))
        batch = torch.export.Dim("batch")
        example = tuple(torch.cat([tensor] * 3) for tensor in inputs)
        exported = torch.export.export(network, example, dynamic_shapes=tuple({0: batch} for _ in inputs))
        compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
        results = {"export": _tuple(exported.module()(*inputs)), "compile": _tuple(compiled(*inputs))}
    names = [f"input{i}" for i in range(len(inputs))]
    module = TorchModule(
        lambda: network,
        {name: tuple(tensor.shape[1:]) for name, tensor in zip(names, inputs, strict=True)},
        tuple(f"output{i}" for i in range(len(expected))),
        str,
    )
    model = openvino.compile_model(conversion.converted(module), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    outputs = model({name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)})
    results["OpenVINO"] = tuple(torch.from_numpy(outputs[f"output{i}"]) for i in range(len(expected)))
    for form, result in results.items():
        for got, wanted in zip(result, expected, strict=True):
            assert got.shape == wanted.shape, form
            assert (got - wanted).abs().max() <= 1e-4 * wanted.abs().max(), form


def _tuple(outputs: torch.Tensor | tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)


@pytest.fixture(scope="session")
def assert_parity() -> Callable[..., None]:
    """`assert_parity(result, reference)`: equal to 1e-4 of the reference's largest value."""
    return _assert_parity


def _assert_parity(result: torch.Tensor | np.ndarray, reference: np.ndarray) -> None:
    result = result.detach().numpy() if isinstance(result, torch.Tensor) else result
    assert result.shape == reference.shape
    assert np.abs(result - reference).max() <= 1e-4 * np.abs(reference).max()
