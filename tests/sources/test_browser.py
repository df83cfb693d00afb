from __future__ import annotations

import threading
from collections.abc import Iterator

import av
import cv2
import numpy as np
import pytest

from streamkp.errors import SourceError
from streamkp.graph.clock import Clock
from streamkp.graph.stage import StageContext, StreamContext
from streamkp.packet import Packet
from streamkp.sources.browser import PREFIX, inlets, jpeg_size
from streamkp.sources.decode import Decode


def _jpeg(shade: int, width: int = 32, height: int = 16) -> bytes:
    return cv2.imencode(".jpg", np.full((height, width, 3), shade, np.uint8))[1].tobytes()


@pytest.fixture
def stream() -> Iterator[StreamContext]:
    stream = StreamContext("phone", f"{PREFIX}me", f"{PREFIX}me", Clock(), live=True)
    yield stream
    stream.stop()


def _frames(stream: StreamContext) -> Iterator[Packet]:
    stage = Decode(Decode.Options(timeout=0.2), StageContext("decode"))
    stage.open()
    return stage.frames(stream)


def _when_waiting(name: str = "me") -> None:
    """Return once a source of that name waits for a camera."""
    while name not in [inlet.name for inlet in inlets.waiting()]:
        threading.Event().wait(0.005)


def test_it_is_live() -> None:
    assert Decode.is_live("browser://me")
    assert Decode.file_of("browser://me") is None


def test_pictures_come_in_and_a_new_sender_begins_a_new_epoch(stream: StreamContext) -> None:
    def send() -> None:
        _when_waiting()
        inlet = inlets.claim("me", "first")
        assert inlet is not None
        assert inlets.claim("me", "second") is None, "one sender at a time"
        assert inlets.claim("nobody", "second") is None
        inlet.put(5_000_000_000, _jpeg(200))
        first.wait()
        inlets.release(inlet)
        again = inlets.claim("me", "second")
        assert again is not None
        # WebRTC hands over frames, until the source is back from its pause and has taken one
        while not second.wait(0.02):
            again.put(1_000_000_000, av.VideoFrame.from_ndarray(np.full((16, 32, 3), 60, np.uint8), format="bgr24"))

    first, second = threading.Event(), threading.Event()
    sender = threading.Thread(target=send)
    sender.start()
    try:
        frames = _frames(stream)
        packet = next(frames)
        assert (packet.epoch, packet.width, packet.height) == (0, 32, 16)
        assert packet.image is not None
        assert abs(int(packet.image.mean()) - 200) < 4
        first.set()
        packet = next(frames)
        assert packet.epoch == 1
        assert packet.image is not None
        assert abs(int(packet.image.mean()) - 60) < 4
        stream.stop()
        second.set()
        frames.close()  # type: ignore[attr-defined]
        assert inlets.claim("me", "third") is None, "the source is gone"
    finally:
        first.set()
        second.set()
        sender.join()


def test_two_streams_cannot_have_one_name(stream: StreamContext) -> None:
    frames = _frames(stream)
    reader = threading.Thread(target=lambda: list(frames))
    reader.start()
    try:
        _when_waiting()
        other = StreamContext("tablet", f"{PREFIX}me", f"{PREFIX}me", Clock(), live=True)
        with pytest.raises(SourceError, match="'phone' already"):
            next(_frames(other))
    finally:
        stream.stop()
        reader.join()


@pytest.mark.parametrize("name", ["", "a/b", "x" * 65, "a b"])
def test_names_are_checked(name: str) -> None:
    with pytest.raises(SourceError, match="letters, digits"):
        next(_frames(StreamContext("s", f"{PREFIX}{name}", "s", Clock(), live=True)))


def test_the_size_of_a_jpeg_is_known_before_it_is_decoded() -> None:
    assert jpeg_size(_jpeg(1, 300, 20)) == (300, 20)
    huge = bytearray(_jpeg(1))
    at = huge.index(b"\xff\xc0")
    huge[at + 5 : at + 9] = b"\xff\xff\xff\xff"
    assert jpeg_size(bytes(huge)) == (65535, 65535)
    for broken in (b"", b"\xff\xd8", b"\x89PNG" + bytes(50), b"\xff\xd8\xff\xe0\x00\x00" + bytes(20), b"\xff\xd8" * 30):
        jpeg_size(broken)  # ends, whatever it says
    assert jpeg_size(b"\x89PNG" + bytes(50)) is None


@pytest.mark.parametrize("sent", [b"nothing", b"\xff\xd8\xff\xc0\x00\x11\x08\xff\xff\xff\xff" + bytes(30)])
def test_what_is_no_picture_is_not_decoded(
    stream: StreamContext, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    def send() -> None:
        _when_waiting()
        inlet = inlets.claim("me", "me")
        assert inlet is not None
        inlet.put(0, sent)
        while not done.wait(0.02):
            pass
        inlets.release(inlet)

    done = threading.Event()
    sender = threading.Thread(target=send)
    sender.start()
    frames = _frames(stream)
    reader = threading.Thread(target=lambda: list(frames))
    reader.start()
    try:
        while "no JPEG of a permitted size" not in caplog.text:
            threading.Event().wait(0.005)
    finally:
        stream.stop()
        done.set()
        sender.join()
        reader.join()
