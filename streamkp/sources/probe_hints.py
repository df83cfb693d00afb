"""What to try when a video source cannot be read."""

from __future__ import annotations

import os
import re
from typing import Final

from streamkp.graph.stream_options import Transport
from streamkp.sources.decode import camera_number, scheme_of
from streamkp.sources.network import Trouble
from streamkp.uris import split

PATHS: Final = (
    "/Streaming/Channels/101 (Hikvision; 102 is the smaller stream)",
    "/cam/realmonitor?channel=1&subtype=0 (Dahua, Amcrest)",
    "/h264Preview_01_main (Reolink)",
    "/stream1 (TP-Link Tapo)",
    "/axis-media/media.amp (Axis)",
    "/profile2/media.smp (Hanwha)",
    "/live.sdp (Vivotek)",
    "/videoMain (Foscam)",
    "/media/video1 (Uniview)",
)
"""Paths behind the host name under which cameras of common makers have their stream, as their manuals say."""
PORTS: Final = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443, "rtmp": 1935, "rtmps": 443}
_HOST_LIKE = re.compile(r"(\d{1,3}(\.\d{1,3}){3}|[\w-]+(\.[\w-]+)*:\d{1,5})(/.*)?")


def hints(trouble: Trouble | None, uri: str, transport: Transport) -> tuple[str, ...]:
    """What to try, the most likely first."""
    scheme = scheme_of(uri)
    rtsp = scheme in ("rtsp", "rtsps")
    other = "udp" if transport == "tcp" else "tcp"
    switch = f"--transport {other}" + (
        ": a firewall between here and the camera may stop UDP" if other == "tcp" else ""
    )
    match trouble:
        case "host":
            return ("the IP address instead of the name: the router, or the camera's app, lists it",)
        case "unreachable":
            return (
                "the camera's present address: routers give new ones; and whether it is on",
                "a machine in the camera's network: this one may be in another VLAN, a guest Wi-Fi or a container",
            )
        case "refused":
            usual = f"port {PORTS[scheme]}, the usual one, or 8554" if rtsp else ""
            off = (
                f"switching {scheme.upper()} on in the camera's settings: some are delivered with it off"
                if rtsp
                else ""
            )
            return tuple(filter(None, (usual, off, "a longer wait, if the camera is just starting (about a minute)")))
        case "access" if split(uri).user is None:
            return (
                "user name and password: USER:${CAM_PASSWORD}@ in front of the host, the address in single quotes",
                "the camera's own account: some have one for RTSP or ONVIF that is not the one of the app",
            )
        case "access":
            return (
                "the same user name and password in the camera's web page; small and capital letters differ",
                "the camera's own account: some have one for RTSP or ONVIF that is not the one of the app",
                "some minutes of waiting: cameras lock out who tries too often",
            )
        case "path" if rtsp:
            return ("the path in the camera's manual, or one of these:", *(f"    {path}" for path in PATHS))
        case "path":
            return ("the same address in a browser",)
        case "silent" if rtsp:
            return (
                switch,
                "fewer programs at once: many cameras allow one to four clients",
                "switching the camera off and on: its encoder may hang",
                "a longer --timeout, over a slow network",
            )
        case "silent":
            return ("a longer --timeout", "another player: the sender may not send to this address and port")
        case "transport":
            return (f"--transport {other}",)
        case "undecodable":
            return (*((switch,) if rtsp else ()), "H.264 or H.265 in the camera's settings, and encryption off")
        case "no-video":
            web = "rtsp:// instead: this may be the camera's web page" if scheme in ("http", "https") else ""
            return tuple(filter(None, (web, "the port of the video, not that of the web page or the app")))
        case "lost":
            return ("again: it worked until then", *((switch,) if rtsp else ()))
        case "other" if rtsp:
            return (switch, "the path in the camera's manual, or one of these:", *(f"    {path}" for path in PATHS))
        case _:
            if not scheme and _HOST_LIKE.fullmatch(uri) and camera_number(uri) is None and not os.path.exists(uri):
                return ("rtsp:// in front, if this is the address of a camera",)
            return ()
