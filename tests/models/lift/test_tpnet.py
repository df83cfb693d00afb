from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from streamkp.models.lift.tpnet import network_inputs
from tests.reference.cameras import H36M_CAMERA


@pytest.mark.parametrize(
    ("run", "frames", "padding", "offsets"),
    [("rf27", 40, (13, 13), False), ("rf27_offsets", 20, (13, 13), True), ("rf27_causal", 20, (26, 0), False)],
)
def test_network_inputs(golden: Path, run, frames, padding, offsets):
    reference = np.load(golden / "tpnet" / "io.npz")
    pixels = reference["seq_2d"][:frames]
    poses, canonical = network_inputs(pixels, H36M_CAMERA, (1000, 1002), padding, offsets=offsets)
    assert_allclose(poses, reference[f"{run}_inputs_2d"], atol=1e-6)
    assert_allclose(canonical, reference[f"{run}_pose2d_canonical"], atol=1e-6)
