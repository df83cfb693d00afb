"""A ring of cameras around somebody who shifts their weight from foot to foot: world z up, metres."""

from __future__ import annotations

import numpy as np

from streamkp.evaluation.multi_camera.calibration import CalibratedCamera
from streamkp.evaluation.multi_camera.live_views import TrackRecording, ViewRecording

SIZE = (1080, 1920)
RATE = 60.0

# hip, right leg, left leg, spine, thorax, neck, head, left arm, right arm; the person looks along +y
_REST = np.array([
    (0, 0, 0.9), (0.1, 0, 0.9), (0.1, 0, 0.5), (0.1, 0, 0.1), (-0.1, 0, 0.9), (-0.1, 0, 0.5), (-0.1, 0, 0.1),
    (0, 0, 1.15), (0, 0, 1.4), (0, 0.1, 1.55), (0, 0.05, 1.6),
    (-0.2, 0, 1.4), (-0.4, 0.1, 1.3), (-0.6, 0.3, 1.3), (0.2, 0, 1.4), (0.4, 0.1, 1.3), (0.6, 0.3, 1.3),
])  # fmt: skip
RIGHT_ANKLE, LEFT_ANKLE = 3, 6


def shifting(frames: int) -> np.ndarray:
    """World poses [T, 17, 3]: the right ankle stands all the time, the left one from frame 40 on moves to and fro."""
    t = np.arange(frames) / RATE
    poses = np.repeat(_REST[None], frames, 0)
    sway = 0.1 * np.sin(2 * np.pi * 0.5 * t)
    poses[:, :, 0] += np.where(_REST[:, 2] > 0.3, sway[:, None] * _REST[:, 2], 0)
    poses[:, 11:, 1] += 0.2 * np.sin(2 * np.pi * t)[:, None]
    swing = np.clip(t - 40 / RATE, 0, None)
    poses[:, LEFT_ANKLE, 1] += 0.3 * np.sin(2 * np.pi * swing)
    poses[:, LEFT_ANKLE, 2] += 0.15 * (1 - np.cos(2 * np.pi * swing))
    return poses


def ring(count: int, *, distortion: tuple[float, ...] = (-0.05, 0.12, 0.001, -0.001, 0.0)) -> list[CalibratedCamera]:
    """Cameras 4 m away, at different heights, that look at (0, 0, 0.9)."""
    cameras = []
    for n in range(count):
        angle = 2 * np.pi * n / count + 0.3
        position = np.array([4 * np.cos(angle), 4 * np.sin(angle), 1.2 + 0.3 * n])
        ahead = np.array([0, 0, 0.9]) - position
        ahead /= np.linalg.norm(ahead)
        right = np.cross(ahead, [0, 0, 1])
        right /= np.linalg.norm(right)
        turn = np.array([right, np.cross(ahead, right), ahead])
        matrix = np.array([[1600.0, 0, 540 + 5 * n], [0, 1610.0, 960 - 7 * n], [0, 0, 1]])
        cameras.append(CalibratedCamera(f"cam{n}", SIZE, matrix, np.array(distortion), turn, -turn @ position))
    return cameras


def watch(camera: CalibratedCamera, *people: np.ndarray, noise: float = 0.0, seed: int = 0) -> ViewRecording:
    """What a camera sees of people, world poses [T, 17, 3] each, with pixel noise of that deviation."""
    random = np.random.default_rng(seed)
    view = ViewRecording("h36m17", SIZE, [round(t * 1e9 / RATE) for t in range(len(people[0]) + camera.frame_offset)])
    for n, poses in enumerate(people):
        pixels = camera.project(poses) + random.normal(scale=noise, size=(*poses.shape[:2], 2))
        points = np.concatenate([pixels, np.full_like(pixels[..., :1], 0.9)], -1)
        raw = {t + camera.frame_offset: frame for t, frame in enumerate(points)}
        space = poses @ camera.rotation.T + camera.translation
        seen = {t + camera.frame_offset: frame - frame[0] for t, frame in enumerate(space)}
        view.tracks[0, n + 1] = TrackRecording(raw, dict(raw), dict(seen), dict(seen))
    return view
