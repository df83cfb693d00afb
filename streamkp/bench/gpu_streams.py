"""Live cameras through one GPU, end to end, at their own pace: how long results take, and what is dropped."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamkp.models.detect.device import Begun, DetectorOnDevice
from streamkp.models.pose2d.blazepose_device import BlazePoseOnDevice
from streamkp.packet import FloatArray
from streamkp.vision.device_image import DeviceImage, Uploader

RATE = 30.0  # frames a second of each camera
DETECT_EVERY = 10  # frames
STALE = 0.5  # seconds after which a waiting frame is dropped, as in a graph
UPLOADERS = 4  # threads that bring frames to the device


@dataclass
class Cameras:
    """Decoded frames, Y, U and V each, which every camera shows over and over."""

    frames: Sequence[Sequence[np.ndarray[Any, np.dtype[np.uint8]]]]
    uploader: Uploader


@dataclass
class _Arrived:
    camera: int
    seq: int
    at: float  # when the camera gave it, perf_counter
    uploaded: float  # when its upload was under way
    image: DeviceImage


def streams(
    cameras: Cameras, estimator: BlazePoseOnDevice, detector: DetectorOnDevice, count: int, seconds: float
) -> dict[str, Any]:
    """Figures of `count` cameras at 30 frames a second for `seconds`, each with one person.

    A frame is uploaded, now and then letterboxed and searched for people, cropped around the person of the frame
    before, and done when its keypoints are on the host. Of each camera the newest waiting frame alone goes on, as in
    a graph of live sources; the others count as dropped. The cameras start evenly spread over one frame's time.
    """
    waiting: dict[int, _Arrived] = {}
    some = threading.Condition()
    drops = [0]
    todo: queue.SimpleQueue[tuple[int, int, float] | None] = queue.SimpleQueue()

    def upload() -> None:
        while (item := todo.get()) is not None:
            camera, seq, at = item
            image = cameras.uploader.planes(cameras.frames[(seq + camera) % len(cameras.frames)], "i420")
            with some:
                drops[0] += camera in waiting
                waiting[camera] = _Arrived(camera, seq, at, time.perf_counter(), image)
                some.notify()

    threads = [threading.Thread(target=upload, name=f"upload-{i}", daemon=True) for i in range(UPLOADERS)]
    for thread in threads:
        thread.start()
    start = time.perf_counter() + 0.05
    total = int(seconds * RATE)
    due = [(start + (seq + camera / count) / RATE, camera, seq) for seq in range(total) for camera in range(count)]

    def clock() -> None:
        stop = threading.Event()
        for at, camera, seq in due:
            if (wait := at - time.perf_counter()) > 0:
                stop.wait(wait)
            todo.put((camera, seq, at))
        for _ in threads:
            todo.put(None)

    ticking = threading.Thread(target=clock, name="clock", daemon=True)
    ticking.start()
    height, width, _ = 0, 0, 0
    spent = dict.fromkeys(("wait_for_frames", "detection", "crops_and_launch", "wait_for_device", "results"), 0.0)
    late: list[float] = []
    rounds = 0
    regions: dict[int, FloatArray] = {}
    latency: list[float] = []
    sizes: list[int] = []
    detected = 0
    begun: Begun | None = None
    try:
        while len(latency) + drops[0] < total * count:
            begin = time.perf_counter()
            with some:
                some.wait_for(lambda: bool(waiting), timeout=0.5)
                # What the largest batch does not hold waits on, the oldest first.
                batch = [waiting.pop(camera) for camera in list(waiting)[: estimator.network.most(len(waiting))]]
            now = time.perf_counter()
            spent["wait_for_frames"] += now - begin
            if not batch:
                if not ticking.is_alive():
                    break
                continue
            late += [frame.uploaded - frame.at for frame in batch]
            fresh = [frame for frame in batch if now - frame.at <= STALE]
            drops[0] += len(batch) - len(fresh)
            search = [f.image for f in fresh if f.seq % DETECT_EVERY == f.camera % DETECT_EVERY]
            if begun is not None:
                begun.result()
                begun = None
            if search:
                begun = detector.begin(search[: detector.network.most(len(search))])
                detected += len(begun.frames)
            began = time.perf_counter()
            spent["detection"] += began - now
            crops = []
            for frame in fresh:
                height, width, _ = frame.image.shape
                square = np.array((width / 2, height / 2, height, height, 0), np.float32)
                crops.append((frame.image, regions.get(frame.camera, square)))
            if not crops:
                continue
            landmarks = estimator.begin(crops)
            launched = time.perf_counter()
            landmarks.pending.fetch()
            there = time.perf_counter()
            poses = landmarks.result()
            done = time.perf_counter()
            spent["crops_and_launch"] += launched - began
            spent["wait_for_device"] += there - launched
            for frame, pose in zip(fresh, poses, strict=True):
                if (
                    pose.presence > 0.5
                    and np.isfinite(pose.next_region).all()
                    and 32 < pose.next_region[2] < 4 * height
                ):
                    regions[frame.camera] = pose.next_region
                else:
                    regions.pop(frame.camera, None)
                latency.append(done - frame.at)
            sizes.append(len(fresh))
            rounds += 1
            spent["results"] += time.perf_counter() - there
        if begun is not None:
            begun.result()
        elapsed = time.perf_counter() - start
    finally:
        ticking.join()
        for thread in threads:
            thread.join()
    ms = np.array(latency or [np.inf]) * 1e3
    busy = 1 - spent["wait_for_frames"] / elapsed
    upload_p95 = float(np.percentile(np.array(late or [np.inf]) * 1e3, 95))
    return {
        "streams": count,
        "p50_ms": round(float(np.median(ms)), 1),
        "p95_ms": round(float(np.percentile(ms, 95)), 1),
        "dropped": round(drops[0] / (total * count), 4),
        "frames_per_s": round(len(latency) / elapsed),
        "detections_per_s": round(detected / elapsed),
        "mean_batch": round(float(np.mean(sizes or [0])), 1),
        "busy": round(busy, 3),
        "upload_p95_ms": round(upload_p95, 1),
        "ms_a_round": {name: round(1e3 * of / max(rounds, 1), 3) for name, of in spent.items()},
        "slowest": _slowest(busy, upload_p95, float(np.percentile(ms, 95)), spent),
    }


def _slowest(busy: float, upload_p95: float, p95: float, spent: dict[str, float]) -> str:
    """What would give out first with more cameras."""
    if upload_p95 > p95 / 2:
        return "uploads"
    parts = {name: of for name, of in spent.items() if name != "wait_for_frames"}
    name, of = max(parts.items(), key=lambda item: item[1])
    share = of / max(sum(parts.values()), 1e-9)
    return f"{name}: {share:.0%} of the time of the thread that drives the networks, which is busy {busy:.0%}"
