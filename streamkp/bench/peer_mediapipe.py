# mypy: ignore-errors
"""MediaPipe's own pose solution on a clip, as its users run it. Runs in the peer's environment, not in ours.

Usage: python peer_mediapipe.py CLIP STREAMS POINTS.npy [WIDTH HEIGHT]
With WIDTH and HEIGHT the frames of a single stream come from standard input, as raw BGR, instead of from CLIP.
Prints one JSON line {"frames", "seconds", "latency_ms": [...]}; several streams are several processes.
Writes the landmarks of the first stream to POINTS.npy: float32 (frames, 33, 3) x, y in pixels and visibility.
"""

import json
import multiprocessing
import queue
import sys
import threading
import time

import cv2
import mediapipe as mp
import numpy as np


def frames_of(clip, size):
    """The frames of a clip as OpenCV decodes them, or those on standard input."""
    if size is None:
        capture = cv2.VideoCapture(clip)
        while (frame := capture.read())[0]:
            yield frame[1]
        return
    width, height = size
    while len(raw := sys.stdin.buffer.read(width * height * 3)) == width * height * 3:
        yield np.frombuffer(raw, np.uint8).reshape(height, width, 3)


def watch(clip, size, barrier, results, points_path):
    pose = mp.solutions.pose.Pose(model_complexity=1, smooth_landmarks=True)
    points, latency = [], []
    barrier.wait()
    started = time.perf_counter()
    for image in frames_of(clip, size):
        taken = time.perf_counter()
        found = pose.process(cv2.cvtColor(image, cv2.COLOR_BGR2RGB)).pose_landmarks
        latency.append((time.perf_counter() - taken) * 1e3)
        height, width = image.shape[:2]
        row = np.full((33, 3), np.nan, np.float32)
        if found:
            row = np.array([(p.x * width, p.y * height, p.visibility) for p in found.landmark], np.float32)
        points.append(row)
    finished = time.perf_counter()
    if points_path:
        np.save(points_path, np.stack(points))
    results.put((len(latency), started, finished, latency))


def alone(clip, size, points_path):
    """The same in this process."""
    rows = queue.Queue()
    watch(clip, size, threading.Barrier(1), rows, points_path)
    frames, started, finished, latency = rows.get()
    return {"frames": frames, "seconds": finished - started, "latency_ms": latency}


def main():
    clip, streams, points_path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    size = tuple(map(int, sys.argv[4:6])) if len(sys.argv) > 4 else None
    if size is not None:  # standard input is this process's
        print(json.dumps(alone(clip, size, points_path)))
        return
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(streams), context.Queue()
    workers = [
        context.Process(target=watch, args=(clip, None, barrier, results, points_path if n == 0 else None))
        for n in range(streams)
    ]
    for worker in workers:
        worker.start()
    rows = [results.get() for _ in workers]
    for worker in workers:
        worker.join()
    # perf_counter is one clock for all processes of a machine on Linux, macOS and Windows
    print(
        json.dumps(
            {
                "frames": sum(row[0] for row in rows),
                "seconds": max(row[2] for row in rows) - min(row[1] for row in rows),
                "latency_ms": [value for row in rows for value in row[3]],
            }
        )
    )


if __name__ == "__main__":
    main()
