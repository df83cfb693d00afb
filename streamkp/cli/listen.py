"""`streamkp listen`: see what is published."""

from __future__ import annotations

import asyncio
import json
import math
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Annotated, Any, Self
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

import aiohttp
import aiomqtt
import typer

from streamkp import wire
from streamkp.cli.output import printable
from streamkp.errors import SourceError, UsageError
from streamkp.graph.status import FINAL
from streamkp.uris import Address, encoded, expand_argument, mask, mask_address, split

_WEB = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}
_MQTT = {"mqtt": 1883, "mqtts": 8883}
OLDEST = 60_000.0  # ms: what is older was captured for a recording, and its age is no latency
OPEN_SECONDS = 10.0
MOST_NAMES = 20
MISSING_SECONDS = 1.5  # until it is told that nothing is known of the stream: its status comes at once
HEARTBEAT_SECONDS = 10.0  # a publisher that does not answer a ping within half of that is gone


def listen(
    uri: Annotated[
        str, typer.Argument(metavar="URI", help="ws://HOST:PORT, wss://, mqtt://HOST or mqtts://HOST[:PORT][/PREFIX].")
    ],
    count: Annotated[int | None, typer.Option(min=1, help="Stop after so many frames.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print each message as a line of JSON.")] = False,
    stream: Annotated[str | None, typer.Option(help="Only this stream.")] = None,
) -> None:
    """Print what a running graph publishes, one line per frame, until --count or the end.

    Where there is no stream of that name, the others are named on standard error; it may still come.
    ${NAME} in the address stands for a variable of the environment. Where the connection breaks before the graph has
    said that it ends, the exit code is 3.
    """
    asyncio.run(_listen(expand_argument(uri, os.environ), count, as_json, stream))


async def _listen(uri: str, count: int | None, as_json: bool, stream: str | None) -> None:
    address = split(uri)
    scheme = address.scheme
    if scheme in _WEB:
        source = _websocket(uri, stream)
    elif scheme in _MQTT:
        source = _mqtt(uri, address, stream)
    else:
        raise UsageError(
            f"cannot listen to {mask_address(uri)}: it starts with none of {', '.join((*_WEB, *_MQTT))}://"
        )
    frames = 0
    async with aclosing(source):
        async for message in source:
            print(_as_json(message) if as_json else printable(describe(message)), flush=True)
            frames += "type" not in message
            if frames == count:
                return
    if count is not None:
        raise SourceError(f"{mask_address(uri)} ended after {frames} of {count} frames")


class _Missing:
    """Tells a person once that nothing is known of the stream that they want, and which streams there are.

    `names` finds those out; None where that cannot be said.
    """

    def __init__(self, stream: str | None, names: Callable[[], Awaitable[list[str] | None]]) -> None:
        self._stream, self._names = stream, names
        self._heard = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if self._stream is not None:
            self._task = asyncio.create_task(self._watch(self._stream))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def heard(self) -> None:
        """Something has come of the stream."""
        self._heard.set()

    async def _watch(self, stream: str) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._heard.wait(), MISSING_SECONDS)
            return
        names = await self._names()
        if names is None:
            text = f"nothing has come of a stream named {stream} yet"
        else:
            known = ", ".join(sorted(names)[:MOST_NAMES]) + (", ..." if len(names) > MOST_NAMES else "")
            text = f"there is no stream named {stream}; there are: {known or 'none'}"
        typer.echo(printable(f"{text}; waiting for it"), err=True)


async def _names(session: aiohttp.ClientSession, address: str) -> list[str] | None:
    """The streams that the program behind a WebSocket has; None where it does not say."""
    url = urlsplit(address)
    path = url.path.removesuffix("/").removesuffix("/ws") + "/streams"
    token = urlencode([pair for pair in parse_qsl(url.query) if pair[0] == "token"])
    scheme = {"ws": "http", "wss": "https"}[url.scheme]
    try:
        async with session.get(
            urlunsplit((scheme, url.netloc, path, token, "")), timeout=aiohttp.ClientTimeout(OPEN_SECONDS)
        ) as answer:
            found = (await answer.json())["streams"] if answer.status == 200 else None
    except (aiohttp.ClientError, OSError, ValueError, KeyError, TypeError):
        return None
    return [str(name) for name in found] if isinstance(found, list) else None


