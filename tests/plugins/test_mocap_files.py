"""TRC and CSV files, and trackers for VRChat, read back by parsers that are not ours where there are any."""

from __future__ import annotations

import csv
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamkp_plugins.mocap.kinematics import Kinematics
from streamkp_plugins.mocap.publish_vrchat import TRACKERS, PublishVrchat, euler
from streamkp_plugins.mocap.record_bvh import RecordBvh
from streamkp_plugins.mocap.record_csv import RecordCsv
from streamkp_plugins.mocap.record_trc import RecordTrc

from streamkp.packet import Extremities, Keypoints3D, Packet
from streamkp.plugin import OutputError, UsageError, skeleton
from streamkp.testing import ManualClock, open_stage, run_stage
from tests.plugins.figure import packets, person, squatter
from tests.sinks.walker import walking

H36M, ENDS = skeleton("h36m17"), skeleton("extremities13")
Array = np.ndarray[Any, Any]


def moving(count: int = 1, *, extremities: bool = True, root: bool = False) -> list[Packet]:
    """Frames of a walker with bone rotations."""
    frames = []
    for i in range(count):
        who = person(squatter(0))
        pose = Keypoints3D("h36m17", walking(i), i)
        if extremities:
            ends = np.random.default_rng(i).normal(0, 0.3, (13, 3)).astype(np.float32)
            pose.extremities = Extremities("extremities13", ends, "blazepose-world")
        if root:
            pose.root = np.array([0.1 * i, 0.2, 4], np.float32)
        who.keypoints_3d = pose
        frames.append([who])
    return run_stage(Kinematics, {}, packets(frames))


def where(packet: Packet) -> dict[str, Array]:
    """The joints with y up and the hips where they are above the floor."""
    who = packet.persons[0]
    pose = who.keypoints_3d
    assert pose is not None
    hips = np.array(who.extra["kinematics"]["hips"])
    places = {joint: pose.points[i] * [1, -1, -1] + hips for i, joint in enumerate(H36M.joints)}
    assert pose.extremities is not None
    return places | {joint: pose.extremities.points[i] * [1, -1, -1] + hips for i, joint in enumerate(ENDS.joints)}


# --- TRC ------------------------------------------------------------------------------------------------------------


def test_a_trc_file_is_what_opensim_reads(tmp_path: Path) -> None:
    opensim = pytest.importorskip("opensim", reason="opensim is not installed")
    frames = moving(40)
    path = tmp_path / "walk.trc"
    run_stage(RecordTrc, {"path": str(path)}, frames)
    table = opensim.TimeSeriesTableVec3(str(path))
    labels = list(table.getColumnLabels())
    assert labels == [*H36M.joints, *ENDS.joints]
    assert table.getNumRows() == 40
    assert table.getTableMetaDataString("Units") == "m"
    assert table.getTableMetaDataString("DataRate") == "30.00"
    assert np.array(table.getIndependentColumn()) == pytest.approx(np.arange(40) / 30, abs=1e-5)
    for i in (0, 17, 39):
        row = table.getRowAtIndex(i)
        for k, joint in enumerate(labels):
            found = [row[k][axis] for axis in range(3)]
            assert found == pytest.approx(where(frames[i])[joint], abs=1e-3), (i, joint)


def test_a_trc_file_read_by_its_columns(tmp_path: Path) -> None:
    """What the format's description says, without a reader: for machines that have no OpenSim."""
    frames = moving(10, root=True)
    path = tmp_path / "walk.trc"
    run_stage(RecordTrc, {"path": str(path)}, frames)
    lines = path.read_text().split("\n")
    assert lines[0].split("\t") == ["PathFileType", "4", "(X/Y/Z)", "walk.trc"]
    head = dict(zip(lines[1].split("\t"), (cell.strip() for cell in lines[2].split("\t")), strict=True))
    assert head["NumFrames"] == head["OrigNumFrames"] == "10"
    assert (head["NumMarkers"], head["Units"], head["DataRate"]) == ("30", "m", "30.00")
    names = lines[3].split("\t")
    assert names[:2] == ["Frame#", "Time"]
    columns = {name: i for i, name in enumerate(names) if name}
    axes = lines[4].split("\t")
    rows = [line.split("\t") for line in lines[6:] if line]
    assert len(rows) == 10
    for i, row in enumerate(rows):
        assert len(row) == 2 + 3 * 30
        for joint, place in where(frames[i]).items():
            at = columns[joint]
            assert [axis[0] for axis in axes[at : at + 3]] == ["X", "Y", "Z"]
            assert [float(cell) for cell in row[at : at + 3]] == pytest.approx(place, abs=1e-3)


