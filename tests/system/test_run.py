"""The default graph on a real film, watched by real clients."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import urllib.request
from fractions import Fraction
from pathlib import Path
from typing import Any

import aiomqtt
import av
import numpy as np
import pytest
from websockets.sync.client import connect

from streamkp import wire
from streamkp.bench.servers import Mosquitto
from tests.sources.videos import MakeClip
from tests.system.conftest import Start, Streamkp, lines, wait_for_line

pytestmark = pytest.mark.system
FRAMES = 45


@pytest.fixture(scope="module")
def squat(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first frames of a real film: one man who stands in front of a mirror, and squats."""
    path = tmp_path_factory.mktemp("clip") / "squat.mp4"
    with av.open(str(assets / "clips" / "squat_single_person.mp4")) as film, av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=30)
        video.width, video.height, video.pix_fmt = 608, 1080, "yuv420p"
        for n, frame in enumerate(film.decode(video=0)):
            if n == FRAMES:
                break
            frame.pts, frame.time_base = n, Fraction(1, 30)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
    return path


def page(process: subprocess.Popen[str]) -> str:
    """Where a started program says its page is, as host and port."""
    found = re.search(r"http://(\S+)", wait_for_line(process, ["the page is at"]))
    assert found is not None
    return found[1]


def get(address: str) -> bytes:
    with urllib.request.urlopen(f"http://{address}", timeout=30) as answer:
        body: bytes = answer.read()
        return body


@pytest.fixture
def looping(start: Start, squat: Path, tmp_path: Path) -> tuple[subprocess.Popen[str], str]:
    """The default graph, playing a film again and again at its own speed."""
    graph = tmp_path / "loop.yaml"
    demo = Path("graphs/demo.yaml").read_text()
    graph.write_text(demo.replace('"sample:walk"', f'"{squat}"'))
    process = start("run", graph, "--set", "stages.publish.port=0", "--record", "live.jsonl")
    return process, page(process)


def test_a_film_is_recorded_and_rendered(streamkp: Streamkp, squat: Path, tmp_path: Path) -> None:
    done = streamkp(
        "run", "demo", "--source", squat, "--record", "out.jsonl", "--render", "out.mp4",
        "--set", "stages.publish.port=0",
    )  # fmt: skip
    assert done.code == 0, done.err
    rows = lines(tmp_path / "out.jsonl")
    assert [row["seq"] for row in rows] == list(range(FRAMES))
    late = []
    for row in rows[5:]:
        man = max(row["persons"], key=lambda person: person["box"][3])
        x, y, w, h = man["box"]
        assert 180 < x + w / 2 < 400, "he stands left of the middle"
        assert 480 < y + h / 2 < 680
        nose, ankle = man["keypoints_2d"]["points"][0], man["keypoints_2d"]["points"][27]
        assert 330 < nose[1] < 480
        assert 780 < ankle[1] < 900
        space = np.array(man["keypoints_3d"]["points"])
        late.append(row["seq"] - man["keypoints_3d"]["frame_seq"])
        assert 1.0 < np.ptp(space[:, 1]) < 2.0, "as tall as a man, in metres"
        assert np.abs(space[0]).max() < 0.02, "the pelvis is the origin"
    assert min(late) >= 0
    assert np.median(late) <= 2, "every other frame is lifted"
    with av.open(str(tmp_path / "out.mp4")) as film:
        assert sum(1 for _ in film.decode(video=0)) == FRAMES


def test_two_films_at_once(streamkp: Streamkp, squat: Path, make_clip: MakeClip, tmp_path: Path) -> None:
    empty = make_clip("empty.mp4", frames=50, size=(320, 240), plain=True)
    done = streamkp(
        "run", "demo", "--source", squat, "--source", empty, "--record", "out.jsonl", "--set", "stages.publish.port=0"
    )
    assert done.code == 0, done.err
    rows = lines(tmp_path / "out.jsonl")
    for stream, frames in (("squat", FRAMES), ("empty", 50)):
        assert [row["seq"] for row in rows if row["stream"] == stream] == list(range(frames))
    assert all(row["persons"] == [] for row in rows if row["stream"] == "empty")


