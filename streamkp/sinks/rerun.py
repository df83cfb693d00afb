"""`rerun`: results, video and what stages add, for the Rerun viewer (https://rerun.io); needs `streamkp[rerun]`.

Of each stream: `STREAM/image` with the picture, and below it boxes, 2D skeletons and annotations; `STREAM/space` with
the 3D poses at their places; `STREAM/plots` with the numbers that plugins add; `STREAM/events`. Time lines: `time`
(when it was captured), `pts` and `frame`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
from pydantic import Field, model_validator

from streamkp.errors import OutputError, UsageError
from streamkp.graph.stage import Sink, StageOptions
from streamkp.packet import FloatArray, Packet, Person
from streamkp.sinks.paths import refuse_existing
from streamkp.skeletons import SKELETONS
from streamkp.vision import draw

QUALITY = 75
SEEN = 0.3  # joints with a lower score are not drawn


class Rerun(Sink):
    """Sends everything to a Rerun viewer, or into a file that it opens."""

    class Options(StageOptions):
        path: Path | None = Field(None, description="File to write (.rrd).")
        overwrite: bool = Field(False, description="Replace the file if it exists.")
        connect: str | None = Field(
            None, description="Address of a running viewer, such as rerun+http://127.0.0.1:9876/proxy."
        )
        spawn: bool = Field(False, description="Start a viewer on this machine.")
        image: bool = Field(True, description="Send the pictures too, as JPEG.")
        image_width: int = Field(640, ge=16, description="Width in pixels of those pictures, at most.")

        @model_validator(mode="after")
        def _one_way(self) -> Self:
            if sum((self.path is not None, self.connect is not None, self.spawn)) != 1:
                raise ValueError("give one of `path`, `connect` and `spawn: true`")
            return self

    options: Options

    @classmethod
    def claims(cls, options: Options) -> Sequence[str]:
        return [f"file {options.path}"] if options.path else []

    @classmethod
    def outputs(cls, options: Options, streams: Sequence[str]) -> Sequence[Path]:
        return [options.path] if options.path else []

    def open(self) -> None:
        try:
            import rerun
        except ImportError:
            raise UsageError(f"{self.context.name}: Rerun is not installed; pip install 'streamkp[rerun]'") from None
        options = self.options
        self._rr = rerun
        self._shown: dict[str, set[int]] = {}
        self._spaces: set[str] = set()  # streams whose axes have been told
        self._recording = rerun.RecordingStream("streamkp")
        try:
            if options.path is not None:
                refuse_existing(self.context.name, options.path, options.overwrite)
                self._recording.save(options.path)
            elif options.connect is not None:
                self._recording.connect_grpc(options.connect)
            else:
                self._recording.spawn()
        except (RuntimeError, ValueError, OSError) as error:
            raise OutputError(f"{self.context.name}: {error}") from None

    def process(self, packet: Packet) -> None:
        recording, rr = self._recording, self._rr
        recording.set_time("time", timestamp=np.datetime64(packet.captured_at, "ns"))
        recording.set_time("pts", duration=np.timedelta64(packet.pts, "ns"))
        recording.set_time("frame", sequence=packet.seq)
        root = [packet.stream]
        scale = min(1.0, self.options.image_width / max(packet.width, 1)) if self.options.image else 1.0
        if self.options.image and packet.image is not None:
            recording.log([*root, "image"], rr.EncodedImage(contents=self._jpeg(packet), media_type="image/jpeg"))
        for person in packet.persons:
            self._log_person(root, person, scale)
        now = {person.track for person in packet.persons}
        for gone in self._shown.get(packet.stream, set()) - now:
            recording.log([*root, "image", "people", str(gone)], rr.Clear(recursive=True))
            recording.log([*root, "space", str(gone)], rr.Clear(recursive=True))
        self._shown[packet.stream] = now
        self._log_annotations(root, packet, scale)
        for event in packet.events:
            words = ", ".join(f"{key} {value}" for key, value in event.items() if key != "type")
            recording.log([*root, "events"], rr.TextLog(f"{event.get('type', 'event')}: {words}"))

    def stream_ended(self, stream: str) -> None:
        self._shown.pop(stream, None)
        self._spaces.discard(stream)

    def close(self) -> None:
        self._recording.disconnect()

    def _jpeg(self, packet: Packet) -> bytes:
        image = packet.image
        assert image is not None
        high, wide = image.shape[:2]
        if wide > self.options.image_width:
            width = self.options.image_width
            size = width, max(1, round(high * width / wide))
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
        return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()

    def _log_person(self, root: list[str], person: Person, scale: float) -> None:
        recording, rr = self._recording, self._rr
        b, g, r = draw.person_colour(person.track)
        color = [r, g, b]
        at = [*root, "image", "people", str(person.track)]
        if np.isfinite(person.box).all():
            x, y, width, height = (person.box * scale).tolist()
            box = rr.Boxes2D(mins=[[x, y]], sizes=[[width, height]], labels=[str(person.track)], colors=[color])
            recording.log([*at, "box"], box)
        if person.keypoints_2d is not None:
            points = person.keypoints_2d.points
            seen = (points[:, 2] >= SEEN) & np.isfinite(points).all(axis=1)
            bones = _bones(person.keypoints_2d.skeleton, points[:, :2] * scale, seen)
            recording.log([*at, "skeleton"], rr.LineStrips2D(bones, colors=[color]))
        pose = person.keypoints_3d
        if pose is not None and np.isfinite(pose.points).all():
            points = pose.points if pose.root is None else pose.points + pose.root
            if root[0] not in self._spaces:
                self._spaces.add(root[0])
                system = rr.ViewCoordinates.RDF if pose.space == "camera" else rr.ViewCoordinates.RUB
                recording.log([*root, "space"], system, static=True)
            bones = _bones(pose.skeleton, points, np.ones(len(points), bool))
            recording.log([*root, "space", str(person.track)], rr.LineStrips3D(bones, colors=[color], radii=0.015))
        for path, value in _numbers(person.extra):
            recording.log([*root, "plots", str(person.track), *path], rr.Scalars(value))

    def _log_annotations(self, root: list[str], packet: Packet, scale: float) -> None:
        recording, rr = self._recording, self._rr
        boxes = {person.track: person.box for person in packet.persons}
        places, texts, lines, colors = [], [], [], []
        for each in packet.annotations:
            if each["type"] == "line":
                lines.append(np.asarray(each["points"], np.float32) * scale)
                color = each.get("color") or "#e8edf5"
                colors.append([int(color[i : i + 2], 16) for i in (1, 3, 5)])
                continue
            at, box = each.get("at"), boxes.get(each.get("track") or -1)
            if at is not None or box is not None:
                place = at if at is not None else (box[0] + box[2] / 2, box[1])  # type: ignore[index]
                places.append([float(value) * scale for value in place])
                texts.append(each["text"])
        labels = rr.Points2D(places, labels=texts, show_labels=True)
        recording.log([*root, "image", "annotations", "labels"], labels)
        recording.log([*root, "image", "annotations", "lines"], rr.LineStrips2D(lines, colors=colors))


def _bones(skeleton: str, points: FloatArray, seen: Any) -> list[FloatArray]:
    if skeleton not in SKELETONS:
        return []
    return [points[[a, b]] for a, b in SKELETONS[skeleton].bones if seen[a] and seen[b]]


def _numbers(found: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], float]]:
    """Every number that plugins have added, with the names that lead to it."""
    for key, value in found.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, (*path, str(key)))
        elif isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value):
            yield (*path, str(key)), float(value)
