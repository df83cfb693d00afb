"""Calibrated cameras from files: JSON in OpenCV's terms, Qualisys (`.qca.txt`), Pose2Sim (`.toml`).

World points are in metres in the calibration's own axes. Camera axes are OpenCV's: x right, y down, z away.

JSON: `{"cameras": {name: {"K": 3x3, "dist": [...], "R": 3x3, "t": [3], "size": [w, h], "frame_offset": n}}}`, of
which `dist`, `size` and `frame_offset` may be left out. Qualisys: pixels in 64ths, millimetres, a camera that looks
along -z with y up, and the camera's axes as the columns of its rotation as QTM writes it (r11, r12, ...). Pose2Sim:
a table for each camera with `matrix`, `distortions`, `rotation` (Rodrigues vector), `translation` and `size`.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
from numpy.typing import NDArray

from streamkp.errors import UsageError

Floats = NDArray[np.floating[Any]]

MAX_BYTES = 1 << 20
MAX_CAMERAS = 64
_QUALISYS_SUBPIXELS = 64.0
_QUALISYS_AXES = np.diag([1.0, -1.0, -1.0])  # its camera looks along -z, y up
_ROTATION_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class CalibratedCamera:
    """x_camera = rotation @ x_world + translation; pixel = matrix @ distort(x_camera / z).

    `size` is (width, height) in pixels, None where the file does not say; `matrix` (3, 3) in pixels; `distortion` (4,)
    or more as OpenCV orders it (k1, k2, p1, p2, k3, ...); `rotation` (3, 3); `translation` (3,) in metres. Frame t of
    the world is frame t + `frame_offset` of the camera's video.
    """

    name: str
    size: tuple[int, int] | None
    matrix: Floats
    distortion: Floats
    rotation: Floats
    translation: Floats
    frame_offset: int = 0

    @property
    def projection(self) -> Floats:
        """(3, 4): homogeneous world points to undistorted pixels."""
        out: Floats = self.matrix @ np.column_stack([self.rotation, self.translation])
        return out

    def project(self, world: Floats) -> Floats:
        """World points [..., 3] to pixels [..., 2], with the lens's distortion."""
        flat = np.ascontiguousarray(world, np.float64).reshape(-1, 1, 3)
        turn, _ = cv2.Rodrigues(self.rotation)
        pixels, _ = cv2.projectPoints(flat, turn, self.translation, self.matrix, self.distortion)
        return np.asarray(pixels, np.float64).reshape(*world.shape[:-1], 2)

    def undistort(self, pixels: Floats) -> Floats:
        """Pixels [..., 2] as the same camera without distortion would have them."""
        flat = np.ascontiguousarray(pixels, np.float64).reshape(-1, 1, 2)
        straight = cv2.undistortPoints(flat, self.matrix, self.distortion, P=self.matrix)
        return np.asarray(straight, np.float64).reshape(pixels.shape)


def read(path: Path) -> list[CalibratedCamera]:
    """The cameras of a calibration file, in its order.

    Raises:
        UsageError: the file is not there, too large, in no known format, or a camera in it is not usable; it says
            which camera and what is wrong.
    """
    readers: dict[str, Callable[[str], list[CalibratedCamera]]] = {
        ".json": _read_json,
        ".qca.txt": _read_qualisys,
        ".toml": _read_pose2sim,
    }
    for ending, reader in readers.items():
        if path.name.lower().endswith(ending):
            try:
                cameras = reader(_text(path))
                _check_names([camera.name for camera in cameras])
            except _BadError as error:
                raise UsageError(f"{path}: {error}") from None
            return cameras
    raise UsageError(f"{path}: a calibration file ends in {', '.join(readers)}")


class _BadError(Exception):
    """What is wrong with a calibration; `read` adds the file."""


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
    if len(data) > MAX_BYTES:
        raise UsageError(f"{path} holds more than {MAX_BYTES >> 20} MB: that is no camera calibration")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not text in UTF-8") from None


def _check_names(names: list[str]) -> None:
    if not names:
        raise _BadError("there is no camera in it")
    if len(names) > MAX_CAMERAS:
        raise _BadError(f"{len(names)} cameras; at most {MAX_CAMERAS} can be read")
    for name in names:
        if names.count(name) > 1:
            raise _BadError(f"two cameras are named {name!r}")


def _read_json(text: str) -> list[CalibratedCamera]:
    try:
        data = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise _BadError(f"not valid JSON: {error}") from None
    cameras = data.get("cameras") if isinstance(data, dict) else None
    if not isinstance(cameras, dict):
        raise _BadError('there is no mapping "cameras" from name to camera')
    return [
        _camera(name, _mapping(name, entry), matrix="K", distortion="dist", rotation="R", translation="t")
        for name, entry in cameras.items()
    ]


def _read_pose2sim(text: str) -> list[CalibratedCamera]:
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise _BadError(f"not valid TOML: {error}") from None
    cameras = []
    for table, entry in data.items():
        if table == "metadata":
            continue
        entry = _mapping(table, entry)
        if entry.get("fisheye"):
            raise _BadError(f"camera {table}: fisheye lenses are not supported")
        name = str(entry.get("name", table))
        cameras.append(
            _camera(
                name, entry, matrix="matrix", distortion="distortions", rotation="rotation", translation="translation"
            )
        )
    return cameras


