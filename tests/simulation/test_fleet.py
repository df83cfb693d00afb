"""What the supervisor promises, in simulated time."""

from __future__ import annotations

import os

import pytest

from streamkp.fleet.supervisor import Settings
from tests.simulation import full_size
from tests.simulation.model import Fleet, cameras


def fleet(nodes: int = 3, streams: int = 12, *, seed: int = 1, at_limit: float = 1000.0, **settings: float) -> Fleet:
    made = {f"n{n}": (at_limit, {"site": f"s{n % 3}"}, 64.0) for n in range(nodes)}
    return Fleet(cameras(streams), made, settings=Settings(**settings), seed=seed)  # type: ignore[arg-type]


def test_streams_are_spread_evenly() -> None:
    run = fleet()
    run.loop.run(20)
    assert run.counts() == {"n0": 4, "n1": 4, "n2": 4}
    assert set(run.record.epochs.values()) == {0}
    assert run.record.starts == 12, "nothing is started twice"
    assert run.record.wrong == []


@pytest.mark.parametrize("seed", range(5))
def test_a_killed_nodes_streams_live_elsewhere_within_ten_seconds(seed: int) -> None:
    run = fleet(seed=seed)
    run.loop.run(20)
    was = [name for name, node in run.record.publishing.items() if node.startswith("n1.")]
    run.kill("n1")
    run.loop.run(30)
    assert run.counts() == {"n0": 6, "n2": 6}
    assert {name for name, epoch in run.record.epochs.items() if epoch == 1} == set(was)
    assert max(gap for _, gap, _ in run.record.gaps) < 10
    assert run.record.wrong == []


def test_load_evens_out_when_the_node_is_back_and_then_nothing_moves() -> None:
    run = fleet()
    run.loop.run(20)
    run.kill("n1", back_after=15)
    run.loop.run(80)
    assert run.counts() == {"n0": 4, "n1": 4, "n2": 4}
    starts = run.record.starts
    assert starts == 12 + 4 + 4, "four moved for the failure, four to level the load"
    run.loop.run(1000)
    assert run.record.starts == starts
    assert run.record.wrong == []


def test_a_node_that_is_back_before_its_lease_ends_gets_its_streams_again() -> None:
    run = fleet()
    run.loop.run(20)
    run.kill("n1", back_after=1)
    run.loop.run(200)
    assert run.counts() == {"n0": 4, "n1": 4, "n2": 4}
    assert run.record.starts == 12 + 4
    assert run.record.wrong == []


def test_a_node_that_dies_again_and_again_is_given_less_and_less() -> None:
    run = fleet()
    run.loop.run(20)
    for at in range(20, 620, 20):
        run.kill("n1", back_after=4)
        run.loop.run(at + 20)
    assert run.record.starts < 12 + 30 * 4 / 3
    assert len(run.record.publishing) == 12
    assert run.record.wrong == []


@pytest.mark.parametrize("seed", range(10))
def test_a_partitioned_node_stops_before_others_start(seed: int) -> None:
    run = fleet(seed=seed)
    run.loop.run(20)
    run.partition("n2", 3 + 2 * seed)
    run.loop.run(200)
    assert len(run.record.publishing) == 12
    assert run.record.wrong == []


def test_a_supervisor_that_comes_again_changes_nothing() -> None:
    run = fleet()
    run.loop.run(20)
    run.kill_supervisor()
    run.loop.run(22)
    run.start_supervisor()
    run.loop.run(60)
    assert run.record.starts == 12
    assert run.record.wrong == []


def test_a_supervisor_without_memory_finds_the_streams_where_they_run() -> None:
    run = fleet()
    run.loop.run(20)
    run.kill_supervisor()
    run.retained.clear()
    run.pending = None
    run.loop.run(22)
    run.start_supervisor()
    run.loop.run(60)
    assert run.record.starts == 12
    assert run.record.wrong == []


def test_an_overloaded_node_gives_away_what_it_cannot_carry() -> None:
    machines = {"slow": (10.0, {}, 64.0), "fast": (60.0, {}, 64.0)}
    run = Fleet(cameras(40), machines)
    run.loop.run(600)
    counts = run.counts()
    assert counts["slow"] <= 11
    assert sum(counts.values()) == 40
    starts = run.record.starts
    run.loop.run(3600)
    assert run.record.starts - starts <= 12, "growing back and shrinking again moves one or two at a time"
    assert run.record.wrong == []


@pytest.mark.parametrize("seed", range(7, 9))
def test_everything_at_once(seed: int) -> None:
    """Kills, partitions and restarts of the supervisor at random, over an hour."""
    run = Fleet(cameras(120, sites=3), {f"n{n}": (60.0, {"site": f"s{n % 3}"}, 64.0) for n in range(9)}, seed=seed)
    chance = run.loop.random
    at = 20.0
    while at < 3600:
        name = f"n{chance.randrange(9)}"
        what = chance.random()
        run.loop.run(at)
        if what < 0.4 and run.nodes[name].alive:
            run.kill(name, back_after=chance.uniform(1, 60))
        elif what < 0.8 and run.nodes[name].alive and run.nodes[name].reachable:
            run.partition(name, chance.uniform(0.5, 20))
        elif run.supervisor is not None:
            run.kill_supervisor()
            run.loop.after(chance.uniform(0.5, 3), run.start_supervisor)
        at += chance.uniform(5, 60)
    run.loop.run(4000)
    assert len(run.record.publishing) == 120
    assert run.record.wrong == []
    for name, node in run.record.publishing.items():
        number = int(name.rpartition("-")[2])
        if number % 4 == 0:
            assert dict(run.by_id[node].labels)["site"] == f"s{number % 3}"


def test_many_nodes_with_failures_stay_level_and_move_little() -> None:
    """The size that is of interest, 200 nodes and 20,000 cameras, takes minutes: `tests/simulation/full_size.py`."""
    nodes, streams = (200, 20000) if os.environ.get("STREAMKP_FULL_SIZE") else (20, 600)
    figures = full_size.run(nodes, streams, minutes=5 if nodes == 20 else 10)
    assert figures["violations"] == []
    assert figures["published"] == streams
    assert figures["recovery_s"]["max"] < 10
    for when in ("balance_at_start", "balance_at_end"):
        level = figures[when]
        assert level["most"] - level["least"] <= 0.25 * level["mean"], figures
    assert figures["moves_per_lost_stream"] <= 2.5, "once away from the dead node, once back to the new one"
