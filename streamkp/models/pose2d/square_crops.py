"""Square crops through a network: what MediaPipe's landmark networks have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from streamkp.packet import Image
from streamkp.poses import Region
from streamkp.runtimes.base import Array, Network
from streamkp.vision.crop import crop

Outputs = dict[str, Array]


def run_on_crops(network: Network, crops: Sequence[tuple[Image, Region]]) -> Outputs:
    """The outputs of a network whose only input is a square of uint8 pixels, for one region or more.

    Raises `ModelError` if it gives NaN.
    """
    return begin_on_crops(network, crops, crowded=False)()


def begin_on_crops(network: Network, crops: Sequence[tuple[Image, Region]], *, crowded: bool) -> Callable[[], Outputs]:
    """`run_on_crops` in the background: the network works on one crop while the next one is cut.

    What is returned waits for the outputs. `crowded`: it has other work under way.
    """
    ((name, port),) = network.inputs.items()
    size = port.shape[1]
    pixels = np.empty((len(crops), size, size, 3), np.uint8)
    pending = []
    for i, (image, region) in enumerate(crops):
        crop(image, region, pixels[i])
        pending.append(network.submit({name: pixels[i : i + 1]}, crowded=crowded or len(crops) > 1))

    def outputs() -> Outputs:
        found = [each.result() for each in pending]
        if len(found) == 1:
            return found[0]
        return {output: np.concatenate([each[output] for each in found]) for output in found[0]}

    return outputs
