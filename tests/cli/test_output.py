"""Standard output that cannot be written, as the shell sees it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from streamkp.cli.output import printable

PROGRAM = [sys.executable, "-c", "from streamkp.cli.main import main; main()"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize("command", [["models", "list"], ["schema"], ["listen", "--help"], ["graph", "show", "demo"]])
def test_a_full_disk(command: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([*PROGRAM, *command], stdout=full, stderr=subprocess.PIPE, text=True, timeout=120)
    assert done.returncode == 5
    assert done.stderr == "streamkp: cannot write to the standard output: No space left on device\n"


@pytest.mark.parametrize("command", [["models", "list"], ["stages"], ["schema"]])
def test_a_reader_who_has_had_enough(command: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run([*PROGRAM, *command], stdout=write, stderr=subprocess.PIPE, text=True, timeout=120)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "arguments",
    [
        ["rtsp://u:s3cret@h/a"],
        ["run", "rtsp://u:s3 cret@h/a"],
        ["run", "demo", "rtsp://u:s3cret@h/a"],
        ["graph", "check", "rtsp://u:s3cret@h/a"],
        ["graph", "show", "demo", "--set", "rtsp://u:s3cret@h/a"],
        ["graph", "show", "demo", "--set", "stages.rtsp://u:s3cret@h/a=1"],
        ["graph", "show", "demo", "--set", "stages.detect.model=rtsp://u:s3cret@h/a"],
        ["listen", "--count", "rtsp://u:s3cret@h/a", "ws://h"],
        ["listen", "ws://u:s3cret@[::1"],
        ["listen", "mqtt://user:12#s3cret@127.0.0.1:1"],
        ["infer", "rtsp://u:s3cret@h/a", "a.mp4"],
        ["infer", "body-2d-keypoints", "a.mp4", "--model", "rtsp://u:s3cret@h/a"],
        ["models", "show", "rtsp://u:s3cret@h/a"],
        ["stages", "rtsp://u:s3cret@h/a"],
        ["--log-level", "rtsp://u:s3cret@h/a", "stages"],
    ],
)
def test_an_address_where_none_is_expected(arguments: list[str]) -> None:
    done = subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert "cret" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_what_a_terminal_would_obey() -> None:
    assert printable("a\x1b[2Jb\x9bc\u202ed\n") == "a\ufffd[2Jb\ufffdc\ufffdd\ufffd"
