from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from streamkp.errors import ModelError
from streamkp.models import settings


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return tmp_path / "pytorch_model.bin"


def test_nothing_beside_the_checkpoint(checkpoint):
    assert settings.configuration(checkpoint) == {}
    assert settings.statistics(checkpoint, 2) is None


def test_configuration(checkpoint):
    beside = checkpoint.with_name("configuration.json")
    beside.write_text('{"model": {"INPUT": {"window_size": 5}}}')
    assert settings.configuration(checkpoint) == {"model": {"INPUT": {"window_size": 5}}}
    beside.write_text("[1]")
    with pytest.raises(ModelError, match="holds a list, not an object"):
        settings.configuration(checkpoint)
    beside.write_text("{")
    with pytest.raises(ModelError, match=r"configuration\.json cannot be read as JSON"):
        settings.configuration(checkpoint)


def test_statistics(checkpoint, golden):
    reference = np.load(golden / "hdformer" / "prepost.npz")
    for dimensions in (2, 3):
        pair = np.empty(2, object)
        pair[:] = [reference[f"{name}_{dimensions}d"] for name in ("mean", "std")]
        np.save(checkpoint.with_name(f"mean_std_{dimensions}d.npy"), pair, allow_pickle=True)
        statistics = settings.statistics(checkpoint, dimensions)
        assert statistics is not None
        np.testing.assert_array_equal(statistics.mean, pair[0])
        np.testing.assert_array_equal(statistics.std, pair[1])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ones((2, 16, 2)), r"shape \(2, 16, 2\), not \(2, 17, 2\)"),
        (np.full((2, 17, 2), np.nan), "not finite"),
        (np.zeros((2, 17, 2)), "deviation of 0"),
    ],
)
def test_statistics_that_make_no_sense(checkpoint, values, message):
    np.save(checkpoint.with_name("mean_std_2d.npy"), values)
    with pytest.raises(ModelError, match=message):
        settings.statistics(checkpoint, 2)
