"""Parts of `bench gpu` that are about networks: parity with the CPU, and rates by batch."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from streamkp.bench.gpu_context import Bench, short
from streamkp.models.networks.tflite import TFLiteNetwork
from streamkp.models.pose2d.blazepose_device import BlazePoseOnDevice
from streamkp.packet import AnyImage
from streamkp.poses import Pose, Region
from streamkp.runtimes.base import NetworkSource, Precision, RunOptions, TorchModule
from streamkp.runtimes.torch_network import TorchNetwork
from streamkp.vision.device_image import Uploader, letterbox

PAPER_MS_PER_WINDOW = 1.3  # HDFormer 96 on a V100 (Chen et al., IJCAI 2023)
WINDOW = 96  # frames that HDFormer reads
_LIMIT = {"f32": 1e-3, "tf32": 1e-2, "f16": 2e-2, "bf16": 1e-1}  # of the output's scale, against f32 on the CPU


def parity(bench: Bench) -> Iterator[dict[str, Any]]:
    """Each precision on the device against f32 on the CPU, on the same pixels; errors as a share of the scale."""
    figures: dict[str, Any] = {}
    precisions: list[Precision] = list(dict.fromkeys(bench.o.parity)) if bench.on_gpu else ["f32"]
    regions = bench.regions(8)
    people = [(bench.frames[i % len(bench.frames)], region) for i, region in enumerate(regions)]
    wanted = _poses(bench, people, "cpu", "f32")
    yield {"step": "landmarks on the CPU", "left": round(bench.left(), 1)}
    for precision in precisions:
        got = _poses(bench, people, bench.o.device, precision)
        pixels = np.stack([np.abs(g.points[:, :2] - w.points[:, :2]) for g, w in zip(got, wanted, strict=True)])
        share = float(pixels.max() / regions[:, 2].max())
        world = max(
            float(np.abs(g.world - w.world).max())
            for g, w in zip(got, wanted, strict=True)
            if g.world is not None and w.world is not None
        )
        figures[f"landmarks {precision}"] = {
            "of_scale": short(share),
            "mean_of_scale": short(float(pixels.mean() / regions[:, 2].max())),
            "world_m": short(world),
            "ok": share <= _LIMIT[precision],
        }
        yield {"step": f"landmarks {precision}", **figures[f"landmarks {precision}"]}
    for name in ("efficientdet-lite0", "blazepose-detector"):
        if bench.left() <= 0 and bench.on_gpu:
            figures[name] = "no time was left"
            continue
        on_cpu = _raw(bench, name, "cpu", "f32")
        for precision in precisions:
            here = _raw(bench, name, bench.o.device, precision)
            errors = [float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(here, on_cpu, strict=True)]
            means = [float(np.abs(a - b).mean() / np.abs(b).max()) for a, b in zip(here, on_cpu, strict=True)]
            # A rounding that falls the other way moves a quantised result by whole steps, and short numbers
            # move single values far: there it is the mean that tells.
            by_mean = name == "efficientdet-lite0" or precision not in ("f32", "tf32")
            good = max(means if by_mean else errors) <= _LIMIT["f16" if by_mean else precision]
            figures[f"{name} {precision}"] = {
                "of_scale": short(max(errors)),
                "mean_of_scale": short(max(means)),
                "ok": good,
            }
            yield {"step": f"{name} {precision}", **figures[f"{name} {precision}"]}
    yield {"ok": all(of["ok"] for of in figures.values() if isinstance(of, dict)), **figures}


def _poses(bench: Bench, people: Sequence[tuple[AnyImage, Region]], device: str, precision: Precision) -> list[Pose]:
    options = RunOptions(precision=precision, buckets=(8,))
    estimator = BlazePoseOnDevice("parity", bench.o.models["blazepose-full"], options, device, graphs=False)
    found = estimator.estimate(people)
    estimator.close()
    return found


def _raw(bench: Bench, name: str, device: str, precision: Precision) -> list[np.ndarray[Any, Any]]:
    """All outputs of a detector for two frames."""
    network = TFLiteNetwork(bench.o.models[name])
    _, size, _, _ = network.input_shape
    pixels = torch.empty((2, size, size, 3), dtype=torch.uint8)
    letterbox([Uploader("cpu").bgr(frame) for frame in bench.frames[:2]], pixels)
    scaled = name == "blazepose-detector"
    given = pixels.float() / 127.5 - 1 if scaled else pixels
    uint8 = frozenset[str]() if scaled else frozenset({"x"})
    module = TorchModule(lambda: network, {"x": (size, size, 3)}, network.output_names, str, uint8=uint8)
    options = RunOptions(precision=precision, buckets=(2,))
    opened = TorchNetwork(NetworkSource(name, module=module), options, device, graphs=False)
    out = list(opened({"x": given}).values())
    opened.close()
    return out


def landmarks(bench: Bench) -> Iterator[dict[str, Any]]:
    """Landmarks a second by batch: the network from crop to refined points, graph replays back to back."""
    figures: dict[str, Any] = {}
    yield from _rates(bench, figures, bench.estimator().network, bench.o.precision, bench.o.batches)
    bench.close()
    others: tuple[Precision, ...] = ("tf32", "f32", "bf16")
    for precision in others if bench.on_gpu else ():
        if precision == bench.o.precision or bench.left() <= 0:
            continue
        batches = bench.o.batches[-2:-1] or bench.o.batches
        ours = bench.landmarks(batches, precision=precision)
        yield from _rates(bench, figures, ours.network, precision, batches)
        ours.close()
    yield figures


def detections(bench: Bench) -> Iterator[dict[str, Any]]:
    """Frames a second through each detector by batch."""
    figures: dict[str, Any] = {"precision": bench.o.precision}
    until = bench.until
    for name in ("efficientdet-lite0", "blazepose-detector"):
        bench.until = until if name == "blazepose-detector" else until - 0.4 * bench.left()
        ours = bench.detector(name, bench.some(32))
        yield from _rates(bench, figures, ours.network, bench.o.precision, bench.o.batches, name)
        ours.close()
    yield figures


def lifter(bench: Bench) -> Iterator[dict[str, Any]]:
    """HDFormer's windows a second; the weights are random, on which speed does not depend."""
    from streamkp.models import zoo

    figures: dict[str, Any] = {"paper_ms_per_window": PAPER_MS_PER_WINDOW}
    precisions: tuple[Precision, ...] = ("f16", "tf32", "f32") if bench.on_gpu else ("f32",)
    for precision in precisions:
        if precision != "f16" and bench.on_gpu and bench.left() <= 0:
            break
        torch.manual_seed(0)
        hdformer = zoo.create("hdformer").eval()
        module = TorchModule(partial(_same, hdformer), {"x": (2, WINDOW, 17)}, ("poses",), str)
        x = np.random.default_rng(0).uniform(-1, 1, (1, 2, WINDOW, 17)).astype(np.float32)
        with torch.no_grad():
            want = hdformer(torch.from_numpy(x)).numpy()
        options = RunOptions(precision=precision, buckets=(1,))
        source = NetworkSource("hdformer", module=module)
        network = TorchNetwork(source, options, bench.o.device, tuned=bench.o.tuned)
        error = float(np.abs(network({"x": x})["poses"] - want).max() / np.abs(want).max())
        yield from _rates(bench, figures, network, precision, (1, 256) if bench.on_gpu else (1, 2))
        figures[precision]["of_scale"] = short(error)
        network.close()
    yield figures


