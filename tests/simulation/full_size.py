"""A large fleet with failures: `python -m tests.simulation.full_size` prints its figures, for 200 nodes by default."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

from tests.simulation.model import Fleet, cameras


def run(nodes: int, streams: int, *, minutes: float = 10.0, every: float = 30.0, seed: int = 1) -> dict[str, Any]:
    """Kill a node every `every` seconds, each back after one to two minutes; the supervisor too, half-way."""
    began = time.perf_counter()
    per_node = streams / nodes
    machines = {f"n{n}": (2 * per_node, {"site": f"s{n % 4}"}, 2 * per_node) for n in range(nodes)}
    fleet = Fleet(cameras(streams, sites=4), machines, seed=seed)
    fleet.loop.run(60.0)
    placed = _balance(fleet)
    at_start = fleet.record.starts
    chance = fleet.loop.random
    kills, lost = 0, 0
    end = 60.0 + 60 * minutes
    while (at := fleet.loop.now + every) < end:
        fleet.loop.run(at)
        alive = [name for name, node in fleet.nodes.items() if node.alive]
        victim = chance.choice(alive)
        lost += len(fleet.nodes[victim].running)
        kills += 1
        fleet.kill(victim, back_after=chance.uniform(60, 120))
        if fleet.supervisor is not None and at > end / 2 and fleet.term == 1:
            fleet.kill_supervisor()
            fleet.loop.after(2.0, fleet.start_supervisor)
    fleet.loop.run(end + 240.0)
    gaps = sorted(gap for _, gap, _ in fleet.record.gaps)
    failed = [gap for gap in gaps if gap > 2.0]  # the rest were moved while both nodes lived
    moves = fleet.record.starts - at_start
    return {
        "nodes": nodes,
        "cameras": streams,
        "simulated_s": round(fleet.loop.now),
        "took_s": round(time.perf_counter() - began, 1),
        "published": len(fleet.record.publishing),
        "violations": fleet.record.wrong,
        "balance_at_start": placed,
        "balance_at_end": _balance(fleet),
        "nodes_killed": kills,
        "streams_lost_per_kill": round(lost / kills, 1),
        "moves_per_kill": round(moves / kills, 1),
        "moves_per_lost_stream": round(moves / lost, 2),
        "recovery_s": {"p50": _at(failed, 0.5), "p99": _at(failed, 0.99), "max": _at(failed, 1.0)},
        "handover_s": {"p50": _at([g for g in gaps if g <= 2.0], 0.5), "p99": _at([g for g in gaps if g <= 2.0], 0.99)},
    }


def _balance(fleet: Fleet) -> dict[str, float]:
    """Streams a node: least, mean and most."""
    counts = list(fleet.counts().values())
    return {"least": min(counts), "mean": round(statistics.fmean(counts), 1), "most": max(counts)}


def _at(values: list[float], share: float) -> float | None:
    return round(values[min(int(share * len(values)), len(values) - 1)], 2) if values else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=200)
    parser.add_argument("--cameras", type=int, default=20000)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    print(json.dumps(run(given.nodes, given.cameras, minutes=given.minutes, seed=given.seed), indent=2))


if __name__ == "__main__":
    main()
