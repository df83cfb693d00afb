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
from mcap.reader import make_reader

from streamkp import wire
from streamkp.errors import OutputError, UsageError
from streamkp.sinks._mcap_file import frame_schema
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


def test_an_mcap_file_plays_at_the_speed_of_the_frames(open_sink: Open, tmp_path: Path) -> None:
    """However fast they were worked on, and with a gap in time where a stream began anew."""
    path = tmp_path / "out.mcap"
    sink = open_sink(Record, path=path)
    packets = [make_packet(seq, captured_at=1_700_000_000_000_000_000 + seq) for seq in range(5)]
    packets += [make_packet(5, epoch=1, pts=7, captured_at=1_700_000_001_000_000_000), make_packet(0, "other")]
    for packet in packets:
        sink.process(packet)
    sink.close()
    with path.open("rb") as file:
        found = list(make_reader(file, validate_crcs=True).iter_messages(log_time_order=False))
    times = [message.log_time - 1_700_000_000_000_000_000 for _, _, message in found]
    assert times == [0, 40_000_000, 80_000_000, 120_000_000, 160_000_000, 1_000_000_000, 0]
    assert [channel.topic for _, channel, _ in found] == ["/cam/frame"] * 6 + ["/other/frame"]
    assert {channel.message_encoding for _, channel, _ in found} == {"json"}
    schema = found[0][0]
    assert schema is not None
    assert (schema.name, schema.encoding) == ("streamkp.Frame", "jsonschema")


def test_the_schema_of_an_mcap_file_is_one_that_viewers_read() -> None:
    """Foxglove takes objects, numbers, text and lists of those: no references, no lists in lists."""

    def look(schema: dict[str, Any], inside_list: bool = False) -> None:
        assert schema["type"] in ("object", "array", "number", "integer", "string")
        assert not (inside_list and schema["type"] == "array")
        for field in schema.get("properties", {}).values():
            look(field)
        if schema["type"] == "array":
            look(schema["items"], inside_list=True)

    schema = frame_schema()
    assert schema["type"] == "object"
    look(schema)
    fields = wire.FrameMessage.model_json_schema()["properties"]
    assert set(schema["properties"]) == set(fields) - {"annotations"}


def test_an_mcap_file_that_exists_is_kept(open_sink: Open, tmp_path: Path) -> None:
    path = tmp_path / "kept.mcap"
    path.write_text("mine")
    with pytest.raises(UsageError, match="overwrite"):
        open_sink(Record, path=path)
    with pytest.raises(OutputError, match="cannot write"):
        open_sink(Record, path=Path("/proc/none.mcap"))
