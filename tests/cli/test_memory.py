from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

from streamkp.cli import memory

PROGRAM = """
import ctypes, numpy, sys
from streamkp.cli import memory
if sys.argv[1] == "tuned":
    memory.return_large_blocks()

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in
                "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]

libc = ctypes.CDLL("libc.so.6")
libc.mallinfo2.restype = Info
numpy.ones(1920 * 1080 * 3, numpy.uint8)  # freed at once
before = libc.mallinfo2().hblkhd
picture = numpy.ones(1280 * 720 * 3, numpy.uint8)
print(libc.mallinfo2().hblkhd - before >= picture.nbytes)
"""


def _glibc() -> bool:
    try:
        return hasattr(ctypes.CDLL("libc.so.6"), "mallinfo2")
    except OSError:
        return False


def _returned(how: str, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, how], env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(not _glibc(), reason="not glibc")
def test_pictures_have_memory_of_their_own_that_goes_back() -> None:
    assert _returned("as it is", {}) == "False", "glibc has changed, and this module may not be needed any more"
    assert _returned("tuned", {}) == "True"
    assert _returned("tuned", {"MALLOC_MMAP_THRESHOLD_": "33554432"}) == "False"


def test_other_c_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    memory.return_large_blocks()
