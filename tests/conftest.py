"""Fixtures for everything that lies outside the repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def _shared() -> Path:
    return Path(os.environ.get("STREAMKP_SHARED", ROOT.parent / "shared"))


def _required(path: Path) -> Path:
    if path.is_dir():
        return path
    if os.environ.get("CI") == "true":
        pytest.fail(f"{path} is missing; CI must not skip the tests that need it")
    pytest.skip(f"needs the development folder {path.name}/ (set STREAMKP_SHARED)")


@pytest.fixture(scope="session")
def golden() -> Path:
    """Reference outputs of the networks."""
    return _required(_shared() / "golden")


@pytest.fixture(scope="session")
def assets() -> Path:
    """Real clips, images, weights and motion capture."""
    return _required(_shared() / "assets")
