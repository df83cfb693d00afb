"""Results in a notebook, and in supervision's own form."""

from __future__ import annotations

import sys
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.testing import assert_array_equal

import streamkp
from streamkp.packet import Keypoints2D
from tests.sinks.walker import make_packet


def _pixels(picture: Any) -> Any:
    return cv2.imdecode(np.frombuffer(picture.data, np.uint8), cv2.IMREAD_COLOR)


def test_show_draws_the_frame_and_the_3d_poses_beside_it() -> None:
    result = make_packet(0, width=320, height=240)
    picture = streamkp.show(result)
    assert picture._repr_mimebundle_ is not None
    image = _pixels(picture)
    assert image.shape == (240, 560, 3)
    assert image[:, 320:].max() > 150, "somebody stands there"
    assert _pixels(streamkp.show(result, width=280)).shape == (120, 280, 3)


def test_show_without_3d_or_image() -> None:
    result = make_packet(0, width=320, height=240)
    result.persons = []
    result.image = None
    image = _pixels(streamkp.show(result))
    assert image.shape == (240, 320, 3)
    assert image.max() < 20


def test_show_without_ipython_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "IPython.display", None)
    with pytest.raises(streamkp.UsageError, match="pip install jupyter"):
        streamkp.show(make_packet(0))


def test_keypoints_as_arrays() -> None:
    points = np.arange(51, dtype=np.float32).reshape(17, 3)
    keypoints = Keypoints2D("coco17", points)
    assert_array_equal(keypoints.xy, points[:, :2])
    assert_array_equal(keypoints.scores, points[:, 2])
    assert np.shares_memory(keypoints.xy, points)


def test_supervision_gets_points_scores_and_tracks() -> None:
    supervision = pytest.importorskip("supervision")
    packet = make_packet(0, people=2)
    found = packet.to_supervision()
    assert isinstance(found, supervision.KeyPoints)
    first = packet.persons[1].keypoints_2d
    assert first is not None
    assert_array_equal(found.xy[1], first.xy)
    assert_array_equal(found.keypoint_confidence[1], first.scores)
    assert found.data["tracker_id"].tolist() == [person.track for person in packet.persons]
    one = first.to_supervision()
    assert one.xy.shape == (1, len(first.points), 2)
    packet.persons = []
    assert len(packet.to_supervision()) == 0


def test_without_supervision_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(streamkp.UsageError, match="pip install supervision"):
        Keypoints2D("coco17", np.zeros((17, 3), np.float32)).to_supervision()
