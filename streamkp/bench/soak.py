"""The program under a mix of faults for as long as one likes: what recovers, how soon, and what is lost.

The real program runs the whole chain of networks on cameras of a real RTSP server, each behind a toxic proxy, and
publishes to a real broker (QoS 1, through a proxy as well) and to WebSocket clients. Rounds follow one another: two
faults of single cameras and one of a server, the broker or the clients, for some seconds; then everything is healed
and waited for. All choices come from the seed.

To recover means: a frame captured after the fault was healed has arrived, over WebSocket for cameras, servers and
clients, over MQTT for the broker. Messages are judged at an MQTT subscriber with a session: a gap in `seq` that the
message's own `dropped` does not explain is a loss. In a round with a broker fault, what is wrong with the messages of
any stream counts for that fault.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from streamkp.bench.servers import Mosquitto, RtspServer, require_mosquitto, require_rtsp_server
from streamkp.bench.soak_faults import CAMERA, WIDE, Deck, Fault, Rig
from streamkp.bench.soak_watch import NANO, Meter, MqttConsumer, Sample, Tally, WebConsumer, percentile
from streamkp.bench.toxic import ToxicProxy
from streamkp.errors import SourceError, StreamkpError, UsageError

PASSWORD = "camera-secret-7391"  # of every camera address; must not turn up in the log
PATIENCE = 45.0  # seconds after which a fault counts as not recovered
START = 120.0  # seconds until every stream must deliver
GROWTH = 0.05  # most memory growth, share
DESCRIPTORS = 4  # more than before that may be left: connections that are just being replaced
THREADS = min(32, (os.cpu_count() or 1) + 4)  # the same for threads: as many as an event loop keeps for look-ups

# Networks as in graphs/demo.yaml; at 5 frames a second and 480x270, eight streams take about one core.
GRAPH = """\
version: 1
streams:
{streams}
stages:
  decode:    {{use: decode, timeout: 1.5, reconnect_max_wait: 2, wait_for_source: true}}
  detect:    {{use: detect-person, model: efficientdet-lite0, every: 15}}
  keypoints: {{use: keypoints-2d, model: blazepose-full}}
  smooth:    {{use: smooth-one-euro}}
  window:    {{use: window, frames: 96}}
  lift:      {{use: lift-3d, model: tcn-streamkp}}
  web:       {{use: publish-websocket, port: 0}}
  mqtt:      {{use: publish-mqtt, from: lift, broker: "mqtt://127.0.0.1:{broker}", qos: 1}}
