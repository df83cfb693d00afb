from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from streamkp.motion import camera
from tests.reference.cameras import camera_to_world, from_screen_coordinates


@pytest.fixture
def reference(golden: Path) -> dict[str, np.ndarray]:
    return dict(np.load(golden / "videopose3d" / "camera.npz"))


@pytest.mark.parametrize(("width", "height"), [(1000, 1002), (1920, 1080)])
def test_screen_coordinates(reference, width, height):
    points = reference["screen_px"]
    normal = camera.screen_coordinates(points, width, height)
    assert_allclose(normal, reference[f"screen_norm_{width}x{height}"], atol=1e-12)
    assert_allclose(from_screen_coordinates(normal, width, height), points, atol=1e-9)


def test_world_and_camera(reference):
    orientation, position, world = reference["quat"], reference["trans"], reference["world"]
    in_camera = camera.world_to_camera(world, orientation, position)
    assert_allclose(in_camera, reference["world_to_camera"], atol=1e-5)
    assert_allclose(camera_to_world(world, orientation, position), reference["camera_to_world"], atol=1e-5)
    assert_allclose(camera_to_world(in_camera, orientation, position), world, atol=1e-5)


def test_projection(reference):
    values = reference["intrinsics9"][:, None]  # focal 2, centre 2, radial 3, tangential 2
    focal, centre, radial, tangential = np.split(values, [2, 4, 7], axis=-1)
    points = reference["cam_points"]
    assert_allclose(camera.project(points, focal, centre, radial, tangential), reference["project_2d"], atol=1e-5)
    assert_allclose(camera.project(points, focal, centre), reference["project_2d_linear"], atol=1e-5)


def test_canonical_coordinates_undo_a_pinhole_camera():
    intrinsics = camera.Intrinsics((900.0, 910.0), (320.0, 240.0))
    points = np.array([[0.3, -0.2, 2.0], [-0.5, 0.4, 4.0]])
    pixels = camera.project(points, intrinsics.focal, intrinsics.centre)
    plane = camera.canonical_coordinates(pixels, intrinsics)
    assert_allclose(plane, points[:, :2] / points[:, 2:], atol=1e-12)


def test_an_unknown_camera_looks_through_the_middle_of_the_image():
    assumed = camera.Intrinsics.assumed(720, 1280)
    assert assumed == camera.Intrinsics((1280.0, 1280.0), (360.0, 640.0))
