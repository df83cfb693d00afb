"""Which cameras are attached to this machine, and why one cannot be opened.

On Linux this asks the kernel (Video4Linux): names, whether a device gives pictures at all, whether this user may open
it and whether another program has it. Elsewhere a camera has no name here, and one that does not open may be any of
these.
"""

from __future__ import annotations

import errno
import os
import re
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

State = Literal["free", "busy", "forbidden", "unknown"]

# linux/videodev2.h
_QUERYCAP, _QUERYCAP_BYTES, _DEVICE_CAPS_AT = 0x80685600, 104, 88
_REQBUFS, _REQBUFS_FORMAT = 0xC0145608, "=IIIIB3x"
_CAPTURE = 0x1 | 0x1000  # video capture, single and multi-planar
_TYPE_CAPTURE, _MEMORY_MMAP = 1, 1

NONE = "no camera is attached to this machine (or passed into this container)"
PROBED = 6  # camera numbers that are tried where the system does not list them


@dataclass(frozen=True)
class Webcam:
    """One camera: the number that streamkp opens it by, its name, and whether it can be opened now."""

    index: int
    name: str
    state: State
    detail: str = ""


def webcams() -> list[Webcam]:
    """The cameras of this machine. Opens none on Linux; elsewhere the first few numbers are tried one by one."""
    return list(_of_linux()) if sys.platform.startswith("linux") else list(_probed())


def why_not(index: int) -> str:
    """Why camera `index` does not open, and what to do about it."""
    if not sys.platform.startswith("linux"):
        return (
            f"camera {index} cannot be opened: there is none, another program uses it, or access is not allowed; try "
            "another number, close the other program, or allow this terminal to use the camera in the system's privacy "
            "settings"
        )
    found = {camera.index: camera for camera in _of_linux()}
    camera = found.get(index)
    if camera is None:
        others = ", ".join(f"{each.index} ({each.name})" for each in found.values())
        hint = f"there are: {others}" if others else NONE
        return f"there is no camera {index}; {hint}"
    if camera.state == "forbidden":
        return (
            f"access to camera {index} ({camera.name}) is not allowed: /dev/video{index} belongs to others; "
            "`sudo usermod -aG video $USER`, then log in again"
        )
    if camera.state == "busy":
        return f"another program uses camera {index} ({camera.name}){camera.detail}: close it"
    return f"camera {index} ({camera.name}) cannot be opened; unplug it and plug it in again"


def _of_linux(dev: Path = Path("/dev"), known: Path = Path("/sys/class/video4linux")) -> Iterator[Webcam]:
    """Every device that gives pictures; one camera may have further devices, such as for metadata."""
    numbers = sorted(int(found[1]) for path in dev.glob("video*") if (found := re.fullmatch(r"video(\d+)", path.name)))
    for index in numbers:
        path = dev / f"video{index}"
        try:
            name = (known / path.name / "name").read_text("utf-8", "replace").strip()
        except OSError:
            name = path.name
        try:
            device = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        except PermissionError:
            yield Webcam(index, name, "forbidden")
            continue
        except OSError as error:
            if error.errno == errno.EBUSY:
                yield Webcam(index, name, "busy", _users(path))
            continue  # a number whose device is gone
        try:
            if _gives_pictures(device):
                busy = _in_use(device)
                yield Webcam(index, name, "busy" if busy else "free", _users(path) if busy else "")
        finally:
            os.close(device)


def _gives_pictures(device: int) -> bool:
    import fcntl

    answer = bytearray(_QUERYCAP_BYTES)
    try:
        fcntl.ioctl(device, _QUERYCAP, answer)
    except OSError:
        return False
    (abilities,) = struct.unpack_from("=I", answer, _DEVICE_CAPS_AT)
    return bool(abilities & _CAPTURE)


def _in_use(device: int) -> bool:
    """Whether somebody else has buffers of that device: only one program may."""
    import fcntl

    try:
        fcntl.ioctl(device, _REQBUFS, bytearray(struct.pack(_REQBUFS_FORMAT, 1, _TYPE_CAPTURE, _MEMORY_MMAP, 0, 0)))
        fcntl.ioctl(device, _REQBUFS, bytearray(struct.pack(_REQBUFS_FORMAT, 0, _TYPE_CAPTURE, _MEMORY_MMAP, 0, 0)))
    except OSError as error:
        return error.errno == errno.EBUSY
    return False


def _users(path: Path) -> str:
    """The programs of this user that hold a device, in words; empty if none is found."""
    programs = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if os.readlink(link) == str(path) and link.parts[2] != str(os.getpid()):
                programs.add(f"{(link.parents[1] / 'comm').read_text().strip()}, process {link.parts[2]}")
        except OSError:  # ended meanwhile, or somebody else's
            continue
    return f" ({'; '.join(sorted(programs))})" if programs else ""


def _probed() -> Iterator[Webcam]:
    import cv2

    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        for index in range(PROBED):
            capture = cv2.VideoCapture(index)
            if capture.isOpened():
                yield Webcam(index, f"camera {index}", "free")
            capture.release()
    finally:
        cv2.utils.logging.setLogLevel(level)
