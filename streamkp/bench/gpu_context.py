"""What the parts of `bench gpu` share: options, frames, networks, and how a time is measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from streamkp.models.detect.device import BlazePoseDetector, DetectorOnDevice, EfficientDet
from streamkp.models.pose2d.blazepose_device import BlazePoseOnDevice
from streamkp.packet import Image
from streamkp.runtimes.base import Precision, RunOptions
from streamkp.vision.device_image import DeviceImage, Uploader

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
WIDTH, HEIGHT = 1280, 720
PARITY: tuple[Precision, ...] = ("f32", "f16")


@dataclass
class Options:
    """What to measure and where. `models` are the files by catalog name; `seconds` for all parts together.

    `tuned` has cuDNN try all its kernels for every batch size, which takes minutes; `parity` are the precisions to
    compare with f32 on the CPU.
    """

    models: Mapping[str, Path]
    device: str = "cuda"
    source: Path | None = None
    seconds: float = 300.0
    batches: Sequence[int] = BATCHES
    precision: Precision = "f16"
    stream_counts: Sequence[int] = (1, 8, 16, 32, 48, 64, 96, 128, 192)
    size: tuple[int, int] = (WIDTH, HEIGHT)
    compiled: bool = False
    tuned: bool = False
    parity: Sequence[Precision] = PARITY
    parts: Sequence[str] = ()
    _started: float = field(default_factory=time.monotonic)

    def left(self) -> float:
        """Seconds left of the budget."""
        return self.seconds - (time.monotonic() - self._started)

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device.startswith("cuda")


class Bench:
    """One run of the benchmark."""

    def __init__(self, options: Options) -> None:
        self.o = options
        self.on_gpu = options.on_gpu
        self.threads = torch.get_num_threads()  # torch's own choice
        self.matmul: dict[str, float] = {}  # flop/s by precision
        self.copy = 0.0  # bytes/s, read and written
        self.frames = frames_of(options.source, *options.size)
        self.uploader = Uploader(options.device)
        self.until = time.monotonic() + options.seconds  # when the part at hand has to end
        self._kept: BlazePoseOnDevice | None = None

    def close(self) -> None:
        """Let go of the network that several parts share."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def left(self) -> float:
        """Seconds left of the part at hand."""
        return self.until - time.monotonic()

    def estimator(self) -> BlazePoseOnDevice:
        """The landmarks in the precision that most parts use, prepared for a few batch sizes."""
        if self._kept is None:
            self._kept = self.landmarks(self.some(8, 32, 64))
        return self._kept

    def landmarks(
        self, buckets: Sequence[int], *, precision: Precision | None = None, compiled: bool = False
    ) -> BlazePoseOnDevice:
        """The landmarks for some batch sizes, in the precision that most parts use or another one."""
        options = RunOptions(precision=precision or self.o.precision, buckets=tuple(buckets))
        path = self.o.models["blazepose-full"]
        return BlazePoseOnDevice("landmarks", path, options, self.o.device, tuned=self.o.tuned, compiled=compiled)

    def some(self, *batches: int) -> Sequence[int]:
        """Those of `batches` that are to be measured; all of these where none is."""
        return [b for b in batches if b in self.o.batches] or self.o.batches

    def detector(self, name: str, buckets: Sequence[int]) -> DetectorOnDevice:
        """A detector for some batch sizes."""
        path = self.o.models[name]
        family = EfficientDet(path, 0.4) if name == "efficientdet-lite0" else BlazePoseDetector(path, 0.4)
        options = RunOptions(precision=self.o.precision, buckets=tuple(buckets))
        return DetectorOnDevice(name, family, options, self.o.device, tuned=self.o.tuned)

    def images(self, count: int) -> list[DeviceImage]:
        """Frames on the device, planar YUV."""
        return [self.uploader.planes(planes(self.frames[i % len(self.frames)]), "i420") for i in range(count)]

    def regions(self, count: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Regions (count, 5) about the middle of the frames."""
        width, height = self.o.size
        rng = np.random.default_rng(1)
        side = rng.uniform(0.6, 1.0, count) * height
        centre = np.stack([rng.normal(width / 2, width / 50, count), rng.normal(height / 2, height / 50, count)], 1)
        return np.column_stack([centre, side, side, rng.uniform(-0.3, 0.3, count)]).astype(np.float32)

    def time(self, work: Callable[[], object], seconds: float) -> float:
        """Mean seconds of a call, of at least three and about `seconds` in all, after warming up."""
        work()
        self.finish()
        before = time.perf_counter()
        work()
        self.finish()
        count = int(min(max(seconds / max(time.perf_counter() - before, 1e-6), 3), 10_000))
        if not self.on_gpu:
            count = min(count, 20)
        before = time.perf_counter()
        for _ in range(count):
            work()
        self.finish()
        return (time.perf_counter() - before) / count

    def finish(self) -> None:
        """Wait for the device."""
        if self.on_gpu:
            torch.cuda.synchronize(self.o.device)


def frames_of(source: Path | None, width: int, height: int) -> list[Image]:
    """A few frames of a clip or an image, brought to the size; of noise where there is none."""
    found: list[Image] = []
    if source is not None:
        capture = cv2.VideoCapture(str(source))
        while len(found) < 16:
            good, frame = capture.read()
            if not good:
                break
            found.append(np.asarray(cv2.resize(frame, (width, height)), np.uint8))
        capture.release()
    if not found:
        rng = np.random.default_rng(0)
        small = rng.integers(0, 256, (8, height // 40, width // 40, 3), np.uint8)
        found = [np.asarray(cv2.resize(s, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8) for s in small]
    return found


def planes(bgr: Image) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    """A frame as a decoder gives it: Y, U and V."""
    height, width = bgr.shape[:2]
    yuv = cv2.cvtColor(bgr, cv2.COLOR_BGR2YUV_I420)
    chroma = yuv[height:].reshape(2, height // 2, width // 2)
    return [np.asarray(yuv[:height]), np.asarray(chroma[0]), np.asarray(chroma[1])]


def short(value: float) -> float:
    """Three significant digits."""
    return float(f"{value:.3g}")
