"""How a graph runs, as plain data: its stages, the channels between them and what those do when they are full, and
the edges against the flow. An engine executes a plan; nothing here runs anything, so a plan can be pickled and
executed in another process. Objects of a running program (a channel to a caller, a list to fill) are no part of it:
they are handed to the engine by the name of the stage that wants them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from streamkp.graph import flow
from streamkp.graph.channel import Policy
from streamkp.graph.feedback import DELAY
from streamkp.graph.spec import BatchSpec, GraphSpec, QueueSpec, StageSpec
from streamkp.graph.stage import BatchStage

QUEUE: Final = 2  # packets that wait between stages: enough to keep both sides busy, little enough to be fresh
SINK_QUEUE: Final = 8  # before a sink, where a short pause would otherwise cost results of a live stream


@dataclass(frozen=True)
class ChannelPlan:
    """The bounded queue before the stage `reader`, one lane for each stream.

    `writers` are the stages that put into it; where there are several, their packets are joined frame by frame first.
    `chained`: there is no queue, the reader runs in the thread of its one writer.
    """

    reader: str
    writers: tuple[str, ...]
    size: int
    for_files: Policy
    for_live: Policy
    chained: bool = False

    def policy(self, *, live: bool) -> Policy:
        """What happens when the lane of a stream is full."""
        return self.for_live if live else self.for_files


@dataclass(frozen=True)
class FeedbackPlan:
    """An edge against the flow; `between` are the stages that packets pass from `receiver` to `sender`, both included.

    A request made at frame t of a file is answered at frame t + `delay`.
    """

    sender: str
    receiver: str
    between: tuple[str, ...]
    delay: int = DELAY


@dataclass(frozen=True)
class Plan:
    """A validated graph and how its packets travel. `channels` has one entry for each stage but the source."""

    graph: GraphSpec
    channels: tuple[ChannelPlan, ...]
    feedback: tuple[FeedbackPlan, ...]

    @classmethod
    def of(cls, graph: GraphSpec) -> Plan:
        """The plan of a graph, without the stages whose results nobody reads."""
        idle = flow.idle(graph.stages)
        graph = replace(graph, stages=tuple(stage for stage in graph.stages if stage not in idle))
        channels = tuple(_channel(graph, stage) for stage in graph.stages if stage.inputs)
        feedback = (
            FeedbackPlan(sender, receiver, _between(graph, receiver, sender)) for sender, receiver in graph.feedback()
        )
        return cls(graph, channels, tuple(feedback))


def _channel(graph: GraphSpec, stage: StageSpec) -> ChannelPlan:
    queue = stage.settings.queue
    sink = stage.cls.kind == "sink"
    # Live streams drop where it costs least: before the first stage. Only sinks may fall behind on their own; between
    # stages packets wait, so that work already done on a frame is not thrown away.
    sheds = sink or graph.source.name in stage.inputs
    return ChannelPlan(
        stage.name,
        stage.inputs,
        queue.size or (SINK_QUEUE if sink else QUEUE),
        for_files=queue.full or "block",
        for_live=queue.full or ("drop-oldest" if sheds else "block"),
        chained=_chained(graph, stage),
    )


def _chained(graph: GraphSpec, stage: StageSpec) -> bool:
    """Whether a stage runs in the thread of the one before it: neither the graph nor the stage asks for more."""
    if len(stage.inputs) != 1 or not stage.cls.shares_thread(stage.options):
        return False
    before = next(each for each in graph.stages if each.name == stage.inputs[0])
    # The source has a thread for each stream, and a stage that keeps others busy with several streams should be back
    # at that soon.
    busy = issubclass(before.cls, BatchStage) and before.cls.overlaps and len(graph.streams) != 1
    alone = before.cls.kind != "source" and not busy
    answers = any(receiver == stage.name for _, receiver in graph.feedback())
    own = stage.settings.queue != QueueSpec() or stage.settings.batch != BatchSpec() or stage.settings.workers > 1
    return alone and before.settings.workers == 1 and not own and not answers


def _between(graph: GraphSpec, first: str, last: str) -> tuple[str, ...]:
    """The stages on the ways from `first` to `last`, both of them included."""
    below, inputs = {first}, {stage.name: stage.inputs for stage in graph.stages}
    for stage in graph.stages:
        if below & set(stage.inputs):
            below.add(stage.name)
    above, level = {last}, {last}
    while level:
        level = {name for each in level for name in inputs[each]} - above
        above |= level
    return tuple(stage.name for stage in graph.stages if stage.name in below & above)
