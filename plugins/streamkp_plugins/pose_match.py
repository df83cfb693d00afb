"""`pose-match`: how well somebody follows a reference, while it happens.

Poses are compared by eight joint angles and, where both sides have 3D, by the directions of the limbs in the frame of
the trunk, which is the rotation that Procrustes alignment of the trunk gives: both do not depend on the view, and
lengths do not matter. The place in the reference comes from dynamic time warping without a fixed end, one column for
each live frame (the online form of Dixon, "Live tracking of musical performances using on-line time warping", 2005):
the performer may be faster, slower, pause, and begin anywhere.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamkp.plugin import LIVE, MapStage, Packet, Person, SourceError, StageOptions, UsageError, recording, skeleton
from streamkp_plugins.joint_angles import angle_between

Array = NDArray[np.float64]
JOINTS = tuple(f"{side}_{joint}" for joint in ("shoulder", "elbow", "hip", "knee") for side in ("left", "right"))
_ANGLES = {
    "shoulder": ("hip", "shoulder", "elbow"),
    "elbow": ("shoulder", "elbow", "wrist"),
    "hip": ("shoulder", "hip", "knee"),
    "knee": ("hip", "knee", "ankle"),
}
_LIMBS = {
    "shoulder": ("shoulder", "elbow"),
    "elbow": ("elbow", "wrist"),
    "hip": ("hip", "knee"),
    "knee": ("knee", "ankle"),
}
BAND = 4.0  # seconds of the reference to either side of the place that are looked at
END = 0.2  # seconds before the end of the reference at which it counts as done
STAY = 3.0  # degrees that a step on one side alone costs: who stands still does not run through the reference
MOST = 20_000  # frames of a reference
MOST_TOLD = 32  # streams, and the latest scores of each, that the summary has


@dataclass
class _Follower:
    """One person's place in the reference."""

    costs: Array | None = None  # least cost of all ways that end at each reference frame
    place: int = 0
    scores: float = 0.0
    frames: int = 0
    done: bool = False


class PoseMatch(MapStage):
    """Scores everybody against a reference clip or pose, 0 to 100, with the error of each joint in degrees."""

    retells = ("match", "pose_match", "annotations")

    class Options(StageOptions):
        reference: Path = Field(description="A recording (`record`), or `.npy`: one pose (K, 3) or many (T, K, 3).")
        skeleton: str = Field("h36m17", description="Of a `.npy` reference, which is 3D in metres, y down.")
        rate: float = Field(30.0, gt=0, description="Frames a second of a `.npy` reference.")
        space: Literal["2d", "3d"] = Field("3d", description="Compare lifted poses, or angles in the image.")
        good: float = Field(
            8.0, ge=0, description="Mean error in degrees that still scores 100.", json_schema_extra=LIVE
        )
        bad: float = Field(60.0, gt=0, description="Mean error in degrees that scores 0.", json_schema_extra=LIVE)
        labels: bool = Field(
            True,
            description="Write the score over the head, in rendered videos and on the page.",
            json_schema_extra=LIVE,
        )

    options: Options

    @classmethod
    def check(cls, options: Options) -> None:
        if options.good >= options.bad:
            raise UsageError("good must be less than bad")
        if not options.reference.is_file():
            raise UsageError(f"the reference {options.reference} does not exist")

    def open(self) -> None:
        self._reference, self._times = self._read()
        self._followers = self.per_track(_Follower)
        self._scores: dict[str, deque[float]] = {}  # by stream: of those who came to the end of the reference

    def summary(self) -> str:
        """The scores of each stream, a line each."""
        lines = []
        for stream, scores in sorted(self._scores.items())[:MOST_TOLD]:
            told = ", ".join(f"{score:g}" for score in scores)
            lines.append(f"{stream}: match {told}" if scores else f"{stream}: nobody came to the end of the reference")
        return "\n".join(lines)

    def process(self, packet: Packet) -> Packet:
        scores = self._scores.setdefault(packet.stream, deque(maxlen=MOST_TOLD))
        for person in packet.persons:
            live = self._features(person)
            if live is None:
                continue
            follower = self._followers[packet.stream, person.track]
            errors = self._errors(live)
            place = self._advance(follower, errors)
            feedback = person.extra["pose_match"] = self._feedback(follower, live, place)
            if self.options.labels:
                text = f"{feedback['score']:.0f}"
                packet.annotations.append({"type": "label", "track": person.track, "text": text, "at": None})
            if not follower.done and len(self._times) > 1 and self._times[place] >= self._times[-1] - END:
                follower.done = True
                mean = round(follower.scores / follower.frames, 1)
                scores.append(mean)
                packet.events.append({"type": "match", "track": person.track, "score": mean})
        return packet

    def _read(self) -> tuple[Array, Array]:
        path = self.options.reference
        rows, times = [], []
        if path.suffix == ".npy":
            try:
                poses = np.load(path, allow_pickle=False)
            except (OSError, ValueError) as error:
                raise UsageError(f"the reference {path} cannot be read: {error}") from None
            poses = poses[None] if poses.ndim == 2 else poses
            if poses.ndim != 3 or poses.shape[1:] != (len(skeleton(self.options.skeleton)), 3):
                raise UsageError(f"the reference {path} has shape {poses.shape}, not (T, K, 3) of the skeleton")
            rows = [_features_3d(pose.astype(np.float64), self.options.skeleton) for pose in poses[:MOST]]
            times = [i / self.options.rate for i in range(len(rows))]
        else:
            try:
                for packet in recording(path):
                    people = [found for person in packet.persons[:1] if (found := self._features(person)) is not None]
                    if people and len(rows) < MOST:
                        rows.append(people[0])
                        times.append(packet.pts / 1e9)
            except SourceError as error:
                raise UsageError(str(error)) from None
        if not rows:
            raise UsageError(f"the reference {path} has no {self.options.space} pose in it")
        return np.array(rows), np.array(times) - times[0]

    def _features(self, person: Person) -> Array | None:
        if self.options.space == "3d":
            pose = person.keypoints_3d
            return None if pose is None else _features_3d(pose.points.astype(np.float64), pose.skeleton)
        flat = person.keypoints_2d
        if flat is None:
            return None
        points = flat.points[:, :2].astype(np.float64)
        points[flat.points[:, 2] < 0.2] = np.nan
        return _features_2d(points, flat.skeleton)

    def _errors(self, live: Array) -> Array:
        """Mean error of each reference frame, degrees."""
        return np.asarray(np.nan_to_num(_apart(live, self._reference).mean(axis=1), nan=90.0))

    def _advance(self, follower: _Follower, errors: Array) -> int:
        if follower.costs is None:
            # A reference may be entered anywhere, but a later entry must be better by more than chance.
            follower.costs = errors + np.minimum(self._times, 10.0) * 0.5
        else:
            before = follower.costs
            stay = before + STAY
            step = np.concatenate([[np.inf], before[:-1]])
            skip = np.concatenate([[np.inf, np.inf], before[:-2]]) + STAY / 2
            entered = np.minimum(np.minimum(stay, step), skip[: len(before)])
            # Old costs fade, so that a bad beginning does not outweigh what is done now.
            follower.costs = errors + 0.95 * entered
            far = np.abs(self._times - self._times[follower.place]) > BAND
            follower.costs[far] += 1e3
        follower.place = int(np.argmin(follower.costs))
        follower.costs -= follower.costs[follower.place]
        return follower.place

    def _feedback(self, follower: _Follower, live: Array, place: int) -> dict[str, Any]:
        each = _apart(live, self._reference[place : place + 1])[0]
        known = each[np.isfinite(each)]
        options = self.options
        error = float(known.mean()) if len(known) else options.bad
        score = 100.0 * float(np.clip((options.bad - error) / (options.bad - options.good), 0.0, 1.0))
        follower.scores += score
        follower.frames += 1
        joints = {name: round(float(e), 1) if np.isfinite(e) else None for name, e in zip(JOINTS, each, strict=True)}
        worst = max((n for n in joints if joints[n] is not None), key=lambda n: joints[n] or 0.0, default=None)
        return {
            "score": round(score, 1),
            "reference_s": round(float(self._times[place]), 3),
            "joints": joints,
            "worst": worst,
        }


