"""The temporal network row by row, without torch, gives what it gives over the whole sequence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from streamkp.errors import ModelError, UsageError
from streamkp.models.lift import tcn
from streamkp.models.lift.tcn import TemporalSteps, Track
from streamkp.models.networks.tcn import TemporalNetwork
from streamkp.models.networks.tcn_shape import LOOKAHEADS
from streamkp.motion import track_view

ROWS = 130


@pytest.fixture(scope="module")
def network() -> TemporalNetwork:
    torch.manual_seed(0)
    network = TemporalNetwork(32, 48).eval()
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.15)
    return network


@pytest.fixture(scope="module")
def people() -> tuple[np.ndarray, np.ndarray]:
    """Three people who move across the image, [3, ROWS, 17, 2], and the scores of their joints."""
    random = np.random.default_rng(1)
    body = random.uniform(-0.2, 0.2, (3, 1, 17, 2))
    path = np.cumsum(random.normal(scale=0.01, size=(3, ROWS, 1, 2)), 1)
    limbs = np.cumsum(random.normal(scale=0.01, size=(3, ROWS, 17, 2)), 1)
    return body + path + limbs, random.uniform(0, 1, (3, ROWS, 17))


def whole(network: TemporalNetwork, points: np.ndarray, scores: np.ndarray, head: int) -> tuple[np.ndarray, np.ndarray]:
    mean = track_view.trailing_mean(track_view.summary(points, scores, np), np)
    rows, turns = track_view.see(points, scores, mean, np)
    with torch.inference_mode():
        out = network(torch.from_numpy(rows.astype(np.float32))).numpy()[:, :, head]
    poses = track_view.turn_back(turns, out[..., :3])
    before = np.concatenate([poses[:, :1], poses[:, :-1]], 1)
    return 0.65 * poses + 0.35 * before, 2 * np.exp(out[..., 3])


def weights(network: TemporalNetwork) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in network.state_dict().items()}


@pytest.mark.parametrize(("head", "lookahead"), list(enumerate(LOOKAHEADS)))
def test_row_by_row_is_the_whole_sequence(
    network: TemporalNetwork, people: tuple[np.ndarray, np.ndarray], head: int, lookahead: int
) -> None:
    points, scores = people
    poses, sigma = whole(network, points, scores, head)
    steps, tracks = TemporalSteps(weights(network), lookahead), [Track() for _ in points]
    for row in range(ROWS):
        found, spread = steps.step(tracks, list(points[:, row : row + 1]), list(scores[:, row : row + 1]))
        np.testing.assert_allclose(found, poses[:, row], atol=1e-4)
        np.testing.assert_allclose(spread, sigma[:, row], rtol=1e-4)


def test_tracks_come_late_and_bring_several_rows(
    network: TemporalNetwork, people: tuple[np.ndarray, np.ndarray]
) -> None:
    points, scores = people
    steps, tracks = TemporalSteps(weights(network)), [Track() for _ in points]
    steps.step(tracks[:1], [points[0, :50]], [scores[0, :50]])
    first = [50, 10, 0]
    until = [53, 40, 1]
    steps.step(tracks[1:2], [points[1, 3:10]], [scores[1, 3:10]])
    new = [slice(a, b) for a, b in zip(first, until, strict=True)]
    found, _ = steps.step(tracks, [points[k, new[k]] for k in range(3)], [scores[k, new[k]] for k in range(3)])
    for k, (start, stop) in enumerate([(0, 53), (3, 40), (0, 1)]):
        poses, _ = whole(network, points[k : k + 1, start:stop], scores[k : k + 1, start:stop], 0)
        np.testing.assert_allclose(found[k], poses[0, -1], atol=1e-4)


def test_a_pose_depends_on_so_many_rows(network: TemporalNetwork, people: tuple[np.ndarray, np.ndarray]) -> None:
    points, scores = (values[:1] for values in people)
    poses, _ = whole(network, points, scores, 0)
    for back, same in ((tcn.FRAMES - 1, False), (tcn.FRAMES, True)):
        other = points.copy()
        other[:, ROWS - 1 - back] += 0.3 * np.arange(17)[:, None]
        changed, _ = whole(network, other, scores, 0)
        assert np.allclose(changed[:, -1], poses[:, -1], atol=1e-7) == same
    assert not np.allclose(changed, poses)


def test_a_person_upside_down_is_seen_upright(people: tuple[np.ndarray, np.ndarray]) -> None:
    random = np.random.default_rng(2)
    points = random.uniform(-0.1, 0.1, (1, 1, 17, 2))
    points[0, 0, 0], points[0, 0, 8] = (0, 0), (0, -0.15)
    scores = np.ones((1, 1, 17))

    def seen(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean = track_view.trailing_mean(track_view.summary(points, scores, np), np)
        rows, turns = track_view.see(points, scores, mean, np)
        np.testing.assert_allclose(turns @ np.swapaxes(turns, -1, -2), np.eye(3)[None, None], atol=1e-9)
        np.testing.assert_allclose(np.linalg.det(turns), 1)
        return rows, turns

    upright, _ = seen(points)
    turned, turns = seen(-points)
    np.testing.assert_allclose(turned[..., :34], upright[..., :34], atol=1e-9)
    np.testing.assert_allclose(turns[0, 0], np.diag([-1, -1, 1]), atol=1e-9)
    np.testing.assert_allclose(turned[0, 0, -2:], (0, 1), atol=1e-9)  # and that it was turned over is told


def test_what_it_cannot_do_is_said(network: TemporalNetwork, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="lookahead must be 0, 2 or 5"):
        TemporalSteps(weights(network), 3)
    file = tmp_path / "lifter.safetensors"
    save_file(network.state_dict(), file)
    assert set(tcn.read(file)) == set(network.state_dict())
    save_file({"head.weight": torch.zeros(3, 3)}, file)
    with pytest.raises(ModelError, match="no weights of a temporal network"):
        tcn.read(file)
    file.write_bytes(b"no safetensors")
    with pytest.raises(ModelError, match="cannot read"):
        tcn.read(file)
