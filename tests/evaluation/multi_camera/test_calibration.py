from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from streamkp.errors import UsageError
from streamkp.evaluation.multi_camera import calibration
from tests.evaluation.ring import ring

CAMERA: dict[str, Any] = {
    "K": [[1000, 0, 500], [0, 1000, 400], [0, 0, 1]],
    "R": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "t": [0, 0, 3],
}


def write(tmp_path: Path, **changes: Any) -> Path:
    path = tmp_path / "cameras.json"
    entry = {key: value for key, value in (CAMERA | changes).items() if value is not None}
    path.write_text(json.dumps({"cameras": {"left": entry}}))
    return path


def test_qualisys_and_opencv_files_of_the_same_cameras_agree(assets):
    of_json = calibration.read(assets / "clips" / "pose2sim_cameras.json")
    of_qualisys = calibration.read(assets / "clips" / "pose2sim_calib.qca.txt")
    assert (
        [camera.name for camera in of_json]
        == [camera.name for camera in of_qualisys]
        == [f"cam0{n}" for n in range(1, 5)]
    )
    for one, other in zip(of_json, of_qualisys, strict=True):
        assert other.size == (1088, 1920)
        for part in ("matrix", "distortion", "rotation", "translation"):
            assert np.abs(getattr(one, part) - getattr(other, part)).max() < 1e-9


def test_pose2sim(assets):
    (camera,) = calibration.read(assets / "clips" / "sports2d_demo_calib.toml")
    assert (camera.name, camera.size) == ("demo", (1768, 994))
    assert camera.translation.tolist() == [-3.510103521992233, 1.7079310029359385, 10.0]
    # world z is up, and the camera looks along -x
    assert np.allclose(camera.rotation @ [0, 0, 1], [0, -1, 0], atol=2e-3)
    assert np.allclose(camera.rotation @ [-1, 0, 0], [0, 0, 1], atol=2e-3)


def test_projection_is_opencvs():
    (camera,) = ring(1)
    points = np.random.default_rng(0).uniform((-0.5, -0.5, 0.4), (0.5, 0.5, 1.4), (4, 3, 3))
    seen = (points @ camera.rotation.T + camera.translation).reshape(-1, 3)
    expected = cv2.projectPoints(seen, np.zeros(3), np.zeros(3), camera.matrix, camera.distortion)[0]
    pixels = camera.project(points)
    assert np.allclose(pixels, expected.reshape(4, 3, 2))
    straight = np.concatenate([points, np.ones((4, 3, 1))], -1) @ camera.projection.T
    assert np.allclose(camera.undistort(pixels), straight[..., :2] / straight[..., 2:], atol=1e-3)


def test_what_a_file_may_leave_out(tmp_path):
    (camera,) = calibration.read(write(tmp_path))
    assert camera.size is None
    assert camera.frame_offset == 0
    assert not camera.distortion.any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"K": None}, "camera left: K is missing"),
        ({"K": [[1, 2], [3, 4]]}, "camera left: K must be 3x3 numbers, found 2x2"),
        ({"K": [[-1, 0, 0], [0, 1, 0], [0, 0, 1]]}, "camera left: the matrix must be"),
        ({"R": [[1, 0, 0], [0, 1, 0], [0, 0, -1]]}, "camera left: the rotation is not one"),
        ({"R": [[2, 0, 0], [0, 1, 0], [0, 0, 1]]}, "camera left: the rotation is not one"),
        ({"t": ["a", 0, 0]}, "camera left: t must be 3 numbers"),
        ({"t": [float("nan"), 0, 0]}, "camera left: a value is not finite"),
        ({"dist": [1, 2]}, "camera left: dist must be 4 or 5 or 8 numbers"),
        ({"size": [0, 100]}, "camera left: size must be positive"),
        ({"frame_offset": 0.5}, "camera left: frame_offset must be a whole number"),
    ],
)
def test_a_camera_that_cannot_be_used(tmp_path, changes, message):
    path = write(tmp_path, **changes)
    with pytest.raises(UsageError, match=message) as error:
        calibration.read(path)
    assert str(path) in str(error.value)


QUALISYS = """<calibration><cameras><camera active="1" serial="one" viewrotation="{turned}">
<fov_video bottom="99" left="10" right="209" top="20"/>
<transform r11="1" r12="0" r13="0" r21="0" r22="1" r23="0" r31="0" r32="0" r33="1" x="1000" y="2000" z="3000"/>
<intrinsic centerPointU="6400" centerPointV="3200" focalLengthU="64000" focalLengthV="64000" skew="0" {k1}
  radialDistortion2="0" radialDistortion3="0" tangentalDistortion1="0" tangentalDistortion2="0"/>
</camera></cameras></calibration>"""


def test_qualisys_pixels_count_from_the_corner_of_the_video(tmp_path):
    path = tmp_path / "rig.qca.txt"
    path.write_text(QUALISYS.format(turned=0, k1='radialDistortion1="0"'))
    (camera,) = calibration.read(path)
    assert camera.size == (200, 80)
    assert camera.matrix.tolist() == [[1000, 0, 90], [0, 1000, 30], [0, 0, 1]]
    # at (1, 2, 3) m, looking down world -z with y up
    assert (camera.rotation @ [1.0, 2.5, 1.0] + camera.translation).tolist() == [0, -0.5, 2]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "{", "not valid JSON"),
        ("a.json", "[" * 100_000, "not valid JSON"),
        ("a.json", "[]", 'no mapping "cameras"'),
        ("a.json", '{"cameras": {}}', "no camera in it"),
        ("a.json", '{"cameras": {"left": 3}}', "camera left: expected a table"),
        ("a.toml", "[", "not valid TOML"),
        ("a.toml", "[left]\nfisheye = true", "camera left: fisheye"),
        ("a.qca.txt", "<calibration>", "not valid XML"),
        ("a.qca.txt", '<!DOCTYPE a [<!ENTITY b "c">]><a/>', "no document type"),
        ("a.qca.txt", QUALISYS.format(turned=90, k1='radialDistortion1="0"'), "camera one: viewrotation 90"),
        (
            "a.qca.txt",
            QUALISYS.format(turned=0, k1=""),
            "camera one: <intrinsic> must have the numbers radialDistortion1",
        ),
        ("a.xml", "", "ends in .json, .qca.txt, .toml"),
    ],
)
def test_a_file_that_is_no_calibration(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(UsageError, match=message) as error:
        calibration.read(path)
    assert str(path) in str(error.value)


def test_files_that_are_missing_or_too_large(tmp_path):
    with pytest.raises(UsageError, match=r"cannot read .*No such file"):
        calibration.read(tmp_path / "no.json")
    large = tmp_path / "large.json"
    large.write_bytes(b" " * (calibration.MAX_BYTES + 1))
    with pytest.raises(UsageError, match="more than 1 MB"):
        calibration.read(large)


def test_two_cameras_of_one_name(tmp_path):
    path = tmp_path / "rig.toml"
    entry = 'name = "left"\nmatrix = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]\nrotation = [0, 0, 0]\ntranslation = [0, 0, 0]\n'
    path.write_text(f"[a]\n{entry}[b]\n{entry}[metadata]\nerror = 0.0\n")
    with pytest.raises(UsageError, match="two cameras are named 'left'"):
        calibration.read(path)
