"""Errors of a trained network on people that it has not seen: live, with the protocol of `eval lifter`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from streamkp.evaluation.lift import datasets
from streamkp.evaluation.lift.evaluate import COLUMNS, MILLIMETRES, score, seen
from streamkp.models.networks.tcn import TemporalNetwork
from streamkp.models.networks.tcn_shape import LOOKAHEADS
from streamkp.motion import metrics, track_view
from streamkp.motion.camera import canonical_coordinates

Floats = NDArray[np.floating[Any]]

KEYS = ("mpjpe_mm", "p_mpjpe_mm", "mpjve_mm")
_THORAX = 8


def measure(network: TemporalNetwork, data: datasets.Dataset, device: torch.device) -> dict[str, float]:
    """Figures in mm by column and lookahead, mean second differences, and how far `sigma` tells the truth.

    `within`: the share of the coordinates that are less than one standard deviation off. `upright`, `level` and
    `inverted`: P-MPJPE of those poses whose trunk points up, sideways and down.
    """
    figures: dict[str, float] = {}
    for column in COLUMNS:
        found: dict[int, list[Floats]] = {lookahead: [] for lookahead in LOOKAHEADS}
        inside, jitter, aligned, trunks = [], [], [], []
        for sequence, points in seen(data, "h36m17", 0, column):
            canonical = canonical_coordinates(points[..., :2].astype(np.float64), sequence.lens)
            poses, sigma = lift(network, canonical, points[..., 2], device)
            for i, lookahead in enumerate(LOOKAHEADS):
                late = poses[:, i]
                found[lookahead].append(np.concatenate([late[lookahead:], late[len(late) - lookahead :]]))
            target = sequence.poses - sequence.poses[:, :1]
            newest = poses[:, 0] - poses[:, 0, :1]
            inside.append(np.abs(newest - target)[:, 1:] < sigma[:, 0, 1:, None])
            jitter.append(np.linalg.norm(np.diff(newest, n=2, axis=0), axis=-1))
            aligned.append(metrics.joint_errors(metrics.align_rigid(newest, target), target).mean(1))
            trunks.append(-target[:, _THORAX, 1] / np.linalg.norm(target[:, _THORAX], axis=-1))
        for lookahead, predictions in found.items():
            overall = score(data, predictions)
            figures |= {f"{column}_{lookahead}_{key}": round(overall[key], 2) for key in KEYS}
        up, errors = np.concatenate(trunks), MILLIMETRES * np.concatenate(aligned)
        for name, which in (("upright", up > 0.5), ("level", abs(up) <= 0.5), ("inverted", up < -0.5)):
            if which.any():
                figures[f"{column}_{name}"] = round(float(errors[which].mean()), 1)
        figures[f"{column}_within"] = round(float(np.concatenate(inside).mean()), 3)
        figures[f"{column}_jitter_mm"] = round(MILLIMETRES * float(np.concatenate(jitter).mean()), 2)
    return figures


@torch.inference_mode()
def lift(network: TemporalNetwork, points: Floats, scores: Floats, device: torch.device) -> tuple[Floats, Floats]:
    """Canonical points [T, 17, 2], scores [T, 17] to poses [T, heads, 17, 3], camera axes, and sigma [T, heads, 17]."""
    mean = track_view.trailing_mean(track_view.summary(points, scores, np)[None], np)[0]
    rows, turns = track_view.see(points, scores, mean, np)
    out = network(torch.from_numpy(rows[None].astype(np.float32)).to(device))[0].cpu().numpy()
    return track_view.turn_back(turns[:, None], out[..., :3]), 2 * np.exp(out[..., 3])
