"""Detection in parts of an image, for people who are too small for a detector that sees all of it at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from streamkp.packet import Detections, FloatArray, Image
from streamkp.vision.nms import iou

OVERLAP = 0.25  # of a tile with its neighbour: a person narrower than that is whole in one of them
SAME = 0.5  # IoU of two boxes that are one person
INSIDE = 0.75  # share of a box that lies in another: a part of a person, seen in a tile
EDGE = 3.0  # pixels from a cut through the image within which a box is taken to end because of it

Detect = Callable[[Sequence[Image]], list[Detections]]


def tiles(width: int, height: int, count: int) -> Iterator[tuple[int, int, int, int]]:
    """x, y, width, height of `count` x `count` tiles that overlap their neighbours by `OVERLAP` and cover the image."""
    for y, tall in _spans(height, count):
        for x, wide in _spans(width, count):
            yield x, y, wide, tall


def _spans(length: int, count: int) -> list[tuple[int, int]]:
    size = min(length, int(np.ceil(length / (1 + (count - 1) * (1 - OVERLAP)))))
    starts = np.linspace(0, length - size, count).round().astype(int)
    return [(int(start), size) for start in starts]


def detect_in_tiles(detect: Detect, images: Sequence[Image], count: int) -> list[Detections]:
    """People of each image, best first, from the whole of it and from `count` x `count` overlapping tiles.

    A person who is seen in several of them is one. Boxes that a tile has cut off give way to whole ones.

    Args:
        detect: finds people in images, uint8 (H, W, 3) BGR, each with boxes in its own pixels. Called once, with the
            images and all of their tiles.
        images: uint8 (H, W, 3) each.
        count: tiles along each side; 1 is the whole images only.
    """
    if count <= 1 or not images:
        return detect(images)
    parts: list[Image] = []
    for image in images:
        parts.append(image)
        for x, y, wide, tall in tiles(image.shape[1], image.shape[0], count):
            parts.append(np.ascontiguousarray(image[y : y + tall, x : x + wide]))
    found, each = detect(parts), 1 + count**2
    return [_of_image(image, found[i * each : (i + 1) * each], count) for i, image in enumerate(images)]


def _of_image(image: Image, parts: Sequence[Detections], count: int) -> Detections:
    """The people of one image, of which `parts` are those of the whole and of its tiles."""
    height, width = image.shape[:2]
    whole = parts[0]
    boxes, scores, cut = [whole.boxes], [whole.scores], [np.zeros(len(whole.boxes), bool)]
    anchors = [whole.anchors]
    for (x, y, wide, tall), found in zip(tiles(width, height, count), parts[1:], strict=True):
        moved = found.boxes + np.array((x, y, 0, 0), np.float32)
        ends = np.concatenate([moved[:, :2], moved[:, :2] + moved[:, 2:]], axis=1)
        inner = np.array((x > 0, y > 0, x + wide < width, y + tall < height))
        cuts = np.array((x, y, x + wide, y + tall), np.float32)
        boxes.append(moved)
        scores.append(found.scores)
        cut.append(((np.abs(ends - cuts) < EDGE) & inner).any(axis=1))
        anchors.append(None if found.anchors is None else found.anchors + np.array((x, y), np.float32))
    return _merged(np.concatenate(boxes), np.concatenate(scores), np.concatenate(cut), anchors)


def _merged(boxes: FloatArray, scores: FloatArray, cut: np.ndarray, anchors: list[FloatArray | None]) -> Detections:
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    order = np.lexsort((-scores, cut))  # whole boxes first, then by score
    kept: list[int] = []
    for i in order:
        if kept:
            others = corners[kept]
            if (iou(corners[i], others) > SAME).any() or (_inside(corners[i], others) > INSIDE).any():
                continue
        kept.append(int(i))
    best = np.array(sorted(kept, key=lambda i: -float(scores[i])), np.intp)
    points = [a for a in anchors if a is not None]
    return Detections(boxes[best], scores[best], np.concatenate(points)[best] if len(points) == len(anchors) else None)


def _inside(box: FloatArray, others: FloatArray) -> FloatArray:
    """The share (N,) of a box that lies in each of the others."""
    size = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared: FloatArray = np.clip(size, 0, None).prod(axis=1) / max(float((box[2:] - box[:2]).prod()), 1e-6)
    return shared
