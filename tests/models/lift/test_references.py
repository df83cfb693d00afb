"""Lifting window by window gives what the references give for whole sequences.

The weights are synthetic, those that the reference outputs were made with, unless a test says otherwise.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from streamkp.errors import ModelError, UsageError
from streamkp.models import checkpoint, zoo
from streamkp.models.lift.lifters import Lifter
from streamkp.packet import Keypoints2D, Keypoints3D, Packet, Person
from streamkp.stages.window import WindowStage
from streamkp.testing import make_packet, open_stage
from tests.lifting import open_lifter
from tests.reference.cameras import H36M_CAMERA, from_screen_coordinates

SIZE = (1000, 1002)  # pictures of Human3.6M
CAMERAS = {"cam": H36M_CAMERA}
BOX = np.array((0, 0, 100, 300), np.float32)


def packets(
    pixels: np.ndarray,
    window: int,
    stream: str = "cam",
    skeleton: str = "h36m17",
    size: tuple[int, int] = SIZE,
    rate: float | None = 50,
) -> Iterator[Packet]:
    """One person per frame, 50 a second, with the window that the window stage makes: pixels [T, K, 2]."""
    stage = open_stage(WindowStage, {"frames": window, "rate": rate})
    assert isinstance(stage, WindowStage)
    for seq, pose in enumerate(pixels):
        points = np.concatenate([pose, np.ones((len(pose), 1))], 1).astype(np.float32)
        person = Person(1, "tracked", BOX, 1.0, keypoints_2d=Keypoints2D(skeleton, points))
        pts = seq * 20_000_000
        packet = make_packet(stream, seq, pts=pts, persons=[person], width=size[0], height=size[1], image=None)
        yield stage.process(packet)


def lift(lifter: Lifter, *frames: Packet) -> list[Keypoints3D]:
    lifted = lifter.lift([(packet, person) for packet in frames for person in packet.persons])
    assert all(pose is not None for pose in lifted)
    return [pose for pose in lifted if pose is not None]


def rooted(pose: np.ndarray) -> np.ndarray:
    return pose - pose[..., :1, :]


@pytest.fixture(scope="module")
def hdformer_file(golden, weights, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("hdformer")
    save_file(weights("hdformer"), folder / "model.safetensors")
    reference = np.load(golden / "hdformer" / "prepost.npz")
    for d in (2, 3):
        np.save(folder / f"mean_std_{d}d.npy", np.stack([reference[f"mean_{d}d"], reference[f"std_{d}d"]]))
    return folder / "model.safetensors"


@pytest.mark.parametrize(
    ("output", "lookahead", "newest", "frame"),
    [("ref_out_96", 0, 95, 95), ("ref_out_96", 30, 95, 65), ("intended_out_200_w5", 95, 100, 5)],
)
def test_hdformer(golden, hdformer_file, assert_parity, output, lookahead, newest, frame):
    reference = np.load(golden / "hdformer" / "prepost.npz")
    lifter = open_lifter("hdformer", checkpoint=hdformer_file, runtime="torch", lookahead=lookahead, cameras=CAMERAS)
    assert (lifter.name, lifter.frames, lifter.skeleton, lifter.rate) == ("hdformer", 96, "h36m17", 50.0)
    *_, last = packets(reference["seq_2d"][: newest + 1], lifter.frames)
    (pose,) = lift(lifter, last)
    assert (pose.skeleton, pose.space, pose.frame_seq) == ("h36m17", "camera", frame)
    assert_parity(pose.points, rooted(reference[output][0, frame]))


def test_hdformer_without_flip_averaging(golden, hdformer_file, assert_parity):
    reference = np.load(golden / "hdformer" / "prepost.npz")
    lifter = open_lifter(str(hdformer_file), runtime="torch", flip=False, cameras=CAMERAS)
    *_, last = packets(reference["seq_2d"][:96], 96)
    network = zoo.load("hdformer", hdformer_file)
    mean, std = (torch.from_numpy(reference[key]).float().T[None, :, None] for key in ("mean_3d", "std_3d"))
    with torch.no_grad():
        plain = network(torch.from_numpy(reference["ref_in_96"])[None], mean, std)[0, :, 95].T.numpy() / 1000
    assert_parity(lift(lifter, last)[0].points, rooted(plain))


def test_hdformer_without_its_statistics(weights, golden, tmp_path, caplog):
    save_file(weights("hdformer"), tmp_path / "model.safetensors")
    with caplog.at_level(logging.WARNING):
        lifter = open_lifter(str(tmp_path / "model.safetensors"), runtime="torch")
    assert "mean_std_2d.npy and mean_std_3d.npy are not beside" in caplog.text
    *_, last = packets(np.load(golden / "hdformer" / "prepost.npz")["seq_2d"][:3], 96)
    (pose,) = lift(lifter, last)
    assert 0.5 < np.abs(pose.points).max() < 3  # a person in metres


@pytest.fixture(scope="module")
def videopose3d_file(weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("videopose3d")

    def save(variant: str, golden_folder: str = "videopose3d") -> Path:
        path = folder / f"{golden_folder}-{variant}.safetensors"
        if not path.exists():
            save_file(weights(golden_folder, variant), path)
        return path

    return save


@pytest.fixture(scope="module")
def sequence(golden) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Pixels of the reference's sequence, and its outputs."""
    io = dict(np.load(golden / "videopose3d" / "io.npz"))
    return from_screen_coordinates(io["seq"].astype(np.float64), *SIZE), io


