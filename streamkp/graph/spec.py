"""A graph as data: validated, in the order in which packets pass it, before anything is opened."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from streamkp.graph import flow, registry
from streamkp.graph.channel import Policy
from streamkp.graph.stage import Stage, StageOptions
from streamkp.graph.stream_options import StreamOptions
from streamkp.uris import check_address, encoded

NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
NAME_RULE: Final = "a name has up to 64 letters, digits, '.', '_' and '-', and starts with a letter or digit"
MAX_STREAMS: Final = 1024
MAX_STAGES: Final = 256
MAX_URI: Final = 4096


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class QueueSpec(_Strict):
    """The channel in front of a stage. Without `full`, files wait and live streams drop at the first edge."""

    size: int | None = Field(
        None, ge=1, le=4096, description="Packets that may wait, for each stream; 2, and 8 before a sink."
    )
    full: Policy | None = Field(None, description="What happens when it is full.")


class BatchSpec(_Strict):
    """How a batch stage gathers packets of several streams."""

    size: int = Field(16, ge=1, le=1024, description="Most packets in one batch.")
    wait_ms: float | None = Field(
        None,
        ge=0,
        le=1000,
        description="Longest wait for further streams after the first; 4, and 0 for `detect-person`. Stages that work "
        "on frames side by side instead (`keypoints-2d` on a CPU) do not wait.",
    )
    mix_files: bool = Field(
        False,
        description="Batch the frames of several files too: faster on a GPU, but the last digits of the results then "
        "depend on which frames met in a batch.",
    )


class StreamSpec(StreamOptions):
    """One video source. Its address may hold a password, so it does not show in `repr`."""

    uri: SecretStr = Field(max_length=MAX_URI, description="A file, a camera, or an address.")

    @field_validator("uri")
    @classmethod
    def _encode(cls, uri: SecretStr) -> SecretStr:
        """A password may hold any sign; whoever opens the address gets it encoded."""
        address = encoded(uri.get_secret_value())
        check_address(address)
        return SecretStr(address)


class ControlSpec(_Strict):
    """`control:` in a graph file: the HTTP server of a run."""

    host: str = Field("127.0.0.1", description="Address to listen on. A wider one needs a token.")
    port: int | None = Field(
        None, ge=0, le=65535, description="Port to listen on; 0 takes any free one. Default: 8766 or the next free one."
    )
    token: SecretStr | None = Field(None, min_length=1, description="Clients must show this secret.")
    insecure: bool = Field(False, description="Listen beyond this machine without a token.")
    allowed_hosts: tuple[str, ...] = Field((), description="Names, besides its address, that clients may use.")


class TracingSpec(_Strict):
    """`tracing:` in a graph file: spans of sampled frames for OpenTelemetry (`streamkp[otel]`)."""

    sample: float = Field(0.01, gt=0, le=1, description="Share of the frames of each stream that is followed.")
    endpoint: SecretStr | None = Field(
        None,
        min_length=1,
        description="Where spans are sent with OTLP over HTTP: http://127.0.0.1:4318/v1/traces. Default: as the "
        "variables OTEL_EXPORTER_OTLP_... say.",
    )
    service: str = Field("streamkp", min_length=1, description="Name of the service in the traces.")


class StageSettings(_Strict):
    """The keys that every stage has besides its own options."""

    use: str
    queue: QueueSpec = QueueSpec()
    batch: BatchSpec = BatchSpec()
    workers: int = Field(1, ge=1, le=64)


def is_name(text: str) -> bool:
    """Whether this may be the name of a stream or stage."""
    return re.fullmatch(NAME[1:-1], text) is not None


@dataclass(frozen=True)
class StageSpec:
    """One stage of a validated graph."""

    name: str
    use: str
    cls: type[Stage]
    options: StageOptions
    inputs: tuple[str, ...]
    settings: StageSettings

    def __reduce__(self) -> tuple[Any, ...]:
        """A class from a plugin's file is found again by that file: its module has no name to import it by."""
        reference = registry.reference(self.cls)
        fields = type(self.options).model_fields
        options = {fields[name].alias or name: value for name, value in self.options}
        return _restored, (self.name, self.use, reference, options, self.inputs, self.settings)


def _restored(
    name: str,
    use: str,
    reference: type[Stage] | str,
    options: dict[str, Any],
    inputs: tuple[str, ...],
    settings: StageSettings,
) -> StageSpec:
    cls = registry.stage_class(reference) if isinstance(reference, str) else reference
    return StageSpec(name, use, cls, cls.Options.model_validate(options), inputs, settings)


@dataclass(frozen=True)
class GraphSpec:
    """A validated graph; `stages` is in topological order, the source first."""

    stages: tuple[StageSpec, ...]
    streams: Mapping[str, StreamSpec] = field(default_factory=dict)
    origin: str = "graph"
    control: ControlSpec | Literal["off"] | None = None
    tracing: TracingSpec | None = None
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)  # value of a variable -> ${NAME}
    unchecked: tuple[str, ...] = ()  # stages that were not looked at, for they are plugins

    @property
    def source(self) -> StageSpec:
        """The stage that makes the packets."""
        return self.stages[0]

    def notes(self) -> list[str]:
        """What is odd about the graph, though it can run."""
        return [f"stages.{stage.name}: nobody reads its results, so it is not run" for stage in flow.idle(self.stages)]

    def feedback(self) -> list[tuple[str, str]]:
        """The edges against the flow, as (from, to): each sender to the nearest stage above that takes it."""
        above = {stage.name: stage.inputs for stage in self.stages}
        takers = {stage.name for stage in self.stages if stage.cls.takes_feedback}
        edges = []
        for stage in self.stages:
            if not stage.cls.sends_feedback:
                continue
            level = list(stage.inputs)
            while level:
                hit = next((name for name in level if name in takers), None)
                if hit is not None:
                    edges.append((stage.name, hit))
                    break
                level = [name for below in level for name in above[below]]
        return edges
