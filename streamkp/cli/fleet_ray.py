"""`streamkp run FLEET --engine ray`: a fleet on a Ray cluster."""

from __future__ import annotations

import logging
import os
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from streamkp.errors import StreamkpError, UsageError
from streamkp.fleet import spec

LOOK_SECONDS = 1.0


def run_fleet(file: str, address: str | None, state: Path | None, console: Console) -> None:
    """Run a fleet until Ctrl-C or SIGTERM; then its nodes end in good order."""
    loaded = spec.load(file)
    _connect(address)
    import ray

    from streamkp.fleet import ray_cluster

    stop = threading.Event()
    before = {}

    def note(_: int, __: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, note)
    try:
        supervisor = ray_cluster.start(loaded, state or _state_file(loaded.group))
        console.print(f"supervising {len(loaded.streams)} streams of group {loaded.group} on Ray", highlight=False)
        while not stop.wait(LOOK_SECONDS):
            try:
                for text in ray.get(supervisor.notes.remote(), timeout=10):
                    console.print(text, highlight=False, markup=False)
            except ray.exceptions.RayError:  # Ray starts it again
                continue
        console.print("ending the fleet; what its nodes have on their way comes out")
        ray_cluster.end(loaded.group, supervisor)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        ray.shutdown()


def ask_ray(address: str, group: str, command: dict[str, Any]) -> dict[str, Any]:
    """Give the supervisor of a fleet on Ray a command.

    Raises:
        StreamkpError: there is no such fleet.
    """
    _connect(address)
    import ray

    from streamkp.fleet import ray_cluster

    try:
        actor = ray.get_actor(ray_cluster.supervisor_name(group), ray_cluster.NAMESPACE)
        answer: dict[str, Any] = ray.get(actor.command.remote(command), timeout=10)
        return answer
    except (ValueError, ray.exceptions.RayError) as error:
        raise StreamkpError(
            f"no supervisor of the group {group} answers on Ray: {str(error).splitlines()[0]}"
        ) from None
    finally:
        ray.shutdown()


def _connect(address: str | None) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise UsageError("--engine ray needs Ray: pip install 'streamkp[ray]'") from None
    try:
        ray.init(
            address=address, namespace="streamkp", log_to_driver=False, logging_level=logging.ERROR,
            include_dashboard=None if address else False,
        )  # fmt: skip
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UsageError(f"there is no Ray cluster at {address}: {str(error).splitlines()[0]}") from None


def _state_file(group: str) -> Path:
    import platformdirs

    return Path(platformdirs.user_state_dir("streamkp")) / f"fleet-{group}.json"
