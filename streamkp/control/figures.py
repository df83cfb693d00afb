"""Health, metrics and statistics over HTTP: `/healthz`, `/readyz`, `/metrics`, `/stats`."""

from __future__ import annotations

from collections import Counter

from aiohttp import web

from streamkp.graph.stage import EngineView


def routes(engine: EngineView | None) -> list[web.RouteDef]:
    """The routes of one engine; without one (a sink that runs on its own) they say that nothing is ready."""

    async def healthz(_: web.Request) -> web.Response:
        """200 while no sink is out of use and no stage is stuck, else 503."""
        healthy = engine is None or engine.healthy()
        text = (
            "ok" if healthy else "a stage is stuck" if engine is not None and engine.stuck() else "a stage has failed"
        )
        return web.Response(text=f"{text}\n", status=200 if healthy else 503)

    async def readyz(_: web.Request) -> web.Response:
        """200 while the graph runs and at least one stream is live, else 503."""
        ready = engine is not None and engine.ready()
        text = "ok" if ready else "no stream delivers"
        states = Counter() if engine is None else Counter(status.state for status in engine.statuses().values())
        if others := ", ".join(f"{count} {state}" for state, count in states.items() if state != "live"):
            text += f"; {others} (/stats says why)"
        return web.Response(text=f"{text}\n", status=200 if ready else 503)

    async def metrics(_: web.Request) -> web.Response:
        """The engine's figures in Prometheus' text format."""
        text = b"" if engine is None else engine.prometheus()
        return web.Response(body=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def stats(_: web.Request) -> web.Response:
        """The same figures, with percentiles and the state of each stream, as JSON."""
        return web.json_response({} if engine is None else engine.stats())

    return [
        web.get("/healthz", healthz),
        web.get("/readyz", readyz),
        web.get("/metrics", metrics),
        web.get("/stats", stats),
    ]
