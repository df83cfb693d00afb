"""Model files behind an https address: resumed after a cut connection, refused when they are a web page.

`STREAMKP_MIRROR` takes the place of `https://` in every address: with `STREAMKP_MIRROR=https://mirror.local/models`,
`https://host.org/a/b.pth?x=1` is fetched from `https://mirror.local/models/host.org/a/b.pth?x=1`. A mirror may speak
plain http on the loopback interface only. Proxies come from the environment, as for `urllib`.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import json
import os
import ssl
import threading
import urllib.error
import urllib.request
from email.message import Message
from importlib.metadata import version
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from streamkp.errors import ModelError
from streamkp.hub.cancel import PullInterruptedError
from streamkp.hub.progress import Advance

MAX_BYTES = 4 << 30
_CHUNK = 1 << 18
_ATTEMPTS = 5
_BACKOFF_S = 0.5


class _CutError(Exception):
    """The connection broke; what has arrived is kept and the rest asked for again."""


def effective_url(url: str) -> str:
    """The address that will be asked: `url`, or its place on the mirror. Raises `ModelError` for a bad mirror."""
    mirror = os.environ.get("STREAMKP_MIRROR", "").rstrip("/")
    if not mirror:
        return url
    parts = urlsplit(mirror)
    if parts.username or parts.password:
        raise ModelError("STREAMKP_MIRROR must not hold a user name or password")
    _require_safe(mirror, "STREAMKP_MIRROR")
    return f"{mirror}/{url.removeprefix('https://')}"


def download(
    url: str,
    part: Path,
    *,
    stop: threading.Event,
    advance: Advance,
    timeout: float = 30.0,
    max_bytes: int = MAX_BYTES,
) -> None:
    """Bring the file at `url` into `part`, going on where an earlier attempt ended.

    A part that is there already is continued only if the server still has the same file (by ETag or date, kept in a
    `.json` beside the part); otherwise it starts anew. `advance` is told the bytes on disk so far and in all;
    `timeout` is for each wait on the network, in seconds. Raises `ModelError` for everything that a retry cannot
    cure, or that several retries did not; `PullInterruptedError` when `stop` is set. The part then stays for the
    next time.
    """
    source = effective_url(url)
    _require_safe(source, "the address")
    stalled = 0
    while True:
        before = _length(part)
        try:
            _attempt(source, part, stop, advance, timeout, max_bytes)
        except _CutError as cut:
            stalled = 0 if _length(part) > before else stalled + 1
            if stalled == _ATTEMPTS:
                raise ModelError(f"{_shown(source)}: {cut}, {_ATTEMPTS} times in a row") from None
            if stop.wait(_BACKOFF_S * stalled):
                raise PullInterruptedError(f"interrupted while downloading {_shown(source)}") from None
        else:
            _validator_file(part).unlink(missing_ok=True)
            return


def _attempt(url: str, part: Path, stop: threading.Event, advance: Advance, timeout: float, max_bytes: int) -> None:
    headers = {"User-Agent": f"streamkp/{version('streamkp')}", "Accept-Encoding": "identity"}
    request = urllib.request.Request(url, headers=headers)
    validator = _read_validator(part)
    have = _length(part) if validator else 0
    if validator and have:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", validator)
    try:
        response = urllib.request.build_opener(_SafeRedirects).open(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # the part is longer than the file: it cannot be this file's beginning
            part.unlink(missing_ok=True)
            raise _CutError("the server cannot continue the download") from None
        if error.code >= 500 or error.code == 429:
            raise _CutError(f"the server answered {error.code} {error.reason}") from None
        raise ModelError(f"{_shown(url)}: the server answered {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise ModelError(f"{_shown(url)}: its certificate is not valid: {error.reason.verify_message}") from None
        raise _CutError(_reason(error.reason)) from None
    except (http.client.HTTPException, OSError) as error:
        raise _CutError(_reason(error)) from None
    with contextlib.closing(response):
        if response.headers.get_content_type() == "text/html":
            raise _web_page(response)
        have = have if _continues(response, have) else 0
        expected = _announced(response.headers, have)
        if expected is not None and expected > max_bytes:
            raise ModelError(f"{_shown(url)}: {expected:,} bytes is more than the limit of {max_bytes:,}")
        _keep_validator(part, response.headers)
        with part.open("r+b" if have else "wb") as sink:
            sink.seek(have)
            sink.truncate()
            _receive(response, sink, have, url, stop, advance, max_bytes, expected)
    if expected is not None and _length(part) != expected:
        raise _CutError(f"the connection ended after {_length(part):,} of {expected:,} bytes")


def _receive(
    response: http.client.HTTPResponse,
    sink: IO[bytes],
    have: int,
    url: str,
    stop: threading.Event,
    advance: Advance,
    max_bytes: int,
    expected: int | None,
) -> None:
    while True:
        if stop.is_set():
            raise PullInterruptedError(f"interrupted while downloading {_shown(url)}")
        try:
            chunk = response.read1(_CHUNK)
        except (http.client.HTTPException, OSError) as error:
            raise _CutError(_reason(error)) from None
        if not chunk:
            return
        if have == 0 and looks_like_html(chunk):
            raise _web_page(response)
        have += len(chunk)
        if have > max_bytes:
            raise ModelError(f"{_shown(url)}: more than the limit of {max_bytes:,} bytes")
        sink.write(chunk)
        advance(have, expected)


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        from_here = urlsplit(req.full_url).scheme == "http"  # only a mirror on this machine may name another such
        _require_safe(newurl, f"{_shown(req.full_url)} redirects to an address that", loopback=from_here)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _require_safe(url: str, what: str, *, loopback: bool = True) -> None:
    parts = urlsplit(url)
    if parts.scheme == "https" and parts.hostname:
        return
    if loopback and parts.scheme == "http" and _is_loopback(parts.hostname or ""):
        return
    raise ModelError(f"{what} must start with https:// (http:// only to this machine), not {_shown(url)!r}")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _continues(response: http.client.HTTPResponse, have: int) -> bool:
    if response.status != 206 or not have:
        return False
    return response.headers.get("Content-Range", "").startswith(f"bytes {have}-")


def _announced(headers: Message, have: int) -> int | None:
    try:
        return have + int(headers["Content-Length"])
    except (TypeError, ValueError):
        return None


def looks_like_html(start: bytes) -> bool:
    """Whether a file that begins like this is a web page."""
    return start.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html"))


def _web_page(response: http.client.HTTPResponse) -> ModelError:
    return ModelError(
        f"{_shown(response.geturl())}: the server sent a web page, not a file "
        "(a login or captive portal, or the file has moved)"
    )


def _validator_file(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_validator(part: Path) -> str | None:
    try:
        validator = json.loads(_validator_file(part).read_text("utf-8"))["validator"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return validator if isinstance(validator, str) else None


def _keep_validator(part: Path, headers: Message) -> None:
    etag = headers.get("ETag", "")
    validator = etag if etag.startswith('"') else headers.get("Last-Modified")  # a weak ETag cannot vouch for bytes
    if validator:
        _validator_file(part).write_text(json.dumps({"validator": validator}), "utf-8")
    else:
        _validator_file(part).unlink(missing_ok=True)


def _length(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _reason(error: object) -> str:
    if isinstance(error, TimeoutError):
        return "the server did not answer in time"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _shown(url: str) -> str:
    """The address without what may be secret: user, password and query."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host}{port}{parts.path}"
