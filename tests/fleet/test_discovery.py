"""What Prometheus gets of a fleet."""

from __future__ import annotations

import asyncio

import aiohttp

from streamkp.fleet import discovery
from streamkp.fleet.messages import Beat, Load, NodeState
from streamkp.fleet.spec import FleetStream
from streamkp.fleet.supervisor import Supervisor


def snapshot() -> dict[str, object]:
    supervisor = Supervisor(
        {"a": FleetStream({"uri": "x"}), "b": FleetStream({"uri": "y"}, frozenset({("gpu", "true")}))}
    )
    supervisor.connected(0.0)
    supervisor.node_state(
        NodeState(node="n.1", name="n", metrics="10.0.0.1:8766", labels={"site.name": "north"}, capacity=8), 0.0
    )
    supervisor.node_state(NodeState(node="m.1", name="m"), 0.0)
    supervisor.beat(Beat(node="n.1", number=1, version=0, load=Load(p95_ms=200)), 4.0)
    supervisor.tick(6.0)
    return supervisor.snapshot(6.0)


def test_targets_carry_the_nodes_labels() -> None:
    assert discovery.targets("g", snapshot()) == [
        {"targets": ["10.0.0.1:8766"], "labels": {"group": "g", "node": "n", "node_site_name": "north"}}
    ]


def test_figures_of_the_fleet() -> None:
    text = discovery.metrics("g", snapshot()).decode()
    for line in (
        'streamkp_fleet_streams{group="g"} 2.0',
        'streamkp_fleet_streams_placed{group="g"} 1.0',
        'streamkp_fleet_streams_waiting{group="g"} 1.0',
        'streamkp_fleet_moves_total{group="g"} 1.0',
        'streamkp_fleet_nodes{group="g",state="ready"} 1.0',
        'streamkp_fleet_node_capacity{group="g",node="n"} 8.0',
        'streamkp_fleet_node_pressure{group="g",node="n"} 0.5',
    ):
        assert line in text.splitlines(), text


def test_served_with_a_token() -> None:
    async def ask() -> list[int]:
        server = discovery.DiscoveryServer("g", snapshot)  # type: ignore[arg-type]
        port = await server.start("127.0.0.1", 0, token="0123456789abcdef")
        try:
            async with aiohttp.ClientSession() as session:
                codes = []
                for path, token in (("/healthz", ""), ("/sd", ""), ("/sd", "0123456789abcdef"), ("/metrics", "wrong")):
                    headers = {"Authorization": f"Bearer {token}"} if token else {}
                    async with session.get(f"http://127.0.0.1:{port}{path}", headers=headers) as answer:
                        codes.append(answer.status)
                return codes
        finally:
            await server.close()

    assert asyncio.run(ask()) == [200, 401, 200, 401]
