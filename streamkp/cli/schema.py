"""`streamkp schema`: what the messages look like."""

from __future__ import annotations

import json

from streamkp import wire


def schema() -> None:
    """Print the JSON Schema of the messages."""
    print(json.dumps(wire.schema(), indent=2))
