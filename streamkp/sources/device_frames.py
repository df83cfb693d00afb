"""Decoded frames on their way to the device: left there by NVDEC, or uploaded as the decoder gives them."""

from __future__ import annotations

from typing import Any

import av
import numpy as np
import torch
from av.codec.hwaccel import HWAccel

from streamkp.vision.device_image import DeviceImage, Uploader, yuv_to_rgb

_STANDARDS = {1: "bt709", 5: "bt601", 6: "bt601", 9: "bt2020", 10: "bt2020"}  # FFmpeg's AVColorSpace
_FULL_RANGE = 2  # FFmpeg's AVCOL_RANGE_JPEG


def nvdec(device: int = 0) -> HWAccel | None:
    """For `av.open(..., hwaccel=...)`: frames stay on the GPU. None where the driver or FFmpeg cannot.

    A codec that the card does not decode falls back to the CPU; its frames come as usual.
    """
    if not torch.cuda.is_available():
        return None
    try:
        return HWAccel("cuda", device=str(device), allow_software_fallback=True, is_hw_owned=True)
    except (av.FFmpegError, PermissionError, ValueError, RuntimeError, NotImplementedError):
        return None


def to_device(frame: av.VideoFrame, uploader: Uploader) -> DeviceImage:
    """A decoded frame on the uploader's device, without turning it upright.

    Frames of NVDEC are copied within the device, so that the decoder has its surface back. Planar 4:2:0 goes up as
    it is, half the bytes of BGR; everything else is converted to BGR first.
    """
    kr = _STANDARDS.get(int(frame.colorspace), "bt709" if frame.height >= 720 else "bt601")
    colours = yuv_to_rgb(kr, full_range=int(frame.color_range) == _FULL_RANGE or frame.format.name == "yuvj420p")
    even = frame.width % 2 == 0 and frame.height % 2 == 0
    if frame.format.name == "cuda":
        planes = [torch.from_dlpack(plane) for plane in frame.planes]
        rows = [p.reshape(p.shape[0], -1)[:, : frame.width] for p in planes]
        data = torch.cat([row.reshape(-1) for row in rows])
        ready = torch.cuda.Event()
        ready.record()
        return DeviceImage(data, frame.width, frame.height, "nv12", colours=colours, ready=ready)
    if frame.format.name in ("yuv420p", "yuvj420p") and even:
        return uploader.planes([_plane(p, p.width) for p in frame.planes], "i420", colours)
    if frame.format.name == "nv12" and even:
        return uploader.planes(
            [_plane(frame.planes[0], frame.width), _plane(frame.planes[1], frame.width)], "nv12", colours
        )
    return uploader.bgr(np.ascontiguousarray(frame.to_ndarray(format="bgr24"), np.uint8))


def _plane(plane: Any, width: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Rows of a plane without their padding, not copied."""
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, :width]
