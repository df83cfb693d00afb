"""Images in the memory of a device (GPU), and cutting regions out of many of them at once.

A frame is uploaded once, in the layout that the decoder gives (planar YUV 4:2:0, NV12) or as BGR. Whatever the sizes
and layouts of the frames, one call cuts out the regions of all people of all streams: the arithmetic is that of
OpenCV's `warpAffine` and `resize`, on which the networks' results on a CPU rest, down to its fixed point. From BGR the
pixels are the same to one level of 255; from YUV, colours are converted after interpolation and not before, which
differs by at most two levels where nothing saturates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamkp.packet import AnyImage, FloatArray, Image

Layout = Literal["bgr", "nv12", "i420"]

# A component of a pixel lies at base + (y >> shift) * pitch + (x >> shift) * step within the frame's bytes.
_BGR_TO_RGB = np.array([[0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0]], np.float64)
_KR_KB = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}


def yuv_to_rgb(standard: str = "bt601", full_range: bool = False) -> NDArray[np.float64]:
    """(3, 4): factors of Y, U, V in 0..255 and a constant for each of R, G, B. Source: ITU-R BT.601, 709 and 2020."""
    kr, kb = _KR_KB[standard]
    kg = 1 - kr - kb
    luma, chroma, black = (1.0, 1.0, 0.0) if full_range else (255 / 219, 255 / 224, 16.0)
    factors = np.array(
        [
            [luma, 0, 2 * (1 - kr) * chroma],
            [luma, -2 * (1 - kb) * kb / kg * chroma, -2 * (1 - kr) * kr / kg * chroma],
            [luma, 2 * (1 - kb) * chroma, 0],
        ]
    )
    return np.column_stack([factors, -factors @ (black, 128, 128)])


class DeviceImage:
    """One frame on the device; `pixels()` fetches it as BGR when somebody asks for it.

    `data` is uint8 (bytes,): rows without padding; NV12 and I420 have even sizes. `shape` is (height, width, 3).
    """

    def __init__(
        self,
        data: Tensor,
        width: int,
        height: int,
        layout: Layout,
        *,
        colours: NDArray[np.float64] | None = None,
        host: Image | None = None,
        ready: Any | None = None,
    ) -> None:
        """`colours`: see `yuv_to_rgb`. `host`: the same as BGR where the host has it anyway. `ready`: a CUDA event
        after which the data is there."""
        self.data, self.layout, self.shape = data, layout, (height, width, 3)
        self._colours = _BGR_TO_RGB if layout == "bgr" else yuv_to_rgb() if colours is None else colours
        self._host, self._ready = host, ready

    def pixels(self) -> Image:
        """The frame as uint8 (height, width, 3) BGR on the host, fetched the first time; shared, not to be written."""
        if self._host is None:
            self.wait()
            height, width, _ = self.shape
            out = torch.empty((1, height, width, 3), dtype=torch.uint8, device=self.data.device)
            everywhere = np.array([[[1.0, 0, 0], [0, 1.0, 0]]])
            crop_affine([self], [0], everywhere, out)
            self._host = np.ascontiguousarray(out[0].cpu().numpy()[..., ::-1])
        return self._host

    def wait(self) -> None:
        """Let the current stream go on only when the frame is there."""
        if self._ready is not None:
            stream = torch.cuda.current_stream(self.data.device)
            stream.wait_event(self._ready)
            self.data.record_stream(stream)

    def description(self, offset: int) -> list[float]:
        """Size, places of the components and colours, as `_Frames` reads them, for data at `offset`."""
        height, width, _ = self.shape
        if self.layout == "bgr":
            parts = [[offset + c, 3 * width, 3, 0] for c in range(3)]
        elif self.layout == "nv12":
            chroma = offset + width * height
            parts = [[offset, width, 1, 0], [chroma, width, 2, 1], [chroma + 1, width, 2, 1]]
        else:
            chroma = offset + width * height
            half, quarter = width // 2, width * height // 4
            parts = [[offset, width, 1, 0], [chroma, half, 1, 1], [chroma + quarter, half, 1, 1]]
        return [width, height, *(n for part in parts for n in part), *self._colours.ravel().tolist()]


class Uploader:
    """Brings frames to a device through pinned memory, without waiting, on a stream of its own."""

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)
        self._stream: Any = None
        if self.device.type == "cuda":
            self._stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]

    def device_image(self, picture: AnyImage) -> DeviceImage:
        """A picture on this device: itself if it is there, else uploaded."""
        if isinstance(picture, DeviceImage) and picture.data.device.type == self.device.type:
            return picture
        return self.bgr(picture.pixels() if isinstance(picture, DeviceImage) else np.asarray(picture))

    def bgr(self, image: Image) -> DeviceImage:
        """A uint8 (height, width, 3) BGR image, which stays available on the host."""
        height, width = image.shape[:2]
        data, ready = self._upload([image])
        return DeviceImage(data, width, height, "bgr", host=image, ready=ready)

    def planes(
        self, planes: Sequence[NDArray[np.uint8]], layout: Layout, colours: NDArray[np.float64] | None = None
    ) -> DeviceImage:
        """The planes of a decoded frame, each (rows, bytes of a row): Y and UV for `nv12`, Y, U and V for `i420`."""
        height, width = planes[0].shape
        data, ready = self._upload(planes)
        return DeviceImage(data, width, height, layout, colours=colours, ready=ready)

    def _upload(self, arrays: Sequence[NDArray[np.uint8]]) -> tuple[Tensor, Any | None]:
        pinned = torch.empty(sum(a.size for a in arrays), dtype=torch.uint8, pin_memory=self._stream is not None)
        at, target = 0, pinned.numpy()
        for array in arrays:
            np.copyto(target[at : at + array.size].reshape(array.shape), array)
            at += array.size
        if self._stream is None:
            return pinned, None
        with torch.cuda.stream(self._stream):
            data = pinned.to(self.device, non_blocking=True)
            ready = torch.cuda.Event()  # type: ignore[no-untyped-call]
            ready.record()
        return data, ready


def region_matrices(regions: FloatArray, width: int, height: int) -> NDArray[np.float64]:
    """(N, 2, 3) from pixels of a `width` x `height` crop to pixels of the image, for regions (N, 5).

    The same places as `streamkp.vision.crop.crop`.
    """
    cx, cy, w, h, angle = np.asarray(regions, np.float64).reshape(-1, 5).T
    xx, xy = np.cos(angle) * w / width, -np.sin(angle) * h / height
    yx, yy = np.sin(angle) * w / width, np.cos(angle) * h / height
    x = np.stack([xx, xy, cx - xx * width / 2 - xy * height / 2], axis=-1)
    y = np.stack([yx, yy, cy - yx * width / 2 - yy * height / 2], axis=-1)
    return np.stack([x, y], axis=1)


def crop_affine(
    images: Sequence[DeviceImage],
    which: Sequence[int],
    matrices: NDArray[np.float64],
    out: Tensor,
    *,
    black_outside: bool = False,
) -> None:
    """Fill `out[:N]`, uint8 (>= N, h, w, 3) RGB, bilinear: crop i is of `images[which[i]]`.

    `matrices` (N, 2, 3) map pixels of the crop to pixels of the image. Outside the image its edge goes on, or it is
    black. Works on the current stream; returns before it is done.
    """
    count = len(which)
    if count:
        frames, table = _gather(images, which, np.asarray(matrices, np.float64).reshape(count, 6))
        _AFFINE(frames, table, out[:count], black_outside)


def letterbox(images: Sequence[DeviceImage], out: Tensor, fill: int = 0) -> NDArray[np.float64]:
    """Scale each image into the top-left corner of `out[i]`, uint8 (>= N, h, w, 3) RGB; the rest is `fill`.

    The same pixels as `streamkp.vision.letterbox.letterbox_corner`. Returns the scales (N,).
    """
    height, width = out.shape[1:3]
    sizes = np.array([image.shape[:2] for image in images], np.float64).reshape(-1, 2)
    scales: NDArray[np.float64] = np.minimum(height / sizes[:, 0], width / sizes[:, 1])
    inner = np.clip(np.rint(sizes * scales[:, None]), 1, (height, width))
    if len(images):
        own = np.concatenate([inner[:, ::-1], (sizes / inner)[:, ::-1]], axis=1)
        frames, table = _gather(images, range(len(images)), own)
        _LETTERBOX(frames, table, out[: len(images)], fill)
    return scales


def _gather(images: Sequence[DeviceImage], which: Sequence[int], own: NDArray[np.float64]) -> tuple[Tensor, Tensor]:
    """The bytes of all frames in one tensor, and one float64 row per crop: its frame's description, and `own`."""
    used = sorted(set(which))
    rows, offset, parts = {}, 0, []
    for i in used:
        images[i].wait()
        rows[i] = images[i].description(offset)
        parts.append(images[i].data)
        offset += images[i].data.numel()
    frames = parts[0] if len(parts) == 1 else torch.cat(parts)
    table = torch.from_numpy(np.concatenate([[rows[i] for i in which], own], axis=1))
    if frames.is_cuda:
        table = table.pin_memory().to(frames.device, non_blocking=True)
    return frames, table


