"""The live lifter in the wheel: as accurate as its card says, the same live as over a whole sequence, without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from streamkp.errors import UsageError
from streamkp.evaluation.lift import datasets
from streamkp.evaluation.lift.evaluate import evaluate
from streamkp.evaluation.lift.live import Live, evaluate_live
from streamkp.hub import store
from streamkp.models.lift import lifters, tcn
from streamkp.models.lift.base import LifterOptions, Memory
from streamkp.models.lift.sequence import open_sequence_lifter
from streamkp.motion import track_view
from streamkp.motion.camera import Intrinsics
from streamkp.packet import Keypoints3D, Packet, Person, PoseWindow
from tests.lifting import open_lifter

NAME = "tcn-streamkp"
SIZE = (1280, 720)
FRAMES = 110


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    """A person who moves, [FRAMES, 17, 3]: pixels and scores."""
    random = np.random.default_rng(2)
    body = random.uniform(-150, 150, (1, 17, 2)) + np.array((640, 360))
    moving = body + np.cumsum(random.normal(scale=3, size=(FRAMES, 17, 2)), 0)
    return np.concatenate([moving, random.uniform(0.3, 1, (FRAMES, 17, 1))], -1).astype(np.float32)


def packet(points: np.ndarray, end: int, held: int, first: int = 0) -> tuple[Packet, Person]:
    """The person at row `end`, whose window holds the last `held` rows of those from `first` on."""
    valid = min(held, end + 1 - first)
    rows = np.maximum(np.arange(end + 1 - held, end + 1), first)
    pts = np.round(rows * 1e9 / track_view.RATE).astype(np.int64)
    window = PoseWindow("h36m17", points[rows], pts, rows, valid, *SIZE, end, track_view.RATE)
    person = Person(1, "tracked", np.zeros(4, np.float32), 0.9, window=window)
    return Packet("cam", 0, end, int(pts[-1]), 0, None, *SIZE, persons=[person]), person


def lifted(points: np.ndarray, memory: Memory | None, ends: range, **options: object) -> list[Keypoints3D]:
    lifter = open_lifter(NAME, memory=memory, **options)
    found = [lifter.lift([packet(points, end, 96)])[0] for end in ends]
    assert all(pose is not None for pose in found)
    return [pose for pose in found if pose is not None]


@pytest.mark.parametrize("lookahead", [0, 2, 5])
@pytest.mark.parametrize("flip", [None, True])
def test_live_is_the_whole_sequence(points: np.ndarray, lookahead: int, flip: bool | None) -> None:
    network = open_sequence_lifter(NAME, LifterOptions(flip=flip)).rows
    assert network is not None
    whole = network.live(points, Intrinsics.assumed(*SIZE), [lookahead])[lookahead]
    assert whole.sigma is not None
    live = lifted(points, {}, range(FRAMES), lookahead=lookahead, flip=flip)
    for end in range(lookahead, FRAMES):
        pose, at = live[end], end - lookahead
        assert pose.frame_seq == at
        np.testing.assert_allclose(pose.points, whole.poses[at] - whole.poses[at, 0], atol=1e-4)
        assert pose.sigma is not None
        np.testing.assert_allclose(pose.sigma, whole.sigma[at], rtol=1e-3)


def test_a_window_without_a_memory_gives_what_the_track_gives(points: np.ndarray) -> None:
    remembered = lifted(points, {}, range(FRAMES))[-1]
    for options in ({"memory": None}, {"memory": {}, "incremental": False}):
        (alone,) = lifted(points, options.pop("memory"), range(FRAMES - 1, FRAMES), **options)
        np.testing.assert_allclose(alone.points, remembered.points, atol=1e-4)


def test_height_and_root(points: np.ndarray) -> None:
    plain = lifted(points, {}, range(20), trajectory=True)[-1]
    tall = lifted(points, {}, range(20), trajectory=True, height_m=3.4)[-1]
    assert plain.root is not None
    assert tall.root is not None
    assert plain.sigma is not None
    assert tall.sigma is not None
    for one, other in ((plain.points, tall.points), (plain.root, tall.root), (plain.sigma, tall.sigma)):
        np.testing.assert_allclose(2 * one, other, rtol=1e-4, atol=1e-6)
    assert plain.root[2] > 1


@pytest.mark.parametrize(
    ("options", "message"),
    [({"lookahead": 3}, "lookahead must be 0, 2 or 5"), ({"stride": 2}, "stride is for HDFormer networks")],
)
def test_what_it_cannot_do(options: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_lifter(NAME, memory={}, **options)


def test_a_file_of_ones_own_is_recognised(tmp_path: Path, points: np.ndarray) -> None:
    own = tmp_path / "mine.safetensors"
    own.write_bytes(store.path(NAME).read_bytes())
    request = lifters.window_request(str(own), LifterOptions())
    assert request is not None
    assert (request.rate, request.frames) == (30, tcn.FRAMES)
    pose = open_lifter(str(own)).lift([packet(points, 50, 96)])[0]
    assert pose is not None
    assert np.isfinite(pose.points).all()


def test_the_file_is_small() -> None:
    assert store.path(NAME).stat().st_size < 4e6


def test_it_needs_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from streamkp.models.lift import lifters, sequence\n"
        f"lifters.open_lifter({NAME!r}); sequence.open_sequence_lifter({NAME!r})"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_accuracy_on_people_it_has_never_seen(assets: Path) -> None:
    data = datasets.read(assets / "mocap" / "cmu17_val.npz", 0)
    opened = open_sequence_lifter(NAME)
    live = evaluate_live(data, opened, 0, Live([0], []))["lookahead"]["0"]
    assert live["clean"]["p_mpjpe_mm"] < 23
    assert live["noisy"]["p_mpjpe_mm"] < 31
    assert 0.6 < live["clean"]["within_sigma"] < 0.76
    assert 0.6 < live["noisy"]["within_sigma"] < 0.76
    whole = evaluate(data, opened, opened.skeleton, 0)
    assert whole["clean"]["p_mpjpe_mm"] < 22
    assert whole["noisy"]["p_mpjpe_mm"] < 30