@pytest.mark.parametrize(("causal", "lookahead"), [(False, 13), (True, 0)])
def test_every_frame_of_a_sequence(videopose3d_file, sequence, assert_parity, causal, lookahead):
    pixels, io = sequence
    file = videopose3d_file("f27")
    lifter = open_lifter("videopose3d-27f", checkpoint=file, runtime="torch", causal=causal, lookahead=lookahead)
    assert lifter.frames == 27
    poses = {pose.frame_seq: pose for packet in packets(pixels[:50], 27) for pose in lift(lifter, packet)}
    assert sorted(poses) == list(range(50 - lookahead))
    expected = rooted(io["f27_causal_padded50" if causal else "f27_padded50"][0])
    assert_parity(np.stack([poses[i].points for i in sorted(poses)]), expected[: 50 - lookahead])


@pytest.mark.parametrize("variant", ["f1x5", "f27", "f81", "f243"])
def test_the_end_of_a_sequence_is_the_newest_frame(videopose3d_file, sequence, assert_parity, variant):
    pixels, io = sequence
    lifter = open_lifter(str(videopose3d_file(variant)), runtime="torch")  # which network it is, the shapes tell
    assert lifter.frames == {"f1x5": 1, "f27": 14, "f81": 41, "f243": 122}[variant]
    *_, last = packets(pixels[:50], lifter.frames + 5)  # a longer window is as good
    (pose,) = lift(lifter, last)
    assert pose.frame_seq == 49
    assert_parity(pose.points, rooted(io[f"{variant}_padded50"][0, 49]))


def test_flip_averaging(videopose3d_file, sequence, assert_parity):
    pixels, io = sequence
    lifter = open_lifter(str(videopose3d_file("f27")), runtime="torch", flip=True)
    *_, last = packets(pixels[:50], 14)
    assert_parity(lift(lifter, last)[0].points, rooted(io["f27_flip_avg50"][0, 49]))


def test_trajectory_under_mmpose_names(videopose3d_file, golden, sequence, assert_parity):
    io = np.load(golden / "mmpose_video_pose_lift" / "io.npz")
    pixels = from_screen_coordinates(io["seq"].astype(np.float64), *SIZE)
    file = videopose3d_file("27frm-semi-supv", "mmpose_video_pose_lift")
    lifter = open_lifter(str(file), runtime="torch", lookahead=13, trajectory=True)
    *_, last = packets(pixels[20:47], 27)
    (pose,) = lift(lifter, last)
    expected = io["27frm-semi-supv_pose"][1]
    assert_parity(pose.points, rooted(expected))
    assert_parity(pose.root, io["27frm-semi-supv_traj"][1, 0] + expected[0])


