"""A picture of each joint layout as SVG: the person faces the reader, so that their left is on the right."""

from __future__ import annotations

import math
from collections.abc import Iterable

from streamkp.skeletons import Skeleton

Point = tuple[float, float]

# Of a standing person, x to the reader's right, y down; for the person's left side, mirrored for the right.
_MIDDLE: dict[str, Point] = {
    "nose": (0, 62), "head": (0, 40), "neck_nose": (0, 78), "thorax": (0, 118), "spine": (0, 190), "hip": (0, 262),
}  # fmt: skip
_LEFT: dict[str, Point] = {
    "eye_inner": (12, 46), "eye": (24, 42), "eye_outer": (36, 46), "ear": (52, 58), "mouth": (15, 84),
    "shoulder": (62, 122), "elbow": (106, 190), "wrist": (132, 254), "hip": (38, 266), "knee": (46, 372),
    "ankle": (52, 474), "heel": (40, 500), "foot_index": (92, 512), "pinky": (166, 282), "index": (152, 304),
    "thumb": (118, 296), "big_toe": (74, 514), "small_toe": (98, 500), "hand_root": (0, 0),
}  # fmt: skip


def picture(skeleton: Skeleton) -> str:
    """The layout as an SVG document; the numbers are the joints' indices."""
    points = _points(skeleton)
    xs, ys = [x for x, _ in points.values()], [y for _, y in points.values()]
    pad = 22.0
    left, top = min(xs) - pad, min(ys) - pad
    width, height = max(xs) - left + pad, max(ys) - top + pad
    dense = len(skeleton) > 40
    radius, font = (2.2, 7.0) if dense else (4.0, 12.0)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{left:.0f} {top:.0f} {width:.0f} {height:.0f}" '
        f'width="{min(width * 1.4, 900):.0f}" role="img" aria-label="{skeleton.name}" font-family="sans-serif">',
        f'<rect x="{left:.0f}" y="{top:.0f}" width="{width:.0f}" height="{height:.0f}" fill="#fff"/>',
    ]
    for a, b in skeleton.bones:
        (x1, y1), (x2, y2) = points[a], points[b]
        parts.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#9aa4b2" stroke-width="2"/>'
        )
    for i, (x, y) in points.items():
        words = skeleton.joints[i].split("_")
        side = "#c2410c" if "left" in words else "#1d4ed8" if "right" in words else "#166534"
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{side}"/>')
        parts.append(f'<text x="{x + radius:.1f}" y="{y - radius:.1f}" font-size="{font}" fill="#111">{i}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _points(skeleton: Skeleton) -> dict[int, Point]:
    """Where each joint is drawn; of the face mesh only those on a line are."""
    if skeleton.name == "face478":
        return _face_mesh(skeleton)
    return dict(enumerate(_all_points(skeleton)))


def _all_points(skeleton: Skeleton) -> list[Point]:
    if skeleton.name == "hand21":
        return _hand(0, 0, 1.0)
    if skeleton.name == "face106":
        return _face106()
    if skeleton.name == "wholebody133":  # the face and the hands beside the body, enlarged
        body = [_body(joint) for joint in skeleton.joints[:23]]
        return [*body, *_face68(430, 130), *_hand(620, 330, 1.0), *_hand(330, 330, -1.0)]
    return [_body(joint) for joint in skeleton.joints]


def _body(joint: str) -> Point:
    words = joint.split("_")
    for side, sign in (("left", 1), ("right", -1)):
        if side in words:
            x, y = _LEFT["_".join(word for word in words if word != side)]
            return sign * x, y
    return _MIDDLE[joint]


def _hand(x: float, y: float, sign: float) -> list[Point]:
    """A wrist and five fingers of four joints, thumb first, the fingers upwards; `sign` mirrors it."""
    points = [(x, y + 170.0)]
    for finger, (angle, reach, step) in enumerate(
        ((-58, 62, 30), (-22, 112, 28), (-4, 118, 31), (14, 112, 28), (34, 100, 22))
    ):
        turned = math.radians(angle)
        for joint in range(4):
            length = reach + joint * step - (30 if finger == 0 else 0)
            points.append((x - sign * math.sin(-turned) * length, y + 170 - math.cos(turned) * length))
    return points


def _arc(cx: float, cy: float, rx: float, ry: float, start: float, end: float, count: int) -> list[Point]:
    """`count` points of an ellipse from one angle to another, degrees, clockwise from the reader's right."""
    steps = [math.radians(start + (end - start) * i / (count - 1)) for i in range(count)]
    return [(cx + rx * math.cos(a), cy + ry * math.sin(a)) for a in steps]


def _flipped(points: Iterable[Point], cx: float) -> list[Point]:
    return [(2 * cx - x, y) for x, y in points]


def _face68(cx: float, cy: float) -> list[Point]:
    brow = _arc(cx - 48, cy - 48, 30, 14, 190, 350, 5)
    eye = [(cx - 48 + dx, cy - 22 + dy) for dx, dy in ((-22, 0), (-8, -9), (8, -9), (22, 0), (8, 8), (-8, 8))]
    left_eye = _flipped([eye[i] for i in (3, 2, 1, 0, 5, 4)], cx)
    return [
        *_arc(cx, cy - 14, 108, 134, 180, 0, 17),
        *brow,
        *_flipped(reversed(brow), cx),
        *[(cx, cy - 26 + 16 * i) for i in range(4)],
        *[(cx + dx, cy + 34 + dy) for dx, dy in ((-20, 0), (-10, 4), (0, 7), (10, 4), (20, 0))],
        *eye,
        *left_eye,
        *_arc(cx, cy + 72, 40, 20, 180, 360, 7),
        *_arc(cx, cy + 72, 40, 20, 30, 150, 5),
        *_arc(cx, cy + 72, 26, 8, 180, 360, 5),
        *_arc(cx, cy + 72, 26, 8, 45, 135, 3),
    ]


def _face106() -> list[Point]:
    upper = _arc(-88, -86, 56, 26, 190, 350, 5)
    lower = _arc(-88, -70, 44, 16, 340, 200, 4)
    brow = [*upper, *lower]
    eye = [*_arc(-84, -36, 40, 17, 180, 360, 5), *_arc(-84, -36, 40, 17, 45, 135, 3)]
    left_brow = _flipped([brow[i] for i in (4, 3, 2, 1, 0, 8, 7, 6, 5)], 0)
    left_eye = _flipped([eye[i] for i in (4, 3, 2, 1, 0, 7, 6, 5)], 0)
    mouth = [*_arc(0, 140, 74, 34, 180, 360, 7), *_arc(0, 140, 74, 34, 30, 150, 5)]
    inner = [*_arc(0, 140, 52, 13, 180, 360, 5), *_arc(0, 140, 52, 13, 45, 135, 3)]
    return [
        *_arc(0, -30, 200, 250, 180, 0, 33),
        *brow,
        *left_brow,
        *[(0, -44 + 30 * i) for i in range(4)],
        *_arc(0, 40, 44, 38, 200, -20, 11),
        *eye,
        (-84, -28),
        *left_eye,
        (84, -28),
        *mouth,
        *inner,
        (-84, -40),
        (84, -40),
    ]


def _face_mesh(skeleton: Skeleton) -> dict[int, Point]:
    lines = (
        ((10, 109, 67, 103, 54, 21, 162, 127, 234, 93, 132, 58, 172, 136, 150, 149, 176, 148, 152),
         _arc(0, -20, 200, 260, 270, 90, 19)),
        ((33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7),
         _arc(-84, -40, 52, 24, 180, 517.5, 16)),
        ((46, 53, 52, 65, 55), _arc(-88, -86, 52, 18, 190, 350, 5)),
        ((70, 63, 105, 66, 107), _arc(-88, -100, 58, 26, 190, 350, 5)),
        ((469, 470, 471, 472), _arc(-84, -40, 13, 13, 0, -270, 4)),
        ((468,), [(-84.0, -40.0)]),
        ((168, 6, 197, 195, 5, 4, 1, 19, 94, 2), [(0.0, -60.0 + 14 * i) for i in range(10)]),
        ((45, 220, 115, 48, 64, 98, 97),
         [(-12.0, 14.0), (-20, 10), (-30, 22), (-38, 36), (-36, 50), (-26, 60), (-12, 64)]),
        ((0, 37, 39, 40, 185, 61, 146, 91, 181, 84, 17), _arc(0, 130, 70, 34, 270, 90, 11)),
        ((13, 82, 81, 80, 191, 78, 95, 88, 178, 87, 14), _arc(0, 130, 50, 12, 270, 90, 11)),
    )  # fmt: skip
    right = {i: point for indices, points in lines for i, point in zip(indices, points, strict=True)}
    return right | {skeleton.mirror[i]: (-x, y) for i, (x, y) in right.items() if skeleton.mirror[i] != i}
