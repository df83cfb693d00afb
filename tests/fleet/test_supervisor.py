"""The supervisor's decisions one by one. What must hold in the long run is in `tests/simulation`."""

from __future__ import annotations

from streamkp.fleet.messages import Assignment, Beat, Load, NodeState, Pending, Running
from streamkp.fleet.spec import FleetStream
from streamkp.fleet.supervisor import Note, Settings, Supervisor


def streams(*names: str, **require: str) -> dict[str, FleetStream]:
    return {name: FleetStream({"uri": f"test:{name}"}, frozenset(require.items())) for name in names}


class Desk:
    """A supervisor with nodes that do at once what they are told."""

    def __init__(self, fleet: dict[str, FleetStream], **settings: float) -> None:
        self.supervisor = Supervisor(fleet, Settings(**settings))  # type: ignore[arg-type]
        self.now = 0.0
        self.supervisor.connected(self.now)
        self.nodes: dict[str, NodeState] = {}
        self.silent: set[str] = set()
        self.slow: set[str] = set()  # do not say that they have stopped anything
        self.load: dict[str, Load] = {}
        self.out: list[object] = []
        self.beats = 0

    def join(self, name: str, **more: object) -> None:
        self.nodes[name] = NodeState.model_validate({"node": f"{name}.1", "name": name, **more})
        self.supervisor.node_state(self.nodes[name], self.now)

    def tell(self, name: str, **changes: object) -> None:
        state = self.nodes[name] = self.nodes[name].model_copy(
            update={**changes, "version": self.nodes[name].version + 1}
        )
        self.supervisor.node_state(state, self.now)

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 0.5)
            for name, state in self.nodes.items():
                if name not in self.silent:
                    self.beats += 1
                    self.supervisor.beat(
                        Beat(
                            node=state.node, number=self.beats, version=state.version,
                            load=self.load.get(name, Load(p95_ms=10)),
                        ),
                        self.now,
                    )  # fmt: skip
            self.supervisor.tick(self.now)
            self.carry_out()

    def carry_out(self) -> None:
        for output in self.supervisor.take():
            self.out.append(output)
            if isinstance(output, Assignment):
                name = output.node.rpartition(".")[0]
                if name in self.nodes and name not in self.silent | self.slow:
                    running = {stream: Running(epoch=epoch, status="live") for stream, epoch in output.streams.items()}
                    self.tell(name, streams=running, revision=output.revision)

    def owners(self) -> dict[str, str]:
        return {s: node.rpartition(".")[0] for s, (node, _) in sorted(self.supervisor.owners().items())}

    def epochs(self) -> dict[str, int]:
        return {s: epoch for s, (_, epoch) in sorted(self.supervisor.owners().items())}

    def waiting(self) -> dict[str, str]:
        waiting: dict[str, str] = self.supervisor.snapshot(self.now)["waiting"]
        return waiting


def test_nothing_is_placed_before_every_node_could_have_said_what_it_runs() -> None:
    desk = Desk(streams("a"))
    desk.join("x")
    desk.run(4.5)
    assert desk.owners() == {}
    desk.run(1)
    assert desk.owners() == {"a": "x"}
    assert desk.epochs() == {"a": 0}


def test_labels_are_required() -> None:
    desk = Desk(streams("a", "b", gpu="true") | streams("c", site="north"))
    desk.join("x")
    desk.join("y", labels={"gpu": "true"})
    desk.run(10)
    assert desk.owners() == {"a": "y", "b": "y"}
    assert desk.waiting() == {"c": "no node has site: north"}
    desk.join("z", labels={"site": "north"})
    desk.run(1)
    assert desk.owners() == {"a": "y", "b": "y", "c": "z"}


def test_a_node_whose_graph_is_not_open_yet_gets_nothing() -> None:
    desk = Desk(streams("a"))
    desk.join("x", ready=False)
    desk.run(10)
    assert desk.owners() == {}
    desk.tell("x", ready=True)
    desk.run(1)
    assert desk.owners() == {"a": "x"}


