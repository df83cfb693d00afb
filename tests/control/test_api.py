"""The control API over HTTP, on engines that really run."""

from __future__ import annotations

import json
import logging
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import Field, SecretStr

from streamkp.control.run_server import ControlServer
from streamkp.graph.engine import Engine
from streamkp.graph.spec import ControlSpec
from streamkp.graph.stage import LIVE, MapStage, StageOptions, StreamContext
from streamkp.graph.validation import validate
from streamkp.packet import Packet
from streamkp.testing import Collect, Collected, Scripted, make_packet
from tests.control.test_run_server import get

WAIT = 20.0
TOKEN = "0123456789abcdef"


class Gain(MapStage):
    """Has options of all kinds."""

    class Options(StageOptions):
        gain: float = Field(1.0, gt=0, description="How much.", json_schema_extra=LIVE)
        mode: str = "fixed"
        token: SecretStr = SecretStr("hidden-token")
        broker: str = "mqtt://user:hidden-password@broker"

    def open(self) -> None:
        self.seen: list[float] = []

    def process(self, packet: Packet) -> Packet:
        packet.events.append({"gain": self.options.gain})
        return packet


class Reached(Collect):
    """Says when a stream has delivered."""

    def process(self, packet: Packet) -> None:
        super().process(packet)
        with self.options.into.arrived:
            self.options.into.arrived.notify_all()


class Results(Collected):
    def __init__(self) -> None:
        super().__init__()
        self.arrived = threading.Condition()

    def wait_for(self, what: Callable[[], Any]) -> None:
        with self.arrived:
            assert self.arrived.wait_for(what, WAIT)


class Anything(dict[str, Any]):
    """A script for every stream: frames until it is stopped, at the pace of the graph."""

    def __missing__(self, stream: str) -> Any:
        def play(context: StreamContext) -> Iterator[Packet]:
            seq = 0
            while not context.stopping:
                yield make_packet(context.stream, seq)
                seq += 1
                context.wait(0.002)

        return play


@dataclass
class Api:
    url: str
    engine: Engine
    out: Results
    token: str | None = None

    def __call__(self, method: str, path: str, body: Any = None, *, raw: bytes | None = None, **headers: str) -> Any:
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        given = {"Content-Type": "application/json"} if data is not None else {}
        if self.token is not None:
            given["Authorization"] = f"Bearer {self.token}"
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(f"{self.url}{path}", data=data, method=method, headers=given)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=20) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())


def serve(token: str | None = None) -> Iterator[Api]:
    out = Results()
    graph = validate(
        {
            "streams": {"cam": {"uri": "live:cam", "labels": {"site": "gym"}}},
            "stages": {
                "source": {"use": Scripted, "scripts": Anything()},
                "gain": {"use": Gain},
                "collect": {"use": Reached, "into": out},
            },
        }
    )
    engine = Engine(graph, keep_alive=True)
    engine.start()
    try:
        with ControlServer(engine, ControlSpec(port=0, token=token)) as control:
            yield Api(control.url, engine, out, token)
    finally:
        engine.stop()
        assert engine.wait(WAIT)


@pytest.fixture
def api() -> Iterator[Api]:
    yield from serve()


@pytest.fixture
def guarded() -> Iterator[Api]:
    yield from serve(TOKEN)


def test_streams_come_and_go(api: Api) -> None:
    api.out.wait_for(lambda: api.out.seqs("cam"))
    status, listed = api("GET", "/api/v1/streams")
    assert status == 200
    assert [(row["name"], row["status"]["state"], row["labels"]) for row in listed["streams"]] == [
        ("cam", "live", {"site": "gym"})
    ]
    status, added = api(
        "POST", "/api/v1/streams", {"name": "door", "uri": "live:door", "max_fps": 5, "labels": {"a": "b"}}
    )
    assert status == 201
    assert (added["name"], added["options"], added["labels"]) == ("door", {"max_fps": 5.0}, {"a": "b"})
    api.out.wait_for(lambda: api.out.seqs("door"))
    assert api("POST", "/api/v1/streams", {"name": "door", "uri": "live:door"})[0] == 409
    assert api("DELETE", "/api/v1/streams/door")[0] == 202
    assert api("DELETE", "/api/v1/streams/door")[0] == 404
    assert api("GET", "/api/v1/streams/door")[0] == 404
    api("DELETE", "/api/v1/streams/cam")
    assert api("GET", "/api/v1/streams") == (200, {"streams": []})
    assert api("POST", "/api/v1/streams", {"name": "cam", "uri": "live:cam"})[0] == 201  # waits for the one before
    before = len(api.out.seqs("cam"))
    api.out.wait_for(lambda: len(api.out.seqs("cam")) > before)
    assert api.engine.state == "running"


