from __future__ import annotations

import os
import pickle
import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkp.errors import ModelError
from streamkp.models import npy_pickle

RANDOM = np.random.default_rng(0)
PAIR = (RANDOM.normal(size=(17, 2)), RANDOM.uniform(1, 2, size=(17, 2)))


def object_array(*items: object) -> np.ndarray:
    array = np.empty(len(items), object)
    array[:] = items
    return array


def with_header(payload: bytes) -> bytes:
    """A .npy file of objects around any pickle."""
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (2,), }"
    header += b" " * (117 - len(header)) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + payload


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "content",
    [
        object_array(*PAIR),
        list(PAIR),
        np.stack(PAIR),
        np.asfortranarray(np.stack(PAIR)),
        [p.astype(np.float32) for p in PAIR],
        [p.tolist() for p in PAIR],
    ],
    ids=["objects", "list", "array", "fortran", "float32", "numbers"],
)
def test_pickled_arrays(tmp_path, content, protocol):
    path = tmp_path / "mean_std_2d.npy"
    for data in (pickle.dumps(content, protocol), with_header(pickle.dumps(content, protocol))):
        path.write_bytes(data)
        np.testing.assert_allclose(npy_pickle.read(path), np.stack(PAIR), rtol=1e-6)


def test_what_numpy_saves(tmp_path):
    path = tmp_path / "mean_std_2d.npy"
    flat = np.empty((2, 17, 2), object)
    flat[:] = np.stack(PAIR)
    for content in (np.stack(PAIR), object_array(*PAIR), flat):
        np.save(path, content, allow_pickle=True)
        np.testing.assert_array_equal(npy_pickle.read(path), np.stack(PAIR))


def test_names_of_numpy_before_version_2(tmp_path):
    path = tmp_path / "mean_std_2d.npy"
    old = pickle.dumps(object_array(*PAIR), 2).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    path.write_bytes(with_header(old))
    np.testing.assert_array_equal(npy_pickle.read(path), np.stack(PAIR))


class Malicious:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("header", [False, True])
def test_a_malicious_pickle_runs_nothing(tmp_path, protocol, header):
    path, mark = tmp_path / "mean_std_2d.npy", tmp_path / "ran"
    data = pickle.dumps([*PAIR, Malicious(f"touch '{mark}'")], protocol)
    path.write_bytes(with_header(data) if header else data)
    with pytest.raises(ModelError, match="is refused"):
        npy_pickle.read(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    "content", [{"mean": 1}, "text", None, [PAIR[0], "text"], object_array(*PAIR).dtype, [PAIR[0], [1, 2]]], ids=str
)
def test_other_contents(tmp_path, content):
    path = tmp_path / "mean_std_2d.npy"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(ModelError, match=r"mean_std_2d\.npy is not an array of numbers"):
        npy_pickle.read(path)


WHOLE = with_header(pickle.dumps(object_array(*PAIR)))


@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255), st.booleans())
def test_damaged_files_are_errors_or_numbers(tmp_path_factory, at, change, cut):
    path: Path = tmp_path_factory.mktemp("damaged") / "mean_std_2d.npy"
    data = bytearray(WHOLE)
    data[at] ^= change
    path.write_bytes(data[:at] if cut else data)
    with suppress(ModelError):
        assert npy_pickle.read(path).dtype == np.float64


def test_a_small_pickle_of_many_numbers(tmp_path):
    path, rows = tmp_path / "mean_std_2d.npy", [0.0] * 100
    for _ in range(6):
        rows = [rows] * 100
    path.write_bytes(pickle.dumps(rows))
    with pytest.raises(ModelError, match="more than 1048576 numbers"):
        npy_pickle.read(path)
