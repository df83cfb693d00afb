"""An RTSP server that plays an H.264 clip over and over, for the soak test and the system tests.

A program of its own, for a Python that has GStreamer's bindings (on Debian: /usr/bin/python3; packages:
gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad):

    python3 rtsp_server.py CLIP.mp4 [--port 0] [--path /live] [--streams 1] [--audio] [--login USER:PASSWORD]

It prints `rtsp://127.0.0.1:PORT/PATH` once it listens; several streams are PATH0, PATH1, ... Frames are stamped anew on
the way, so that the clock runs on where the clip starts again, as it does with a camera.

While it runs it obeys lines on its standard input: `video` (as it should be), `silent` (no video any more; audio goes
on), `damaged` (video that no decoder can read), `frozen` (the same picture again and again). It says each line again
when it is done.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstApp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstApp, GstRtspServer  # noqa: E402, F401 (GstApp adds methods to appsink)

CAPS = "video/x-h264,stream-format=byte-stream,alignment=au"
MODES = ("video", "silent", "damaged", "frozen")


def read_clip(path: str) -> tuple[list[bytes], int]:
    """The clip's access units in order, and nanoseconds per frame."""
    pipeline = Gst.parse_launch(
        f'filesrc location="{path}" ! qtdemux ! h264parse config-interval=-1 ! {CAPS} ! appsink name=out sync=false'
    )
    pipeline.set_state(Gst.State.PLAYING)
    sink, units, step = pipeline.get_by_name("out"), [], Gst.SECOND // 30
    while sample := sink.try_pull_sample(10 * Gst.SECOND):  # what cannot be read never ends
        buffer = sample.get_buffer()
        units.append(buffer.extract_dup(0, buffer.get_size()))
        if buffer.duration != Gst.CLOCK_TIME_NONE:
            step = buffer.duration
    pipeline.set_state(Gst.State.NULL)
    if not units:
        raise SystemExit(f"{path}: no H.264 video in it")
    return units, step


def damaged(unit: bytes) -> bytes:
    """The same access unit with nonsense where its pictures were: types and parameter sets stay."""
    parts = unit.split(b"\0\0\1")
    return b"\0\0\1".join(
        part[:1] + b"\xff" * (len(part) - 1) if part and part[0] & 31 in (1, 5) else part for part in parts
    )


class Factory(GstRtspServer.RTSPMediaFactory):
    """Feeds each media from the clip, at the clip's own speed."""

    mode = "video"  # of all factories

    def __init__(self, units: list[bytes], step: int, audio: bool) -> None:
        super().__init__()
        self._units, self._step = units, step
        self._hungry: list[Any] = []  # sources that wait, because there is no video now
        self.set_shared(True)
        self.set_launch(
            f"( appsrc name=source is-live=true format=time max-bytes=200000 caps={CAPS} "
            f"! identity sync=true ! h264parse ! {CAPS} ! rtph264pay name=pay0 pt=96 "
            + ("audiotestsrc is-live=true wave=silence ! alawenc ! rtppcmapay name=pay1 pt=8 )" if audio else ")")
        )
        self.connect("media-configure", self._configure)

    def resume(self) -> None:
        """There is video again."""
        hungry, self._hungry = self._hungry, []
        for push in hungry:
            push()

    def _configure(self, _: object, media: Any) -> None:
        count = 0
        source = media.get_element().get_child_by_name("source")

        def push(*_: object) -> None:
            nonlocal count
            if Factory.mode == "silent":
                self._hungry.append(push)
                return
            unit = self._units[0 if Factory.mode == "frozen" else count % len(self._units)]
            buffer = Gst.Buffer.new_wrapped(damaged(unit) if Factory.mode == "damaged" else unit)
            buffer.pts = buffer.dts = count * self._step
            buffer.duration = self._step
            count += 1
            source.emit("push-buffer", buffer)

        source.connect("need-data", push)


def guard(user: str, password: str) -> Any:
    """Lets in who knows this password."""
    auth, token = GstRtspServer.RTSPAuth(), GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    return auth


def permissions() -> Any:
    """What those may do who were let in."""
    granted = GstRtspServer.RTSPPermissions()
    for name in ("access", "construct"):
        granted.add_permission_for_role("viewer", f"media.factory.{name}", True)
    return granted


def main() -> None:
    """Serve until killed, or until the standard input ends after it has been written to."""
    parser = argparse.ArgumentParser(description="Serve an H.264 clip over RTSP, again and again.")
    parser.add_argument("clip")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--path", default="/live")
    parser.add_argument("--streams", type=int, default=0, help="how many, as PATH0, PATH1, ...; by default just PATH")
    parser.add_argument("--audio", action="store_true", help="with a silent audio track")
    parser.add_argument("--login", metavar="USER:PASSWORD", help="let in nobody else")
    arguments = parser.parse_args()
    Gst.init(None)
    server = GstRtspServer.RTSPServer(address="127.0.0.1", service=str(arguments.port))
    units, step = read_clip(arguments.clip)
    factories = []
    for number in range(arguments.streams) if arguments.streams else [""]:
        factories.append(Factory(units, step, arguments.audio))
        if arguments.login:
            factories[-1].set_permissions(permissions())
        server.get_mount_points().add_factory(f"{arguments.path}{number}", factories[-1])
    if arguments.login:
        server.set_auth(guard(*arguments.login.split(":", 1)))
    if not server.attach(None):
        raise SystemExit(f"port {arguments.port} is in use")

    def obey(*_: object) -> bool:
        line = sys.stdin.readline().strip()
        if line in MODES:
            Factory.mode = line
            for factory in factories:
                if line != "silent":
                    factory.resume()
            print(line, flush=True)
        return bool(line)

    GLib.io_add_watch(GLib.IOChannel.unix_new(sys.stdin.fileno()), GLib.PRIORITY_DEFAULT, GLib.IOCondition.IN, obey)
    print(f"rtsp://127.0.0.1:{server.get_bound_port()}{arguments.path}", flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
