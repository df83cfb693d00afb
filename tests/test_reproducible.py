"""A file gives the same results every time, to the bit: whatever else the machine does, and whichever files run beside.

The whole matrix, every clip of the development folder in three runs alone and beside three others, is in
tests/system/test_reproducible.py.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path

import av

from streamkp import wire
from streamkp.graph.engine import Engine
from streamkp.graph.graph import Graph
from streamkp.testing import Collect, Collected

BUSY = "import os; os.nice(5)\nwhile True: pass"  # other tests run beside


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Other programs that want the CPU."""
    with ExitStack() as stack:
        for _ in range(processes):
            process = stack.enter_context(subprocess.Popen([sys.executable, "-c", BUSY]))
            stack.callback(process.kill)
        yield


def results(**streams: Path) -> dict[str, list[bytes]]:
    """The messages of every stream, without the times at which they were captured and published."""
    out = Collected()
    graph = Graph.from_yaml("demo").without_sinks().only_streams({name: str(path) for name, path in streams.items()})
    engine = Engine(graph.add("collect", Collect, into=out).validate())
    engine.start()
    engine.wait()
    assert not engine.errors
    messages: dict[str, list[bytes]] = {name: [] for name in streams}
    for packet in out.packets:
        packet.captured_at = 0
        stream, packet.stream = packet.stream, ""
        messages[stream].append(wire.encode(wire.message(packet, 0, 0), "msgpack"))  # floats as they are
    return messages


def cut(source: Path, target: Path, first: int, last: int) -> Path:
    """Frames `first` to `last` of a clip, encoded anew."""
    with av.open(str(source)) as film, av.open(str(target), "w") as out:
        video = out.add_stream("libx264", rate=30)
        for n, frame in enumerate(film.decode(video=0)):
            if n > last:
                break
            if n < first:
                continue
            if n == first:
                video.width, video.height, video.pix_fmt = frame.width, frame.height, "yuv420p"
            frame.pts, frame.time_base = n - first, Fraction(1, 30)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
    return target


def test_a_file_gives_the_same_alone_beside_another_and_under_load(assets: Path, tmp_path: Path) -> None:
    """In these frames people are lost and found again, so that detections are asked for."""
    walk = cut(assets / "clips" / "sports2d_demo_walk_enter_leave.mp4", tmp_path / "walk.mp4", 30, 59)
    yard = cut(assets / "clips" / "pose2sim_multi_cam03.mp4", tmp_path / "yard.mp4", 0, 11)
    alone = results(walk=walk)["walk"]
    with busy(2):
        together = results(walk=walk, yard=yard)
    assert len(alone) == 30
    assert len({*alone}) == 30
    assert together["walk"] == alone
    assert together["yard"] == results(yard=yard)["yard"]
