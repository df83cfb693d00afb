from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from streamkp.models import zoo
from streamkp.models.lift.tpnet import network_inputs
from streamkp.models.networks.tpnet import TPNet
from tests.reference.cameras import H36M_CAMERA

RUNS = {
    "rf27": (40, {}, {}),
    "rf27_offsets": (20, {}, {"offsets": True}),
    "rf27_noncanonical": (20, {}, {"canonical": False}),
    "rf27_causal": (20, {"causal": True}, {}),
}


@pytest.fixture(scope="module")
def io(golden: Path) -> dict[str, np.ndarray]:
    return dict(np.load(golden / "tpnet" / "io.npz"))


@pytest.fixture(scope="module")
def checkpoint(weights):
    return {f"model_{part}": weights("tpnet", f"rf27_{part}") for part in ("pos", "traj")}


def run(network: TPNet, pixels: np.ndarray, **options: bool) -> tuple[torch.Tensor, torch.Tensor]:
    inputs = network_inputs(pixels, H36M_CAMERA, (1000, 1002), network.padding, **options)
    return network(*map(torch.from_numpy, inputs))


@pytest.mark.parametrize("name", RUNS)
@torch.no_grad()
def test_parity_from_pixels(checkpoint, io, assert_parity, name):
    frames, config, options = RUNS[name]
    pose, trajectory = run(zoo.load("tpnet", checkpoint, **config), io["seq_2d"][:frames], **options)
    assert_parity(pose, io[f"{name}_pos"])
    assert_parity(trajectory, io[f"{name}_traj"])


@torch.no_grad()
def test_parity_of_the_two_networks(checkpoint, io, assert_parity):
    network = zoo.load("tpnet", checkpoint)
    assert_parity(network.model_pos(torch.from_numpy(io["fwd_x"])), io["fwd_pos"])
    windows, poses = torch.from_numpy(io["fwd_traj_p2d"]), torch.from_numpy(io["fwd_traj_p3d"])
    assert_parity(network.model_traj(windows, poses), io["fwd_traj"])


@torch.no_grad()
def test_parity_with_243_frames(weights, io, assert_parity):
    network = zoo.load("tpnet", {f"model_{part}": weights("tpnet", f"rf243_{part}") for part in ("pos", "traj")})
    assert network.receptive_field == 243
    pose, trajectory = run(network, io["seq_2d"][:4])
    assert_parity(pose, io["rf243_pos"])
    assert_parity(trajectory, io["rf243_traj"])


def test_causal_is_read_from_the_configuration_beside_the_checkpoint(tmp_path):
    small = zoo.create("tpnet", filter_widths=(3, 3), channels=8, trajectory_channels=8)
    torch.save({"model_pos": small.model_pos.state_dict(), "model_traj": small.model_traj.state_dict()},
               tmp_path / "pytorch_model.bin")  # fmt: skip
    assert zoo.load("tpnet", tmp_path / "pytorch_model.bin").padding == (4, 4)
    (tmp_path / "configuration.json").write_text(json.dumps({"model": {"MODEL": {"CAUSAL": True}}}))
    assert zoo.load("tpnet", tmp_path / "pytorch_model.bin").padding == (8, 0)


def test_portable(assert_portable):
    network = zoo.create("tpnet", filter_widths=(3, 3), channels=32, trajectory_channels=32).eval()
    assert_portable(network, torch.randn(1, 12, 17, 2), torch.randn(1, 12, 17, 2))
