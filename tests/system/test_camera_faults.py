"""Cameras of one running program that break in every way, side by side: noticed, told, counted, and back again."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from streamkp.bench.servers import Mosquitto, RtspServer
from streamkp.bench.toxic import PASS, Toxics
from tests.sources.videos import write_clip
from tests.system.running import MqttListener, Network, Proxied, Running, WebListener, until

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="freezes processes"),
]

# Timeouts as short as they can be, so that the tests are quick.
GRAPH = """\
streams:
  silent: {{uri: "{silent}"}}
  damaged: {{uri: "{damaged}"}}
  killed: {{uri: "{killed}"}}
  plain: {{uri: "{plain}"}}
  flipped: {{uri: "rtsp://u:qu'ote-7391@127.0.0.1:{flipped}/live"}}
  bad: {{uri: "rtsp://127.0.0.1:{bad}/live"}}
  late: {{uri: "rtsp://127.0.0.1:{late}/live"}}
  locked: {{uri: "rtsp://127.0.0.1:{locked}/live"}}
stages:
  decode: {{use: decode, timeout: 1, reconnect_max_wait: 0.5, frozen_after: 2}}
  web: {{use: publish-websocket, port: 0}}
  mqtt: {{use: publish-mqtt, from: decode, broker: "mqtt://127.0.0.1:{broker}", qos: 1}}
"""

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]
SDP = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\n"
BAD_BODIES = (
    SDP + "m=video 0 RTP/AVP 96\r\na=rtpmap:96 NONSENSE/90000\r\na=control:0\r\n",  # a codec that nobody knows
    SDP + "m=audio 0 RTP/AVP 0\r\na=control:0\r\n",  # no video
    SDP,  # nothing at all
    "m=video 0 RTP/AVP 96\r\n" * 500,
    "\x00\xff<html>" * 50,
)


def bad_camera(good: RtspServer) -> tuple[list[int], Answer]:
    """A camera whose first answers are wrong, each in another way; afterwards a good one. Also: what it counts."""
    count = [0]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = count[0]
        count[0] += 1
        if number >= len(BAD_BODIES) + 2:
            there, back = await asyncio.open_connection("127.0.0.1", good.port)
            await asyncio.gather(_copy(reader, back), _copy(there, writer))
            return
        while True:
            request = (await reader.readuntil(b"\r\n\r\n")).decode()
            sequence = re.search(r"CSeq: *(\d+)", request)
            head = f"RTSP/1.0 200 OK\r\nCSeq: {sequence[1] if sequence else 0}\r\n"
            if request.startswith("OPTIONS"):
                writer.write(f"{head}Public: DESCRIBE, SETUP, PLAY\r\n\r\n".encode())
            elif number == len(BAD_BODIES):  # more than it sends
                writer.write(f"{head}Content-Type: application/sdp\r\nContent-Length: 2000000000\r\n\r\nv=0".encode())
                return
            elif number == len(BAD_BODIES) + 1:
                writer.write(bytes(range(256)) * 40)
                return
            else:
                body = BAD_BODIES[number].encode("latin-1")
                kind = f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n\r\n"
                writer.write(f"{head}{kind}".encode() + body)

    return count, answer


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


async def locked_camera(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A camera that wants another password."""
    while True:
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        sequence = re.search(r"CSeq: *(\d+)", request)
        writer.write(
            f"RTSP/1.0 401 Unauthorized\r\nCSeq: {sequence[1] if sequence else 0}\r\n"
            'WWW-Authenticate: Basic realm="camera"\r\n\r\n'.encode()
        )


@dataclass
class Rig:
    """The program, its cameras, and who listens to it."""

    program: Running
    silent: RtspServer
    damaged: RtspServer
    killed: RtspServer
    plain: RtspServer
    flipped: Proxied
    late: Proxied
    bad_answers: list[int]  # how many
    locked: int  # port
    web: WebListener
    mqtt: MqttListener


