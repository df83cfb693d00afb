from __future__ import annotations

import errno
import gzip
import json
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from mcap.reader import make_reader

from streamkp import wire
from streamkp.errors import OutputError, UsageError
from streamkp.graph.clock import Clock
from streamkp.graph.stage import StageContext
from streamkp.sinks._mcap_file import frame_schema
from streamkp.sinks.record import Record
from streamkp.sources import replay
from streamkp.testing import ManualClock
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


def _live(seq: int, stream: str = "cam") -> Any:
    return make_packet(seq, stream, expires_at=1)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    clock = ManualClock(start=1_795_731_300_000_000_000)  # 2026-11-26 22:15 UTC
    monkeypatch.setattr(Clock, "now", lambda _: clock.now())
    monkeypatch.setattr(Clock, "monotonic", lambda _: clock.monotonic())
    return clock


class _Disk:
    """`os.write` of a disk that may be full, after a part of what it is given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = False
        self._write = os.write
        monkeypatch.setattr(os, "write", self.write)

    def write(self, file: int, data: Any) -> int:
        if self.full:
            if len(data) > 100:
                return self._write(file, data[:50])
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._write(file, data)


def _records(path: Path) -> list[wire.Message]:
    if path.suffix == ".mcap":
        with path.open("rb") as file:
            return [json.loads(message.data) for _, _, message in make_reader(file).iter_messages()]
    if path.suffix != ".gz":
        return _lines(path)
    with gzip.open(path, "rb") as file:
        return [wire.decode(line, "json") for line in file.read().splitlines()]


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz"])
def test_a_full_disk_pauses_the_recording_of_cameras(
    open_sink: Open, tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, name: str,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    path, disk, lost = tmp_path / name, _Disk(monkeypatch), list[int]()
    sink = open_sink(Record, path=path)
    sink.context.on_undelivered = lambda _, count: lost.append(count)
    for seq in range(40):
        disk.full = 10 <= seq < 30
        sink.process(_live(seq))
        clock.advance(1.0)
    sink.close()
    got = _records(path)
    seqs = [m["seq"] for m in got]
    assert seqs[0] == 0
    assert seqs[-1] == 39
    assert len(seqs) + sum(lost) == 40
    assert 18 <= sum(lost) <= 23  # tried again every two seconds, and what waited to be compressed
    assert [m["seq"] - before["seq"] - 1 for before, m in pairwise(got)] == [m["dropped"] for m in got[1:]]
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    assert f"{sum(lost)} frames are missing" in caplog.messages[1]


def test_a_recording_that_ends_on_a_full_disk_has_failed(
    open_sink: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, sink = _Disk(monkeypatch), open_sink(Record, path=tmp_path / "out.jsonl")
    disk.full = True
    sink.process(_live(0))
    with pytest.raises(OutputError, match="the disk is full"):
        sink.close()
    assert (tmp_path / "out.jsonl").read_bytes() == b""


def test_of_a_compressed_file_all_but_the_last_second_survives_a_kill(tmp_path: Path, clock: ManualClock) -> None:
    path = tmp_path / "out.jsonl.gz"
    sink = Record(Record.Options(path=path), StageContext("record"))
    sink.open()
    for seq in range(30):
        sink.process(make_packet(seq))
        clock.advance(0.1)
    assert [m["seq"] for m in _records(path)] == list(range(22))
    sink.close()
    assert [m["seq"] for m in _records(path)] == list(range(30))
    assert path.stat().st_size * 3 < sum(len(wire.encode(m, "json")) for m in _records(path))


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz", "out", "out.mcap"])
@pytest.mark.parametrize("limit", [{"rotate_minutes": 0.5}, {"rotate_mb": 0.02}])
def test_a_recording_goes_on_in_further_files(
    open_sink: Open, tmp_path: Path, clock: ManualClock, name: str, limit: dict[str, float]
) -> None:
    for first in (0, 200):  # the second run replaces nothing
        sink = open_sink(Record, path=tmp_path / name, **limit)
        for seq in range(first, first + 200):
            sink.process(make_packet(seq))
            clock.advance(0.4)
        sink.close()
    paths = sorted(tmp_path.iterdir(), key=lambda path: (len(path.name), path.name))
    stem, suffix = name.partition(".")[0], name.partition(".")[2]
    assert all(re.fullmatch(rf"{stem}-20261126T22\d{{4}}Z(-\d+)?(\.{suffix})?", path.name) for path in paths)
    assert len(paths) >= 4
    seqs = sorted(m["seq"] for path in paths for m in (_records(path)))
    assert seqs == list(range(400))


def test_only_the_newest_files_are_kept(open_sink: Open, tmp_path: Path, clock: ManualClock) -> None:
    others = [tmp_path / "out-notes.jsonl", tmp_path / "other-20200101T000000Z.jsonl"]
    for path in (*others, tmp_path / "out-20200101T000000Z.jsonl"):  # the last one is of an earlier run
        path.write_text("precious\n")
    sink = open_sink(Record, path=tmp_path / "out.jsonl", rotate_minutes=1, keep_files=3)
    for seq in range(60):
        sink.process(make_packet(seq))
        clock.advance(6.0)
    sink.close()
    kept = sorted(set(tmp_path.iterdir()) - set(others))
    assert all(path.read_text() == "precious\n" for path in others)
    assert len(kept) == 3
    seqs = [m["seq"] for path in kept for m in _lines(path)]
    assert seqs == list(range(60 - len(seqs), 60))


def test_no_more_than_so_many_bytes_are_kept(open_sink: Open, tmp_path: Path, clock: ManualClock) -> None:
    sink = open_sink(Record, path=tmp_path / "out.jsonl", rotate_mb=0.02, keep_mb=0.06)
    for seq in range(400):
        sink.process(make_packet(seq))
        clock.advance(1.0)
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 60_000
    sink.close()
    assert 1 <= len(list(tmp_path.iterdir())) <= 2, "a further file that has no line yet is not left behind"


def test_keep_needs_rotation(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="need rotate_minutes or rotate_mb"):
        Record.Options(path=tmp_path / "out.jsonl", keep_files=3)


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


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz", "out.mcap"])
def test_without_a_frame_there_is_no_file(
    open_sink: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    path = tmp_path / name
    open_sink(Record, path=path).close()
    assert not path.exists()
    assert f"no frame came; {path} was not written" in caplog.text
    path.write_bytes(b"of yesterday")
    open_sink(Record, path=path, overwrite=True).close()
    assert path.read_bytes() == b"of yesterday", "a run that failed replaces nothing"
    sink = open_sink(Record, path=path, overwrite=True)
    sink.process(make_packet(0))
    sink.close()
    assert b"yesterday" not in path.read_bytes()
    assert len(list(replay.packets(replay.Recording(path)))) == 1
