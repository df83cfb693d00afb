"""The files that `bench gpu` reads: from the cache, or from a folder where nothing can be fetched."""

from __future__ import annotations

from pathlib import Path

from streamkp.errors import ModelError
from streamkp.models import hub

# Names in a folder may be those of the packages that the files come from.
_FILES = {
    "blazepose-full": ("pose_landmark_full.tflite",),
    "blazepose-detector": ("pose_detection.tflite",),
    "efficientdet-lite0": ("efficientdet_lite0.tflite", "efficientdet_lite0_uint8_320.tflite"),
}


def model_files(folder: Path | None) -> dict[str, Path]:
    """The networks by catalog name. Raises `ModelError` if one is neither in the folder nor can be fetched."""
    if folder is None:
        return {name: hub.path(name) for name in _FILES}
    found = {}
    for name, files in _FILES.items():
        paths = [folder / file for file in files if (folder / file).is_file()]
        if not paths:
            raise ModelError(f"{folder} has no {files[0]}")
        found[name] = paths[0]
    return found


def clip(source: str | None) -> Path | None:
    """A local clip or image, or a sample of the catalog."""
    if source is None:
        return None
    if source.startswith("sample:"):
        return hub.sample(source.removeprefix("sample:"))
    path = Path(source).expanduser()
    if not path.is_file():
        raise ModelError(f"there is no file {source}")
    return path
