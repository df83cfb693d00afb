"""Bone rotations, the VMC protocol and BVH files, read back by parsers that are not ours."""

from __future__ import annotations

import json
import os
import socket
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from streamkp_plugins.mocap.avatar import HUMAN_BONES, default_avatar, read_vrm
from streamkp_plugins.mocap.body import PARENTS, Solver, forward, from_camera, lengths, rest_offsets
from streamkp_plugins.mocap.expressions import PRESETS, has_perfect_sync, perfect_sync, presets
from streamkp_plugins.mocap.fingers import FingerSolver, finger_bones
from streamkp_plugins.mocap.kinematics import Kinematics
from streamkp_plugins.mocap.publish_vmc import LARGEST, PublishVmc, datagrams
from streamkp_plugins.mocap.record_bvh import RecordBvh
from streamkp_plugins.mocap.rotations import matrix, quaternion, swing

from streamkp.plugin import Keypoints3D, UsageError, skeleton
from streamkp.testing import ManualClock, open_stage, run_stage
from tests.motion.test_extremities import world as world33
from tests.plugins.figure import packets, person, squatter
from tests.sinks.walker import STANDING, walking

SHARED = Path(os.environ.get("STREAMKP_SHARED", Path(__file__).resolve().parents[3] / "shared" / "assets"))
H36M = skeleton("h36m17")
# Which joints a bone of ours leads from and to.
BONES = {
    "Hips": ("hip", "spine"), "Spine": ("spine", "thorax"),
    "LeftUpperArm": ("left_shoulder", "left_elbow"), "LeftLowerArm": ("left_elbow", "left_wrist"),
    "RightUpperArm": ("right_shoulder", "right_elbow"), "RightLowerArm": ("right_elbow", "right_wrist"),
    "LeftUpperLeg": ("left_hip", "left_knee"), "LeftLowerLeg": ("left_knee", "left_ankle"),
    "RightUpperLeg": ("right_hip", "right_knee"), "RightLowerLeg": ("right_knee", "right_ankle"),
}  # fmt: skip
ENDS = {"Hips": "Spine", "Spine": "Chest"} | {
    f"{side}{a}": f"{side}{b}"
    for side in ("Left", "Right")
    for a, b in (("UpperArm", "LowerArm"), ("LowerArm", "Hand"), ("UpperLeg", "LowerLeg"), ("LowerLeg", "Foot"))
}
Array = np.ndarray[Any, Any]


def direction(joints: Array, bone: str) -> Array:
    a, b = (joints[H36M.index(joint)] for joint in BONES[bone])
    return np.asarray((b - a) / np.linalg.norm(b - a))


def worst_angle(joints: Array, solver: Solver) -> float:
    pose = solver.solve(joints)
    places, _ = forward(pose, rest_offsets(lengths(joints)))
    worst = 0.0
    for bone in BONES:
        found = places[ENDS[bone]] - places[bone]
        cosine = direction(joints, bone) @ found / np.linalg.norm(found)
        worst = max(worst, float(np.degrees(np.arccos(np.clip(cosine, -1, 1)))))
    return worst


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), yaw=st.floats(-3.1, 3.1), spread=st.floats(0.0, 0.08))
def test_forward_kinematics_gives_the_joints_back(seed: int, yaw: float, spread: float) -> None:
    rng = np.random.default_rng(seed)
    joints = from_camera(walking(seed)) + rng.normal(0, spread, (17, 3))
    turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    assert worst_angle(joints @ turn.T, Solver()) < 0.5


def test_who_faces_the_camera_in_a_t_pose_is_at_rest() -> None:
    joints = from_camera(STANDING).copy()
    for side, sign in (("left", 1), ("right", -1)):
        for i, joint in enumerate(("shoulder", "elbow", "wrist")):
            joints[H36M.index(f"{side}_{joint}")] = [sign * (0.17 + 0.27 * i), 0.48, 0]
        for i, joint in enumerate(("hip", "knee", "ankle")):
            joints[H36M.index(f"{side}_{joint}")] = [sign * 0.1, -0.43 * i, 0]
    joints[H36M.index("head")] = [0, 0.7, 0]
    pose = Solver().solve(joints)
    for bone, rotation in pose.rotations.items():
        assert np.abs(rotation) == pytest.approx([0, 0, 0, 1], abs=1e-6), bone
    assert pose.hips == pytest.approx([0, 0.86 + 0.08, 0])


