"""A trained lifter as the file to ship: `python -m streamkp.training.calibrate lifter.safetensors OUT --on VAL`.

The standard deviations are multiplied by one factor, so that on the people of VAL the share of the coordinates of a
normal distribution, 68 %, is less than one of them off: the network learns them on motion capture that it also learns
the poses of, seen with errors that are partly larger. The factor becomes part of the weights. The weights are stored in
half precision.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from safetensors.numpy import save_file

from streamkp.errors import StreamkpError
from streamkp.evaluation.lift import datasets
from streamkp.evaluation.lift.evaluate import COLUMNS, seen
from streamkp.models.lift import tcn
from streamkp.models.networks.tcn_shape import JOINTS, LOOKAHEADS, NUMBERS

Floats = NDArray[np.floating[Any]]

WITHIN = 0.683  # of a normal distribution, within one standard deviation


def factor(weights: dict[str, NDArray[np.float32]], data: datasets.Dataset) -> float:
    """What to multiply the standard deviations of every look-ahead by, from the errors at look-ahead 0."""
    network = tcn.TemporalSequence(tcn.TemporalSteps(weights), flip=False)
    ratios = []
    for column in COLUMNS:
        for sequence, points in seen(data, "h36m17", 0, column):
            found = network.live(points, sequence.lens, [0])[0]
            assert found.sigma is not None
            error = (found.poses - found.poses[:, :1]) - (sequence.poses - sequence.poses[:, :1])
            ratios.append((np.abs(error) / found.sigma[..., None])[sequence.measured, 1:].ravel())
    return float(np.quantile(np.concatenate(ratios), WITHIN))


def calibrated(weights: dict[str, NDArray[np.float32]], by: float) -> dict[str, NDArray[np.float32]]:
    """The weights with all standard deviations multiplied by `by`."""
    bias = weights["head.bias"].reshape(len(LOOKAHEADS), JOINTS, NUMBERS).copy()
    bias[..., 3] += np.log(by)
    return weights | {"head.bias": bias.reshape(-1)}


def main(
    weights: Annotated[Path, typer.Argument(help="What streamkp.training.lifter has left: lifter.safetensors.")],
    out: Annotated[Path, typer.Argument(help="The .safetensors file to write.")],
    on: Annotated[Path, typer.Option(help="Motion capture of people who were not trained on.")],
    half: Annotated[bool, typer.Option(help="Store the weights in half precision.")] = True,
) -> None:
    """Calibrate the standard deviations of a trained lifter and write it as the file to ship."""
    try:
        read = tcn.read(weights)
        by = factor(read, datasets.read(on, 0))
    except StreamkpError as error:
        raise SystemExit(str(error)) from None
    kept = calibrated(read, by)
    dtype = np.float16 if half else np.float32
    save_file({name: np.ascontiguousarray(value, dtype) for name, value in kept.items()}, out)
    typer.echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB, standard deviations multiplied by {by:.3f}")


if __name__ == "__main__":
    typer.run(main)
