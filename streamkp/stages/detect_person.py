"""`detect-person`: where the people are, in some of the frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from streamkp.graph.stage import LIVE, BatchStage, StageOptions
from streamkp.models import registry
from streamkp.models.registry import open_detector
from streamkp.packet import Detections, Image, Packet
from streamkp.runtimes.base import Device, Precision, Runtime, Threads
from streamkp.vision.tiles import detect_in_tiles


class DetectPerson(BatchStage):
    """Finds the people in the first frame of a stream, in every n-th from there, and whenever a later stage asks.

    A stage that has lost a track asks through the feedback edge. All other frames pass with `detections` None.

    Frames of all streams that are ready go together, without waiting for more, and one call of the detector takes all
    that are to be looked at. Where a detector gains nothing from that, as on a CPU, frames go one by one.
    """

    takes_feedback = True
    wait_ms: ClassVar[float] = 0.0

    needs = ("image",)
    gives = ("detections",)

    class Options(StageOptions):
        model: str = Field("efficientdet-lite0", description="Catalog name or file of the detector.")
        every: int = Field(10, ge=1, description="Frames from one detection to the next.", json_schema_extra=LIVE)
        score: float = Field(0.3, ge=0, le=1, description="Least score of a person.", json_schema_extra=LIVE)
        max_persons: int = Field(20, ge=1, description="People kept per frame, the best ones.", json_schema_extra=LIVE)
        tiles: int = Field(
            1,
            ge=1,
            le=8,
            description="Look for small people in so many times so many overlapping parts of the image as well; "
            "2 costs five times as much as 1.",
            json_schema_extra=LIVE,
        )
        device: Device = Field("auto", description="Where the network runs; auto is the GPU where it can run there.")
        runtime: Runtime = Field("auto", description="What runs the network.")
        threads: Threads = Field(1, description="CPU threads; one costs the least CPU time per frame, auto is all.")
        precision: Precision = Field(
            "f32", description="Arithmetic of the network; bf16 is faster on CPUs that have it."
        )

    options: Options

    @classmethod
    def check(cls, options: Options) -> None:
        registry.check(options.model, registry.DETECTION)

    def open(self) -> None:
        o = self.options
        self._detector = open_detector(
            o.model, threads=o.threads, precision=o.precision, device=o.device, runtime=o.runtime, score=o.score
        )
        self.at_once = getattr(self._detector, "at_once", 1)
        self.batch_independent = self.at_once == 1
        self._frames_left = self.per_stream(int)  # until the next detection; 0 for a stream or epoch that is new
        self._told: set[str] = set()  # streams of which it was said that people are left out

    def options_changed(self) -> None:
        self._detector.score = self.options.score
        every = self.options.every
        for stream, left in self._frames_left.items():
            self._frames_left[stream] = min(left, every)

    def process(self, batch: Sequence[Packet]) -> Sequence[Packet]:
        wanted = [packet for packet in batch if self._is_wanted(packet)]
        lost: set[str] = set()
        try:
            self._look_at(wanted)
        except Exception:
            if len(batch) == 1:
                raise
            lost = self._look_at_each(wanted)
        passed = [packet for packet in batch if packet.stream not in lost]
        for packet in passed:
            if packet.picture is not None:
                self._frames_left[packet.stream] -= 1
        return passed

    def _is_wanted(self, packet: Packet) -> bool:
        if packet.picture is None:
            return False
        feedback = self.context.feedback_in
        if feedback is not None and feedback.take(packet):
            self._frames_left[packet.stream] = 0
        return self._frames_left[packet.stream] == 0

    def _look_at(self, packets: Sequence[Packet]) -> None:
        if not packets:
            return
        # Tiles are cut on the host.
        on_host = self.options.tiles > 1
        pictures = [packet.image if on_host else registry.picture_for(self._detector, packet) for packet in packets]
        images = [picture for picture in pictures if picture is not None]
        found = detect_in_tiles(self._detect, images, self.options.tiles)
        for packet, people in zip(packets, found, strict=True):
            packet.detections = self._best(packet, people)
            self._frames_left[packet.stream] = self.options.every

    def _look_at_each(self, packets: Sequence[Packet]) -> set[str]:
        """One by one, so that a frame that cannot be looked at takes no other with it; streams whose frame is lost."""
        lost: set[str] = set()
        for packet in packets:
            try:
                self._look_at([packet])
            except Exception as error:
                lost.add(packet.stream)
                self.context.failed(packet, error)
        return lost

    def _detect(self, images: Sequence[Image]) -> list[Detections]:
        step = self.at_once or max(len(images), 1)
        return [found for i in range(0, len(images), step) for found in self._detector.detect(images[i : i + step])]

    def stream_ended(self, stream: str) -> None:
        self._told.discard(stream)

    def close(self) -> None:
        self._detector.close()

    def _best(self, packet: Packet, found: Detections) -> Detections:
        limit = self.options.max_persons
        if len(found.boxes) > limit and packet.stream not in self._told:
            self._told.add(packet.stream)
            self.context.log.warning(
                "%s: %d people in frame %d of stream %s, of whom the best %d are kept (option max_persons)",
                self.context.name, len(found.boxes), packet.seq, packet.stream, limit,
            )  # fmt: skip
        anchors = None if found.anchors is None else found.anchors[:limit]
        return Detections(found.boxes[:limit], found.scores[:limit], anchors)
