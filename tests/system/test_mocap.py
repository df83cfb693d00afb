"""Motion capture from an installed wheel: what a receiver of VMC makes of the datagrams is the pose of the film."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamkp_plugins.mocap.avatar import HUMAN_BONES

from streamkp.sources import replay
from tests.plugins.test_mocap import assert_same_pose, received
from tests.system.conftest import Streamkp, lines
from tests.system.test_run import squat

pytestmark = pytest.mark.system
__all__ = ["squat"]  # a fixture


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with streamkp as a wheel has it; its dependencies are those of this environment."""
    built, folder = tmp_path_factory.mktemp("built"), tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", str(built), "."], check=True, timeout=120)
    (wheel,) = built.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(folder), str(wheel)], check=True, timeout=120)
    return folder


class Receiver(threading.Thread):
    """Takes datagrams until it is told to stop."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.got: list[bytes] = []

    def run(self) -> None:
        while data := self.socket.recv(65536):
            self.got.append(data)

    def stop(self) -> list[bytes]:
        """All that came; an empty datagram ends the thread after what was sent before."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
            end.sendto(b"", ("127.0.0.1", self.port))
        self.join(10)
        self.socket.close()
        return self.got


def by_time(data: list[bytes]) -> Iterator[tuple[float, list[bytes]]]:
    """The datagrams of each frame, which the time ends."""
    parser = pytest.importorskip("osc4py3.oscbuildparse", reason="osc4py3 is not installed (AGPL, tests only)")
    frame: list[bytes] = []
    for datagram in data:
        frame.append(datagram)
        last = parser.decode_packet(datagram).elements[-1]
        if last.addrpattern == "/VMC/Ext/T":
            yield last.arguments[0], frame
            frame = []


def test_a_receiver_gets_the_pose_of_the_film(streamkp: Streamkp, installed: Path, squat: Path, tmp_path: Path) -> None:
    where = "import streamkp, streamkp_plugins; print(streamkp.__file__, streamkp_plugins.__file__)"
    found = subprocess.run([sys.executable, "-c", where], env={"PYTHONPATH": str(installed)}, cwd=tmp_path,
                           capture_output=True, text=True, check=True)  # fmt: skip
    assert found.stdout.count(str(installed)) == 2, found.stdout
    receiver = Receiver()
    receiver.start()
    done = streamkp(
        "run", "mocap", "--source", squat, "--set", f"stages.vmc.port={receiver.port}", "--set",
        "stages.publish.port=0", "--record", "out.jsonl", "--control", "off",
        env={"PYTHONPATH": str(installed)},
    )  # fmt: skip
    frames = list(by_time(receiver.stop()))
    assert done.code == 0, done.err
    said = done.out + done.err
    assert f"VMC to 127.0.0.1:{receiver.port}: {len(frames)} frames, capture to datagram p50 " in said
    rows = {round(row["pts"] / 1e9, 3): row for row in lines(tmp_path / "out.jsonl")}
    begin = min(time for time, row in rows.items() if row["persons"] and "kinematics" in row["persons"][0])
    assert len(frames) > 20
    for time, datagrams in frames:
        row = rows[round(begin + time, 3)]
        lifted = [person["keypoints_3d"] for person in row["persons"] if "kinematics" in person]
        assert {pose["space"] for pose in lifted} == {"world"}, "the graph levels them: y is up"
        poses = [np.array(pose["points"]) for pose in lifted]
        bones = received(datagrams)
        assert_same_pose_as_one_of(bones, poses)


def assert_same_pose_as_one_of(bones: dict[str, Any], poses: list[np.ndarray[Any, Any]]) -> None:
    """The film has one man and his picture in a mirror; the one who is followed is among them."""
    errors = []
    for pose in poses:
        try:
            assert_same_pose(bones, dict(HUMAN_BONES), pose)
            return
        except AssertionError as error:
            errors.append(error)
    raise errors[0]


def test_a_recording_for_foxglove_is_played_again(streamkp: Streamkp, squat: Path, tmp_path: Path) -> None:
    """From the film to MCAP, and from a second on into a BVH file, with neither film nor network."""
    done = streamkp("run", "demo", "--source", squat, "--no-page", "--record", "out.mcap", "--control", "off")
    assert done.code == 0, done.err
    packets = list(replay.packets(replay.Recording(tmp_path / "out.mcap")))
    assert len(packets) == 45
    (tmp_path / "bvh.yaml").write_text(
        "version: 1\nstreams: {cam: {uri: 'replay://out.mcap?start=1'}}\nstages:\n  source: {use: replay}\n"
        "  bones: {use: kinematics}\n  bvh: {use: record-bvh, path: out.bvh}\n"
    )
    done = streamkp("run", tmp_path / "bvh.yaml", "--control", "off")
    assert done.code == 0, done.err
    text = (tmp_path / "out.bvh").read_text()
    assert "HIERARCHY" in text
    assert "Frames: 15 " in text, text[text.index("Frames:") :][:40]
