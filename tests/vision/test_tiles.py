from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from streamkp.packet import Detections, Image
from streamkp.vision.tiles import detect_in_tiles, tiles


class Blobs:
    """Finds white rectangles that cover at least `least` of the image that it is given: a detector of coarse input."""

    def __init__(self, least: float) -> None:
        self.least = least

    def __call__(self, images: Sequence[Image]) -> list[Detections]:
        return [self._detect(image) for image in images]

    def _detect(self, image: Image) -> Detections:
        import cv2

        _, _, stats, _ = cv2.connectedComponentsWithStats(image[:, :, 0])
        boxes = stats[1:, :4].astype(np.float32)
        boxes = boxes[boxes[:, 2:].prod(axis=1) >= self.least * image.shape[0] * image.shape[1]]
        scores = np.linspace(0.9, 0.5, len(boxes), dtype=np.float32)
        return Detections(boxes, scores)


def crowd(rows: int, columns: int, size: tuple[int, int] = (40, 70)) -> tuple[Image, np.ndarray]:
    image = np.zeros((720, 1280, 3), np.uint8)
    wide, tall = size
    boxes = []
    for row in range(rows):
        for column in range(columns):
            x, y = 50 + column * 1200 // columns, 30 + row * 680 // rows
            image[y : y + tall, x : x + wide] = 255
            boxes.append((x, y, wide, tall))
    return image, np.array(boxes, np.float32)


@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.parametrize("size", [(1280, 720), (17, 11), (641, 479)])
def test_tiles_cover_the_image_and_overlap(count: int, size: tuple[int, int]) -> None:
    seen = np.zeros(size[::-1], int)
    for x, y, wide, tall in tiles(*size, count):
        assert x >= 0
        assert y >= 0
        assert x + wide <= size[0]
        assert y + tall <= size[1]
        seen[y : y + tall, x : x + wide] += 1
    assert seen.min() >= 1
    assert count == 1 or seen.max() >= 4


def test_small_people_are_found_once_and_where_they_are() -> None:
    image, boxes = crowd(4, 9)
    (found,) = detect_in_tiles(Blobs(0.006), [image], 1)
    assert len(found.boxes) == 0
    (found,) = detect_in_tiles(Blobs(0.006), [image], 2)
    assert sorted(map(tuple, found.boxes.tolist())) == sorted(map(tuple, boxes.tolist()))
    assert (np.diff(found.scores) <= 0).all()


def test_large_people_are_not_taken_to_pieces() -> None:
    image, boxes = crowd(1, 3, (300, 640))
    for count in (1, 2, 3):
        (found,) = detect_in_tiles(Blobs(0.01), [image], count)
        assert sorted(map(tuple, found.boxes.tolist())) == sorted(map(tuple, boxes.tolist()))


def test_nobody() -> None:
    (found,) = detect_in_tiles(Blobs(0.01), [np.zeros((90, 120, 3), np.uint8)], 3)
    assert found.boxes.shape == (0, 4)
    assert detect_in_tiles(Blobs(0.01), [], 3) == []


def test_several_images_are_as_one_by_one_and_share_a_call() -> None:
    images = [crowd(4, 9)[0], np.zeros((90, 120, 3), np.uint8), crowd(2, 4)[0]]
    blobs, calls = Blobs(0.006), []

    def detect(given: Sequence[Image]) -> list[Detections]:
        calls.append(len(given))
        return blobs(given)

    for count in (1, 2, 3):
        together = detect_in_tiles(detect, images, count)
        for found, image in zip(together, images, strict=True):
            (alone,) = detect_in_tiles(blobs, [image], count)
            np.testing.assert_array_equal(found.boxes, alone.boxes)
            np.testing.assert_array_equal(found.scores, alone.scores)
    assert calls == [3, 15, 30]


def test_alignment_points_move_with_their_tile() -> None:
    image, boxes = crowd(2, 4)
    blobs = Blobs(0.006)

    def detect(images: Sequence[Image]) -> list[Detections]:
        return [Detections(d.boxes, d.scores, d.boxes[:, None, :2] + 5) for d in blobs(images)]

    (found,) = detect_in_tiles(detect, [image], 2)
    assert len(found.boxes) == len(boxes)
    assert found.anchors is not None
    np.testing.assert_allclose(found.anchors[:, 0], found.boxes[:, :2] + 5)
