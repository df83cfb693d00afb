"""What a supervisor would do, without doing it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from streamkp.fleet.messages import Assignment, NodeState, Pending
from streamkp.fleet.spec import FleetSpec
from streamkp.fleet.supervisor import Settings, Supervisor


@dataclass(frozen=True)
class Planned:
    """The nodes' streams, those that no node takes (with the reason), and those that would change their node."""

    nodes: dict[str, list[str]]
    waiting: dict[str, str]
    moved: dict[str, tuple[str, str]] = field(default_factory=dict)


def plan(
    fleet: FleetSpec, nodes: Iterable[NodeState], assignments: Iterable[Assignment] = (), pending: Pending | None = None
) -> Planned:
    """Where the streams of a fleet would go on these nodes, some of which may have streams already."""
    supervisor = Supervisor(fleet.streams, Settings(limits=fleet.limits))
    nodes, assignments = list(nodes), list(assignments)
    here = {state.node for state in nodes}
    supervisor.restore([each for each in assignments if each.node in here], pending)
    before = {name: node for name, (node, _) in supervisor.owners().items()}
    supervisor.connected(0.0)
    for state in nodes:
        supervisor.node_state(state.model_copy(update={"streams": {}}), 0.0)
    supervisor.place_now(0.0)
    after = supervisor.owners()
    found: dict[str, list[str]] = {state.node: [] for state in nodes}
    for name, (node, _) in after.items():
        found[node].append(name)
    moved = {name: (before[name], node) for name, (node, _) in after.items() if before.get(name, node) != node}
    return Planned(found, supervisor.snapshot(0.0)["waiting"], moved)