# --- CSV ------------------------------------------------------------------------------------------------------------


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_csv_file_has_a_row_for_each_person_and_frame(tmp_path: Path) -> None:
    frames = moving(5, root=True)
    second = moving(5, root=True)
    for packet, other in zip(frames, second, strict=True):
        other.persons[0].track = 2
        packet.persons.append(other.persons[0])
    path = tmp_path / "out.csv"
    run_stage(RecordCsv, {"path": str(path)}, frames)
    rows = rows_of(path)
    assert [(row["seq"], row["track"]) for row in rows] == [(str(i), t) for i in range(5) for t in ("1", "2")]
    assert [float(row["time_s"]) for row in rows[::2]] == pytest.approx(np.arange(5) / 30, abs=1e-5)
    pose = frames[3].persons[0].keypoints_3d
    assert pose is not None
    assert pose.extremities is not None
    assert pose.root is not None
    for i, axis in enumerate("xyz"):
        row = rows[6]
        assert float(row[f"left_wrist_{axis}"]) == pytest.approx(pose.points[H36M.index("left_wrist"), i], abs=1e-4)
        assert float(row[f"nose_{axis}"]) == pytest.approx(pose.extremities.points[0, i], abs=1e-4)
        assert float(row[f"root_{axis}"]) == pytest.approx(pose.root[i], abs=1e-4)


def test_a_csv_file_in_2d_leaves_what_is_not_known_empty(tmp_path: Path) -> None:
    frames = moving(2)
    flat = frames[0].persons[0].keypoints_2d
    assert flat is not None
    flat.points[3] = np.nan
    frames[1].persons[0].keypoints_2d = None
    path = tmp_path / "out.csv"
    run_stage(RecordCsv, {"path": str(path), "space": "2d"}, frames)
    (row,) = rows_of(path)
    assert row["left_ear_x"] == row["left_ear_score"] == ""
    assert float(row["nose_x"]) == pytest.approx(float(flat.points[0, 0]), abs=1e-4)


