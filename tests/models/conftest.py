"""The synthetic weights that the reference outputs were made with."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def synth(golden: Path) -> ModuleType:
    """golden/synth.py: `load_manifest(folder)`, `synthetic_state(manifest, variant)`."""
    spec = importlib.util.spec_from_file_location("synth", golden / "synth.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
