from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamkp.errors import OutputError, UsageError
from streamkp.sinks.rerun import Rerun
from streamkp.testing import run_stage
from tests.sinks.walker import make_packet


def _rows(path: Path) -> Counter[str]:
    """Rows of each entity of a file, read by Rerun itself."""
    chunk = pytest.importorskip("rerun.chunk")
    rows: Counter[str] = Counter()
    for each in chunk.RrdReader(str(path)).stream():
        rows[each.entity_path] += each.num_rows
    return rows


def test_everything_is_in_the_file(tmp_path: Path) -> None:
    pytest.importorskip("rerun")
    packets = [make_packet(seq, "a/b", people=2 if seq < 3 else 1) for seq in range(5)]
    for packet in packets:
        packet.annotations.append({"type": "label", "track": 1, "text": "3"})
        packet.annotations.append({"type": "line", "points": [[0, 0], [9, 9]]})
        packet.persons[0].extra["rep"] = {"count": packet.seq, "name": "squat"}
        packet.events.append({"type": "rep"})
    packets[4].persons[0].box = np.full(4, np.nan, np.float32)
    run_stage(Rerun, {"path": tmp_path / "out.rrd"}, packets)
    rows = _rows(tmp_path / "out.rrd")
    stream = r"/a\/b"
    wanted = {
        "image": 5, "image/people/1/box": 4, "image/people/1/skeleton": 5, "image/people/2/box": 3,
        "image/people/2": 1, "image/annotations/labels": 5, "image/annotations/lines": 5, "events": 5,
        "space/1": 5, "space": 1, "plots/1/rep/count": 5,
    }  # fmt: skip
    assert {path: rows[f"{stream}/{path}"] for path in wanted} == wanted
    assert not [path for path in rows if "name" in path], "text is no plot"


@pytest.mark.parametrize("options", [{}, {"path": "a.rrd", "spawn": True}])
def test_it_goes_one_way(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="one of `path`, `connect` and `spawn: true`"):
        Rerun.Options(**options)


def test_a_file_that_exists_is_kept(tmp_path: Path) -> None:
    pytest.importorskip("rerun")
    (tmp_path / "out.rrd").write_text("mine")
    with pytest.raises((OutputError, UsageError), match="exists"):
        run_stage(Rerun, {"path": tmp_path / "out.rrd"}, [])
    assert (tmp_path / "out.rrd").read_text() == "mine"


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(UsageError, match=r"streamkp\[rerun\]"):
        run_stage(Rerun, {"path": "never.rrd"}, [])
