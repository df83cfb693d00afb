"""`keypoints-2d`: the joints of every person, and who is who from frame to frame.

The loop from the keypoints of one frame to the regions of the next stays inside this stage; what goes back upstream,
on the feedback edge, is only the wish for a detection.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from streamkp.graph.stage import BatchStage, StageOptions
from streamkp.hub import store
from streamkp.models.perception import PoseEstimator, open_estimator
from streamkp.packet import Image, Keypoints2D, Keypoints3D, Packet, Person
from streamkp.poses import Pose, Region
from streamkp.tracking.tracker import Look, Track, Tracker, TrackerOptions


@dataclass(slots=True)
class _Stream:
    """What is known of a stream within one epoch."""

    tracker: Tracker | None = None  # made with the first packet, which tells the stream's name
    detector: bool = False  # a detector has looked at a frame


@dataclass(slots=True)
class _Crop:
    """One look of one packet, and what the network said of it so far."""

    packet: Packet
    image: Image
    look: Look
    region: Region
    pose: Pose | None = None


class Keypoints2DStage(BatchStage):
    """Estimates 2D keypoints and follows people: one crop per person and frame, two for a new person.

    Detections may come with every frame, now and then, or never: without any detector the whole image is taken for
    one person's box. Frames without an image pass unchanged.
    """

    sends_feedback: ClassVar[bool] = True

    class Options(StageOptions):
        model: str = Field("blazepose-full", description="2D pose network: catalog name or file.")
        checkpoint: str | None = Field(None, description="File with other weights for a torch network of the catalog.")
        device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where a torch network runs.")
        runtime: Literal["auto", "openvino", "torch"] = Field("auto", description="What runs a torch network.")
        flip: bool = Field(False, description="Average a heatmap network over each crop and its mirror image.")
        precision: Literal["f32", "bf16"] = Field("f32", description="Arithmetic of the network.")
        threads: int = Field(2, ge=1, description="CPU threads of the network.")
        tracker: Literal["sort"] = Field("sort", description="How people are followed: Kalman filter and assignment.")
        max_persons: int = Field(16, ge=1, description="People followed at most, per stream.")
        min_score: float = Field(0.5, ge=0, le=1, description="Least presence of a person in a region.")
        max_miss: float = Field(1.0, gt=0, description="Seconds for which an unseen person is predicted.")
        max_doubt: float = Field(
            0.6, gt=0, description="Seconds after which a person whom the detector no longer finds is a ghost."
        )

    options: Options

    @classmethod
    def check(cls, options: Options) -> None:
        store.check(options.model)

    def open(self) -> None:
        o = self.options
        self._estimator: PoseEstimator = open_estimator(
            o.model,
            threads=o.threads,
            precision=o.precision,
            device=o.device,
            runtime=o.runtime,
            checkpoint=o.checkpoint,
            flip=o.flip,
        )
        self._tracking = TrackerOptions(o.max_persons, o.min_score, o.max_miss, o.max_doubt)
        self._streams = self.per_stream(_Stream)
        # Not in `_streams`: a new epoch forgets the tracks, but their numbers must not come again.
        self._ids: defaultdict[str, Iterator[int]] = defaultdict(lambda: itertools.count(1))

    def close(self) -> None:
        self._estimator.close()

    def stream_ended(self, stream: str) -> None:
        self._ids.pop(stream, None)

    def process(self, batch: Sequence[Packet]) -> Sequence[Packet]:
        crops = [crop for packet in batch for crop in self._looks(packet)]
        self._estimate(crops)
        newcomers = [crop for crop in crops if self._unknown(crop.look) and crop.pose is not None]
        for crop in newcomers:
            assert crop.pose is not None
            crop.region = crop.pose.next_region
        self._estimate([crop for crop in newcomers if crop.pose and crop.pose.presence >= self.options.min_score])
        for packet in batch:
            self._follow(packet, [crop.pose for crop in crops if crop.packet is packet])
        return batch

    def _looks(self, packet: Packet) -> list[_Crop]:
        if packet.image is None:
            return []
        stream = self._streams[packet.stream]
        if stream.tracker is None:
            stream.tracker = Tracker(self._ids[packet.stream], self._tracking)
        stream.detector = stream.detector or packet.detections is not None
        boxes = packet.detections.boxes if packet.detections is not None else None
        looks = stream.tracker.begin(
            packet.pts,
            boxes,
            packet.width,
            packet.height,
            detector=stream.detector or self.context.feedback_out is not None,
        )
        return [_Crop(packet, packet.image, look, self._region(packet, stream.tracker, look)) for look in looks]

    def _region(self, packet: Packet, tracker: Tracker, look: Look) -> Region:
        if look.detection is not None and packet.detections is not None:
            return self._estimator.region_from_detection(packet.detections, look.detection)
        if look.track is not None:
            return tracker.region(look.track)
        return self._estimator.region_from_box(np.array((0, 0, packet.width, packet.height), np.float32))

    @staticmethod
    def _unknown(look: Look) -> bool:
        return look.track is None or look.detection is not None

    def _estimate(self, crops: Sequence[_Crop]) -> None:
        if crops:
            poses = self._estimator.estimate([(crop.image, crop.region) for crop in crops])
            for crop, pose in zip(crops, poses, strict=True):
                crop.pose = pose

    def _follow(self, packet: Packet, poses: Sequence[Pose | None]) -> None:
        tracker = self._streams[packet.stream].tracker
        if packet.image is None:
            if tracker is not None and not packet.tracks:
                packet.tracks = tracker.live
            return
        assert tracker is not None
        people = tracker.finish(poses)
        packet.persons = [self._person(track, packet.seq) for track in people]
        packet.tracks = tracker.live
        if tracker.wants_detection and self.context.feedback_out is not None:
            self.context.feedback_out.send(packet.stream, True)

    def _person(self, track: Track, seq: int) -> Person:
        skeleton = self._estimator.skeleton
        person = Person(track.id, track.state, track.box, track.pose.presence, Keypoints2D(skeleton, track.pose.points))
        if track.pose.world is not None:
            person.world = Keypoints3D(skeleton, track.pose.world, seq)
        return person
