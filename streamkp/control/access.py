"""Access to the HTTP servers: tokens, host names and origins."""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from streamkp.errors import UsageError

MIN_TOKEN = 16
"""Characters a token needs where others than this machine can try one."""

_READING = {"GET", "HEAD", "OPTIONS"}
_SCHEME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 7235: a token

HEADERS = {
    # blob: is what the page itself has made: textures of an avatar, and the files that it saves.
    "Content-Security-Policy": "default-src 'self'; connect-src 'self' blob:; img-src 'self' blob:; "
    "media-src 'self' blob:; object-src 'none'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",  # the token may be in the address
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def is_loopback(host: str) -> bool:
    """Whether that name or address is this machine only."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def check_binding(name: str, host: str, token: str | None, insecure: bool) -> None:
    """Refuse to listen beyond this machine without protection.

    Args:
        name: the stage or option to name in the message.
        host: address to listen on.
        token: the secret that clients must show, if any.
        insecure: the user has said that no protection is wanted.

    Raises:
        UsageError: there is no token, or one that can be guessed.
    """
    if is_loopback(host):
        return
    if token is None and not insecure:
        raise UsageError(
            f"{name}: listening on {host} lets everyone on the network watch; "
            "set `token`, or `insecure: true` if that is what you want"
        )
    if token is not None and len(token) < MIN_TOKEN:
        raise UsageError(
            f"{name}: the token has {len(token)} characters; on {host} others can try one, so it needs at least "
            f"{MIN_TOKEN}: openssl rand -hex 16"
        )


@dataclass(frozen=True)
class Access:
    """Checks each request before its handler runs.

    Without a token, the Host header must be an IP address, `localhost` or one of `hosts`: a page of another site
    cannot reach the server by pointing a name of its own at this machine (DNS rebinding), since that name is then
    what the browser sends. Pages of other sites may connect only if their origin is listed.

    Args:
        token: the secret for everything but `public`; None lets everybody ask.
        local: only this machine can connect, so any other address in the Host header is refused too.
        hosts: further names that the Host header may have.
        origins: other sites whose pages may connect, such as `https://example.org`.
        public: paths that need no token; one that ends with `/` stands for all below it.
    """

    token: str | None = None
    local: bool = True
    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()
    public: Collection[str] = ("/healthz",)

    def check(self, request: web.Request) -> None:
        """Raise the HTTP error that this request deserves, if any: 400, 401 or 403."""
        host = _host_of(request.headers.get("Host", ""), "Host")
        given = _given_token(request)
        if self.token is None and not self._host_allowed(host):
            raise web.HTTPForbidden(text=f"The name {host!r} is not served here; list it in `allowed_hosts`.\n")
        origin = request.headers.get("Origin")
        if origin is not None and origin not in self.origins:
            if origin != "null":
                _host_of(origin.partition("://")[2], "Origin")
            if origin.partition("://")[2].lower() != request.headers.get("Host", "").lower():
                raise web.HTTPForbidden(text="Pages of other sites may not connect; allow them with `origins`.\n")
        if self.token is None and request.method not in _READING and not is_loopback(request.remote or ""):
            raise web.HTTPForbidden(
                text="Without a token only this machine may change anything; set `token` to let others.\n"
            )
        if self.token is not None and not self._is_public(request.path) and not _same(given, self.token):
            raise web.HTTPUnauthorized(
                text="A token is needed: `Authorization: Bearer TOKEN`, or ?token=TOKEN.\n",
                headers={"WWW-Authenticate": "Bearer"},
            )

    def _host_allowed(self, host: str) -> bool:
        if host in self.hosts or is_loopback(host):
            return True
        return not self.local and _is_address(host)

    def _is_public(self, path: str) -> bool:
        return any(
            path == each or (len(each) > 1 and each.endswith("/") and path.startswith(each)) for each in self.public
        )

    def middleware(self) -> Middleware:
        """An aiohttp middleware that checks every request and adds the security headers to every answer."""

        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            try:
                self.check(request)
                response = await handler(request)
            except web.HTTPException as error:
                _add_headers(error)
                raise
            if not response.prepared:
                _add_headers(response)
            return response

        return guard


def _host_of(authority: str, header: str) -> str:
    """The host in `host:port`, lower case; 400 for what is none."""
    try:
        parts = urlsplit(f"//{authority}")
        parts.port  # noqa: B018 - raises for what is no port
        host = parts.hostname
    except ValueError:
        host = None
    if not host or parts.path or parts.query:
        raise web.HTTPBadRequest(text=f"The header {header} is malformed.\n")
    return host


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _given_token(request: web.Request) -> str:
    """The token of the header, else of the query, else nothing; 400 for a header that is none."""
    header = request.headers.get("Authorization")
    if header is None:
        return request.query.get("token", "")
    kind, _, given = header.strip().partition(" ")
    try:
        given.encode()
    except UnicodeEncodeError:  # bytes that are not UTF-8
        kind = ""
    if not _SCHEME.fullmatch(kind) or not given.strip():
        raise web.HTTPBadRequest(text="The header Authorization is malformed: write `Bearer TOKEN`.\n")
    return given.strip() if kind.lower() == "bearer" else request.query.get("token", "")


def _same(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), token.encode())


def _add_headers(response: web.StreamResponse) -> None:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
