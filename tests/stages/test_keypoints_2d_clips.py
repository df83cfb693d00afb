"""The real networks on real clips: who is followed, and for how long."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from streamkp.graph.stage import Feedback
from streamkp.models.registry import open_detector
from streamkp.packet import Image, Packet
from streamkp.stages.keypoints_2d import Keypoints2DStage
from streamkp.testing import make_packet, open_stage

EVERY = 10  # frames between detections, apart from those that are asked for


@dataclass
class Clip:
    packets: list[Packet]
    detections: int

    def frames(self, track: int, *, seen: bool = False) -> list[int]:
        """The frames with this person in them."""
        return [
            packet.seq
            for packet in self.packets
            for person in packet.persons
            if person.track == track and not (seen and person.state == "predicted")
        ]

    @property
    def tracks(self) -> list[int]:
        return sorted({person.track for packet in self.packets for person in packet.persons})


def follow(
    assets: Path,
    name: str,
    detector: str | None,
    change: Callable[[int, Image], Image] | None = None,
    frames: int = 1000,
) -> Clip:
    """Run the stage over a clip as the engine would: a detection that is asked for comes `DELAY` frames later."""
    models = assets / "models"
    find = open_detector(str(models / detector), threads=1) if detector else None
    stage = open_stage(
        Keypoints2DStage, {"model": str(models / "mediapipe" / "pose_landmark_full.tflite"), "threads": 1}
    )
    assert isinstance(stage, Keypoints2DStage)
    stage.context.feedback_out = feedback = Feedback(synchronous=lambda _: True) if find else None
    video = cv2.VideoCapture(str(assets / "clips" / name))
    left, frame = 0, 1e9 / video.get(cv2.CAP_PROP_FPS)
    detections, packets = 0, []
    try:
        while (read := video.read())[0] and len(packets) < frames:
            seq, image = len(packets), read[1]
            image = change(seq, image) if change else image
            packet = make_packet(
                "clip", seq, pts=round(seq * frame), image=image, width=image.shape[1], height=image.shape[0]
            )
            if find and (left == 0 or (feedback is not None and feedback.take(packet))):
                (packet.detections,) = find.detect([image])
                detections, left = detections + 1, EVERY
            left -= 1
            stage.process([packet])
            packet.image = None
            packets.append(packet)
    finally:
        stage.close()
        if find:
            find.close()
    return Clip(packets, detections)


@pytest.fixture(scope="module")
def walk(assets: Path) -> Clip:
    return follow(assets, "sports2d_demo_walk_enter_leave.mp4", "efficientdet_lite0_uint8_320.tflite")


def test_the_walker_is_one_track_from_entering_to_leaving(walk: Clip) -> None:
    """She comes in at the right at frame 40 and is out at the left at frame 205; a man moves on the roof behind."""
    middle = next(p for p in walk.packets if p.seq == 120)
    (walker,) = [person.track for person in middle.persons if person.box[1] + person.box[3] > 900]
    frames = walk.frames(walker)
    assert frames == list(range(frames[0], frames[-1] + 1))
    assert 38 <= frames[0] <= 52
    assert 198 <= frames[-1] <= 215
    centres = [
        person.box[0] + person.box[2] / 2
        for packet in walk.packets
        for person in packet.persons
        if person.track == walker
    ]
    assert np.all(np.diff(centres[::10]) < 0)  # always to the left


def test_the_man_on_the_roof_is_held_where_the_detector_misses_him(walk: Clip) -> None:
    (man,) = [person.track for person in walk.packets[30].persons]
    frames = walk.frames(man, seen=True)
    assert len(frames) > 140
    assert frames == list(range(frames[0], frames[-1] + 1))
    assert len(walk.tracks) <= 4


def test_detections_stay_rare(walk: Clip) -> None:
    assert walk.detections < 2 * len(walk.packets) / EVERY + 5


@pytest.mark.parametrize("camera", ["cam02", "cam03"])
def test_two_or_three_people_keep_their_ids(assets: Path, camera: str) -> None:
    """In cam03 one of two hides behind the other for over a second."""
    clip = follow(assets, f"pose2sim_multi_{camera}.mp4", "efficientdet_lite0_uint8_320.tflite")
    assert len(clip.tracks) == {"cam02": 3, "cam03": 2}[camera]
    assert all(len(clip.frames(track)) == len(clip.packets) for track in clip.tracks)


@pytest.mark.parametrize("detector", ["mediapipe/pose_detection.tflite", None])
def test_one_person_is_followed_with_their_own_detector_or_none(assets: Path, detector: str | None) -> None:
    """After two seconds the picture goes dark: the person is gone within another."""
    clip = follow(
        assets, "squat_single_person.mp4", detector, lambda seq, image: image if seq < 60 else np.zeros_like(image), 120
    )
    assert len({p.track for packet in clip.packets[:60] for p in packet.persons}) == 1
    assert len(clip.frames(1, seen=True)) >= 55
    assert not any(packet.persons or packet.tracks for packet in clip.packets[91:])
