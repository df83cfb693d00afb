"""What the control API takes and answers, as pydantic models: its OpenAPI document is made from them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, create_model

from streamkp.graph.spec import MAX_URI, NAME
from streamkp.graph.stage import StageOptions
from streamkp.graph.stream_options import StreamOptions


class Refusal(BaseModel):
    """Why a request was not done."""

    error: str = Field(description="What was wrong, and what to do.")


class NewStream(StreamOptions):
    """A stream to be added."""

    name: str = Field(pattern=NAME, description="The stream's id in results, figures and logs.")
    uri: str = Field(
        min_length=1,
        max_length=MAX_URI,
        pattern=r"^[^\x00-\x1f\x7f]+$",
        repr=False,
        description="A file, a camera number, or an address, which may hold a user name and password.",
    )


class Status(BaseModel):
    """Where a stream stands."""

    model_config = ConfigDict(extra="allow")

    state: str = Field(description="connecting, live, stalled, reconnecting, paused, failed or ended.")
    reason: str | None = Field(None, description="Why, in words.")


class StreamView(BaseModel):
    """A stream, without its credentials."""

    name: str
    source: str = Field(description="The address, with credentials hidden.")
    status: Status
    live: bool = Field(description="Whether frames are dropped rather than waited with.")
    frames: int = Field(description="Frames read so far.")
    frames_total: int | None = Field(description="Frames in all, where that is known; may be an estimate.")
    position_s: float = Field(description="Seconds of the source's own clock since its first frame.")
    duration_s: float | None = Field(description="Length in seconds, where that is known.")
    labels: dict[str, str]
    options: dict[str, Any] = Field(description="The options that were given, without the address.")


class StreamList(BaseModel):
    """All streams."""

    streams: list[StreamView]


class StageView(BaseModel):
    """A stage with its options as they are now; secrets are hidden."""

    name: str
    use: str = Field(description="The kind of stage.")
    kind: str = Field(description="source, map, batch, window or sink.")
    inputs: list[str] = Field(description="The stages that it reads from.")
    options: dict[str, Any]
    live_options: list[str] = Field(description="Options that can be changed while the graph runs.")


class FeedbackView(BaseModel):
    """An edge against the flow."""

    sender: str
    receiver: str


class GraphView(BaseModel):
    """The graph that runs."""

    origin: str = Field(description="The graph file.")
    state: str = Field(description="running, draining or stopped.")
    stages: list[StageView] = Field(description="In the order in which packets pass them.")
    feedback: list[FeedbackView]


def live_options(name: str, options: type[StageOptions]) -> type[BaseModel]:
    """A model of the options of one stage that can be changed while it runs, none of them required."""
    fields: dict[str, Any] = {}
    for field in options.live():
        info = options.model_fields[field]
        default = None if info.is_required() else info.get_default(call_default_factory=True)
        fields[field] = (info.rebuild_annotation(), Field(default, description=info.description))
    doc = f"Options of the stage {name} that can be changed while it runs."
    return create_model(f"{name}-options", __config__=ConfigDict(extra="forbid"), __doc__=doc, **fields)
