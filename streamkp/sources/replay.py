"""Recordings of `record`, played again: JSON Lines, plain or gzip, and MCAP.

The packets carry what was recorded (persons, keypoints, events, what plugins added) and no image, so that every stage
after the keypoints can run on them. Published again, they give the recorded messages but for `published_at`, and for
what stages of the graph tell anew (`Stage.retells`): repetitions that were counted are not counted twice.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Collection, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import parse_qsl

import numpy as np
import zstandard
from mcap.exceptions import EndOfFile, McapError
from mcap.reader import McapReader, NonSeekingReader, SeekingReader
from pydantic import Field

from streamkp import wire
from streamkp.errors import SourceError
from streamkp.graph.stage import Source, StageOptions, StreamContext
from streamkp.packet import Extremities, Keypoints2D, Keypoints3D, Packet, Person
from streamkp.sources.video_file import check_path

PREFIX = "replay://"
MCAP = b"\x89MCAP0\r\n"  # how such a file begins
MCAP_SCHEMA = "streamkp.Frame"
MOST_LINE = 64 * 1024 * 1024  # bytes of one frame
LOOK = 64  # frames that are looked at for a second stream before any is played
LINGER = 1_000_000_000  # ns for which a track that is not seen is still alive; recordings do not say when one ended
_PERSON = {"track", "state", "box", "score", "keypoints_2d", "keypoints_3d"}
_HANDS = {"hands", "hands_world", "hands_depth"}
_FACE = {"points", "depth", "angles"}


class Recording(NamedTuple):
    """What a `replay://` address names: the file, which stream of it, from where (s), and how fast."""

    path: Path
    stream: str | None = None
    start: float = 0.0
    speed: float | None = None


class Replay(Source):
    """Plays recordings: `replay://walk.jsonl.gz`, or just the file.

    An address may end in `?stream=cam&start=10&speed=2`: which stream of a recording of several, from which second on,
    and how much faster than it was recorded (without it, as fast as the graph takes it, or with `realtime: true` at
    its own speed).
    """

    class Options(StageOptions):
        start: float = Field(0.0, ge=0, description="Seconds of the recording to leave out at the beginning.")
        speed: float | None = Field(
            None, gt=0, description="2: twice as fast as recorded; null: as fast as the graph takes it."
        )

    options: Options

    @classmethod
    def is_live(cls, uri: str) -> bool:
        """Never: a recording waits."""
        return False

    @classmethod
    def file_of(cls, uri: str) -> Path | None:
        """As `Source.file_of`: every address names a recording."""
        return split(uri)[0]

    def frames(self, stream: StreamContext) -> Iterator[Packet]:
        """See `Source.frames`."""
        recording = parse(stream.uri, stream.label)
        return play(stream, recording._replace(start=recording.start or self.options.start,
                                               speed=recording.speed or self.options.speed))  # fmt: skip


def parse(uri: str, label: str) -> Recording:
    """What an address names.

    Raises:
        SourceError: it has a field that is not known, or a value that is no number.
    """
    path, query = split(uri)
    fields = dict(parse_qsl(query))
    if unknown := fields.keys() - {"stream", "start", "speed"}:
        raise SourceError(f"{label}: unknown field {sorted(unknown)[0]!r}; a replay takes stream, start and speed")
    numbers = {}
    for name in ("start", "speed"):
        if name in fields:
            try:
                numbers[name] = float(fields[name])
            except ValueError:
                raise SourceError(f"{label}: {name} is {fields[name]!r}, but must be a number") from None
            if not 0 <= numbers[name] < 1e9 or (name == "speed" and not numbers[name]):
                raise SourceError(f"{label}: {name} is {fields[name]}, which is out of range")
    return Recording(path, fields.get("stream"), numbers.get("start", 0.0), numbers.get("speed"))


def split(uri: str) -> tuple[Path, str]:
    """The file and the fields of an address; a file whose name has a question mark in it is found all the same."""
    text = uri.removeprefix(PREFIX)
    first, _, query = text.partition("?")
    last, _, short = text.rpartition("?")
    for name, fields in ((text, ""), (last, short)):
        try:
            if name and Path(name).expanduser().is_file():
                return Path(name).expanduser(), fields
        except (OSError, ValueError):  # such as a name that is too long
            pass
    return Path(first).expanduser(), query


def play(stream: StreamContext, recording: Recording) -> Iterator[Packet]:
    """The packets of a recording at its speed, again and again with `loop`.

    Raises:
        SourceError: the file cannot be read, or is no recording.
    """
    speed = recording.speed or (1.0 if stream.realtime else None)
    epoch = seq = 0  # added in later rounds, so that neither goes back
    while not stream.stopping:
        last = began = first = None
        held = stream.held
        for packet in without(packets(recording, stream.label, stream.stream), stream.retold):
            packet.epoch += epoch
            packet.seq += seq
            if speed is not None:
                now = stream.clock.monotonic()
                if began is None or first is None or (last is not None and last.epoch != packet.epoch):
                    began, first = now, packet.pts
                began += stream.held - held
                held = stream.held
                if stream.wait(((packet.pts - first) / speed - (now - began)) / 1e9):
                    return
            packet.played_at = stream.clock.now()
            yield packet
            last = packet
            if stream.stopping:
                return
        if not stream.loop or last is None:
            return
        epoch, seq = last.epoch + 1, last.seq + 1


def without(played: Iterator[Packet], retold: Collection[str]) -> Iterator[Packet]:
    """The packets without what stages below tell anew: events of these types, and what is so named of a person."""
    if not retold:
        yield from played
        return
    last = None
    for packet in played:
        told = bool(packet.events)
        packet.events = [event for event in packet.events if event.get("type") not in retold]
        if "annotations" in retold:
            packet.annotations = []
        for person in packet.persons:
            person.extra = {key: value for key, value in person.extra.items() if key not in retold}
        # What a stage had to tell after the last frame was a packet of its own, a nanosecond later: no frame.
        if told and not packet.events and not packet.persons and last is not None and packet.pts == last + 1:
            continue
        last = packet.pts
        yield packet


def packets(recording: Recording, label: str | None = None, name: str | None = None) -> Iterator[Packet]:
    """The packets of a recording one by one, as fast as they are taken; `name` replaces the stream's id.

    Raises:
        SourceError: the file cannot be read, is no recording, or holds several streams and none was chosen.
    """
    label = label or str(recording.path)
    check_path(recording.path, str(recording.path))
    only, begin = recording.stream, None
    alive: dict[int, int] = {}
    count, played, epoch = 0, 0, None
    messages = _messages(recording, label)
    if only is None:
        # Before the first frame goes out, so that a recording that cannot be played as it is writes nothing.
        first, messages = _ahead(messages)
        names = list(dict.fromkeys(message["stream"] for _, message in first))
        only = names[0] if names else None
        if len(names) > 1:
            number = next(number for number, message in first if message["stream"] != only)
            raise _several(recording, label, number, names)
    for number, message in messages:
        if message["stream"] != only:
            if recording.stream is None:
                raise _several(recording, label, number, [str(only), message["stream"]])
            continue
        count += 1
        packet = _packet(message, label, number, name or str(only))
        begin = packet.pts if begin is None else begin
        if packet.epoch == 0 and packet.pts - begin < recording.start * 1e9:
            continue
        if packet.epoch != epoch:
            alive.clear()
        epoch = packet.epoch
        alive |= {person.track: packet.pts for person in packet.persons}
        alive = {track: seen for track, seen in alive.items() if packet.pts - seen <= LINGER}
        packet.tracks = frozenset(alive)
        played += 1
        yield packet
    if count and not played:
        raise SourceError(f"{label} is over before second {recording.start:g}, where it is to start")
    if not count:
        raise SourceError(f"{label} holds no frames of a stream named {only}" if only else f"{label} holds no frames")


def _ahead(
    messages: Iterator[tuple[int, wire.Message]],
) -> tuple[list[tuple[int, wire.Message]], Iterator[tuple[int, wire.Message]]]:
    """The first frames, and all of them again; what is wrong with one is told when its turn comes."""
    first = []
    try:
        for each in islice(messages, LOOK):
            first.append(each)
    except SourceError as error:
        return first, chain(first, _failing(error))
    return first, chain(first, messages)


def _failing(error: SourceError) -> Iterator[tuple[int, wire.Message]]:
    raise error
    yield


def _several(recording: Recording, label: str, number: int, names: list[str]) -> SourceError:
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return SourceError(
        f"{label}:{number}: this recording holds several streams ({shown}); choose one: "
        f"{PREFIX}{recording.path}?stream={names[0]}"
    )


def _messages(recording: Recording, label: str) -> Iterator[tuple[int, wire.Message]]:
    """The frames of a file, each with the number of its line, or of its message in an MCAP file."""
    path = recording.path
    try:
        with path.open("rb") as raw:
            begin = raw.read(len(MCAP))
        if begin == MCAP:
            yield from _mcap(recording, label)
            return
        yield from _lines(path, label, zipped=begin.startswith(b"\x1f\x8b"))
    except OSError as error:
        raise SourceError(f"cannot read {label}: {error.strerror}") from None


def _lines(path: Path, label: str, *, zipped: bool) -> Iterator[tuple[int, wire.Message]]:
    number = 0
    try:
        with gzip.open(path, "rb") if zipped else path.open("rb") as file:
            while line := file.readline(MOST_LINE + 1):
                number += 1
                if len(line) > MOST_LINE:
                    raise SourceError(f"{label}:{number}: this line is too long for a frame; it is no recording")
                if not line.endswith(b"\n") and number > 1:
                    return  # the process that wrote it was killed in the middle of this line
                message = wire.decode(line, "json")
                if "persons" in message:
                    yield number, message
    except SourceError as error:
        text = str(error)
        raise SourceError(text if text.startswith(label) else f"{label}:{number}: {text}") from None
    except EOFError:
        return  # a gzip file that was cut off: the lines before are whole
    except (gzip.BadGzipFile, zlib.error) as error:
        raise SourceError(f"{label} is damaged: {error}") from None


def _mcap(recording: Recording, label: str) -> Iterator[tuple[int, wire.Message]]:
    """The frames of an MCAP file; with `start` the first one, and then those from there on, by the index."""
    number = 0
    topic = recording.stream and f"/{recording.stream}/frame"
    try:
        with recording.path.open("rb") as file:
            for frame in _mcap_messages(file, topic, recording.start):
                number += 1
                message = wire.decode(frame, "json")
                if "persons" in message:
                    yield number, message
    except SourceError as error:
        raise SourceError(f"{label}:{number}: {error}") from None
    except (EndOfFile, McapError, struct.error, zstandard.ZstdError, RuntimeError) as error:
        if number == 0:
            raise SourceError(f"{label} is damaged: {error or type(error).__name__}") from None
        return  # the process that wrote it was killed: the pieces before are whole


def _mcap_messages(file: BinaryIO, topic: str | None, start: float) -> Iterator[bytes]:
    reader: McapReader = SeekingReader(file, validate_crcs=True, record_size_limit=MOST_LINE)
    begin = None
    try:
        summary = reader.get_summary()
    except (EndOfFile, McapError, struct.error, OSError):  # cut off: no index
        summary = None
    if summary is None:
        file.seek(0)
        reader = NonSeekingReader(file, validate_crcs=True, record_size_limit=MOST_LINE)
    elif start > 0:
        for _, _, message in reader.iter_messages(topic):
            begin = message.log_time + round(start * 1e9)
            yield message.data
            break
    for schema, _, message in reader.iter_messages(topic, starting_at=begin, log_time_order=summary is not None):
        if schema is not None and schema.name == MCAP_SCHEMA:
            yield message.data


def _packet(message: wire.Message, label: str, number: int, stream: str) -> Packet:
    try:
        return Packet(
            stream=stream,
            epoch=int(message["epoch"]),
            seq=int(message["seq"]),
            pts=int(message["pts"]),
            captured_at=int(message["captured_at"]),
            image=None,
            width=int(message["width"]),
            height=int(message["height"]),
            persons=[_person(person) for person in message["persons"]],
            events=[dict(event) for event in message["events"]],
            annotations=list(message.get("annotations", ())),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError(f"{label}:{number}: this frame is not complete: {error!r}") from None


def _person(found: Mapping[str, Any]) -> Person:
    if found["state"] not in ("new", "tracked", "predicted"):
        raise ValueError(f"state {found['state']!r}")
    box = np.asarray(found["box"], np.float32)
    if box.shape != (4,):
        raise ValueError("a box is x, y, w, h")
    person = Person(int(found["track"]), found["state"], box, float(found["score"]))
    if (flat := found.get("keypoints_2d")) is not None:
        person.keypoints_2d = Keypoints2D(str(flat["skeleton"]), flat["points"])
    if (solid := found.get("keypoints_3d")) is not None:
        more = solid.get("extremities")
        person.keypoints_3d = Keypoints3D(
            str(solid["skeleton"]),
            solid["points"],
            int(solid["frame_seq"]),
            solid["space"],
            np.asarray(solid["root"], np.float32) if solid.get("root") is not None else None,
            solid.get("sigma"),
            None if more is None else Extremities(str(more["skeleton"]), more["points"], str(more["source"])),
        )
    person.extra = {key: _part(key, value) for key, value in found.items() if key not in _PERSON}
    return person


def _part(key: str, value: Any) -> Any:
    """Hands and faces of `keypoints-parts` as the arrays that they were; what other stages have added as it is."""
    if not isinstance(value, dict):
        return value
    if key in _HANDS:
        return {side: np.asarray(numbers, np.float32) for side, numbers in value.items()}
    if key == "face":
        return {name: np.asarray(each, np.float32) if name in _FACE else each for name, each in value.items()}
    return value
