"""`action-recognition`: learn from recordings, tell the action, and forget it again."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest
from streamkp_plugins import action_recognition as actions

from streamkp.graph.stage import StageContext
from streamkp.plugin import Packet, PoseWindow, UsageError
from streamkp.sinks.record import Record
from streamkp.testing import run_stage
from tests.plugins.figure import COCO, packets, person, repetitions, squatter

SHARED = Path(os.environ.get("STREAMKP_SHARED", Path(__file__).resolve().parents[3] / "shared" / "assets"))


def waving(i: int, scale: float = 100.0, mirrored: bool = False) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    points = squatter(0.0, scale=scale)
    wrist = COCO.index("left_wrist" if not mirrored else "right_wrist")
    points[wrist, :2] = points[COCO.index("nose"), :2] + [scale * 0.4 * math.sin(i / 4), -scale * 0.3]
    return points


def frames(action: str, scale: float, count: int = 200) -> list[Packet]:
    if action == "wave":
        poses = [waving(i, scale) for i in range(count)]
    elif action == "squat":
        poses = [squatter(p, scale=scale) for p in (repetitions(6, period=1.8) * 2)[:count]]
    else:
        poses = [squatter(0.0, scale=scale) for _ in range(count)]
    rng = np.random.default_rng(int(scale))
    for points in poses:
        points[:, :2] += rng.normal(0, 1.0, (17, 2)).astype(np.float32)
    return list(packets([[person(points)] for points in poses]))


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> actions.Examples:
    folder = tmp_path_factory.mktemp("actions")
    for action in ("none", "squat", "wave"):
        (folder / action).mkdir()
        for scale in (80, 95, 110):
            sink = Record(Record.Options(path=folder / action / f"{scale}.jsonl"), StageContext("record"))
            sink.open()
            for packet in frames(action, scale):
                sink.process(packet)
            sink.close()
    return actions.learn(folder)


def windowed(parts: list[list[Packet]]) -> list[Packet]:
    """As the window stage would hand them on, in one stream."""
    poses = [packet.persons[0].keypoints_2d for part in parts for packet in part]
    points = np.array([pose.points for pose in poses if pose is not None])
    out = list(packets([[person(each)] for each in points]))
    for i, packet in enumerate(out):
        rows = np.clip(np.arange(i - 95, i + 1), 0, None)
        times = rows.astype(np.int64)
        packet.persons[0].window = PoseWindow("coco17", points[rows], times, times, min(96, i + 1), 640, 480, i)
    return out


def test_recordings_left_out_are_told_right(examples: actions.Examples) -> None:
    table = actions.leave_one_out(examples, k=5)
    assert set(table) == {"none", "squat", "wave"}
    assert actions.share(table.values()) > 0.95


def test_actions_begin_and_end(examples: actions.Examples, tmp_path: Path) -> None:
    path = tmp_path / "actions.npz"
    examples.save(path)
    packets_in = windowed([frames("none", 100), frames("wave", 100), frames("squat", 100), frames("none", 100)])
    out = run_stage(actions.ActionRecognition, {"examples": str(path)}, packets_in)
    events = [(event["type"], event["action"]) for packet in out for event in packet.events]
    assert events == [("action", "wave"), ("action_end", "wave"), ("action", "squat"), ("action_end", "squat")]


def test_the_other_hand_is_the_same_action(examples: actions.Examples) -> None:
    window = np.array([waving(i, mirrored=True) for i in range(96)])
    votes = actions.vote(
        actions.embed(window, "coco17"), actions.embed(actions.mirrored(window, "coco17"), "coco17"), examples, 5
    )
    assert votes.most_common(1)[0][0] == "wave"


def test_the_twin_of_a_vector_is_that_of_the_mirrored_window() -> None:
    window = np.random.default_rng(3).normal(100, 30, (96, 17, 3))
    for frames_used in (96, 1):
        part = window[:frames_used]
        vector = actions.embed(part, "coco17")
        assert actions._twin(vector, frames_used) == pytest.approx(
            actions.embed(actions.mirrored(part, "coco17"), "coco17")
        )


def test_files_that_are_something_else_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(b"PK nonsense")
    with pytest.raises(UsageError, match="actions learn"):
        actions.load(tmp_path / "x.npz")
    np.savez(tmp_path / "p.npz", format=np.array({"a": 1}, dtype=object))
    with pytest.raises(UsageError, match="actions learn"):
        actions.load(tmp_path / "p.npz")
    with pytest.raises(UsageError, match="two at least"):
        actions.learn(tmp_path)


@pytest.mark.skipif(not (SHARED / "mlkit").is_dir(), reason="ML Kit's poses are not here")
def test_poses_of_mlkit_are_told_about_as_well_as_by_its_own_algorithm() -> None:
    path = SHARED / "mlkit" / "fitness_pose_samples.csv"
    ours = actions.share(actions.leave_one_out(actions.learn(path), 5).values())
    assert ours > 0.985
    rows = list(actions.read_csv(path))[::4]  # its own is slow in plain Python
    poses, labels = [row[2] for row in rows], [row[1] for row in rows]
    right = sum(actions.mlkit_votes(poses, labels, i).most_common(1)[0][0] == labels[i] for i in range(0, len(rows), 4))
    assert right / len(range(0, len(rows), 4)) > 0.95
