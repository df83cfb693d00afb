from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.testing import assert_allclose

from streamkp.motion.camera import screen_coordinates
from streamkp.motion.root import join_root, split_root


def test_mmpose_codec(golden: Path):
    codec = np.load(golden / "mmpose_video_pose_lift" / "codec.npz")
    frames = codec["keypoints"]
    labels = screen_coordinates(frames, 1000, 1002).reshape(len(frames), -1).T
    assert_allclose(labels, codec["keypoint_labels"], atol=1e-6)

    relative, root = split_root(codec["lifting_target"])
    assert_allclose(relative, codec["lifting_target_label"], atol=1e-6)
    assert_allclose(root[:, 0], codec["target_root"], atol=1e-6)
    assert_allclose(join_root(relative, root), codec["decoded"], atol=1e-6)