@pytest.mark.parametrize(("side", "sign"), [("left", 1.0), ("right", -1.0)])
def test_a_bent_elbow_is_a_hinge_and_a_knee_bends_backwards(side: str, sign: float) -> None:
    joints = from_camera(STANDING).copy()
    shoulder = joints[H36M.index(f"{side}_shoulder")]
    joints[H36M.index(f"{side}_elbow")] = shoulder + np.array([sign * 0.28, 0, 0])
    joints[H36M.index(f"{side}_wrist")] = shoulder + np.array([sign * 0.28, 0, 0.25])  # the hand goes forward
    joints[H36M.index(f"{side}_ankle")] = joints[H36M.index(f"{side}_knee")] + [0, 0, -0.4]
    rotations = Solver().solve(joints).rotations
    name = side.capitalize()
    # Forward at rest is a turn about the vertical: of the left arm, which points along +x, by -90 degrees.
    assert rotations[f"{name}LowerArm"] == pytest.approx([0, -sign * 0.7071, 0, 0.7071], abs=0.02)
    assert rotations[f"{name}UpperArm"][3] == pytest.approx(1, abs=0.02)
    assert rotations[f"{name}LowerLeg"] == pytest.approx([0.7071, 0, 0, 0.7071], abs=0.05)


def test_straight_arms_do_not_spin_between_frames() -> None:
    rng = np.random.default_rng(5)
    solver, before, jumps = Solver(), None, []
    for _ in range(200):
        joints = from_camera(STANDING).copy()
        joints[H36M.index("left_elbow")] = joints[H36M.index("left_shoulder")] + [0.05, -0.28, 0]
        joints[H36M.index("left_wrist")] = joints[H36M.index("left_elbow")] + [0.05, -0.28, 0]
        joints += rng.normal(0, 0.004, (17, 3))
        turn = matrix(solver.solve(joints).rotations["LeftUpperArm"])
        if before is not None:
            jumps.append(np.degrees(np.arccos(np.clip((np.trace(before.T @ turn) - 1) / 2, -1, 1))))
        before = turn
    assert max(jumps) < 15


def facing() -> tuple[Array, dict[str, Array]]:
    """Somebody upright in a T-pose (y up), and extremities at rest: palms down, toes and nose ahead."""
    joints = from_camera(STANDING).copy()
    for side, sign in (("left", 1), ("right", -1)):
        for i, joint in enumerate(("shoulder", "elbow", "wrist")):
            joints[H36M.index(f"{side}_{joint}")] = [sign * (0.17 + 0.27 * i), 0.48, 0]
        for i, joint in enumerate(("hip", "knee", "ankle")):
            joints[H36M.index(f"{side}_{joint}")] = [sign * 0.1, -0.43 * i, 0]
    joints[H36M.index("head")] = [0, 0.7, 0]
    ends = {"nose": np.array([0, 0.7, 0.1])}
    for side, sign in (("left", 1), ("right", -1)):
        wrist, ankle = joints[H36M.index(f"{side}_wrist")], joints[H36M.index(f"{side}_ankle")]
        ends[f"{side}_ear"] = np.array([sign * 0.08, 0.7, 0.0])
        ends[f"{side}_pinky"] = wrist + np.array([sign * 0.1, 0, -0.035])
        ends[f"{side}_index"] = wrist + np.array([sign * 0.1, 0, 0.035])
        ends[f"{side}_thumb"] = wrist + np.array([sign * 0.06, 0, 0.07])
        ends[f"{side}_heel"] = ankle + np.array([0, -0.06, -0.05])
        ends[f"{side}_foot_index"] = ankle + np.array([0, -0.06, 0.17])
    return joints, ends


def ordered(ends: dict[str, Array]) -> Array:
    return np.array([ends[joint] for joint in skeleton("extremities13").joints])


def around(axis: str, degrees: float) -> Array:
    return Rotation.from_euler(axis, degrees, degrees=True).as_matrix()


def test_at_rest_hands_feet_and_head_are_at_rest() -> None:
    joints, ends = facing()
    pose = Solver().solve(joints, extremities=ordered(ends))
    for bone, rotation in pose.rotations.items():
        assert np.abs(rotation) == pytest.approx([0, 0, 0, 1], abs=1e-6), bone


