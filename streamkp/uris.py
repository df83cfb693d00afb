"""Addresses: what of them people may see, and credentials with any character in them.

The user information of an address reaches up to its last `@`, so that a password may hold `/`, `?`, `#` or `@` as it
is. A user name or password that is already percent-encoded (nothing but the characters that an address allows, and
every `%` followed by two hexadecimal digits) is left as it is; any other is taken literally and encoded. A literal
password that looks like an encoded one, such as `50%25`, therefore has to be written encoded: `50%2525`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit
from urllib.request import url2pathname

from streamkp.errors import UsageError

VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
HIDDEN = "***"
_WITH_HOST = ("rtsp://", "rtsps://", "http://", "https://", "rtmp://", "rtmps://")

# The lookbehind keeps the search linear: without it every letter of a long word would be a place to start from.
_SCHEME = re.compile(r"(?<![A-Za-z0-9+.\-])[A-Za-z][A-Za-z0-9+.\-]*:/+")
_NEXT = re.compile(r"""(?<=[\s"'(<\[])(?:rtsps?|https?|rtmps?|udp|wss?|mqtts?|file|tcp|srt)://|\n""", re.IGNORECASE)
_ENCODED = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})*")
_FIELD = re.compile(r"(?<![A-Za-z0-9.\-\[\]%])(?P<key>[A-Za-z0-9.\-\[\]%]{1,64})=")
_SECRET_WORDS = re.compile(
    r"tok|pas|pwd|psw|^pw|pw$|secret|auth|key|sig|cred|user|usr|login|session|^sid$", re.IGNORECASE
)
_IN_TEXT = re.compile(r"[&;#\s]|_[A-Za-z][A-Za-z0-9.\-]{0,63}=")
_IN_ADDRESS = re.compile(r"[&;#]|_[A-Za-z][A-Za-z0-9.\-]{0,63}=")


def mask(text: str) -> str:
    """The text with the credentials of every address in it hidden: `rtsp://user:secret@host/` -> `rtsp://***@host/`.

    Hides user information, and the values of fields that are named like secrets, in the query and in the path
    (`/user=..._password=..._channel=1`). Where it cannot tell a credential from the rest of a line it hides too much
    rather than too little. Takes time in proportion to the length of the text.
    """
    out: list[str] = []
    at = 0
    while (found := _SCHEME.search(text, at)) is not None:
        following = _NEXT.search(text, found.end())
        end = len(text) if following is None else following.start()
        out += [text[at : found.end()], _hidden(text[found.end() : end], _IN_TEXT)]
        at = end
    return "".join([*out, text[at:]])


def mask_address(address: str) -> str:
    """As `mask`, for a text that is nothing but one address: spaces, quotes and the like belong to it."""
    found = _SCHEME.match(address)
    if found is None:
        # `cam:secret@host`, `rtsp:\\\\cam:secret@host`: an address that was mistyped holds its password all the same
        head, at, rest = address.rpartition("@")
        return mask(f"{HIDDEN}@{rest}" if at and (":" in head or "//" in head) else address)
    return (found[0] + _hidden(address[found.end() :], _IN_ADDRESS)).translate(_CONTROL)


_CONTROL = dict.fromkeys((*range(32), *range(127, 160)), "\N{REPLACEMENT CHARACTER}")


def _hidden(rest: str, value_end: re.Pattern[str]) -> str:
    if (end := _user_info_end(rest)) is not None:
        rest = f"{HIDDEN}@{rest[end + 1 :]}"
    out: list[str] = []
    at = 0
    while (field := _FIELD.search(rest, at)) is not None:
        out.append(rest[at : field.end()])
        at = field.end()
        # `user=admin_password=x_channel=1`: the name of a field ends at the underscore before it
        if _SECRET_WORDS.search(field["key"].rpartition("_")[2]):
            end_of_value = value_end.search(rest, at)
            at = len(rest) if end_of_value is None else end_of_value.start()
            out.append(HIDDEN)
    return "".join([*out, rest[at:]])


def _user_info_end(rest: str) -> int | None:
    """Where the `@` behind the user information is, in what follows `scheme://`; None where there is none."""
    last = rest.rfind("@")
    if last < 0:
        return None
    authority = re.split(r"[/?#\s]", rest, maxsplit=1)[0]
    # With a colon but no "@" it may be a password cut short by a "/", "?", "#" or space of its own.
    return last if "@" in authority or ":" in authority else None