def test_pause_resume_and_restart_keep_the_numbers_going(api: Api) -> None:
    api.out.wait_for(lambda: api.out.seqs("cam"))
    for order in ("pause", "resume", "pause", "restart", "restart"):
        epoch = api.out.packets[-1].epoch
        status, view = api("POST", f"/api/v1/streams/cam/{order}")
        assert status == 200, view
        if order != "pause":
            api.out.wait_for(lambda last=epoch: api.out.packets[-1].epoch > last)
    seqs = api.out.seqs("cam")
    assert seqs == sorted(set(seqs))
    epochs = [packet.epoch for packet in api.out.packets]
    assert epochs == sorted(epochs)
    assert api.out.ended == []
    assert api("POST", "/api/v1/streams/none/pause")[0] == 404


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({}, "name: Field required"),
        ({"name": "a b", "uri": "x"}, "name: up to 64 letters"),
        ({"name": "a\n", "uri": "x"}, "name: up to 64 letters"),
        ({"name": "a", "uri": ""}, "uri: String should have at least 1 character"),
        ({"name": "a", "uri": "x\u0000"}, "uri: it holds a line break"),
        ({"name": "a", "uri": "x", "max_fps": "5"}, "max_fps: Input should be a valid number"),
        ({"name": "a", "uri": "x", "max_fps": 0}, "max_fps: Input should be greater than 0"),
        ({"name": "a", "uri": "x", "rotate": False}, "rotate: must be auto, 0, 90, 180 or 270"),
        ({"name": "a", "uri": "x", "rotate": 45}, "rotate: Input should be 'auto', 0, 90, 180 or 270"),
        ({"name": "a", "uri": "x", "speed": 1}, "speed: unknown option; allowed: "),
        ({"name": "a", "uri": "x", "maxfps": 1}, "maxfps: unknown option; did you mean max_fps?"),
        ({"name": "a", "uri": "rtsp://u:secret@h:99999/x"}, "uri: has a malformed host or port"),
        (
            {"name": "a", "uri": "x", "labels": {"stream": "y"}},
            "labels.stream.[key]: stream is a label of streamkp's own",
        ),
        ({"name": "a", "uri": "x", "labels": {"1a": "y"}}, "labels.1a.[key]: a label's name has letters"),
        ([], "Input should be an object"),
    ],
)
def test_a_stream_that_is_wrong_is_refused_with_the_reason(api: Api, body: Any, reason: str) -> None:
    status, answer = api("POST", "/api/v1/streams", body)
    assert status == 422
    assert reason in answer["error"]
    assert [row["name"] for row in api("GET", "/api/v1/streams")[1]["streams"]] == ["cam"]


@pytest.mark.parametrize(
    ("raw", "type", "status"),
    [
        (b"{", "application/json", 400),
        (b"", "application/json", 400),
        (b"\xff", "application/json", 400),
        (b'{"name": "a", "uri": "x", "max_fps": NaN}', "application/json", 400),
        (b'{"name": "a", "uri": "x", "max_fps": 1e999}', "application/json", 400),
        (b'{"name": "a", "uri": "\\ud800"}', "application/json", 400),
        (b"[" * 30000, "application/json", 400),
        (b"name=a&uri=x", "application/x-www-form-urlencoded", 415),
        (b" " * 70000, "application/json", 413),
    ],
)
def test_a_body_that_is_no_json_is_refused(api: Api, raw: bytes, type: str, status: int) -> None:
    code, answer = api("POST", "/api/v1/streams", raw=raw, Content_Type=type)
    assert code == status
    assert set(answer) == {"error"}


