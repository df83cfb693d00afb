"""Ten times more frames than the graph can work on: what comes out is fresh, and every drop is counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from websockets.sync.client import connect

from streamkp import wire
from tests.sources.videos import write_clip
from tests.system.running import Running

pytestmark = pytest.mark.system

BUDGET = 500.0  # milliseconds: `stale_after` of decode
WORK = 0.05  # seconds that the slow stage needs for a frame: 20 frames a second for 240 that come
STREAMS = 8
GRAPH = """\
streams:
%s
stages:
  decode: {use: decode}
  slow: {use: slow.py:Slow}
  web: {use: publish-websocket, port: 0}
"""
SLOW = f"""\
import threading
from streamkp.plugin import MapStage

class Slow(MapStage):
    def process(self, packet):
        threading.Event().wait({WORK})
        return packet
"""


def test_results_stay_fresh(program_env: dict[str, str], tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4")
    (tmp_path / "slow.py").write_text(SLOW)
    streams = "\n".join(f"  cam{n}: {{uri: clip.mp4, loop: true, realtime: true, live: true}}" for n in range(STREAMS))
    (tmp_path / "graph.yaml").write_text(GRAPH % streams)
    program = Running("run", "graph.yaml", env=program_env, cwd=tmp_path)
    try:
        late: list[float] = []
        dropped = 0
        seen: dict[str, tuple[int, int]] = {}
        with connect(program.page.replace("http", "ws") + "/ws") as client:
            while len(late) < 350:  # some 18 seconds
                message = wire.decode(client.recv(timeout=30))
                if "seq" not in message:
                    continue
                late.append((message["published_at"] - message["captured_at"]) / 1e6)
                dropped += message["dropped"]
                if message["stream"] in seen:  # what came before this client did is not known
                    epoch, seq = seen[message["stream"]]
                    assert message["epoch"] >= epoch
                    assert message["seq"] == seq + 1 + message["dropped"], "every gap is explained"
                seen[message["stream"]] = message["epoch"], message["seq"]
        assert len(seen) == STREAMS, "no stream starves"
        for part in np.array_split(np.array(late), 3):
            assert np.percentile(part, 99) <= BUDGET + 1000 * WORK, "as late at the end as at the beginning, or less"
        stats = program.stats()
        rows = [row for stage in stats["stages"].values() for row in stage.values()]
        counted = sum(sum(row["dropped"].values()) for row in rows)
        assert counted >= dropped > 5 * len(late)
        assert program.stop() == 0, program.said
    finally:
        program.kill()
