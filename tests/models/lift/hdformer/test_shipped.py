"""The lifter in the wheel: small, the same for OpenVINO and torch, and as accurate as its card says."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from streamkp.evaluation.lift import datasets
from streamkp.evaluation.lift.evaluate import evaluate
from streamkp.hub import store
from streamkp.models import onnx_weights, zoo
from streamkp.models.lift.sequence import open_sequence_lifter
from streamkp.runtimes.base import NetworkSource, RunOptions, open_network

NAME = "hdformer-streamkp"


def test_the_file_is_small_and_whole() -> None:
    path = store.path(NAME)
    assert path.stat().st_size < 10e6
    weights = onnx_weights.read(path)
    assert sum(array.size for array in weights.values()) > 1e6
    assert all(np.isfinite(array).all() for array in weights.values())


def test_torch_and_openvino_agree() -> None:
    import torch

    network = zoo.load("hdformer", store.path(NAME)).eval()
    windows = np.random.default_rng(0).normal(scale=0.5, size=(2, 4, 16, 17)).astype(np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(windows)).numpy()
    opened = open_network(NetworkSource(NAME, file=store.path(NAME)), RunOptions("cpu", threads=1))
    (poses,) = opened({"x": windows}).values()
    np.testing.assert_allclose(poses, expected, atol=2e-4)


def test_accuracy_on_people_it_has_never_seen(assets: Path, tmp_path: Path) -> None:
    with np.load(assets / "mocap" / "cmu17_test.npz") as clips:
        every_fourth = {name: clips[name] for name in clips.files[::4]}
    np.savez(tmp_path / "some.npz", **every_fourth)
    opened = open_sequence_lifter(NAME)
    report = evaluate(datasets.read(tmp_path / "some.npz", 0), opened, opened.skeleton, seed=0)
    assert report["clean"]["p_mpjpe_mm"] < 64
    assert report["noisy"]["p_mpjpe_mm"] < 69
