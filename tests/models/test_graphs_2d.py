"""The ready-made graphs of the 2D networks on a real clip, from decoding to the published messages.

The networks whose real weights are not at hand run with synthetic ones of the same shapes: what they find is noise,
and what is tested is everything around them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from streamkp import wire
from streamkp.graph.engine import Engine
from streamkp.graph.graph import Graph
from streamkp.models import zoo
from tests.models.onnx_files import FIGURE, Figure, write_pose

Weights = Callable[..., dict[str, torch.Tensor]]
WIRE_KEYS = {"track", "state", "box", "score", "keypoints_2d"}


@pytest.fixture
def clip(assets: Path, tmp_path: Path) -> Callable[[int], str]:
    """`clip(n)`: the first frames of somebody doing squats."""

    def cut(frames: int) -> str:
        source = cv2.VideoCapture(str(assets / "clips" / "squat_single_person.mp4"))
        size = int(source.get(cv2.CAP_PROP_FRAME_WIDTH)), int(source.get(cv2.CAP_PROP_FRAME_HEIGHT))
        path = tmp_path / "clip.mp4"
        out = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 30, size)
        for _ in range(frames):
            out.write(source.read()[1])
        out.release()
        return str(path)

    return cut


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., list[wire.Message]]:
    """`play(graph, clip, override, ...)`: the messages of a ready-made graph, recorded in place of published."""

    def run(name: str, clip: str, *overrides: str) -> list[wire.Message]:
        out = tmp_path / "out.jsonl"
        record = f"stages.publish={{use: record, path: {out}, overwrite: true}}"
        graph = Graph.from_yaml(name, overrides=[record, *overrides]).only_streams({"clip": clip})
        engine = Engine(graph.validate())
        engine.start()
        engine.wait()
        return [wire.decode(line) for line in out.read_bytes().splitlines()]

    return run


def everybody(messages: list[wire.Message]) -> list[dict[str, Any]]:
    return [person for message in messages for person in message["persons"]]


def figure_of(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """HRNet weights that see nothing of the image, but the same standing person in every crop.

    The tracker would rightly refuse noise. With the first layer at zero what is left are the borders of the crop, and
    how far each place is from them: enough for the last layer to tell a joint's place, by least squares.
    """
    weights["backbone.conv1.weight"].zero_()
    network = zoo.load("hrnet-w48-wholebody133", weights)
    with torch.inference_mode():
        (features,) = network.backbone(torch.zeros(1, 3, 384, 288))  # type: ignore[operator]
    channels, height, width = features.shape[1:]
    joints = FIGURE + [FIGURE[15]] * 3 + [FIGURE[16]] * 3 + [FIGURE[0]] * 68 + [FIGURE[9]] * 21 + [FIGURE[10]] * 21
    at = torch.tensor(joints) * torch.tensor([width, height])
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    squared = (x - at[:, 0, None, None]) ** 2 + (y - at[:, 1, None, None]) ** 2
    wanted = 2 * torch.exp(-squared / (2 * 12.0**2)).flatten(1).double()
    basis = torch.cat([features[0].flatten(1), torch.ones(1, height * width)]).double()
    border = (torch.minimum(x, width - 1 - x) < 4) | (torch.minimum(y, height - 1 - y) < 4)
    weight = 1 + 4 * border.flatten().double()  # or the maxima are on the border, where features are extreme
    solved = torch.linalg.lstsq((basis * weight).T, (wanted * weight).T, driver="gelsd").solution.T.float()
    weights["head.final_layer.weight"] = solved[:, :channels, None, None].contiguous()
    weights["head.final_layer.bias"] = solved[:, channels].contiguous()
    return weights


def test_wholebody(clip: Callable[[int], str], play: Any, assets: Path, weights: Weights, tmp_path: Path) -> None:
    save_file(figure_of(weights("hrnet_w48_wholebody133")), tmp_path / "wholebody.safetensors")
    messages = play(
        "wholebody",
        clip(3),
        f"stages.detect.model={assets / 'models' / 'efficientdet_lite0_uint8_320.tflite'}",
        f"stages.keypoints.checkpoint={tmp_path / 'wholebody.safetensors'}",
        "stages.keypoints.runtime=torch",  # the network is not worth converting for two frames
        "stages.keypoints.device=cpu",
    )
    assert [message["seq"] for message in messages] == [0, 1, 2]
    people = everybody(messages)
    assert [person["track"] for person in people] == [1, 1, 1]
    for person in people:
        assert person.keys() == WIRE_KEYS
        assert person["keypoints_2d"]["skeleton"] == "wholebody133"
        points = person["keypoints_2d"]["points"]
        assert points.shape == (133, 3)
        assert points[:, 2].min() > 0.2
        assert (np.diff(points[[0, 11, 15], 1]) > 0).all()  # head above hips above feet


def test_rtmpose(clip: Callable[[int], str], play: Any, assets: Path, tmp_path: Path) -> None:
    messages = play(
        "rtmpose",
        clip(15),
        f"stages.detect.model={assets / 'models' / 'yolox_nano_416_opset11.onnx'}",
        f"stages.keypoints.model={write_pose(tmp_path / 'rtmpose.onnx', Figure())}",
    )
    assert [message["seq"] for message in messages] == list(range(15))
    people = everybody(messages)
    assert [person["track"] for person in people] == [1] * 15  # one person, all the time
    assert [person["state"] for person in people] == ["new", *["tracked"] * 14]
    for person in people:
        assert person.keys() == WIRE_KEYS
        assert person["keypoints_2d"]["skeleton"] == "coco17"
        points = person["keypoints_2d"]["points"]
        assert points.shape == (17, 3)
        np.testing.assert_allclose(points[:, 2], 0.9, atol=2e-3)
        assert (np.diff(points[[0, 11, 15], 1]) > 0).all()  # head above hips above feet


@pytest.mark.parametrize(
    ("name", "stages", "share"),
    [
        ("demo", ["keypoints"], 1e-3),
        # The detector is quantised, so that the first crop is a few pixels from that of the CPU.
        ("rtsp-fleet", ["detect", "keypoints"], 0.01),
    ],
)
def test_the_default_models_in_torch(
    name: str,
    stages: list[str],
    share: float,
    clip: Callable[[int], str],
    play: Any,
    assets: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CAM_PASSWORD", "unused")
    files = [
        f"stages.detect.model={assets / 'models' / 'efficientdet_lite0_uint8_320.tflite'}",
        f"stages.keypoints.model={assets / 'models' / 'mediapipe' / 'pose_landmark_full.tflite'}",
        "stages.lift.model=blazepose-world",
    ]
    path = clip(6)
    in_torch = [f"stages.{stage}.{option}" for stage in stages for option in ("runtime=torch", "device=cpu")]
    wanted = everybody(play(name, path, *files))
    got = everybody(play(name, path, *files, *in_torch))
    assert len(got) == len(wanted) == 6
    for ours, theirs in zip(got, wanted, strict=True):
        assert (ours["track"], ours["state"]) == (theirs["track"], theirs["state"])
        points, others = (person["keypoints_2d"]["points"][:, :2] for person in (ours, theirs))
        assert np.linalg.norm(points - others, axis=1).mean() <= share * theirs["box"][3]


def test_hands_and_face(
    clip: Callable[[int], str],
    play: Any,
    assets: Path,
    weights: Weights,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STREAMKP_HOME", str(tmp_path / "home"))
    save_file(weights("hrnetv2_w18_hand21"), tmp_path / "hand.safetensors")
    save_file(weights("easycv_face106"), tmp_path / "face.safetensors")
    models = assets / "models"
    messages = play(
        "hands-face-hrnet",
        clip(8),
        f"stages.detect.model={models / 'efficientdet_lite0_uint8_320.tflite'}",
        f"stages.keypoints.model={models / 'mediapipe' / 'pose_landmark_full.tflite'}",
        f"stages.parts.hands={tmp_path / 'hand.safetensors'}",
        f"stages.parts.face={tmp_path / 'face.safetensors'}",
    )
    assert len(messages) == 8
    people = everybody(messages)
    assert len(people) == 8
    for person in people:
        assert person.keys() == WIRE_KEYS | {"hands", "face"}
        assert person["keypoints_2d"]["points"].shape == (33, 3)
        assert {np.shape(hand) for hand in person["hands"].values()} == {(21, 3)}
        assert person["hands"].keys() <= {"left", "right"}
        points = np.array(person["face"]["points"])
        assert points.shape == (106, 3)
        # The face network has a mean face inside: even with random weights the points are around the nose.
        nose = person["keypoints_2d"]["points"][0, :2]
        assert np.abs(points[:, :2].mean(axis=0) - nose).max() < 0.2 * person["box"][3]
        assert np.isfinite(person["face"]["angles"]).all()
