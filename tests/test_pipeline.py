"""One call, on real clips and images. The weights of the torch networks are synthetic: their numbers mean nothing."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

import streamkp
from streamkp.errors import ModelError, OutputError, SourceError, UsageError
from streamkp.motion.camera import Intrinsics
from streamkp.packet import Person
from streamkp.pipelines import Pipeline, results
from streamkp.pipelines.lifting import TrackLifter
from streamkp.testing import make_packet
from tests.sources.films import Film

FRAMES = 40


@pytest.fixture(scope="session")
def squat(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first frames of a person who squats, upright format, 29.97 frames a second."""
    path = tmp_path_factory.mktemp("clips") / "squat.mp4"
    _write(path, islice(_frames(assets / "clips" / "squat_single_person.mp4"), FRAMES), rate=30)
    return path


@pytest.fixture(scope="session")
def photo(assets: Path) -> Path:
    return assets / "mmpose_testdata/tests/data/coco/000000000785.jpg"


@pytest.fixture(scope="session")
def weights(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`weights(folder)`: a checkpoint file with the synthetic weights of a golden folder."""
    spec = importlib.util.spec_from_file_location("synth", golden / "synth.py")
    assert spec is not None
    assert spec.loader is not None
    synth = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(synth)

    def make(folder: str) -> Path:
        import torch
        from safetensors.torch import save_file

        path = tmp_path_factory.mktemp(folder) / "model.safetensors"
        state = synth.synthetic_state(synth.load_manifest(folder))
        save_file({key: torch.from_numpy(value) for key, value in state.items()}, path)
        return path

    return make


@pytest.fixture(scope="module")
def body3d() -> Iterator[Pipeline]:
    with streamkp.pipeline("body-3d-keypoints") as run:
        yield run


@pytest.fixture(scope="module")
def body2d() -> Iterator[Pipeline]:
    with streamkp.pipeline("body-2d-keypoints") as run:
        yield run


def _frames(path: Path) -> Iterator[np.ndarray[Any, Any]]:
    with av.open(str(path)) as file:
        for frame in file.decode(video=0):
            yield frame.to_ndarray(format="bgr24")


def _write(path: Path, images: Iterator[np.ndarray[Any, Any]], rate: int) -> None:
    with av.open(str(path), "w") as file:
        stream = None
        for image in images:
            if stream is None:
                stream = file.add_stream("libx264", rate=rate, options={"preset": "veryfast"})
                stream.height, stream.width = image.shape[:2]
                stream.pix_fmt = "yuv420p"
            file.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        assert stream is not None
        file.mux(stream.encode(None))


def test_body_3d_of_a_film(body3d: Pipeline, squat: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    out = body3d(squat, output_video=tmp_path / "out.mp4", progress=lambda *step: seen.append(step))
    poses = out["keypoints"]
    assert poses.shape == (FRAMES, 17, 3)
    assert poses.dtype == np.float32
    assert np.isfinite(poses).all()
    assert out["skeleton"] == "h36m17"
    head, feet = poses[:, 10], poses[:, [3, 6]]
    assert ((feet[..., 1] - head[:, None, 1] > 1.0) & (feet[..., 1] - head[:, None, 1] < 2.2)).all()  # y down, metres
    assert np.abs(poses[:, 0]).max() < 0.05
    assert out["timestamps"][:3] == ["00:00:00.000", "00:00:00.033", "00:00:00.067"]
    assert len(out["timestamps"]) == FRAMES
    assert seen == [(n + 1, FRAMES) for n in range(FRAMES)]
    drawn = list(_frames(Path(out["output_video"])))
    assert len(drawn) == FRAMES
    assert np.abs(drawn[5].astype(int) - next(islice(_frames(squat), 5, None))).max() > 100


def test_the_same_film_given_otherwise(body3d: Pipeline, squat: Path, tmp_path: Path) -> None:
    expected = body3d(str(squat))["keypoints"]
    capture = cv2.VideoCapture(str(squat))
    out = body3d(capture, output_video=tmp_path / "out.mp4")
    np.testing.assert_allclose(out["keypoints"], expected, atol=0.05)  # OpenCV converts colours a little otherwise
    assert len(list(_frames(tmp_path / "out.mp4"))) == FRAMES
    film = np.stack(list(_frames(squat)))
    np.testing.assert_allclose(body3d(film)["keypoints"], expected, atol=0.05)
    assert body3d(film[:3], fps=10)["timestamps"] == ["00:00:00.000", "00:00:00.100", "00:00:00.200"]


def test_everybody_in_a_film(assets: Path) -> None:
    film = np.stack(list(islice(_frames(assets / "clips/pose2sim_multi_cam01.mp4"), 6)))
    with streamkp.pipeline("body-3d-keypoints", persons="all", detect_every=1) as run:
        out = run(film)
    assert [len(poses) for poses in out["keypoints"]] == [len(tracks) for tracks in out["tracks"]]
    assert max(len(set(tracks.tolist())) for tracks in out["tracks"]) >= 2
    assert out["keypoints"][-1].shape[1:] == (17, 3)


def test_body_2d_of_images_of_every_kind(body2d: Pipeline, photo: Path) -> None:
    out = body2d(photo)
    assert {name: getattr(value, "shape", value) for name, value in out.items()} == {
        "keypoints": (1, 33, 2), "scores": (1, 33), "boxes": (1, 4), "tracks": (1,), "skeleton": "blazepose33",
    }  # fmt: skip
    x1, y1, x2, y2 = out["boxes"][0]
    inside = (out["keypoints"][0] > (x1 - 30, y1 - 30)) & (out["keypoints"][0] < (x2 + 30, y2 + 30))
    assert inside.all(axis=1).mean() > 0.8
    image = cv2.imread(str(photo))
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    rgba = cv2.cvtColor(image, cv2.COLOR_BGR2BGRA)
    results = body2d([image, rgba, image / 255.0, grey, str(photo)])
    for result in (results[0], results[1], results[2], results[4]):
        np.testing.assert_allclose(result["keypoints"], out["keypoints"], atol=6)
    assert results[3]["keypoints"].shape == (1, 33, 2)


def test_one_image_is_a_film_of_one_frame_in_3d(body3d: Pipeline, photo: Path) -> None:
    out = body3d(photo)
    assert out["keypoints"].shape == (1, 17, 3)
    assert out["timestamps"] == ["00:00:00.000"]
    assert np.isfinite(out["keypoints"]).all()


def test_nobody(body3d: Pipeline, body2d: Pipeline, tmp_path: Path) -> None:
    empty = np.full((5, 120, 160, 3), 90, np.uint8)
    out = body3d(empty, output_video=tmp_path / "out.mp4")
    assert np.isnan(out["keypoints"]).all()
    assert out["keypoints"].shape == (5, 17, 3)
    assert len(list(_frames(tmp_path / "out.mp4"))) == 5
    out = body2d(empty)
    assert [keypoints.shape for keypoints in out["keypoints"]] == [(0, 33, 2)] * 5
    assert body2d(empty[0])["boxes"].shape == (0, 4)


def test_a_person_who_comes_and_goes(body3d: Pipeline, squat: Path) -> None:
    film = np.stack(list(_frames(squat)))
    empty = np.full_like(film[:35], 90)
    poses = body3d(np.concatenate([empty[:10], film[:20], empty]))["keypoints"]
    assert np.isnan(poses[:10]).all()
    assert np.isfinite(poses[15:29]).all()
    assert np.isnan(poses[-5:]).all()


def test_hdformer_from_film_to_poses(weights: Callable[[str], Path], squat: Path, tmp_path: Path) -> None:
    """Synthetic weights: what is checked is that every frame of a film shorter than the window gets its pose."""
    camera = Intrinsics((900.0, 900.0), (304.0, 540.0))
    name = "damo/cv_hdformer_body-3d-keypoints_video"
    with streamkp.pipeline("body-3d-keypoints", name, checkpoint=weights("hdformer"), camera=camera) as run:
        out = run(squat, output_video=tmp_path / "out.mp4")
    assert out["keypoints"].shape == (FRAMES, 17, 3)
    assert np.isfinite(out["keypoints"]).all()
    assert len(np.unique(out["keypoints"].reshape(FRAMES, -1), axis=0)) == FRAMES
    assert len(list(_frames(tmp_path / "out.mp4"))) == FRAMES


def test_lifting_a_track_gives_what_the_reference_gives(weights: Callable[[str], Path], golden: Path) -> None:
    """The reference's own windows, on the network's time grid; and what `streamkp eval lifter` measures."""
    from streamkp.models.lift.base import LifterOptions
    from streamkp.models.lift.sequence import open_sequence_lifter
    from streamkp.packet import Keypoints2D, Person
    from streamkp.runtimes.base import RunOptions
    from tests.reference.cameras import H36M_CAMERA

    reference = np.load(golden / "hdformer" / "prepost.npz")
    path = weights("hdformer")
    for d in (2, 3):
        np.save(path.parent / f"mean_std_{d}d.npy", np.stack([reference[f"mean_{d}d"], reference[f"std_{d}d"]]))
    points = np.concatenate([reference["seq_2d"][:96], np.ones((96, 17, 1))], 2).astype(np.float32)
    packets = []
    for seq, pose in enumerate(points):
        person = Person(1, "tracked", np.array((0, 0, 9, 9), np.float32), 1.0, Keypoints2D("h36m17", pose))
        packets.append(make_packet(seq=seq, persons=[person], width=1000, height=1002, image=None))
    options = LifterOptions(checkpoint=path, run=RunOptions(runtime="torch", threads=1))
    lifter = TrackLifter("hdformer", options, H36M_CAMERA)
    lifter.lift(packets, np.arange(96) * 20_000_000)  # 50 Hz: frames lie on the grid
    poses = [packet.persons[0].keypoints_3d for packet in packets]
    assert [pose.frame_seq for pose in poses if pose] == list(range(96))
    found = np.stack([pose.points for pose in poses if pose])
    expected = reference["ref_out_96"][0]
    np.testing.assert_allclose(found, expected - expected[:, :1], atol=1e-4 * np.abs(expected).max())
    measured = open_sequence_lifter("hdformer", options)(points, (1000, 1002), H36M_CAMERA)
    np.testing.assert_allclose(found, measured, atol=1e-6)


def test_lifting_a_track_with_a_lifter_of_the_shipped_kind(lifter_onnx: Path) -> None:
    """At 60 Hz every second frame lies on its grid; the others are between their neighbours."""
    from streamkp.models.lift.base import LifterOptions
    from streamkp.packet import Keypoints2D, Person
    from streamkp.runtimes.base import RunOptions

    points = np.random.default_rng(0).uniform(100, 400, (17, 3)) + np.arange(50)[:, None, None]
    points[..., 2] = 0.9
    packets = []
    for seq, pose in enumerate(points.astype(np.float32)):
        person = Person(1, "tracked", np.array((0, 0, 9, 9), np.float32), 1.0, Keypoints2D("h36m17", pose))
        packets.append(make_packet(seq=seq, persons=[person], width=640, height=480, image=None))
    lifter = TrackLifter(str(lifter_onnx), LifterOptions(run=RunOptions(threads=1)))
    lifter.lift(packets, np.round(np.arange(50) * 1e9 / 60).astype(np.int64))
    poses = [packet.persons[0].keypoints_3d for packet in packets]
    assert [pose.frame_seq for pose in poses if pose] == list(range(50))
    stacked = np.stack([pose.points for pose in poses if pose])
    assert np.isfinite(stacked).all()
    np.testing.assert_allclose(stacked[1:-2:2], (stacked[:-2:2] + stacked[2::2])[: len(stacked[1:-2:2])] / 2, atol=1e-4)


def test_whole_body_hands_and_faces(weights: Callable[[str], Path], photo: Path) -> None:
    """Synthetic weights: what is checked is what comes out for whom."""
    body = weights("hrnet_w48_wholebody133")
    with streamkp.pipeline("human-wholebody-keypoint", checkpoint=body, detector=None, runtime="torch") as run:
        out = run(cv2.imread(str(photo)))
    assert out["skeleton"] == "wholebody133"
    assert out["keypoints"].shape[1:] == (133, 2)
    hand = weights("hrnetv2_w18_hand21")
    with streamkp.pipeline("hand-2d-keypoints", hand, runtime="torch") as run:
        out = run(photo)
    assert 1 <= len(out["keypoints"]) <= 2
    assert out["keypoints"].shape[1:] == (21, 3)
    assert out["boxes"].shape == (len(out["keypoints"]), 4)
    assert (out["boxes"][:, 2:] >= out["boxes"][:, :2]).all()
    with streamkp.pipeline("face-2d-keypoints", weights("easycv_face106")) as run:
        out = run(photo)
        film = run(np.stack([cv2.imread(str(photo))] * 2))
    assert {name: getattr(value, "shape", value) for name, value in out.items()} == {
        "keypoints": (1, 106, 2), "poses": (1, 3), "boxes": (1, 4), "tracks": (1,), "skeleton": "face106",
    }  # fmt: skip
    assert [len(poses) for poses in film["poses"]] == [1, 1]


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("body-3d-keypoint",), UsageError, "did you mean 'body-3d-keypoints'"),
        (("body-2d-keypoints", "hdformer"), ModelError, "hdformer is a model for body-3d-keypoints"),
        (("body-3d-keypoints", "hdformr"), ModelError, "did you mean hdformer"),
    ],
)
def test_what_cannot_be_made(arguments: tuple[str, ...], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        streamkp.pipeline(*arguments)


def test_what_cannot_be_read(body2d: Pipeline, photo: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no file"):
        body2d(tmp_path / "nope.mp4")
    (tmp_path / "text.mp4").write_text("not a film")
    with pytest.raises(SourceError, match="not a video"):
        body2d(str(tmp_path / "text.mp4"))
    with pytest.raises(UsageError, match="camera"):
        body2d("rtsp://user:secret@camera/live")
    with pytest.raises(UsageError, match="not int"):
        body2d(0)
    with pytest.raises(UsageError, match="channels come last"):
        body2d(np.zeros((3, 20, 20), np.uint8))
    with pytest.raises(SourceError, match="not open"):
        body2d(cv2.VideoCapture(str(tmp_path / "nope.mp4")))
    with pytest.raises(UsageError, match="ends in"):
        body2d(photo, output_video=tmp_path / "out.txt")
    with pytest.raises((UsageError, OutputError), match="no folder"):
        body2d(photo, output_video=tmp_path / "nowhere" / "out.mp4")
    assert len(body2d(photo)["keypoints"]) == 1  # it goes on after every error


def test_what_was_read_of_a_broken_film_is_delivered(body2d: Pipeline, squat: Path, tmp_path: Path) -> None:
    path, data = tmp_path / "short.mkv", Film("mkv", "libx264", options={"threads": "1"}).write(tmp_path).read_bytes()
    path.write_bytes(data[:-200])
    result = body2d(path, output_video=tmp_path / "drawn.mp4")
    assert 1 <= len(result["keypoints"]) <= 8
    assert "short.mkv was cut off" in result["incomplete"]
    assert (tmp_path / "drawn.mp4").stat().st_size
    assert "incomplete" not in body2d(tmp_path / "film.mkv")


def test_times_and_main_persons_across_breaks() -> None:
    """A gap stays a gap; where a clock falls back one frame's time passes, and each epoch has its main person."""
    places = [(0, 0.0), (0, 6.96), (0, 7.0), (1, 7.04), (2, 0.0), (2, 0.04)]
    packets = [
        make_packet(
            seq=seq, epoch=epoch, pts=round(pts * 1e9),
            persons=[Person(epoch + 1, "tracked", np.array((0, 0, 10, 10), np.float32), 1.0)],
        )
        for seq, (epoch, pts) in enumerate(places)
    ]  # fmt: skip
    assert results.seconds(packets) / 1e9 == pytest.approx([0, 6.96, 7, 7.04, 7.08, 7.12], abs=1e-6)
    assert results.main_tracks(packets) == {1, 2, 3}


def test_a_video_does_not_replace_its_input(body2d: Pipeline, squat: Path) -> None:
    with pytest.raises(UsageError, match="the input itself"):
        body2d(squat, output_video=squat)


@pytest.mark.parametrize(
    ("lifter", "message"),
    [(None, "no conversion of keypoints from face106 to h36m17"), ("blazepose-world", "gives none")],
)
def test_a_lifter_that_the_2d_network_cannot_feed(
    weights: Callable[[str], Path], photo: Path, lifter: str | None, message: str
) -> None:
    with (
        streamkp.pipeline("body-3d-keypoints", lifter, pose2d=str(weights("easycv_face106"))) as run,
        pytest.raises(UsageError, match=message),
    ):
        run(photo)


def test_nothing_heavy_is_imported_and_the_interpreter_ends(photo: Path) -> None:
    code = (
        "import sys, streamkp; assert 'openvino' not in sys.modules; run = streamkp.pipeline('body-2d-keypoints');"
        f"print(len(run({str(photo)!r})['keypoints'])); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
