"""The log of the program: as text or as JSON, without credentials, and without lines that say the same again."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, TextIO, cast

from rich.console import Console

from streamkp.uris import mask

Format = Literal["text", "json"]
FORMATS: Final = ("text", "json")
WINDOW: Final = 60.0  # seconds in which a line that says the same is only counted
MOST: Final = 512  # lines that are remembered
FIELDS: Final = ("stream", "stage", "seq", "epoch")
_NUMBER: Final = re.compile(r"\d+(?:\.\d+)?")
_format: Format = "text"


def configure(level: int, format: Format = "text") -> None:
    """Set the log up, once for the process."""
    global _format
    _format = format
    root = logging.getLogger()
    root.setLevel(level)
    logging.getLogger("streamkp.run").setLevel(min(level, logging.INFO) if format == "json" else logging.NOTSET)
    if not root.handlers:
        root.addHandler(Handler())
    for handler in root.handlers:
        handler.setFormatter(JsonFormatter() if format == "json" else TextFormatter())


def is_json() -> bool:
    """Whether everything that is said is to be JSON."""
    return _format == "json"


def console(quiet: bool = False) -> Console:
    """Where a command says what goes on: the terminal, or the log where that is JSON."""
    if not is_json():
        return Console(stderr=True, quiet=quiet, soft_wrap=not sys.stderr.isatty())  # a file has no edge
    return Console(file=cast(TextIO, _LogFile()), quiet=quiet, width=100_000, force_terminal=False, color_system=None)


class TextFormatter(logging.Formatter):
    """One line for people, which names the stream; credentials are hidden, whoever wrote them."""

    def __init__(self) -> None:
        super().__init__("%(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        count, stream = getattr(record, "repeated", 0), getattr(record, "stream", None)
        if stream is not None and not re.search(rf"(?<![\w.-]){re.escape(str(stream))}(?![\w.-])", record.message):
            record.message = f"{stream}: {record.message}"  # several streams may have the same source
        return super().formatMessage(record) + (f" ({count} more like it since then)" if count else "")

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        return mask(super().format(record))


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message; stream, stage, seq and exception where there are some."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        out: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": mask(record.getMessage()),
        }
        for name in FIELDS:
            if (value := getattr(record, name, None)) is not None:
                out[name] = value if isinstance(value, int) else mask(str(value))
        if count := getattr(record, "repeated", 0):
            out["repeated"] = count
        if record.exc_info:
            out["exception"] = mask(self.formatException(record.exc_info))
        return json.dumps(out, ensure_ascii=False)


@dataclass
class _Seen:
    """A line that was shown, and those like it that were not."""

    shown: float
    count: int = 0
    last: logging.LogRecord | None = None


class Handler(logging.Handler):
    """Writes to standard error. A line that says the same as one of the last minute is counted instead.

    Numbers are taken to be the same in warnings and errors of one stream and stage: a camera that is away does not
    fill the log. The count comes with the next line like it, or when the minute is over and something else is said.
    """

    def __init__(self) -> None:
        super().__init__()
        self._seen: OrderedDict[tuple[object, ...], _Seen] = OrderedDict()  # in the order in which they were shown

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        try:
            self._forget(record.created)
            key = self._key(record)
            seen = self._seen.get(key)
            if seen is not None:
                seen.count += 1
                seen.last = record
                return
            self._seen[key] = _Seen(record.created)
            while len(self._seen) > MOST:
                self._tell(self._seen.popitem(last=False)[1])
            self._write(record)
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Tell what was only counted so far."""
        for seen in self._seen.values():
            self._tell(seen)
        self._seen.clear()
        super().close()

    def _forget(self, now: float) -> None:
        while self._seen:
            key, seen = next(iter(self._seen.items()))
            if now - seen.shown < WINDOW:
                return
            del self._seen[key]
            self._tell(seen)

    def _tell(self, seen: _Seen) -> None:
        if seen.last is not None:
            seen.last.repeated = seen.count
            self._write(seen.last)

    def _write(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr, flush=True)

    @staticmethod
    def _key(record: logging.LogRecord) -> tuple[object, ...]:
        text = record.getMessage()
        if record.levelno >= logging.WARNING:
            text = _NUMBER.sub("#", text)
        return record.name, record.levelno, getattr(record, "stream", None), getattr(record, "stage", None), text


class _LogFile:
    """Makes a line of the log of each line that is written."""

    def write(self, text: str) -> int:
        for line in filter(str.strip, text.splitlines()):
            logging.getLogger("streamkp.run").info("%s", line.rstrip())
        return len(text)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return False
