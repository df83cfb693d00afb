"""What nodes and the supervisor tell each other, whatever carries it: JSON over MQTT, calls of Ray actors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from streamkp.errors import StreamkpError


class MessageError(StreamkpError):
    """What arrived is no message of a fleet."""


class _Message(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    def encoded(self) -> bytes:
        """As JSON."""
        return self.model_dump_json().encode()


class Running(_Message):
    """A stream on a node: the epoch of its latest frame, its status (`live`, `reconnecting`, ...) and why."""

    epoch: int
    status: str = "connecting"
    reason: str | None = None


class NodeState(_Message):
    """What a node is and runs; told whenever it changes.

    Attributes:
        node: its id: the name and what tells this start of it from others.
        labels: such as `{"gpu": "true", "site": "north"}`.
        capacity: streams (weights added) that it takes at most; None: as the fleet says.
        revision: of the newest assignment that it has carried out.
        version: counts its states.
        streams: what it runs, and what of its assignment has failed or ended.
        ready: its graph is open: models are loaded, streams start at once.
        leaving: it is about to end and takes nothing more.
        metrics: `host:port` where Prometheus finds it.
        problem: why it cannot work, such as a graph that does not open.
    """

    node: str
    name: str
    labels: dict[str, str] = Field(default_factory=dict)
    capacity: float | None = None
    revision: int = 0
    version: int = 0
    streams: dict[str, Running] = Field(default_factory=dict)
    ready: bool = True
    leaving: bool = False
    metrics: str | None = None
    problem: str | None = None


class Load(_Message):
    """What a node's engine measured lately: 95th percentile of capture to publish, share of frames dropped, cores."""

    p95_ms: float = 0.0
    dropped: float = 0.0
    fps: float = 0.0
    cores: float = 0.0


class Beat(_Message):
    """A node is alive; asks for its lease to be renewed. `version` is that of the state that it has told before."""

    node: str
    number: int
    version: int
    load: Load = Load()


class Grant(_Message):
    """The supervisor's answer to a beat: the lease runs for `lease_s` from when the beat was sent.

    It holds only for a node that has received an assignment of at least this `revision`, and has told its state
    up to `version`.
    """

    node: str
    number: int
    term: int
    revision: int
    version: int
    lease_s: float


class Assignment(_Message):
    """The streams that a node has to run, each from which epoch. `term` and `revision` only ever grow."""

    node: str
    term: int
    revision: int
    streams: dict[str, int] = Field(default_factory=dict)
    definitions: dict[str, dict[str, Any]] = Field(default_factory=dict)  # put in by what carries it


class Waiting(_Message):
    """A stream that no node has: the highest epoch that was used, and the node that may still run it."""

    epoch: int = -1
    leaves: str | None = None


class Pending(_Message):
    """Every stream that no node has, and the names of the nodes that are to get none."""

    streams: dict[str, Waiting] = Field(default_factory=dict)
    drained: tuple[str, ...] = ()


T = TypeVar("T", bound=_Message)


def decode(kind: type[T], data: bytes | bytearray | str | Mapping[str, Any]) -> T:
    """A message from JSON.

    Raises:
        MessageError: it is none of that kind.
    """
    try:
        return kind.model_validate(data) if isinstance(data, Mapping) else kind.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise MessageError(f"this is no {kind.__name__}: {where}: {first['msg']}") from None