@dataclass
class _Frames:
    """Columns of the table, one row per crop, shaped to go with (N, h, w)."""

    width: Tensor
    height: Tensor
    parts: list[list[Tensor]]
    colours: list[list[Tensor]]
    own: Tensor

    @staticmethod
    def of(table: Tensor) -> _Frames:
        whole = table[:, :14].long()[:, :, None, None]
        colours = table[:, 14:26].float()[:, :, None, None]
        return _Frames(
            whole[:, 0],
            whole[:, 1],
            [[whole[:, 2 + 4 * c + i] for i in range(4)] for c in range(3)],
            [[colours[:, 4 * c + i] for i in range(4)] for c in range(3)],
            table[:, 26:],
        )

    def component(self, bytes_: Tensor, c: int, x: Tensor, y: Tensor) -> Tensor:
        """Component `c` at pixels that lie within the image, int32."""
        base, pitch, step, shift = self.parts[c]
        return bytes_[base + (y >> shift) * pitch + (x >> shift) * step].int()

    def rgb(self, components: Sequence[Tensor], out: Tensor) -> None:
        """Components in 0..255, float32 (N, h, w), as rounded RGB."""
        for channel, (a, b, c, constant) in enumerate(self.colours):
            value = components[0] * a + components[1] * b + components[2] * c + constant
            out[..., channel] = (value + 0.5).clamp(0, 255).to(torch.uint8)