def test_options_change_while_it_runs(api: Api) -> None:
    status, stage = api("PATCH", "/api/v1/stages/gain", {"gain": 3})
    assert status == 200
    assert stage["options"]["gain"] == 3.0
    api.out.wait_for(lambda: {"gain": 3.0} in api.out.packets[-1].events)
    status, answer = api("PATCH", "/api/v1/stages/gain", {"gain": 4, "mode": "free"})
    assert (status, answer["error"]) == (
        409,
        f"stages.gain.mode cannot be changed while the graph runs; of {Gain.__name__} these can: gain",
    )
    for body in ({"gain": 0}, {"gain": "4"}, [], {"gain": None}):
        assert api("PATCH", "/api/v1/stages/gain", body)[0] == 422, body
    status, answer = api("PATCH", "/api/v1/stages/gain", {"gian": 1})
    assert (status, answer["error"]) == (409, "stages.gain.gian: unknown option; did you mean gain?")
    assert api("PATCH", "/api/v1/stages/gain", {"workers": 2})[0] == 409
    assert api("PATCH", "/api/v1/stages/none", {})[0] == 404
    assert api("PATCH", "/api/v1/stages/source", {"scripts": 1})[0] == 409
    assert api("GET", "/api/v1/stages/gain")[1]["options"]["gain"] == 3.0


def test_an_option_that_a_stage_cannot_take_leaves_the_old_one(caplog: pytest.LogCaptureFixture) -> None:
    class Picky(Gain):
        def options_changed(self) -> None:
            raise ValueError("not today")

    out = Results()
    stages = {"source": {"use": Scripted, "scripts": Anything()}, "gain": {"use": Picky}}
    graph = validate(
        {"streams": {"cam": {"uri": "live:cam"}}, "stages": stages | {"collect": {"use": Reached, "into": out}}}
    )
    engine = Engine(graph)
    with engine:
        engine.change_options("gain", {"gain": 5})
        out.wait_for(lambda: caplog.records)
        seen = len(out.packets)
        out.wait_for(lambda: len(out.packets) > seen + 2)
        assert out.packets[-1].events == [{"gain": 1.0}]
    assert "stage gain goes on with its old options: ValueError: not today" in caplog.text


def test_the_graph_is_shown_without_secrets(api: Api) -> None:
    status, graph = api("GET", "/api/v1/graph")
    assert status == 200
    assert [stage["name"] for stage in graph["stages"]] == ["source", "gain", "collect"]
    assert graph["stages"][1] == {
        "name": "gain", "use": "Gain", "kind": "map", "inputs": ["source"],
        "options": {"gain": 1.0, "mode": "fixed", "token": "***", "broker": "mqtt://***@broker"},
        "live_options": ["gain"],
    }  # fmt: skip
    assert "hidden" not in json.dumps(graph)


def test_variables_of_the_environment_are_shown_by_their_names(tmp_path: Path) -> None:
    from streamkp.control.api import shown
    from streamkp.graph.graph import Graph

    text = "stages: {decode: {use: decode}, record: {use: record, path: '${FOLDER}/out.jsonl'}}"
    spec = Graph.from_text(text, env={"FOLDER": "/secret/folder"}).validate()
    assert shown(spec.stages[1].options, spec.secrets)["path"] == "${FOLDER}/out.jsonl"


