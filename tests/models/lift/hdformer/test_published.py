from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from streamkp import skeletons
from streamkp.models.lift.hdformer import published
from streamkp.motion.mirror import mirror
from tests.reference.cameras import H36M_CAMERA


@pytest.fixture
def reference(golden: Path) -> dict[str, np.ndarray]:
    return dict(np.load(golden / "hdformer" / "prepost.npz"))


def test_network_inputs(reference):
    pixels = reference["seq_2d"][None, :96]
    plain, flipped = published.network_inputs(pixels, H36M_CAMERA, reference["mean_2d"], reference["std_2d"])
    assert plain.dtype == flipped.dtype == np.float32
    assert_allclose(plain[0], reference["ref_in_96"], atol=1e-5)
    assert_allclose(flipped[0], reference["ref_in_flip_96"], atol=1e-5)


def test_network_outputs_are_averaged_in_metres():
    poses = np.random.default_rng(0).normal(size=(2, 5, 17, 3))
    outputs = [np.moveaxis(1000 * p, -1, 1) for p in (poses, mirror(poses, skeletons.get("h36m17")))]
    assert_allclose(published.network_outputs(*outputs), poses, atol=1e-12)