@settings(max_examples=60, deadline=None)
@given(
    yaw=st.floats(-180, 180), head=st.tuples(st.floats(-75, 75), st.floats(-50, 50), st.floats(-40, 40)),
    palm=st.floats(-95, 95), wrist=st.tuples(st.floats(-45, 45), st.floats(-45, 45)),
    foot=st.tuples(st.floats(-45, 45), st.floats(-25, 55)),
)  # fmt: skip
def test_hands_feet_and_face_are_met_within_their_limits(
    yaw: float, head: tuple[float, float, float], palm: float, wrist: tuple[float, float], foot: tuple[float, float]
) -> None:
    joints, ends = facing()
    face = around("YXZ", head)  # type: ignore[arg-type]
    for joint in ("nose", "left_ear", "right_ear"):
        ends[joint] = np.array([0, 0.7, 0]) + face @ (ends[joint] - [0, 0.7, 0])
    for side in ("left", "right"):
        hand = around("YZ", wrist) @ around("X", palm)  # type: ignore[arg-type]
        sole = around("YX", foot)  # type: ignore[arg-type]
        for parts, anchor, turn in (
            (("pinky", "index", "thumb"), "wrist", hand),
            (("heel", "foot_index"), "ankle", sole),
        ):
            at = joints[H36M.index(f"{side}_{anchor}")]
            for part in parts:
                ends[f"{side}_{part}"] = at + turn @ (ends[f"{side}_{part}"] - at)
    turn = around("Y", yaw)
    joints, ends = joints @ turn.T, {joint: turn @ place for joint, place in ends.items()}
    solver = Solver()
    pose = solver.solve(joints, extremities=ordered(ends))
    assert worst_angle(joints, Solver()) < 0.5
    _, turns = forward(pose, rest_offsets(lengths(joints)))

    def off(found: Array, wanted: Array) -> float:
        return float(np.degrees(np.arccos(np.clip(found @ wanted / np.linalg.norm(wanted), -1, 1))))

    for name, sign in (("Left", 1.0), ("Right", -1.0)):
        side = name.lower()
        knuckles = (ends[f"{side}_pinky"] + ends[f"{side}_index"]) / 2
        assert off(turns[f"{name}Hand"] @ [sign, 0, 0], knuckles - joints[H36M.index(f"{side}_wrist")]) < 0.5
        assert off(turns[f"{name}Hand"] @ [0, 0, 1], ends[f"{side}_index"] - ends[f"{side}_pinky"]) < 0.5
        assert off(turns[f"{name}Foot"] @ [0, 0, 1], ends[f"{side}_foot_index"] - ends[f"{side}_heel"]) < 0.5
    assert off(turns["Head"] @ [1, 0, 0], ends["left_ear"] - ends["right_ear"]) < 0.5
    assert off(turns["Head"] @ [0, 0, 1], ends["nose"] - (ends["left_ear"] + ends["right_ear"]) / 2) < 0.5


def test_tilts_of_the_keypoints_are_taken_out() -> None:
    """A network whose toes lie 12 degrees below the heel, and whose nose lies 25 below the ears, at rest."""
    joints, ends = facing()
    for side in ("left", "right"):
        heel = ends[f"{side}_heel"]
        ends[f"{side}_foot_index"] = heel + around("X", 12) @ (ends[f"{side}_foot_index"] - heel)
    ends["nose"] = np.array([0, 0.7, 0]) + around("X", 25) @ np.array([0, 0, 0.1])
    pose = Solver(face_tilt=25, foot_tilt=12).solve(joints, extremities=ordered(ends))
    for bone in ("LeftFoot", "RightFoot", "Head"):
        assert np.abs(pose.rotations[bone]) == pytest.approx([0, 0, 0, 1], abs=1e-6), bone


def test_what_no_joint_can_do_is_not_followed() -> None:
    """Toes that point back, a hand that is bent onto the forearm, a face that looks back."""
    joints, ends = facing()
    wrong = {joint: place.copy() for joint, place in ends.items()}
    for side, sign in (("left", 1), ("right", -1)):
        wrist, ankle = joints[H36M.index(f"{side}_wrist")], joints[H36M.index(f"{side}_ankle")]
        wrong[f"{side}_foot_index"] = ankle + np.array([0.0, -0.06, -0.3])
        for finger in ("pinky", "index"):
            wrong[f"{side}_{finger}"] = wrist + np.array([-sign * 0.08, 0.05, 0.035 if finger == "index" else -0.035])
    wrong["left_ear"], wrong["right_ear"] = wrong["right_ear"], wrong["left_ear"]
    wrong["nose"] = np.array([0, 0.7, -0.1])
    pose = Solver().solve(joints, extremities=ordered(wrong))
    for bone in ("LeftFoot", "RightFoot", "Head"):
        assert pose.rotations[bone] == pytest.approx([0, 0, 0, 1], abs=1e-6), bone
    for side in ("Left", "Right"):
        hand = matrix(pose.rotations[f"{side}Hand"])
        assert np.degrees(np.arccos(hand[0, 0])) == pytest.approx(75, abs=0.5)


def test_a_swapped_hand_or_foot_does_not_flip_a_bone() -> None:
    """Every tenth frame the network has toes, knuckles and ears the wrong way round; in between there is noise."""
    rng = np.random.default_rng(3)
    solver, before, worst = Solver(), None, 0.0
    joints, ends = facing()
    for i in range(120):
        noisy = {joint: place + rng.normal(0, 0.004, 3) for joint, place in ends.items()}
        if i % 10 == 9:
            for side in ("left", "right"):
                for a, b in (("pinky", "index"), ("heel", "foot_index")):
                    noisy[f"{side}_{a}"], noisy[f"{side}_{b}"] = noisy[f"{side}_{b}"], noisy[f"{side}_{a}"]
            noisy["left_ear"], noisy["right_ear"] = noisy["right_ear"], noisy["left_ear"]
        pose = solver.solve(joints + rng.normal(0, 0.004, (17, 3)), extremities=ordered(noisy))
        turns = {bone: matrix(q) for bone, q in pose.rotations.items()}
        if before is not None:
            for bone, turn in turns.items():
                cosine = (np.trace(before[bone].T @ turn) - 1) / 2
                worst = max(worst, float(np.degrees(np.arccos(np.clip(cosine, -1, 1)))))
        before = turns
    assert worst < 50