def test_a_node_takes_no_more_than_its_capacity() -> None:
    desk = Desk(streams("a", "b", "c"))
    desk.join("x", capacity=2)
    desk.run(10)
    assert len(desk.owners()) == 2
    assert list(desk.waiting().values()) == ["all nodes are full"]


def test_new_streams_go_where_measured_latency_is_least() -> None:
    desk = Desk(streams("a", "b"))
    desk.join("x")
    desk.join("y")
    desk.run(10)
    assert sorted(desk.owners().values()) == ["x", "y"]
    desk.load["x"] = Load(p95_ms=300)
    desk.run(30)
    desk.supervisor.update(streams("a", "b", "c", "d"))
    desk.run(1)
    assert sorted(desk.owners().values()) == ["x", "y", "y", "y"]


def test_where_all_are_overloaded_a_stream_is_late_rather_than_dark() -> None:
    desk = Desk(streams("a", "b"))
    desk.join("x", capacity=3)
    desk.run(10)
    desk.load["x"] = Load(p95_ms=4000)
    desk.run(60)
    desk.supervisor.update(streams("a", "b", "c", "d"))
    desk.run(1)
    assert set(desk.owners()) == {"a", "b", "c"}, "up to what it declares"
    assert desk.waiting() == {"d": "all nodes are full"}


def test_drops_count_as_overload_too() -> None:
    desk = Desk(streams(*"abcdefgh"))
    desk.join("x")
    desk.run(10)
    desk.load["x"] = Load(p95_ms=10, dropped=0.5)
    desk.join("y")
    desk.run(120)
    counts = list(desk.owners().values())
    assert counts.count("y") >= 4
    assert counts.count("x") + counts.count("y") == 8


def test_a_moment_of_great_latency_takes_no_capacity() -> None:
    desk = Desk(streams("a", "b", "c"))
    desk.join("x", capacity=8)
    desk.run(20)
    desk.load["x"] = Load(p95_ms=15000)
    desk.run(5)
    desk.load["x"] = Load(p95_ms=10)
    desk.run(30)
    [node] = desk.supervisor.snapshot(desk.now)["nodes"]
    assert (node["capacity"], node["state"]) == (8, "ready")


def test_what_was_measured_while_the_broker_was_away_says_nothing() -> None:
    desk = Desk(streams("a", "b", "c"))
    desk.join("x", capacity=8)
    desk.run(20)
    desk.load["x"] = Load(p95_ms=15000)
    desk.run(5)
    desk.supervisor.disconnected()
    desk.now += 60
    desk.supervisor.connected(desk.now)
    desk.run(7)
    desk.load["x"] = Load(p95_ms=10)
    desk.run(30)
    [node] = desk.supervisor.snapshot(desk.now)["nodes"]
    assert (node["capacity"], node["state"]) == (8, "ready")


def test_two_nodes_of_one_name_are_told_of_once() -> None:
    desk = Desk(streams("a", "b"))
    desk.join("x")
    desk.run(10)
    desk.nodes["y"] = NodeState(node="x.2", name="x")
    desk.supervisor.node_state(desk.nodes["y"], desk.now)
    desk.run(20)
    told = [out.text for out in desk.out if isinstance(out, Note)]
    assert [text for text in told if "two nodes" in text] == [
        "two nodes are named x (x.1 and x.2): start one of them again with another --name"
    ]


def test_a_node_that_was_started_again_is_shown_once() -> None:
    desk = Desk(streams("a"))
    desk.join("x")
    desk.run(10)
    desk.silent.add("x")
    desk.run(10)
    assert [node["state"] for node in desk.supervisor.snapshot(desk.now)["nodes"]] == ["gone"]
    desk.nodes["y"] = NodeState(node="x.2", name="x")
    desk.supervisor.node_state(desk.nodes["y"], desk.now)
    desk.run(10)
    assert [(node["node"], node["state"]) for node in desk.supervisor.snapshot(desk.now)["nodes"]] == [("x.2", "ready")]
    told = [out.text for out in desk.out if isinstance(out, Note)]
    assert told == ["node x has joined", "node x was not heard of; its streams (1) go elsewhere", "node x has joined"]