def _same(module: nn.Module) -> nn.Module:
    return module


def compiled(bench: Bench) -> dict[str, Any]:
    """The landmark network fused by torch.compile, at one batch size."""
    batch = min(64, max(bench.o.batches))
    before = time.monotonic()
    ours = bench.landmarks((batch,), compiled=True)
    figures = {"compile_seconds": round(time.monotonic() - before, 1)}
    plain = bench.landmarks((batch,))
    people = [(bench.frames[0], region) for region in bench.regions(4)]
    pairs = zip(ours.estimate(people), plain.estimate(people), strict=True)
    differs = max(float(np.abs(a.points[:, :2] - b.points[:, :2]).max()) for a, b in pairs)
    rates = {name: _replay(bench, of.network, batch) for name, of in (("compiled", ours), ("plain", plain))}
    per_s = {f"{name}_per_s": round(batch / seconds) for name, seconds in rates.items()}
    return {**figures, "batch": batch, "differs_px": short(differs), **per_s}


def _rates(
    bench: Bench, figures: dict[str, Any], network: TorchNetwork, precision: str, batches: Sequence[int], name: str = ""
) -> Iterator[dict[str, Any]]:
    """Put samples a second by batch under `name`, and the share of the ceilings that they make up.

    The batch sizes that are prepared come first, then the others, the largest first, while there is time. The
    memory share counts each operator's inputs and outputs once, as if nothing were fused or stayed in cache.
    """
    ready = [b for b in network.buckets or () if b in batches]
    rates: dict[str, Any] = {}
    missing: list[int] = []
    for batch in [*ready, *sorted(set(batches) - set(ready), reverse=True)]:
        if rates and bench.left() <= 0:
            missing.append(batch)
            continue
        before = time.monotonic()
        if batch not in ready and not network.prepare(batch):
            rates[str(batch)] = {"error": "does not fit into memory"}
            continue
        prepared = time.monotonic() - before
        seconds = _replay(bench, network, batch)
        rates[str(batch)] = {"per_s": round(batch / seconds), "ms": round(seconds * 1e3, 3)}
        yield {"step": f"{name or precision} {batch}", **rates[str(batch)], "prepare_s": round(prepared, 2)}
    found: dict[str, Any] = {"batch": {b: rates[b] for b in sorted(rates, key=int)}}
    if missing:
        found["no_time_for"] = sorted(missing)
    flop, moved = _work(network)
    best = max((of["per_s"] for of in rates.values() if "per_s" in of), default=0)
    found |= {"mflop": round(flop / 1e6, 1), "mbytes": round(moved / 1e6, 2)}
    if precision in bench.matmul:
        found["of_matmul"] = short(best * flop / bench.matmul[precision])
        found["of_copy"] = short(best * moved / bench.copy)
    figures[name or precision] = found


def _replay(bench: Bench, network: TorchNetwork, batch: int) -> float:
    """Seconds of one batch from input to packed result on the host, many in a row."""

    return bench.time(lambda: network.launch(batch, forget=True), 0.25)


def _work(network: TorchNetwork) -> tuple[float, float]:
    """Floating point operations of one sample, and bytes that its operators read and write."""
    module, batch = network.module, (network.buckets or (1,))[0]
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
            network.step(batch)
        flop = float(counter.get_total_flops())
    finally:
        for handle in handles:
            handle.remove()
    return flop / batch, moved / batch
