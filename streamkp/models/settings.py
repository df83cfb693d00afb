"""Settings that lie beside a checkpoint, as ModelScope ships them.

`configuration.json` has the network's options under `model.MODEL` and the camera under `model.INPUT`;
`mean_std_2d.npy` and `mean_std_3d.npy` hold the statistics that HDFormer's input and output are scaled with.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkp.errors import ModelError
from streamkp.models import npy_pickle

MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation per joint and axis, [17, C] each."""

    mean: NDArray[np.float64]
    std: NDArray[np.float64]


def configuration(checkpoint: str | Path) -> dict[str, Any]:
    """What configuration.json beside a checkpoint says; {} when there is none.

    Raises `ModelError` when it is not a JSON object of at most 1 MB.
    """
    path = Path(checkpoint).parent / "configuration.json"
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ModelError(f"{path} is larger than {MAX_BYTES} bytes; this is no configuration")
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(content, dict):
        raise ModelError(f"{path} holds a {type(content).__name__}, not an object")
    return content


def statistics(checkpoint: str | Path, dimensions: int) -> Statistics | None:
    """mean_std_2d.npy or mean_std_3d.npy beside a checkpoint, by `dimensions`; None when there is none.

    Raises `ModelError` when the file is not a finite mean and a positive standard deviation of [17, dimensions].
    """
    path = Path(checkpoint).parent / f"mean_std_{dimensions}d.npy"
    if not path.exists():
        return None
    values = npy_pickle.read(path)
    if values.shape != (2, 17, dimensions):
        raise ModelError(f"{path} has the shape {values.shape}, not (2, 17, {dimensions}): mean, then deviation")
    if not np.isfinite(values).all() or (values[1] < 0).any():
        raise ModelError(f"{path} has values that are not finite, or negative deviations")
    # The root of the 3D statistics does not move: its deviation is 0, and it is only ever multiplied.
    if dimensions == 2 and (values[1] == 0).any():
        raise ModelError(f"{path} has a deviation of 0, by which inputs cannot be divided")
    return Statistics(values[0], values[1])