"""
PLAIN = re.compile(r"  (detect|keypoints|smooth|window|lift): .*\n")


@dataclass
class Options:
    """What to run."""

    minutes: float = 20.0
    streams: int = 8
    rate: float = 5.0  # frames a second of each stream
    hold: float = 7.0  # seconds that faults last at most; half as long at least
    seed: int = 0
    plain: bool = False  # without networks

    @property
    def settle(self) -> float:
        """Seconds after everything has recovered, which are the "after" of its faults."""
        return min(3.0, self.hold / 2)


@dataclass
class Outcome:
    """All occurrences of one fault."""

    total: int = 0
    recovered: int = 0
    times: list[float] = field(default_factory=list)  # seconds
    messages: Tally = field(default_factory=Tally)
    before: list[float] = field(default_factory=list)  # milliseconds
    during: list[float] = field(default_factory=list)
    after: list[float] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        """As figures."""
        return {
            "total": self.total,
            "recovered": self.recovered,
            "recover_p50_s": percentile(self.times, 50),
            "recover_p95_s": percentile(self.times, 95),
            "lost": self.messages.lost,
            "duplicated": self.messages.duplicated,
            "reordered": self.messages.reordered,
            "p99_before_ms": percentile(self.before, 99),
            "p99_during_ms": percentile(self.during, 99),
            "p99_after_ms": percentile(self.after, 99),
        }


Progress = Callable[[str], None]


@dataclass
class _Act:
    """One fault of a round, the camera or server that it hits, and the streams that suffer from it."""

    fault: Fault
    number: int
    streams: list[str]
    healed: int = 0  # Unix ns
    seconds: float | None = None  # from then until recovered

    def __str__(self) -> str:
        where = ", ".join(self.streams) if len(self.streams) < 3 else f"{len(self.streams)} streams"
        return f"{self.fault.name} ({where}): " + ("NOT RECOVERED" if self.seconds is None else f"{self.seconds:.1f} s")


def run(clip: Path, options: Options, progress: Progress = lambda _: None) -> dict[str, Any]:
    """Break things for a while.

    Args:
        clip: the video that every camera plays, over and over.
        options: how long, how many streams.
        progress: called with a line about each round.

    Returns:
        `faults` (a row each, see `Outcome.row`), `process` (memory in MiB, descriptors and threads before, after and
        at most), `messages`, and `problems`: the promises that did not hold, in words.

    Raises:
        UsageError: a server that is needed is not installed, or this is not Linux.
        StreamkpError: the program ended by itself, or its streams never came.
    """
    if not sys.platform.startswith("linux"):
        raise UsageError("bench soak runs on Linux only: it looks into /proc and freezes processes")
    require_rtsp_server()
    require_mosquitto()
    return asyncio.run(_run(clip, options, progress))


async def _run(clip: Path, options: Options, progress: Progress) -> dict[str, Any]:
    chance = random.Random(options.seed)
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="streamkp-soak-")))
        video = folder / "clip.mp4"
        bitrate = await asyncio.to_thread(camera_clip, clip, video, options.rate)
        servers = [RtspServer(video, streams=(options.streams + 1 - k) // 2, audio=True) for k in range(2)]
        for server in servers:
            stack.callback(server.kill)
        cameras = []
        for n in range(options.streams):
            camera = await ToxicProxy("127.0.0.1", servers[n % 2].port, chance.randrange(2**32)).start()
            stack.push_async_callback(camera.close)
            cameras.append(camera)
        broker = Mosquitto(folder)
        stack.callback(broker.kill)
        link = await ToxicProxy("127.0.0.1", broker.port, chance.randrange(2**32)).start()
        stack.push_async_callback(link.close)

        graph = folder / "soak.yaml"
        addresses = (
            f'  cam{n}: {{uri: "rtsp://viewer:{PASSWORD}@127.0.0.1:{camera.port}/live{n // 2}"}}'
            for n, camera in enumerate(cameras)
        )
        text = GRAPH.format(streams="\n".join(addresses), broker=link.port)
        graph.write_text(PLAIN.sub("", text).replace("from: lift", "from: decode") if options.plain else text)
        program = await stack.enter_async_context(_program(graph, folder / "log.txt"))
        meter, web = Meter(program.process.pid), WebConsumer(program.page)
        mqtt = await asyncio.to_thread(MqttConsumer, broker.port)
        stack.callback(mqtt.close)
        for watcher in (asyncio.create_task(web.run()), asyncio.create_task(meter.run())):
            stack.push_async_callback(_end, watcher)
        rig = Rig(cameras, servers, broker, link, program.page, bitrate)
        soak = _Soak(rig, program, meter, web, mqtt, options, chance, progress)
        return await soak.run()


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})


@dataclass
class _Program:
    process: asyncio.subprocess.Process
    page: str
    log: Path

    async def stop(self) -> int:
        """Ask it to end, and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self.process.wait(), PATIENCE)


@asynccontextmanager
async def _program(graph: Path, log: Path) -> AsyncIterator[_Program]:
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "streamkp", "run", str(graph),
            stdout=out, stderr=out, env=os.environ | {"COLUMNS": "400"},
        )  # fmt: skip
    try:
        async with asyncio.timeout(START):
            while (found := re.search(r"page is at (http://\S+)", log.read_text())) is None:
                if process.returncode is not None:
                    raise StreamkpError(f"the program ended at the start: {log.read_text()[-2000:]}")
                await asyncio.sleep(0.1)
        yield _Program(process, found[1], log)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