@dataclass(frozen=True, repr=False)
class Address:
    """An address taken apart; `user` and `password` are decoded, `rest` is what follows the user information."""

    scheme: str
    user: str | None
    password: str | None
    rest: str


def split(address: str) -> Address:
    """Take `scheme://user:password@host/...` apart; the scheme is in small letters, and empty where there is none."""
    scheme, separator, rest = address.partition("://")
    if not separator:
        scheme, rest = "", address
    end = _user_info_end(rest)
    if end is None:
        return Address(scheme.lower(), None, None, rest)
    user, colon, password = rest[:end].partition(":")
    return Address(scheme.lower(), _decoded(user) or None, _decoded(password) if colon else None, rest[end + 1 :])


def encoded(address: str) -> str:
    """The address with user name and password percent-encoded where they are not; other texts come back unchanged.

    `rtsp://host:554/live@2`, where a port and not a password may be meant, is left as it is.
    """
    found = _SCHEME.match(address)
    if found is None or not found[0].endswith("://"):
        return address
    rest = address[found.end() :]
    end = _user_info_end(rest)
    if end is None:
        return address
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" not in authority and re.fullmatch(r"[^:\s]+:\d{1,5}", authority):
        return address
    user, colon, password = rest[:end].partition(":")
    return f"{found[0]}{_encoded(user)}{colon}{_encoded(password)}{rest[end:]}"


def check_address(address: str) -> None:
    """Raises ValueError, without any part of the address in it, if it can never lead anywhere.

    That is so for a blank one, and where host or port of a network address are malformed.
    """
    if not address.strip():
        raise ValueError("is empty; if it comes from an environment variable, that one is empty")
    if not address.lower().startswith(_WITH_HOST) or VARIABLE.search(address):  # of a node, not known here
        return
    try:
        parts = urlsplit(address)
        port, host = parts.port, parts.hostname
    except ValueError:
        raise ValueError("has a malformed host or port, as in rtsp://user:password@host:554/path") from None
    if not host or port == 0:
        raise ValueError("has no host or port, as in rtsp://user:password@host:554/path")


def expand(text: str, env: Mapping[str, str]) -> str:
    """The text with every `${NAME}` replaced by the variable of that name, percent-encoded in user information.

    A variable that is all of the user information may hold `user:password`. Names that are not in `env` are left.
    """
    found = _SCHEME.match(text)
    start = found.end() if found is not None and found[0].endswith("://") else 0
    length = _user_info_end(text[start:]) if start else None
    if length is None and start and "@" in text[start:]:  # `rtsp://${LOGIN}@host` has no colon of its own
        length = re.split(r"[/?#]", text[start:], maxsplit=1)[0].rfind("@")
    if length is None or length < 0:
        return VARIABLE.sub(lambda match: env.get(match[1], match[0]), text)
    end = start + length
    info = text[start:end]
    alone = VARIABLE.fullmatch(info)
    if alone is not None and alone[1] in env:
        user, colon, password = env[alone[1]].partition(":")
        info = f"{_encoded(user)}{colon}{_encoded(password)}"
    else:
        info = VARIABLE.sub(lambda match: _encoded(env[match[1]]) if match[1] in env else match[0], info)
    rest = VARIABLE.sub(lambda match: env.get(match[1], match[0]), text[end:])
    return f"{text[:start]}{info}{rest}"


def expand_argument(text: str, env: Mapping[str, str]) -> str:
    """As `expand`, for an address on the command line.

    Raises:
        UsageError: a variable is not set.
    """
    for name in VARIABLE.findall(text):
        if name not in env:
            raise UsageError(f"{mask_address(text)}: the environment variable {name} is not set")
    return expand(text, env)


def local_path(uri: str) -> Path | None:
    """The file that a source address names, if it is one of this machine: a path, `file://` or `file:`."""
    if uri.lower().startswith("file:"):
        try:
            return Path(url2pathname(urlsplit(uri).path))
        except ValueError:
            return None
    if "://" in uri or uri.startswith("sample:") or uri.isdigit():
        return None
    return Path(uri).expanduser()


def _is_encoded(part: str) -> bool:
    return _ENCODED.fullmatch(part) is not None


def _encoded(part: str) -> str:
    return part if _is_encoded(part) else quote(part, safe="")


def _decoded(part: str) -> str:
    return unquote(part) if _is_encoded(part) else part