def test_a_pose_of_33_joints_moves_hands_and_feet_and_a_level_world_gives_the_height() -> None:
    full = world33().astype(np.float32)
    who = person(squatter(0))
    who.keypoints_3d = Keypoints3D("blazepose33", full, 0)
    (packet,) = run_stage(Kinematics, {}, packets([[who]]))
    bones = packet.persons[0].extra["kinematics"]["rotations"]
    for bone in ("LeftHand", "Head"):
        assert abs(bones[bone][3]) < 0.9999, bone
    level = (full * [1, -1, -1]).astype(np.float32)
    who.keypoints_3d = Keypoints3D("blazepose33", level, 0, space="world", root=np.array([0.5, 1.25, -3], np.float32))
    (packet,) = run_stage(Kinematics, {}, packets([[who]]))
    found = packet.persons[0].extra["kinematics"]
    assert found["hips"] == pytest.approx([0.5, 1.25, -3], abs=0.02)
    for bone, rotation in bones.items():
        assert found["rotations"][bone] == pytest.approx(rotation, abs=1e-5), bone


@pytest.mark.skipif(not (SHARED / "mocap" / "cmu17_test.npz").is_file(), reason="the motion capture is not here")
def test_real_motion_is_met_and_turns_smoothly() -> None:
    clips = np.load(SHARED / "mocap" / "cmu17_test.npz")
    turned = []
    for name in list(clips)[:8]:
        solver, before = Solver(), None
        for joints in clips[name][:150].astype(np.float64):
            assert worst_angle(joints, solver) < 2.0, name
            pose = Solver.solve(solver, joints)
            turns = {bone: matrix(q) for bone, q in pose.rotations.items()}
            if before is not None:
                turned += [np.degrees(np.arccos(np.clip((np.trace(before[b].T @ turns[b]) - 1) / 2, -1, 1)))
                           for b in turns]  # fmt: skip
            before = turns
    assert np.percentile(turned, 99.9) < 40
    assert np.mean(np.array(turned) > 90) < 1e-4, "flips"


