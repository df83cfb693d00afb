"""What is published: one message per frame and stream, as msgpack or JSON, with the same keys.

`message()` turns a packet into a plain dict whose points are numpy arrays, `encode()` and `decode()` take it over the
wire and back. The pydantic models below say what a message is; they make the JSON Schema and are not on the hot path.

Numbers are rounded to what they can mean: pixels to 1/100, scores to 1/1000; metres to 0.1 mm in JSON. In msgpack
points are one little-endian float32 blob with its shape.

NaN and infinity never go out. A 2D joint that is not finite is published at 0, 0 with score 0. A person whose box is
not finite, and a 3D pose with any joint that is not, are left out, and the message's `events` say so: a wrong result
is worse than none.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import msgpack
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from streamkp.errors import SourceError
from streamkp.packet import FloatArray, Keypoints2D, Packet, Person

VERSION = 1
Format = Literal["msgpack", "json"]
Message = dict[str, Any]

Score = Annotated[float, Field(ge=0, le=1)]
Nanoseconds = Annotated[int, Field(description="Nanoseconds. Above 2^53: JavaScript rounds it to about 0.3 us.")]


class _Model(BaseModel):
    model_config = ConfigDict(extra="allow")  # readers ignore what they do not know


class Points2DMessage(_Model):
    """Joints in the image, in the order of the named skeleton."""

    skeleton: str
    points: list[tuple[float, float, Score]] = Field(description="x, y in source pixels, score.")


class ExtremitiesMessage(_Model):
    """Face, hands and feet of a lifted pose that has none, in its axes, scale and origin."""

    skeleton: str
    source: str = Field(
        description="blazepose-world: the 2D network's own estimate in space, less certain than a lift; "
        "and hand21: the hands from a network for hands."
    )
    points: list[tuple[float, float, float]] = Field(description="Metres, as in the pose around it.")


class Points3DMessage(_Model):
    """Joints in space, in the order of the named skeleton, the pelvis at the origin."""

    skeleton: str
    space: Literal["camera", "world"]
    frame_seq: int = Field(description="`seq` of the frame that this pose describes; 3D may lag behind 2D.")
    points: list[tuple[float, float, float]] = Field(
        description="Metres. camera: x right, y down, z away from the camera; world: level, x right, y up, z back."
    )
    root: tuple[float, float, float] = Field(  # type: ignore[assignment]
        default=None,
        description="Position of the pelvis, metres. camera: from the camera; world: y above the floor, x and z from "
        "the camera or, where that is not known, 0. Absent where it is not known.",
    )
    sigma: list[Annotated[float, Field(ge=0)]] = Field(
        default=None,  # type: ignore[arg-type]
        description="Standard deviation of each joint's position, metres. Absent where the lifter gives none.",
    )
    extremities: ExtremitiesMessage = Field(default=None, description="Absent where they are not known.")  # type: ignore[assignment]


class PersonMessage(_Model):
    """One person. Further keys are what plugins add, under the plugin's name."""

    track: int
    state: Literal["new", "tracked", "predicted"]
    box: tuple[float, float, float, float] = Field(description="x, y, width, height in source pixels.")
    score: Score
    keypoints_2d: Points2DMessage = Field(default=None, description="Absent where there are none.")  # type: ignore[assignment]
    keypoints_3d: Points3DMessage = Field(default=None, description="Absent where there are none.")  # type: ignore[assignment]


class LabelMessage(_Model):
    """Text to draw over a person's head, or at a place in the image."""

    type: Literal["label"]
    track: int | None = Field(description="The person that it belongs to, if any.")
    text: str
    at: tuple[float, float] | None = Field(
        description="x, y of the middle of its lower edge in source pixels; null for over the person's head."
    )


class LineMessage(_Model):
    """A line to draw over the image."""

    type: Literal["line"]
    points: list[tuple[float, float]] = Field(min_length=2, description="x, y in source pixels.")
    color: Annotated[str, Field(pattern="^#[0-9a-fA-F]{6}$")] | None = Field(description="Null: the viewer chooses.")


class FrameMessage(_Model):
    """One frame of one stream; the only message without a `type`. A frame without people has no persons."""

    v: Literal[1]
    stream: str
    epoch: int = Field(description="Goes up when the stream's clock breaks: reconnect, loop, jump.")
    seq: int = Field(description="Counts decoded frames of the stream from 0; never goes back.")
    pts: Nanoseconds
    captured_at: Nanoseconds
    published_at: Nanoseconds
    width: int
    height: int
    dropped: int = Field(
        ge=0,
        description="Frames lost between the last published one and this; over MQTT also "
        "those that found no room in the buffer while the broker was away.",
    )
    persons: list[PersonMessage]
    events: list[dict[str, Any]]
    annotations: list[LabelMessage | LineMessage] = Field(
        default=None,  # type: ignore[arg-type]
        description="What stages ask to be drawn over the image. Absent where there are none.",
    )