@pytest.fixture(scope="module")
def tpnet_file(weights, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("tpnet") / "model.pt"
    torch.save({f"model_{part}": weights("tpnet", f"rf27_{part}") for part in ("pos", "traj")}, path)
    return path


@pytest.mark.parametrize(
    ("run", "settings", "lookahead"),
    [
        ("rf27", {}, 13),
        ("rf27_offsets", {"USE_2D_OFFSETS": True}, 5),
        ("rf27_noncanonical", {"USE_CANONICAL_COORDS": False}, 0),
        ("rf27_causal", {"CAUSAL": True}, 0),
    ],
)
def test_tpnet(tpnet_file, golden, tmp_path, assert_parity, run, settings, lookahead):
    io = np.load(golden / "tpnet" / "io.npz")
    file = tmp_path / "model.pt"
    file.hardlink_to(tpnet_file)
    (tmp_path / "configuration.json").write_text(json.dumps({"model": {"MODEL": settings}}))
    lifter = open_lifter(
        "tpnet", checkpoint=file, runtime="torch", lookahead=lookahead, trajectory=True, cameras=CAMERAS
    )
    expected, trajectory = io[f"{run}_pos"][0], io[f"{run}_traj"][0]
    *_, last = packets(io["seq_2d"][: len(expected)], lifter.frames)
    (pose,) = lift(lifter, last)
    frame = len(expected) - 1 - lookahead
    assert pose.frame_seq == frame
    assert_parity(pose.points, rooted(expected[frame]))
    assert_parity(pose.root, trajectory[frame, 0] + expected[frame, 0])


# --- small networks with random weights ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Files of small networks, by catalog name."""
    folder = tmp_path_factory.mktemp("small")
    torch.manual_seed(0)
    narrow = {"tpnet": {"filter_widths": (3, 3), "trajectory_channels": 16}}

    def save(name: str) -> Path:
        path = folder / f"{name}.safetensors"
        if not path.exists():
            checkpoint.write(zoo.create(name, channels=16, **narrow.get(name, {})), path, name)
        return path

    return save


@pytest.fixture
def walkers() -> list[np.ndarray]:
    """Three people in pixels."""
    rng = np.random.default_rng(1)
    return [rng.uniform(100, 900, (30, 17, 2)) for _ in range(3)]


@pytest.mark.parametrize("name", ["tpnet", "videopose3d-27f-semi"])
@pytest.mark.parametrize("flip", [False, True])
def test_openvino_gives_what_torch_gives_all_tracks_or_one_by_one(small, walkers, assert_parity, name, flip):
    by_torch, by_openvino = (
        open_lifter(name, checkpoint=small(name), runtime=runtime, trajectory=True, flip=flip)
        for runtime in ("torch", "openvino")
    )
    sizes = [SIZE, (640, 480), (1080, 1920)]
    people = [
        list(packets(walker, by_torch.frames, stream, size=size))[-1]
        for walker, stream, size in zip(walkers, ("a", "a", "b"), sizes, strict=True)
    ]
    together = lift(by_torch, *people)
    for way in ([lift(by_torch, person)[0] for person in people], lift(by_openvino, *people)):
        for one, other in zip(way, together, strict=True):
            assert_parity(one.points, other.points)
            assert_parity(one.root, other.root)
    assert not np.allclose(together[0].points, together[1].points)


@pytest.mark.parametrize("name", ["hdformer", "tpnet", "videopose3d-243f"])
def test_a_video_of_three_frames(small, walkers, name):
    if name == "hdformer":
        network = zoo.create(name, channels=(8, 8, 8, 8, 8))
        file = small("tpnet").parent / "hdformer.safetensors"
        checkpoint.write(network, file, name)
    else:
        file = small(name)
    lifter = open_lifter(name, checkpoint=file, runtime="torch", threads=1)
    for packet in packets(walkers[0][:3], lifter.frames):
        (pose,) = lift(lifter, packet)
        assert pose.frame_seq == packet.seq
        assert pose.points.shape == (17, 3)
        assert pose.points.dtype == np.float32
        assert np.isfinite(pose.points).all()
        assert not pose.points[0].any()


@pytest.mark.parametrize(
    ("skeleton", "rate", "message"),
    [("coco17", 50, "the window holds coco17"), ("h36m17", 25, "has 25 Hz"), ("h36m17", None, "a row for each frame")],
)
def test_windows_of_another_layout_or_rate_are_refused(small, skeleton, rate, message):
    """They would give wrong poses; a graph has them converted and put on the time grid by its window stage."""
    lifter = open_lifter(str(small("videopose3d-27f")), runtime="torch")
    *_, last = packets(np.ones((3, 17, 2)), 14, skeleton=skeleton, rate=rate)
    with pytest.raises(
        UsageError, match=f"reads windows of h36m17 poses at 50 Hz, and the window .*{message}|{message}"
    ):
        lift(lifter, last)


def test_a_network_for_coco_keypoints_is_given_them(small):
    lifter = open_lifter("videopose3d-original-coco", checkpoint=small("videopose3d-243f"), runtime="torch")
    assert lifter.skeleton == "coco17"
    assert lifter.skeleton_3d == "h36m17"


def test_a_short_window_is_filled_and_said(small, walkers, caplog, assert_parity):
    file = str(small("videopose3d-27f"))
    short, long = ([*packets(walkers[0], n)][-1] for n in (5, 14))
    with caplog.at_level(logging.WARNING):
        first = lift(open_lifter(file, runtime="torch"), short)[0]
    assert "reads 14 poses and the window holds 5: leave `frames` out of the window stage" in caplog.text
    assert first.frame_seq == 29
    assert not np.allclose(first.points, lift(open_lifter(file, runtime="torch"), long)[0].points)


def test_no_window_stage_above(small):
    lifter = open_lifter(str(small("videopose3d-27f")), runtime="torch")
    person = Person(1, "tracked", BOX, 1.0, keypoints_2d=Keypoints2D("h36m17", np.ones((17, 3), np.float32)))
    with pytest.raises(UsageError, match=r"no stage above makes them: put `window: \{use: window\}` above"):
        lifter.lift([(make_packet(), person)])
    person.state = "predicted"  # a person who was never seen with joints has no window yet
    assert lifter.lift([(make_packet(), person)]) == [None]


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("videopose3d-27f", {"lookahead": 14}, UsageError, "lookahead must be at most 13"),
        ("videopose3d-27f", {"causal": True, "lookahead": 1}, UsageError, "must be 0, since it sees no later frames"),
        (
            "videopose3d-27f",
            {"trajectory": True},
            ModelError,
            "gives no trajectory; hdformer-streamkp, hdformer, tpnet, videopose3d-27f-",
        ),
        ("videopose3d-27f", {"runtime": "openvino", "device": "cuda"}, UsageError, "openvino runs on the CPU"),
        ("tpnet", {"lookahead": 5}, UsageError, "at most 4"),
    ],
)
def test_what_a_lifter_cannot_do(small, name, options, error, message):
    with pytest.raises(error, match=message):
        open_lifter(str(small(name)), **{"runtime": "torch", **options})