@given(seed=st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_quaternions_and_matrices_agree(seed: int) -> None:
    rng = np.random.default_rng(seed)
    q = rng.normal(size=4)
    q /= np.linalg.norm(q)
    assert abs(quaternion(matrix(q)) @ q) == pytest.approx(1, abs=1e-9)
    a, b = rng.normal(size=3), rng.normal(size=3)
    turned = swing(a, b) @ a
    assert turned / np.linalg.norm(turned) == pytest.approx(b / np.linalg.norm(b), abs=1e-9)


# --- VMC ------------------------------------------------------------------------------------------------------------


def moving(count: int = 1, **fields: Any) -> list[Any]:
    """Frames of a walker with bone rotations."""
    frames = []
    for i in range(count):
        who = person(squatter(0))
        who.keypoints_3d = Keypoints3D("h36m17", walking(i), i)
        frames.append([who])
    return run_stage(Kinematics, fields, packets(frames))


def kinematics(frame: int = 0) -> dict[str, Any]:
    return moving(frame + 1)[-1].persons[0].extra["kinematics"]  # type: ignore[no-any-return]


def osc_string(text: str) -> bytes:
    data = text.encode() + b"\0"
    return data + b"\0" * (-len(data) % 4)


def test_golden_bytes() -> None:
    rest = {"rotations": {bone: [0.0, 0, 0, 1] for bone in PARENTS}, "hips": [0.5, 0.94, 0.25],
            "lengths": {"upper_leg": 0.43, "lower_leg": 0.46}}  # fmt: skip
    data = datagrams(rest, default_avatar(), 1.5)
    root = (
        osc_string("/VMC/Ext/Root/Pos") + osc_string(",sfffffff") + osc_string("root") + struct.pack(">7f", *[0] * 6, 1)
    )
    assert data[0].startswith(b"#bundle\0" + struct.pack(">QI", 1, len(root)) + root)
    # The legs and ankles of that body are as long as the avatar's hips are high, so that the place is not scaled.
    at = data[0].index(osc_string("Hips")) + len(osc_string("Hips"))
    assert struct.unpack(">7f", data[0][at : at + 28]) == pytest.approx((-0.5, 0.94, 0.25, 0, 0, 0, -1))
    end = osc_string("/VMC/Ext/T") + osc_string(",f") + struct.pack(">f", 1.5)
    assert data[-1].endswith(struct.pack(">I", len(end)) + end)
    ok = osc_string("/VMC/Ext/OK") + osc_string(",iiii") + struct.pack(">4i", 1, 3, 0, 1)
    assert ok in data[-1]
    assert max(map(len, data)) <= LARGEST
    assert sum(each.count(b"/VMC/Ext/Bone/Pos") for each in data) == 55
    assert max(each.count(b"/VMC/Ext/Bone/Pos") for each in data) <= 18


def received(data: list[bytes]) -> dict[str, tuple[Array, Array]]:
    """Bones as an independent parser and the VMC classes of vmcp read them."""
    parser = pytest.importorskip("osc4py3.oscbuildparse", reason="osc4py3 is not installed (AGPL, tests only)")
    events = pytest.importorskip("vmcp.events", reason="vmcp is not installed (AGPL, tests only)")
    bones = {}
    for datagram in data:
        for message in parser.decode_packet(datagram).elements:
            if message.addrpattern == "/VMC/Ext/Bone/Pos":
                event = events.BoneTransformEvent.from_message_data("test", message.addrpattern, message.arguments)
                place, turn = event.position, event.rotation
                bones[str(event.joint.value if hasattr(event.joint, "value") else event.joint)] = (
                    np.array([place.x, place.y, place.z]), np.array([turn.x, turn.y, turn.z, turn.w]),
                )  # fmt: skip
    return bones


@pytest.mark.parametrize("frame", [0, 7, 20])
def test_an_independent_receiver_gets_the_pose_back(frame: int) -> None:
    bones = received(datagrams(kinematics(frame), default_avatar(), 0.0))
    assert set(bones) == set(HUMAN_BONES)
    assert_same_pose(bones, dict(HUMAN_BONES), from_camera(walking(frame)))


def assert_same_pose(bones: dict[str, tuple[Array, Array]], parents: dict[str, str | None], joints: Array) -> None:
    """Forward kinematics in Unity's axes, as a receiver that applies positions does it; x is turned round there."""
    places: dict[str, Array] = {}
    turns: dict[str, Array] = {}
    left = dict(bones)
    while left:
        for bone in [b for b in left if parents[b] is None or parents[b] in places]:
            place, turn = left.pop(bone)
            above = parents[bone]
            local = matrix(turn)
            places[bone] = place if above is None else places[above] + turns[above] @ place
            turns[bone] = local if above is None else turns[above] @ local
    for bone, to in ENDS.items():
        if bone in ("Hips", "Spine"):
            continue
        found = places[to] - places[bone]
        wanted = direction(joints, bone) * [-1, 1, 1]
        cosine = found @ wanted / np.linalg.norm(found)
        assert np.degrees(np.arccos(np.clip(cosine, -1, 1))) < 2, bone


@pytest.mark.skipif(not (SHARED / "vrm").is_dir(), reason="the avatar is not here")
def test_rest_rotations_of_an_avatar_are_respected() -> None:
    avatar = read_vrm(SHARED / "vrm" / "cryptovoxels.vrm")
    assert len(avatar.rest) == 43
    lean = [np.degrees(np.arccos(np.clip((np.trace(r) - 1) / 2, -1, 1))) for r in avatar.rest.values()]
    assert max(lean) > 3, "this avatar's legs are turned at rest"
    joints = from_camera(walking(7))
    bones = received(datagrams(kinematics(7), avatar, 0.0))
    assert set(bones) == set(avatar.rest)
    # Where the avatar's own limb is not straight along the rest direction, the turn from rest is what must be right.
    turns: dict[str, Array] = {}
    flip = np.diag([1.0, 1.0, -1.0])
    while len(turns) < len(bones):
        for bone, (_, turn) in bones.items():
            above = avatar.parents[bone]
            if bone not in turns and (above is None or above in turns):
                turns[bone] = matrix(turn) if above is None else turns[above] @ matrix(turn)
    for bone, sign in (("LeftUpperArm", 1), ("RightLowerArm", -1)):
        delta = flip @ turns[bone] @ flip @ avatar.rest[bone].T  # from Unity's axes, and without the rest
        found = delta @ np.array([-sign, 0, 0])  # left is -x in an avatar that looks along -z
        assert found @ (direction(joints, bone) * [-1, 1, -1]) > np.cos(np.radians(2)), bone
    for bone in ("LeftUpperLeg", "RightLowerLeg"):
        delta = flip @ turns[bone] @ flip @ avatar.rest[bone].T
        assert (delta @ [0, -1, 0]) @ (direction(joints, bone) * [-1, 1, -1]) > np.cos(np.radians(2)), bone


def messages(data: list[bytes]) -> list[tuple[str, str, tuple[Any, ...]]]:
    """Address, types and arguments of every message in order, as an independent parser reads them."""
    parser = pytest.importorskip("osc4py3.oscbuildparse", reason="osc4py3 is not installed (AGPL, tests only)")
    return [
        (found.addrpattern, found.typetags, tuple(found.arguments))
        for datagram in data
        for found in parser.decode_packet(datagram).elements
    ]


FACE = {"jawOpen": 0.8, "eyeBlinkLeft": 1.0, "mouthSmileLeft": 0.9, "mouthSmileRight": 0.9}


@pytest.mark.parametrize("blends", [None, presets(FACE), perfect_sync(FACE)])
def test_what_each_receiver_needs_is_there(blends: dict[str, float] | None) -> None:
    data = datagrams(kinematics(5), default_avatar(), 0.5, blends=blends)
    assert max(map(len, data)) <= LARGEST
    found = messages(data)
    kinds = list(dict.fromkeys(address for address, _, _ in found))
    face = ["/VMC/Ext/Blend/Val", "/VMC/Ext/Blend/Apply"] if blends else []
    # Root first and bones before expressions (Warudo), the state, and the time last.
    assert kinds == ["/VMC/Ext/Root/Pos", "/VMC/Ext/Bone/Pos", *face, "/VMC/Ext/OK", "/VMC/Ext/T"]
    types = {address: kind for address, kind, _ in found}
    # A message that is too short stops EVMC4U for good, one of a wrong type is left out.
    assert types == {
        "/VMC/Ext/Root/Pos": ",sfffffff", "/VMC/Ext/Bone/Pos": ",sfffffff", "/VMC/Ext/OK": ",iiii", "/VMC/Ext/T": ",f",
    } | ({"/VMC/Ext/Blend/Val": ",sf", "/VMC/Ext/Blend/Apply": ","} if blends else {})  # fmt: skip
    bones = {values[0]: values[1:] for address, _, values in found if address == "/VMC/Ext/Bone/Pos"}
    assert set(bones) == set(HUMAN_BONES), "every bone in every frame"
    for bone, values in bones.items():
        assert np.isfinite(values).all()
        assert np.linalg.norm(values[:3]) > 0.01, f"{bone} without an offset collapses an avatar"
        assert np.linalg.norm(values[3:]) == pytest.approx(1, abs=1e-5)
    assert bones["Hips"][1] > 0.5, "Blender and Godot take the hips' height from it"
    assert next(values for address, _, values in found if address == "/VMC/Ext/Root/Pos")[0] == "root"
    if blends:
        sent = {values[0]: values[1] for address, _, values in found if address == "/VMC/Ext/Blend/Val"}
        assert sent == pytest.approx(blends, abs=1e-6)


def test_faces_become_the_presets_of_vrm() -> None:
    rest = presets({})
    assert set(rest) == set(PRESETS)
    assert not any(rest.values())
    found = presets(FACE)
    assert found["Blink_L"] == 1.0
    assert found["Blink_R"] == 0.0
    assert found["Joy"] > 0.8
    assert found["A"] + found["E"] > 0.6
    assert sum(found[vowel] for vowel in "AIUEO") <= 1.0 + 1e-9
    assert presets({"mouthPucker": 1.0})["U"] > 0.9
    assert presets({"mouthFunnel": 1.0, "jawOpen": 0.5})["O"] > 0.5
    assert presets({"browDownLeft": 1.0, "browDownRight": 1.0})["Angry"] == 1.0
    assert presets({"eyeLookOutLeft": 1.0, "eyeLookInRight": 1.0})["LookLeft"] == 1.0
    assert presets({"jawOpen": float("nan"), "eyeBlinkLeft": 7.0})["Blink_L"] == 1.0


def test_perfect_sync_has_the_names_of_the_avatar() -> None:
    assert len(perfect_sync(FACE)) == 52
    assert perfect_sync(FACE)["JawOpen"] == 0.8
    own = perfect_sync(FACE, ["jawOpen", "EYEBLINKLEFT"])
    assert own["jawOpen"] == 0.8
    assert own["EYEBLINKLEFT"] == 1.0
    assert has_perfect_sync(list(perfect_sync(FACE)))
    assert not has_perfect_sync(["Joy", "A", "Blink"])


def test_a_face_that_is_gone_leaves_no_grimace() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(5)
        clock = ManualClock()
        sink = open_stage(PublishVmc, {"port": receiver.getsockname()[1]}, clock=clock)
        sent = []
        for i, packet in enumerate(moving(3)):
            if i == 1:
                packet.persons[0].extra["face"] = {"blendshapes": FACE}
            sink.process(packet)  # type: ignore[attr-defined]
            clock.advance(1 / 30)
            data = []
            while not data or b"/VMC/Ext/T\0" not in data[-1]:
                data.append(receiver.recv(65536))
            sent.append({v[0]: v[1] for address, _, v in messages(data) if address == "/VMC/Ext/Blend/Val"})
        sink.close()
    assert sent[0] == {}
    assert sent[1] == pytest.approx(presets(FACE), abs=1e-6)
    assert sent[2] == dict.fromkeys(PRESETS, 0.0)


def glb(document: dict[str, Any]) -> bytes:
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    return struct.pack("<4sIIII", b"glTF", 2, 20 + len(text), len(text), 0x4E4F534A) + text


@pytest.mark.skipif(not (SHARED / "vrm").is_dir(), reason="the avatar is not here")
def test_the_same_avatar_as_vrm_1_gets_the_same_datagrams(tmp_path: Path) -> None:
    """VRM 1 looks the other way, has other names for the thumb, and another place for its humanoid."""
    old = SHARED / "vrm" / "cryptovoxels.vrm"
    raw = old.read_bytes()
    document = json.loads(raw[20 : 20 + struct.unpack("<I", raw[12:16])[0]])
    for node in document["nodes"]:
        x, y, z = node.get("translation", (0, 0, 0))
        node["translation"] = [-x, y, -z]
        x, y, z, w = node.get("rotation", (0, 0, 0, 1))
        node["rotation"] = [-x, y, -z, w]
    bones = {}
    for each in document["extensions"].pop("VRM")["humanoid"]["humanBones"]:
        name = each["bone"]
        if "Thumb" in name:
            name = name.replace("ThumbProximal", "ThumbMetacarpal").replace("ThumbIntermediate", "ThumbProximal")
        bones[name] = {"node": each["node"]}
    expressions = {"preset": {"happy": {}}, "custom": {name: {} for name in perfect_sync({})}}
    document["extensions"]["VRMC_vrm"] = {
        "specVersion": "1.0", "humanoid": {"humanBones": bones}, "expressions": expressions,
    }  # fmt: skip
    new = tmp_path / "new.vrm"
    new.write_bytes(glb(document))
    frame = kinematics(7)
    found, wanted = (received(datagrams(frame, read_vrm(path), 0.0)) for path in (new, old))
    assert set(found) == set(wanted)
    for bone, (place, turn) in wanted.items():
        assert found[bone][0] == pytest.approx(place, abs=1e-5), bone
        assert abs(found[bone][1] @ turn) == pytest.approx(1, abs=1e-5), bone
    assert has_perfect_sync(read_vrm(new).blends)


@pytest.mark.skipif(not (SHARED / "vrm").is_dir(), reason="the avatar is not here")
def test_normalized_bones_are_those_of_a_control_rig() -> None:
    avatar = read_vrm(SHARED / "vrm" / "cryptovoxels.vrm")
    upright = avatar.upright()

    def places(a: Any) -> dict[str, Array]:
        out: dict[str, Array] = {}
        while len(out) < len(a.offsets):
            for bone, above in a.parents.items():
                if bone not in out and (above is None or above in out):
                    offset = a.offsets[bone]
                    out[bone] = offset if above is None else out[above] + a.rest[above] @ offset
        return out

    for bone, place in places(avatar).items():
        assert places(upright)[bone] == pytest.approx(place, abs=1e-6), bone
    joints = from_camera(walking(7))
    bones = received(datagrams(kinematics(7), upright, 0.0))
    flip = np.diag([1.0, 1.0, -1.0])
    hips = flip @ matrix(bones["Hips"][1]) @ flip
    thigh = hips @ flip @ matrix(bones["LeftUpperLeg"][1]) @ flip @ np.array([0, -1, 0])
    assert thigh @ (direction(joints, "LeftUpperLeg") * [-1, 1, -1]) > np.cos(np.radians(2))


def hand(bends: list[float], side: str) -> Array:
    """21 joints: every finger bent by these degrees at its joints, palm down, in axes turned at random."""
    sign = 1 if side == "Left" else -1
    points = np.zeros((21, 3))
    for i in range(5):
        thumb = i == 0
        along = np.array([sign, 0, 1 if thumb else 0]) / np.sqrt(2 if thumb else 1)
        points[1 + 4 * i] = [0.03 * sign, 0, 0.03] if thumb else [0.09 * sign, 0, 0.03 - 0.02 * (i - 1)]
        turn = np.eye(3)
        for k, bend in enumerate(bends):
            axis = np.cross(along, [0, -1, 0])
            turn = turn @ Rotation.from_rotvec(np.radians(bend) * axis).as_matrix()
            points[2 + 4 * i + k] = points[1 + 4 * i + k] + 0.03 * turn @ along
    return points @ Rotation.random(random_state=4).as_matrix().T


@pytest.mark.parametrize("side", ["Left", "Right"])
@pytest.mark.parametrize("bends", [[0.0, 0.0, 0.0], [40.0, 60.0, 30.0], [80.0, 100.0, 70.0]])
def test_fingers_are_bent_as_seen(side: str, bends: list[float]) -> None:
    bones = FingerSolver(side).solve(hand(bends, side))
    assert set(bones) == {bone for bone, _ in finger_bones(side)}
    for (bone, _), bend in zip(finger_bones(side), bends * 5, strict=True):
        turned = np.degrees(np.arccos(np.clip((np.trace(bones[bone]) - 1) / 2, -1, 1)))
        assert turned == pytest.approx(bend, abs=0.5), bone
    index = bones[f"{side}IndexProximal"] @ [1 if side == "Left" else -1, 0, 0]
    assert index[1] == pytest.approx(-np.sin(np.radians(bends[0])), abs=0.01), "towards the palm, which faces down"


def test_fingers_reach_the_avatar() -> None:
    frames = []
    for i in range(12):
        who = person(squatter(0))
        who.keypoints_3d = Keypoints3D("h36m17", walking(0), i)
        who.extra["hands_world"] = {"right": hand([30, 30, 30], "Right").astype(np.float32)}
        frames.append([who])
    found = run_stage(Kinematics, {}, packets(frames))[-1].persons[0].extra["kinematics"]
    assert "LeftIndexDistal" not in found["rotations"]
    bones = received(datagrams(found, default_avatar(), 0.0))
    assert abs(bones["RightRingIntermediate"][1][3]) == pytest.approx(np.cos(np.radians(15)), abs=1e-3)
    assert abs(bones["LeftRingIntermediate"][1][3]) == pytest.approx(1)


def test_it_sends_from_one_socket_and_not_too_often() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.setblocking(False)
        clock = ManualClock()
        sink = open_stage(PublishVmc, {"port": receiver.getsockname()[1]}, clock=clock)
        per_frame = len(datagrams(kinematics(), default_avatar(), 0.0))
        senders, got = set(), 0
        for packet in moving(120):
            sink.process(packet)  # type: ignore[attr-defined]
            clock.advance(1 / 120)
            try:
                while True:
                    senders.add(receiver.recvfrom(65536)[1])
                    got += 1
            except BlockingIOError:
                continue
        sink.close()
        assert len(senders) == 1
        assert 55 * per_frame <= got <= 62 * per_frame, "a second at 120 Hz is 60 frames"


@pytest.mark.parametrize("text", [b"", b"glTF", b"not a file of that kind at all, but long enough"])
def test_an_avatar_that_is_none_is_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "a.vrm").write_bytes(text)
    with pytest.raises(UsageError, match="VRM"):
        PublishVmc.check(PublishVmc.Options(vrm=tmp_path / "a.vrm"))