class StatusMessage(_Model):
    """Where a stream stands: over WebSocket on each change and to each new client, over MQTT on a retained topic.

    `connecting` until the first frame; `live` while frames come; `stalled` where the source is there but brings no
    frame; `reconnecting` where the connection failed or was lost and is tried again; `failed` where it was given up;
    `ended` at its proper end. The last two come after the stream's last frame.
    """

    v: Literal[1]
    type: Literal["status"]
    stream: str
    state: Literal["connecting", "live", "stalled", "reconnecting", "paused", "failed", "ended"]
    reason: str | None = Field(description="Why, for people.")
    since: Nanoseconds | None = Field(
        description="Unix time at which the stream came into this state. Null in MQTT's last will: nobody was there."
    )
    epoch: int = Field(description="Of the newest frame.")
    picture: Literal["frozen", "dark"] | None = Field(
        description="What is wrong with the pictures of a live stream: they stand still, or are black."
    )


class LostMessage(_Model):
    """WebSocket only: this client was too slow and lost so many messages before the one that follows."""

    v: Literal[1]
    type: Literal["lost"]
    messages: int = Field(ge=1)


class HintMessage(_Model):
    """WebSocket only: the first message to a client that has chosen no format, as text; binary messages follow."""

    v: Literal[1]
    type: Literal["hint"]
    text: str = Field(description="What follows, and how to get JSON.")


def schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of everything that is published."""
    adapter: TypeAdapter[Any] = TypeAdapter(FrameMessage | StatusMessage | LostMessage | HintMessage)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "streamkp messages, version 1",
        "description": "As JSON. In msgpack the keys are the same, and `points` is a map of `shape` [joints, 3] and "
        "`data`, a binary of little-endian float32, row by row; so is `sigma`, of shape [joints].",
        **adapter.json_schema(),
    }


class DropCounter:
    """Frames of each stream that never reached a sink, seen from the gaps in `seq`."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}

    def count(self, packet: Packet) -> int:
        """Frames lost between the stream's previous packet (or its start) and this one."""
        dropped = max(0, packet.seq - self._last.get(packet.stream, -1) - 1)
        self._last[packet.stream] = packet.seq
        return dropped

    def forget(self, stream: str) -> None:
        """The stream has ended; one of the same name starts afresh."""
        self._last.pop(stream, None)


def message(packet: Packet, published_at: int, dropped: int) -> Message:
    """The message of one packet; points are float32 (K, 3) arrays. The packet is not changed and not kept.

    Raises TypeError when a plugin has added something that has no place in JSON.
    """
    events = [_plain(event, "events") for event in packet.events]
    persons = [p for person in packet.persons if (p := _person(person, events)) is not None]
    annotations = [a for given in packet.annotations if (a := _annotation(given, events)) is not None]
    out: Message = {
        "v": VERSION,
        "stream": packet.stream,
        "epoch": packet.epoch,
        "seq": packet.seq,
        "pts": packet.pts,
        "captured_at": packet.captured_at,
        "published_at": published_at,
        "width": packet.width,
        "height": packet.height,
        "dropped": dropped,
        "persons": persons,
        "events": events,
    }
    if annotations:
        out["annotations"] = annotations
    return out


def status_message(stream: str, status: Mapping[str, Any]) -> Message:
    """Tells where a stream stands; `status` has the fields of `StatusMessage`."""
    return {"v": VERSION, "type": "status", "stream": stream, **status}


def lost_message(messages: int) -> Message:
    """Tells a client how many messages it was too slow for."""
    return {"v": VERSION, "type": "lost", "messages": messages}


def hint_message() -> Message:
    """Tells a client that has chosen no format what it gets."""
    return {
        "v": VERSION,
        "type": "hint",
        "text": "binary msgpack messages follow; for JSON connect to /ws?format=json, or send "
        '{"format": "json"} (?format=msgpack leaves this hint out)',
    }


def encode(message: Message, format: Format) -> bytes:
    """The message as bytes; JSON is one line of UTF-8 without a line end."""
    if format == "msgpack":
        packed: bytes = msgpack.packb(message, default=_blob)
        return packed
    if "persons" in message:
        message = message | {"persons": [_rounded(person) for person in message["persons"]]}
    return _JSON.encode(message).encode()


