"""`streamkp doctor`: what this machine has, what is missing, and what to do about it."""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import platform
import shutil
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape

import streamkp
from streamkp.cli.output import printable
from streamkp.hub import store
from streamkp.sources.webcams import webcams, why_not

Verdict = Literal["ok", "note", "problem"]
PORTS = {8765: "the page", 8766: "the control server", 1883: "the embedded MQTT broker"}
LEAST_SPACE = 500  # MB for the default models, the clip and what is converted
CLOCK_SERVER = "pool.ntp.org"
CLOCK_OFF = 1.0  # seconds from which times in messages mislead
DEFAULTS = ("efficientdet-lite0", "blazepose-full")
_TIME_ERROR = 5  # of adjtimex: not synchronised
_TO_UNIX = 2_208_988_800  # seconds from 1900, the beginning of NTP's count, to 1970


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `advice` says what to do, empty if nothing."""

    about: str
    verdict: Verdict
    found: str
    advice: str = ""


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list.")] = False,
    clock: Annotated[bool, typer.Option("--clock", help=f"Also ask {CLOCK_SERVER} what time it is.")] = False,
) -> None:
    """Look at what streamkp runs on, and say what to do about what is missing. The exit code is 1 after a problem."""
    console, findings = Console(soft_wrap=True), []
    for finding in examine(clock):
        findings.append(finding)
        if not as_json:
            colour = {"ok": "green", "note": "yellow", "problem": "red"}[finding.verdict]
            text = escape(printable(finding.found))
            console.print(f"[{colour}]{finding.verdict:>7}[/]  {finding.about}: {text}", highlight=False)
            if finding.advice:
                console.print(f"         -> {escape(printable(finding.advice))}", highlight=False)
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings]))
    if any(finding.verdict == "problem" for finding in findings):
        raise typer.Exit(1)


def examine(clock: bool = False) -> Iterator[Finding]:
    """Every finding, one after the other. A check that fails is a finding of its own."""
    checks: list[Callable[[], Iterator[Finding]]] = [
        _program, _processor, _openvino, _torch, _cameras, _ports, _cache, _models,
        _compared_clock if clock else _clock,
    ]  # fmt: skip
    for check in checks:
        try:
            yield from check()
        except Exception as error:  # whatever a driver or a library raises: the other checks go on
            name = check.__name__.strip("_")
            yield Finding(name, "problem", f"this check failed: {type(error).__name__}: {error}")


def _program() -> Iterator[Finding]:
    yield Finding(
        "streamkp", "ok", f"{streamkp.__version__}, Python {platform.python_version()}, {platform.platform(terse=True)}"
    )


def _processor() -> Iterator[Finding]:
    flags = processor_flags()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = ("avx2", "avx512f", "avx512_vnni", "amx_bf16", "asimd", "sve")
    has = [flag for flag in wanted if flag in flags]
    found = f"{cores} cores, {', '.join(has) or 'no vector extensions known'} ({platform.machine()})"
    if flags and platform.machine() in ("x86_64", "AMD64") and "avx2" not in flags:
        yield Finding("processor", "note", found, "without AVX2 the networks are several times slower")
    elif cores < 2:
        yield Finding("processor", "note", found, "one core: try webcam-single, or --set stages.detect.every=30")
    else:
        yield Finding("processor", "ok", found)


def processor_flags(info: Path = Path("/proc/cpuinfo")) -> set[str]:
    """What the processor can do, as Linux names it; empty where that is not told."""
    try:
        lines = info.read_text().splitlines()
    except OSError:
        return set()
    return {flag for line in lines if line.startswith(("flags", "Features")) for flag in line.partition(":")[2].split()}


def _openvino() -> Iterator[Finding]:
    import openvino

    devices = openvino.Core().available_devices
    yield Finding("OpenVINO", "ok", f"{version('openvino')}, devices: {', '.join(devices)}")


def _torch() -> Iterator[Finding]:
    if find_spec("torch") is None:
        yield Finding(
            "torch", "ok", "not installed, and the default graphs need none",
            "for HDFormer, TPNet, VideoPose3D, HRNet or a GPU: pip install 'streamkp[torch]'",
        )  # fmt: skip
        return
    torch = importlib.import_module("torch")
    driver = shutil.which("nvidia-smi") is not None
    if torch.cuda.is_available():
        names = {torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())}
        yield Finding("torch", "ok", f"{torch.__version__}, CUDA {torch.version.cuda} on {', '.join(sorted(names))}")
    elif driver and torch.version.cuda is None:
        yield Finding(
            "torch", "note", f"{torch.__version__} for CPUs only, but there is an NVIDIA driver",
            "install a CUDA build: pytorch.org, Get started",
        )  # fmt: skip
    elif torch.version.cuda is not None:
        yield Finding(
            "torch", "note", f"{torch.__version__} for CUDA {torch.version.cuda}, and no GPU that it can use",
            "look at nvidia-smi: the driver may be missing or older than this CUDA; in a container: --gpus all",
        )  # fmt: skip
    else:
        yield Finding("torch", "ok", f"{torch.__version__} for CPUs")
    if find_spec("onnxruntime") is not None:
        try:
            name = "onnxruntime-gpu" if driver else "onnxruntime"
            yield Finding("ONNX Runtime", "ok", f"{name} {version(name)}")
        except PackageNotFoundError:
            pass


def _cameras() -> Iterator[Finding]:
    found = webcams()
    if not found:
        yield Finding("cameras", "ok", "none is attached (network cameras and files need none)")
    for camera in found:
        if camera.state == "free":
            yield Finding(f"camera {camera.index}", "ok", camera.name)
        else:
            yield Finding(f"camera {camera.index}", "note", f"{camera.name}, {camera.state}", why_not(camera.index))


def _ports() -> Iterator[Finding]:
    for port, user in PORTS.items():
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            if sys.platform != "win32":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                yield Finding(
                    f"port {port}", "note", f"{error.strerror}; it is the usual one of {user}",
                    "another graph may be running; --set stages.NAME.port=NUMBER takes another port",
                )  # fmt: skip
            else:
                yield Finding(f"port {port}", "ok", f"free, for {user}")


def _cache() -> Iterator[Finding]:
    folder = store.default().folder
    at = folder
    while not at.exists():
        at = at.parent
    free = shutil.disk_usage(at).free // 1_000_000
    found = f"{folder}, {free} MB free"
    if not os.access(at, os.W_OK):
        yield Finding("cache", "problem", f"{found}, and it cannot be written", "STREAMKP_HOME names another folder")
    elif free < LEAST_SPACE:
        yield Finding("cache", "note", found, f"the default models take up to {LEAST_SPACE} MB")
    else:
        yield Finding("cache", "ok", found)


def _models() -> Iterator[Finding]:
    missing = [name for name in DEFAULTS if not store.is_cached(name)]
    if missing:
        yield Finding(
            "models", "ok", f"{', '.join(missing)} not fetched yet",
            f"the first run fetches them; beforehand: streamkp models pull {' '.join(missing)}",
        )  # fmt: skip
    else:
        yield Finding("models", "ok", f"{', '.join(DEFAULTS)} are in the cache; streamkp models verify checks them")


def _clock() -> Iterator[Finding]:
    kept = clock_is_kept()
    if kept is False:
        yield Finding(
            "clock", "note", "nothing keeps it (NTP)",
            "captured_at and published_at are Unix time: timedatectl set-ntp true; --clock compares it with a server",
        )  # fmt: skip
    else:
        yield Finding("clock", "ok", "kept by NTP" if kept else "not compared; --clock asks a server")


def clock_is_kept() -> bool | None:
    """Whether the kernel says that its clock is synchronised; None where it cannot be asked."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(1024))  # modes 0: only asks
    except (OSError, AttributeError):
        return None
    return None if state < 0 else bool(state != _TIME_ERROR)


def _compared_clock() -> Iterator[Finding]:
    off = clock_offset()
    if off is None:
        yield Finding("clock", "note", f"{CLOCK_SERVER} does not answer", "is there a network?")
    elif abs(off) > CLOCK_OFF:
        yield Finding(
            "clock", "note", f"{abs(off):.1f} s {'behind' if off > 0 else 'ahead'}",
            "captured_at and published_at are Unix time: set the clock (timedatectl set-ntp true)",
        )  # fmt: skip
    else:
        yield Finding("clock", "ok", f"within {max(abs(off), 0.01):.2f} s of {CLOCK_SERVER}")


def clock_offset(server: str = CLOCK_SERVER, port: int = 123, seconds: float = 1.5) -> float | None:
    """Seconds by which a time server is ahead of this machine (SNTP, RFC 4330); None if it does not answer."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.settimeout(seconds)
            sent = time.time()
            probe.sendto(b"\x23" + bytes(47), (server, port))
            answer = probe.recv(512)
            arrived = time.time()
    except OSError:
        return None
    if len(answer) < 48:
        return None
    received, answered = (whole - _TO_UNIX + part / 2**32 for whole, part in struct.iter_unpack("!II", answer[32:48]))
    return float((received - sent) + (answered - arrived)) / 2
