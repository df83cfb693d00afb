import numpy as np

from streamkp.models.detect import rtmdet


def test_rtmdet_scales_to_fit_and_back() -> None:
    images = [np.full((480, 1280, 3), 255, np.uint8), np.full((64, 32, 3), 0, np.uint8)]
    (wide, tall), scales = zip(*(rtmdet.fit(image, 640, 320) for image in images), strict=True)
    assert wide.shape == tall.shape == (320, 640, 3)
    assert scales == (0.5, 5.0)
    assert (wide[100, 100] == 255).all()
    assert (wide[300, 100] == 114).all()
    dets = np.zeros((2, 3, 5), np.float32)
    dets[0, 0] = 10, 20, 60, 120, 0.9
    dets[0, 1] = 10, 20, 60, 120, 0.2
    dets[1, 0] = 50, 50, 100, 100, 0.8
    labels = np.array([[0, 0, 0], [1, 0, 0]])
    (boxes, scores), (nobody, _) = (rtmdet.people(*rows, 0.3) for rows in zip(dets, labels, scales, strict=True))
    np.testing.assert_allclose(boxes, [[20, 40, 100, 200]])
    np.testing.assert_allclose(scores, [0.9])
    assert nobody.shape == (0, 4)
