"""The tutorial to its end: the stage runs on the sample clip."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.test_tutorial import follow

pytestmark = pytest.mark.system


def test_the_stage_counts_the_steps_of_the_sample_clip(tmp_path: Path, program_env: dict[str, str]) -> None:
    said = follow(tmp_path, models=True, env=program_env)
    assert len(re.findall("'type': 'step'", said[-1])) >= 4, said[-1]
