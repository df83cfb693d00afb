"""What a person may tell a running supervisor, as JSON: `{"do": "move", "stream": ..., "node": ...}` and the like."""

from __future__ import annotations

import os
from typing import Any

from streamkp.fleet.supervisor import Supervisor


def carry_out(supervisor: Supervisor, command: Any, now: float) -> dict[str, Any]:
    """Carry out a command: `status`, `move` (stream, node), `drain` and `undrain` (node).

    Returns `{"ok": ..., "text": ...}`, for `status` `{"ok": True, "status": ...}`.
    """
    if not isinstance(command, dict):
        return {"ok": False, "text": "a command is a mapping"}
    do, node = command.get("do"), str(command.get("node", ""))
    if do == "status":
        owners = {name: list(each) for name, each in supervisor.owners().items()}
        return {"ok": True, "status": {**supervisor.snapshot(now), "pid": os.getpid()}, "owners": owners}
    if do == "move":
        done, text = supervisor.move(str(command.get("stream", "")), node, now)
    elif do in ("drain", "undrain"):
        done, text = supervisor.drain(node, do == "drain")
    else:
        return {"ok": False, "text": f"there is no command {do!r}"}
    return {"ok": done, "text": text}
