"""What may be said of one video source besides its address."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic.config import JsonDict

Transport = Literal["tcp", "udp"]
Rotate = Annotated[Literal["auto", 0, 90, 180, 270], BeforeValidator(lambda value: _no_flag(value))]
HwAccel = Literal["auto", "none", "cuda", "vaapi", "videotoolbox"]

MAX_LABELS: Final = 16
LABEL: Final = r"^[a-zA-Z_][a-zA-Z0-9_]{0,63}$"
_TAKEN: Final = {"stream", "stage", "reason", "le", "quantile", "job", "instance"}


_LABEL_SCHEMA: Final[JsonDict] = {"pattern": LABEL, "not": {"anyOf": [{"enum": [*sorted(_TAKEN)]}, {"pattern": "^__"}]}}


def _no_flag(value: object) -> object:
    if isinstance(value, bool):  # which is equal to 0 or 1
        raise ValueError("must be auto, 0, 90, 180 or 270")
    return value


def _free(label: str) -> str:
    if not re.fullmatch(LABEL[1:-1], label):
        raise ValueError("a label's name has letters, digits and '_', and starts with a letter or '_'")
    if label in _TAKEN or label.startswith("__"):
        raise ValueError(f"{label} is a label of streamkp's own metrics, or of Prometheus: choose another name")
    return label


Label = Annotated[str, AfterValidator(_free)]
LabelValue = Annotated[str, StringConstraints(max_length=256)]


class StreamOptions(BaseModel):
    """Options of one stream. What is null is as the source stage (`decode`) says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    live: bool | None = Field(None, description="Drop frames rather than wait; by default, cameras do.")
    loop: bool = Field(False, description="Start a file again at its end.")
    realtime: bool = Field(False, description="Play a file at its own speed.")
    transport: Transport | None = Field(
        None, description="RTSP: tcp loses nothing; udp has less delay on a good network."
    )
    timeout: float | None = Field(
        None, gt=0, le=30, description="Cameras and network: seconds of silence after which the source counts as lost."
    )
    max_fps: float | None = Field(
        None,
        gt=0,
        le=1000,
        description="Most frames a second that go into the graph; the others are left out, evenly.",
    )
    max_side: int | None = Field(
        None,
        ge=16,
        le=16384,
        description="Pixels of the longer side: larger frames are made smaller, and all coordinates, width and height "
        "of the results are those of the smaller frame.",
    )
    rotate: Rotate | None = Field(
        None, description="Degrees clockwise by which frames are turned; auto: as the file says."
    )
    hwaccel: HwAccel | None = Field(
        None,
        description="Decode on a GPU: cuda (NVDEC, frames stay there), vaapi or videotoolbox; none: on the CPU. Where "
        "it cannot be had, frames are decoded on the CPU, and a warning says so once.",
    )
    labels: dict[Label, LabelValue] = Field(
        {},
        max_length=MAX_LABELS,
        description="Words of yours about the stream, such as its place; in /stats and /metrics.",
        json_schema_extra={"propertyNames": _LABEL_SCHEMA},
    )
