from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from streamkp import skeletons
from streamkp.errors import ModelError, UsageError
from streamkp.models.lift.base import Clip, Lifted, LifterOptions
from streamkp.models.lift.lifters import WEIGHTLESS, WindowLifter
from streamkp.models.lift.sequence import open_sequence_lifter
from streamkp.packet import Keypoints2D, Keypoints3D, Person
from streamkp.runtimes.base import RunOptions
from streamkp.stages.window import WindowStage
from streamkp.testing import make_packet, open_stage
from tests.lifting import open_lifter


def test_the_lifters_say_what_they_want_and_give() -> None:
    for name in WEIGHTLESS:
        lifter = open_lifter(name)
        assert lifter.name == name
        assert len(skeletons.get(lifter.skeleton_3d)) > 0
        assert (lifter.skeleton is None) == (lifter.frames == 0)
        lifter.close()


@pytest.mark.parametrize("name", [*WEIGHTLESS, "tcn-streamkp"])
def test_a_lifter_in_numpy_cannot_run_on_a_gpu(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} runs on the CPU only"):
        open_lifter(name, device="cuda")


def test_nor_can_it_for_whole_sequences() -> None:
    with pytest.raises(UsageError, match="tcn-streamkp runs on the CPU only"):
        open_sequence_lifter("tcn-streamkp", LifterOptions(run=RunOptions("cuda")))


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


class Known:
    """A network that gives the same pose, place and uncertainty for everybody."""

    frames, rate, lookahead, restarts = 4, 30.0, 0, False
    pose = np.random.default_rng(0).normal(size=(17, 3))
    sigma = np.linspace(0.01, 0.08, 17)

    def poses(self, clips: Sequence[Clip]) -> Lifted:
        n = len(clips)
        assert all(clip.newest(4).shape == (4, 17, 3) for clip in clips)
        return Lifted(np.stack([self.pose] * n), np.full((n, 3), 4.0), np.stack([self.sigma] * n))


@pytest.mark.parametrize(("height", "factor"), [(None, 1.0), (1.7, 1.0), (0.85, 0.5)])
def test_a_person_of_another_height_is_nearer_or_farther(height: float | None, factor: float) -> None:
    """Half as tall, and so half as far away: the image is the same. Uncertainties are lengths too."""
    stage = open_stage(WindowStage, {"rate": 30})
    assert isinstance(stage, WindowStage)
    keypoints = Keypoints2D("h36m17", np.ones((17, 3), np.float32))
    packet = stage.process(make_packet(persons=[Person(1, "tracked", np.zeros(4, np.float32), 1.0, keypoints)]))
    lifter = WindowLifter("known", Known(), "h36m17", LifterOptions(height_m=height))
    (pose,) = lifter.lift([(packet, packet.persons[0])])
    assert pose is not None
    np.testing.assert_allclose(pose.points, factor * (Known.pose - Known.pose[0]), rtol=1e-5)
    assert pose.root is not None
    assert pose.sigma is not None
    np.testing.assert_allclose(pose.root, factor * np.full(3, 4.0), rtol=1e-6)
    np.testing.assert_allclose(pose.sigma, factor * Known.sigma, rtol=1e-6)
    assert pose.points.dtype == pose.root.dtype == pose.sigma.dtype == np.float32
