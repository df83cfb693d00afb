from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from streamkp.models import zoo
from streamkp.models.lift.hdformer import published
from streamkp.models.networks.hdformer import PARENTS, HDFormer, adjacency, bone_vectors
from streamkp.motion import sliding_window
from tests.reference.cameras import H36M_CAMERA


@pytest.fixture(scope="module")
def io(golden: Path) -> dict[str, torch.Tensor]:
    return {key: torch.from_numpy(value) for key, value in np.load(golden / "hdformer" / "io.npz").items()}


@pytest.fixture(scope="module")
def network(weights) -> HDFormer:
    return zoo.load("hdformer", {"state_dict": weights("hdformer")})


def statistics(io) -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(io[name].T[None, :, None] for name in ("mean_3d", "std_3d"))


@torch.no_grad()
def test_parity(network, io, assert_parity):
    assert sum(parameter.numel() for parameter in network.parameters()) == 3718089
    assert_parity(network(io["x"]), io["y_raw"].numpy())
    assert_parity(network(io["x"], *statistics(io)), io["y"].numpy())
    assert_parity(network(io["x_t32"]), io["y_raw_t32"].numpy())


@torch.no_grad()
def test_parity_of_the_backbone(network, io, assert_parity):
    last_block = []
    block = network.backbone.upsample[3].foa_block
    handle = block.register_forward_hook(lambda module, inputs, output: last_block.append(output))
    assert_parity(network.backbone(io["x"]), io["backbone_fv"].numpy())
    handle.remove()
    # The reference's second output: the bones of the last block, which nothing reads.
    assert_parity(bone_vectors(last_block[0], torch.tensor(PARENTS[1:]))[:1], io["backbone_fe_first"].numpy())


@torch.no_grad()
def test_parity_of_the_attention(io, weights, synth, assert_parity):
    """Weights under which attention decides the output."""
    state = weights("hdformer")
    for part, factor in synth.load_manifest("hdformer")["stress"]["factors"].items():
        for key in state:
            if part in key and key.endswith(".weight"):
                state[key] = state[key] * factor
    assert_parity(zoo.load("hdformer", state)(io["x_t32"]), io["y_raw_t32_stress"].numpy())


def test_adjacency(golden):
    np.testing.assert_array_equal(adjacency().numpy(), np.load(golden / "hdformer" / "buffers.npz")["backbone.A"])


@pytest.mark.parametrize(
    ("name", "frames", "step"),
    [
        ("ref_out_96", 96, 5),
        ("ref_out_100", 100, 5),
        ("intended_out_200_w96", 200, 96),
        ("intended_out_230_w48", 230, 48),
        ("intended_out_200_w5", 200, 5),
    ],
)
@torch.no_grad()
def test_whole_sequences(network, golden, assert_parity, name, frames, step):
    reference = np.load(golden / "hdformer" / "prepost.npz")
    spans = sliding_window.plan_spans(frames, published.FRAMES, step)
    windows = sliding_window.cut(reference["seq_2d"][:frames], spans, published.FRAMES)
    inputs = published.network_inputs(windows, H36M_CAMERA, reference["mean_2d"], reference["std_2d"])
    mean, std = (torch.from_numpy(reference[key]).float().T[None, :, None] for key in ("mean_3d", "std_3d"))
    outputs = [network(torch.from_numpy(x), mean, std).numpy() for x in inputs]
    poses = sliding_window.join(published.network_outputs(*outputs), spans)
    assert len(poses) == frames
    # The reference drops the frames after its last full window.
    kept = reference[name][0]
    assert_parity(poses[: len(kept)], kept)


def test_portable(network, assert_portable, io):
    assert_portable(network, io["x_t32"])


def test_channels_are_read_off_the_weights():
    small = zoo.create("hdformer", in_channels=3, channels=(8, 8, 16, 16, 32))
    again = zoo.load("hdformer", small.state_dict())
    assert again(torch.zeros(1, 3, 16, 17)).shape == (1, 3, 16, 17)


def test_frames_that_do_not_fit(network):
    with pytest.raises(ValueError, match="multiple of 16 frames, not 20"):
        network(torch.zeros(1, 2, 20, 17))


def test_training_reaches_every_parameter():
    network = zoo.create("hdformer", channels=(8, 8, 8, 8, 8)).train()
    network(torch.randn(2, 2, 16, 17)).square().sum().backward()
    idle = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert not idle
