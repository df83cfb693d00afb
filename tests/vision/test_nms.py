import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streamkp.vision.nms import iou, nms, weighted_nms

BOXES = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60]], np.float32)
SCORES = np.array([0.6, 0.9, 0.5], np.float32)


def test_iou_of_equal_shifted_apart_and_empty_boxes() -> None:
    others = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30], [3, 3, 3, 3]], np.float32)
    assert iou(BOXES[0], others).tolist() == [1, np.float32(50 / 150), 0, 0]


def test_iou_of_two_empty_boxes_is_zero() -> None:
    empty = np.zeros((1, 4), np.float32)
    assert iou(empty[0], empty).tolist() == [0]


def test_the_better_of_two_overlapping_boxes_stays() -> None:
    assert nms(BOXES, SCORES, 0.5).tolist() == [1, 2]
    assert nms(BOXES, SCORES, 0.9).tolist() == [1, 0, 2]
    assert nms(BOXES, SCORES, 0.5, limit=1).tolist() == [1]


def test_nothing_in_nothing_out() -> None:
    assert nms(BOXES[:0], SCORES[:0], 0.5).shape == (0,)
    values, scores = weighted_nms(BOXES[:0], SCORES[:0], BOXES[:0], 0.5)
    assert values.shape == (0, 4)
    assert scores.shape == (0,)


def test_weighted_nms_averages_by_score() -> None:
    values, scores = weighted_nms(BOXES, SCORES, BOXES, 0.5)
    np.testing.assert_allclose(values, [[0.6, 0, 10.6, 10], [50, 50, 60, 60]], rtol=1e-6)
    np.testing.assert_allclose(scores, [0.9, 0.5])


@given(st.lists(st.tuples(*[st.integers(0, 20)] * 4, st.floats(0.01, 1)), max_size=30), st.floats(0, 1))
def test_kept_boxes_do_not_overlap_and_each_dropped_one_overlaps_a_better(
    rows: list[tuple[float, ...]], threshold: float
) -> None:
    table = np.array(rows, np.float32).reshape(-1, 5)
    boxes, scores = table[:, :4], table[:, 4]
    kept = nms(boxes, scores, threshold).tolist()
    assert scores[kept].tolist() == sorted(scores[kept], reverse=True)
    for i in range(len(boxes)):
        better = [
            k for k in kept if k != i and scores[k] >= scores[i] and iou(boxes[k], boxes[i : i + 1])[0] > threshold
        ]
        assert (i in kept) != bool(better) or any(scores[k] == scores[i] for k in better)
