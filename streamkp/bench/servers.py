"""Real servers in processes of their own, to be killed, frozen and started again: an RTSP server and mosquitto."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
from pathlib import Path

from streamkp.errors import UsageError

_RTSP_PROGRAM = Path(__file__).with_name("rtsp_server.py")
_PYTHON = "/usr/bin/python3"  # the one that has the distribution's GStreamer bindings
_PATIENCE = 20.0  # seconds until a killed process is gone


def require_rtsp_server() -> None:
    """Raises UsageError, with what to install, if the RTSP server cannot run here."""
    python = shutil.which(_PYTHON)
    probe = "import gi; gi.require_version('GstRtspServer', '1.0')"
    if python is None or subprocess.run([python, "-c", probe], capture_output=True, check=False).returncode:
        raise UsageError(
            f"{_PYTHON} has no GStreamer RTSP server; install it: apt-get install python3-gi "
            "gir1.2-gst-rtsp-server-1.0 gir1.2-gst-plugins-base-1.0 gstreamer1.0-plugins-base "
            "gstreamer1.0-plugins-good gstreamer1.0-plugins-bad"
        )


def require_mosquitto() -> str:
    """The path of mosquitto. Raises UsageError, with what to install, if there is none."""
    found = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        raise UsageError("there is no mosquitto; install it: apt-get install mosquitto")
    return found


class RtspServer:
    """Plays a clip in a process of its own, on one port throughout.

    Args:
        clip: an H.264 video in an MP4 file.
        streams: how many, under `uris`; 0 is one without a number.
        audio: with a silent audio track.
        login: `user:password` that clients must show.
    """

    def __init__(self, clip: Path, *, streams: int = 0, audio: bool = False, login: str | None = None) -> None:
        self._arguments = [str(clip), "--streams", str(streams), *(["--audio"] if audio else [])]
        self._arguments += ["--login", login] if login else []
        self._streams = streams
        self.port = 0
        self.start()

    @property
    def uris(self) -> list[str]:
        """The address of each stream."""
        return [f"{self.uri}{number}" for number in range(self._streams)] or [self.uri]

    def start(self) -> None:
        """Start, or start again; returns when it listens."""
        self._process = subprocess.Popen(
            [_PYTHON, str(_RTSP_PROGRAM), *self._arguments, "--port", str(self.port)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        self.uri = self._process.stdout.readline().strip()
        if not self.uri.startswith("rtsp://127.0.0.1:"):
            raise UsageError("the RTSP server did not start")
        self.port = int(self.uri.split(":")[2].split("/")[0])

    def mode(self, word: str) -> None:
        """`video`, `silent`, `damaged` or `frozen`; returns when it holds."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline().strip() == word

    def signal(self, number: int) -> None:
        """Send a signal, such as SIGSTOP."""
        self._process.send_signal(number)

    def freeze(self) -> None:
        """It stands still; its connections stay open."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait(_PATIENCE)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


class Mosquitto:
    """A broker that can be killed, frozen and started again, on one port throughout.

    It keeps sessions and queued messages on disk and saves each change at once, so that a killed broker still knows
    its subscribers.

    Args:
        folder: where it keeps its files.
        access: lines of its configuration about who may connect; by default anybody.
    """

    def __init__(self, folder: Path, *access: str) -> None:
        program = require_mosquitto()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        config = folder / "mosquitto.conf"
        lines = [
            f"listener {self.port} 127.0.0.1",
            "max_queued_messages 0",
            "persistence true",
            f"persistence_location {folder}/",
            "autosave_on_changes true",
            "autosave_interval 1",
            *(["user root"] if os.geteuid() == 0 else []),
            *(access or ("allow_anonymous true",)),
        ]
        config.write_text("\n".join(lines) + "\n")
        self._command = [program, "-c", str(config)]
        self.start()

    def start(self) -> None:
        """Start, or start again; returns when it listens."""
        self._process = subprocess.Popen(self._command, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        if not any("running" in line for line in self._process.stderr):
            raise UsageError("mosquitto did not start")
        threading.Thread(target=self._drain, args=(self._process,), daemon=True).start()

    def kill(self) -> None:
        """End it at once, as `kill -9` does."""
        self._process.kill()
        self._process.wait(_PATIENCE)

    def stop(self) -> None:
        """End it in good order: it saves what it has."""
        self._process.terminate()
        self._process.wait(_PATIENCE)

    def freeze(self) -> None:
        """It stands still; its connections stay open."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        self._process.send_signal(signal.SIGCONT)

    @staticmethod
    def _drain(process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        with process.stderr:
            for _ in process.stderr:
                pass
