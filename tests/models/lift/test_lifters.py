from __future__ import annotations

import numpy as np
import pytest

from streamkp import skeletons
from streamkp.errors import ModelError
from streamkp.models.lift.lifters import WEIGHTLESS
from streamkp.packet import Keypoints3D, Person
from streamkp.testing import make_packet
from tests.lifting import open_lifter


def test_the_lifters_say_what_they_want_and_give() -> None:
    for name in WEIGHTLESS:
        lifter = open_lifter(name)
        assert lifter.name == name
        assert len(skeletons.get(lifter.skeleton_3d)) > 0
        assert (lifter.skeleton is None) == (lifter.frames == 0)
        lifter.close()


def test_blazepose_world_is_of_the_frame_itself() -> None:
    lifter = open_lifter("blazepose-world")
    world = Keypoints3D("blazepose33", np.ones((33, 3), np.float32), frame_seq=3)
    seen = Person(1, "tracked", np.zeros(4, np.float32), 1.0, world=world)
    bare = Person(2, "predicted", np.zeros(4, np.float32), 0.1)
    lifted, none = lifter.lift([(make_packet(seq=8), seen), (make_packet("b", 9), bare)])
    assert none is None
    assert lifted is not None
    assert lifted.frame_seq == 8
    assert lifted.points is world.points
    assert world.frame_seq == 3
    assert lifter.lift([]) == []


def test_an_unknown_lifter_is_named() -> None:
    with pytest.raises(ModelError, match=r"'nothing-alike'; the lifters are blazepose-world"):
        open_lifter("nothing-alike")
