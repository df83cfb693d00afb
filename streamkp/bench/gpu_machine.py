"""Parts of `bench gpu` that are about the machine and its frames: ceilings, uploads, crops, decoding, live streams."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from typing import Any

import cv2
import torch

from streamkp.bench.gpu_context import Bench, planes, short
from streamkp.bench.gpu_streams import Cameras
from streamkp.bench.gpu_streams import streams as live
from streamkp.vision.device_image import compile_kernels, crop_affine, letterbox, region_matrices

GOAL_STREAMS, GOAL_P95_MS = 64, 100.0


def machine(bench: Bench) -> dict[str, Any]:
    """Names and versions."""
    found: dict[str, Any] = {"torch": str(torch.__version__), "device": bench.o.device, "opencv": cv2.__version__}
    found["cpu_threads"] = bench.threads
    if bench.on_gpu:
        of = torch.cuda.get_device_properties(bench.o.device)
        found |= {"name": of.name, "memory_gb": round(of.total_memory / 1e9, 1), "cuda": torch.version.cuda}
        found |= {"processors": of.multi_processor_count, "cudnn": torch.backends.cudnn.version()}  # type: ignore[no-untyped-call]
    return found


def ceilings(bench: Bench) -> dict[str, Any]:
    """What this machine reaches at best: matrix products, copies within the device, and to and from it."""
    n = 8192 if bench.on_gpu else 256
    dtypes = {"f32": torch.float32, "tf32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
    for name, dtype in dtypes.items():
        if not bench.on_gpu and name in ("tf32", "f16"):
            continue
        before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
        a, b = (torch.randn(n, n, device=bench.o.device).to(dtype) for _ in range(2))
        bench.matmul[name] = 2 * n**3 / bench.time(partial(torch.mm, a, b), 0.2)
        torch.backends.cuda.matmul.allow_tf32 = before
        del a, b
    size = (1 << 30) if bench.on_gpu else (1 << 22)
    one = torch.zeros(size, dtype=torch.uint8, device=bench.o.device)
    two = torch.empty_like(one)
    bench.copy = 2 * size / bench.time(lambda: two.copy_(one), 0.2)
    figures: dict[str, Any] = {
        "matmul_tflops": {k: short(v / 1e12) for k, v in bench.matmul.items()},
        "copy_gb_per_s": round(bench.copy / 1e9, 1),
    }
    if bench.on_gpu:
        pinned = torch.empty(1 << 27, dtype=torch.uint8, pin_memory=True)
        part = one[: 1 << 27]
        up = bench.time(lambda: part.copy_(pinned, non_blocking=True), 0.2)
        down = bench.time(lambda: pinned.copy_(part, non_blocking=True), 0.2)
        figures["to_device_gb_per_s"] = round((1 << 27) / up / 1e9, 1)
        figures["from_device_gb_per_s"] = round((1 << 27) / down / 1e9, 1)
    return figures


def crops(bench: Bench) -> dict[str, Any]:
    """Crops and letterboxes a second, from 64 frames of planar YUV, with and without compiled kernels."""
    figures: dict[str, Any] = {}
    count = 64 if bench.on_gpu else 2
    images = bench.images(count)
    matrices = region_matrices(bench.regions(count), 256, 256)
    pixels = torch.empty((count, 256, 256, 3), dtype=torch.uint8, device=bench.o.device)
    inputs = torch.empty((count, 320, 320, 3), dtype=torch.uint8, device=bench.o.device)

    def measure() -> dict[str, float]:
        crop = bench.time(lambda: crop_affine(images, range(count), matrices, pixels), 0.3)
        boxed = bench.time(lambda: letterbox(images, inputs), 0.3)
        return {"crops_per_s": round(count / crop), "letterboxes_per_s": round(count / boxed)}

    figures["eager"] = measure()
    if bench.on_gpu and bench.left() < 40:
        figures["compiled"] = "no time was left to compile"
    elif bench.on_gpu:
        plain, boxed = pixels.clone(), inputs.clone()
        before = time.monotonic()
        compile_kernels()
        try:
            crop_affine(images, range(count), matrices, pixels)
            letterbox(images, inputs)
            figures["compile_seconds"] = round(time.monotonic() - before, 1)
            figures["compiled"] = measure()
            pairs = (pixels, plain), (inputs, boxed)
            figures["compiled_differs"] = [int((a.int() - b.int()).abs().max()) for a, b in pairs]
        finally:
            compile_kernels(False)
    return figures


def upload(bench: Bench) -> dict[str, Any]:
    """Frames a second from memory of the host to the device, one thread: planar YUV, and BGR."""
    width, height = bench.o.size
    bgr = bench.frames[0]
    parts = planes(bgr)
    ways: dict[str, Callable[[], object]] = {
        "i420": lambda: bench.uploader.planes(parts, "i420"),
        "bgr": lambda: bench.uploader.bgr(bgr),
    }
    figures = {}
    for (name, put), size in zip(ways.items(), (1.5, 3.0), strict=True):
        seconds = bench.time(put, 0.5)
        rate = width * height * size / seconds
        figures[name] = {"frames_per_s": round(1 / seconds), "gb_per_s": round(rate / 1e9, 2)}
    return figures


def decoding(bench: Bench) -> dict[str, Any]:
    """Decoding the clip on the CPU and uploading, against NVDEC with frames left on the device."""
    if bench.o.source is None or bench.o.source.suffix in (".jpg", ".png"):
        return {"skipped": "no clip was given (--source)"}
    if find_spec("av") is None:
        return {"skipped": "PyAV (av) is not installed"}
    from streamkp.sources.device_frames import nvdec

    figures: dict[str, Any] = {"clip": bench.o.source.name}
    for name in ("cpu", "nvdec"):
        accelerator = nvdec() if name == "nvdec" else None
        if name == "nvdec" and accelerator is None:
            figures[name] = "not available: no driver for it, or FFmpeg was built without"
            continue
        try:
            figures[name] = _decode(bench, accelerator)
        except Exception as error:  # of many kinds, depending on driver and build
            figures[name] = f"not available: {type(error).__name__}: {error}"
    return figures


def _decode(bench: Bench, accelerator: Any) -> dict[str, Any]:
    import av

    from streamkp.sources.device_frames import to_device

    with av.open(str(bench.o.source), hwaccel=accelerator) as container:
        container.streams.video[0].thread_type = "AUTO"
        count, formats, image = 0, set(), None
        before = time.perf_counter()
        for frame in container.decode(video=0):
            image = to_device(frame, bench.uploader)
            formats.add(frame.format.name)
            count += 1
        if image is not None:
            image.wait()
        bench.finish()
        seconds = time.perf_counter() - before
    assert image is not None
    return {"frames_per_s": round(count / seconds), "size": image.shape[1::-1], "formats": sorted(formats)}


def streams(bench: Bench) -> Iterator[dict[str, Any]]:
    """Live cameras of `size` at 30 frames a second, end to end; see `gpu_streams`.

    The numbers go up until one is not carried; if it is the first, down by halves until one is.
    """
    before = time.monotonic()
    estimator = bench.estimator()
    yield {"step": "landmarks prepared", "prepare_s": round(time.monotonic() - before, 2)}
    before = time.monotonic()
    detector = bench.detector("efficientdet-lite0", bench.some(4, 16))
    yield {"step": "detector prepared", "prepare_s": round(time.monotonic() - before, 2)}
    try:
        cameras = Cameras([planes(frame) for frame in bench.frames], bench.uploader)
        seconds = 3.0 if bench.on_gpu else 0.5
        todo = list(bench.o.stream_counts)
        if bench.on_gpu:  # the first calls load kernels
            live(cameras, estimator, detector, todo[0], 0.5)
        found: list[dict[str, Any]] = []
        carried, limit = 0, ""
        while todo and (not found or bench.left() >= seconds + 1):
            count = todo.pop(0)
            figures = live(cameras, estimator, detector, count, seconds)
            found.append(figures)
            yield {"step": f"{count} streams", **figures}
            if figures["p95_ms"] <= GOAL_P95_MS and figures["dropped"] <= 0.01:
                carried = max(carried, count)
                continue
            limit = limit or f"{count} streams: {figures['slowest']}"
            todo = [count // 2] if count > 1 and not carried else []
        yield {
            "goal_streams": GOAL_STREAMS,
            "goal_p95_ms": GOAL_P95_MS,
            "carried": carried,
            "first_limit": limit or "none among these numbers",
            "runs": found,
        }
    finally:
        detector.close()