class _Soak:
    """The rounds and what they came to."""

    def __init__(
        self,
        rig: Rig,
        program: _Program,
        meter: Meter,
        web: WebConsumer,
        mqtt: MqttConsumer,
        options: Options,
        chance: random.Random,
        progress: Progress,
    ) -> None:
        self._rig, self._program, self._options = rig, program, options
        self._meter, self._web, self._mqtt = meter, web, mqtt
        self._chance, self._progress = chance, progress
        self._outcomes = {fault.name: Outcome() for fault in (*CAMERA, *WIDE)}
        self._names = [f"cam{n}" for n in range(options.streams)]

    async def run(self) -> dict[str, Any]:
        await self._wait_for_all(time.time_ns(), START, "no frames of {} at the start")
        await asyncio.sleep(self._options.settle)
        before = self._look()
        started = time.monotonic()
        cameras, wide = Deck(CAMERA, self._chance), Deck(WIDE, self._chance)
        rounds = 0
        while time.monotonic() - started < 60 * self._options.minutes:
            await self._round([cameras.deal(), cameras.deal()], wide.deal())
            rounds += 1
        await asyncio.sleep(self._options.settle)
        after = self._look()
        tallies = self._mqtt.tallies()
        code = await self._program.stop()
        return self._report(before, after, tallies, rounds, time.monotonic() - started, code)

    def _look(self) -> Sample:
        sample = self._meter.read()
        if sample is None or self._program.process.returncode is not None:
            raise StreamkpError(f"the program ended: {self._program.log.read_text()[-2000:]}")
        return sample

    async def _round(self, camera_faults: list[Fault], wide: Fault) -> None:
        acts = self._choose(camera_faults, wide)
        calm, baseline = self._mqtt.tallies(), self._look()
        begun = time.time_ns()
        for act in acts:
            await act.fault.begin(self._rig, act.number)
        await asyncio.sleep(self._chance.uniform(self._options.hold / 2, self._options.hold))
        ended = time.time_ns()
        for act in acts:
            await act.fault.end(self._rig, act.number)
            act.healed = time.time_ns()
        await asyncio.gather(*(self._recover(act, baseline) for act in acts))
        recovered = time.time_ns()
        await asyncio.sleep(self._options.settle)
        over, tallies = time.time_ns(), self._mqtt.tallies()
        for act in acts:
            outcome = self._outcomes[act.fault.name]
            outcome.total += 1
            if act.seconds is not None:
                outcome.recovered += 1
                outcome.times.append(act.seconds)
            outcome.before += self._web.latencies(begun - 5 * NANO, begun)
            outcome.during += self._web.latencies(begun, ended)
            outcome.after += self._web.latencies(recovered, over)
            blamed = act.streams
            if wide.area == "broker":
                blamed = self._names if act.fault is wide else []
            for stream in blamed:
                outcome.messages.add(tallies.get(stream, Tally()).minus(calm.get(stream, Tally())))
        self._progress("; ".join(map(str, acts)))

    def _choose(self, camera_faults: list[Fault], wide: Fault) -> list[_Act]:
        """Who is hit: no stream by two faults of its own side."""
        number, hit = 0, list(range(len(self._names)))
        free = hit
        if wide.area == "server":
            number = self._chance.randrange(len(self._rig.servers))
            hit = self._rig.streams_of(number)
            free = [n for n in free if n not in hit]
        chosen = self._chance.sample(free, min(len(camera_faults), len(free)))
        acts = [_Act(fault, n, [self._names[n]]) for fault, n in zip(camera_faults, chosen, strict=False)]
        return [*acts, _Act(wide, number, [self._names[n] for n in hit if n not in chosen])]

    async def _recover(self, act: _Act, baseline: Sample) -> None:
        """Wait until everything is as before, and note how long that took."""
        newest = self._mqtt.newest if act.fault.area == "broker" else self._web.newest
        try:
            async with asyncio.timeout(PATIENCE):
                while any(newest.get(stream, 0) <= act.healed for stream in act.streams):
                    await asyncio.sleep(0.02)
                while act.fault.area == "clients" and self._look().descriptors > baseline.descriptors + DESCRIPTORS:
                    await asyncio.sleep(0.02)
        except TimeoutError:
            self._look()
            return
        act.seconds = (time.time_ns() - act.healed) / NANO

    async def _wait_for_all(self, since: int, limit: float, complaint: str) -> None:
        end = time.monotonic() + limit
        while missing := [name for name in self._names if self._web.newest.get(name, 0) <= since]:
            self._look()
            if time.monotonic() > end:
                raise StreamkpError(f"{complaint.format(', '.join(missing))}: {self._program.log.read_text()[-2000:]}")
            await asyncio.sleep(0.05)

    def _report(
        self, before: Sample, after: Sample, tallies: dict[str, Tally], rounds: int, seconds: float, code: int
    ) -> dict[str, Any]:
        total = Tally()
        for tally in tallies.values():
            total.add(tally)
        growth = self._meter.growth(120.0)
        log = self._program.log.read_text()
        rows = {name: outcome.row() for name, outcome in self._outcomes.items() if outcome.total}
        problems = [
            f"{name}: {row['total'] - row['recovered']} of {row['total']} not recovered within {PATIENCE:.0f} s"
            for name, row in rows.items()
            if row["recovered"] < row["total"]
        ]
        for number, what in ((total.lost, "lost"), (total.reordered, "reordered")):
            if number:
                problems.append(f"{number} messages {what}")
        # QoS 1 is "at least once": the one message on its way when a connection broke goes out again.
        for fault in (*CAMERA, *WIDE):
            outcome = self._outcomes[fault.name]
            allowed = outcome.total * len(self._names) if fault.area == "broker" else 0
            if outcome.messages.duplicated > allowed:
                problems.append(f"{fault.name}: {outcome.messages.duplicated} messages duplicated")
        if after.descriptors > before.descriptors + DESCRIPTORS:
            problems.append(f"{after.descriptors - before.descriptors} more descriptors than before")
        if after.threads > before.threads + THREADS:
            problems.append(f"{after.threads - before.threads} more threads than before")
        if growth is not None and growth > GROWTH:
            problems.append(f"memory grew by {100 * growth:.1f} % after the second minute")
        if "Traceback" in log:
            problems.append(f"a traceback in the log: {log[log.index('Traceback') :][:1500]}")
        if PASSWORD in log:
            problems.append("a password in the log")
        if code != 0:
            problems.append(f"exit code {code} after SIGTERM")
        return {
            "minutes": seconds / 60,
            "streams": len(self._names),
            "rate": self._options.rate,
            "seed": self._options.seed,
            "networks": not self._options.plain,
            "rounds": rounds,
            "faults": rows,
            "messages": vars(total),
            "websocket": {"lost": self._web.lost, "connections": self._web.connections},
            "process": {
                "memory_mib": {
                    "before": before.rss,
                    "after": after.rss,
                    "most": max(s.rss for s in self._meter.samples),
                    "growth": growth,
                },
                "descriptors": {
                    "before": before.descriptors,
                    "after": after.descriptors,
                    "most": max(s.descriptors for s in self._meter.samples),
                },
                "threads": {
                    "before": before.threads,
                    "after": after.threads,
                    "most": max(s.threads for s in self._meter.samples),
                },
                "log_kib": len(log) / 1024,
                "exit_code": code,
            },
            "problems": problems,
        }