async def _websocket(uri: str, stream: str | None) -> AsyncGenerator[wire.Message, None]:
    try:
        url = urlsplit(encoded(uri))
    except ValueError:  # such as a bracket without its pair
        raise UsageError(f"{mask_address(uri)} is not an address") from None
    chosen = [] if "format=" in url.query else ["format=msgpack"]
    query = "&".join(filter(None, [url.query, urlencode({"stream": stream}) if stream else "", *chosen]))
    address = urlunsplit((_WEB[url.scheme], url.netloc, "/ws" if url.path in ("", "/") else url.path, query, ""))
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None, sock_connect=OPEN_SECONDS)) as session,
            session.ws_connect(address, max_msg_size=64 * 1024 * 1024, heartbeat=HEARTBEAT_SECONDS) as socket,
            _Missing(stream, lambda: _names(session, address)) as missing,
        ):
            async for message in socket:
                if message.type in (aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.TEXT):
                    missing.heard()
                    yield _decoded(message.data, uri)
            if socket.close_code not in (aiohttp.WSCloseCode.OK, aiohttp.WSCloseCode.GOING_AWAY):
                raise SourceError(f"{mask_address(uri)}: the connection broke: the program there has died or is frozen")
    except aiohttp.WSServerHandshakeError as error:
        hint = {401: "it needs a token: add ?token=... to the address", 503: "it has no place for another client"}
        reason = hint.get(error.status, f"it answered {error.status}: no streamkp WebSocket there")
        raise SourceError(f"cannot listen to {mask_address(uri)}: {reason}") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise _nobody(uri, error) from None


async def _mqtt(uri: str, address: Address, stream: str | None) -> AsyncGenerator[wire.Message, None]:
    try:
        url = urlsplit(f"{address.scheme}://{address.rest}")
        host, port = url.hostname, url.port or _MQTT[url.scheme]
    except ValueError:
        host = None
    if not host:
        raise UsageError(f"{mask_address(uri)} names no host, or no good port")
    prefix = unquote(url.path.strip("/")) or "streamkp"
    known: set[str] = set()

    async def names() -> list[str]:
        return list(known)

    try:
        async with (
            aiomqtt.Client(
                host,
                port,
                username=address.user,
                password=address.password,
                tls_params=aiomqtt.TLSParameters() if url.scheme == "mqtts" else None,
                timeout=OPEN_SECONDS,
            ) as client,
            _Missing(stream, names) as missing,
        ):
            await client.subscribe(f"{prefix}/{stream or '+'}/pose", qos=1)
            await client.subscribe(f"{prefix}/+/status", qos=1)  # retained: says which streams there are
            async for message in client.messages:
                payload = message.payload if isinstance(message.payload, bytes) else b""
                of, _, kind = str(message.topic).removeprefix(f"{prefix}/").rpartition("/")
                if stream in (None, of):
                    missing.heard()
                if kind != "status":
                    yield _decoded(payload, uri)
                    continue
                with suppress(SourceError):  # of a program that is not streamkp, under the same prefix
                    status = _decoded(payload, uri)
                    (known.discard if status.get("state") in FINAL else known.add)(of)
                    if stream in (None, of):
                        yield status
    except aiomqtt.MqttError as error:
        raise _nobody(uri, error) from None


def _decoded(data: bytes | str, uri: str) -> wire.Message:
    try:
        return wire.decode(data)
    except ValueError as error:
        raise SourceError(f"{mask_address(uri)} sends something else than streamkp does: {error}") from None


def _nobody(uri: str, error: Exception) -> SourceError:
    if isinstance(error, aiohttp.ClientConnectorError):
        error = error.os_error
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return SourceError(
        f"nothing to listen to at {mask_address(uri)}: {mask(reason)}; is the graph running and publishing there?"
    )


def describe(message: wire.Message) -> str:
    """One readable line for a message."""
    if message.get("type") == "status":
        what = " ".join(filter(None, [message.get("state"), message.get("picture") and f"({message['picture']})"]))
        return f"{message.get('stream')}: {what}" + (f": {message['reason']}" if message.get("reason") else "")
    if message.get("type") == "lost":
        return f"({message.get('messages')} messages lost: this listener is too slow)"
    if "type" in message:
        return f"({message['type']})"
    latency = (message["published_at"] - message["captured_at"]) / 1e6
    parts = [f"{message['stream']} #{message['seq']}", f"t={message['pts'] / 1e9:.3f} s"]
    if latency <= OLDEST:
        parts.append(f"latency {latency:.1f} ms")
    if message["dropped"]:
        parts.append(f"{message['dropped']} dropped")
    people = [_describe_person(person) for person in message["persons"]]
    return "  ".join([*parts, "; ".join(people) or "nobody"])


def _describe_person(person: dict[str, Any]) -> str:
    x, y, width, height = (round(value) for value in person["box"])
    text = f"person {person['track']} {person['state']} at {x},{y} {width}x{height} score {person['score']:.2f}"
    if "keypoints_2d" in person:
        text += f", {len(person['keypoints_2d']['points'])} points"
    if "keypoints_3d" in person:
        height_3d = _extent(person["keypoints_3d"]["points"])
        text += f", 3D {height_3d:.2f} m tall"
    return text


def _extent(points: Any) -> float:
    return float(points[:, 1].max() - points[:, 1].min()) if len(points) else math.nan


def _as_json(message: wire.Message) -> str:
    text = wire.encode(message, "json").decode()
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)  # no escapes for the terminal
