"""Joint layouts against the public definitions, and their conversion."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from streamkp import skeletons
from streamkp.errors import UsageError

ALL = sorted(skeletons.SKELETONS)
CONVERSIONS = [
    ("blazepose33", "coco17"),
    ("blazepose33", "h36m17"),
    ("coco17", "h36m17"),
    ("wholebody133", "coco17"),
    ("wholebody133", "h36m17"),
    ("body15", "h36m17"),
]


@pytest.mark.parametrize("name", ALL)
def test_layout_is_consistent(name: str) -> None:
    skeleton = skeletons.get(name)
    count = len(skeleton)
    assert name.endswith(str(count))
    assert len(set(skeleton.joints)) == count
    assert all(0 <= a < count and 0 <= b < count and a != b for a, b in skeleton.bones)
    assert len(set(map(frozenset, skeleton.bones))) == len(skeleton.bones)
    assert [skeleton.mirror[i] for i in skeleton.mirror] == list(range(count))
    assert skeleton.sigmas is None or (len(skeleton.sigmas) == count and min(skeleton.sigmas) > 0)


@pytest.mark.parametrize("name", ALL)
def test_mirror_swaps_the_sides(name: str) -> None:
    skeleton = skeletons.get(name)
    for i, joint in enumerate(skeleton.joints):
        side = {"left": "right", "right": "left"}.get(joint.split("_")[0])
        if side:
            assert skeleton.joints[skeleton.mirror[i]].startswith(side)


@pytest.mark.parametrize(
    ("name", "public", "same_names"),
    [
        ("coco17", "coco", True),
        ("wholebody133", "coco_wholebody", True),
        ("hand21", "coco_wholebody_hand", True),
        ("h36m17", "h36m", False),
    ],
)
def test_layout_is_the_public_one(golden: Path, name: str, public: str, same_names: bool) -> None:
    facts = json.loads((golden / "keypoint_sets" / "keypoint_sets.json").read_text())["sets"][public]
    skeleton = skeletons.get(name)
    if same_names:
        assert list(skeleton.joints) == facts["names"]
    assert list(skeleton.mirror) == facts["flip_indices"]
    assert set(map(frozenset, skeleton.bones)) == set(map(frozenset, facts["skeleton"]))
    assert list(skeleton.sigmas or ()) == facts["sigmas"]


def test_face106_is_the_public_one(golden: Path) -> None:
    manifest = json.loads((golden / "easycv_face106" / "manifest.json").read_text())
    face = skeletons.get("face106")
    assert list(face.mirror) == manifest["flip_indices"]
    groups = manifest["keypoint_groups"]
    assert {face.joints[i].split("-")[0] for i in groups["brow_image_left"]} == {"right_brow"}
    assert {face.joints[i].split("-")[0] for i in groups["eye_image_right"]} == {"left_eye"}
    assert [face.joints[i] for i in groups["iris_image_left_right"]] == ["right_iris", "left_iris"]
    assert [face.joints[i] for i in groups["eye_centres_image_left_right"]] == [
        "right_eye_centre",
        "left_eye_centre",
    ]


def test_body15_is_the_public_one(golden: Path) -> None:
    notes = json.loads((golden / "hrnet_w48_body15" / "manifest.json").read_text())["keypoint_notes"]
    bones = {frozenset((i, p)) for i, p in enumerate(notes["parents"]) if i != p}
    skeleton = skeletons.get("body15")
    assert set(map(frozenset, skeleton.bones)) == bones
    assert dict(zip(notes["left_ids"], notes["right_ids"], strict=True)) == {
        i: skeleton.mirror[i] for i in notes["left_ids"]
    }


def test_body15_to_h36m17_is_the_reference(golden: Path) -> None:
    with np.load(golden / "tpnet" / "convert15.npz") as data:
        got = skeletons.convert(data["kp15"], "body15", "h36m17")
        np.testing.assert_allclose(got, data["h36m17_nosmooth"], rtol=0, atol=1e-9)


@pytest.mark.parametrize(("source", "target"), CONVERSIONS)
def test_joints_that_both_have_keep_their_place(source: str, target: str) -> None:
    rng = np.random.default_rng(0)
    src, dst = skeletons.get(source), skeletons.get(target)
    points = rng.random((2, 5, len(src), 3)).astype(np.float32)
    before = points.copy()
    out = skeletons.convert(points, source, target)
    assert out.shape == (2, 5, len(dst), 3)
    assert out.dtype == np.float32
    np.testing.assert_array_equal(points, before)
    common = set(src.joints) & set(dst.joints)
    assert len(common) >= 12
    for joint in common:
        np.testing.assert_array_equal(out[..., dst.index(joint), :], points[..., src.index(joint), :])


def test_derived_joints_and_their_scores() -> None:
    points = np.zeros((17, 3))
    coco, h36m = skeletons.get("coco17"), skeletons.get("h36m17")
    for joint, row in {
        "left_hip": (10, 100, 0.9),
        "right_hip": (20, 100, 0.4),
        "left_shoulder": (8, 40, 0.7),
        "right_shoulder": (22, 40, 0.8),
        "left_eye": (13, 10, 0.6),
        "right_eye": (17, 10, 0.5),
        "nose": (15, 14, 0.3),
    }.items():
        points[coco.index(joint)] = row
    out = skeletons.convert(points, "coco17", "h36m17")
    expected = {
        "hip": (15, 100, 0.4),
        "thorax": (15, 40, 0.7),
        "spine": (15, 70, 0.4),
        "head": (15, 10, 0.5),
        "neck_nose": (15, 14, 0.3),
    }
    for joint, row in expected.items():
        np.testing.assert_allclose(out[h36m.index(joint)], row)


def test_bare_coordinates_are_averaged_in_every_channel() -> None:
    points = np.random.default_rng(1).random((33, 3))
    out = skeletons.convert(points, "blazepose33", "h36m17", scored=False)
    np.testing.assert_allclose(out[0], points[23:25].mean(axis=0))
    np.testing.assert_allclose(skeletons.convert(points[:, :2], "blazepose33", "h36m17"), out[:, :2])


@pytest.mark.parametrize(("source", "target"), CONVERSIONS)
def test_conversion_commutes_with_the_mirror(source: str, target: str) -> None:
    points = np.random.default_rng(2).random((len(skeletons.get(source)), 2))
    flipped_first = skeletons.convert(points[list(skeletons.get(source).mirror)], source, target)
    flipped_last = skeletons.convert(points, source, target)[list(skeletons.get(target).mirror)]
    np.testing.assert_allclose(flipped_first, flipped_last, atol=1e-12)


def test_an_empty_batch_and_the_same_layout() -> None:
    assert skeletons.convert(np.zeros((0, 133, 3)), "wholebody133", "h36m17").shape == (0, 17, 3)
    points = np.ones((17, 3))
    same = skeletons.convert(points, "coco17", "coco17")
    assert same is not points
    np.testing.assert_array_equal(same, points)


def test_errors_say_what_is_possible() -> None:
    with pytest.raises(UsageError, match="did you mean 'coco17'"):
        skeletons.get("coco-17")
    with pytest.raises(UsageError, match="from coco17 to body15; it converts to h36m17"):
        skeletons.convert(np.zeros((17, 3)), "coco17", "body15")
    with pytest.raises(ValueError, match=r"\(\.\.\., 17, C\), got \(16, 3\)"):
        skeletons.convert(np.zeros((16, 3)), "coco17", "h36m17")
