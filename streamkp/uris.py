"""Addresses as people may see them."""

from __future__ import annotations

import re

_URI = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*:/+)(?P<rest>[^\s\"'<>]*)")
_SECRET = re.compile(
    r"([?&;][^=&;\s]*(?:token|pass|pwd|secret|auth|key|sig|credential)[^=&;\s]*=)[^&;#\s]*", re.IGNORECASE
)


def mask(text: str) -> str:
    """The text with the credentials of every URI in it hidden: `rtsp://user:secret@host/` -> `rtsp://***@host/`.

    Hides user information, also where a password holds an unescaped `@` or `/`, and the values of query fields that
    are named like secrets. Where it cannot tell a credential from the rest it hides too much rather than too little.
    """
    return _URI.sub(_masked, text)


def _masked(match: re.Match[str]) -> str:
    rest = match["rest"]
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    # With a colon but no "@" it may be a password cut short by a "/", "?" or "#" of its own.
    if "@" in authority or (":" in authority and "@" in rest):
        rest = "***@" + rest.rpartition("@")[2]
    return match["scheme"] + _SECRET.sub(r"\1***", rest)
