"""An RTSP server that plays an H.264 clip over and over, for the system tests.

Run it with a Python that has GStreamer's bindings (on Debian: /usr/bin/python3); packages: `.ci/apt-packages.txt`.

    python3 rtsp_server.py CLIP.mp4 [--port 0] [--path /live]

It prints `rtsp://127.0.0.1:PORT/PATH` once it listens. Frames are stamped anew on the way, so that the clock runs on
where the clip starts again, as it does with a camera.
"""

from __future__ import annotations

import argparse

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstApp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstApp, GstRtspServer  # noqa: E402, F401 (GstApp adds methods to appsink)

CAPS = "video/x-h264,stream-format=byte-stream,alignment=au"


def read_clip(path: str) -> tuple[list[bytes], int]:
    """The clip's access units in order, and nanoseconds per frame."""
    pipeline = Gst.parse_launch(
        f'filesrc location="{path}" ! qtdemux ! h264parse config-interval=-1 ! {CAPS} ! appsink name=out sync=false'
    )
    pipeline.set_state(Gst.State.PLAYING)
    sink, units, step = pipeline.get_by_name("out"), [], Gst.SECOND // 30
    while sample := sink.pull_sample():
        buffer = sample.get_buffer()
        units.append(buffer.extract_dup(0, buffer.get_size()))
        if buffer.duration != Gst.CLOCK_TIME_NONE:
            step = buffer.duration
    pipeline.set_state(Gst.State.NULL)
    if not units:
        raise SystemExit(f"{path}: no H.264 video in it")
    return units, step


class Factory(GstRtspServer.RTSPMediaFactory):
    """Feeds each media from the clip, at the clip's own speed."""

    def __init__(self, units: list[bytes], step: int) -> None:
        super().__init__()
        self._units, self._step = units, step
        self.set_shared(True)
        self.set_launch(
            f"( appsrc name=source is-live=true format=time max-bytes=200000 caps={CAPS} "
            f"! identity sync=true ! h264parse ! {CAPS} ! rtph264pay name=pay0 pt=96 )"
        )
        self.connect("media-configure", self._configure)

    def _configure(self, _: object, media: GstRtspServer.RTSPMedia) -> None:
        count = 0

        def push(source: Gst.Element, _: int) -> None:
            nonlocal count
            buffer = Gst.Buffer.new_wrapped(self._units[count % len(self._units)])
            buffer.pts = buffer.dts = count * self._step
            buffer.duration = self._step
            count += 1
            source.emit("push-buffer", buffer)

        media.get_element().get_child_by_name("source").connect("need-data", push)


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve an H.264 clip over RTSP, again and again.")
    parser.add_argument("clip")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--path", default="/live")
    arguments = parser.parse_args()
    Gst.init(None)
    server = GstRtspServer.RTSPServer(address="127.0.0.1", service=str(arguments.port))
    server.get_mount_points().add_factory(arguments.path, Factory(*read_clip(arguments.clip)))
    if not server.attach(None):
        raise SystemExit(f"port {arguments.port} is in use")
    print(f"rtsp://127.0.0.1:{server.get_bound_port()}{arguments.path}", flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