@pytest.mark.parametrize("format", ["msgpack", "json"])
def test_websocket_clients_see_every_frame(looping: tuple[subprocess.Popen[str], str], format: str) -> None:
    _, address = looping
    with connect(f"ws://{address}/ws?format={format}", proxy=None) as client:
        messages = [wire.decode(client.recv(timeout=60)) for _ in range(FRAMES)]
    frames = [message for message in messages if "seq" in message]
    seqs = [message["seq"] for message in frames]
    dropped = sum(message["dropped"] for message in frames[1:])
    assert seqs == sorted(seqs)
    assert seqs[-1] - seqs[0] + 1 == len(seqs) + dropped, "what is missing was dropped, and counted"
    person = next(p for message in frames for p in message["persons"])
    assert person["keypoints_2d"]["points"].shape == (33, 3)


def test_the_pages_of_figures(looping: tuple[subprocess.Popen[str], str]) -> None:
    _, address = looping
    with connect(f"ws://{address}/ws?format=msgpack", proxy=None) as client:
        while "seq" not in wire.decode(client.recv(timeout=60)):
            pass
    assert get(f"{address}/healthz").strip() == b"ok"
    assert get(f"{address}/readyz").strip() == b"ok"
    stats: dict[str, Any] = json.loads(get(f"{address}/stats"))
    assert set(stats["stages"]) == {
        "decode", "detect", "keypoints", "smooth", "window", "lift", "steady", "publish", "record",
    }  # fmt: skip
    assert stats["streams"]["walk"]["status"]["state"] == "live"
    assert b'streamkp_packets_total{stage="publish",stream="walk"}' in get(f"{address}/metrics")
    assert b"<html" in get(address)


def test_listen_prints_what_arrives(looping: tuple[subprocess.Popen[str], str], streamkp: Streamkp) -> None:
    _, address = looping
    done = streamkp("listen", f"ws://{address}/ws", "--count", "3", "--json")
    assert done.code == 0, done.err
    assert len([line for line in map(json.loads, done.out.splitlines()) if "seq" in line]) == 3


def test_a_client_that_stops_reading_does_not_slow_the_graph(looping: tuple[subprocess.Popen[str], str]) -> None:
    _, address = looping
    with (
        connect(f"ws://{address}/ws?format=json", proxy=None),
        connect(f"ws://{address}/ws?format=msgpack", proxy=None) as reader,
    ):
        seqs = []
        while len(seqs) < 2 * FRAMES:
            message = wire.decode(reader.recv(timeout=60))
            assert message.get("type") != "lost"
            if "seq" in message:
                seqs.append(message["seq"])
    assert seqs == sorted(seqs)


def test_mqtt(streamkp: Streamkp, mosquitto: Mosquitto, squat: Path, tmp_path: Path) -> None:
    graph = tmp_path / "mqtt.yaml"
    demo = Path("graphs/demo.yaml").read_text()
    sink = f'  publish:   {{use: publish-mqtt, broker: "mqtt://127.0.0.1:{mosquitto.port}", qos: 1}}\n'
    graph.write_text(demo[: demo.index("  publish:")] + sink)

    async def watch() -> list[dict[str, Any]]:
        async with aiomqtt.Client("127.0.0.1", mosquitto.port) as client:
            await client.subscribe("streamkp/#", qos=1)
            running = asyncio.create_task(asyncio.to_thread(streamkp, "run", graph, "--source", squat))
            got = []
            async for message in client.messages:
                if str(message.topic) == "streamkp/squat/pose":
                    got.append(wire.decode(message.payload))
                elif (
                    str(message.topic) == "streamkp/squat/status"
                    and got
                    and wire.decode(message.payload)["state"] == "ended"
                ):
                    break
            assert (await running).code == 0
            return got

    assert [message["seq"] for message in asyncio.run(watch())] == list(range(FRAMES))