def camera_clip(source: Path, out: Path, rate: float) -> float:
    """The first ten seconds of a video as a camera would send it: 480 wide, a keyframe each second, no B-frames.

    Returns the bytes a second. Raises `SourceError` when there is no video in it.
    """
    count = 0
    try:
        with av.open(str(source)) as film, av.open(str(out), "w") as target:
            video = film.streams.video[0]
            own = float(video.average_rate or 30)
            copy = target.add_stream("libx264", rate=Fraction(rate).limit_denominator(1000))
            copy.width, copy.height = 480, max(2, round(480 * video.height / video.width) & ~1)
            copy.pix_fmt = "yuv420p"
            copy.options = {"preset": "veryfast", "bf": "0", "g": str(max(1, round(rate))), "crf": "26"}
            for n, frame in enumerate(film.decode(video)):
                if n / own * rate < count:
                    continue
                small = frame.reformat(copy.width, copy.height, "yuv420p")
                small.pts, small.time_base = count, 1 / Fraction(rate).limit_denominator(1000)
                target.mux(copy.encode(small))
                count += 1
                if count >= 10 * rate:
                    break
            target.mux(copy.encode(None))
    except (av.FFmpegError, IndexError) as error:
        raise SourceError(f"{source} cannot be played: {error}") from None
    return out.stat().st_size * rate / max(count, 1)
