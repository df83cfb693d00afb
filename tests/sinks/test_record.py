from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streamkp import wire
from streamkp.errors import OutputError, UsageError
from streamkp.sinks.record import Record
from tests.sinks.walker import make_packet

Open = Callable[..., Any]


def _lines(path: Path) -> list[wire.Message]:
    data = path.read_bytes()
    assert not data or data.endswith(b"\n")
    return [wire.decode(line, "json") for line in data.splitlines()]


def test_one_line_per_frame(open_sink: Open, tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    sink = open_sink(Record, path=path)
    for seq in (0, 1, 4):
        sink.process(make_packet(seq, "a", people=seq))
        sink.process(make_packet(seq, "b", people=0))
    sink.close()
    lines = _lines(path)
    assert [(m["stream"], m["seq"], m["dropped"], len(m["persons"])) for m in lines] == [
        ("a", 0, 0, 0), ("b", 0, 0, 0), ("a", 1, 0, 1), ("b", 1, 0, 0), ("a", 4, 2, 4), ("b", 4, 2, 0),
    ]  # fmt: skip


def test_every_line_is_there_before_close(open_sink: Open, tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    sink = open_sink(Record, path=path)
    for seq in range(5):
        sink.process(make_packet(seq))
        assert len(_lines(path)) == seq + 1


def test_lines_survive_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from streamkp.graph.stage import StageContext; from streamkp.sinks.record import Record\n"
        "from tests.sinks.walker import make_packet\n"
        "sink = Record(Record.Options(path=Path(sys.argv[1])), StageContext('record')); sink.open()\n"
        "[sink.process(make_packet(seq)) for seq in range(30)]; os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, path], cwd=Path(__file__).parents[2], timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert [m["seq"] for m in _lines(path)] == list(range(30))


def test_a_file_that_exists_is_kept_unless_told(open_sink: Open, tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("precious\n")
    with pytest.raises(UsageError, match=r"out\.jsonl exists.*overwrite: true"):
        open_sink(Record, path=path)
    assert path.read_text() == "precious\n"
    sink = open_sink(Record, path=path, overwrite=True)
    sink.process(make_packet(0))
    sink.close()
    assert len(_lines(path)) == 1


def test_no_folder(open_sink: Open, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no folder"):
        open_sink(Record, path=tmp_path / "none" / "out.jsonl")


def test_a_folder_is_no_file(open_sink: Open, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        open_sink(Record, path=tmp_path)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_device_is_named(open_sink: Open) -> None:
    sink = open_sink(Record, path="/dev/full")
    with pytest.raises(OutputError, match="/dev/full: No space left"):
        sink.process(make_packet(0))


def test_a_full_disk_leaves_whole_lines(open_sink: Open, tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    sink = open_sink(Record, path=path)
    for seq in range(3):
        sink.process(make_packet(seq))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    # The next write ends in the middle of its line, as on a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"out\.jsonl: File too large; the lines before"):
            sink.process(make_packet(3))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert [m["seq"] for m in _lines(path)] == [0, 1, 2]
