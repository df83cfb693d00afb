"""The clients for game engines, run by Godot and Mono against the real program."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamkp.graph.stage import StageContext
from streamkp.sinks.record import Record
from tests.sinks.walker import make_packet, walking
from tests.system.conftest import Start
from tests.system.test_run import page

pytestmark = pytest.mark.system
CLIENTS = Path(__file__).parents[2] / "plugins" / "clients"
FRAMES = 40
GRAPH = """\
version: 1
streams:
  cam: {uri: "replay://%s", loop: true, realtime: true}
stages:
  source:  {use: replay}
  bones:   {use: kinematics}
  publish: {use: publish-websocket, port: 0}
"""


@pytest.fixture
def address(start: Start, tmp_path: Path) -> str:
    """Where a program publishes somebody who walks, again and again."""
    sink = Record(Record.Options(path=tmp_path / "walk.jsonl"), StageContext("record"))
    sink.open()
    for seq in range(FRAMES):
        sink.process(make_packet(seq))
    sink.close()
    (tmp_path / "graph.yaml").write_text(GRAPH % (tmp_path / "walk.jsonl"))
    return page(start("run", tmp_path / "graph.yaml")).rstrip("/")


def needed(program: str) -> str:
    """Its path; the test is skipped where it is not installed (.ci/apt-packages.txt installs it)."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


def is_a_frame(place: np.ndarray[Any, Any]) -> bool:
    """Whether the left wrist of the walker is there in one of the frames, y up."""
    frames = np.array([walking(seq)[13] * [1, -1, -1] for seq in range(FRAMES)])
    return bool((np.abs(frames - place).max(axis=1) < 2e-4).any())


def test_godot_gets_the_joints(address: str, tmp_path: Path) -> None:
    godot = needed("godot3-server")
    project = shutil.copytree(CLIENTS / "godot3", tmp_path / "godot")
    done = subprocess.run(
        [godot, "--path", str(project), "-s", "example.gd", f"--url=ws://{address}/ws?format=json", "--frames=12"],
        capture_output=True, text=True, timeout=60, check=False, env=os.environ | {"HOME": str(tmp_path)},
    )  # fmt: skip
    lines = re.findall(r"person 1 left_wrist (\S+) (\S+) (\S+) bones (\d+) hips (\S+)", done.stdout)
    assert len(lines) == 12, done.stdout + done.stderr
    for x, y, z, bones, hips in lines:
        assert is_a_frame(np.array([float(x), float(y), float(z)]))
        assert int(bones) == 17
        assert float(hips) == pytest.approx(0.96, abs=0.05)
    assert len({line[2] for line in lines}) > 3, "somebody who walks"


PROGRAM = """\
using System;
using System.Collections.Generic;
using System.Globalization;
using System.Threading;

static class Program
{
    static void Main(string[] arguments)
    {
        CultureInfo.DefaultThreadCurrentCulture = Thread.CurrentThread.CurrentCulture = CultureInfo.InvariantCulture;
        var reader = new Streamkp.Reader(arguments[0]);
        var running = reader.Run();
        for (int left = 12; left > 0;)
        {
            var frame = reader.TakeNewest();
            if (frame == null) { Thread.Sleep(5); continue; }
            var person = (Dictionary<string, object>)((List<object>)frame["persons"])[0];
            var points = (float[])((Dictionary<string, object>)person["keypoints_3d"])["points"];
            var kinematics = (Dictionary<string, object>)person["kinematics"];
            var bones = (Dictionary<string, object>)kinematics["rotations"];
            var hips = (List<object>)kinematics["hips"];
            Console.WriteLine("{0} {1} {2} {3} {4} {5}", person["track"], points[39], points[40], points[41],
                              bones.Count, hips[1]);
            left--;
        }
        reader.Dispose();
    }
}
"""


def test_the_reader_for_unity_gets_the_joints(address: str, tmp_path: Path) -> None:
    compiler, mono = needed("mcs"), needed("mono")
    (tmp_path / "program.cs").write_text(PROGRAM)
    built = tmp_path / "program.exe"
    subprocess.run(
        [compiler, "-langversion:7", f"-out:{built}", "program.cs", CLIENTS / "unity" / "StreamkpReader.cs"],
        cwd=tmp_path, check=True, timeout=60,
    )  # fmt: skip
    done = subprocess.run(
        [mono, built, f"ws://{address}/ws?format=msgpack"], capture_output=True, text=True, timeout=60, check=False
    )
    lines = [line.split() for line in done.stdout.splitlines()]
    assert len(lines) == 12, done.stdout + done.stderr
    for track, x, y, z, bones, hips in lines:
        assert is_a_frame(np.array([float(x), -float(y), -float(z)]))
        assert (track, bones) == ("1", "17")
        assert float(hips) == pytest.approx(0.96, abs=0.05)


# As much of UnityEngine as the avatar's script names, to compile it without Unity.
UNITY = """\
namespace UnityEngine
{
    public class RequireComponent : System.Attribute { public RequireComponent(System.Type type) { } }
    public class MonoBehaviour { public Transform transform; public T GetComponent<T>() { return default(T); } }
    public class Transform { public Vector3 position; public Quaternion rotation; }
    public class Animator { public Transform GetBoneTransform(HumanBodyBones bone) { return null; } }
    public enum HumanBodyBones { Hips }
    public struct Vector3
    {
        public float x, y, z;
        public Vector3(float x, float y, float z) { this.x = x; this.y = y; this.z = z; }
        public static Vector3 operator *(Vector3 a, float b) { return a; }
        public static Vector3 operator +(Vector3 a, Vector3 b) { return a; }
    }
    public struct Quaternion
    {
        public Quaternion(float x, float y, float z, float w) { }
        public static Quaternion Inverse(Quaternion a) { return a; }
        public static Quaternion operator *(Quaternion a, Quaternion b) { return a; }
        public static Vector3 operator *(Quaternion a, Vector3 b) { return b; }
    }
}
"""


def test_the_avatar_for_unity_compiles(tmp_path: Path) -> None:
    """With the names of UnityEngine that it uses, not with Unity itself."""
    compiler = needed("mcs")
    (tmp_path / "unity.cs").write_text(UNITY)
    scripts = [CLIENTS / "unity" / name for name in ("StreamkpReader.cs", "StreamkpAvatar.cs")]
    done = subprocess.run(
        [compiler, "-langversion:7", "-target:library", f"-out:{tmp_path / 'avatar.dll'}", "-warnaserror-",
         tmp_path / "unity.cs", *scripts],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
