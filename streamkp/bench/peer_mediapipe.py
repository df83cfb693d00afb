# mypy: ignore-errors
"""MediaPipe's own pose solution on a clip, as its users run it. Runs in the peer's environment, not in ours.

Usage: python peer_mediapipe.py CLIP STREAMS POINTS.npy
Prints one JSON line {"frames", "seconds", "latency_ms": [...]}; several streams are several processes.
Writes the landmarks of the first stream to POINTS.npy: float32 (frames, 33, 3) x, y in pixels and visibility.
"""

import json
import multiprocessing
import sys
import time

import cv2
import mediapipe as mp
import numpy as np


def watch(clip, barrier, results, points_path):
    pose = mp.solutions.pose.Pose(model_complexity=1, smooth_landmarks=True)
    capture = cv2.VideoCapture(clip)
    points, latency = [], []
    barrier.wait()
    started = time.perf_counter()
    while (frame := capture.read())[0]:
        image = frame[1]
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


def main():
    clip, streams, points_path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(streams), context.Queue()
    workers = [
        context.Process(target=watch, args=(clip, barrier, results, points_path if n == 0 else None))
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
