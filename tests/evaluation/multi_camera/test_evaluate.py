from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import av
import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from typer.testing import CliRunner

from streamkp.cli.main import app
from streamkp.errors import UsageError
from streamkp.evaluation.multi_camera.evaluate import FIGURES, check, compare, figures, match_videos, standing, upwards
from streamkp.evaluation.multi_camera.live_views import ViewRecording
from streamkp.evaluation.multi_camera.reference import Reference
from tests.evaluation.ring import RATE, ring, shifting, watch

POSES = shifting(90)
FRAMES = 12  # of the real clips: decoding and networks take most of the time


def anywhere(poses: np.ndarray) -> np.ndarray:
    """The same motion as a lifter might give it: from the hip, in other axes and another size."""
    turn = Rotation.from_euler("xyz", (0.4, -1.1, 2.0)).as_matrix()
    return 0.8 * (poses - poses[:, :1]) @ turn


def test_the_reference_itself_has_no_error():
    row = figures(anywhere(POSES), POSES, standing(POSES, RATE), RATE)
    assert set(row) == {*FIGURES, "frames", "rate_hz"}
    for key in ("p_mpjpe_mm", "p_mpjpe_body_mm", "pa_mpjve_mm", "pa_mpjve_mm_s"):
        assert row[key] == pytest.approx(0, abs=1e-6)
    assert row["jitter_mm"] == pytest.approx(row["reference_jitter_mm"])
    assert row["foot_speed_mm_s"] == pytest.approx(row["reference_foot_speed_mm_s"], abs=1e-6)
    assert (row["frames"], row["rate_hz"]) == (90, RATE)


def test_noise_shows_in_every_figure():
    noise = np.random.default_rng(0).normal(scale=0.02, size=POSES.shape)
    row = figures(anywhere(POSES + noise), POSES, standing(POSES, RATE), RATE)
    assert 25 < row["p_mpjpe_mm"] < 35  # of three coordinates: 0.02 m * 2 * sqrt(2 / pi), less what alignment takes
    assert row["pa_mpjve_mm"] == pytest.approx(20 * 2 * 1.6 * 16 / 17, rel=0.1)  # two frames, and the hip in each
    assert row["pa_mpjve_mm_s"] == pytest.approx(RATE * row["pa_mpjve_mm"])
    assert row["jitter_mm"] > 50
    assert row["bone_spread_mm"] > 10
    assert row["foot_speed_mm_s"] > 1000


def test_a_lifter_of_half_the_rate_is_measured_on_the_frames_that_it_describes():
    every_second = np.where(np.arange(90)[:, None, None] % 2, np.nan, anywhere(POSES))
    row = figures(every_second, POSES, standing(POSES, RATE), RATE)
    assert (row["frames"], row["rate_hz"]) == (45, RATE / 2)
    thinned = figures(anywhere(POSES[::2]), POSES[::2], standing(POSES, RATE)[::2], RATE / 2)
    assert row == pytest.approx(thinned, abs=1e-6)
    # after a loss the other half of the frames may be described
    shifted = np.where((np.arange(90) % 2 == (np.arange(90) > 45))[:, None, None], anywhere(POSES), np.nan)
    row = figures(shifted, POSES, standing(POSES, RATE), RATE)
    assert row["rate_hz"] == RATE / 2
    assert row["pa_mpjve_mm"] == pytest.approx(0, abs=1e-6)


def test_what_was_not_measured_is_none():
    once = np.full(POSES.shape, np.nan)
    once[3] = anywhere(POSES)[3]
    row = figures(once, POSES, standing(POSES, RATE), RATE)
    assert row["frames"] == 1
    assert row["p_mpjpe_mm"] == pytest.approx(0, abs=1e-6)
    assert row["pa_mpjve_mm"] is None
    assert row["foot_speed_mm_s"] is None
    json.dumps(row, allow_nan=False)
    with pytest.raises(ValueError, match="no frame"):
        figures(np.full(POSES.shape, np.nan), POSES, standing(POSES, RATE), RATE)


def test_what_fits_badly_is_not_steadier_for_it():
    """The best scale of a sequence that is upside down half of the time is near zero; its jitter is not."""
    noisy = anywhere(POSES + np.random.default_rng(0).normal(scale=0.02, size=POSES.shape))
    fallen = noisy.copy()
    fallen[45:, :, :2] *= -1
    stands = standing(POSES, RATE)
    right, wrong = (figures(poses, POSES, stands, RATE) for poses in (noisy, fallen))
    assert wrong["jitter_mm"] > right["jitter_mm"]  # by the frame in which it turns
    assert wrong["bone_spread_mm"] == pytest.approx(right["bone_spread_mm"])


def test_the_face_does_not_count_for_the_body():
    other = POSES.copy()
    other[:, 9:11] += 0.3
    row = figures(other, POSES, standing(POSES, RATE), RATE)
    assert row["p_mpjpe_mm"] > 20
    assert row["p_mpjpe_body_mm"] == pytest.approx(0, abs=1e-6)


def test_feet_stand_where_they_are_low_and_still():
    left, right = standing(POSES, RATE).T
    assert right.all()
    assert left[:38].all()
    assert not left[48:85].any()
    turned = POSES @ Rotation.from_euler("x", 90, degrees=True).as_matrix().T  # the world's y is down, x as before
    assert upwards(turned).tolist() == [0, -1, 0]
    assert np.array_equal(standing(turned, RATE), standing(POSES, RATE))
    assert not standing(POSES[:1], RATE).any()
    assert not standing(np.full(POSES.shape, np.nan), RATE).any()