def test_credentials_of_a_stream_show_nowhere(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    uri = "rtsp://admin:pass@word/1@10.0.0.5/live?token=hush"
    said = [
        api("POST", "/api/v1/streams", {"name": "door", "uri": uri}),
        api("POST", "/api/v1/streams", {"name": "door", "uri": uri}),
        api("POST", "/api/v1/streams", {"name": "bad name", "uri": uri}),
        api("POST", "/api/v1/streams", {"name": "x", "uri": uri + "\u0000"}),
        api("GET", "/api/v1/streams"),
        api("GET", "/stats"),
        api("DELETE", "/api/v1/streams/door"),
    ]
    assert said[0][1]["source"] == "rtsp://***@10.0.0.5/live?token=***"
    everything = json.dumps(said) + caplog.text
    assert "word" not in everything.replace("password", "")
    assert "admin" not in everything
    assert "hush" not in everything


def test_an_address_of_any_length_does_not_fill_the_log(api: Api) -> None:
    status, view = api("POST", "/api/v1/streams", {"name": "long", "uri": "x" * 4096})
    assert status == 201
    assert len(view["source"]) == 300
    assert api("POST", "/api/v1/streams", {"name": "longer", "uri": "x" * 4097})[0] == 422


def test_a_token_is_needed_for_all_but_healthz(guarded: Api) -> None:
    stranger = Api(guarded.url, guarded.engine, guarded.out, "wrong")
    for method, path in (
        ("GET", "/api/v1/streams"), ("POST", "/api/v1/streams"), ("GET", "/api/v1/openapi.json"),
        ("GET", "/api/v1/graph"), ("PATCH", "/api/v1/stages/gain"), ("DELETE", "/api/v1/streams/cam"),
        ("GET", "/api/v1/nothing"),
    ):  # fmt: skip
        assert stranger(method, path)[0] == 401
        assert guarded(method, path)[0] != 401
    for path, code in (("/healthz", 200), ("/readyz", 401), ("/stats", 401), ("/metrics", 401)):
        assert get(f"{guarded.url}{path}")[0] == code


def test_pages_of_other_sites_may_change_nothing(api: Api) -> None:
    assert api("DELETE", "/api/v1/streams/cam", Origin="https://example.org")[0] == 403
    assert api("DELETE", "/api/v1/streams/cam", Host="evil.example")[0] == 403
    assert api("GET", "/api/v1/streams/cam")[0] == 200


def test_the_openapi_document_is_true(api: Api) -> None:
    status, document = api("GET", "/api/v1/openapi.json")
    assert status == 200
    assert set(document["paths"]) == {
        "/api/v1/streams", "/api/v1/streams/{name}", "/api/v1/streams/{name}/pause", "/api/v1/streams/{name}/resume",
        "/api/v1/streams/{name}/restart", "/api/v1/graph", "/api/v1/stages/{name}", "/api/v1/stages/gain",
        "/api/v1/openapi.json",
    }  # fmt: skip

    def schema(path: str, method: str, code: str) -> Any:
        found = document["paths"][path][method]["responses"][code]["content"]["application/json"]["schema"]
        return found | {"components": document["components"]}

    for path, method, code, given in (
        ("/api/v1/streams", "get", "200", api("GET", "/api/v1/streams")),
        ("/api/v1/streams", "post", "422", api("POST", "/api/v1/streams", {})),
        ("/api/v1/streams/{name}", "get", "200", api("GET", "/api/v1/streams/cam")),
        ("/api/v1/streams/{name}/pause", "post", "200", api("POST", "/api/v1/streams/cam/pause")),
        ("/api/v1/graph", "get", "200", api("GET", "/api/v1/graph")),
        ("/api/v1/stages/gain", "patch", "200", api("PATCH", "/api/v1/stages/gain", {"gain": 2})),
    ):
        assert str(given[0]) == code
        jsonschema.validate(given[1], schema(path, method, code))
    new = document["components"]["schemas"]["NewStream"] | {"components": document["components"]}
    jsonschema.validate({"name": "a", "uri": "x", "labels": {"site": "y"}, "rotate": 90}, new)
    for wrong in (
        {"name": "a"},
        {"name": "a", "uri": "x", "rotate": 45},
        {"name": "a", "uri": "x", "labels": {"le": "y"}},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, new)


def test_labels_are_in_the_metrics(api: Api) -> None:
    assert b'streamkp_stream_info{site="gym",stream="cam"} 1.0' in api.engine.prometheus()
    assert api.engine.stats()["streams"]["cam"]["labels"] == {"site": "gym"}
