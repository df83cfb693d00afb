"""The networks of a graph in a loop without an engine: what the libraries alone can do with a clip.

`python -m streamkp.bench.bare JOB`, one JSON line out. A thread for each stream decodes and converts its frames. With
one stream another one cuts, runs the networks on as many threads as the graph does, and reads their outputs; with
several each stream has a thread and one-thread networks of its own. A lifter with weights lifts each pose. Nothing is
tracked, smoothed or published.
"""

from __future__ import annotations

import gc
import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from streamkp.bench import graphs
from streamkp.bench.once import tell
from streamkp.bench.parts import bgr
from streamkp.graph.spec import GraphSpec
from streamkp.graph.stage import MapStage, StageContext
from streamkp.models.registry import PersonDetector, PoseEstimator, open_detector, open_estimator
from streamkp.packet import Image, Keypoints2D, Packet, Person
from streamkp.poses import Pose

AHEAD = 2  # frames that are decoded in advance
PRESENT = 0.5  # a pose below this is nobody's


def main(job: dict[str, Any]) -> dict[str, Any]:
    """Run the job: `graph`, `overrides`, `source` and `streams`, as for `streamkp.bench.once`."""
    spec = graphs.validated(job["graph"], job["overrides"])
    detect: Any = next(stage.options for stage in spec.stages if stage.use == "detect-person")
    keypoints: Any = next(stage.options for stage in spec.stages if stage.use == "keypoints-2d")
    streams = job["streams"]
    threads = 1 if streams > 1 else keypoints.threads
    opened = [
        (open_detector(detect.model, threads=threads), open_estimator(keypoints.model, threads=threads), Lifting(spec))
        for _ in range(streams)
    ]
    gc.collect()
    gc.freeze()  # as `streamkp.bench.once` does
    started, cpu = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(streams) as pool:
        works = [pool.submit(_follow, job["source"], *networks, detect.every) for networks in opened]
        frames = sum(work.result() for work in works)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    for parts in opened:
        for part in parts:
            part.close()
    return {"frames": frames, "seconds": seconds, "cpu_seconds": cpu}


class Lifting:
    """The window and the lifter of a graph, where it has one with weights, called one after the other."""

    def __init__(self, spec: GraphSpec) -> None:
        stages = [stage for stage in spec.stages if stage.use in ("window", "lift-3d")]
        lifts = any("window" in stage.cls.requires(stage.options) for stage in stages)
        used = stages if lifts else []
        self._stages: list[Any] = [stage.cls(stage.options, StageContext(stage.name)) for stage in used]
        for stage in self._stages:
            stage.open()

    def lift(self, frame: int, image: Image, skeleton: str, pose: Pose) -> None:
        """Lift the pose of a frame; frames are a thirtieth of a second apart."""
        if not self._stages:
            return
        person = Person(1, "tracked", np.array((0, 0, 1, 1), np.float32), 1.0, Keypoints2D(skeleton, pose.points))
        height, width = image.shape[:2]
        packet = Packet("bare", 0, frame, round(frame * 1e9 / 30), 0, None, width, height, persons=[person])
        for stage in self._stages:
            stage.process(packet if isinstance(stage, MapStage) else [packet])

    def close(self) -> None:
        """Let go of the lifter."""
        for stage in self._stages:
            stage.close()


def _follow(source: str, detector: PersonDetector, estimator: PoseEstimator, lifting: Lifting, every: int) -> int:
    """Frames of one stream, each with at most one person in it."""
    images: queue.Queue[Image | None] = queue.Queue(AHEAD)
    reader = threading.Thread(target=_decode, args=(source, images), daemon=True)
    reader.start()
    frames, region = 0, None
    while (image := images.get()) is not None:
        if frames % every == 0 or region is None:
            found = detector.detect([image])[0]
            if region is None and len(found.boxes):
                region = estimator.region_from_detection(found, int(np.argmax(found.scores)))
        if region is not None:
            (pose,) = estimator.estimate([(image, region)])
            region = pose.next_region if pose.presence >= PRESENT else None
            if region is not None:
                lifting.lift(frames, image, estimator.skeleton, pose)
        frames += 1
    reader.join()
    return frames


def _decode(source: str, images: queue.Queue[Image | None]) -> None:
    try:
        with av.open(source) as container:
            container.streams.video[0].thread_type = "AUTO"
            convert = VideoReformatter()
            for frame in container.decode(video=0):
                images.put(bgr(convert, frame))
    finally:
        images.put(None)


if __name__ == "__main__":
    tell(main)
