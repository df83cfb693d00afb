"""The control API: streams, stages and options of a running graph, under `/api/v1`.

One table of operations makes both the routes and the OpenAPI document, so that the document is true.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar, runtime_checkable

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware
from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import to_jsonable_python

from streamkp.control import models
from streamkp.errors import UsageError
from streamkp.graph.spec import GraphSpec, StageSpec, StreamSpec
from streamkp.graph.stage import EngineView, StageOptions
from streamkp.graph.validation import NotLive, did_you_mean, is_secret
from streamkp.uris import HIDDEN, mask, mask_address

PREFIX: Final = "/api/v1"
MAX_BODY: Final = 64 * 1024
M = TypeVar("M", bound=BaseModel)
log = logging.getLogger("streamkp.control")


@runtime_checkable
class ControlledEngine(EngineView, Protocol):
    """What the API does with an engine."""

    spec: GraphSpec

    def add_stream(self, name: str, stream: StreamSpec) -> None: ...
    def remove_stream(self, name: str) -> None: ...
    def pause_stream(self, name: str) -> None: ...
    def resume_stream(self, name: str) -> None: ...
    def restart_stream(self, name: str) -> None: ...
    def stream_specs(self) -> dict[str, StreamSpec]: ...
    def keep_alive(self) -> None: ...
    def stage_options(self) -> dict[str, StageOptions]: ...
    def change_options(self, stage: str, changes: Mapping[str, Any]) -> StageOptions: ...


class Refused(Exception):
    """A request that is not done, with the HTTP status that says why."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    handle: Callable[[web.Request], Awaitable[web.Response]]
    summary: str
    answers: Mapping[int, tuple[str, type[BaseModel] | None]] = field(default_factory=dict)
    body: type[BaseModel] | None = None
    any_body: bool = False  # an object that the document describes elsewhere


def operations(engine: ControlledEngine) -> list[Operation]:
    """All operations on one engine."""
    api = _Api(engine)
    stream, unknown = ("The stream.", models.StreamView), ("There is no such stream.", models.Refusal)
    ended = ("The stream has ended, or is still ending.", models.Refusal)
    invalid = ("The body is not as described.", models.Refusal)
    verbs = (
        ("pause", "Close the connection of a camera, or hold a file where it is"),
        ("resume", "Go on after a pause"),
        ("restart", "Open a stream anew, also one that has ended or failed"),
    )
    stages: list[Operation] = []
    changed: dict[int, tuple[str, type[BaseModel] | None]] = {
        200: ("The stage with its new options.", models.StageView),
        404: ("There is no such stage.", models.Refusal),
        409: ("An option is not there, or cannot be changed while the graph runs.", models.Refusal),
        413: ("The body is too large.", models.Refusal),
        415: ("The body is not JSON.", models.Refusal),
        422: ("A value is not allowed.", models.Refusal),
    }
    one: dict[int, tuple[str, type[BaseModel] | None]] = {200: ("The stage.", models.StageView)}
    for stage in engine.spec.stages:
        if type(stage.options).live():
            body = models.live_options(stage.name, type(stage.options))
            text = f"Change options of the stage {stage.name} while it runs"
            path = f"/stages/{stage.name}"
            stages.append(Operation("get", path, api.stage(stage.name), f"The stage {stage.name}", one))
            stages.append(Operation("patch", path, api.patch_stage(stage.name), text, changed, body))
    return [
        Operation("get", "/streams", api.list_streams, "All streams", {200: ("The streams.", models.StreamList)}),
        Operation(
            "post", "/streams", api.add, "Add a stream",
            {
                201: ("It was added, and connects.", models.StreamView),
                409: ("There is a stream of this name, or it cannot be added now.", models.Refusal),
                413: ("The body is too large.", models.Refusal),
                415: ("The body is not JSON.", models.Refusal),
                422: invalid,
            },
            models.NewStream,
        ),
        Operation("get", "/streams/{name}", api.stream, "One stream", {200: stream, 404: unknown}),
        Operation(
            "delete", "/streams/{name}", api.remove, "Remove a stream",
            {202: ("It ends after its current frame.", models.StreamView), 404: unknown},
        ),
        *(
            Operation(
                "post", f"/streams/{{name}}/{verb}", api.order(verb), text, {200: stream, 404: unknown, 409: ended}
            )
            for verb, text in verbs
        ),
        Operation("get", "/graph", api.graph, "Stages and options", {200: ("The graph.", models.GraphView)}),
        *stages,
        Operation(
            "get", "/stages/{name}", api.stage(None), "One stage",
            one | {404: ("There is no such stage.", models.Refusal)},
        ),
        Operation(
            "patch", "/stages/{name}", api.patch_stage(None), "Change options of a stage while it runs", changed,
            any_body=True,
        ),
    ]  # fmt: skip


