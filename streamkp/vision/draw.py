"""People drawn over an image, and their 3D poses in a corner of it. Nothing here writes to its input.

Colours are BGR: one per person for boxes and ids, one per side of the body for bones, the same as on the page.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from streamkp.packet import Annotation, FloatArray, Image, LabelAnnotation, LineAnnotation, Person
from streamkp.skeletons import SKELETONS

Colour = tuple[int, int, int]

PEOPLE: tuple[Colour, ...] = (
    (164, 209, 90), (84, 180, 255), (255, 168, 122), (182, 126, 255),
    (234, 146, 199), (106, 224, 240), (232, 214, 79), (101, 138, 255),
)  # fmt: skip
LEFT: Colour = (240, 200, 56)
RIGHT: Colour = (69, 159, 255)
MIDDLE: Colour = (245, 237, 232)
DARK: Colour = (22, 15, 11)

Corner = Literal["top right", "top left", "bottom right", "bottom left"]
CORNERS: tuple[Corner, ...] = get_args(Corner)

SEEN = 0.3  # joints with a lower score are not drawn
APART = 0.95  # metres from one person to the next in `inset`
_SHIFT = 4  # fractional bits of the coordinates that OpenCV is given
_FAR = 20_000.0  # pixels; OpenCV's fixed-point coordinates overflow beyond


def person_colour(track: int) -> Colour:
    """The colour of a person's box and id."""
    return PEOPLE[track % len(PEOPLE)]


def overlay(image: Image, persons: Sequence[Person], annotations: Sequence[Annotation] = ()) -> Image:
    """A copy of the image with every person's box, id and 2D skeleton, and what stages ask to be drawn.

    Text is drawn in OpenCV's Hershey font, which has ASCII only; other characters are question marks.
    """
    canvas = image.copy()
    thick = max(1, round(min(canvas.shape[:2]) / 300))
    for person in persons:
        if np.isfinite(person.box).all():
            _draw_box(canvas, person, thick)
        if person.keypoints_2d is not None:
            points = person.keypoints_2d.points
            seen = (points[:, 2] >= SEEN) & np.isfinite(points).all(axis=1)
            _draw_skeleton(canvas, person.keypoints_2d.skeleton, points[:, :2], seen, thick + 1)
        for skeleton, points in _parts(person.extra):
            seen = (points[:, 2] >= SEEN) & np.isfinite(points).all(axis=1)
            _draw_skeleton(canvas, skeleton, points[:, :2], seen, thick)
    for annotation in annotations:
        if annotation["type"] == "line":
            _draw_line(canvas, annotation, thick + 1)
    _draw_labels(canvas, persons, [each for each in annotations if each["type"] == "label"], thick)
    return canvas


