"""Cameras by name, and the three reasons for which one does not open."""

from __future__ import annotations

import errno
import os
import struct
import sys
from pathlib import Path

import pytest

from streamkp.sources import webcams
from streamkp.sources.webcams import Webcam

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Video4Linux")


class Kernel:
    """Devices as files, and a kernel that answers for them by their path."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.dev, self.sys = folder / "dev", folder / "sys"
        self.dev.mkdir()
        self.abilities: dict[str, int] = {}
        self.busy: set[str] = set()
        self.forbidden: set[str] = set()
        real = os.open

        def opened(path: Path, *flags: int) -> int:
            if Path(path).name in self.forbidden:
                raise PermissionError(errno.EACCES, "Permission denied")
            return real(path, *flags)

        monkeypatch.setattr("os.open", opened)
        monkeypatch.setattr("fcntl.ioctl", self.ioctl)

    def add(self, index: int, name: str, abilities: int = 1) -> str:
        device = f"video{index}"
        (self.dev / device).touch()
        (self.sys / device).mkdir(parents=True)
        (self.sys / device / "name").write_text(f"{name}\n")
        self.abilities[device] = abilities
        return device

    def ioctl(self, device: int, request: int, answer: bytearray) -> int:
        name = Path(os.readlink(f"/proc/self/fd/{device}")).name
        if request == webcams._QUERYCAP:
            assert len(answer) == (request >> 16) & 0x3FFF
            struct.pack_into("=I", answer, 88, self.abilities[name])
        else:
            assert len(answer) == (request >> 16) & 0x3FFF
            if name in self.busy:
                raise OSError(errno.EBUSY, "Device or resource busy")
        return 0

    def cameras(self) -> list[Webcam]:
        return list(webcams._of_linux(self.dev, self.sys))


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(tmp_path, monkeypatch)


def test_cameras_have_names_and_states(kernel: Kernel) -> None:
    kernel.add(10, "Capture card")
    kernel.add(0, "Integrated Camera")
    kernel.add(1, "Integrated Camera", abilities=0x00800000)  # metadata only
    kernel.busy.add(kernel.add(2, "USB 2.0 Camera"))
    kernel.forbidden.add(kernel.add(4, "Locked"))
    assert kernel.cameras() == [
        Webcam(0, "Integrated Camera", "free"),
        Webcam(2, "USB 2.0 Camera", "busy"),
        Webcam(4, "Locked", "forbidden"),
        Webcam(10, "Capture card", "free"),
    ]


def test_no_camera(kernel: Kernel) -> None:
    assert kernel.cameras() == []


@pytest.mark.parametrize(
    ("index", "words"),
    [
        (7, "there is no camera 7; there are: 0 (Desk), 2 (Door), 4 (Hall)"),
        (2, "another program uses camera 2 (Door)"),
        (4, "access to camera 4 (Hall) is not allowed"),
        (0, "camera 0 (Desk) cannot be opened"),
    ],
)
def test_why_one_does_not_open(monkeypatch: pytest.MonkeyPatch, index: int, words: str) -> None:
    found = [Webcam(0, "Desk", "free"), Webcam(2, "Door", "busy"), Webcam(4, "Hall", "forbidden")]
    monkeypatch.setattr(webcams, "_of_linux", lambda: iter(found))
    assert words in webcams.why_not(index)


def test_who_uses_a_device_is_named(tmp_path: Path) -> None:
    import subprocess

    device = tmp_path / "video0"
    device.touch()
    with subprocess.Popen(["sh", "-c", f"exec 3<{device}; echo; read line"], stdin=-1, stdout=-1) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert str(other.pid) in webcams._users(device)
        other.communicate(b"\n")
    assert webcams._users(device) == ""