def test_a_csv_file_has_what_stages_add(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    frames = moving(4)
    path = tmp_path / "out.csv"
    for i, packet in enumerate(frames[1:]):
        packet.persons[0].extra["joint_angles"] = {"left_knee": 90.5 + i, "trunk": None, "more": {"of": 1}}
        packet.persons[0].extra["rep_counter"] = {"exercise": "a, b", "count": np.int64(i), "near": np.float32(0.5)}
    frames[3].persons[0].extra["joint_angles"] = {"trunk": 3.25}
    run_stage(RecordCsv, {"path": str(path), "space": "2d", "extra": ["joint_angles", "rep_counter"]}, frames)
    rows = rows_of(path)
    assert [row["seq"] for row in rows] == ["1", "2", "3"], "from the first who has it all"
    assert [row["joint_angles.left_knee"] for row in rows] == ["90.5", "91.5", ""]
    assert [row["joint_angles.trunk"] for row in rows] == ["", "", "3.25"]
    assert [row["rep_counter.count"] for row in rows] == ["0", "1", "2"]
    assert rows[0]["rep_counter.exercise"] == "a, b"
    assert rows[0]["rep_counter.near"] == "0.5"
    assert "joint_angles.more" not in rows[0]
    run_stage(RecordCsv, {"path": str(tmp_path / "no.csv"), "extra": ["jump"]}, moving(2))
    assert "nobody was seen with jump; " in caplog.text


def test_people_with_another_skeleton_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    frames = moving(3)
    frames[2].persons[0].keypoints_3d = Keypoints3D("blazepose33", np.zeros((33, 3), np.float32), 2)
    path = tmp_path / "out.csv"
    run_stage(RecordCsv, {"path": str(path)}, frames)
    assert len(rows_of(path)) == 2
    assert "1 poses with another skeleton" in caplog.text


@pytest.mark.parametrize("stage", [RecordBvh, RecordTrc, RecordCsv])
def test_without_anybody_there_is_no_file(tmp_path: Path, stage: Any, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "it"
    run_stage(stage, {"path": str(path)}, packets([[]]))
    assert not path.exists()
    assert f"{path} was not written" in caplog.text
    path.write_bytes(b"of yesterday")
    run_stage(stage, {"path": str(path), "overwrite": True}, packets([[]]))
    assert path.read_bytes() == b"of yesterday"
    run_stage(stage, {"path": str(path), "overwrite": True}, moving(2))
    assert path.read_bytes()
    assert b"yesterday" not in path.read_bytes()


@pytest.mark.parametrize("stage", [RecordCsv, RecordTrc])
def test_a_file_that_exists_is_kept(tmp_path: Path, stage: Any) -> None:
    path = tmp_path / "kept"
    path.write_text("mine")
    with pytest.raises(UsageError, match="overwrite"):
        open_stage(stage, {"path": str(path)})
    assert stage.outputs(stage.Options(path=path), ["cam"]) == [path]
    with pytest.raises(OutputError, match="cannot write"):
        open_stage(stage, {"path": "/proc/none"})


# --- VRChat ---------------------------------------------------------------------------------------------------------


def received(frames: list[Packet], **options: Any) -> tuple[dict[str, tuple[float, ...]], list[str]]:
    """What came of the last frame by address, in an independent parser's words, and what the sink says at its end."""
    parser = pytest.importorskip("osc4py3.oscbuildparse", reason="osc4py3 is not installed (AGPL, tests only)")
    found: dict[str, tuple[float, ...]] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.setblocking(False)
        clock = ManualClock()
        sink = open_stage(PublishVrchat, {"port": receiver.getsockname()[1]} | options, clock=clock)
        told: list[tuple[str, int]] = []
        sink.context.on_delivered = lambda stream, captured_at: told.append((stream, captured_at))
        for packet in frames:
            packet.captured_at = clock.now() - 25_000_000
            sink.process(packet)  # type: ignore[attr-defined]
            clock.advance(1 / 30)
            while True:
                try:
                    message = parser.decode_packet(receiver.recv(65536))
                except BlockingIOError:
                    break
                assert message.typetags == ",fff"
                found[message.addrpattern] = tuple(message.arguments)
        sink.close()
        assert len(told) == len(frames), "each frame that was sent counts as delivered"
        return found, [sink.summary() or ""]


def test_vrchat_gets_eight_trackers_and_the_head() -> None:
    frames = moving(9)
    found, said = received(frames)
    assert set(found) == {f"/tracking/trackers/{n}/{what}" for n in TRACKERS for what in ("position", "rotation")}
    joints = where(frames[-1])
    for number, joint in (("5", "left_knee"), ("8", "right_elbow"), ("3", "left_ankle")):
        x, y, z = found[f"/tracking/trackers/{number}/position"]
        assert (-x, y, z) == pytest.approx(joints[joint], abs=0.08), joint
    assert found["/tracking/trackers/1/position"][1] == pytest.approx(joints["hip"][1], abs=1e-3)
    assert "9 frames" in said[0]
    assert "p50 25 ms, p95 25 ms" in said[0]


def test_somebody_with_a_headset_keeps_their_head() -> None:
    found, _ = received(moving(1), head=False)
    assert not any("head" in address for address in found)
    assert len(found) == 16


def test_euler_angles_are_unitys() -> None:
    """Unity turns about z, then x, then y, clockwise seen along the axis, in axes of the left hand."""
    cos, sin = np.cos(np.radians(30)), np.sin(np.radians(30))
    # To the body's own left (+x of ours, -x of Unity's): about +y in ours, against the clock seen from above.
    assert euler(np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])) == pytest.approx([0, -30, 0])
    # A nod forward: +z goes down.
    assert euler(np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])) == pytest.approx([30, 0, 0])
    # Leaning to the left: the top goes to +x of ours; in Unity +y goes to -x, which is a positive turn about z.
    assert euler(np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])) == pytest.approx([0, 0, 30])