def inset(persons: Sequence[Person], size: int, azimuth: float = 0.0, elevation: float = 12.0) -> Image:
    """The 3D poses on a dark square of `size` pixels, seen from there.

    `azimuth` turns the people about the vertical, `elevation` raises the eye, both in degrees; 0, 0 looks as the
    camera does. The view is parallel; 2 m fit, less where more than two people stand side by side, from left to right
    as in the image, each over their id.
    """
    canvas: Image = np.full((size, size, 3), DARK, np.uint8)
    posed = [p for p in persons if p.keypoints_3d is not None and np.isfinite(p.keypoints_3d.points).all()]
    posed.sort(key=lambda person: float(person.box[0]))
    scale = size / max(2.0, APART * len(posed) + 0.1)
    thick = max(2, size // 90)
    for i, person in enumerate(posed):
        assert person.keypoints_3d is not None
        points = person.keypoints_3d.y_down + np.array([APART * (i - (len(posed) - 1) / 2), 0, 0], np.float32)
        flat = view(points, azimuth, elevation)[:, :2] * scale + size / 2
        _draw_skeleton(canvas, person.keypoints_3d.skeleton, flat, np.ones(len(flat), bool), thick)
        if size >= 100:
            foot = flat[:, 0].mean(), min(float(flat[:, 1].max()) + 0.09 * size, 0.97 * size)
            colour = person_colour(person.track)
            cv2.putText(canvas, str(person.track), (int(foot[0]) - size // 40, int(foot[1])), cv2.FONT_HERSHEY_SIMPLEX,
                        size / 500, colour, max(1, thick // 2), cv2.LINE_AA)  # fmt: skip
    cv2.rectangle(canvas, (0, 0), (size - 1, size - 1), (61, 44, 33), 1)
    return canvas


def covered(persons: Sequence[Person], width: int, height: int, side: int) -> NDArray[np.float64]:
    """How much of a square of `side` pixels in each of `CORNERS` lies under people's boxes: (4,), 0..1 and more."""
    boxes = np.array([person.box for person in persons if np.isfinite(person.box).all()], np.float64).reshape(-1, 4)
    shares = []
    for corner in CORNERS:
        x, y = corner_at(corner, width, height, side)
        low = np.maximum(boxes[:, :2], (x, y))
        high = np.minimum(boxes[:, :2] + boxes[:, 2:], (x + side, y + side))
        shares.append(np.clip(high - low, 0, None).prod(axis=1).sum() / side**2)
    return np.array(shares)


def corner_at(corner: Corner, width: int, height: int, side: int) -> tuple[int, int]:
    """Where the square in that corner begins: x, y."""
    return (width - side if "right" in corner else 0, height - side if "bottom" in corner else 0)


def view(points: FloatArray, azimuth: float, elevation: float) -> NDArray[np.float64]:
    """Points (K, 3) of the camera frame as `inset` looks at them, (K, 3): right, down, away; angles in degrees."""
    turn, rise = np.radians([azimuth, elevation])
    about_y = np.array([[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(rise), -np.sin(rise)], [0, np.sin(rise), np.cos(rise)]])
    turned: NDArray[np.float64] = points.astype(np.float64) @ (about_x @ about_y).T
    return turned


def _draw_line(canvas: Image, line: LineAnnotation, thick: int) -> None:
    points = np.asarray(line["points"], np.float64).reshape(-1, 2)
    if not np.isfinite(points).all():
        return
    color = line.get("color")
    bgr: Colour = MIDDLE if color is None else (int(color[5:7], 16), int(color[3:5], 16), int(color[1:3], 16))
    at = (np.clip(points, -_FAR, _FAR) * (1 << _SHIFT)).round().astype(np.int32)
    for colour, wide in ((DARK, thick + 2), (bgr, thick)):
        cv2.polylines(canvas, [at], False, colour, wide, cv2.LINE_AA, _SHIFT)


def _draw_labels(canvas: Image, persons: Sequence[Person], labels: Sequence[LabelAnnotation], thick: int) -> None:
    """Labels at their places; those of one person without a place are stacked over the box, the first at the bottom."""
    font, size, gap = cv2.FONT_HERSHEY_SIMPLEX, 0.45 + 0.2 * thick, 4 + thick
    boxes = {person.track: person.box for person in persons if np.isfinite(person.box).all()}
    raised: dict[int, float] = {}  # how high the labels of each person reach
    for label in labels:
        track, at = label.get("track"), label.get("at")
        lines = label["text"].splitlines()
        sizes = [cv2.getTextSize(line, font, size, thick)[0] for line in lines]
        step = max((high for _, high in sizes), default=0) + 2 * gap
        if at is not None:
            x, y = float(at[0]), float(at[1])
        elif track in boxes:
            box = boxes[track]
            x = float(box[0] + box[2] / 2)
            y = max(float(box[1]) - gap, float(step * len(lines))) - raised.get(track, 0.0)
            raised[track] = raised.get(track, 0.0) + step * len(lines)
        else:
            continue  # of somebody who is not in the picture
        if not (np.isfinite(x) and np.isfinite(y)):
            continue
        x, y = (float(np.clip(value, -_FAR, _FAR)) for value in (x, y))
        colour = MIDDLE if track is None else person_colour(track)
        for row, (line, (wide, high)) in enumerate(reversed(list(zip(lines, sizes, strict=True)))):
            left, base = round(x - wide / 2), round(y - row * step - gap)
            cv2.rectangle(canvas, (left - gap, base - high - gap), (left + wide + gap, base + gap), DARK, cv2.FILLED)
            cv2.putText(canvas, line, (left, base), font, size, colour, thick, cv2.LINE_AA)


def _draw_box(canvas: Image, person: Person, thick: int) -> None:
    colour = person_colour(person.track)
    x, y, width, height = np.clip(person.box, -_FAR, _FAR).round().astype(int).tolist()
    cv2.rectangle(canvas, (x, y), (x + width, y + height), colour, thick, cv2.LINE_AA)
    label, font, size = str(person.track), cv2.FONT_HERSHEY_SIMPLEX, 0.35 + 0.15 * thick
    (wide, high), _ = cv2.getTextSize(label, font, size, thick)
    base = max(y - 4, high + 4)
    cv2.rectangle(canvas, (x, base - high - 4), (x + wide + 6, base + 4), colour, cv2.FILLED)
    cv2.putText(canvas, label, (x + 3, base), font, size, DARK, thick, cv2.LINE_AA)


def _parts(extra: dict[str, Any]) -> Iterator[tuple[str, FloatArray]]:
    """Hands and face, as the stage `keypoints-parts` adds them to a person."""
    yield from (("hand21", points) for points in extra.get("hands", {}).values())
    if "face" in extra:
        yield extra["face"].get("skeleton", "face106"), extra["face"]["points"]


def _draw_skeleton(canvas: Image, name: str, points: NDArray[np.floating], seen: NDArray[np.bool_], thick: int) -> None:
    at = (np.clip(np.nan_to_num(points), -_FAR, _FAR) * (1 << _SHIFT)).round().astype(int).tolist()
    for a, b, colour in _bones(name):
        if seen[a] and seen[b]:
            cv2.line(canvas, at[a], at[b], DARK, thick + 2, cv2.LINE_AA, _SHIFT)
            cv2.line(canvas, at[a], at[b], colour, thick, cv2.LINE_AA, _SHIFT)
    radius = round(thick * 0.9 * (1 << _SHIFT))
    for point, visible in zip(at, seen, strict=True):
        if visible:
            cv2.circle(canvas, point, radius, MIDDLE, cv2.FILLED, cv2.LINE_AA, _SHIFT)


def _bones(name: str) -> Iterator[tuple[int, int, Colour]]:
    """Bones of a layout with their colours; none where the layout is not known."""
    if name not in SKELETONS:
        return
    skeleton = SKELETONS[name]
    for a, b in skeleton.bones:
        sides = {side for joint in (a, b) for side in ("left", "right") if side in skeleton.joints[joint].split("_")}
        yield a, b, {"left": LEFT, "right": RIGHT}[sides.pop()] if len(sides) == 1 else MIDDLE
