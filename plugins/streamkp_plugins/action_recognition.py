"""`action-recognition`: actions learned from a handful of examples, told while they happen.

A window of poses becomes one vector: joints relative to the hips, in lengths of the trunk, at sixteen moments, and how
fast they move. The action is that of the nearest examples (k-NN, as in ML Kit's pose classification: also of the
mirrored pose, the depth axis weighing little). A share of the votes above `enter` begins an action, one below `leave`
ends it. `streamkp actions learn` makes the examples' file and prints how well they tell each other apart.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamkp.plugin import LIVE, MapStage, Packet, Person, SourceError, StageOptions, UsageError, recording, skeleton

Array = NDArray[np.float64]
MOMENTS = 16
JOINTS = tuple(
    f"{side}_{joint}" for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle") for side in ("left", "right")
)
_MIRROR = [i ^ 1 for i in range(len(JOINTS))]  # left and right are next to each other
FRAMES = 96  # of the window stage
STRIDE = 12  # frames between two examples from one recording
FILES = (".jsonl", ".jsonl.gz", ".mcap")
FORMAT = 1


@dataclass(frozen=True)
class Examples:
    """`vectors` (N, D); the action of each, and the recording that it came from."""

    vectors: Array
    labels: tuple[str, ...]
    groups: tuple[str, ...]
    frames: int

    def save(self, path: Path) -> None:
        """Write an `.npz` without pickled objects."""
        with path.open("wb") as file:
            np.savez_compressed(
                file, format=FORMAT, frames=self.frames, vectors=self.vectors.astype(np.float32),
                labels=np.array(self.labels, dtype=np.str_), groups=np.array(self.groups, dtype=np.str_),
            )  # fmt: skip


def load(path: Path) -> Examples:
    """Examples that `save` wrote.

    Raises:
        UsageError: the file cannot be read, or is something else.
    """
    try:
        with np.load(path, allow_pickle=False) as found:
            if int(found["format"]) != FORMAT:
                raise UsageError(f"{path} is of another version; learn the actions again")
            vectors = found["vectors"].astype(np.float64)
            labels, groups = (tuple(str(x) for x in found[name]) for name in ("labels", "groups"))
            frames = int(found["frames"])
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"{path} is no file of actions ({error}); make one with `streamkp actions learn`") from None
    if vectors.ndim != 2 or not len(vectors) == len(labels) == len(groups) or not np.isfinite(vectors).all():
        raise UsageError(f"{path} is damaged; learn the actions again")
    return Examples(vectors, labels, groups, frames)


def embed(points: NDArray[Any], layout: str) -> Array:
    """The vector of a window (T, K, 2 or 3) of `layout`, x and y in pixels (a third channel is a score), oldest first.

    With T = 1 it is that of a pose, without motion.
    """
    known = skeleton(layout)
    rows = [known.joints.index(joint) for joint in JOINTS]
    moments = np.linspace(0, len(points) - 1, MOMENTS).round().astype(int) if len(points) > 1 else [0]
    body = np.asarray(points, np.float64)[moments][:, rows, :2]
    hips, shoulders = body[:, 6:8].mean(axis=1), body[:, 0:2].mean(axis=1)
    # One length for the whole window: a trunk that bends to the camera must not blow up the rest.
    trunk = np.linalg.norm(shoulders - hips, axis=1)
    limbs = np.linalg.norm(body[:, [6, 7]] - body[:, [8, 9]], axis=2).max(axis=1)
    unit = max(float(np.percentile(np.maximum(trunk, limbs), 80)), 1e-6)
    around = (body - hips[:, None]) / unit
    if len(body) == 1:
        return np.asarray(around.ravel())
    travel = (hips - hips[0]) / unit
    speed = np.diff(around, axis=0)
    return np.concatenate([around.ravel(), 2.0 * speed.ravel(), 0.5 * travel.ravel()])


def mirrored(points: NDArray[Any], layout: str) -> NDArray[Any]:
    """The same window as a mirror shows it."""
    out = np.array(points[:, list(skeleton(layout).mirror)])
    out[..., 0] *= -1
    return out


def vote(vector: Array, twin: Array, examples: Examples, k: int, without: str | None = None) -> Counter[str]:
    """The actions of the k nearest examples to a window or its mirror image, those of one recording left out."""
    use = np.array([group != without for group in examples.groups])
    apart = np.minimum(np.abs(examples.vectors - vector).mean(axis=1), np.abs(examples.vectors - twin).mean(axis=1))
    apart[~use] = np.inf
    nearest = np.argsort(apart, kind="stable")[: min(k, int(use.sum()))]
    return Counter(examples.labels[i] for i in nearest)


class ActionRecognition(MapStage):
    """Tells which of the learned actions somebody does, from the last seconds of poses."""

    retells = ("action", "action_end", "annotations")

    class Options(StageOptions):
        examples: Path = Field(description="A file made with `streamkp actions learn`.")
        k: int = Field(5, ge=1, le=100, description="Nearest examples that vote.", json_schema_extra=LIVE)
        enter: float = Field(
            0.8, gt=0, le=1, description="Share of the votes, smoothed, that begins an action.", json_schema_extra=LIVE
        )
        leave: float = Field(
            0.5, gt=0, le=1, description="Share of the votes below which it ends.", json_schema_extra=LIVE
        )
        smoothing: float = Field(
            0.2, gt=0, le=1, description="Weight of the newest votes against those before.", json_schema_extra=LIVE
        )
        none: str = Field("none", description="The label of examples in which nothing is done; it has no events.")
        labels: bool = Field(
            True,
            description="Write the action over the head, in rendered videos and on the page.",
            json_schema_extra=LIVE,
        )

    options: Options

    @classmethod
    def check(cls, options: Options) -> None:
        if options.leave > options.enter:
            raise UsageError("leave must not be above enter")
        load(options.examples)

    def open(self) -> None:
        self._examples = load(self.options.examples)
        self._states = self.per_track(_State)

    def process(self, packet: Packet) -> Packet:
        for person in packet.persons:
            if person.keypoints_2d is None:
                continue
            shares = self._shares(person)
            if shares is None:
                continue
            state = self._states[packet.stream, person.track]
            packet.events.extend(self._update(state, shares, packet.pts, person.track))
            best = max(state.shares, key=lambda label: state.shares[label])
            person.extra["action"] = {"label": state.action, "best": best, "share": round(state.shares[best], 2)}
            if self.options.labels and state.action is not None:
                packet.annotations.append({"type": "label", "track": person.track, "text": state.action, "at": None})
        return packet

    def _shares(self, person: Person) -> dict[str, float] | None:
        if self._examples.frames == 1:
            assert person.keypoints_2d is not None
            points, layout = person.keypoints_2d.points[None], person.keypoints_2d.skeleton
        elif person.window is None:
            raise UsageError("action-recognition needs a `window` stage above it")
        else:
            points, layout = person.window.points, person.window.skeleton
            if person.window.valid < len(points) // 3:
                return None
        votes = vote(embed(points, layout), embed(mirrored(points, layout), layout), self._examples, self.options.k)
        total = sum(votes.values())
        return {label: count / total for label, count in votes.items()}

    def _update(self, state: _State, shares: dict[str, float], pts: int, track: int) -> list[dict[str, Any]]:
        weight = self.options.smoothing if state.shares else 1.0
        for label in state.shares.keys() | shares.keys():
            before = state.shares.get(label, 0.0)
            state.shares[label] = before + weight * (shares.get(label, 0.0) - before)
        events: list[dict[str, Any]] = []
        if state.action is not None and state.shares.get(state.action, 0.0) < self.options.leave:
            events.append({"type": "action_end", "action": state.action, "track": track,
                           "duration_s": round((pts - state.since) / 1e9, 2)})  # fmt: skip
            state.action = None
        best = max(state.shares, key=lambda label: state.shares[label])
        if state.action is None and best != self.options.none and state.shares[best] >= self.options.enter:
            state.action, state.since = best, pts
            events.append({"type": "action", "action": best, "track": track})
        return events


class _State:
    def __init__(self) -> None:
        self.shares: dict[str, float] = {}
        self.action: str | None = None
        self.since = 0


# --- learning -------------------------------------------------------------------------------------------------------


def learn(source: Path) -> Examples:
    """Examples from a folder with one folder of recordings for each action, or from ML Kit's CSV of poses.

    Raises:
        UsageError: there is nothing to learn from.
    """
    if source.is_file():
        return _from_csv(source)
    if not source.is_dir():
        raise UsageError(f"{source} is neither a folder with a folder for each action nor a CSV file of poses")
    vectors, labels, groups = [], [], []
    for folder in sorted(path for path in source.iterdir() if path.is_dir()):
        for file in sorted(path for path in folder.iterdir() if path.name.endswith(FILES)):
            for points, layout in _windows(file):
                vectors.append(embed(points, layout))
                labels.append(folder.name)
                groups.append(f"{folder.name}/{file.name}")
    if len(set(labels)) < 2:
        raise UsageError(
            f"{source}: found recordings of {len(set(labels))} actions, two at least are needed: "
            f"one folder for each, with files that `record` wrote ({', '.join(FILES)})"
        )
    return Examples(np.array(vectors), tuple(labels), tuple(groups), FRAMES)


def _windows(file: Path) -> Iterator[tuple[Array, str]]:
    """Windows of the person that is seen most, at 30 poses a second."""
    poses: dict[int, list[tuple[int, Array]]] = {}
    layout = ""
    try:
        for packet in recording(file):
            for person in packet.persons:
                if person.keypoints_2d is not None and person.state != "predicted":
                    layout = person.keypoints_2d.skeleton
                    poses.setdefault(person.track, []).append(
                        (packet.pts, person.keypoints_2d.points.astype(np.float64))
                    )
    except SourceError as error:
        raise UsageError(str(error)) from None
    if not poses:
        return
    seen = max(poses.values(), key=len)
    pts, points = np.array([at for at, _ in seen]), np.array([p for _, p in seen], np.float64)
    grid = np.arange(pts[0], pts[-1] + 1, 1e9 / 30)
    after = np.clip(np.searchsorted(pts, grid), 1, max(1, len(pts) - 1))
    if len(pts) < 2:
        return
    share = ((grid - pts[after - 1]) / np.maximum(pts[after] - pts[after - 1], 1))[:, None, None]
    even = points[after - 1] * (1 - share) + points[after] * share
    ends: Sequence[int] = range(min(FRAMES, len(even)), len(even) + 1, STRIDE)
    for end in ends:
        window = even[max(0, end - FRAMES) : end]
        yield np.concatenate([np.repeat(window[:1], FRAMES - len(window), axis=0), window]), layout


def _from_csv(path: Path) -> Examples:
    vectors, labels, names = [], [], []
    for name, label, points in read_csv(path):
        vectors.append(embed(points[None, :, :2], "blazepose33"))
        labels.append(label)
        names.append(name)
    return Examples(np.array(vectors), tuple(labels), tuple(names), 1)


def read_csv(path: Path) -> Iterator[tuple[str, str, Array]]:
    """Name, label and (33, 3) landmarks of each line of ML Kit's format.

    Raises:
        UsageError: a line is something else.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for number, row in enumerate(csv.reader(file), 1):
                if len(row) != 2 + 99:
                    raise UsageError(
                        f"{path}:{number}: expected a name, a label and 99 numbers, found {len(row)} fields"
                    )
                yield row[0], row[1], np.array([float(x) for x in row[2:]]).reshape(33, 3)
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None


