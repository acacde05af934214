"""Who may ask for what: host names, security headers, and the token that changes need.

The page has no login: it trusts who reaches its address. Against other web pages in the same browser: a name
that somebody else's DNS points here is refused (``Hosts``), no frame may hold the page, and a change needs a
token in a header that no form can send.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MIN_TOKEN = 16
"""The fewest characters of a token; shorter ones could be guessed."""

HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class Hosts:
    """The names by which the page may be asked for: every IP address, localhost, and ``names``.

    An address in the header ``Host`` was asked for as an address; only a name can be pointed elsewhere.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names = {"localhost", *(name.lower() for name in names)}

    def allow(self, host: str) -> bool:
        """Whether a header ``Host`` (name or address, with or without port) names this page."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name in self._names or _is_address(name)


class Guard:
    """Middleware: refuses foreign hosts, and adds the security headers to every answer."""

    def __init__(self, app: ASGIApp, hosts: Hosts) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        host = Headers(scope=scope).get("host", "")
        app: ASGIApp = self._app if self._hosts.allow(host) else _WRONG_HOST
        await app(scope, receive, send_guarded)


_WRONG_HOST = PlainTextResponse(
    "This page is not served under that name. Use its address, or give gearsync dashboard --host-name.\n",
    status_code=421,
)


class Changes:
    """Whether letters may be retried and dropped: not at all without a token."""

    def __init__(self, token: str | None) -> None:
        self._token = token

    @property
    def allowed(self) -> bool:
        """Whether the server was started so."""
        return self._token is not None

    def refusal(self, headers: Headers) -> tuple[int, str] | None:
        """Return the status and the sentence of a refusal; None: the request may change things."""
        if self._token is None:
            return 403, "This page is read-only: gearsync dashboard runs without --allow-changes."
        if not _is_of_this_page(headers):
            return 403, "The request came from another page."
        given = headers.get("authorization", "").encode("latin-1", "replace")
        if not hmac.compare_digest(given, b"Bearer " + self._token.encode()):
            return 401, "The token is not the one that gearsync dashboard was started with."
        return None


def _is_of_this_page(headers: Headers) -> bool:
    origin = headers.get("origin")
    is_same = origin is None or urlsplit(origin).netloc == headers.get("host")
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    return (
        is_same
        and headers.get("sec-fetch-site", "same-origin") == "same-origin"
        and kind == "application/json"
    )


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address to listen on."""
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)