def test_what_a_dead_node_has_left_on_the_broker_is_no_second_node() -> None:
    desk = Desk(streams("a"))
    desk.join("x")
    desk.supervisor.node_state(NodeState(node="x.0", name="x", metrics="10.0.0.1:8766"), 0.0)
    desk.supervisor.node_lost("x.0")
    assert [node["node"] for node in desk.supervisor.snapshot(desk.now)["nodes"]] == ["x.1"]


def test_a_stream_goes_only_when_its_node_has_let_it_go() -> None:
    desk = Desk(streams("a"))
    desk.join("x")
    desk.run(10)
    desk.join("y")
    desk.slow.add("x")
    assert desk.supervisor.move("a", "y", desk.now) == (True, "a goes to y")
    desk.run(60)
    assert desk.owners() == {}, "x has not said that it stopped"
    desk.tell("x", streams={}, revision=max(o.revision for o in desk.out if isinstance(o, Assignment)))
    desk.run(1)
    assert desk.owners() == {"a": "y"}
    assert desk.epochs() == {"a": 1}


def test_a_stream_goes_on_after_the_highest_epoch_that_its_node_has_told() -> None:
    desk = Desk(streams("a"))
    desk.join("x")
    desk.run(10)
    desk.tell("x", streams={"a": Running(epoch=6, status="live")})
    desk.join("y")
    desk.silent.add("x")
    desk.run(4.5)
    assert desk.owners() == {"a": "x"}, "the lease may still run"
    desk.run(1)
    assert desk.owners() == {"a": "y"}
    assert desk.epochs() == {"a": 7}


def test_a_last_will_alone_frees_nothing() -> None:
    desk = Desk(streams("a"))
    desk.join("x")
    desk.run(10)
    desk.join("y")
    desk.silent.add("x")
    desk.supervisor.node_lost("x.1")
    desk.run(2)
    assert desk.owners() == {"a": "x"}
    desk.supervisor.update(streams("a", "b"))
    desk.run(1)
    assert desk.owners() == {"a": "x", "b": "y"}, "but it gets nothing new"


def test_a_node_that_leaves_in_good_order_frees_its_streams_at_once() -> None:
    desk = Desk(streams("a", "b"))
    desk.join("x")
    desk.run(10)
    desk.join("y")
    desk.silent.add("x")
    desk.tell("x", leaving=True, streams={})
    desk.run(0.5)
    assert desk.owners() == {"a": "y", "b": "y"}
    assert desk.supervisor.failures == 0


def test_draining_and_back() -> None:
    desk = Desk(streams("a", "b", "c", "d"))
    desk.join("x")
    desk.join("y")
    desk.run(10)
    assert desk.supervisor.drain("nobody", True)[0] is False
    assert desk.supervisor.drain("x", True) == (True, "x is being drained")
    desk.run(20)
    assert set(desk.owners().values()) == {"y"}
    assert any(isinstance(out, Pending) and out.drained == ("x",) for out in desk.out), "a new supervisor knows"
    desk.supervisor.drain("x", False)
    desk.run(120)
    assert sorted(desk.owners().values()) == ["x", "x", "y", "y"]


def test_moving_to_where_a_stream_cannot_be_is_refused() -> None:
    desk = Desk(streams("a", gpu="true"))
    desk.join("x", labels={"gpu": "true"})
    desk.join("y")
    desk.run(10)
    assert desk.supervisor.move("a", "y", desk.now)[0] is False
    assert desk.supervisor.move("b", "y", desk.now) == (False, "there is no stream named b")
    assert desk.supervisor.move("a", "z", desk.now) == (False, "there is no node named z; there are: x, y")


