"""The short form of `streamkp bench soak`: every kind of fault at least once, and the promises."""

from __future__ import annotations

import json
import sys

import pytest

from streamkp.bench.soak_faults import CAMERA, WIDE
from tests.sources.videos import MakeClip
from tests.system.conftest import Streamkp

pytestmark = [
    pytest.mark.system,
    pytest.mark.usefixtures("rtsp", "broker_program"),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc and freezes processes"),
]
STREAMS = 8


def test_the_program_keeps_its_promises(streamkp: Streamkp, make_clip: MakeClip) -> None:
    done = streamkp(
        "bench", "soak", "--minutes", 1.1, "--hold", 2.5, "--plain", "--json", "--streams", STREAMS, "--seed", 1,
        "--source", make_clip(size=(320, 240), frames=90),
    )  # fmt: skip
    assert "Traceback" not in done.err, done.err
    figures = json.loads(done.out)
    assert figures["problems"] == []
    assert done.code == 0
    rows = figures["faults"]
    assert {fault.name for fault in WIDE} <= rows.keys()
    assert {fault.name for fault in CAMERA} <= rows.keys()
    assert all(row["recovered"] == row["total"] for row in rows.values())
    assert figures["messages"]["lost"] == figures["messages"]["reordered"] == 0
    assert figures["messages"]["messages"] > 500
    brokers = {fault.name for fault in WIDE if fault.area == "broker"}
    for name, row in rows.items():  # at QoS 1 the one message on its way when the broker was cut off goes out again
        assert row["duplicated"] <= (row["total"] * STREAMS if name in brokers else 0), name
    assert figures["process"]["memory_mib"]["most"] < 600
    assert figures["process"]["exit_code"] == 0
