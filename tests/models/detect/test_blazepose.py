import numpy as np

from streamkp.models.detect import blazepose


def test_anchors_cover_the_input_as_the_detector_expects() -> None:
    anchors = blazepose.anchors()
    assert anchors.shape == (2254, 2)
    np.testing.assert_allclose(anchors[:3], [[4 / 224, 4 / 224], [4 / 224, 4 / 224], [12 / 224, 4 / 224]])
    np.testing.assert_allclose(anchors[2 * 28 * 28], [8 / 224, 8 / 224])
    np.testing.assert_allclose(anchors[-1], [208 / 224, 208 / 224])


def test_a_detection_is_relative_to_its_anchor() -> None:
    raw, logits = np.zeros((2254, 12), np.float32), np.full(2254, -100, np.float32)
    raw[100] = [0, 0, 44.8, 22.4, 0, 0, 0, -56, 11.2, 0, 0, 22.4]
    logits[100] = 2
    boxes, points, scores = blazepose.decode(raw, logits, 0.5)
    x, y = blazepose.anchors()[100]
    np.testing.assert_allclose(boxes, [[x - 0.1, y - 0.05, x + 0.1, y + 0.05]], atol=1e-6)
    np.testing.assert_allclose(points, [[[x, y], [x, y - 0.25], [x + 0.05, y], [x, y + 0.1]]], atol=1e-6)
    np.testing.assert_allclose(scores, [1 / (1 + np.exp(-2))], rtol=1e-6)


def test_body_boxes_follow_the_body_and_stay_in_the_image() -> None:
    standing, lying = [[50, 60], [50, 20]], [[50, 60], [90, 60]]
    anchors = np.array([standing * 2, lying * 2], np.float32)
    np.testing.assert_allclose(blazepose.body_boxes(anchors, 200, 90), [[30, 20, 40, 70], [10, 40, 80, 40]])


def test_logits_of_any_size_are_scores_without_a_warning() -> None:
    raw, logits = np.zeros((2254, 12), np.float32), np.full(2254, -1e30, np.float32)
    logits[3] = 1e30
    with np.errstate(all="raise", under="ignore"):
        _, _, scores = blazepose.decode(raw, logits, 0.5)
    assert scores.tolist() == [1]
