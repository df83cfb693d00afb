"""All routes of the control server, for whatever application they are mounted on."""

from __future__ import annotations

from aiohttp import web

from streamkp.control import api, figures, openapi
from streamkp.graph.stage import EngineView


def all_routes(engine: EngineView | None, *, token: bool) -> list[web.RouteDef]:
    """Health, metrics and statistics; and the control API, where the engine can be controlled.

    The application needs `api.json_errors()` as its first middleware, and bodies of up to `api.MAX_BODY` bytes.
    """
    found = figures.routes(engine)
    if isinstance(engine, api.ControlledEngine):
        found += api.routes(engine, openapi.document(api.operations(engine), token=token))
    return found
