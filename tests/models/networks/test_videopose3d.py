from __future__ import annotations

from math import prod
from pathlib import Path

import numpy as np
import pytest
import torch

from streamkp import skeletons
from streamkp.models import zoo
from streamkp.motion.mirror import flip_average, mirror
from streamkp.motion.sliding_window import pad_edges

WIDTHS = {"f1": (1, 1, 1), "f1x5": (1,) * 5, "f27": (3, 3, 3), "f81": (3,) * 4, "f243": (3,) * 5}
MMPOSE = {
    "1frm-supv-cpn-ft": "videopose3d-1f-cpn",
    "27frm-supv": "videopose3d-27f",
    "81frm-supv": "videopose3d-81f",
    "243frm-supv": "videopose3d-243f",
    "243frm-supv-cpn-ft": "videopose3d-243f-cpn",
    "27frm-semi-supv": "videopose3d-27f-semi",
    "27frm-semi-supv-cpn-ft": "videopose3d-27f-semi-cpn",
}


@pytest.fixture(scope="module")
def io(golden: Path) -> dict[str, np.ndarray]:
    return dict(np.load(golden / "videopose3d" / "io.npz"))


@pytest.mark.parametrize("variant", WIDTHS)
@torch.no_grad()
def test_parity_with_the_original(weights, io, assert_parity, variant):
    state, widths = weights("videopose3d", variant), WIDTHS[variant]
    field = prod(widths)
    for causal in (False, True):
        run = variant + "_causal" * causal
        options = {"filter_widths": widths, "causal": causal}
        network = zoo.load("videopose3d-27f", {"model_pos": state}, **options)
        assert network.receptive_field == field
        sequence = torch.from_numpy(io["seq"])
        assert_parity(network(sequence[None, : field + 8]), io[f"{run}_valid"])
        padded = pad_edges(io["seq"][:50], *network.padding)
        assert_parity(network(torch.from_numpy(padded)[None]), io[f"{run}_padded50"])
        strided = zoo.load("videopose3d-27f", state, strided=True, **options)
        assert_parity(strided(sequence[None, :field]), io[f"{run}_opt1f"])


@torch.no_grad()
def test_flip_average(weights, io, assert_parity):
    network = zoo.load("videopose3d-27f", weights("videopose3d", "f27"))
    skeleton, sequence = skeletons.get("h36m17"), io["seq"][:50]
    both = np.stack([pad_edges(s, *network.padding) for s in (sequence, mirror(sequence, skeleton))])
    plain, flipped = network(torch.from_numpy(both)).numpy()
    assert_parity(flip_average(plain, flipped, skeleton)[None], io["f27_flip_avg50"])


@pytest.mark.parametrize("variant", MMPOSE)
@torch.no_grad()
def test_parity_with_mmpose(weights, golden, assert_parity, variant):
    reference = np.load(golden / "mmpose_video_pose_lift" / "io.npz")
    state = weights("mmpose_video_pose_lift", variant)
    network = zoo.load(MMPOSE[variant], {"meta": {"epoch": 160}, "state_dict": state}, strided=True)
    field = network.receptive_field
    sequence = torch.from_numpy(reference["seq"])
    output = network(torch.stack([sequence[i : i + field] for i in (0, 20, 40)]))
    pose, *trajectory = output if isinstance(output, tuple) else (output,)
    assert_parity(pose[:, 0], reference[f"{variant}_pose"])
    assert bool(trajectory) == (f"{variant}_traj" in reference)
    for root in trajectory:
        assert_parity(root[:, 0], reference[f"{variant}_traj"])


def test_mmpose_0x_names(weights):
    state = weights("mmpose_video_pose_lift", "27frm-supv")
    old = {key.replace("head.", "keypoint_head.", 1): tensor for key, tensor in state.items()}
    assert old.keys() != state.keys()
    zoo.load("videopose3d-27f", {"state_dict": old})


def test_semi_supervised_under_original_names(weights):
    state = weights("mmpose_video_pose_lift", "27frm-semi-supv")
    network = zoo.load("videopose3d-27f-semi", {"state_dict": state})
    original = {"model_pos": network.model_pos.state_dict(), "model_traj": network.model_traj.state_dict()}
    again = zoo.load("videopose3d-27f-semi", original).state_dict()
    assert all(torch.equal(tensor, again[key]) for key, tensor in network.state_dict().items())


@pytest.mark.parametrize(("causal", "strided"), [(True, False), (False, True)])
def test_portable(assert_portable, causal, strided):
    network = zoo.create("videopose3d-27f-semi", channels=32, causal=causal, strided=strided).eval()
    assert_portable(network, torch.randn(2, 27 if strided else 30, 17, 2))


def test_even_filters_are_refused():
    with pytest.raises(ValueError, match="must be odd"):
        zoo.create("videopose3d-27f", filter_widths=(3, 2))
