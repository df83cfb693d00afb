"""One run of a graph on a clip, in a process of its own: `python -m streamkp.bench.once JOB`, one JSON line out."""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from streamkp.bench import graphs
from streamkp.errors import StreamkpError
from streamkp.graph.engine import ThreadEngine
from streamkp.graph.stage import Sink
from streamkp.packet import Packet


class Tally(Sink):
    """Tells the `Notes` that are bound to it when each frame arrives, and the 2D keypoints of the first stream."""

    light = True

    def process(self, packet: Packet) -> None:
        """Note the frame."""
        self.context.bound.add(packet)


class Notes:
    """What a run has given."""

    def __init__(self) -> None:
        self.frames = 0
        self.latency_ms: list[float] = []
        self.seq: list[int] = []
        self.points: list[Any] = []
        self.last = 0.0

    def add(self, packet: Packet) -> None:
        """Note one frame."""
        self.last = time.perf_counter()
        self.latency_ms.append((time.time_ns() - packet.captured_at) / 1e6)
        self.frames += 1
        if packet.stream == "bench0":
            for person in packet.persons:
                if person.keypoints_2d is not None and person.state != "predicted":
                    self.seq.append(packet.seq)
                    self.points.append(person.keypoints_2d.points)


def main(job: dict[str, Any]) -> dict[str, Any]:
    """Run the job; its keys are the arguments of `video._ours`."""
    notes = Notes()
    graph = graphs.load(job["graph"], job["overrides"])
    for n in range(job["streams"]):
        graph.stream(f"bench{n}", job["source"], realtime=job["realtime"])
    engine = ThreadEngine(graph.add("tally", Tally).validate(), bound={"tally": notes})
    gc.collect()
    gc.freeze()  # as `streamkp run` does
    engine.start()
    started, cpu = time.perf_counter(), time.process_time()
    engine.wait()
    if engine.errors:
        raise engine.errors[0]
    if job["points"]:
        np.savez(job["points"], seq=np.array(notes.seq, int), points=np.array(notes.points))
    return {
        "frames": notes.frames,
        "seconds": notes.last - started,
        "cpu_seconds": time.process_time() - cpu,
        "latency_ms": notes.latency_ms,
        "peak_memory_mb": _peak_memory_mb(),
    }


def _peak_memory_mb() -> float:
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


def tell(work: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Do the job of the command line and print what it gives, or the error that it ends with, as one JSON line."""
    try:
        found = work(json.loads(sys.argv[1]))
    except StreamkpError as error:
        found = {"error": str(error), "exit_code": error.exit_code}
    print(json.dumps(found))


if __name__ == "__main__":
    tell(main)
