"""Sets of repetitions made from motion capture: repeated, time-warped, through random cameras, with noise and rests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkp.plugin import Keypoints2D, Packet, Person, skeleton
from streamkp.testing import make_packet

Array = NDArray[np.float64]
RATE = 30.0
NAMES = {"deep squat": "squat", "squat": "squat", "inline lunge": "lunge", "jumping jack": "jumping-jack"}
LAYOUT = skeleton("h36m17")
FEET = [LAYOUT.index("left_ankle"), LAYOUT.index("right_ankle")]


@dataclass(frozen=True)
class Set:
    """2D poses at `pts` (ns), and what they show."""

    exercise: str
    count: int
    partial: int
    points: NDArray[np.float32]  # (T, 17, 3): x, y in pixels, score
    pts: NDArray[np.int64]
    size: tuple[int, int]
    take: str

    def packets(self) -> Iterator[Packet]:
        """The set as a stage sees it."""
        for seq, (points, pts) in enumerate(zip(self.points, self.pts, strict=True)):
            low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
            box = np.array([*low, *(high - low)], np.float32)
            person = Person(1, "tracked", box, 1.0, Keypoints2D("h36m17", points))
            yield make_packet(
                seq=seq, pts=int(pts), image=None, width=self.size[0], height=self.size[1],
                persons=[person], tracks=frozenset({1}),
            )  # fmt: skip


@cache
def takes(folder: Path, correct: bool = True) -> dict[str, list[tuple[str, list[Array]]]]:
    """By exercise: takes, each a list of repetitions (T, 17, 3) in metres with y up."""
    files = {name: np.load(folder / name) for name in ("reps17.npz", "uiprmd17.npz")}
    found: dict[str, list[tuple[str, list[Array]]]] = {}
    for entry in json.loads((folder / "reps17.json").read_text()):
        name = NAMES.get(entry["exercise"])
        if name is None or (entry["correct"] is False) is correct:
            continue
        poses = files[entry["file"]][entry["name"]].astype(np.float64)[entry["start"] : entry["end"]]
        found.setdefault(name, []).append((entry["name"], _repetitions(poses, entry)))
    return found


def _repetitions(poses: Array, entry: dict[str, Any]) -> list[Array]:
    if entry["reps"]:
        return [poses[a:b] for a, b in entry["reps"] if b - a > 8]
    middle = entry["middle_frames"]
    cuts = [0, *((a + b) // 2 for a, b in pairwise(middle)), len(poses)]
    return [poses[a:b] for a, b in pairwise(cuts)]


def make(folder: Path, exercise: str, seed: int, *, correct: bool = True) -> Set:
    """One set of that exercise."""
    rng = np.random.default_rng(seed)
    known = takes(folder, correct)[exercise]
    name, repetitions = known[rng.integers(len(known))]
    count = int(rng.integers(2, 11))
    parts = [_still(repetitions[0][0], rng.uniform(0.5, 3.0), rng)]
    partial = 0
    for _ in range(count):
        repetition = repetitions[rng.integers(len(repetitions))]
        if rng.random() < 0.15:
            parts.append(_false_start(repetition, rng))
            partial += 1
        parts.append(_warped(repetition, rng))
        if rng.random() < 0.2:
            parts.append(_still(repetition[-1], rng.uniform(1.0, 5.0), rng))
    parts.append(_still(parts[-1][-1], rng.uniform(0.5, 1.5), rng))
    poses = _joined(parts)
    points, size = _seen(poses, rng)
    keep = rng.random(len(points)) > 0.03  # frames that a camera lost
    pts = (np.arange(len(points)) * 1e9 / RATE + rng.normal(0, 2e6, len(points))).astype(np.int64)
    return Set(exercise, count, partial, points[keep], np.maximum.accumulate(pts)[keep], size, name)


def _warped(poses: Array, rng: np.random.Generator) -> Array:
    """The same motion at another pace that also varies within it."""
    length = max(12, int(len(poses) * rng.uniform(0.75, 1.7)))
    t = np.linspace(0, 1, length)
    t = t + rng.uniform(-0.08, 0.08) * np.sin(2 * np.pi * t)
    return _at(poses, np.clip(t, 0, 1) * (len(poses) - 1))


def _at(poses: Array, rows: Array) -> Array:
    low = np.clip(np.floor(rows).astype(int), 0, len(poses) - 1)
    high = np.minimum(low + 1, len(poses) - 1)
    share = (rows - low)[:, None, None]
    return poses[low] * (1 - share) + poses[high] * share


def _false_start(poses: Array, rng: np.random.Generator) -> Array:
    """A quarter to a third of the way there, and back."""
    away = np.linalg.norm(poses - poses[:1], axis=2).mean(axis=1)
    reach = int(np.argmax(away >= rng.uniform(0.2, 0.33) * away.max()))
    return _at(poses, reach * np.sin(np.linspace(0, np.pi, max(20, 3 * reach))) ** 2)


def _still(pose: Array, seconds: float, rng: np.random.Generator) -> Array:
    t = np.arange(max(2, int(seconds * RATE))) / RATE
    sway = 0.01 * np.sin(2 * np.pi * 0.3 * t + rng.uniform(0, 6))
    poses: Array = np.repeat(pose[None], len(t), axis=0)
    poses[:, :, 0] += sway[:, None] * (pose[:, 1] - pose[FEET, 1].min())
    return poses


def _joined(parts: list[Array], blend: int = 6) -> Array:
    """One motion: each part starts where the one before it ended, over a fifth of a second."""
    out = [parts[0]]
    for part in parts[1:]:
        last = out[-1][-1]
        part = part - (part[0, 0] - last[0]) * np.array([1.0, 0.0, 1.0])
        fade = np.linspace(0, 1, min(blend, len(part)))[:, None, None]
        part[: len(fade)] = last * (1 - fade) + part[: len(fade)] * fade
        out.append(part)
    return np.concatenate(out)


def _seen(poses: Array, rng: np.random.Generator) -> tuple[NDArray[np.float32], tuple[int, int]]:
    """Through a camera anywhere around, with noise that stays for some frames and a far side that is hidden."""
    centre = np.median(poses[:, 0], axis=0)
    yaw, pitch = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(-8, 20))
    turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    tilt = np.array([[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]])
    local = (poses - centre) @ turn.T @ tilt.T
    distance = rng.uniform(2.8, 6.0)
    depth = distance - local[..., 2]
    width, height = (1280, 720) if rng.random() < 0.5 else (720, 1280)
    reach = np.abs(local[..., 1] / depth).max()
    focal = height / 2 * rng.uniform(0.6, 0.95) / reach
    x, y = width / 2 + focal * local[..., 0] / depth, height / 2 - focal * local[..., 1] / depth
    person = float(np.median(y.max(axis=1) - y.min(axis=1)))
    hidden = _hidden(local)
    scores = np.where(hidden, rng.uniform(0.1, 0.5), rng.uniform(0.8, 1.0)) * np.ones(depth.shape)
    spread = person * np.where(hidden, 0.025, 0.006)
    noise = rng.normal(0, 1, (len(x), x.shape[1], 2))
    for t in range(1, len(noise)):  # a pose network errs alike in frames that look alike
        noise[t] = 0.8 * noise[t - 1] + 0.6 * noise[t]
    points = np.stack([x + spread * noise[..., 0], y + spread * noise[..., 1], scores], axis=2)
    return points.astype(np.float32), (width, height)


def _hidden(local: Array) -> NDArray[np.bool_]:
    """Limbs behind the trunk of somebody seen from the side; z points to the camera."""
    hidden = np.zeros(local.shape[:2], bool)
    sides = {side: [LAYOUT.index(f"{side}_{j}") for j in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")]
             for side in ("left", "right")}  # fmt: skip
    apart = local[:, sides["left"][0]] - local[:, sides["right"][0]]
    level = np.abs(apart[:, 2]) > 0.85 * np.linalg.norm(apart, axis=1)
    left_behind = apart[:, 2] < 0
    for side, behind in (("left", left_behind), ("right", ~left_behind)):
        hidden[np.ix_(np.flatnonzero(level & behind), sides[side])] = True
    return hidden
