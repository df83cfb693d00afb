"""Fixtures for everything that lies outside the repository."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    import onnx

    from streamkp.models.networks.hdformer import HDFormer

ROOT = Path(__file__).resolve().parent.parent

# How long things take says nothing on a busy machine.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def _shared() -> Path:
    return Path(os.environ.get("STREAMKP_SHARED", ROOT.parent / "shared"))


def _required(path: Path) -> Path:
    if path.is_dir():
        return path
    if os.environ.get("CI") == "true":
        pytest.fail(f"{path} is missing; CI must not skip the tests that need it")
    pytest.skip(f"needs the development folder {path.name}/ (set STREAMKP_SHARED)")


@pytest.fixture(scope="session")
def golden() -> Path:
    """Reference outputs of the networks."""
    return _required(_shared() / "golden")


@pytest.fixture(scope="session")
def assets() -> Path:
    """Real clips, images, weights and motion capture."""
    return _required(_shared() / "assets")


@pytest.fixture(scope="session")
def cases() -> Path:
    """Small inputs as people had them, one folder a situation."""
    return _required(_shared() / "cases")


@pytest.fixture(scope="session")
def graph_env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables of the ready-made graphs: secrets, and files as their stages read them."""
    from streamkp_plugins.action_recognition import Examples

    from streamkp.graph.graph import ready_made
    from streamkp.uris import VARIABLE

    folder = tmp_path_factory.mktemp("variables")
    actions, reference = folder / "actions.npz", folder / "reference.jsonl"
    Examples(np.zeros((2, 3)), ("wave", "none"), ("1", "2"), 96).save(actions)
    reference.touch()
    names = {name for path in ready_made().values() for name in VARIABLE.findall(path.read_text())}
    return dict.fromkeys(names, "secret") | {"ACTIONS": str(actions), "REFERENCE": str(reference)}


@pytest.fixture(scope="session")
def lifter_network() -> HDFormer:
    """A small network of the kind of the shipped lifter, with random weights."""
    import torch

    from streamkp.models.networks.hdformer import HDFormer

    torch.manual_seed(0)
    network = HDFormer(4, (8, 8, 8, 8, 8))
    for name, parameter in network.named_parameters():
        if name.endswith("bn.weight"):
            torch.nn.init.uniform_(parameter, 0.5, 1)  # at the start of training the attention does nothing
    with torch.no_grad():
        for values in network.state_dict().values():
            if values.is_floating_point():
                values += 0.01 * torch.rand_like(values)  # no two alike: the exporter would make one of them
    return network.eval()


@pytest.fixture(scope="session")
def lifter_graph(lifter_network: HDFormer) -> onnx.ModelProto:
    """The same as ONNX; exporting takes half a minute."""
    from streamkp.training import export

    return export.exported(lifter_network)


@pytest.fixture(scope="session")
def lifter_onnx(lifter_network: HDFormer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a file, in single precision, by torch's older exporter: it needs a second, not half a minute."""
    import warnings

    import onnx
    import torch

    from streamkp.training import export

    path = tmp_path_factory.mktemp("lifter") / "lifter.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            lifter_network,
            (torch.zeros(2, 4, 16, 17),),
            str(path),
            dynamo=False,
            do_constant_folding=False,
            training=torch.onnx.TrainingMode.PRESERVE,  # norms are not merged into convolutions
            opset_version=17,
            input_names=[export.INPUT],
            output_names=[export.OUTPUT],
            dynamic_axes={export.INPUT: {0: "batch"}, export.OUTPUT: {0: "batch"}},
        )
    graph, weights = onnx.load(path), lifter_network.state_dict()
    for node in graph.graph.node:  # only weights have names with points
        node.name = node.name.replace(".", "_")
        for names in (node.input, node.output):
            names[:] = [name if name in weights else name.replace(".", "_") for name in names]
    assert export.write(graph, lifter_network, path, half=False) <= 1e-4
    return path