def leave_one_out(examples: Examples, k: int) -> dict[str, tuple[int, int]]:
    """By action: how many examples the others tell right, and how many there are.

    All examples of one recording are left out together, for its windows overlap.
    """
    right: Counter[str] = Counter()
    twins = [_twin(vector, examples.frames) for vector in examples.vectors]
    for vector, twin, label, group in zip(examples.vectors, twins, examples.labels, examples.groups, strict=True):
        votes = vote(vector, twin, examples, k, without=group)
        right[label] += bool(votes) and votes.most_common(1)[0][0] == label
    return {label: (right[label], count) for label, count in sorted(Counter(examples.labels).items())}


def _twin(vector: Array, frames: int) -> Array:
    """The vector of the mirrored window."""
    moments = 1 if frames == 1 else MOMENTS
    parts, at = [], 0
    for count in (moments,) if frames == 1 else (moments, moments - 1):
        block = vector[at : at + count * len(JOINTS) * 2].reshape(count, len(JOINTS), 2)[:, _MIRROR] * [-1.0, 1.0]
        parts.append(block.ravel())
        at += count * len(JOINTS) * 2
    if frames != 1:
        parts.append((vector[at:].reshape(-1, 2) * [-1.0, 1.0]).ravel())
    return np.concatenate(parts)