# --- BVH ------------------------------------------------------------------------------------------------------------


def test_a_bvh_file_is_read_back_to_the_millimetre(tmp_path: Path) -> None:
    bvhio = pytest.importorskip("bvhio")
    path = tmp_path / "walk.bvh"
    frames = moving(40)
    run_stage(RecordBvh, {"path": str(path)}, frames)
    root = bvhio.readAsHierarchy(str(path))
    found = {joint.Name: joint for joint, _, _ in root.layout()}
    assert bvhio.readAsBvh(str(path)).FrameTime == pytest.approx(1 / 30)
    first = frames[0].persons[0].extra["kinematics"]["lengths"]
    solver = Solver(20.0)
    for i, packet in enumerate(frames):
        pose = solver.solve(from_camera(packet.persons[0].keypoints_3d.points))
        places, _ = forward(pose, rest_offsets(first))
        root.loadPose(i)
        for bone, place in places.items():
            assert np.array(found[bone].PositionWorld) == pytest.approx(place, abs=1e-3), (i, bone)


def test_a_bvh_file_has_one_rate_whatever_the_camera_did(tmp_path: Path) -> None:
    path = tmp_path / "walk.bvh"
    frames = [packet for i, packet in enumerate(moving(60)) if i not in (10, 11, 12, 40)]
    run_stage(RecordBvh, {"path": str(path), "scale": 100}, frames)
    lines = path.read_text().splitlines()
    assert [line.strip() for line in lines if line.startswith("Frames:")] == ["Frames: 60"]
    assert len(lines) - lines.index(next(line for line in lines if line.startswith("Frame Time"))) - 1 == 60
    assert float(lines[-1].split()[1]) > 50, "centimetres"


def test_the_file_is_known_before_it_is_written(tmp_path: Path) -> None:
    options = RecordBvh.Options(path=tmp_path / "a.bvh")
    assert RecordBvh.outputs(options, ["cam"]) == [tmp_path / "a.bvh"]


def test_a_bvh_file_that_exists_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "kept.bvh"
    path.write_text("mine")
    with pytest.raises(UsageError, match="overwrite"):
        open_stage(RecordBvh, {"path": str(path)})
    assert path.read_text() == "mine"
