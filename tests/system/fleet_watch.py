"""What a fleet publishes, seen by a subscriber: who published which frame when."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho

from streamkp import wire
from streamkp.bench import synthetic

PLUGIN = Path(synthetic.__file__)


def fleet_file(folder: Path, port: int, streams: int = 12, **more: Any) -> Path:
    """A fleet of synthetic streams that publishes over MQTT with QoS 1."""
    file = folder / "fleet.yaml"
    lines = [
        "version: 1",
        "group: test",
        "limits: {p95_ms: 60000, dropped: 1.0}",  # a busy machine must not look like an overloaded node
        *(f"{key}: {value}" for key, value in more.items()),
        "graph:",
        "  version: 1",
        "  control: {port: 0}",
        "  stages:",
        f'    source: {{use: "{PLUGIN}:Synthetic", fps: 10}}',
        f"    publish: {{use: publish-mqtt, broker: 'mqtt://127.0.0.1:{port}', qos: 1, format: json}}",
        "templates: {t: {uri: 'test:{n}'}}",
        "streams:",
        *(f"  s{n}: {{template: t, n: {n}}}" for n in range(streams)),
    ]
    file.write_text("\n".join(lines) + "\n")
    return file


@dataclass(frozen=True)
class Frame:
    stream: str
    epoch: int
    seq: int
    captured_at: int
    by: int


@dataclass
class Watch:
    """Subscribes with a session of its own, so that nothing is lost while the broker is away."""

    port: int
    frames: list[Frame] = field(default_factory=list)
    statuses: dict[str, dict[str, Any]] = field(default_factory=dict)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def __post_init__(self) -> None:
        # paho itself: it acknowledges a message when `_take` has returned. aiomqtt does so before anybody has read it,
        # and what waits there when the connection breaks is lost.
        client = paho.Client(
            paho.CallbackAPIVersion.VERSION2,
            client_id=f"watch-{id(self)}",
            clean_session=False,
            reconnect_on_failure=True,
        )
        client.reconnect_delay_set(1, 1)
        ready = threading.Event()
        client.on_connect = lambda *_: client.subscribe([("streamkp/+/pose", 1), ("streamkp/+/status", 1)])
        client.on_subscribe = lambda *_: ready.set()
        client.on_message = lambda _, __, message: self._take(message)
        client.connect("127.0.0.1", self.port)
        client.loop_start()
        self._client = client
        assert ready.wait(30)

    def _take(self, message: paho.MQTTMessage) -> None:
        found = wire.decode(message.payload)
        with self.changed:
            if message.topic.endswith("/status"):
                self.statuses[str(found["stream"])] = dict(found)
            else:
                by = next(int(event["by"]) for event in found["events"] if event["type"] == "made")
                self.frames.append(Frame(found["stream"], found["epoch"], found["seq"], found["captured_at"], by))
            self.changed.notify_all()

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def until(self, true: Callable[[], bool], seconds: float = 60) -> None:
        """Wait for something to become true of the frames."""
        with self.changed:
            assert self.changed.wait_for(true, seconds), self.summary()

    def latest(self) -> dict[str, Frame]:
        """The newest frame of each stream, by epoch and seq."""
        out: dict[str, Frame] = {}
        for frame in self.frames:
            if frame.stream not in out or (frame.epoch, frame.seq) > (out[frame.stream].epoch, out[frame.stream].seq):
                out[frame.stream] = frame
        return out

    def makers(self, since: int = 0) -> dict[int, set[str]]:
        """The streams that each process publishes, of the newest frames after that time."""
        out: dict[int, set[str]] = defaultdict(set)
        for frame in self.latest().values():
            if frame.captured_at > since:
                out[frame.by].add(frame.stream)
        return dict(out)

    def counts(self, since: int = 0) -> list[int]:
        """How many streams the processes publish."""
        return sorted(len(streams) for streams in self.makers(since).values())

    def level(self, processes: int, since: int = 0) -> bool:
        """Whether so many processes publish all streams, none more than two more than another: what is promised."""
        counts = self.counts(since)
        return len(counts) == processes and sum(counts) == len(self.latest()) and counts[-1] - counts[0] <= 2

    def check(self, *, repeats: bool = False) -> None:
        """What must be true of everything that was published.

        No frame twice (unless `repeats`, as QoS 1 may after a broken connection); every frame of an epoch from the
        first on (its last ones are lost with a process that was killed); one process an epoch; and no two processes
        at the same time.
        """
        epochs: dict[tuple[str, int], list[Frame]] = defaultdict(list)
        for frame in self.frames:
            epochs[frame.stream, frame.epoch].append(frame)
        for (stream, epoch), frames in epochs.items():
            seqs = [frame.seq for frame in frames]
            assert repeats or len(set(seqs)) == len(seqs), f"{stream} epoch {epoch}: published twice"
            assert sorted(set(seqs)) == list(range(max(seqs) + 1)), (
                f"{stream} epoch {epoch}: {max(seqs) + 1 - len(set(seqs))} frames are missing"
            )
            assert len({frame.by for frame in frames}) == 1, f"{stream} epoch {epoch}: by two processes"
        by_stream: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
        for (stream, epoch), frames in sorted(epochs.items()):
            times = [frame.captured_at for frame in frames]
            by_stream[stream].append((epoch, min(times), max(times)))
        for stream, spans in by_stream.items():
            for (epoch, _, end), (after, begin, _) in pairwise(spans):
                assert begin > end, f"{stream}: epochs {epoch} and {after} overlap by {(end - begin) / 1e9:.3f} s"

    def summary(self) -> str:
        return f"{len(self.frames)} frames; " + "; ".join(
            f"{by}: {', '.join(sorted(streams))}" for by, streams in self.makers().items()
        )