# --- ML Kit's algorithm, to compare with ----------------------------------------------------------------------------


def mlkit_vector(points: Array) -> Array:
    """ML Kit's embedding of 33 landmarks: 23 differences of joints of a pose without place and size (Apache-2.0)."""
    at = {joint: points[i] for i, joint in enumerate(skeleton("blazepose33").joints)}
    hips = (at["left_hip"] + at["right_hip"]) / 2
    shoulders = (at["left_shoulder"] + at["right_shoulder"]) / 2
    flat = points[:, :2] - hips[:2]
    size = max(2.5 * float(np.linalg.norm((shoulders - hips)[:2])), float(np.linalg.norm(flat, axis=1).max()))
    at = {joint: (place - hips) / size * 100 for joint, place in at.items()}
    middle = {name: (at[f"left_{name}"] + at[f"right_{name}"]) / 2 for name in ("hip", "shoulder")}
    rows: list[Array] = [middle["shoulder"] - middle["hip"]]
    chains = (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"), ("shoulder", "wrist"),
              ("hip", "ankle"), ("hip", "wrist"), ("shoulder", "ankle"))  # fmt: skip
    for a, b in chains:
        rows += [at[f"{side}_{b}"] - at[f"{side}_{a}"] for side in ("left", "right")]
    rows += [at[f"{side}_wrist"] - at[f"{side}_hip"] for side in ("left", "right")]
    rows += [at[f"right_{joint}"] - at[f"left_{joint}"] for joint in ("elbow", "knee", "wrist", "ankle")]
    return np.array(rows)


def mlkit_votes(poses: Sequence[Array], labels: Sequence[str], index: int) -> Counter[str]:
    """What the others say of one pose: 30 nearest by greatest distance, of them 10 by mean; axis weights 1, 1, 0.2."""
    weights = np.array([1.0, 1.0, 0.2])
    flipped = poses[index][list(skeleton("blazepose33").mirror)] * [-1.0, 1.0, 1.0]
    mine = [mlkit_vector(poses[index]), mlkit_vector(flipped)]
    others = [i for i in range(len(poses)) if i != index]
    vectors = [mlkit_vector(poses[i]) for i in others]
    apart = [[np.abs(v - m) * weights for m in mine] for v in vectors]
    far = sorted(range(len(others)), key=lambda i: min(float(a.max()) for a in apart[i]))[:30]
    near = sorted(far, key=lambda i: min(float(a.mean()) for a in apart[i]))[:10]
    return Counter(labels[others[i]] for i in near)


def share(table: Iterable[tuple[int, int]]) -> float:
    """Right over all."""
    pairs = list(table)
    return sum(right for right, _ in pairs) / max(1, sum(count for _, count in pairs))
