"""The crops of the face network, against EasyCV's pipeline."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from streamkp.models.pose2d import face106
from streamkp.vision import affine
from tests.reference import face_crop

IMAGE = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)


def test_face_geometry_is_the_reference(golden: Path) -> None:
    folder = golden / "easycv_face106"
    data, io = np.load(folder / "prepost.npz"), np.load(folder / "io.npz")
    image = io["image_bgr"]
    height, width = image.shape[:2]
    boxes = face_crop.enlarge(data["boxes"], width, height)
    np.testing.assert_allclose(boxes, data["expanded"])
    landmarks = data["landmarks5"].reshape(3, 5, 2)
    angle = face_crop.eye_angle(landmarks[:, :2])
    np.testing.assert_allclose(angle, data["theta"])
    turn = face_crop.rotation(angle, width, height)
    np.testing.assert_allclose(turn, data["M"], atol=1e-6)
    corners = boxes[:, [0, 1, 2, 1, 0, 3, 2, 3]].reshape(3, 4, 2)
    turned = affine.transform(turn, np.concatenate([landmarks, corners], axis=1))
    np.testing.assert_allclose(turned, data["rotated"], atol=1e-4)
    crop_boxes = face_crop.bounds(turned, width, height)
    np.testing.assert_array_equal(crop_boxes, data["crop_box"])
    left, top, right, bottom = crop_boxes[0]
    upright = affine.crop(image, turn[:1], (width, height))[0]
    np.testing.assert_array_equal(upright[top:bottom, left:right], data["crop0"])

    scale = data["refine_points_offset_scale"]
    points = io["points_image"] * scale + crop_boxes[:, None, :2]
    np.testing.assert_array_equal(face_crop.bounds_of_face(points, width, height), data["recrop_box"])
    back = affine.transform(face_crop.rotation(-angle, width, height), points)
    np.testing.assert_allclose(back, data["points_back"], atol=1e-4)


def test_face_outside_the_image_is_black() -> None:
    boxes = face_crop.bounds(np.array([[[200.0, 10], [300, 50]]]), 120, 90)
    assert not face_crop.crop(IMAGE, boxes).any()


def test_an_upright_crop_of_whole_pixels_is_the_reference_crop() -> None:
    box = np.array([[20, 10, 70, 80]])
    out = np.empty((96, 96, 3), np.uint8)
    face106.crop_upright(IMAGE, np.array((45, 45, 50, 70, 0), np.float32), out)
    np.testing.assert_array_equal(out, face_crop.crop(IMAGE, box)[0])
    points = np.array([[0, 0], [48, 48], [96, 96]], np.float32)
    back = face106.upright_to_image(points, np.array((45, 45, 50, 70, 0), np.float32))
    np.testing.assert_allclose(back, face_crop.to_image(points[None], box)[0])
