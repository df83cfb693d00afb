"""The weights inside an ONNX file, under the names that they had in torch.

One file then serves both: OpenVINO runs it, and the network in torch is filled from it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamkp.runtimes.openvino import read_constants


def read(path: Path) -> dict[str, NDArray[np.float32]]:
    """Every array of numbers with a point in its name, which those of a torch module have; half precision widened.

    `streamkp.training.export` writes such files; constants that are not weights have names without a point there.
    Raises `ModelError` if it is not a model that OpenVINO can read.
    """
    return {name: array.astype(np.float32) for name, array in read_constants(path).items() if "." in name}
