"""End-to-end speed of a graph on a clip, beside a peer on the same frames in alternating runs.

Every run is a process of its own, so that its peak memory and CPU time are its own. Runs at full speed give frames
per second; a run at the clip's own pace, as a camera would deliver it, gives the latency from capture to publish.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from streamkp.bench import raw_frames
from streamkp.errors import ModelError, OutputError, SourceError, StreamkpError, UsageError
from streamkp.graph.statistics import percentiles_ms
from streamkp.packet import FloatArray

PEERS = ("mediapipe",)
SAME_PERSON = 0.5  # mean distance over the box's longer side below which two figures are of one person
HOW_TO_PEER = (
    "--vs mediapipe needs an environment of its own, named with --peer-python. Make one with\n"
    "    python3.11 -m venv mediapipe-venv && mediapipe-venv/bin/pip install mediapipe==0.10.21\n"
    "and pass --peer-python mediapipe-venv/bin/python"
)


def run(
    graph: str,
    source: str,
    *,
    overrides: list[str],
    streams: int,
    runs: int,
    peer: str | None,
    peer_python: Path | None,
    decode_for_peer: bool = False,
    bare: bool = False,
) -> dict[str, Any]:
    """All figures of one comparison, as `--json` prints them.

    Args:
        graph, overrides: the graph; its sinks stay.
        source: the clip, a file.
        streams: how many times the clip is played at once (the peer: in as many processes).
        runs: repetitions at full speed, alternating with the peer.
        peer, peer_python: what to compare with, and the interpreter that has it.
        decode_for_peer: hand the peer the pixels that streamkp sees, decoded in a process of their own, instead of
            letting it decode; for one stream.
        bare: alternate with the networks in a loop without an engine, too (`streamkp.bench.bare`).
    """
    if peer is not None and peer not in PEERS:
        raise UsageError(f"--vs {peer}: known peers: {', '.join(PEERS)}")
    if peer is not None and (peer_python is None or not peer_python.exists()):
        raise UsageError(HOW_TO_PEER)
    if peer is None and (decode_for_peer or peer_python is not None):
        raise UsageError("--peer-python and --decode-for-peer are for a comparison: add --vs mediapipe")
    if decode_for_peer and streams > 1:
        raise UsageError("--decode-for-peer works with one stream")
    if peer_python is not None and not _has(peer_python, "mediapipe"):
        raise UsageError(f"{peer_python} has no MediaPipe. {HOW_TO_PEER}")
    with tempfile.TemporaryDirectory() as folder:
        mine, theirs = Path(folder, "mine.npz"), Path(folder, "theirs.npy")
        ours: list[dict[str, Any]] = []
        peers: list[dict[str, Any]] = []
        loops: list[dict[str, Any]] = []
        for _ in range(runs):
            ours.append(_ours(graph, source, overrides, streams, realtime=False, points=mine))
            if peer_python is not None and peer is not None:
                peers.append(_peer(peer_python, source, streams, theirs, decode_for_peer))
            if bare:
                loops.append(_bare(graph, source, overrides, streams))
        paced = _ours(graph, source, overrides, streams, realtime=True, points=None)
        result: dict[str, Any] = {
            "source": Path(source).name,
            "streams": streams,
            "frames": ours[0]["frames"],
            "fps": median(r["frames"] / r["seconds"] for r in ours),
            "latency_ms": percentiles_ms(v / 1e3 for v in paced["latency_ms"]),
            "cpu_percent": median(100 * r["cpu_seconds"] / r["seconds"] for r in ours),
            "cpu_ms_per_frame": median(1e3 * r["cpu_seconds"] / r["frames"] for r in ours),
            "peak_memory_mb": max(r["peak_memory_mb"] for r in ours),
        }
        if loops:
            result |= {
                "bare_fps": median(r["frames"] / r["seconds"] for r in loops),
                "bare_cpu_ms_per_frame": median(1e3 * r["cpu_seconds"] / r["frames"] for r in loops),
            }
        if peers:
            result |= {
                "peer": peer,
                "peer_fps": median(r["frames"] / r["seconds"] for r in peers),
                "peer_latency_ms": percentiles_ms(v / 1e3 for r in peers for v in r["latency_ms"]),
                "ratios": [
                    (a["frames"] / a["seconds"]) / (b["frames"] / b["seconds"])
                    for a, b in zip(ours, peers, strict=True)
                ],
            }
            result["ratio"] = median(result["ratios"])
            result |= agreement(*_load(mine), np.load(theirs))
        return result


def agreement(seq: np.ndarray[Any, Any], points: FloatArray, peer: FloatArray) -> dict[str, Any]:
    """How far our keypoints are from the peer's, over the size of the person's box.

    Args:
        seq: (N,) frame of each of our persons.
        points: (N, 33, 3) ours, pixels and score.
        peer: (frames, 33, 3) the peer's, NaN where it found nobody.

    Returns:
        `agreement`: mean distance of all 33 points over the longer side of the box around the peer's points, in
        frames where both have the same person (of several, ours is the nearest; one that is further away than half
        of that side is another person); and how many frames each of the two has.
    """
    theirs = {i for i in range(len(peer)) if np.isfinite(peer[i]).all()}
    distances: dict[int, float] = {}
    for i in sorted(theirs & set(seq.tolist())):
        side = np.ptp(peer[i, :, :2], axis=0).max()
        distance = np.linalg.norm(points[seq == i][:, :, :2] - peer[i, None, :, :2], axis=-1).mean(-1).min() / side
        if distance < SAME_PERSON:
            distances[i] = float(distance)
    return {
        "agreement": float(np.mean([*distances.values()])) if distances else None,
        "agreement_p95": float(np.percentile([*distances.values()], 95)) if distances else None,
        "frames_both": len(distances),
        "frames_ours_only": len(set(seq.tolist()) - theirs),
        "frames_peer_only": len(theirs - distances.keys()),
    }


def _has(python: Path, package: str) -> bool:
    look = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({package!r}) is None)"
    try:
        return subprocess.run([python, "-c", look], check=False, capture_output=True).returncode == 0
    except OSError:  # it cannot be run
        return False


def _load(path: Path) -> tuple[np.ndarray[Any, Any], FloatArray]:
    with np.load(path) as data:
        return data["seq"], data["points"]


def _ours(
    graph: str, source: str, overrides: list[str], streams: int, *, realtime: bool, points: Path | None
) -> dict[str, Any]:
    job = {
        "graph": graph, "source": source, "overrides": overrides, "streams": streams,
        "realtime": realtime, "points": str(points) if points else None,
    }  # fmt: skip
    command = [sys.executable, "-m", "streamkp.bench.once", json.dumps(job)]
    return _last_line(subprocess.run(command, capture_output=True, text=True, check=False), "streamkp")


def _bare(graph: str, source: str, overrides: list[str], streams: int) -> dict[str, Any]:
    job = {"graph": graph, "source": source, "overrides": overrides, "streams": streams}
    command = [sys.executable, "-m", "streamkp.bench.bare", json.dumps(job)]
    return _last_line(subprocess.run(command, capture_output=True, text=True, check=False), "the bare loop")


def _peer(python: Path, source: str, streams: int, points: Path, decode: bool) -> dict[str, Any]:
    script = Path(__file__).with_name("peer_mediapipe.py")
    command = [str(python), str(script), source, str(streams), str(points)]
    if decode:
        width, height = raw_frames.size(source)
        decoder = [sys.executable, "-m", "streamkp.bench.raw_frames", source]
        with subprocess.Popen(decoder, stdout=subprocess.PIPE) as frames:
            done = subprocess.run(
                [*command, str(width), str(height)], stdin=frames.stdout, capture_output=True, text=True, check=False
            )
        return _last_line(done, str(python))
    return _last_line(subprocess.run(command, capture_output=True, text=True, check=False), str(python))


def _last_line(done: subprocess.CompletedProcess[str], who: str) -> dict[str, Any]:
    if done.returncode:
        raise StreamkpError(f"the run of {who} failed:\n{done.stderr.strip()[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    if "error" in found:
        kinds = {kind.exit_code: kind for kind in (UsageError, SourceError, ModelError, OutputError)}
        raise kinds.get(found["exit_code"], StreamkpError)(found["error"])
    return found
