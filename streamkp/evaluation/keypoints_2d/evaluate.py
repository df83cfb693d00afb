"""Accuracy of a 2D pose network on annotated images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from streamkp import skeletons
from streamkp.errors import UsageError
from streamkp.evaluation.keypoints_2d import metrics
from streamkp.evaluation.keypoints_2d.annotations import Annotations, Instance, image_path
from streamkp.evaluation.keypoints_2d.coco import Guess, Truth, average_precision
from streamkp.models.registry import PersonDetector, PoseEstimator
from streamkp.packet import FloatArray, Image
from streamkp.poses import Pose

FOUND = 0.5  # least OKS at which a person counts as found
SURE = 0.2  # joints with less do not count in a person's score (MMPose's rule)
# COCO-WholeBody's joints: first and last + 1 of each part.
PARTS = {"body": (0, 17), "foot": (17, 23), "face": (23, 91), "lefthand": (91, 112), "righthand": (112, 133)}
EYE_CORNERS = {"face106": (66, 79)}

Figures = dict[str, float | None]


def evaluate(
    annotations: Annotations,
    estimator: PoseEstimator,
    detector: PersonDetector | None = None,
    *,
    images: Path | None = None,
    advance: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Figures of a 2D pose network by part of the body, with the layout and the joints that were compared.

    `detector` finds the people; without one their annotated boxes are used. `images` is the folder of the images.
    `advance` is called after each image. Raises `UsageError` when network and annotations have nothing in common.
    """
    joints = len(annotations.instances[0].points)
    measure = _measure_for(estimator.skeleton, joints, annotations)
    if detector is not None and measure in (_hands, _faces):
        raise UsageError("hands and faces are measured in their annotated boxes; the detector finds whole people")
    truths, guesses = list(annotations.instances), []
    for image, people in _by_image(annotations):
        pixels = _load(image_path(annotations, image, images))
        guesses += _guesses(image, pixels, people, estimator, detector)
        advance()
    return {"people": sum(map(_annotated, truths)), **measure(truths, guesses, estimator.skeleton, annotations)}


Measure = Callable[[Sequence[Instance], Sequence[Guess], str, Annotations], dict[str, Any]]


def _measure_for(skeleton: str, joints: int, annotations: Annotations) -> Measure:
    if skeleton == "wholebody133" and joints == 133:
        return _whole_body
    if skeleton == "hand21" and joints == 21:
        return _hands
    if skeleton in EYE_CORNERS and joints == len(skeletons.get(skeleton)):
        return _faces
    if _common(skeleton, annotations):
        return _body
    raise UsageError(
        f"a network of {skeleton} keypoints cannot be measured on {annotations.path}, which has {joints} others"
    )


def _by_image(annotations: Annotations) -> Iterator[tuple[int, list[Instance]]]:
    people = defaultdict(list)
    for instance in annotations.instances:
        people[instance.image].append(instance)
    for image in annotations.images:
        yield image, people[image]


def _annotated(instance: Instance) -> bool:
    return not instance.crowd and bool((instance.points[:, 2] > 0).any())


def _load(path: Path) -> Image:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise UsageError(f"{path} is not an image that can be read")
    out: Image = np.ascontiguousarray(image)
    return out


def _guesses(
    image: int, pixels: Image, people: list[Instance], estimator: PoseEstimator, detector: PersonDetector | None
) -> list[Guess]:
    """One pose for each annotated person that has keypoints, or for each detection."""
    if detector is None:
        boxes = [person.box for person in people if _annotated(person)]
        regions, scores = [estimator.region_from_box(box) for box in boxes], [1.0] * len(boxes)
    else:
        (found,) = detector.detect([pixels])
        regions = [estimator.region_from_detection(found, i) for i in range(len(found.boxes))]
        scores = [float(score) for score in found.scores]
    poses = estimator.estimate([(pixels, region) for region in regions])
    if estimator.skeleton == "blazepose33":  # its own crop is defined by landmarks; the first pass finds them
        poses = estimator.estimate([(pixels, pose.next_region) for pose in poses])
    return [Guess(image, pose.points, score * _score(pose)) for pose, score in zip(poses, scores, strict=True)]


def _score(pose: Pose) -> float:
    sure = pose.points[:, 2][pose.points[:, 2] > SURE]
    return float(pose.presence * sure.mean()) if len(sure) else 0.0


def _body(
    truths: Sequence[Instance], guesses: Sequence[Guess], skeleton: str, annotations: Annotations
) -> dict[str, Any]:
    """Body joints that both sides and COCO's sigmas know, by name."""
    common = _common(skeleton, annotations)
    coco, ours = skeletons.get("coco17"), skeletons.get(skeleton)
    theirs = list(_joints(annotations))
    there, here = [theirs.index(joint) for joint in common], [ours.index(joint) for joint in common]
    assert coco.sigmas is not None
    sigmas = [coco.sigmas[coco.index(joint)] for joint in common]
    return {
        "joints": common,
        "figures": {"body": _precision(_truths(truths, there), _select(guesses, here), sigmas)},
    }


def _joints(annotations: Annotations) -> tuple[str, ...]:
    """Names of the annotated joints; 17 without names are COCO's, and whole bodies begin with them."""
    joints = len(annotations.instances[0].points)
    return skeletons.get("coco17").joints if joints in (17, 133) else annotations.joints