def _apart(live: Array, reference: Array) -> Array:
    """(T, 8): error of each joint against each reference frame, degrees; NaN where a joint is not known."""
    angles = np.abs(reference[:, :8] - live[:8])
    if live.shape[0] == 8:
        return np.asarray(angles)
    limbs, mine = reference[:, 8:].reshape(-1, 8, 3), live[8:].reshape(8, 3)
    turned = np.degrees(np.arccos(np.clip((limbs * mine).sum(axis=2), -1.0, 1.0)))
    return np.asarray((angles + turned) / 2)


def _features_2d(points: Array, name: str) -> Array:
    layout = skeleton(name)
    out = np.full(8, np.nan)
    for i, joint in enumerate(JOINTS):
        side, _, which = joint.partition("_")
        a, b, c = (points[layout.joints.index(f"{side}_{part}")] for part in _ANGLES[which])
        angle = angle_between(a - b, c - b)
        out[i] = np.nan if angle is None else angle
    return out


def _features_3d(points: Array, name: str) -> Array:
    """Eight angles, and eight limb directions in the trunk's frame."""
    layout = skeleton(name)
    at = {joint: points[layout.joints.index(joint)] for joint in layout.joints}
    hips, shoulders = at["left_hip"] - at["right_hip"], at["left_shoulder"] - at["right_shoulder"]
    up = (at["left_shoulder"] + at["right_shoulder"] - at["left_hip"] - at["right_hip"]) / 2
    up = up / max(float(np.linalg.norm(up)), 1e-9)
    across = hips + shoulders
    across = across - up * (across @ up)
    across = across / max(float(np.linalg.norm(across)), 1e-9)
    frame = np.stack([across, up, np.cross(across, up)])
    directions = []
    for joint in JOINTS:
        side, _, which = joint.partition("_")
        a, b = (at[f"{side}_{part}"] for part in _LIMBS[which])
        limb = frame @ (b - a)
        directions.append(limb / max(float(np.linalg.norm(limb)), 1e-9))
    return np.concatenate([_features_2d(points, name), np.concatenate(directions)])