def _affine(bytes_: Tensor, table: Tensor, out: Tensor, black_outside: bool) -> None:
    """As OpenCV's warpAffine of 8 bits: places in 1/1024 pixel, sampled at the nearest 1/32."""
    of = _Frames.of(table)
    xx, xy, x0, yx, yy, y0 = (of.own[:, i, None] for i in range(6))
    across = torch.arange(out.shape[2], device=out.device, dtype=torch.float64)
    down = torch.arange(out.shape[1], device=out.device, dtype=torch.float64)

    def place(along: Tensor, start: Tensor) -> Tensor:
        fixed = torch.round(start * 1024).long()[:, :, None] + torch.round(along * 1024).long()[:, None, :]
        return ((fixed + 16) >> 5).clamp(-(1 << 24), 1 << 24)

    x, y = place(xx * across, xy * down + x0), place(yx * across, yy * down + y0)
    part_x, part_y = (x & 31).int(), (y & 31).int()
    x, y = x >> 5, y >> 5
    sums: list[Tensor] = [torch.zeros_like(part_x) for _ in range(3)]
    for right in (0, 1):
        for below in (0, 1):
            tap_x, tap_y = x + right, y + below
            weight = (part_x if right else 32 - part_x) * (part_y if below else 32 - part_y)
            in_x = tap_x.clamp(min=0).minimum(of.width - 1)
            in_y = tap_y.clamp(min=0).minimum(of.height - 1)
            if black_outside:
                weight = weight * ((in_x == tap_x) & (in_y == tap_y)).int()
            sums = [s + weight * of.component(bytes_, c, in_x, in_y) for c, s in enumerate(sums)]
    of.rgb([s.float() / 1024 for s in sums], out)
    if black_outside:  # of YUV, zeros are not black
        inside = (x >= -1) & (x < of.width) & (y >= -1) & (y < of.height)
        out.mul_(inside[..., None].to(torch.uint8))


def _letterbox(bytes_: Tensor, table: Tensor, out: Tensor, fill: int) -> None:
    """As OpenCV's linear resize of 8 bits: weights in 1/2048, pixel centres aligned."""
    of = _Frames.of(table)
    inner_w, inner_h, step_x, step_y = (of.own[:, i, None] for i in range(4))

    def place(size: int, step: Tensor, last: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        at = torch.arange(size, device=out.device, dtype=torch.float64)
        position = ((at + 0.5) * step - 0.5).float()
        low = position.floor()
        part = torch.round((position - low) * 2048).int()
        low = low.long()
        return low.clamp(min=0).minimum(last), (low + 1).clamp(min=0).minimum(last), part

    left, right, part_x = (v[:, None, :] for v in place(out.shape[2], step_x, of.width[:, 0] - 1))
    top, bottom, part_y = (v[:, :, None] for v in place(out.shape[1], step_y, of.height[:, 0] - 1))
    found = []
    for c in range(3):
        rows = [
            of.component(bytes_, c, left, y) * (2048 - part_x) + of.component(bytes_, c, right, y) * part_x
            for y in (top, bottom)
        ]
        mixed = (((2048 - part_y) * (rows[0] >> 4)) >> 16) + ((part_y * (rows[1] >> 4)) >> 16)
        found.append(((mixed + 2) >> 2).float())
    of.rgb(found, out)
    across, down = (torch.arange(n, device=out.device) for n in (out.shape[2], out.shape[1]))
    outside = (across >= inner_w)[:, None, :] | (down >= inner_h)[:, :, None]
    out.masked_fill_(outside[..., None], fill)


_AFFINE, _LETTERBOX = _affine, _letterbox


def compile_kernels(on: bool = True) -> None:
    """Fuse the cropping into one kernel each by torch.compile, at its first use, which needs Triton; or no longer."""
    global _AFFINE, _LETTERBOX
    _AFFINE = torch.compile(_affine, dynamic=True) if on else _affine
    _LETTERBOX = torch.compile(_letterbox, dynamic=True) if on else _letterbox
