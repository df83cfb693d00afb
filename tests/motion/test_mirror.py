from __future__ import annotations

import numpy as np
from numpy.testing import assert_array_equal

from streamkp import skeletons
from streamkp.motion.mirror import flip_average, mirror

H36M17 = skeletons.get("h36m17")


def test_mirror_exchanges_sides_and_is_its_own_inverse():
    pose = np.random.default_rng(0).normal(size=(4, 17, 3))
    mirrored = mirror(pose, H36M17)
    left, right = H36M17.index("left_wrist"), H36M17.index("right_wrist")
    assert_array_equal(mirrored[:, left], pose[:, right] * [-1, 1, 1])
    assert_array_equal(mirror(mirrored, H36M17), pose)


def test_mirror_leaves_its_input_alone():
    pose = np.ones((17, 2))
    mirror(pose, H36M17)
    assert_array_equal(pose, 1)


def test_flip_average_of_a_mirrored_twin_is_the_pose():
    pose = np.random.default_rng(1).normal(size=(17, 3))
    assert_array_equal(flip_average(pose, mirror(pose, H36M17), H36M17), pose)
