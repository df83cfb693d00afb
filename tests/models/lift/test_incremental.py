"""One frame at a time gives what the whole sequence gives, at every frame."""

from __future__ import annotations

from functools import partial
from math import prod
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from streamkp.models.lift.incremental import IncrementalNetwork, Track, plan, worthwhile
from streamkp.models.networks.videopose3d import VideoPose3D
from streamkp.runtimes.torch import open_run

IN_TORCH = partial(open_run, runtime="torch", device="cpu", threads=1)


def network(widths: tuple[int, ...], causal: bool, joints: int = 3, channels: int = 12) -> VideoPose3D:
    """Random weights and batch statistics, which a network fresh from its constructor does not have."""
    torch.manual_seed(prod(widths))
    made = VideoPose3D(widths, joints, joints_out=joints, channels=channels, causal=causal)
    for norm in made.modules():
        if isinstance(norm, nn.BatchNorm1d):
            for values in (norm.running_var, norm.weight.data):
                values.uniform_(0.5, 2)
            for values in (norm.running_mean, norm.bias.data):
                values.normal_()
    return made.eval()


def whole(net: VideoPose3D, poses: NDArray[Any], lookahead: int) -> NDArray[np.float32]:
    """The pose `lookahead` frames before the last of `poses`, all padded by edge replication."""
    before, after = net.padding
    padded = np.pad(poses, ((before + lookahead, after), (0, 0), (0, 0)), mode="edge")
    with torch.inference_mode():
        out = net(torch.from_numpy(padded[None]))[0, len(poses) - 1]
    return out.numpy()


def assert_same(got: NDArray[Any], expected: NDArray[Any]) -> None:
    assert np.abs(got - expected).max() <= 1e-4 * max(np.abs(expected).max(), 1)


@st.composite
def networks(draw: st.DrawFn) -> tuple[VideoPose3D, int]:
    widths = tuple(draw(st.lists(st.sampled_from((1, 3, 5)), min_size=1, max_size=4).filter(lambda w: prod(w) <= 81)))
    net = network(widths, draw(st.booleans()))
    return net, draw(st.integers(0, net.padding[1]))


@settings(max_examples=60, deadline=None)
@given(networks(), st.data())
def test_the_same_at_every_frame_of_tracks_that_come_and_go(given: tuple[VideoPose3D, int], data: st.DataObject):
    net, lookahead = given
    incremental = IncrementalNetwork(net, lookahead=lookahead, open_run=IN_TORCH)
    rng = np.random.default_rng(0)
    tracks: dict[int, tuple[Track, NDArray[np.float32]]] = {}
    ids = st.sets(st.integers(0, 3), min_size=1)
    for present in data.draw(st.lists(ids, min_size=1, max_size=12), "tracks of each frame"):
        gone = data.draw(st.sets(st.sampled_from(sorted(tracks))), "ended") if tracks else set()
        for ended in gone:
            del tracks[ended]
        news = [rng.standard_normal((data.draw(st.integers(1, 20)), 3, 2)).astype(np.float32) for _ in present]
        for one, new in zip(sorted(present), news, strict=True):
            track, poses = tracks.get(one, (Track(), new[:0]))
            tracks[one] = track, np.concatenate([poses, new])
        out = incremental.step([tracks[one][0] for one in sorted(present)], news)
        assert out.shape == (len(present), 3, 3)
        for one, pose in zip(sorted(present), out, strict=True):
            assert_same(pose, whole(net, tracks[one][1], lookahead))


@pytest.mark.parametrize(
    ("causal", "lookahead", "runtime"),
    [(False, 0, "openvino"), (False, 7, "torch"), (False, 121, "torch"), (True, 0, "torch")],
)
def test_longer_than_a_receptive_field_of_243_frames(causal: bool, lookahead: int, runtime: str):
    net = network((3,) * 5, causal, joints=17)
    poses = np.random.default_rng(1).standard_normal((300, 17, 2)).astype(np.float32)
    incremental = IncrementalNetwork(net, lookahead=lookahead, open_run=partial(IN_TORCH, runtime=runtime))
    track = Track()
    for frame, pose in enumerate(poses):
        (out,) = incremental.step([track], [pose[None]])
        if frame % 37 == 0 or frame > 297:
            assert_same(out, whole(net, poses[: frame + 1], lookahead))
    assert sum(ring.nbytes for ring in track.rings) == ring_bytes(12)


def ring_bytes(channels: int) -> int:
    """(taps - 1) * dilation frames for each layer, and a few for frames that come together."""
    together = 8
    floats = (2 + together) * 17 * 2 + sum(2 * dilation + together for dilation in (3, 9, 27, 81)) * channels
    return 4 * floats


def test_what_a_new_frame_costs_does_not_grow_with_the_window():
    for layers in range(2, 6):
        net = VideoPose3D((3,) * layers, channels=4)
        for lookahead in range(0, net.padding[1] + 1, 5):
            plans = plan(net, lookahead)
            assert all(p.columns(1, last=False) <= 3 for p in plans)
            assert plans[-1].columns(1, last=True) == 1
        delayed = plan(net, net.padding[1])
        assert [p.columns(1, last=p is delayed[-1]) for p in delayed] == [1] * layers


def test_it_is_used_where_it_computes_less():
    assert not worthwhile(VideoPose3D((3, 3, 3), channels=4), 0)
    assert worthwhile(VideoPose3D((3, 3, 3, 3), channels=4), 0)
    assert worthwhile(VideoPose3D((3,) * 5, channels=4), 0)
    assert not worthwhile(VideoPose3D((1,) * 5, channels=4), 0)


def test_a_lookahead_that_the_network_does_not_have():
    with pytest.raises(ValueError, match="lookahead must be 0 to 13, not 14"):
        plan(VideoPose3D((3, 3, 3), channels=4), 14)
