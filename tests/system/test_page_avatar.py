"""A VRM avatar on the page, and the page's own bone rotations against those of the stage `kinematics`."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from streamkp_plugins.mocap.body import Solver, from_camera

from streamkp.graph.stage import StageContext
from streamkp.sinks.publish_websocket import PublishWebsocket
from tests.sinks.walker import make_packet, walking
from tests.system.browser import Tab, browser

pytestmark = pytest.mark.system

# Of a body that looks along -z, as VRM 0 has it: parent, and where a bone starts in its frame.
BODY = {
    "hips": (None, (0, 1, 0)), "spine": ("hips", (0, 0.1, 0)), "chest": ("spine", (0, 0.2, 0)),
    "neck": ("chest", (0, 0.2, 0)), "head": ("neck", (0, 0.1, 0)),
    **{f"{side}{bone}": (parent and parent.replace("*", side), (sign * x, y, 0))
       for side, sign in (("left", -1), ("right", 1))
       for bone, parent, x, y in (
           ("UpperArm", "chest", 0.2, 0.15), ("LowerArm", "*UpperArm", 0.27, 0), ("Hand", "*LowerArm", 0.25, 0),
           ("UpperLeg", "hips", 0.1, 0), ("LowerLeg", "*UpperLeg", 0, -0.45), ("Foot", "*LowerLeg", 0, -0.45))},
}  # fmt: skip


def write_vrm(path: Path) -> Path:
    """A humanoid of VRM 0 whose every bone is a white cross of two triangles."""
    names = list(BODY)
    half = 0.06
    corners = [[-half, 0, 0], [half, 0, 0], [0, half * 2, 0], [0, 0, -half], [0, 0, half], [0, half * 2, 0]]
    data = np.array(corners, "<f4").tobytes()
    nodes = [
        {"name": name, "translation": place, "mesh": 0,
         "children": [i for i, other in enumerate(names) if BODY[other][0] == name]}
        for name, (_, place) in BODY.items()
    ]  # fmt: skip
    for node in nodes:
        if not node["children"]:
            del node["children"]
    white = {"pbrMetallicRoughness": {"baseColorFactor": [1, 1, 1, 1]}, "doubleSided": True,
             "emissiveFactor": [1, 1, 1]}  # fmt: skip
    vrm = {
        "specVersion": "0.0", "meta": {"title": "cross"}, "blendShapeMaster": {"blendShapeGroups": []},
        "humanoid": {"humanBones": [{"bone": name, "node": i} for i, name in enumerate(names)]},
        "firstPerson": {}, "secondaryAnimation": {}, "materialProperties": [],
    }  # fmt: skip
    document = {
        "asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": [0]}], "nodes": nodes, "materials": [white],
        "extensionsUsed": ["VRM"], "extensions": {"VRM": vrm},
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "material": 0}]}],
        "accessors": [{"bufferView": 0, "componentType": 5126, "count": 6, "type": "VEC3",
                       "min": [-half, 0, -half], "max": [half, half * 2, half]}],
        "bufferViews": [{"buffer": 0, "byteLength": len(data)}], "buffers": [{"byteLength": len(data)}],
    }  # fmt: skip
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(data), b"BIN\0") + data
    path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks)
    return path


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Tab]:
    with browser(tmp_path / "profile") as page:
        yield page


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[PublishWebsocket]:
    options = PublishWebsocket.Options(port=0, avatar=write_vrm(tmp_path / "avatar.vrm"))
    sink = PublishWebsocket(options, StageContext("publish"))
    sink.open()
    try:
        yield sink
    finally:
        sink.close()


def test_the_avatar_is_moved_and_can_be_taken_off(tab: Tab, sink: PublishWebsocket) -> None:
    tab.call("Page.navigate", url=sink.url)
    tab.wait_for("window.streamkp?.connection === 'live'")
    seq = 0
    while tab.evaluate("streamkp.avatarBones") == 0:
        assert seq < 500, tab.evaluate("document.getElementById('banner').textContent")
        sink.process(make_packet(seq := seq + 1))
        tab.evaluate("new Promise(requestAnimationFrame)")
    assert tab.evaluate("streamkp.avatarBones") >= 13
    assert tab.evaluate("streamkp.bones3d") == 0, "the avatar stands where the stick figure stood"
    sink.process(make_packet(seq + 1))
    tab.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    picture = tab.screenshot()
    edge = round(tab.evaluate("document.getElementById('space').getBoundingClientRect().left"))
    white = (picture[80:330, edge:].min(axis=2) > 235).nonzero()
    assert len(white[0]) > 100, "the body is drawn"
    assert np.ptp(white[0]) > 100, "from head to foot"
    tab.key("v")
    sink.process(make_packet(seq + 2))
    tab.wait_for("streamkp.bones3d === 16")


def test_rotations_from_joints_are_those_of_the_kinematics_stage(tab: Tab, sink: PublishWebsocket) -> None:
    tab.call("Page.navigate", url=sink.url)
    tab.wait_for("window.streamkp?.connection === 'live'")
    for seq in (0, 7, 20):
        _compare(tab, seq)


def _compare(tab: Tab, seq: int) -> None:
    pose = walking(seq)
    pose[[12, 13]] = [[0.4, -0.3, -0.15], [0.3, -0.45, -0.35]]  # a bent arm
    wanted = Solver(20.0).solve(from_camera(pose)).rotations
    person = json.dumps({"keypoints_3d": {"skeleton": "h36m17", "points": pose.tolist()}})
    found = tab.evaluate(
        f"""Promise.all([import('/viewer/pose.js'), fetch('/skeletons.json').then((r) => r.json())])
            .then(([{{ Solver }}, skeletons]) => new Solver().solve({person}, skeletons))"""
    )
    for side in ("Left", "Right"):
        for bone in ("UpperArm", "LowerArm", "UpperLeg", "LowerLeg"):
            ours, theirs = np.array(found[side.lower() + bone]), wanted[side + bone]
            angle = np.degrees(2 * np.arccos(min(1.0, abs(float(ours @ theirs)))))
            assert angle < 1.5, (side + bone, angle)
    assert abs(float(np.array(found["hips"]) @ wanted["Hips"])) > 0.9999
