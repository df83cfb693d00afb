"""What flows through a graph: one `Packet` per frame and stream, filled in by the stages on its way.

Units: pixels of the source image for 2D (origin top-left, x right, y down), metres for 3D (camera frame: x right,
y down, z away from the camera), integer nanoseconds for time, scores in 0..1.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NotRequired, Protocol, TypedDict, cast

import numpy as np
from numpy.typing import NDArray

from streamkp.errors import UsageError

FloatArray = NDArray[np.float32]
Image = NDArray[np.uint8]  # H x W x 3, BGR, C-contiguous, never copied and never written to by a stage


class DevicePicture(Protocol):
    """An image in the memory of a GPU; `shape` is (height, width, 3)."""

    shape: tuple[int, int, int]

    def pixels(self) -> Image:
        """The image on the host, fetched the first time; shared, not to be written."""


AnyImage = Image | DevicePicture


def pixels_of(picture: AnyImage) -> Image:
    """A picture as an image on the host, fetched if it is on a GPU."""
    return picture if isinstance(picture, np.ndarray) else picture.pixels()


TrackState = Literal["new", "tracked", "predicted"]
Space = Literal["camera", "world"]

WINDOW_FRAMES = 96  # poses in a window, where neither the graph nor a reader asks for more


@dataclass(slots=True)
class Keypoints2D:
    """Joints of one person in the image.

    Attributes:
        skeleton: name of the joint layout, see `streamkp.plugin.skeleton`.
        points: float32 (K, 3), a row for each joint: x, y in pixels of the source image (origin top left, x right, y
            down), score 0..1.
    """

    skeleton: str
    points: FloatArray

    @property
    def xy(self) -> FloatArray:
        """float32 (K, 2): x, y in source pixels; a view of `points`."""
        return self.points[:, :2]

    @property
    def scores(self) -> FloatArray:
        """float32 (K,), 0..1; a view of `points`."""
        return self.points[:, 2]

    def to_supervision(self) -> Any:
        """The same as `supervision.KeyPoints` of one person, to draw or to go on with there.

        Raises:
            UsageError: the package supervision is not installed.
        """
        return _supervision([self], {})


@dataclass(slots=True)
class Extremities:
    """Face, hands and feet to go with a lifted pose that has none of them.

    `points` is float32 (K, 3), in the axes, scale and origin of the pose that they belong to. `source` says where they
    come from ("blazepose-world": the 2D network's own estimate in space; "... and hand21": hands from a network for
    hands), for they are less certain than the body.
    """

    skeleton: str
    points: FloatArray
    source: str


@dataclass(slots=True)
class Keypoints3D:
    """Joints of one person in space.

    Attributes:
        skeleton: name of the joint layout, see `streamkp.plugin.skeleton`.
        points: float32 (K, 3), a row for each joint, in metres, pelvis at the origin; axes as `space` says.
        frame_seq: `seq` of the frame that the pose describes: with look-ahead it is older than the packet.
        space: axes of `points`: "camera" (x right, y down, z away from the camera) or "world" (level: x right, y up,
            z back towards the camera).
        root: float32 (3,), position of the pelvis in metres, in those axes: from the camera, where the lifter was asked
            for it; in the world y is above the floor.
        sigma: float32 (K,), standard deviation of each joint's position in metres, where the lifter estimates it.
        extremities: face, hands and feet of the same frame, where something above knows them.
    """

    skeleton: str
    points: FloatArray
    frame_seq: int
    space: Space = "camera"
    root: FloatArray | None = None
    sigma: FloatArray | None = None
    extremities: Extremities | None = None

    @property
    def y_down(self) -> FloatArray:
        """`points` with x right, y down and z away, of a pose in the world too."""
        return self.points if self.space == "camera" else self.points * np.array([1, -1, -1], np.float32)


@dataclass(slots=True)
class PoseWindow:
    """The last N poses of one track, oldest first.

    The arrays are read-only views into the track's ring buffer that later frames never write to, so another thread
    may keep and read them. The first N - `valid` rows repeat the oldest pose.

    Attributes:
        skeleton: joint layout of the poses.
        points: float32 (N, K, 3): x, y in source pixels, score.
        pts: int64 (N,), time of each row in ns.
        seq: int64 (N,), the frame nearest in time to each row.
        valid: rows that are not repetitions, 1..N.
        width, height: of the image in pixels.
        row: number of the newest row. Rows are numbered consecutively within a track; when the window starts afresh
            (a silence, another image size) a number is left out.
        rate: rows per second of the time grid; None where every frame is a row.
    """

    skeleton: str
    points: FloatArray
    pts: NDArray[np.int64]
    seq: NDArray[np.int64]
    valid: int
    width: int
    height: int
    row: int
    rate: float | None = None

    def rows_after(self, row: int) -> int | None:
        """How many rows are newer than number `row`, the last one that a reader has seen.

        None if rows in between are no longer in the window, or the window has started afresh since: the reader must
        then start afresh too, from all `valid` rows.
        """
        new = self.row - row
        return new if 0 <= new <= self.valid else None


@dataclass(frozen=True)
class WindowRequest:
    """What a stage needs of the window stage above it.

    Attributes:
        by: what reads the window, for messages.
        skeleton: joint layout of the poses; None for any.
        rate: poses per second; None for any.
        frames: poses that are read of each window.
        least: poses without which the results would be wrong.
    """

    by: str
    skeleton: str | None
    rate: float | None
    frames: int
    least: int = 1


@dataclass(slots=True)
class Detections:
    """People found by a detector in one frame.

    `boxes` is float32 (N, 4): x, y, w, h in source pixels; `scores` float32 (N,). `anchors`, where the detector gives
    them, is float32 (N, P, 2): alignment points in source pixels (BlazePose: mid hip, full-body circle point, mid
    shoulder, upper-body circle point).
    """

    boxes: FloatArray
    scores: FloatArray
    anchors: FloatArray | None = None


@dataclass(slots=True)
class Person:
    """One tracked person in one frame.

    Attributes:
        track: id of the person within the stream and epoch, from 1 up; never used again for somebody else.
        state: "new" in the first frame, then "tracked", or "predicted" where the person was not seen in this frame.
        box: float32 (4,): x, y of the top left corner, width, height, in source pixels.
        score: 0..1.
        keypoints_2d: joints in the image, None where no stage has found any.
        keypoints_3d: joints in space, None where nothing lifts.
        window: the latest 2D poses, where the graph has a `window` stage.
        world: the 2D network's own 3D estimate, where it has one (BlazePose).
        extra: what plugins add, under the plugin's name.
    """

    track: int
    state: TrackState
    box: FloatArray
    score: float
    keypoints_2d: Keypoints2D | None = None
    keypoints_3d: Keypoints3D | None = None
    window: PoseWindow | None = None
    world: Keypoints3D | None = None  # the 2D network's own 3D estimate, where it has one
    extra: dict[str, Any] = field(default_factory=dict)  # what plugins add, under the plugin's name


class LabelAnnotation(TypedDict):
    """Text over a person's head, or at a place in the image; several over one head are stacked.

    Attributes:
        track: the person that it belongs to, whose colour it has; None for nobody's.
        text: what is written; line feeds begin a new line.
        at: x, y of the middle of its lower edge in source pixels; None for over the person's head.
    """

    type: Literal["label"]
    text: str
    track: NotRequired[int | None]
    at: NotRequired[Sequence[float] | None]


class LineAnnotation(TypedDict):
    """A line through two or more points.

    Attributes:
        points: x, y of each in source pixels; a line that ends where it begins is closed.
        color: "#rrggbb"; None for the viewer's own.
    """

    type: Literal["line"]
    points: Sequence[Sequence[float]]
    color: NotRequired[str | None]


Annotation = LabelAnnotation | LineAnnotation


@dataclass(slots=True)
class Packet:
    """One frame of one stream.

    `seq` counts decoded frames and never goes back within a stream, not even over an epoch change; `epoch` goes up
    when the stream's clock breaks. `pts` is the source's own clock, `captured_at` is Unix time, both nanoseconds.
    `image` is the frame on the host; `picture` is it as given to `image`, which may be in the memory of a GPU: its
    pixels are fetched when `image` is first read, so that to know whether there is one, ask whether `picture` is None.
    `detections` is None where no detector looked at this frame. `tracks` is the set of all live track ids, including
    those not visible in this frame: what is not in it has ended, even if the packet that said so was dropped.
    `annotations` are labels and lines that stages ask to be drawn over the image, by `render` and by viewers.
    `played_at` is when a frame of a recording was played again (Unix time, nanoseconds): `captured_at` is that of the
    recording then, and says nothing of how late a result is.
    """

    stream: str
    epoch: int
    seq: int
    pts: int
    captured_at: int
    image: Image | None = field(repr=False)  # a property, see below
    width: int
    height: int
    detections: Detections | None = None
    persons: list[Person] = field(default_factory=list)
    tracks: frozenset[int] = frozenset()
    events: list[Mapping[str, Any]] = field(default_factory=list)
    annotations: list[Annotation] = field(default_factory=list)
    trace: Any = field(default=None, repr=False, compare=False)  # of frames that are followed, see graph/tracing.py
    expires_at: int | None = None  # monotonic nanoseconds after which a live result is worthless; None: never
    played_at: int | None = field(default=None, compare=False)
    picture: AnyImage | None = field(init=False, repr=False, compare=False)

    @property
    def since(self) -> int:
        """Unix time (ns) from which the latency of its results counts."""
        return self.captured_at if self.played_at is None else self.played_at

    def to_supervision(self) -> Any:
        """The 2D keypoints of everybody as `supervision.KeyPoints`: (N, K, 2), with `data["tracker_id"]`.

        Raises:
            UsageError: the package supervision is not installed, or people of one frame have several skeletons.
        """
        found = [(person.track, person.keypoints_2d) for person in self.persons if person.keypoints_2d is not None]
        return _supervision([keypoints for _, keypoints in found], {"tracker_id": np.array([t for t, _ in found], int)})

    def fork(self) -> Packet:
        """A second packet of the same frame for another branch of the graph; the image is shared, not copied."""
        return replace(
            self,
            image=cast("Image | None", self.picture),
            persons=[replace(p, extra=dict(p.extra)) for p in self.persons],
            events=list(self.events),
            annotations=list(self.annotations),
        )

    def merge(self, other: Packet) -> None:
        """Take over what another branch has added to the same frame; what is set here already stays."""
        if self.detections is None:
            self.detections = other.detections
        if not self.tracks:
            self.tracks = other.tracks
        mine = {p.track: p for p in self.persons}
        for theirs in other.persons:
            person = mine.get(theirs.track)
            if person is None:
                self.persons.append(theirs)
                continue
            for name in ("keypoints_2d", "keypoints_3d", "window", "world"):
                if getattr(person, name) is None:
                    setattr(person, name, getattr(theirs, name))
            for key, value in theirs.extra.items():
                person.extra.setdefault(key, value)
        for event in other.events:
            if event not in self.events:
                self.events.append(event)
        mine_too = {id(annotation) for annotation in self.annotations}  # those from before the branches parted
        self.annotations += [annotation for annotation in other.annotations if id(annotation) not in mine_too]


def _supervision(people: list[Keypoints2D], data: dict[str, NDArray[Any]]) -> Any:
    try:
        from supervision import KeyPoints
    except ImportError:
        raise UsageError("to_supervision needs the package supervision: pip install supervision") from None
    if len({keypoints.skeleton for keypoints in people}) > 1:
        raise UsageError("supervision.KeyPoints holds people of one skeleton, and these have several")
    if not people:
        return KeyPoints.empty()
    points = np.stack([keypoints.points for keypoints in people])
    about: dict[str, Any] = {"data": data} if data else {}
    names = inspect.signature(KeyPoints).parameters
    scores = "keypoint_confidence" if "keypoint_confidence" in names else "confidence"  # as it was called until 0.27
    return KeyPoints(points[..., :2].copy(), **{scores: points[..., 2].copy()}, **about)


def _image(packet: Packet) -> Image | None:
    return None if packet.picture is None else pixels_of(packet.picture)


def _set_image(packet: Packet, image: AnyImage | None) -> None:
    packet.picture = image


# Only now: in the class, the property would be the default of the field.
Packet.image = property(_image, _set_image)  # type: ignore[misc,assignment,unused-ignore]
