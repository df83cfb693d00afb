from __future__ import annotations

import numpy as np
import pytest

from streamkp import skeletons
from streamkp.models.lift.hdformer import person_view
from streamkp.motion.mirror import mirror


@pytest.fixture
def seen() -> np.ndarray:
    """A moving person in camera axes [T, 17, 3], 4 m away and off the axis."""
    random = np.random.default_rng(3)
    pose = random.normal(scale=0.35, size=(1, 17, 3)) + random.normal(scale=0.02, size=(6, 17, 3))
    pose -= pose[:, :1]
    return pose + np.array([1.1, -0.4, 4.0]) + np.linspace(0, 0.3, 6)[:, None, None] * [1, 0, 0]


def inputs(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return person_view.network_inputs(points[None, ..., :2] / points[None, ..., 2:], np.ones((1, *points.shape[:2])))


def test_where_the_person_is_in_the_image_does_not_matter(seen: np.ndarray) -> None:
    plain, turn = inputs(seen)
    angle = 0.3  # turn the camera to the side
    to_side = np.array([[np.cos(angle), 0, -np.sin(angle)], [0, 1, 0], [np.sin(angle), 0, np.cos(angle)]])
    other, other_turn = inputs(seen @ to_side.T)
    # The elevation differs a little, as the camera turned about its own upright axis: the roll is what remains.
    np.testing.assert_allclose(other[:, 2:], plain[:, 2:], atol=2e-2)
    centre = np.einsum("bij,j->bi", turn, seen[:, 0].mean(0))
    assert abs(centre[0, :2]).max() < 0.02 * centre[0, 2]
    np.testing.assert_allclose(turn @ turn.transpose(0, 2, 1), np.eye(3)[None], atol=1e-12)
    assert np.linalg.det(other_turn) == pytest.approx(1)


def test_size_is_apart_from_shape(seen: np.ndarray) -> None:
    near, _ = inputs(seen)
    flat = seen.copy()
    flat[..., 2] = 4.0  # without perspective, half the size is the same shape
    full, _ = inputs(flat)
    half, _ = inputs(flat * [0.5, 0.5, 1])
    assert half[0, 3, 0, 0] < full[0, 3, 0, 0] - 0.5
    assert abs(half[0, :2] - full[0, :2]).max() < 0.2
    assert np.sqrt((near[0, :2, :, 1:] ** 2).sum(0).mean()) == pytest.approx(1, abs=0.05)


def test_outputs_turn_back(seen: np.ndarray) -> None:
    _, turns = inputs(seen)
    turned = np.einsum("bij,btkj->bitk", turns, (seen - seen[:, :1])[None])
    np.testing.assert_allclose(person_view.network_outputs(turned, turns)[0], seen - seen[:, :1], atol=1e-9)


def test_the_mirrored_person_gives_the_mirrored_inputs(seen: np.ndarray) -> None:
    plain, _ = inputs(seen)
    flipped, _ = inputs(mirror(seen, skeletons.get("h36m17")))
    np.testing.assert_allclose(person_view.mirrored(plain), flipped, atol=1e-5)


def test_a_person_of_no_size_gives_finite_inputs() -> None:
    out, _ = person_view.network_inputs(np.zeros((1, 4, 17, 2)), np.zeros((1, 4, 17)))
    assert np.isfinite(out).all()
