from __future__ import annotations

import os
import pickle
import re
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from streamkp.errors import ModelError
from streamkp.models import zoo


@pytest.fixture
def network() -> torch.nn.Module:
    return zoo.create("videopose3d-27f", channels=8)


def same(network: torch.nn.Module, other: torch.nn.Module) -> bool:
    state = other.state_dict()
    return all(torch.equal(tensor, state[key]) for key, tensor in network.state_dict().items())


def refused(path: Path, *words: str, name: str = "videopose3d-27f") -> None:
    with pytest.raises(ModelError) as caught:
        zoo.load(name, path)
    message = str(caught.value)
    assert str(path) in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "meta": {"epoch": 3}},
        lambda state: {"model_pos": state, "optimizer": {"lr": 0.1}},
        lambda state: {"state_dict": {f"module.{key}": tensor for key, tensor in state.items()}},
        lambda state: {"model_pos": {f"module.{key}": tensor for key, tensor in state.items()}},
        lambda state: {key: t for key, t in state.items() if not key.endswith("num_batches_tracked")},
    ],
    ids=["bare", "state_dict", "model_pos", "module", "model_pos module", "before batch counters"],
)
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_layouts(network, tmp_path, wrap, legacy):
    path = tmp_path / "weights.pth"
    torch.save(wrap(network.state_dict()), path, _use_new_zipfile_serialization=not legacy)
    loaded = zoo.load("videopose3d-27f", path)
    assert same(network, loaded)
    assert not loaded.training


def test_what_public_checkpoints_carry_beside_their_weights(network, tmp_path):
    """VideoPose3D's keep the state of numpy's generator, MMEngine's arrays and scalars: neither is made."""
    extras = {"random_state": np.random.RandomState(1), "scalar": np.float64(3), "array": np.arange(3)}
    torch.save({"model_pos": network.state_dict(), **extras}, tmp_path / "pretrained.bin")
    assert same(network, zoo.load("videopose3d-27f", tmp_path / "pretrained.bin"))


def test_mmengine_training_logs(network, tmp_path, monkeypatch):
    module = ModuleType("mmengine.logging.history_buffer")
    module.HistoryBuffer = type("HistoryBuffer", (), {"__module__": module.__name__})
    for name in ("mmengine", "mmengine.logging"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    history = module.HistoryBuffer()
    history.values = np.arange(3.0)
    torch.save({"state_dict": network.state_dict(), "message_hub": {"loss": history}}, tmp_path / "epoch_3.pth")
    assert same(network, zoo.load("videopose3d-27f", tmp_path / "epoch_3.pth"))


def test_convert(network, tmp_path):
    torch.save({"state_dict": network.state_dict()}, tmp_path / "in.pth")
    zoo.convert(tmp_path / "in.pth", tmp_path / "out.safetensors", "videopose3d-27f")
    assert same(network, zoo.load("videopose3d-27f", tmp_path / "out.safetensors"))
    assert sorted(os.listdir(tmp_path)) == ["in.pth", "out.safetensors"]


def test_convert_keeps_tensors_with_two_names(tmp_path):
    network = zoo.create("tpnet", filter_widths=(3,), channels=8, trajectory_channels=8)
    torch.save(network.state_dict(), tmp_path / "in.pth")
    zoo.convert(tmp_path / "in.pth", tmp_path / "out.safetensors", "tpnet")
    assert same(network, zoo.load("tpnet", tmp_path / "out.safetensors"))


def test_another_model_names_the_one_that_fits(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(zoo.create("videopose3d-81f", channels=8).state_dict(), path)
    refused(path, "is not a checkpoint of videopose3d-27f", "it fits videopose3d-81f", "unexpected: layers_")
    refused(path, "is not a checkpoint of hdformer", "missing", name="hdformer")


def test_other_shapes_are_listed(network):
    state = network.state_dict()
    state["shrink.bias"] = torch.zeros(7)
    with pytest.raises(ModelError, match=re.escape("1 of another shape: shrink.bias (7,) instead of (51,)")):
        zoo.load("videopose3d-27f", state)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(network, tmp_path, value):
    network.state_dict()["shrink.weight"][0] = value
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    refused(tmp_path / "weights.pth", "NaN or infinite", "1 tensors: shrink.weight")


class Malicious:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


@pytest.mark.parametrize("how", ["zip", "legacy", "plain"])
def test_a_malicious_pickle_runs_nothing(network, tmp_path, how):
    path, mark = tmp_path / "weights.pth", tmp_path / "ran"
    content = {"state_dict": network.state_dict(), "meta": Malicious(f"touch '{mark}'")}
    if how == "plain":
        path.write_bytes(pickle.dumps(content["meta"], 2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "zip")
    refused(path, "could run code", "system")
    assert not mark.exists()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_truncated_files(network, tmp_path, suffix, share):
    path, source = tmp_path / f"weights{suffix}", tmp_path / "whole.pth"
    torch.save(network.state_dict(), source)
    if suffix == ".safetensors":
        zoo.convert(source, path, "videopose3d-27f")
        source = path
    data = source.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    refused(path, "fetch it again")


def test_a_small_file_that_unpacks_to_gigabytes(network, tmp_path):
    torch.save(network.state_dict(), tmp_path / "good.pth")
    bomb = tmp_path / "bomb.pth"
    with zipfile.ZipFile(tmp_path / "good.pth") as good, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as out:
        for name in good.namelist():
            with out.open(name, "w", force_zip64=True) as member:
                if name.endswith("data/0"):
                    for _ in range(512):
                        member.write(bytes(1 << 20))
                else:
                    member.write(good.read(name))
    assert bomb.stat().st_size < 1 << 20
    refused(bomb, "unpacks to 512 MB")


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"\n<!DOCTYPE html><html><body>404</body></html>", "web page"),
        (b"<html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"),
        (b"hello", "not a checkpoint"),
    ],
)
def test_files_that_are_something_else(tmp_path, content, word):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    refused(path, word)


@pytest.mark.parametrize("content", [{"epoch": 3}, [1, 2], {}, torch.zeros(3)], ids=str)
def test_files_without_a_state_dict(tmp_path, content):
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    refused(path, "no state dict")


def test_files_that_cannot_be_read(tmp_path):
    refused(tmp_path / "absent.pth", "No such file")
    refused(tmp_path, "Is a directory")