def _read_qualisys(text: str) -> list[CalibratedCamera]:
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise _BadError("a calibration has no document type or entities")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise _BadError(f"not valid XML: {error}") from None
    return [_qualisys_camera(entry) for entry in root.iter("camera") if entry.get("active", "1") == "1"]


def _qualisys_camera(entry: ElementTree.Element) -> CalibratedCamera:
    name = entry.get("serial", "")
    if entry.get("viewrotation", "0") != "0":
        raise _BadError(f"camera {name}: viewrotation {entry.get('viewrotation')} is not supported, only 0")

    def values(tag: str, *keys: str) -> Floats:
        found = entry.find(tag)
        try:
            assert found is not None
            return np.array([float(found.attrib[key]) for key in keys])
        except (AssertionError, KeyError, ValueError):
            raise _BadError(f"camera {name}: <{tag}> must have the numbers {', '.join(keys)}") from None

    left, top, right, bottom = values("fov_video", "left", "top", "right", "bottom")
    focal = values("intrinsic", "focalLengthU", "focalLengthV") / _QUALISYS_SUBPIXELS
    centre = values("intrinsic", "centerPointU", "centerPointV") / _QUALISYS_SUBPIXELS - (left, top)
    skew = values("intrinsic", "skew")[0]
    keys = (
        "radialDistortion1",
        "radialDistortion2",
        "tangentalDistortion1",
        "tangentalDistortion2",
        "radialDistortion3",
    )
    turn = _QUALISYS_AXES @ values("transform", *(f"r{i}{j}" for i in "123" for j in "123")).reshape(3, 3)
    position = values("transform", "x", "y", "z") / 1000
    return _checked(
        name,
        (int(right - left) + 1, int(bottom - top) + 1),
        np.array([[focal[0], skew, centre[0]], [0, focal[1], centre[1]], [0, 0, 1]]),
        values("intrinsic", *keys),
        turn,
        -turn @ position,
    )


def _mapping(name: str, entry: object) -> Mapping[str, Any]:
    if not isinstance(entry, dict):
        raise _BadError(f"camera {name}: expected a table of its values, found {type(entry).__name__}")
    return entry


def _camera(
    name: str, entry: Mapping[str, Any], *, matrix: str, distortion: str, rotation: str, translation: str
) -> CalibratedCamera:
    """A camera in OpenCV's terms; the keywords say what the file calls them."""
    turn = _array(name, entry, rotation, (3, 3), (3,))
    if turn.shape == (3,):
        turn = np.asarray(cv2.Rodrigues(turn)[0], np.float64)
    size = _array(name, entry, "size", (2,)) if "size" in entry else None
    bent = _array(name, entry, distortion, (4,), (5,), (8,)) if distortion in entry else np.zeros(4)
    offset = entry.get("frame_offset", 0)
    if not isinstance(offset, int):
        raise _BadError(f"camera {name}: frame_offset must be a whole number, found {offset!r}")
    return _checked(
        name,
        None if size is None else (int(size[0]), int(size[1])),
        _array(name, entry, matrix, (3, 3)),
        bent,
        turn,
        _array(name, entry, translation, (3,)),
        offset,
    )


def _array(name: str, entry: Mapping[str, Any], key: str, *shapes: tuple[int, ...]) -> Floats:
    allowed = " or ".join("x".join(map(str, shape)) for shape in shapes)
    if key not in entry:
        raise _BadError(f"camera {name}: {key} is missing ({allowed} numbers)")
    try:
        out = np.array(entry[key], np.float64)
    except (TypeError, ValueError):
        raise _BadError(f"camera {name}: {key} must be {allowed} numbers") from None
    if out.shape not in shapes:
        raise _BadError(
            f"camera {name}: {key} must be {allowed} numbers, found {'x'.join(map(str, out.shape)) or 'one'}"
        )
    return out


def _checked(
    name: str,
    size: tuple[int, int] | None,
    matrix: Floats,
    distortion: Floats,
    rotation: Floats,
    translation: Floats,
    frame_offset: int = 0,
) -> CalibratedCamera:
    if not name:
        raise _BadError("a camera has no name")
    if not all(np.isfinite(values).all() for values in (matrix, distortion, rotation, translation)):
        raise _BadError(f"camera {name}: a value is not finite")
    if not (matrix[0, 0] > 0 and matrix[1, 1] > 0 and np.array_equal(matrix[2], [0, 0, 1])):
        raise _BadError(f"camera {name}: the matrix must be [[fx, skew, cx], [0, fy, cy], [0, 0, 1]] with fx, fy > 0")
    if np.abs(rotation @ rotation.T - np.eye(3)).max() > _ROTATION_TOLERANCE or np.linalg.det(rotation) < 0:
        raise _BadError(f"camera {name}: the rotation is not one (its rows must be right-handed unit vectors)")
    if size is not None and min(size) < 1:
        raise _BadError(f"camera {name}: size must be positive, found {size[0]} x {size[1]}")
    return CalibratedCamera(name, size, matrix, distortion, rotation, translation, frame_offset)