def test_a_stream_that_failed_is_tried_again_ever_more_rarely() -> None:
    desk = Desk(streams("a"), retry=10.0)
    desk.join("x")
    desk.run(10)
    desk.slow.add("x")  # it tells only what this test says
    waits = []
    for attempt in range(3):
        revision = desk.supervisor._nodes["x.1"].revision
        failed = Running(epoch=attempt, status="failed", reason="no such camera")
        desk.tell("x", streams={"a": failed}, revision=revision)
        since = desk.now
        while "a" in desk.owners():
            desk.run(0.5)
        desk.tell("x", streams={}, revision=desk.supervisor._nodes["x.1"].revision)
        desk.run(0.5)
        assert desk.epochs() == {"a": attempt + 1}
        waits.append(round(desk.now - since))
    assert waits == [10, 20, 40]


def test_a_file_that_has_ended_is_not_played_again() -> None:
    desk = Desk(streams("a"))
    desk.join("x")
    desk.run(10)
    desk.tell("x", streams={"a": Running(epoch=0, status="ended")})
    desk.join("y")
    desk.silent.add("x")
    desk.run(30)
    assert desk.owners() == {}
    assert desk.waiting() == {}


def test_a_changed_fleet_starts_stops_and_restarts() -> None:
    desk = Desk(streams("a", "b"))
    desk.join("x")
    desk.run(10)
    changed = streams("c") | {"a": FleetStream({"uri": "test:other"})}
    desk.supervisor.update(changed)
    desk.run(2)
    assert desk.epochs() == {"a": 1, "c": 0}


def test_no_stream_is_ever_in_nobodys_list() -> None:
    """Whatever was told last before a crash, a new supervisor finds every epoch."""
    desk = Desk(streams("a", "b", "c"))
    desk.join("x")
    desk.run(10)
    desk.join("y")
    desk.silent.add("x")
    desk.run(10)
    for name in "ab":
        desk.supervisor.move(name, "y", desk.now)
    desk.run(5)
    kept: dict[str, Assignment] = {}
    pending = Pending()
    begun: set[str] = set()
    for output in desk.out:
        if isinstance(output, Assignment):
            kept[output.node] = output
        elif isinstance(output, Pending):
            pending = output
        begun |= {name for each in kept.values() for name in each.streams}
        again = Supervisor(streams("a", "b", "c"))
        again.restore(kept.values(), pending)
        assert all(again._streams[name].epoch >= 0 for name in begun)


def test_a_node_that_runs_what_it_was_not_given_is_told_again() -> None:
    desk = Desk(streams("a"))
    desk.join("x")
    desk.join("y")
    desk.run(10)
    (owner,) = desk.owners().values()
    other = "y" if owner == "x" else "x"
    desk.out.clear()
    desk.tell(other, streams={"a": Running(epoch=0, status="live")}, revision=desk.nodes[other].revision)
    desk.carry_out()
    assert any(isinstance(o, Assignment) and o.node == f"{other}.1" and o.streams == {} for o in desk.out)
    assert desk.nodes[other].streams == {}


def test_a_node_that_was_forgotten_gets_no_lease_for_what_it_had() -> None:
    desk = Desk(streams("a"), forget=20.0)
    desk.join("x")
    desk.run(10)
    desk.join("y")
    desk.silent.add("x")
    desk.run(60)
    assert desk.owners() == {"a": "y"}
    desk.tell("x", streams={}, revision=1)  # back; it has never heard that it lost the stream
    beat = Beat(node="x.1", number=9999, version=desk.nodes["x"].version)
    answer = desk.supervisor.beat(beat, desk.now)
    assert answer is not None
    assert answer.revision > 1
    assert any(isinstance(o, Assignment) and o.node == "x.1" and not o.streams for o in desk.supervisor.take())