def _common(skeleton: str, annotations: Annotations) -> list[str]:
    known = set(skeletons.get("coco17").joints) & set(skeletons.get(skeleton).joints)
    return [joint for joint in _joints(annotations) if joint in known]


def _whole_body(
    truths: Sequence[Instance], guesses: Sequence[Guess], skeleton: str, annotations: Annotations
) -> dict[str, Any]:
    """All 133 joints at once, and by part; `hand` is the mean of left and right."""
    layout = skeletons.get("wholebody133")
    assert layout.sigmas is not None
    figures = {"whole": _precision(_truths(truths, range(133)), guesses, layout.sigmas)}
    for part, (first, stop) in PARTS.items():
        valid = [
            truth if part == "body" or part in truth.parts else replace(truth, points=np.zeros_like(truth.points))
            for truth in truths
        ]
        within = range(first, stop)
        figures[part] = _precision(_truths(valid, within), _select(guesses, within), layout.sigmas[first:stop])
    left, right = figures.pop("lefthand"), figures.pop("righthand")
    figures["hand"] = {key: _mean(left[key], right[key]) for key in left}
    return {"joints": list(layout.joints), "figures": figures}


def _mean(left: float | None, right: float | None) -> float | None:
    known = [value for value in (left, right) if value is not None]
    return sum(known) / len(known) if known else None


def _truths(instances: Sequence[Instance], joints: Sequence[int]) -> list[Truth]:
    out = []
    for instance in instances:
        points = instance.points[list(joints)]
        ignored = instance.crowd or not (points[:, 2] > 0).any()
        out.append(Truth(instance.image, points, instance.box, instance.area, ignored))
    return out


def _select(guesses: Sequence[Guess], joints: Sequence[int]) -> list[Guess]:
    return [replace(guess, points=guess.points[list(joints)]) for guess in guesses]


def _precision(truths: Sequence[Truth], guesses: Sequence[Guess], sigmas: Sequence[float]) -> Figures:
    """AP and AR, and how alike the people and their nearest predictions are."""
    likeness = _matched([truth for truth in truths if not truth.ignored], guesses, sigmas)
    found = likeness[likeness >= FOUND]
    return {
        **average_precision(truths, guesses, sigmas),
        "found": float((likeness >= FOUND).mean()) if len(likeness) else None,
        "oks_found": float(found.mean()) if len(found) else None,
        "oks_all": float(likeness.mean()) if len(likeness) else None,
    }


def _matched(truths: Sequence[Truth], guesses: Sequence[Guess], sigmas: Sequence[float]) -> FloatArray:
    """The OKS of each person and its own prediction, the most alike paired first; 0 for a person without."""
    out = np.zeros(len(truths), np.float32)
    for image in {truth.image for truth in truths}:
        people = [i for i, truth in enumerate(truths) if truth.image == image]
        poses = [guess.points for guess in guesses if guess.image == image]
        if not poses:
            continue
        target = np.stack([truths[i].points for i in people])[:, None]
        area = np.array([truths[i].area for i in people])[:, None]
        table = metrics.oks(
            np.stack(poses)[None, :, :, :2], target[..., :2], target[..., 2] > 0, area, np.asarray(sigmas)
        )
        for _ in range(min(table.shape)):
            row, column = np.unravel_index(table.argmax(), table.shape)
            out[people[row]] = max(table[row, column], 0)
            table[row], table[:, column] = -1, -1
    return out


def _hands(
    truths: Sequence[Instance], guesses: Sequence[Guess], skeleton: str, annotations: Annotations
) -> dict[str, Any]:
    predicted, target, visible, boxes = _pairs(truths, guesses)
    size = np.maximum(boxes[:, 2:].max(1), 1)
    figures: Figures = {
        "pck": metrics.pck(predicted, target, visible, size),
        "auc": metrics.auc(predicted, target, visible),
        "epe_px": metrics.epe(predicted, target, visible),
    }
    return {"joints": list(skeletons.get(skeleton).joints), "figures": {"hand": figures}}


def _faces(
    truths: Sequence[Instance], guesses: Sequence[Guess], skeleton: str, annotations: Annotations
) -> dict[str, Any]:
    predicted, target, visible, _ = _pairs(truths, guesses)
    corners = list(EYE_CORNERS[skeleton])
    apart = np.linalg.norm(target[:, corners[0]] - target[:, corners[1]], axis=-1)
    size = np.where(visible[:, corners].all(1), apart, 0)
    if not (size > 0).any():
        raise UsageError(
            f"{annotations.path} has no face with both outer eye corners, by whose distance errors are divided"
        )
    figures: Figures = {"nme": metrics.nme(predicted, target, visible, size)}
    return {"joints": list(skeletons.get(skeleton).joints), "figures": {"face": figures}}


def _pairs(truths: Sequence[Instance], guesses: Sequence[Guess]) -> tuple[FloatArray, FloatArray, Any, FloatArray]:
    """Predicted and annotated points [N, K, 2], which are annotated [N, K], and boxes [N, 4]; in annotated boxes
    there is one prediction for each instance, image by image in their order."""
    images = list(dict.fromkeys(guess.image for guess in guesses))
    known = [truth for image in images for truth in truths if truth.image == image and _annotated(truth)]
    points = np.stack([truth.points for truth in known])
    predicted = np.stack([guess.points for guess in guesses])
    return predicted[..., :2], points[..., :2], points[..., 2] > 0, np.stack([truth.box for truth in known])