@pytest.fixture(scope="module")
def rig(
    rtsp: None, broker_program: None, program_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("faults")
    clip = write_clip(folder / "clip.mp4", size=(160, 120), frames=30, keyframes_every=10)
    with ExitStack() as stack:
        servers = [RtspServer(clip, audio=n < 2) for n in range(4)]
        for server in servers:
            stack.callback(server.kill)
        silent, damaged, killed, plain = servers
        network = Network()
        stack.callback(network.close)
        flipped, late = network.proxy(plain.port), network.proxy(plain.port)
        late.refuse()
        bad_answers, answer = bad_camera(plain)
        broker = Mosquitto(folder)
        stack.callback(broker.kill)
        locked = network.serve(locked_camera)
        ports = {"flipped": flipped.port, "late": late.port, "bad": network.serve(answer), "locked": locked}
        uris = {"silent": silent.uri, "damaged": damaged.uri, "killed": killed.uri, "plain": plain.uri}
        graph = folder / "graph.yaml"
        graph.write_text(GRAPH.format(**uris, **ports, broker=broker.port))
        program = Running("run", graph, env=program_env, cwd=folder)
        stack.callback(program.kill)
        web, mqtt = WebListener(program.page), MqttListener(broker.port)
        stack.callback(web.close)
        stack.callback(mqtt.close)
        for name in ("silent", "damaged", "killed", "plain", "flipped"):
            program.wait_state(name, "live")
        # All break at once, and each test looks at its own.
        silent.mode("silent")
        damaged.mode("damaged")
        killed.kill()
        flipped.set(Toxics(flip=0.01))
        yield Rig(program, silent, damaged, killed, plain, flipped, late, bad_answers, locked, web, mqtt)


def test_a_killed_camera_is_told_on_every_way_out(rig: Rig) -> None:
    status = rig.program.wait_state("killed", "reconnecting")
    assert status["reason"]
    until(lambda: "refused" in rig.program.status("killed")["reason"], "the reason of the newest attempt")
    assert rig.program.get("/preview/killed.jpg")[0] == 404, "no old picture is shown as if it were new"
    until(lambda: "reconnecting" in rig.web.states("killed"), "a WebSocket event")
    until(lambda: rig.mqtt.states("killed")[-1:] == ["reconnecting"], "a retained status")
    assert rig.program.get("/readyz")[0] == 200, "others deliver"
    rig.killed.start()
    rig.program.wait_state("killed", "live")
    rig.program.wait_said(rig.killed.uri, "is back after")
    until(lambda: rig.web.states("killed")[-1] == "live", "a WebSocket event")
    until(lambda: rig.mqtt.states("killed")[-1] == "live", "a retained status")
    assert rig.program.status("killed")["epoch"] > 0
    assert rig.program.get("/preview/killed.jpg")[0] == 200


def test_video_that_stops_while_audio_goes_on_is_noticed(rig: Rig) -> None:
    status = rig.program.wait_state("silent", "stalled", "reconnecting")
    assert status["reason"]
    until(lambda: {"stalled", "reconnecting"} & set(rig.mqtt.states("silent")), "a retained status")
    rig.silent.mode("video")
    rig.program.wait_state("silent", "live")
    rig.program.wait_frames("silent")


def test_pictures_that_stand_still_are_told(rig: Rig) -> None:
    until(lambda: rig.program.status("plain")["picture"] is None, "pictures that move")
    rig.plain.mode("frozen")
    until(lambda: rig.program.status("plain")["picture"] == "frozen", "pictures that stand still")
    rig.program.wait_said(rig.plain.uri, "its pictures stand still")
    assert rig.program.status("plain")["state"] == "live", "it delivers"
    rig.plain.mode("video")
    until(lambda: rig.program.status("plain")["picture"] is None, "pictures that move again")


def test_a_camera_that_is_off_at_the_start_comes_later(rig: Rig) -> None:
    assert rig.program.status("late")["state"] in ("connecting", "reconnecting")
    rig.program.wait_said(f":{rig.late.port}/", "refused", "trying again")
    rig.late.accept()
    rig.program.wait_state("late", "live")
    rig.program.wait_said(f":{rig.late.port}/", "is back after")
    rig.program.wait_frames("late")


def test_a_wrong_password_is_not_tried_over_and_over(rig: Rig) -> None:
    line = rig.program.wait_said(f":{rig.locked}/", "another user name or password", "trying again in")
    pause = re.search(r"trying again in ([\d.]+) s", line)
    assert pause is not None
    assert float(pause[1]) >= 30, "cameras lock out who tries too often"
    assert rig.program.status("locked")["state"] == "reconnecting"
    assert "password" in rig.program.status("locked")["reason"]


def test_bad_answers_end_no_stream(rig: Rig) -> None:
    rig.program.wait_state("bad", "live")
    assert rig.bad_answers[0] > len(BAD_BODIES) + 2, "every bad answer was given"
    rig.program.wait_frames("bad")


def test_flipped_bytes_end_no_stream(rig: Rig) -> None:
    rig.flipped.set(PASS)
    rig.flipped.reset_all()
    rig.program.wait_state("flipped", "live")
    rig.program.wait_frames("flipped")


def test_video_that_cannot_be_decoded_is_noticed_and_counted(rig: Rig) -> None:
    rig.program.wait_state("damaged", "stalled", "reconnecting")
    assert rig.program.stats()["streams"]["damaged"]["damaged"] > 0
    assert re.search(r'streamkp_damaged_frames_total\{stream="damaged"\} [1-9]', rig.program.get("/metrics")[1])
    rig.damaged.mode("video")
    rig.program.wait_state("damaged", "live")
    rig.program.wait_frames("damaged")


def test_the_others_never_noticed(rig: Rig) -> None:
    assert set(rig.web.states("plain")) <= {"connecting", "live"}
    poses = rig.mqtt.poses["plain"]
    seqs = [pose["seq"] for pose in poses]
    assert seqs == sorted(set(seqs))
    assert {pose["epoch"] for pose in poses} == {0}


def test_nothing_of_all_this_is_a_traceback_or_shows_a_password(rig: Rig) -> None:
    assert "Traceback" not in rig.program.said
    for text in (rig.program.said, str(rig.program.stats()), rig.program.get("/metrics")[1], str(rig.mqtt.statuses)):
        assert "7391" not in text


def test_it_stops_while_no_camera_delivers(rig: Rig) -> None:
    """The last test: it ends the program."""
    rig.silent.mode("silent")
    rig.damaged.mode("damaged")
    rig.killed.kill()
    rig.plain.freeze()
    try:
        until(lambda: rig.program.get("/readyz")[0] == 503, "/readyz says that nothing delivers")
        assert rig.program.get("/healthz")[0] == 200, "the program itself is well"
        assert rig.program.stop() == 0, rig.program.said
    finally:
        rig.plain.thaw()
        rig.killed.start()
    until(lambda: rig.mqtt.states("plain")[-1] == "ended", "the last status says so")
