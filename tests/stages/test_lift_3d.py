from __future__ import annotations

import numpy as np
import pytest

from streamkp.errors import ModelError, UsageError
from streamkp.packet import Keypoints3D, Person
from streamkp.stages.lift_3d import Lift3D
from streamkp.testing import make_packet, open_stage

BOX = np.array((0, 0, 100, 300), np.float32)


def test_lifts_everybody_of_the_batch_and_says_which_frame() -> None:
    stage = open_stage(Lift3D)
    assert isinstance(stage, Lift3D)
    world = [np.full((33, 3), float(i), np.float32) for i in range(3)]
    seen = [Person(i, "tracked", BOX, 0.9, world=Keypoints3D("blazepose33", world[i], 0)) for i in range(3)]
    predicted = Person(7, "predicted", BOX, 0.1)
    batch = [
        make_packet("a", 4, persons=seen[:2]),
        make_packet("b", 9, persons=[seen[2], predicted]),
        make_packet("c", 1),
    ]
    out = stage.process(batch)
    assert list(out) == batch
    for i, seq in enumerate((4, 4, 9)):
        keypoints = seen[i].keypoints_3d
        assert keypoints is not None
        assert (keypoints.skeleton, keypoints.space, keypoints.frame_seq) == ("blazepose33", "camera", seq)
        np.testing.assert_array_equal(keypoints.points, world[i])
    assert predicted.keypoints_3d is None


def test_an_unknown_lifter_is_an_error_before_the_graph_starts() -> None:
    with pytest.raises(ModelError, match="did you mean 'blazepose-world'"):
        open_stage(Lift3D, {"model": "blazepose-wrld"})


def test_a_lifter_of_single_frames_cannot_look_ahead() -> None:
    with pytest.raises(UsageError, match="lookahead must be 0, not 5"):
        open_stage(Lift3D, {"lookahead": 5})
