"""Recordings as MCAP files (mcap.dev): a channel for each stream, JSON with a JSON Schema; Foxglove opens them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mcap.writer import CompressionType, IndexType, Writer

from streamkp import wire
from streamkp.sinks.paths import FreshFile
from streamkp.version import __version__

SCHEMA_NAME = "streamkp.Frame"
CHUNK = 64 * 1024  # bytes that a killed process loses at most
_NUMBERS = {"type": "array", "items": {"type": "number"}}


def topic(stream: str) -> str:
    """The channel of a stream."""
    return f"/{stream}/frame"


def frame_schema() -> dict[str, Any]:
    """What viewers plot of a message: they read neither references nor lists in lists. `streamkp schema` has it all."""

    def object_of(**fields: Any) -> dict[str, Any]:
        return {"type": "object", "properties": fields}

    integer, number, text = {"type": "integer"}, {"type": "number"}, {"type": "string"}
    person = object_of(
        track=integer, state=text, box=_NUMBERS, score=number,
        keypoints_2d=object_of(skeleton=text),
        keypoints_3d=object_of(skeleton=text, space=text, frame_seq=integer, root=_NUMBERS, sigma=_NUMBERS),
    )  # fmt: skip
    frame = object_of(
        v=integer, stream=text, epoch=integer, seq=integer, pts=integer, captured_at=integer, published_at=integer,
        width=integer, height=integer, dropped=integer,
        persons={"type": "array", "items": person}, events={"type": "array", "items": object_of(type=text)},
    )  # fmt: skip
    return {"title": SCHEMA_NAME, "description": "A frame of streamkp: `streamkp schema` prints the whole."} | frame


class McapFile:
    """Writes messages to an MCAP file.

    The time of a message is that of its frame: `captured_at` of the stream's first frame, and from there on by `pts`,
    so that a file plays at its own speed however fast it was worked on.
    """

    def __init__(self, path: Path) -> None:
        """Raises OSError where it cannot be written."""
        self._file = FreshFile(path)
        self._writer: Writer | None = None  # from the first message on
        self._schema = 0
        self._channels: dict[str, int] = {}
        self._clocks: dict[str, tuple[int, int, int]] = {}  # epoch, what pts is behind Unix time, the last time

    def write(self, message: wire.Message) -> None:
        """Add a frame. Raises OSError where the file cannot be written."""
        stream = str(message["stream"])
        if self._writer is None:
            self._writer = self._begin()
        if stream not in self._channels:
            self._channels[stream] = self._writer.register_channel(topic(stream), "json", self._schema)
        self._writer.add_message(
            self._channels[stream],
            log_time=self._time(stream, message),
            data=wire.encode(message, "json"),
            publish_time=int(message["published_at"]),
            sequence=int(message["seq"]) & 0xFFFFFFFF,
        )
        self._file.file.flush()  # a piece that is whole goes to the system at once

    def _begin(self) -> Writer:
        file = self._file.begin()
        writer = Writer(file, chunk_size=CHUNK, compression=CompressionType.ZSTD, index_types=IndexType.ALL)
        writer.start(library=f"streamkp {__version__}")
        self._schema = writer.register_schema(SCHEMA_NAME, "jsonschema", json.dumps(frame_schema()).encode())
        return writer

    def _time(self, stream: str, message: wire.Message) -> int:
        epoch, pts = int(message["epoch"]), int(message["pts"])
        known = self._clocks.get(stream)
        if known is None or known[0] != epoch:
            last = 0 if known is None else known[2]
            behind = max(int(message["captured_at"]), last) - pts
        else:
            behind, last = known[1], known[2]
        now = max(pts + behind, last)
        self._clocks[stream] = epoch, behind, now
        return now

    def close(self) -> None:
        """Write the index and close. Raises OSError where that cannot be written."""
        try:
            if self._writer is not None:
                self._writer.finish()  # type: ignore[no-untyped-call]
        finally:
            self._file.close()
