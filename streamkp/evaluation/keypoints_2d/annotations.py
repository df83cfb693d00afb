"""Annotated keypoints, in COCO's JSON and its relatives: CrowdPose, OCHuman, whole bodies, hands, faces.

All that is kept is what the measures need; nothing but the JSON file is read.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from streamkp.errors import UsageError
from streamkp.packet import FloatArray

# Where an annotation has no area, that of a person is about this share of its box (CrowdPose's own rule).
SHARE_OF_BOX = 0.53
PARTS = ("foot", "face", "lefthand", "righthand")


@dataclass(frozen=True)
class Instance:
    """One annotated person, hand or face.

    `points` float32 (K, 3): x, y in pixels and a flag, 0 for a joint that is not annotated; `box` float32 (4,):
    x, y, w, h. `parts` says, for whole bodies, which of `PARTS` are annotated. `crowd`: do not measure.
    """

    image: int
    points: FloatArray
    box: FloatArray
    area: float
    crowd: bool
    parts: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Annotations:
    """`images` id -> file name; `joints` the names that the file gives them, () for none."""

    path: Path
    images: dict[int, str]
    instances: tuple[Instance, ...]
    joints: tuple[str, ...]
    whole_body: bool


def read(path: Path) -> Annotations:
    """The annotations in a file, or in the only COCO file of a folder. Raises `UsageError`, naming the file."""
    path = _in_folder(path) if path.is_dir() else path
    content = _json(path)
    if not isinstance(content, dict) or not {"images", "annotations"} <= content.keys():
        raise UsageError(f"{path} is not a COCO annotation file: it has no lists of images and annotations")
    try:
        images = {image["id"]: str(image["file_name"]) for image in content["images"]}
        names = [category["keypoints"] for category in content.get("categories", []) if "keypoints" in category]
        rows = [row for row in content["annotations"] if "keypoints" in row]
        whole = bool(rows) and all("face_kpts" in row for row in rows)
        instances = tuple(_instance(row, whole) for row in rows)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path}: an image or annotation is not as in COCO ({error!r})") from None
    unknown = {instance.image for instance in instances} - images.keys()
    if not instances or unknown:
        what = f"annotations of unknown images {sorted(unknown)[:3]}" if unknown else "no keypoints"
        raise UsageError(f"{path} has {what}")
    if len({len(instance.points) for instance in instances}) > 1:
        raise UsageError(f"{path} has keypoints of different layouts")
    joints = tuple(names[0]) if names and len(names[0]) == len(instances[0].points) else ()
    return Annotations(path, images, instances, joints, whole)


def image_path(annotations: Annotations, image: int, folder: Path | None) -> Path:
    """The file of an image: in `folder`, or beside the annotations, or where COCO's own layout has it.

    Raises `UsageError` when there is none.
    """
    name, at = annotations.images[image], annotations.path
    split = at.stem.rpartition("_")[2]  # person_keypoints_val2017.json, beside ../val2017
    places = [folder] if folder else [at.parent, at.parent.parent / split, at.parent.parent / "images"]
    for place in places:
        if (place / name).is_file():
            return place / name
    raise UsageError(f"there is no image {name} in {' or '.join(map(str, places))}; --images says where they are")


def _in_folder(folder: Path) -> Path:
    """The one annotation file in a folder or in its `annotations/`; COCO's own name for it comes first."""
    found = sorted(folder.glob("*.json")) + sorted(folder.glob("annotations/*.json"))
    usual = [path for path in found if path.name == "person_keypoints_val2017.json"]
    if len(usual or found) != 1:
        names = ", ".join(path.name for path in found) or "no .json file"
        raise UsageError(f"{folder} holds {names}: name one annotation file")
    return (usual or found)[0]


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read as JSON: {error}") from None


def _instance(row: dict[str, Any], whole: bool) -> Instance:
    keys = ("keypoints", "foot_kpts", "face_kpts", "lefthand_kpts", "righthand_kpts") if whole else ("keypoints",)
    points = np.concatenate([np.asarray(row[key], np.float32).reshape(-1, 3) for key in keys])
    box = np.asarray(row["bbox"], np.float32).reshape(4)
    if not np.isfinite(points).all() or not np.isfinite(box).all():
        raise ValueError("a value is not finite")
    return Instance(
        image=row["image_id"],
        points=points,
        box=box,
        area=float(row.get("area") or SHARE_OF_BOX * box[2] * box[3]),
        crowd=bool(row.get("iscrowd", 0)),
        parts=frozenset(part for part in PARTS if row.get(f"{part}_valid")),
    )
