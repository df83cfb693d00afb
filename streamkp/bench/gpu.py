"""What a GPU gives: parity with the CPU, rates by batch beside the card's own ceilings, and live streams end to end.

Results come part by part, so that a run that is cut off has said what it knew. A part that fails says why, and the
next goes on. On a CPU the same code runs without CUDA graphs.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from streamkp.bench import gpu_machine, gpu_networks
from streamkp.bench.gpu_context import Bench
from streamkp.bench.gpu_context import Options as Options

MODELS = ("blazepose-full", "blazepose-detector", "efficientdet-lite0")
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
PARTS = (*_SHARES, "compiled")
_THREADS = 8  # of the CPU's reference: more threads than a container's share of the cores make it many times slower


def run(options: Options) -> Iterator[dict[str, Any]]:
    """One dict per part: `part`, its figures, `seconds`; or `error` where it failed.

    Before it, one with `step` for each of a long part's measurements.
    """
    bench = Bench(options)
    parts: dict[str, Callable[[], dict[str, Any] | Iterator[dict[str, Any]]]] = {
        "machine": partial(gpu_machine.machine, bench),
        "ceilings": partial(gpu_machine.ceilings, bench),
        "streams": partial(gpu_machine.streams, bench),
        "landmarks": partial(gpu_networks.landmarks, bench),
        "detections": partial(gpu_networks.detections, bench),
        "lifter": partial(gpu_networks.lifter, bench),
        "upload": partial(gpu_machine.upload, bench),
        "decoding": partial(gpu_machine.decoding, bench),
        "crops": partial(gpu_machine.crops, bench),
        "parity": partial(gpu_networks.parity, bench),
        "compiled": partial(gpu_networks.compiled, bench),
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
