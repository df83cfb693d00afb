"""The supervisor over HTTP: Prometheus' targets, figures of the fleet, health."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from streamkp.control.access import Access, check_binding, is_loopback
from streamkp.control.server import HttpServer

PORT: Final = 8790
Snapshot = Callable[[], dict[str, Any]]


def targets(group: str, snapshot: dict[str, Any]) -> list[dict[str, Any]]:
    """The nodes as Prometheus' HTTP service discovery wants them; each series then says which node it is from."""
    out = []
    for node in snapshot.get("nodes", ()):
        if node["metrics"] and node["state"] != "gone":
            labels = {f"node_{_label(key)}": value for key, value in node["labels"].items()}
            out.append({"targets": [node["metrics"]], "labels": {"group": group, "node": node["name"], **labels}})
    return out


def metrics(group: str, snapshot: dict[str, Any]) -> bytes:
    """The fleet's own figures in Prometheus' text format."""
    registry = CollectorRegistry()

    class _Collector:
        def collect(self) -> Iterator[Metric]:
            return _families(group, snapshot)

    registry.register(_Collector())
    return generate_latest(registry)


class DiscoveryServer:
    """Serves `/sd`, `/metrics`, `/status` and `/healthz`. All methods run on one loop."""

    def __init__(self, group: str, snapshot: Snapshot) -> None:
        self._group = group
        self._snapshot = snapshot

    async def start(self, host: str, port: int, *, token: str | None = None, insecure: bool = False) -> int:
        """Listen, and return the port.

        Raises:
            UsageError: it would listen beyond this machine without a token.
            OutputError: the port cannot be had.
        """
        check_binding("--discovery-host", host, token, insecure)
        access = Access(token=token, local=is_loopback(host), public=("/healthz",))
        app = web.Application(middlewares=[access.middleware()], client_max_size=1024)
        app.add_routes(
            [
                web.get("/sd", self._targets),
                web.get("/metrics", self._metrics),
                web.get("/status", self._status),
                web.get("/healthz", self._healthz),
            ]
        )
        self._server = HttpServer(app, "the fleet's server", "--discovery PORT")
        return await self._server.start(host, port)

    async def close(self) -> None:
        """End every connection."""
        await self._server.cleanup()

    async def _targets(self, _: web.Request) -> web.Response:
        return web.json_response(targets(self._group, self._snapshot()))

    async def _metrics(self, _: web.Request) -> web.Response:
        text = metrics(self._group, self._snapshot())
        return web.Response(body=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def _status(self, _: web.Request) -> web.Response:
        return web.json_response(self._snapshot())

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")


def _families(group: str, snapshot: dict[str, Any]) -> Iterator[Metric]:
    def gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
        family = GaugeMetricFamily(f"streamkp_fleet_{name}", text, labels=["group"])
        family.add_metric([group], value)
        return family

    yield gauge("streams", "Streams of the fleet", snapshot.get("streams", 0))
    yield gauge("streams_placed", "Streams that a node has", snapshot.get("placed", 0))
    yield gauge("streams_waiting", "Streams that no node takes", len(snapshot.get("waiting", ())))
    for name, text in (("moves", "Streams given to a node"), ("failures", "Nodes that failed")):
        counter = CounterMetricFamily(f"streamkp_fleet_{name}", text, labels=["group"])
        counter.add_metric([group], snapshot.get(name, 0))
        yield counter
    states = GaugeMetricFamily("streamkp_fleet_nodes", "Nodes by state", labels=["group", "state"])
    nodes = [node for node in snapshot.get("nodes", ()) if node["state"] != "gone"]
    for state, count in Counter(node["state"] for node in nodes).items():
        states.add_metric([group, state], count)
    yield states
    for key, text in (
        ("streams", "Streams of a node"),
        ("weight", "Weights of a node's streams, added"),
        ("capacity", "What a node takes, as declared and corrected by measurement"),
        ("pressure", "Latency or drops of a node over their limit; 1 at the limit"),
    ):
        family = GaugeMetricFamily(f"streamkp_fleet_node_{key}", text, labels=["group", "node"])
        for node in nodes:
            family.add_metric([group, node["name"]], node[key])
        yield family


def _label(key: str) -> str:
    return "".join(letter if letter.isalnum() and letter.isascii() else "_" for letter in key)