class _Api:
    """The handlers."""

    def __init__(self, engine: ControlledEngine) -> None:
        self._engine = engine

    async def list_streams(self, _: web.Request) -> web.Response:
        return _answer(models.StreamList(streams=self._views()))

    async def stream(self, request: web.Request) -> web.Response:
        return _answer(self._view(_name(request)))

    async def add(self, request: web.Request) -> web.Response:
        new = await _body(request, models.NewStream)
        given = {name: value for name, value in new if name in new.model_fields_set and name != "name"}
        try:
            spec = StreamSpec.model_validate(given)
        except ValidationError as error:
            raise _refused(error, StreamSpec) from None
        await self._change(409, self._engine.add_stream, new.name, spec)
        log.info("stream %s was added: %s", new.name, mask_address(new.uri), extra={"stream": new.name})
        return _answer(self._view(new.name), 201, {hdrs.LOCATION: f"{PREFIX}/streams/{new.name}"})

    async def remove(self, request: web.Request) -> web.Response:
        view = self._view(name := _name(request))
        self._engine.keep_alive()
        await self._change(404, self._engine.remove_stream, name)
        log.info("stream %s was removed", name, extra={"stream": name})
        return _answer(view, 202)

    def order(self, verb: str) -> Callable[[web.Request], Awaitable[web.Response]]:
        act: Callable[[str], None] = getattr(self._engine, f"{verb}_stream")

        async def handle(request: web.Request) -> web.Response:
            self._view(name := _name(request))
            await self._change(409, act, name)
            log.info("stream %s: %s", name, verb, extra={"stream": name})
            return _answer(self._view(name))

        return handle

    async def graph(self, _: web.Request) -> web.Response:
        spec = self._engine.spec
        feedback = [models.FeedbackView(sender=sender, receiver=receiver) for sender, receiver in spec.feedback()]
        stages = [self._stage(stage) for stage in spec.stages]
        state = str(self._engine.stats()["state"])
        return _answer(models.GraphView(origin=mask(spec.origin), state=state, stages=stages, feedback=feedback))

    def stage(self, name: str | None) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            return _answer(self._stage(self._find_stage(name or _name(request))))

        return handle

    def patch_stage(self, name: str | None) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            stage = self._find_stage(name or _name(request))
            data = await _json(request)
            if not isinstance(data, dict):
                raise Refused(422, "the body is a JSON object of options and their values")
            live = models.live_options(stage.name, type(stage.options))
            known = {key: value for key, value in data.items() if key in live.model_fields}
            values = _validated(live, json.dumps(known).encode(), f"stages.{stage.name}")
            changes = data | {key: getattr(values, key) for key in known}
            await self._change(422, self._engine.change_options, stage.name, changes)
            log.info("stage %s: %s changed", stage.name, ", ".join(changes) or "nothing", extra={"stage": stage.name})
            return _answer(self._stage(stage))

        return handle

    async def _change(self, status: int, act: Callable[..., object], *args: object) -> None:
        """Do something to the engine, which may wait for a lock or a file system."""
        try:
            await asyncio.to_thread(act, *args)
        except NotLive as error:
            raise Refused(409, str(error)) from None
        except UsageError as error:
            raise Refused(status, str(error)) from None

    def _views(self) -> list[models.StreamView]:
        specs, found = self._engine.stream_specs(), self._engine.stats()["streams"]
        return [_stream_view(name, spec, found.get(name)) for name, spec in specs.items()]

    def _view(self, name: str) -> models.StreamView:
        for view in self._views():
            if view.name == name:
                return view
        raise Refused(404, f"there is no stream named {name}")

    def _find_stage(self, name: str) -> StageSpec:
        stages = self._engine.spec.stages
        for stage in stages:
            if stage.name == name:
                return stage
        raise Refused(404, f"there is no stage named {name}; there are {', '.join(s.name for s in stages)}")

    def _stage(self, stage: StageSpec) -> models.StageView:
        options = self._engine.stage_options()[stage.name]
        return models.StageView(
            name=stage.name,
            use=stage.use,
            kind=stage.cls.kind,
            inputs=list(stage.inputs),
            options=shown(options, self._engine.spec.secrets),
            live_options=type(options).live(),
        )


def _stream_view(name: str, spec: StreamSpec, row: Mapping[str, Any] | None) -> models.StreamView:
    row = row or {}  # one that takes the place of a stream that is still ending
    status = row.get("status", "connecting")
    if not isinstance(status, Mapping):
        status = {"state": status, "reason": row.get("reason")}
    return models.StreamView(
        name=name,
        source=row.get("source") or mask_address(spec.uri.get_secret_value()),
        status=models.Status.model_validate(status),
        live=row.get("live", bool(spec.live)),
        frames=row.get("frames", 0),
        frames_total=row.get("frames_total"),
        position_s=row.get("position_s", 0.0),
        duration_s=row.get("duration_s"),
        labels=dict(spec.labels),
        options=spec.model_dump(mode="json", exclude_unset=True, exclude={"uri", "labels"}),
    )


