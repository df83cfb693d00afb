"""Small videos made for a test, and a stream that is played to its end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from threading import Condition
from typing import Any

import av
import numpy as np

from streamkp.errors import StreamkpError
from streamkp.graph.clock import Clock
from streamkp.graph.stage import StageContext, StreamContext
from streamkp.packet import Packet
from streamkp.sources.decode import Decode
from streamkp.uris import mask

MakeClip = Callable[..., Path]
Watch = Callable[..., "Seen"]


class InstantClock(Clock):
    """A clock on which every wait takes exactly its time, at once."""

    def __init__(self) -> None:
        self.time = 1_000_000_000

    def now(self) -> int:
        return self.time

    def monotonic(self) -> int:
        return self.time

    def wait(self, condition: Condition, timeout: float | None) -> bool:
        self.time += round((timeout or 0) * 1e9) + 1
        return False


@dataclass
class Seen:
    """What came out of a stream."""

    stream: StreamContext
    packets: list[Packet] = field(default_factory=list)
    error: StreamkpError | None = None

    @property
    def message(self) -> str:
        assert self.error is not None, "the stream should have failed"
        return str(self.error)


def picture(size: tuple[int, int], number: int) -> np.ndarray:
    """Noise with a white quarter at the top left; `size` is (width, height)."""
    width, height = size
    image = np.random.default_rng(number).integers(0, 64, (height, width, 3), dtype=np.uint8)
    image[: height // 2, : width // 2] = 255
    return image


def write_clip(
    path: Path,
    *,
    size: tuple[int, int] = (64, 48),
    frames: int = 30,
    codec: str = "libx264",
    times: Sequence[int] | None = None,
    rotation: int | None = None,
    matrix: Sequence[int] | None = None,
    plain: bool = False,
    keyframes_every: int | None = None,
) -> Path:
    """Frames at 30 fps, or at `times` in milliseconds; an MP4's index comes first. `plain`: no noise."""
    options = {".mp4": {"movflags": "faststart"}, ".m3u8": {"hls_time": "0.5"}}.get(path.suffix, {})
    with av.open(str(path), "w", options=options) as out:
        video = out.add_stream(codec, rate=30)
        video.width, video.height = size
        video.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000)
        if keyframes_every is not None:
            video.options = {"g": str(keyframes_every), "tune": "zerolatency"}
        if rotation is not None:
            video.set_display_rotation(rotation)
        if matrix is not None:
            video.set_display_matrix(matrix)
        for number in range(frames):
            image = np.full((size[1], size[0], 3), 90, np.uint8) if plain else picture(size, number)
            frame = av.VideoFrame.from_ndarray(image, "bgr24")
            frame.pts = times[number] if times else round(number * 1000 / 30)
            frame.time_base = Fraction(1, 1000)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
    return path


def play(
    uri: Any,
    *,
    stop_after: int | None = None,
    clock: Clock | None = None,
    loop: bool = False,
    realtime: bool = False,
    live: bool | None = None,
    **options: Any,
) -> Seen:
    """Play a source to its end, or for `stop_after` frames."""
    uri = str(uri)
    label = mask(uri) if "://" in uri else Path(uri).name
    live = Decode.is_live(uri) if live is None else live
    stream = StreamContext("cam", uri, label, clock or Clock(), live, loop=loop, realtime=realtime)
    seen = Seen(stream)
    try:
        for packet in Decode(Decode.Options(**options), StageContext("decode")).frames(stream):
            seen.packets.append(packet)
            if len(seen.packets) == stop_after:
                stream.stop()
    except StreamkpError as error:
        seen.error = error
    return seen
