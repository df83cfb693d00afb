"""Decoded frames on their way to a GPU: left there by NVDEC, or uploaded as the decoder gives them."""

from __future__ import annotations

import logging
import threading
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from av.codec.hwaccel import HWAccel, hwdevices_available

from streamkp.errors import SourceError
from streamkp.graph.stream_options import HwAccel
from streamkp.runtimes.base import cuda_devices

if TYPE_CHECKING:
    from streamkp.vision.device_image import DeviceImage, Uploader

NOT_THERE = (PermissionError, NotImplementedError, RuntimeError, av.error.ExternalError)
"""What opening a source raises where the hardware decoder cannot be had after all."""
_STANDARDS = {1: "bt709", 5: "bt601", 6: "bt601", 9: "bt2020", 10: "bt2020"}  # FFmpeg's AVColorSpace
_FULL_RANGE = 2  # FFmpeg's AVCOL_RANGE_JPEG


class DeviceFrames:
    """Puts decoded frames into the memory of a device, for any number of threads."""

    def __init__(self, uploader: Uploader, *, nvdec: bool = True) -> None:
        """`nvdec`: let the decoder of the GPU work where it can."""
        self._uploader = uploader
        self._nvdec = nvdec

    def accelerator(self) -> HWAccel | None:
        """For `av.open(..., hwaccel=...)`, one for each opening; None where frames are decoded by the CPU."""
        return nvdec() if self._nvdec else None

    def image(self, frame: av.VideoFrame) -> DeviceImage:
        """See `to_device`."""
        return to_device(frame, self._uploader)


class HostDecoding:
    """Decodes with VA-API or VideoToolbox; frames come to the host. For any number of threads.

    Where that cannot be had the CPU decodes, and one warning says so. A codec that the hardware does not know is
    decoded by the CPU as well, as FFmpeg does by itself.
    """

    def __init__(self, kind: HwAccel, log: logging.Logger | logging.LoggerAdapter[Any]) -> None:
        self._kind = kind
        self._log = log
        self._lock = threading.Lock()
        self._gone = False

    def accelerator(self) -> HWAccel | None:
        """For `av.open(..., hwaccel=...)`, one for each opening; None where frames are decoded by the CPU."""
        if self._gone:
            return None
        if self._kind not in hwdevices_available():
            self.fall_back("the installed FFmpeg has no such decoder")
            return None
        try:
            return HWAccel(self._kind, allow_software_fallback=True)
        except (*NOT_THERE, av.FFmpegError, ValueError) as error:
            self.fall_back(error)
            return None

    def fall_back(self, why: object) -> None:
        """From now on the CPU decodes."""
        with self._lock:
            if not self._gone:
                self._gone = True
                self._log.warning("frames are decoded on the CPU (hwaccel %s): %s", self._kind, why)


def decoding(wanted: HwAccel, log: logging.Logger | logging.LoggerAdapter[Any]) -> DeviceFrames | HostDecoding | None:
    """What decodes the frames of a source, None for the CPU."""
    return HostDecoding(wanted, log) if wanted in ("vaapi", "videotoolbox") else device_frames(wanted, log)


def device_frames(wanted: HwAccel, log: logging.Logger | logging.LoggerAdapter[Any]) -> DeviceFrames | None:
    """What brings frames to the GPU, None for frames on the host.

    `auto` is `cuda` where there are a GPU and torch. Where `cuda` is asked for and there is none, or no NVDEC, a
    warning says so.
    """
    if wanted == "none":
        return None
    why = "the CUDA driver finds no GPU" if not cuda_devices() else ""
    if not why and find_spec("torch") is None:
        why = "torch is not installed: pip install 'streamkp[cuda]'"
    if not why:
        import torch

        why = "" if torch.cuda.is_available() else "torch was built without CUDA"
    if why:
        if wanted == "cuda":
            log.warning("frames stay on the host (hwaccel cuda): %s", why)
        return None
    from streamkp.vision.device_image import Uploader

    able = nvdec() is not None
    if not able and wanted == "cuda":
        log.warning("frames are decoded on the CPU and uploaded (hwaccel cuda): FFmpeg or the driver has no NVDEC")
    return DeviceFrames(Uploader("cuda"), nvdec=able)


def nvdec(device: int = 0) -> HWAccel | None:
    """For `av.open(..., hwaccel=...)`: frames stay on the GPU. None where the driver or FFmpeg cannot.

    A codec that the card does not decode falls back to the CPU; its frames come as usual.
    """
    if not cuda_devices():
        return None
    try:
        return HWAccel("cuda", device=str(device), allow_software_fallback=True, is_hw_owned=True)
    except (av.FFmpegError, PermissionError, ValueError, RuntimeError, NotImplementedError):
        return None


def to_device(frame: av.VideoFrame, uploader: Uploader) -> DeviceImage:
    """A decoded frame on the uploader's device, without turning it upright.

    Frames of NVDEC are copied within the device, so that the decoder has its surface back. Planar 4:2:0 goes up as
    it is, half the bytes of BGR; everything else is converted to BGR first. Colours are those of FFmpeg's converter,
    to which a frame that does not say is BT.601.
    """
    from streamkp.vision.device_image import yuv_to_rgb

    standard = _STANDARDS.get(int(frame.colorspace), "bt601")
    full = int(frame.color_range) == _FULL_RANGE or frame.format.name == "yuvj420p"
    colours = yuv_to_rgb(standard, full_range=full)
    if frame.format.name == "cuda":
        return _copied(frame, colours)
    if frame.width % 2 == 0 and frame.height % 2 == 0:
        if frame.format.name in ("yuv420p", "yuvj420p"):
            return uploader.planes([_plane(p, p.width) for p in frame.planes], "i420", colours)
        if frame.format.name == "nv12":
            return uploader.planes([_plane(p, frame.width) for p in frame.planes], "nv12", colours)
    return uploader.bgr(np.ascontiguousarray(frame.to_ndarray(format="bgr24"), np.uint8))


def _copied(frame: av.VideoFrame, colours: np.ndarray[Any, np.dtype[np.float64]]) -> DeviceImage:
    """A frame of NVDEC, out of the decoder's surface. Raises `SourceError` if it is not NV12 (more than 8 bits)."""
    import torch
    from torch.utils.dlpack import from_dlpack

    from streamkp.vision.device_image import DeviceImage

    planes = [from_dlpack(plane) for plane in frame.planes]  # type: ignore[no-untyped-call,unused-ignore]
    if len(planes) != 2 or planes[0].dtype != torch.uint8:
        raise SourceError("pictures of more than 8 bits cannot stay on the GPU: set the option hwaccel to none")
    rows = [plane.reshape(plane.shape[0], -1)[:, : frame.width] for plane in planes]
    data = torch.cat([row.reshape(-1) for row in rows])
    ready = torch.cuda.Event()  # type: ignore[no-untyped-call]
    ready.record()
    return DeviceImage(data, frame.width, frame.height, "nv12", colours=colours, ready=ready)


def _plane(plane: Any, width: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Rows of a plane without their padding, not copied."""
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, :width]
