"""Frames that the decoder gives, on the device: the same pixels as on the host."""

import logging
from typing import Any

import av
import cv2
import numpy as np
import pytest
import torch
from av.video.reformatter import VideoReformatter

from streamkp.sources import device_frames as frames
from streamkp.sources.container import VideoReader
from streamkp.sources.device_frames import DeviceFrames, to_device
from streamkp.vision.device_image import DeviceImage, Uploader
from tests.sources.videos import MakeClip

CUDA = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
DEVICES: Any = ["cpu", pytest.param("cuda", marks=CUDA)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", ["yuv420p", "yuvj420p", "nv12", "yuv444p"])
@pytest.mark.parametrize("standard", [1, 2, 5, 9])  # BT.709, not said, BT.601, BT.2020
@pytest.mark.parametrize("full", [1, 2])
@pytest.mark.parametrize("height", [192, 720])
def test_colours_are_those_of_the_host(device: str, layout: str, standard: int, full: int, height: int) -> None:
    small = np.random.default_rng(0).integers(16, 240, (4, 6, 3), np.uint8)
    picture = cv2.resize(small, (320, height), interpolation=cv2.INTER_CUBIC)
    frame = av.VideoFrame.from_ndarray(picture, format="bgr24").reformat(format=layout)
    frame.colorspace, frame.color_range = standard, full
    wanted = VideoReformatter().reformat(frame, format="bgr24", threads=1).to_ndarray()
    got = to_device(frame, Uploader(device)).pixels()
    difference = np.abs(got.astype(int) - wanted)
    assert difference.mean() < 2
    assert np.percentile(difference, 99) <= 6


def test_frames_go_to_the_device_where_they_need_no_turning(make_clip: MakeClip) -> None:
    path = str(make_clip(frames=3))
    device = DeviceFrames(Uploader("cpu"), nvdec=False)
    with VideoReader(path, "clip", threads=1, max_pixels=10**6) as reader:
        wanted = [picture.image for picture in reader.pictures()]
    with VideoReader(path, "clip", threads=1, max_pixels=10**6, device=device) as reader:
        got = [picture.image for picture in reader.pictures()]
    assert len(got) == len(wanted) == 3
    for ours, theirs in zip(got, wanted, strict=True):
        assert isinstance(ours, DeviceImage)
        assert isinstance(theirs, np.ndarray)
        assert ours.shape == theirs.shape
        assert np.abs(ours.pixels().astype(int) - theirs).mean() < 3
    with VideoReader(path, "clip", threads=1, max_pixels=10**6, rotate=90, device=device) as reader:
        turned = next(reader.pictures()).image
    np.testing.assert_array_equal(turned, np.rot90(np.asarray(wanted[0]), -1))


@pytest.mark.parametrize(("wanted", "told"), [("cuda", 1), ("auto", 0), ("none", 0)])
def test_what_is_missing_is_said_once(
    wanted: Any, told: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(frames, "cuda_devices", lambda: 0)
    assert frames.device_frames(wanted, logging.getLogger("streamkp.decode")) is None
    assert [record.getMessage() for record in caplog.records] == [
        "frames stay on the host (hwaccel cuda): the CUDA driver finds no GPU"
    ] * told
