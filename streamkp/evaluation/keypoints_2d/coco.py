"""Average precision and recall of keypoints as COCO defines them, computed by pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamkp.errors import UsageError
from streamkp.packet import FloatArray

# In the order of pycocotools' summary.
FIGURES = ("ap", "ap50", "ap75", "ap_medium", "ap_large", "ar", "ar50", "ar75", "ar_medium", "ar_large")


@dataclass(frozen=True)
class Truth:
    """An annotated person: `points` (K, 3) with flags; what is `ignored` is neither found nor missed."""

    image: int
    points: FloatArray
    box: FloatArray
    area: float
    ignored: bool


@dataclass(frozen=True)
class Guess:
    """A predicted person: `points` (K, 3); `score` ranks it among all."""

    image: int
    points: FloatArray
    score: float


def average_precision(
    truths: Sequence[Truth], guesses: Sequence[Guess], sigmas: Sequence[float]
) -> dict[str, float | None]:
    """The ten figures (0..1) by name; None where nobody of that size is annotated.

    Raises `UsageError` when pycocotools is not installed.
    """
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ModuleNotFoundError:
        raise UsageError("AP needs pycocotools, which is not installed: pip install 'streamkp[eval]'") from None
    with contextlib.redirect_stdout(io.StringIO()):
        true, found = COCO(), COCO()
        true.dataset = _dataset([_truth_row(truth) for truth in truths])
        images = {truth.image for truth in truths}
        found.dataset = _dataset([_guess_row(guess) for guess in guesses if guess.image in images])
        found.dataset["images"] = true.dataset["images"]
        true.createIndex()
        found.createIndex()
        evaluation = COCOeval(true, found, "keypoints")
        evaluation.params.kpt_oks_sigmas = np.asarray(sigmas)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: float(value) if value >= 0 else None for name, value in zip(FIGURES, evaluation.stats, strict=True)}


def _dataset(rows: list[dict[str, Any]]) -> dict[str, Any]:
    images = [{"id": image} for image in sorted({row["image_id"] for row in rows})]
    numbered = [{**row, "id": i, "category_id": 1} for i, row in enumerate(rows, 1)]
    return {"images": images, "annotations": numbered, "categories": [{"id": 1, "name": "person"}]}


def _truth_row(truth: Truth) -> dict[str, Any]:
    return {
        "image_id": truth.image,
        "keypoints": truth.points.astype(float).ravel().tolist(),
        "num_keypoints": 0 if truth.ignored else int((truth.points[:, 2] > 0).sum()),
        "bbox": truth.box.astype(float).tolist(),
        "area": truth.area,
        "iscrowd": 0,
    }


def _guess_row(guess: Guess) -> dict[str, Any]:
    low, high = guess.points[:, :2].min(0), guess.points[:, :2].max(0)
    size = high - low
    return {
        "image_id": guess.image,
        "keypoints": guess.points.astype(float).ravel().tolist(),
        "bbox": [*low.tolist(), *size.tolist()],
        "area": float(size[0] * size[1]),
        "iscrowd": 0,
        "score": guess.score,
    }
