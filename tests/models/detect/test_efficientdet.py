import numpy as np

from streamkp.models.detect import efficientdet


def test_anchors_of_the_lite0_input() -> None:
    anchors = efficientdet.anchors(320)
    assert anchors.shape == (19206, 4)
    np.testing.assert_allclose(anchors[0], [4, 4, 24, 24])
    np.testing.assert_allclose(anchors[1], [4, 4, 24 * 2**0.5, 24 / 2**0.5], rtol=1e-6)
    np.testing.assert_allclose(anchors[9, :2], [12, 4])


def test_codes_are_relative_to_the_anchor() -> None:
    codes, scores = np.zeros((19206, 4), np.float32), np.zeros(19206, np.float32)
    codes[0] = (0.5, -0.5, np.log(2), 0)
    scores[0] = 0.8
    boxes, best = efficientdet.decode_people(codes, scores, 320, 0.3, 0.5)
    np.testing.assert_allclose(boxes, [[-20, -8, 4, 40]], atol=1e-5)
    np.testing.assert_allclose(best, [0.8])


def test_nobody_there_gives_empty_arrays() -> None:
    codes, scores = np.zeros((19206, 4), np.float32), np.zeros(19206, np.float32)
    boxes, best = efficientdet.decode_people(codes, scores, 320, 0.3, 0.5)
    assert boxes.shape == (0, 4)
    assert best.shape == (0,)


def test_everything_above_the_score_and_wild_codes_stay_finite() -> None:
    boxes, _ = efficientdet.decode_people(
        np.full((19206, 4), 1e4, np.float32), np.ones(19206, np.float32), 320, 0.3, 0.5
    )
    assert np.isfinite(boxes).all()
