"""Crops and letterboxes of many frames at once against OpenCV's of one."""

import cv2
import numpy as np
import pytest
import torch

from streamkp.packet import Image
from streamkp.vision.crop import crop
from streamkp.vision.device_image import DeviceImage, Uploader, crop_affine, letterbox, region_matrices, yuv_to_rgb
from streamkp.vision.letterbox import letterbox_corner

CUDA = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
DEVICES = ["cpu", pytest.param("cuda", marks=CUDA)]
# The range that streamkp asks for; from 5 on warpAffine no longer rounds places to 1/32 pixel.
OPENCV_4 = pytest.mark.skipif(int(cv2.__version__.split(".")[0]) > 4, reason="another arithmetic than OpenCV 4")


def _picture(width: int, height: int, seed: int = 0) -> Image:
    small = np.random.default_rng(seed).integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), np.uint8)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


PICTURES = [_picture(96, 64), _picture(50, 122, 1), _picture(321, 77, 2)]


def _regions(count: int) -> np.ndarray:
    rng = np.random.default_rng(3)
    side = rng.uniform(10, 200, count)
    return np.column_stack([rng.uniform(-20, 120, (count, 2)), side, side, rng.uniform(-3, 3, count)]).astype(
        np.float32
    )


@OPENCV_4
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("border", "black"), [(cv2.BORDER_REPLICATE, False), (cv2.BORDER_CONSTANT, True)])
def test_crops_of_many_frames_are_those_of_opencv(device: str, border: int, black: bool) -> None:
    uploader = Uploader(device)
    images = [uploader.bgr(picture) for picture in PICTURES]
    regions = _regions(30)
    out = torch.full((32, 48, 40, 3), 77, dtype=torch.uint8, device=device)
    crop_affine(images, [i % 3 for i in range(30)], region_matrices(regions, 40, 48), out, black_outside=black)
    wanted = np.empty((48, 40, 3), np.uint8)
    for i, region in enumerate(regions):
        crop(PICTURES[i % 3], region, wanted, border)
        difference = np.abs(out[i].cpu().numpy()[..., ::-1].astype(int) - wanted)
        # A place that is rounded the other way, to 1/32 pixel, in one of ten thousand.
        assert difference.max() <= 8
        assert (difference > 0).mean() <= 1e-3
    assert (out[30:] == 77).all()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("size", [(64, 64), (320, 320), (300, 40)])
def test_letterboxes_are_those_of_opencv(device: str, size: tuple[int, int]) -> None:
    uploader = Uploader(device)
    out = torch.zeros((3, size[1], size[0], 3), dtype=torch.uint8, device=device)
    scales = letterbox([uploader.bgr(picture) for picture in PICTURES], out, fill=9)
    wanted = np.empty((size[1], size[0], 3), np.uint8)
    for i, picture in enumerate(PICTURES):
        assert scales[i] == letterbox_corner(picture, wanted, 9)
        assert np.abs(out[i].cpu().numpy()[..., ::-1].astype(int) - wanted).max() <= 1


def _yuv(bgr: Image, layout: str) -> list[np.ndarray]:
    height, width = bgr.shape[:2]
    yuv = cv2.cvtColor(bgr, cv2.COLOR_BGR2YUV_I420)
    chroma = yuv[height:].reshape(2, height // 2, width // 2)
    if layout == "i420":
        return [yuv[:height], chroma[0], chroma[1]]
    return [yuv[:height], np.stack(list(chroma), -1).reshape(height // 2, width)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", ["i420", "nv12"])
def test_yuv_frames_become_the_same_colours(device: str, layout: str) -> None:
    picture = cv2.GaussianBlur(PICTURES[0], (0, 0), 2) // 2 + 60  # no colour saturates
    converted = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420), cv2.COLOR_YUV2BGR_I420)
    image = Uploader(device).planes(_yuv(picture, layout), layout)  # type: ignore[arg-type]
    assert np.abs(image.pixels().astype(int) - converted).max() <= 1
    assert image.pixels() is image.pixels()
    out = torch.zeros((8, 40, 40, 3), dtype=torch.uint8, device=device)
    regions = _regions(8)
    crop_affine([image], [0] * 8, region_matrices(regions, 40, 40), out)
    wanted = np.empty((40, 40, 3), np.uint8)
    for i, region in enumerate(regions):
        crop(converted, region, wanted)
        difference = np.abs(out[i].cpu().numpy()[..., ::-1].astype(int) - wanted)
        assert difference.max() <= 4
        assert difference.mean() <= 0.5


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("black", [False, True])
def test_the_gpu_gives_the_pixels_of_the_cpu(black: bool) -> None:
    found = []
    for device in ("cpu", "cuda"):
        uploader = Uploader(device)
        images = [uploader.bgr(picture) for picture in PICTURES] + [uploader.planes(_yuv(PICTURES[0], "i420"), "i420")]
        crops = torch.zeros((30, 48, 40, 3), dtype=torch.uint8, device=device)
        which = [i % 4 for i in range(30)]
        crop_affine(images, which, region_matrices(_regions(30), 40, 48), crops, black_outside=black)
        boxes = torch.zeros((4, 64, 64, 3), dtype=torch.uint8, device=device)
        letterbox(images, boxes, fill=9)
        found.append(torch.cat([crops.cpu().flatten(), boxes.cpu().flatten()]).int())
    difference = (found[0] - found[1]).abs()
    # Sines of the last digit differently rounded may move a place by 1/32 pixel; so few, and so little.
    assert (difference > 0).float().mean() <= 1e-3
    assert difference.max() <= 8


@pytest.mark.parametrize("device", DEVICES)
def test_frames_of_different_layouts_go_together_and_yuv_is_black_outside(device: str) -> None:
    uploader = Uploader(device)
    images = [uploader.bgr(PICTURES[0]), uploader.planes(_yuv(PICTURES[0], "nv12"), "nv12")]
    far = np.array([(48, 32, 30, 30, 0), (500, 500, 20, 20, 0)], np.float32)
    out = torch.full((4, 24, 24, 3), 50, dtype=torch.uint8, device=device)
    crop_affine(images, [0, 1, 0, 1], region_matrices(far[[0, 0, 1, 1]], 24, 24), out, black_outside=True)
    assert (out[2:] == 0).all()
    assert (out[0].int() - out[1].int()).abs().float().mean() < 12  # the chroma of a quarter of the pixels
    assert out[0].float().std() > 5


def test_colour_standards_agree_on_grey_and_on_the_ends_of_the_range() -> None:
    for standard in ("bt601", "bt709", "bt2020"):
        for full, low, high in ((False, 16, 235), (True, 0, 255)):
            matrix = yuv_to_rgb(standard, full)
            np.testing.assert_allclose(matrix @ (low, 128, 128, 1), 0, atol=1e-9)
            np.testing.assert_allclose(matrix @ (high, 128, 128, 1), 255, atol=1e-9)
    red = yuv_to_rgb("bt709", True) @ (0.2126 * 255, 128 - 0.2126 * 255 / 1.8556, 128 + 127.5, 1)
    np.testing.assert_allclose(red, (255, 0, 0), atol=1e-3)


def test_a_host_image_is_not_copied_back() -> None:
    assert Uploader("cpu").bgr(PICTURES[0]).pixels() is PICTURES[0]
    assert isinstance(Uploader("cpu").bgr(PICTURES[0]), DeviceImage)
