"""Square crops through a network: what MediaPipe's landmark networks have in common."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamkp.packet import Image
from streamkp.poses import Region
from streamkp.runtimes.base import Array, Network
from streamkp.vision.crop import crop


def run_on_crops(network: Network, crops: Sequence[tuple[Image, Region]]) -> dict[str, Array]:
    """The outputs of a network whose only input is a square of uint8 pixels, for one region or more.

    The network works on one crop while the next one is cut. Raises `ModelError` if it gives NaN.
    """
    ((name, port),) = network.inputs.items()
    size = port.shape[1]
    pixels = np.empty((len(crops), size, size, 3), np.uint8)
    if len(crops) == 1:
        crop(*crops[0], pixels[0])
        return network({name: pixels})
    pending = []
    for i, (image, region) in enumerate(crops):
        crop(image, region, pixels[i])
        pending.append(network.submit({name: pixels[i : i + 1]}))
    found = [each.result() for each in pending]
    return {output: np.concatenate([each[output] for each in found]) for output in found[0]}