def test_each_view_is_measured_by_its_own_person():
    cameras = ring(3)
    views = [watch(camera, POSES + np.array([1.0, 0, 0]), POSES) for camera in cameras]
    report = compare(cameras, views, Reference("given", POSES), "mine")
    assert list(report["views"]) == ["cam0", "cam1", "cam2"]
    for models in report["views"].values():
        assert set(models) == {"mine", "blazepose-world"}
        for row in models.values():
            assert row["frames"] == 90
            assert row["p_mpjpe_mm"] == pytest.approx(0, abs=1e-6)
    assert report["reference"]["origin"] == "given"
    assert report["reference"]["frames"] == 90


def test_a_view_that_starts_later_is_measured_at_the_same_times():
    camera = dataclasses.replace(ring(1)[0], frame_offset=5)
    report = compare([camera], [watch(camera, POSES)], Reference("given", POSES), "mine")
    assert report["views"]["cam0"]["mine"]["pa_mpjve_mm"] == pytest.approx(0, abs=1e-6)


def test_blazepose_is_measured_on_the_frames_of_the_model():
    (camera,) = ring(1)
    view = watch(camera, POSES)
    lifted = view.tracks[0, 1].lifted
    for t in range(0, 90, 2):
        del lifted[t]
    rows = compare([camera], [view], Reference("given", POSES), "mine")["views"]["cam0"]
    assert rows["mine"]["frames"] == rows["blazepose-world"]["frames"] == 45
    assert rows["blazepose-world"]["rate_hz"] == pytest.approx(RATE / 2)


def test_a_view_without_the_person():
    (camera,) = ring(1)
    view = watch(camera, POSES + np.array([0, 0, 3.0]))
    with pytest.raises(UsageError, match="camera cam0: mine gave no pose of the person"):
        compare([camera], [view], Reference("given", POSES), "mine")


@pytest.mark.parametrize(
    ("view", "message"),
    [
        (ViewRecording("h36m17", (1080, 1920), [0]), r"b.mp4 has a single frame"),
        (
            ViewRecording("h36m17", (540, 960), [0, 16_666_667]),
            r"b.mp4 is 540 x 960, but camera cam1 was .* 1080 x 1920",
        ),
        (ViewRecording("h36m17", (1080, 1920), [0, 40_000_000]), r"b.mp4 has 25 frames a second, a.mp4 60"),
    ],
)
def test_videos_that_do_not_fit(view, message):
    cameras = ring(2)
    with pytest.raises(UsageError, match=message):
        check(cameras, [Path("a.mp4"), Path("b.mp4")], [watch(cameras[0], POSES), view])


def test_videos_are_found_by_the_cameras_names(tmp_path):
    cameras = ring(3)
    for name in ("walk_cam0.mp4", "walk_CAM1.MOV", "cam0.txt"):
        (tmp_path / name).touch()
    found = match_videos(cameras, [tmp_path])
    assert {name: path.name for name, path in found.items()} == {"cam0": "walk_cam0.mp4", "cam1": "walk_CAM1.MOV"}
    assert match_videos(cameras, [tmp_path / "walk_cam0.mp4"]).keys() == {"cam0"}
    (tmp_path / "run_cam0.mp4").touch()
    with pytest.raises(UsageError, match="are both of camera cam0"):
        match_videos(cameras, [tmp_path])
    with pytest.raises(UsageError, match=r"names no camera of the calibration \(cam0, cam1, cam2\)"):
        match_videos(cameras, [tmp_path / "walk_cam01.mp4"])
    rig = [dataclasses.replace(cameras[0], name="int_cam0_img")]
    assert match_videos(rig, [Path("cam0.mp4")]) == {"int_cam0_img": Path("cam0.mp4")}
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UsageError, match="no video in"):
        match_videos(cameras, [empty])


@pytest.fixture(scope="module")
def clips(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first frames of two of the views, as they are."""
    folder = tmp_path_factory.mktemp("clips")
    for name in ("cam01", "cam04"):
        with (
            av.open(str(assets / "clips" / f"pose2sim_single_{name}.mp4")) as source,
            av.open(str(folder / f"{name}.mp4"), "w") as out,
        ):
            stream = source.streams.video[0]
            copy = out.add_stream_from_template(stream)
            for n, packet in enumerate(source.demux(stream)):
                if packet.dts is None or n == FRAMES:
                    break
                packet.stream = copy
                out.mux(packet)
    return folder


def run(assets: Path, *arguments: object) -> str:
    command = ["eval", "multiview", "--calib", assets / "clips" / "pose2sim_cameras.json", *arguments]
    command += ["--model", "blazepose-world"]
    done = CliRunner().invoke(app, [str(a) for a in command], catch_exceptions=False, env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_real_view_against_a_given_reference(assets, clips):
    given = assets / "clips" / "pose2sim_single_triangulated33.npz"
    text = run(assets, "--videos", clips / "cam01.mp4", "--reference", given)
    assert f"reference: {given.name}; 100 frames at 60 Hz" in text
    assert "cam01" in text
    assert "each pose turned, scaled and moved" in text


def test_real_views_against_each_other(assets, clips):
    report = json.loads(run(assets, "--videos", clips / "cam01.mp4", clips / "cam04.mp4", "--json"))
    assert report["reference"]["origin"] == "2 views of blazepose-full, triangulated"
    assert report["reference"]["reprojection_px"] < 30
    assert set(report["views"]) == {"cam01", "cam04"}
    for models in report["views"].values():
        row = models["blazepose-world"]
        assert 6 <= row["frames"] <= FRAMES
        assert row["rate_hz"] == pytest.approx(60, rel=1e-3)
        assert 20 < row["p_mpjpe_mm"] < 120
        assert row["jitter_mm"] > 0


def test_two_references_are_one_too_many(assets, clips):
    with pytest.raises(UsageError, match="leave one of them out"):
        run(assets, "--videos", clips, "--reference", "a.npz", "--reference-pose", "blazepose-heavy")