def decode(data: bytes | str, format: Format | None = None) -> Message:
    """A message from its bytes, points as float32 arrays. Without a format it is told from the first byte.

    Keys that this version does not know are kept. Raises SourceError for anything that is not a message.
    """
    raw = data.encode() if isinstance(data, str) else data
    if format is None:
        format = "json" if raw[:1] == b"{" else "msgpack"
    try:
        if format == "json":
            found = json.loads(raw)
        else:
            found = msgpack.unpackb(raw, object_hook=_array)
        return _checked(found)
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError, msgpack.UnpackException) as error:
        raise SourceError(f"not a streamkp message in {format}: {error or type(error).__name__}") from None


def _person(person: Person, events: list[Any]) -> Message | None:
    box = person.box.tolist()
    if not all(map(math.isfinite, box)):
        events.append({"type": "invalid", "track": person.track, "field": "box"})
        return None
    out: Message = {key: _plain(value, key) for key, value in person.extra.items()}
    out |= {
        "track": int(person.track),
        "state": person.state,
        "box": [round(value, 2) for value in box],
        "score": round(min(max(float(person.score), 0.0), 1.0), 3) if math.isfinite(person.score) else 0.0,
    }
    if person.keypoints_2d is not None:
        out["keypoints_2d"] = _points_2d(person.keypoints_2d)
    pose = person.keypoints_3d
    if pose is not None and not np.isfinite(pose.points).all():
        events.append({"type": "invalid", "track": person.track, "field": "keypoints_3d"})
    elif pose is not None:
        out["keypoints_3d"] = {
            "skeleton": pose.skeleton,
            "space": pose.space,
            "frame_seq": int(pose.frame_seq),
            "points": np.asarray(pose.points, dtype=np.float32),
        }
        if pose.root is not None and np.isfinite(pose.root).all():
            out["keypoints_3d"]["root"] = [round(value, 4) for value in pose.root.tolist()]
        if pose.sigma is not None and _are_deviations(pose.sigma, len(pose.points)):
            out["keypoints_3d"]["sigma"] = np.asarray(pose.sigma, dtype=np.float32)
        more = pose.extremities
        if more is not None and np.isfinite(more.points).all():
            out["keypoints_3d"]["extremities"] = {
                "skeleton": more.skeleton,
                "source": more.source,
                "points": np.asarray(more.points, dtype=np.float32),
            }
    return out


def _annotation(given: Mapping[str, Any], events: list[Any]) -> Message | None:
    """One annotation in plain types; None, and an event, where a coordinate is not finite.

    Raises TypeError for what is no annotation.
    """
    kind = given.get("type")
    places: Sequence[Any]
    if kind == "label":
        track, at = given.get("track"), given.get("at")
        if not isinstance(given.get("text"), str):
            raise TypeError(f"annotations: the text of a label is text, not {given.get('text')!r}")
        places = [] if at is None else [at]
    elif kind == "line":
        places, color = given.get("points", ()), given.get("color")
        if len(places) < 2:
            raise TypeError("annotations: a line has two or more points")
        if color is not None and not (isinstance(color, str) and _COLOR.fullmatch(color)):
            raise TypeError(f'annotations: a color is "#rrggbb" or None, not {color!r}')
    else:
        raise TypeError(f'annotations: the type is "label" or "line", not {kind!r}')
    try:
        points = [[float(x), float(y)] for x, y in places]
    except (TypeError, ValueError):
        raise TypeError(f"annotations: a place is x and y in pixels, not {places!r:.100}") from None
    if not all(math.isfinite(value) for point in points for value in point):
        events.append({"type": "invalid", "track": given.get("track"), "field": "annotations"})
        return None
    points = [[round(value, 2) for value in point] for point in points]
    if kind == "line":
        return {"type": "line", "points": points, "color": color}
    return {
        "type": "label",
        "track": None if track is None else int(track),
        "text": given["text"],
        "at": points[0] if points else None,
    }


def _are_deviations(values: FloatArray, joints: int) -> bool:
    """Whether these are standard deviations, one for each joint."""
    return values.shape == (joints,) and bool(((values >= 0) & (values < np.inf)).all())


def _points_2d(keypoints: Keypoints2D) -> Message:
    points = np.array(keypoints.points, dtype=np.float32)
    finite = np.isfinite(points)
    if not finite.all():
        points[~finite.all(axis=1)] = 0.0
    scores = points[:, 2]
    np.minimum(np.maximum(scores, 0.0, out=scores), 1.0, out=scores)
    return {"skeleton": keypoints.skeleton, "points": points}


