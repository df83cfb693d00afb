"""A pipeline after `fork`, where the threads of the parent are missing."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os, sys
import numpy as np
import streamkp

body = streamkp.pipeline(sys.argv[1])
image = np.full((120, 160, 3), 90, np.uint8)
print("parent", body(image)["keypoints"].shape, flush=True)
if (child := os.fork()) == 0:
    print("child", body(image)["keypoints"].shape, flush=True)
    body.close()
    sys.exit(7)
print("ended", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
print("parent", body(image)["keypoints"].shape)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize(("task", "shape"), [("body-2d-keypoints", "(0, 33, 2)"), ("body-3d-keypoints", "(1, 17, 3)")])
def test_a_child_starts_anew(task: str, shape: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, task], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"parent {shape}", f"child {shape}", "ended 7", f"parent {shape}"]