def test_files_of_something_else(small, tmp_path):
    with pytest.raises(ModelError, match=r"not a checkpoint of hdformer; it fits .*videopose3d-27f"):
        open_lifter("hdformer", checkpoint=small("videopose3d-27f"))
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(ModelError, match="of none of the lifters; they are hdformer, tpnet"):
        open_lifter(str(tmp_path / "other.pt"))
    with pytest.raises(ModelError, match="did you mean 'videopose3d-27f'"):
        open_lifter("videopose3d-27")
    with pytest.raises(UsageError, match="it has no checkpoint"):
        open_lifter("blazepose-world", checkpoint=tmp_path / "other.pt")


def test_numbers_that_are_not_finite(small, walkers, tmp_path):
    network = zoo.create("videopose3d-27f", channels=16)
    torch.nn.init.constant_(network.shrink.weight, 3e38)
    checkpoint.write(network, tmp_path / "huge.safetensors", "videopose3d-27f")
    *_, last = packets(walkers[0], 14)
    for runtime in ("torch", "openvino"):
        with pytest.raises(ModelError, match="gave a value that is not finite"):
            lift(open_lifter(str(tmp_path / "huge.safetensors"), runtime=runtime), last)
    walkers[0][-1, 3, 0] = np.nan
    *_, last = packets(walkers[0], 14)
    with pytest.raises(ModelError, match="the keypoints of track 1 in stream cam are not finite"):
        lift(open_lifter(str(small("videopose3d-27f")), runtime="torch"), last)
