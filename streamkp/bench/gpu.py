"""What a GPU gives: parity with the CPU, rates by batch beside the card's own ceilings, and live streams end to end.

Results come part by part, so that a run that is cut off has said what it knew. A part that fails says why, and the
next goes on. On a CPU the same code runs without CUDA graphs.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from streamkp.bench.gpu_streams import Cameras, streams
from streamkp.models.detect.device import BlazePoseDetector, DetectorOnDevice, EfficientDet
from streamkp.models.networks.tflite import TFLiteNetwork
from streamkp.models.pose2d.blazepose_device import BlazePoseOnDevice
from streamkp.packet import Image
from streamkp.poses import Pose, Region
from streamkp.runtimes.cuda import Input, TorchNetwork
from streamkp.vision.device_image import (
    DeviceImage,
    Uploader,
    compile_kernels,
    crop_affine,
    letterbox,
    region_matrices,
)

MODELS = ("blazepose-full", "blazepose-detector", "efficientdet-lite0")
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
WIDTH, HEIGHT = 1280, 720
WINDOW = 96  # frames that HDFormer reads
GOAL_STREAMS, GOAL_P95_MS = 64, 100.0
PAPER_MS_PER_WINDOW = 1.3  # HDFormer 96 on a V100 (Chen et al., IJCAI 2023)
PARITY = ("f32", "f16")
# Shares of the time; what a part leaves goes to those after it. A part looks at the clock between its measurements.
_SHARES = {
    "machine": 1,
    "ceilings": 3,
    "streams": 36,
    "landmarks": 16,
    "detections": 10,
    "lifter": 10,
    "upload": 2,
    "decoding": 4,
    "crops": 4,
    "parity": 14,
}
_THREADS = 8  # of the CPU's reference: more threads than a container's share of the cores make it many times slower
_LIMIT = {"f32": 1e-3, "tf32": 1e-2, "f16": 2e-2, "bf16": 1e-1}  # of the output's scale, against f32 on the CPU


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
    precision: str = "f16"
    stream_counts: Sequence[int] = (1, 8, 16, 32, 48, 64, 96, 128, 192)
    size: tuple[int, int] = (WIDTH, HEIGHT)
    compiled: bool = False
    tuned: bool = False
    parity: Sequence[str] = PARITY
    parts: Sequence[str] = ()
    _started: float = field(default_factory=time.monotonic)

    def left(self) -> float:
        """Seconds left of the budget."""
        return self.seconds - (time.monotonic() - self._started)

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device.startswith("cuda")


def run(options: Options) -> Iterator[dict[str, Any]]:
    """One dict per part: `part`, its figures, `seconds`; or `error` where it failed.

    Before it, one with `step` for each of a long part's measurements.
    """
    bench = _Bench(options)
    parts: dict[str, Callable[[], dict[str, Any] | Iterator[dict[str, Any]]]] = {
        "machine": bench.machine,
        "ceilings": bench.ceilings,
        "streams": bench.streams,
        "landmarks": bench.landmarks,
        "detections": bench.detections,
        "lifter": bench.lifter,
        "upload": bench.upload,
        "decoding": bench.decoding,
        "crops": bench.crops,
        "parity": bench.parity,
        "compiled": bench.compiled,
    }
    wanted = [name for name in parts if name in (options.parts or parts) and (name != "compiled" or options.compiled)]
    threads = torch.get_num_threads()
    torch.set_num_threads(min(threads, _THREADS))
    try:
        for place, name in enumerate(wanted):
            if options.left() <= 0:
                yield {"part": name, "error": "no time was left for this part"}
                continue
            before = time.monotonic()
            shares = [_SHARES.get(other, 10) for other in wanted[place:]]
            bench.until = before + options.left() * shares[0] / sum(shares)
            figures: dict[str, Any] = {}
            try:
                found = parts[name]()
                for figures in [found] if isinstance(found, dict) else found:
                    if "step" in figures:
                        yield {"part": name, **figures}
            except Exception as error:  # the next part may work
                figures = {"error": f"{type(error).__name__}: {error}", "where": traceback.format_exc(limit=-4)}
            yield {"part": name, **figures, "seconds": round(time.monotonic() - before, 2)}
            if options.on_gpu:
                torch.cuda.empty_cache()
    finally:
        torch.set_num_threads(threads)
        bench.close()


class _Bench:
    def __init__(self, options: Options) -> None:
        self.o = options
        self.on_gpu = options.on_gpu
        self.threads = torch.get_num_threads()  # torch's own choice
        self.matmul: dict[str, float] = {}  # flop/s by precision
        self.copy = 0.0  # bytes/s, read and written
        self.frames = _frames(options.source, *options.size)
        self.uploader = Uploader(options.device)
        self.until = time.monotonic() + options.seconds  # when the part at hand has to end
        self._kept: BlazePoseOnDevice | None = None

    def close(self) -> None:
        """Let go of the network that several parts share."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _left(self) -> float:
        """Seconds left of the part at hand."""
        return self.until - time.monotonic()

    def _estimator(self) -> BlazePoseOnDevice:
        """The landmarks in the precision that most parts use, prepared for a few batch sizes."""
        if self._kept is None:
            self._kept = BlazePoseOnDevice("landmarks", self.o.models["blazepose-full"], device=self.o.device, precision=self.o.precision, buckets=self._some(8, 32, 64), tuned=self.o.tuned)  # fmt: skip
        return self._kept

    def _some(self, *batches: int) -> Sequence[int]:
        """Those of `batches` that are to be measured; all of these where none is."""
        return [b for b in batches if b in self.o.batches] or self.o.batches

    def machine(self) -> dict[str, Any]:
        """Names and versions."""
        found: dict[str, Any] = {"torch": torch.__version__, "device": self.o.device, "opencv": cv2.__version__}
        found["cpu_threads"] = self.threads
        if self.on_gpu:
            of = torch.cuda.get_device_properties(self.o.device)
            found |= {"name": of.name, "memory_gb": round(of.total_memory / 1e9, 1), "cuda": torch.version.cuda}
            found |= {"processors": of.multi_processor_count, "cudnn": torch.backends.cudnn.version()}
        return found

    def ceilings(self) -> dict[str, Any]:
        """What this machine reaches at best: matrix products, copies within the device, and to and from it."""
        n = 8192 if self.on_gpu else 256
        for name, dtype in (("f32", torch.float32), ("tf32", torch.float32), ("f16", torch.float16), ("bf16", torch.bfloat16)):  # fmt: skip
            if not self.on_gpu and name in ("tf32", "f16"):
                continue
            before = torch.backends.cuda.matmul.allow_tf32
            torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
            a, b = (torch.randn(n, n, device=self.o.device).to(dtype) for _ in range(2))
            self.matmul[name] = 2 * n**3 / self._time(lambda a=a, b=b: torch.mm(a, b), 0.2)
            torch.backends.cuda.matmul.allow_tf32 = before
            del a, b
        size = (1 << 30) if self.on_gpu else (1 << 22)
        one = torch.zeros(size, dtype=torch.uint8, device=self.o.device)
        two = torch.empty_like(one)
        self.copy = 2 * size / self._time(lambda: two.copy_(one), 0.2)
        figures = {
            "matmul_tflops": {k: round(v / 1e12, 1) for k, v in self.matmul.items()},
            "copy_gb_per_s": round(self.copy / 1e9, 1),
        }
        if self.on_gpu:
            pinned = torch.empty(1 << 27, dtype=torch.uint8, pin_memory=True)
            part = one[: 1 << 27]
            up = self._time(lambda: part.copy_(pinned, non_blocking=True), 0.2)
            down = self._time(lambda: pinned.copy_(part, non_blocking=True), 0.2)
            figures |= {"to_device_gb_per_s": round((1 << 27) / up / 1e9, 1), "from_device_gb_per_s": round((1 << 27) / down / 1e9, 1)}  # fmt: skip
        return figures

    def parity(self) -> Iterator[dict[str, Any]]:
        """Each precision on the device against f32 on the CPU, on the same pixels; errors as a share of the scale."""
        figures: dict[str, Any] = {}
        precisions = list(dict.fromkeys(self.o.parity)) if self.on_gpu else ["f32"]
        regions = self._regions(8)
        people = [(self.frames[i % len(self.frames)], region) for i, region in enumerate(regions)]
        wanted = self._poses(people, "cpu", "f32")
        yield {"step": "landmarks on the CPU", "left": round(self._left(), 1)}
        for precision in precisions:
            got = self._poses(people, self.o.device, precision)
            pixels = np.stack([np.abs(g.points[:, :2] - w.points[:, :2]) for g, w in zip(got, wanted, strict=True)])
            share = float(pixels.max() / regions[:, 2].max())
            world = max(
                float(np.abs(g.world - w.world).max())
                for g, w in zip(got, wanted, strict=True)
                if g.world is not None and w.world is not None
            )
            figures[f"landmarks {precision}"] = {
                "of_scale": _short(share),
                "mean_of_scale": _short(float(pixels.mean() / regions[:, 2].max())),
                "world_m": _short(world),
                "ok": share <= _LIMIT[precision],
            }
            yield {"step": f"landmarks {precision}", **figures[f"landmarks {precision}"]}
        for name in ("efficientdet-lite0", "blazepose-detector"):
            if self._left() <= 0 and self.on_gpu:
                figures[name] = "no time was left"
                continue
            on_cpu = self._raw(name, "cpu", "f32")
            for precision in precisions:
                here = self._raw(name, self.o.device, precision)
                errors = [float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(here, on_cpu, strict=True)]
                means = [float(np.abs(a - b).mean() / np.abs(b).max()) for a, b in zip(here, on_cpu, strict=True)]
                # A rounding that falls the other way moves a quantised result by whole steps, and short numbers
                # move single values far: there it is the mean that tells.
                by_mean = name == "efficientdet-lite0" or precision not in ("f32", "tf32")
                good = max(means if by_mean else errors) <= _LIMIT["f16" if by_mean else precision]
                figures[f"{name} {precision}"] = {"of_scale": _short(max(errors)), "mean_of_scale": _short(max(means)), "ok": good}  # fmt: skip
                yield {"step": f"{name} {precision}", **figures[f"{name} {precision}"]}
        yield {"ok": all(of["ok"] for of in figures.values() if isinstance(of, dict)), **figures}

    def _poses(self, people: Sequence[tuple[Image | DeviceImage, Region]], device: str, precision: str) -> list[Pose]:
        estimator = BlazePoseOnDevice("parity", self.o.models["blazepose-full"], device=device, precision=precision, buckets=(8,), graphs=False, tuned=False)  # fmt: skip
        found = estimator.estimate(people)
        estimator.close()
        return found

    def _raw(self, name: str, device: str, precision: str) -> list[np.ndarray[Any, Any]]:
        """All outputs of a detector for two frames."""
        module = TFLiteNetwork(self.o.models[name])
        _, size, _, _ = module.input_shape
        pixels = torch.empty((2, size, size, 3), dtype=torch.uint8)
        letterbox([Uploader("cpu").bgr(frame) for frame in self.frames[:2]], pixels)
        scaled = name == "blazepose-detector"
        given = pixels.float() / 127.5 - 1 if scaled else pixels
        kind = Input((size, size, 3), given.dtype)
        network = TorchNetwork(name, module, {"x": kind}, module.output_names, device=device, precision=precision, buckets=(2,), graphs=False, tuned=False)  # fmt: skip
        out = list(network({"x": given}).values())
        network.close()
        return out

    def landmarks(self) -> Iterator[dict[str, Any]]:
        """Landmarks a second by batch: the network from crop to refined points, graph replays back to back."""
        figures: dict[str, Any] = {}
        yield from self._rates(figures, self._estimator().network, self.o.precision, self.o.batches)
        self.close()
        for precision in ("tf32", "f32", "bf16") if self.on_gpu else ():
            if precision == self.o.precision or self._left() <= 0:
                continue
            batches = self.o.batches[-2:-1] or self.o.batches
            ours = BlazePoseOnDevice("landmarks", self.o.models["blazepose-full"], device=self.o.device, precision=precision, buckets=batches, tuned=self.o.tuned)  # fmt: skip
            yield from self._rates(figures, ours.network, precision, batches)
            ours.close()
        yield figures

    def detections(self) -> Iterator[dict[str, Any]]:
        """Frames a second through each detector by batch."""
        figures: dict[str, Any] = {"precision": self.o.precision}
        until = self.until
        for name in ("efficientdet-lite0", "blazepose-detector"):
            self.until = until if name == "blazepose-detector" else until - 0.4 * self._left()
            ours = self._detector(name, self._some(32))
            yield from self._rates(figures, ours.network, self.o.precision, self.o.batches, name)
            ours.close()
        yield figures

    def _detector(self, name: str, buckets: Sequence[int]) -> DetectorOnDevice:
        path = self.o.models[name]
        family = EfficientDet(path, 0.4) if name == "efficientdet-lite0" else BlazePoseDetector(path, 0.4)
        return DetectorOnDevice(name, family, device=self.o.device, precision=self.o.precision, buckets=buckets, tuned=self.o.tuned)  # fmt: skip

    def lifter(self) -> Iterator[dict[str, Any]]:
        """HDFormer's windows a second; the weights are random, on which speed does not depend."""
        from streamkp.models import zoo

        figures: dict[str, Any] = {"paper_ms_per_window": PAPER_MS_PER_WINDOW}
        for precision in ("f16", "tf32", "f32") if self.on_gpu else ("f32",):
            if precision != "f16" and self.on_gpu and self._left() <= 0:
                break
            torch.manual_seed(0)
            module = zoo.create("hdformer").eval()
            x = np.random.default_rng(0).uniform(-1, 1, (1, 2, WINDOW, 17)).astype(np.float32)
            with torch.no_grad():
                want = module(torch.from_numpy(x)).numpy()
            network = TorchNetwork(
                "hdformer",
                module,
                {"x": Input((2, WINDOW, 17))},
                ("poses",),
                device=self.o.device,
                precision=precision,
                buckets=(1,),
                tuned=self.o.tuned,
            )
            error = float(np.abs(network({"x": x})["poses"] - want).max() / np.abs(want).max())
            yield from self._rates(figures, network, precision, (1, 256) if self.on_gpu else (1, 2))
            figures[precision]["of_scale"] = _short(error)
            network.close()
        yield figures

    def crops(self) -> dict[str, Any]:
        """Crops and letterboxes a second, from 64 frames of planar YUV, with and without compiled kernels."""
        figures: dict[str, Any] = {}
        count = 64 if self.on_gpu else 2
        images = self._images(count)
        matrices = region_matrices(self._regions(count), 256, 256)
        pixels = torch.empty((count, 256, 256, 3), dtype=torch.uint8, device=self.o.device)
        inputs = torch.empty((count, 320, 320, 3), dtype=torch.uint8, device=self.o.device)

        def measure() -> dict[str, float]:
            crop = self._time(lambda: crop_affine(images, range(count), matrices, pixels), 0.3)
            boxed = self._time(lambda: letterbox(images, inputs), 0.3)
            return {"crops_per_s": round(count / crop), "letterboxes_per_s": round(count / boxed)}

        figures["eager"] = measure()
        if self.on_gpu and self._left() < 40:
            figures["compiled"] = "no time was left to compile"
        elif self.on_gpu:
            plain, boxed = pixels.clone(), inputs.clone()
            before = time.monotonic()
            compile_kernels()
            try:
                crop_affine(images, range(count), matrices, pixels)
                letterbox(images, inputs)
                figures["compile_seconds"] = round(time.monotonic() - before, 1)
                figures["compiled"] = measure()
                figures["compiled_differs"] = int((pixels.int() - plain.int()).abs().max()), int((inputs.int() - boxed.int()).abs().max())  # fmt: skip
            finally:
                compile_kernels(False)
        return figures

    def upload(self) -> dict[str, Any]:
        """Frames a second from memory of the host to the device, one thread: planar YUV, and BGR."""
        width, height = self.o.size
        bgr = self.frames[0]
        planes = _planes(bgr)
        figures = {}
        for name, put, size in (("i420", lambda: self.uploader.planes(planes, "i420"), 1.5), ("bgr", lambda: self.uploader.bgr(bgr), 3.0)):  # fmt: skip
            seconds = self._time(put, 0.5)
            figures[name] = {"frames_per_s": round(1 / seconds), "gb_per_s": round(width * height * size / seconds / 1e9, 2)}  # fmt: skip
        return figures

    def decoding(self) -> dict[str, Any]:
        """Decoding the clip on the CPU and uploading, against NVDEC with frames left on the device."""
        if self.o.source is None or self.o.source.suffix in (".jpg", ".png"):
            return {"skipped": "no clip was given (--source)"}
        if find_spec("av") is None:
            return {"skipped": "PyAV (av) is not installed"}
        from streamkp.sources.device_frames import nvdec

        figures: dict[str, Any] = {"clip": self.o.source.name}
        for name in ("cpu", "nvdec"):
            accelerator = nvdec() if name == "nvdec" else None
            if name == "nvdec" and accelerator is None:
                figures[name] = "not available: no driver for it, or FFmpeg was built without"
                continue
            try:
                figures[name] = self._decode(accelerator)
            except Exception as error:  # of many kinds, depending on driver and build
                figures[name] = f"not available: {type(error).__name__}: {error}"
        return figures

    def _decode(self, accelerator: Any) -> dict[str, Any]:
        import av

        from streamkp.sources.device_frames import to_device

        with av.open(str(self.o.source), hwaccel=accelerator) as container:
            container.streams.video[0].thread_type = "AUTO"
            count, formats, image = 0, set(), None
            before = time.perf_counter()
            for frame in container.decode(video=0):
                image = to_device(frame, self.uploader)
                formats.add(frame.format.name)
                count += 1
            if image is not None:
                image.wait()
            self._finish()
            seconds = time.perf_counter() - before
        assert image is not None
        return {"frames_per_s": round(count / seconds), "size": image.shape[1::-1], "formats": sorted(formats)}

    def streams(self) -> Iterator[dict[str, Any]]:
        """Live cameras of `size` at 30 frames a second, end to end; see `gpu_streams`.

        The numbers go up until one is not carried; if it is the first, down by halves until one is.
        """
        before = time.monotonic()
        estimator = self._estimator()
        yield {"step": "landmarks prepared", "prepare_s": round(time.monotonic() - before, 2)}
        before = time.monotonic()
        detector = self._detector("efficientdet-lite0", self._some(4, 16))
        yield {"step": "detector prepared", "prepare_s": round(time.monotonic() - before, 2)}
        try:
            cameras = Cameras([_planes(frame) for frame in self.frames], self.uploader)
            seconds = 3.0 if self.on_gpu else 0.5
            todo = list(self.o.stream_counts)
            if self.on_gpu:  # the first calls load kernels
                streams(cameras, estimator, detector, todo[0], 0.5)
            found: list[dict[str, Any]] = []
            carried, limit = 0, ""
            while todo and (not found or self._left() >= seconds + 1):
                count = todo.pop(0)
                figures = streams(cameras, estimator, detector, count, seconds)
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

    def compiled(self) -> dict[str, Any]:
        """The landmark network fused by torch.compile, at one batch size."""
        batch = min(64, max(self.o.batches))
        before = time.monotonic()
        ours = BlazePoseOnDevice("landmarks", self.o.models["blazepose-full"], device=self.o.device, precision=self.o.precision, buckets=(batch,), compiled=True)  # fmt: skip
        figures = {"compile_seconds": round(time.monotonic() - before, 1)}
        plain = BlazePoseOnDevice("landmarks", self.o.models["blazepose-full"], device=self.o.device, precision=self.o.precision, buckets=(batch,))  # fmt: skip
        people = [(self.frames[0], region) for region in self._regions(4)]
        pairs = zip(ours.estimate(people), plain.estimate(people), strict=True)
        differs = max(float(np.abs(a.points[:, :2] - b.points[:, :2]).max()) for a, b in pairs)
        rates = {name: self._replay(of.network, batch) for name, of in (("compiled", ours), ("plain", plain))}
        return figures | {"batch": batch, "differs_px": _short(differs), **{f"{k}_per_s": round(batch / v) for k, v in rates.items()}}  # fmt: skip

    def _images(self, count: int) -> list[DeviceImage]:
        return [self.uploader.planes(_planes(self.frames[i % len(self.frames)]), "i420") for i in range(count)]

    def _regions(self, count: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        width, height = self.o.size
        rng = np.random.default_rng(1)
        side = rng.uniform(0.6, 1.0, count) * height
        centre = np.stack([rng.normal(width / 2, width / 50, count), rng.normal(height / 2, height / 50, count)], 1)
        return np.column_stack([centre, side, side, rng.uniform(-0.3, 0.3, count)]).astype(np.float32)

    def _rates(
        self, figures: dict[str, Any], network: TorchNetwork, precision: str, batches: Sequence[int], name: str = ""
    ) -> Iterator[dict[str, Any]]:
        """Put samples a second by batch under `name`, and the share of the ceilings that they make up.

        The batch sizes that are prepared come first, then the others, the largest first, while there is time. The
        memory share counts each operator's inputs and outputs once, as if nothing were fused or stayed in cache.
        """
        ready = [b for b in network.buckets if b in batches]
        rates: dict[str, Any] = {}
        missing: list[int] = []
        for batch in [*ready, *sorted(set(batches) - set(ready), reverse=True)]:
            if rates and self._left() <= 0:
                missing.append(batch)
                continue
            before = time.monotonic()
            if batch not in network.buckets and not network.prepare(batch):
                rates[str(batch)] = {"error": "does not fit into memory"}
                continue
            prepared = time.monotonic() - before
            seconds = self._replay(network, batch)
            rates[str(batch)] = {"per_s": round(batch / seconds), "ms": round(seconds * 1e3, 3)}
            yield {"step": f"{name or precision} {batch}", **rates[str(batch)], "prepare_s": round(prepared, 2)}
        found: dict[str, Any] = {"batch": {b: rates[b] for b in sorted(rates, key=int)}}
        if missing:
            found["no_time_for"] = sorted(missing)
        flop, moved = _work(network)
        best = max((of["per_s"] for of in rates.values() if "per_s" in of), default=0)
        found |= {"mflop": round(flop / 1e6, 1), "mbytes": round(moved / 1e6, 2)}
        if precision in self.matmul:
            found["of_matmul"] = _short(best * flop / self.matmul[precision])
            found["of_copy"] = _short(best * moved / self.copy)
        figures[name or precision] = found

    def _replay(self, network: TorchNetwork, batch: int) -> float:
        """Seconds of one batch from input to packed result on the host, many in a row."""

        def once() -> None:
            network.launch(batch)
            network._pending = None  # timed back to back: nobody waits for the results

        return self._time(once, 0.25)

    def _time(self, work: Callable[[], object], seconds: float) -> float:
        """Mean seconds of a call, of at least three and about `seconds` in all, after warming up."""
        work()
        self._finish()
        before = time.perf_counter()
        work()
        self._finish()
        count = int(min(max(seconds / max(time.perf_counter() - before, 1e-6), 3), 10_000))
        if not self.on_gpu:
            count = min(count, 20)
        before = time.perf_counter()
        for _ in range(count):
            work()
        self._finish()
        return (time.perf_counter() - before) / count

    def _finish(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize(self.o.device)


def _work(network: TorchNetwork) -> tuple[float, float]:
    """Floating point operations of one sample, and bytes that its operators read and write."""
    module, batch = network._module, network.buckets[0]
    assert isinstance(module, nn.Module)
    flop, moved = 0.0, 0.0

    def count(_: nn.Module, given: tuple[Any, ...], out: Any) -> None:
        nonlocal flop, moved
        tensors = [t for t in (*given, out) if isinstance(t, Tensor)]
        moved += sum(t.numel() * t.element_size() for t in tensors)

    from torch.utils.flop_counter import FlopCounterMode

    steps = [m for m in module.modules() if not list(m.children())]
    handles = [m.register_forward_hook(count) for m in steps]
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad(), network.stream():
            network._forward(network.inputs(batch))
        flop = float(counter.get_total_flops())
    finally:
        for handle in handles:
            handle.remove()
    return flop / batch, moved / batch


def _frames(source: Path | None, width: int, height: int) -> list[Image]:
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


def _planes(bgr: Image) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    """A frame as a decoder gives it: Y, U and V."""
    height, width = bgr.shape[:2]
    yuv = cv2.cvtColor(bgr, cv2.COLOR_BGR2YUV_I420)
    chroma = yuv[height:].reshape(2, height // 2, width // 2)
    return [np.asarray(yuv[:height]), np.asarray(chroma[0]), np.asarray(chroma[1])]


def _short(value: float) -> float:
    return float(f"{value:.3g}")
