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

from pydantic import Field

from streamkp.graph.stage import LIVE, BatchStage, Begun, StageOptions
from streamkp.models import registry
from streamkp.models.registry import PoseEstimator, open_estimator
from streamkp.packet import Image, Keypoints2D, Keypoints3D, Packet, Person
from streamkp.poses import Pose, Region
from streamkp.runtimes.base import Device, Precision, Runtime, Threads
from streamkp.tracking.tracker import CropRequest, Frame, Track, Tracker, TrackerOptions


@dataclass(slots=True)
class _Stream:
    """What is known of a stream within one epoch."""

    tracker: Tracker | None = None  # made with the first packet, which tells the stream's name
    detector: bool = False  # a detector has looked at a frame


@dataclass(slots=True)
class _Crop:
    """One request of one frame, where the network looks for it, and what it said so far."""

    image: Image
    request: CropRequest
    region: Region
    pose: Pose | None = None


@dataclass(slots=True)
class _Followed:
    """A packet with an image on its way through the network."""

    packet: Packet
    tracker: Tracker
    frame: Frame
    crops: list[_Crop]


class Keypoints2DStage(BatchStage):
    """Estimates 2D keypoints and follows people: one crop per person and frame, two for a new person.

    Detections may come with every frame, now and then, or never: without any detector the whole image is taken for
    one person's box. Frames without an image pass unchanged.
    """

    sends_feedback: ClassVar[bool] = True
    overlaps: ClassVar[bool] = True

    needs = ("image",)
    gives = ("keypoints_2d",)

    class Options(StageOptions):
        model: str = Field("blazepose-full", description="2D pose network: catalog name or file.")
        checkpoint: str | None = Field(None, description="File with other weights for a torch network of the catalog.")
        device: Device = Field("auto", description="Where the network runs; auto is the GPU where it can run there.")
        runtime: Runtime = Field("auto", description="What runs the network.")
        flip: bool = Field(False, description="Average a heatmap network over each crop and its mirror image.")
        precision: Precision = Field("f32", description="Arithmetic of the network.")
        threads: Threads = Field(
            "auto", description="CPU threads of the network; auto is all, for several crops at once."
        )
        tracker: Literal["sort"] = Field("sort", description="How people are followed: Kalman filter and assignment.")
        max_persons: int = Field(16, ge=1, description="People followed at most, per stream.", json_schema_extra=LIVE)
        min_score: float = Field(
            0.5, ge=0, le=1, description="Least presence of a person in a region.", json_schema_extra=LIVE
        )
        max_miss: float = Field(
            1.0, gt=0, description="Seconds for which an unseen person is predicted.", json_schema_extra=LIVE
        )
        max_doubt: float = Field(
            0.6,
            gt=0,
            description="Seconds after which a person whom the detector no longer finds is dropped.",
            json_schema_extra=LIVE,
        )

    options: Options

    @classmethod
    def check(cls, options: Options) -> None:
        registry.check(options.model, registry.KEYPOINTS)

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
        self.batch_independent = getattr(self._estimator, "batch_independent", False)
        self.at_once = getattr(self._estimator, "at_once", None)
        self._tracking = self._thresholds()
        self._streams = self.per_stream(_Stream)
        self._told: set[str] = set()  # streams of which it was said that people are left out
        # Not in `_streams`: a new epoch forgets the tracks, but their numbers must not come again.
        self._ids: defaultdict[str, Iterator[int]] = defaultdict(lambda: itertools.count(1))

    def close(self) -> None:
        self._estimator.close()

    def options_changed(self) -> None:
        self._tracking = self._thresholds()
        for stream in self._streams.values():
            if stream.tracker is not None:
                stream.tracker.options = self._tracking

    def _thresholds(self) -> TrackerOptions:
        o = self.options
        return TrackerOptions(o.max_persons, o.min_score, o.max_miss, o.max_doubt)

    def stream_ended(self, stream: str) -> None:
        self._ids.pop(stream, None)
        self._told.discard(stream)

    def process(self, batch: Sequence[Packet]) -> Sequence[Packet]:
        return self.begin(batch, crowded=False).result()

    def begin(self, batch: Sequence[Packet], *, crowded: bool) -> Begun:
        pictures = [(packet, registry.picture_for(self._estimator, packet)) for packet in batch]
        frames = [self._proposed(packet, picture) for packet, picture in pictures if picture is not None]
        crops = [crop for frame in frames for crop in frame.crops]
        poses = registry.start(self._estimator, [(crop.image, crop.region) for crop in crops], crowded=crowded)

        def finish() -> Sequence[Packet]:
            for crop, pose in zip(crops, poses(), strict=True):
                crop.pose = pose
            self._look_again(crops)
            for frame in frames:
                self._follow(frame)
            for packet in batch:
                if packet.picture is None:
                    self._pass_on(packet)
            return batch

        return Begun(finish)

    def _look_again(self, crops: Sequence[_Crop]) -> None:
        """At people who are new: the first region was only a guess."""
        newcomers = [crop for crop in crops if crop.request.newcomer and crop.pose is not None]
        for crop in newcomers:
            assert crop.pose is not None
            crop.region = crop.pose.next_region
        again = [crop for crop in newcomers if crop.pose and crop.pose.presence >= self.options.min_score]
        if again:
            poses = self._estimator.estimate([(crop.image, crop.region) for crop in again])
            for crop, pose in zip(again, poses, strict=True):
                crop.pose = pose

    def _proposed(self, packet: Packet, image: Image) -> _Followed:
        stream = self._streams[packet.stream]
        if stream.tracker is None:
            stream.tracker = Tracker(self._ids[packet.stream], self._tracking, self._estimator)
        stream.detector = stream.detector or packet.detections is not None
        boxes = packet.detections.boxes if packet.detections is not None else None
        if boxes is not None and len(boxes) > self.options.max_persons and packet.stream not in self._told:
            self._told.add(packet.stream)
            self.context.log.warning(
                "%s: %d people were detected in frame %d of stream %s, of whom at most %d are followed "
                "(option max_persons)",
                self.context.name, len(boxes), packet.seq, packet.stream, self.options.max_persons,
            )  # fmt: skip
        detector = stream.detector or self.context.feedback_out is not None
        frame = Frame(packet.pts, packet.width, packet.height, packet.detections, detector)
        requests = stream.tracker.propose(frame)
        return _Followed(packet, stream.tracker, frame, [_Crop(image, request, request.region) for request in requests])

    def _follow(self, followed: _Followed) -> None:
        packet, tracker, crops = followed.packet, followed.tracker, followed.crops
        people = tracker.update(followed.frame, [crop.request for crop in crops], [crop.pose for crop in crops])
        packet.persons = [self._person(track, packet.seq) for track in people]
        packet.tracks = tracker.live
        if self.context.feedback_out is not None and tracker.ask():
            self.context.feedback_out.send(packet, True)

    def _pass_on(self, packet: Packet) -> None:
        tracker = self._streams[packet.stream].tracker
        if tracker is not None and not packet.tracks:
            packet.tracks = tracker.live

    def _person(self, track: Track, seq: int) -> Person:
        skeleton = self._estimator.skeleton
        person = Person(track.id, track.state, track.box, track.pose.presence, Keypoints2D(skeleton, track.pose.points))
        if track.pose.world is not None:
            person.world = Keypoints3D(skeleton, track.pose.world, seq)
        return person
