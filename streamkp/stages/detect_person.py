"""`detect-person`: where the people are, in some of the frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

from pydantic import Field

from streamkp.graph.stage import LIVE, BatchStage, Begun, StageOptions
from streamkp.models import registry
from streamkp.models.registry import open_detector
from streamkp.packet import Detections, Image, Packet
from streamkp.runtimes.base import Device, Precision, Runtime, Threads
from streamkp.vision.tiles import detect_in_tiles


class DetectPerson(BatchStage):
    """Finds the people in the first frame of a stream, in every n-th from there, and whenever a later stage asks.

    A stage that has lost a track asks through the feedback edge. All other frames pass with `detections` None.

    Frames of all streams that are ready go together, without waiting for more, and one call of the detector takes all
    that are to be looked at. Where a detector gains nothing from that, as on a CPU, frames go one by one, and it has a
    thread of its own: frames of other streams pass while it looks.
    """

    takes_feedback = True
    overlaps = True
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
        self._thread = ThreadPoolExecutor(1, f"streamkp-{self.context.name}-detector")
        self._frames_left = self.per_stream(int)  # until the next detection; 0 for a stream or epoch that is new
        self._told: set[str] = set()  # streams of which it was said that people are left out

    def options_changed(self) -> None:
        self._detector.score = self.options.score
        every = self.options.every
        for stream, left in self._frames_left.items():
            self._frames_left[stream] = min(left, every)

    def process(self, batch: Sequence[Packet]) -> Sequence[Packet]:
        return self.begin(batch, crowded=False).result()

    def begin(self, batch: Sequence[Packet], *, crowded: bool) -> Begun:
        wanted = [packet for packet in batch if self._is_wanted(packet)]
        if not wanted:
            return Begun(lambda: self._passed(batch, {}))
        streams = [packet.stream for packet in wanted]
        if self.at_once is None:  # quick, and better for it the more frames have come together meanwhile
            looked = dict(zip(streams, self._look_at(wanted), strict=True))
            return Begun(lambda: self._passed(batch, looked))
        looking = self._thread.submit(self._look_at, wanted)
        looking.add_done_callback(lambda _: self.context.done())
        return Begun(lambda: self._passed(batch, dict(zip(streams, looking.result(), strict=True))), looking.done)

    def _passed(self, batch: Sequence[Packet], looked: Mapping[str, Detections | Exception]) -> Sequence[Packet]:
        """The packets to pass on, with what was found in those of the streams that were looked at."""
        passed = []
        for packet in batch:
            found = looked.get(packet.stream)
            if isinstance(found, Exception):
                if len(batch) == 1:
                    raise found
                self.context.failed(packet, found)
                continue
            if found is not None:
                packet.detections = self._best(packet, found)
                self._frames_left[packet.stream] = self.options.every
            if packet.picture is not None:
                self._frames_left[packet.stream] -= 1
            passed.append(packet)
        return passed

    def _is_wanted(self, packet: Packet) -> bool:
        if packet.picture is None:
            return False
        feedback = self.context.feedback_in
        if feedback is not None and feedback.take(packet):
            self._frames_left[packet.stream] = 0
        return self._frames_left[packet.stream] == 0

    def _look_at(self, packets: Sequence[Packet]) -> list[Detections | Exception]:
        """A frame that cannot be looked at takes no other with it."""
        on_host = self.options.tiles > 1  # where tiles are cut
        try:
            pictures = [packet.image if on_host else registry.picture_for(self._detector, packet) for packet in packets]
            images = [picture for picture in pictures if picture is not None]
            return [*detect_in_tiles(self._detect, images, self.options.tiles)]
        except Exception as error:
            return [error] if len(packets) == 1 else [found for each in packets for found in self._look_at([each])]

    def _detect(self, images: Sequence[Image]) -> list[Detections]:
        step = self.at_once or max(len(images), 1)
        return [found for i in range(0, len(images), step) for found in self._detector.detect(images[i : i + step])]

    def stream_ended(self, stream: str) -> None:
        self._told.discard(stream)

    def close(self) -> None:
        self._thread.shutdown()
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