def shown(options: BaseModel, secrets: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Options as JSON types with everything hidden that may be a credential; `secrets` are values of variables of the
    environment by which a graph file has names for them."""

    def plain(value: Any, path: tuple[str, ...]) -> Any:
        if isinstance(value, SecretStr) or (value is not None and is_secret(type(options), path)):
            return HIDDEN if value is not None else None
        if isinstance(value, BaseModel):
            return {key: plain(below, (*path, key)) for key, below in value}
        if isinstance(value, Mapping):
            return {str(key): plain(below, (*path, str(key))) for key, below in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [plain(below, path) for below in value]
        if isinstance(value, float) and not math.isfinite(value):
            return str(value)
        value = to_jsonable_python(value, fallback=lambda other: f"<{type(other).__name__}>")
        if isinstance(value, str):
            for secret, name in sorted((secrets or {}).items(), key=lambda item: -len(item[0])):
                value = value.replace(secret, name)
            return mask_address(value)
        return value

    return {name: plain(value, (name,)) for name, value in options}


def _name(request: web.Request) -> str:
    return request.match_info["name"]


def _answer(model: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        text=model.model_dump_json(), status=status, headers=headers, content_type="application/json", charset="utf-8"
    )


async def _json(request: web.Request) -> Any:
    """The body as JSON; nothing but JSON proper."""
    if request.content_type != "application/json":
        raise Refused(415, "send the body as JSON, with the header Content-Type: application/json")

    def no(word: str) -> float:
        raise ValueError(f"{word} is no number of JSON")

    def number(word: str) -> float:
        value = float(word) if math.isfinite(float(word)) else no(word)
        return int(value) if value.is_integer() and abs(value) < 2**53 else value  # to JSON 2.0 is an integer

    try:
        data = json.loads(await request.read(), parse_constant=no, parse_float=number)
        json.dumps(data, ensure_ascii=False).encode()  # half a character, written as \ud800
    except RecursionError:
        raise Refused(400, "the body is nested too deeply") from None
    except ValueError as error:
        raise Refused(400, f"the body is not JSON: {type(error).__name__}") from None
    return data


async def _body(request: web.Request, model: type[M]) -> M:
    return _validated(model, json.dumps(await _json(request)).encode())


def _validated(model: type[M], text: bytes, where: str = "") -> M:
    """Strictly: what the document calls a number is no text that looks like one. Values are not told: an address that
    is wrong may hold a password."""
    try:
        return model.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise _refused(error, model, where) from None


_FORMS: Final = {
    "name": "up to 64 letters, digits, '.', '_' and '-', a letter or digit first",
    "uri": "it holds a line break or another character that does not print",
}


def _refused(error: ValidationError, model: type[BaseModel], where: str = "") -> Refused:
    reasons = []
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        at = ".".join(filter(None, (where, *(str(part) for part in item["loc"]))))
        what = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            what = f"unknown option{did_you_mean(at, model.model_fields)}"
        elif item["type"] == "string_pattern_mismatch":
            what = _FORMS.get(at, what)
        reasons.append(f"{mask(at)}: {what}" if at else what)
    return Refused(422, "; ".join(reasons))


def routes(engine: ControlledEngine, document: Mapping[str, Any]) -> list[web.RouteDef]:
    """The routes of all operations, and of the OpenAPI document."""

    async def openapi(_: web.Request) -> web.Response:
        return web.json_response(document)

    found = [web.get(f"{PREFIX}/openapi.json", openapi)]
    for each in operations(engine):
        found.append(web.route(each.method, f"{PREFIX}{each.path}", each.handle))
    return found


def json_errors() -> Middleware:
    """A middleware that makes every refusal under `/api/` a `Refusal`; it has to be the first one."""

    @web.middleware
    async def wrap(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not request.path.startswith("/api/"):
            return await handler(request)
        try:
            return await handler(request)
        except Refused as refused:
            return _answer(models.Refusal(error=mask(str(refused))), refused.status)
        except web.HTTPException as error:
            kept = {
                str(name): error.headers[name] for name in (hdrs.ALLOW, hdrs.WWW_AUTHENTICATE) if name in error.headers
            }
            text = (error.text or error.reason).strip()
            return _answer(models.Refusal(error=mask(text)), error.status, kept)
        except ConnectionError:  # the client has gone
            raise
        except Exception as error:
            log.error("%s %s failed: %s", request.method, request.path, type(error).__name__, exc_info=True)
            return _answer(models.Refusal(error="this should not have happened; the log says more"), 500)

    return wrap
