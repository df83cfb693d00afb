"""`streamkp listen`: see what is published. `streamkp schema`: what it looks like."""

from __future__ import annotations

import asyncio
import json
import math
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any
from urllib.parse import unquote, urlencode, urlsplit, urlunsplit

import aiohttp
import aiomqtt
import typer

from streamkp import wire
from streamkp.errors import SourceError, UsageError
from streamkp.uris import mask

_WEB = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}
_MQTT = {"mqtt": 1883, "mqtts": 8883}
OPEN_SECONDS = 10.0


def listen(
    uri: Annotated[str, typer.Argument(help="ws://HOST:PORT, wss://, mqtt://HOST or mqtts://HOST[:PORT][/PREFIX].")],
    count: Annotated[int | None, typer.Option(min=1, help="Stop after so many frames.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print each message as a line of JSON.")] = False,
    stream: Annotated[str | None, typer.Option(help="Only this stream.")] = None,
) -> None:
    """Print what a running graph publishes, one line per frame, until --count or the end."""
    try:
        asyncio.run(_listen(uri, count, as_json, stream))
    except BrokenPipeError:  # `streamkp listen ... | head`
        sys.stdout = None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def schema() -> None:
    """Print the JSON Schema of the messages."""
    print(json.dumps(wire.schema(), indent=2))


async def _listen(uri: str, count: int | None, as_json: bool, stream: str | None) -> None:
    scheme = urlsplit(uri).scheme
    if scheme in _WEB:
        source = _websocket(uri, stream)
    elif scheme in _MQTT:
        source = _mqtt(uri, stream)
    else:
        raise UsageError(f"cannot listen to {mask(uri)}: it starts with none of {', '.join((*_WEB, *_MQTT))}://")
    frames = 0
    async with aclosing(source):
        async for message in source:
            print(_as_json(message) if as_json else describe(message), flush=True)
            frames += "type" not in message
            if frames == count:
                return
    if count is not None:
        raise SourceError(f"{mask(uri)} ended after {frames} of {count} frames")


async def _websocket(uri: str, stream: str | None) -> AsyncGenerator[wire.Message, None]:
    url = urlsplit(uri)
    query = "&".join(filter(None, [url.query, urlencode({"stream": stream}) if stream else ""]))
    address = urlunsplit((_WEB[url.scheme], url.netloc, "/ws" if url.path in ("", "/") else url.path, query, ""))
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None, sock_connect=OPEN_SECONDS)) as session,
            session.ws_connect(address, max_msg_size=64 * 1024 * 1024) as socket,
        ):
            async for message in socket:
                if message.type in (aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.TEXT):
                    yield wire.decode(message.data)
    except aiohttp.WSServerHandshakeError as error:
        hint = {401: "it needs a token: add ?token=... to the address", 503: "it has no place for another client"}
        reason = hint.get(error.status, f"it answered {error.status}: no streamkp WebSocket there")
        raise SourceError(f"cannot listen to {mask(uri)}: {reason}") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise _nobody(uri, error) from None


async def _mqtt(uri: str, stream: str | None) -> AsyncGenerator[wire.Message, None]:
    url = urlsplit(uri)
    try:
        host, port = url.hostname, url.port or _MQTT[url.scheme]
    except ValueError:
        host = None
    if not host:
        raise UsageError(f"{mask(uri)} names no host, or no good port")
    prefix = unquote(url.path.strip("/")) or "streamkp"
    try:
        async with aiomqtt.Client(
            host,
            port,
            username=unquote(url.username) if url.username else None,
            password=unquote(url.password) if url.password else None,
            tls_params=aiomqtt.TLSParameters() if url.scheme == "mqtts" else None,
            timeout=OPEN_SECONDS,
        ) as client:
            await client.subscribe(f"{prefix}/{stream or '+'}/pose", qos=1)
            async for message in client.messages:
                yield wire.decode(message.payload if isinstance(message.payload, bytes) else b"")
    except aiomqtt.MqttError as error:
        raise _nobody(uri, error) from None


def _nobody(uri: str, error: Exception) -> SourceError:
    if isinstance(error, aiohttp.ClientConnectorError):
        error = error.os_error
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return SourceError(
        f"nothing to listen to at {mask(uri)}: {mask(reason)}; is the graph running and publishing there?"
    )


def describe(message: wire.Message) -> str:
    """One readable line for a message."""
    if message.get("type") == "status":
        return f"{message['stream']}: {message['status']}"
    if message.get("type") == "lost":
        return f"({message['messages']} messages lost: this listener is too slow)"
    if "type" in message:
        return f"({message['type']})"
    latency = (message["published_at"] - message["captured_at"]) / 1e6
    parts = [f"{message['stream']} #{message['seq']}", f"t={message['pts'] / 1e9:.3f} s", f"latency {latency:.1f} ms"]
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
    return wire.encode(message, "json").decode()
