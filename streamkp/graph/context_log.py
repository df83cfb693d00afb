"""A logger that knows what it speaks of: `stream`, `stage` and `seq` are fields of every record."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any


class ContextLog(logging.LoggerAdapter[logging.Logger]):
    """Adds its fields to each record, besides those that a call gives with `extra`."""

    def __init__(self, name: str, **fields: object) -> None:
        super().__init__(logging.getLogger(name), fields)

    def process(self, msg: object, kwargs: MutableMapping[str, Any]) -> tuple[object, MutableMapping[str, Any]]:
        """See `logging.LoggerAdapter.process`."""
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs
