"""`lift-3d` one frame at a time: after every packet the pose is that of the whole window."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from streamkp.errors import ModelError, UsageError
from streamkp.models import checkpoint, zoo
from streamkp.models.lift.lifters import Lifter
from streamkp.packet import Keypoints2D, Packet, Person
from streamkp.stages.lift_3d import Lift3D
from streamkp.stages.window import WindowStage
from streamkp.testing import make_packet, open_stage
from tests.lifting import open_lifter

BOX = np.array((0, 0, 100, 300), np.float32)
SECOND = 1_000_000_000


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("small")

    def file(name: str) -> Path:
        path = folder / f"{name}.safetensors"
        if not path.exists():
            sizes = {"trajectory_channels": 8} if name == "tpnet" else {}
            checkpoint.write(zoo.create(name, channels=16, filter_widths=(3, 3, 3), **sizes), path, name)
        return path

    return file


class Camera:
    """Frames with one or two people, through the window stage."""

    def __init__(self, frames: int) -> None:
        stage = open_stage(WindowStage, {"frames": frames, "rate": 50})
        assert isinstance(stage, WindowStage)
        self._stage, self._rng, self._seq = stage, np.random.default_rng(0), 0

    def frame(self, pts: int, tracks: tuple[int, ...] = (1, 2), width: int = 640, state: str = "tracked") -> Packet:
        people = []
        for track in tracks:
            points = self._rng.uniform(0, 400, (17, 3)).astype(np.float32)
            people.append(Person(track, state, BOX, 1.0, keypoints_2d=Keypoints2D("h36m17", points)))
        self._seq += 1
        packet = make_packet("cam", self._seq, persons=people, width=width, height=480, image=None)
        packet.pts = pts
        packet = self._stage.process(packet)
        assert packet is not None
        return packet


def both(file: Path, **options) -> tuple[Lifter, Lifter]:
    """The same network frame by frame, and by whole windows."""
    options = {"runtime": "torch", "threads": 1, **options}
    return open_lifter(str(file), incremental=True, memory={}, **options), open_lifter(str(file), **options)


def assert_same(lifters: tuple[Lifter, Lifter], *packets: Packet) -> None:
    people = [(packet, person) for packet in packets for person in packet.persons]
    for step, window in zip(*(lifter.lift(people) for lifter in lifters), strict=True):
        assert (step is None) == (window is None)
        if step is not None and window is not None:
            assert step.frame_seq == window.frame_seq
            assert np.abs(step.points - window.points).max() <= 1e-4


def times(fps: float, seconds: float) -> Iterator[int]:
    return iter(range(0, int(seconds * SECOND), int(SECOND / fps)))


@pytest.mark.parametrize("fps", [15, 25, 30, 60])
@pytest.mark.parametrize("lookahead", [0, 5])
def test_cameras_of_any_rate(small, fps, lookahead):
    lifters = both(small("videopose3d-27f"), lookahead=lookahead)
    camera = Camera(lifters[0].frames)
    for pts in times(fps, 1.5):
        assert_same(lifters, camera.frame(pts))


@pytest.mark.parametrize("options", [{"causal": True}, {"flip": True}, {"lookahead": 13}])
def test_every_way_to_run_it(small, options):
    lifters = both(small("videopose3d-27f"), **options)
    camera = Camera(lifters[0].frames)
    for pts in times(50, 1):
        assert_same(lifters, camera.frame(pts))


def test_tpnet(small):
    lifters = both(small("tpnet"))
    camera = Camera(lifters[0].frames)
    for pts in times(50, 0.7):
        assert_same(lifters, camera.frame(pts))


def test_what_happens_to_a_live_stream(small):
    """Frames that do not arrive, people who come, go and hide, a silence, another resolution, a clock set back."""
    lifters = both(small("videopose3d-27f"))
    camera = Camera(lifters[0].frames)
    rng = np.random.default_rng(3)
    pts = 0
    for n in range(120):
        tracks = tuple(track for track in (1, 2, 3) if rng.random() < 0.7) or (1,)
        pts += SECOND // 30 if n not in (40, 90) else 2 * SECOND
        packet = camera.frame(pts, tracks, 640 if n < 60 else 320, "predicted" if n % 11 == 5 else "tracked")
        if rng.random() < 0.7 and not 70 < n < 88:  # the others were dropped on the way here
            assert_same(lifters, packet)
    camera = Camera(lifters[0].frames)  # the stream begins anew
    for pts in times(30, 0.5):
        assert_same(lifters, camera.frame(pts))


def test_after_an_error_a_track_begins_anew(small):
    lifters = both(small("videopose3d-27f"))
    camera = Camera(lifters[0].frames)
    assert_same(lifters, camera.frame(0))
    bad = camera.frame(SECOND // 50)
    window = bad.persons[1].window
    assert window is not None
    broken = window.points.copy()
    broken[-1, 0, 0] = np.nan
    window.points = broken
    with pytest.raises(ModelError, match="not finite"):
        lifters[0].lift([(bad, person) for person in bad.persons])
    assert_same(lifters, camera.frame(2 * SECOND // 50))


def test_what_has_no_incremental_form(small):
    with pytest.raises(UsageError, match="a trajectory needs whole windows"):
        open_lifter(str(small("tpnet")), runtime="torch", trajectory=True, incremental=True, memory={})
    with pytest.raises(UsageError, match="hdformer strides in time"):
        open_lifter("hdformer", checkpoint=small("tpnet"), incremental=True, memory={})


def test_the_stage_forgets_tracks_with_the_engine(small):
    """What is kept lies in a map that the engine empties when a track ends or an epoch changes."""
    options = {"model": str(small("videopose3d-27f")), "incremental": True, "runtime": "torch", "threads": 1}
    stage = open_stage(Lift3D, options)
    assert isinstance(stage, Lift3D)
    stage.process([Camera(14).frame(0, (4, 9))])
    assert [("cam", 4), ("cam", 9)] in [sorted(state) for state in stage.context.states]