def _plain(value: Any, where: str) -> Any:
    """What a plugin has added, in types that both formats have; what is not finite becomes null."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, where) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item(), where)
    if isinstance(value, np.ndarray):
        if value.dtype.kind == "f" and value.ndim and np.isfinite(value).all():
            return np.asarray(value, dtype=np.float32)
        return _plain(value.tolist(), where)
    raise TypeError(f"{where}: {type(value).__name__} cannot be published; use numbers, text, lists, dicts or arrays")


def _blob(value: Any) -> dict[str, Any]:
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{type(value).__name__} cannot be published")
    return {"shape": list(value.shape), "data": np.ascontiguousarray(value, dtype="<f4").tobytes()}


def _array(found: dict[str, Any]) -> Any:
    """Undoes `_blob`; every other map is left as it is."""
    if found.keys() != {"shape", "data"} or not isinstance(found["data"], bytes):
        return found
    shape = found["shape"]
    if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError("the shape of an array is not a list of sizes")
    if 4 * math.prod(shape) != len(found["data"]):
        raise ValueError("the data of an array does not fit its shape")
    return np.frombuffer(found["data"], dtype="<f4").astype(np.float32).reshape(shape)


def _nested(value: Any) -> list[Any]:
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{type(value).__name__} cannot be published")
    nested: list[Any] = np.round(value.astype(np.float64), 4).tolist()
    return nested


_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_nested)
_COLOR = re.compile("#[0-9a-fA-F]{6}")
_STEPS_2D = np.array([100.0, 100.0, 1000.0])  # per pixel, per pixel, per score


def _rounded(person: Message) -> Message:
    """The points in the image as short numbers: of the body, and of hands and face as `keypoints-parts` adds them."""
    out = dict(person)
    for part in ("keypoints_2d", "face"):
        if isinstance(person.get(part), dict) and _is_2d(person[part].get("points")):
            out[part] = person[part] | {"points": _short(person[part]["points"])}
    if isinstance(person.get("hands"), dict):
        out["hands"] = {side: _short(hand) if _is_2d(hand) else hand for side, hand in person["hands"].items()}
    return out


def _is_2d(points: Any) -> bool:
    return isinstance(points, np.ndarray) and points.ndim == 2 and points.shape[1] == len(_STEPS_2D)


def _short(points: FloatArray) -> list[Any]:
    short: list[Any] = (np.rint(points * _STEPS_2D) / _STEPS_2D).tolist()
    return short


def _checked(found: Any) -> Message:
    if not isinstance(found, dict):
        raise ValueError("a message is a map")
    if found.get("v") != VERSION:
        raise ValueError(f"version {found.get('v')!r}, but this program speaks version {VERSION}")
    if "type" in found:
        return found
    _require(found, FrameMessage)
    for annotation in found.get("annotations", ()):
        _check_annotation(annotation)
    for person in found["persons"]:
        _require(person, PersonMessage)
        for key in ("keypoints_2d", "keypoints_3d"):
            if key in person:
                points = np.asarray(person[key]["points"], dtype=np.float32)
                if points.size == 0:
                    points = points.reshape(0, 3)
                if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
                    raise ValueError(f"{key} of track {person.get('track')} are not finite rows of 3 numbers")
                person[key]["points"] = points
        if "extremities" in person.get("keypoints_3d", {}):
            more = person["keypoints_3d"]["extremities"]
            _require(more, ExtremitiesMessage)
            more["points"] = np.asarray(more["points"], dtype=np.float32)
            if more["points"].ndim != 2 or more["points"].shape[1] != 3 or not np.isfinite(more["points"]).all():
                raise ValueError(f"extremities of track {person.get('track')} are not finite rows of 3 numbers")
        if "sigma" in person.get("keypoints_3d", {}):
            pose = person["keypoints_3d"]
            pose["sigma"] = np.asarray(pose["sigma"], dtype=np.float32)
            if (
                pose["sigma"].shape != (len(pose["points"]),)
                or not np.isfinite(pose["sigma"]).all()
                or (pose["sigma"] < 0).any()
            ):
                raise ValueError(f"sigma of track {person.get('track')} is not one number of 0 or more for each joint")
    return found


def _check_annotation(found: Any) -> None:
    try:
        (LabelMessage if found["type"] == "label" else LineMessage).model_validate(found)
    except (TypeError, KeyError, ValidationError):
        raise ValueError(f"{found!r:.100} is no annotation") from None


def _require(found: dict[str, Any], model: type[BaseModel]) -> None:
    missing = [name for name, field in model.model_fields.items() if field.is_required() and name not in found]
    if missing:
        raise ValueError(f"{', '.join(missing)} missing")
