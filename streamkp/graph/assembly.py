"""Makes the stages of a plan, and the channels between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from streamkp.graph.chain import Chain
from streamkp.graph.channel import Channel
from streamkp.graph.edges import Edge, Outputs
from streamkp.graph.feedback import Feedback
from streamkp.graph.join import JoinRunner
from streamkp.graph.plan import ChannelPlan, Plan
from streamkp.graph.runner import Host, StageRunner
from streamkp.graph.stage import BatchStage, EngineView, Source, Stage, StageContext
from streamkp.graph.status import StatusBoard
from streamkp.packet import Packet


class Assembly:
    """What runs a plan: nothing of it has been opened or started.

    Args:
        plan: the graph, and how its packets travel.
        host: the engine, as the runners see it.
        view: the engine, as the stages see it.
        board: where each stream stands.
        bound: objects of the running program by the name of the stage that gets them.

    Attributes:
        stages: all of them, in the order of the graph.
        source, source_outputs: the stage that makes the packets, and where they go.
        runners: of all other stages, in the order of the graph.
        joins: the meeting points of branches.
        channels: all of them.
    """

    def __init__(self, plan: Plan, host: Host, view: EngineView, board: StatusBoard, bound: Mapping[str, Any]) -> None:
        self._host = host
        self.stages: list[Stage] = []
        self.source: Source
        self.source_outputs = Outputs(())
        self.runners: list[StageRunner] = []
        self.joins: list[JoinRunner] = []
        self.channels: list[Channel[Packet]] = []
        contexts = {stage.name: StageContext(stage.name, host.clock, board) for stage in plan.graph.stages}
        on_the_way = self._feedback(plan, contexts)
        inboxes, edges = self._connect(plan, contexts, on_the_way)
        for each in plan.graph.stages:
            context = contexts[each.name]
            context.engine, context.bound = view, bound.get(each.name)
            stage = each.cls(each.options, context)
            self.stages.append(stage)
            outputs, batch = Outputs(edges[each.name]), each.settings.batch
            if each.name not in inboxes:
                self.source, self.source_outputs = cast(Source, stage), outputs
                continue
            inbox = inboxes[each.name]
            own = each.cls.wait_ms if issubclass(each.cls, BatchStage) else 0.0
            wait_ms = own if batch.wait_ms is None else batch.wait_ms
            runner = StageRunner(
                stage, None if isinstance(inbox, Chain) else inbox, outputs, host,
                workers=each.settings.workers, batch_size=batch.size, batch_wait=wait_ms / 1e3,
                mix_files=batch.mix_files, asked_on_the_way=on_the_way[each.name],
            )  # fmt: skip
            if isinstance(inbox, Chain):
                inbox.follower = runner
            self.runners.append(runner)

    def _feedback(self, plan: Plan, contexts: Mapping[str, StageContext]) -> dict[str, list[Feedback]]:
        """Make the edges against the flow; returns for each stage those whose ends it lies between."""
        on_the_way: dict[str, list[Feedback]] = {name: [] for name in contexts}
        for each in plan.feedback:
            feedback = Feedback(each.delay, lambda stream: not self._host.is_live(stream))
            contexts[each.sender].feedback_out = contexts[each.receiver].feedback_in = feedback
            for name in each.between:
                on_the_way[name].append(feedback)
        return on_the_way

    def _connect(
        self, plan: Plan, contexts: Mapping[str, StageContext], on_the_way: Mapping[str, list[Feedback]]
    ) -> tuple[dict[str, Channel[Packet] | Chain], dict[str, list[Edge]]]:
        """Make the channels; returns the inbox of each stage, and the edges that leave it."""
        inboxes: dict[str, Channel[Packet] | Chain] = {}
        edges: dict[str, list[Edge]] = {name: [] for name in contexts}
        for each in plan.channels:
            if each.chained:
                chain = inboxes[each.reader] = Chain()
                edges[each.writers[0]].append(Edge(chain))
                continue
            answers = contexts[each.reader].feedback_in
            crossed = [feedback for feedback in on_the_way[each.reader] if feedback is not answers]
            inbox = inboxes[each.reader] = self._channel(each, crossed, answers)
            if len(each.writers) == 1:
                edges[each.writers[0]].append(Edge(inbox))
                continue
            meeting = self._channel(each, crossed, producers=len(each.writers))
            for branch, name in enumerate(each.writers):
                edges[name].append(Edge(meeting, branch))
            self.joins.append(JoinRunner(each.reader, len(each.writers), meeting, Outputs([Edge(inbox)])))
        return inboxes, edges

    def _channel(
        self, plan: ChannelPlan, crossed: Sequence[Feedback], answers: Feedback | None = None, producers: int = 1
    ) -> Channel[Packet]:
        """A channel; `crossed` are the feedback edges that a packet dropped here would leave waiting, `answers` the
        one whose requests its reader answers.
        """

        def lost(packet: Packet) -> None:
            for feedback in crossed:
                feedback.done(packet)

        channel: Channel[Packet] = Channel(
            plan.size,
            lambda key: plan.policy(live=self._host.is_live(key.rpartition("/")[2])),
            self._host.clock,
            producers,
            holds=None if answers is None else answers.holds,
            lost=lost if crossed else None,
        )
        if answers is not None:
            answers.on_progress = channel.wake
        self.channels.append(channel)
        return channel
