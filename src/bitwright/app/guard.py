"""Who may talk to the app: only this machine's own pages, with the token that the terminal printed.

The app opens files of the person who runs it.  Other programs' pages in the same browser must not reach it: neither by a
form (``Origin``), nor by a name that they made point here (``Host``), nor by guessing (token).  What it sends holds names
from files that nobody checked, so that no script and no style but the app's own files may run (``Content-Security-Policy``).
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from html import escape
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlencode

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

LARGEST_FORM = 1 << 20
LARGEST_UPLOAD = 2 << 30

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Mapping[str, str] = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}
SAFE = {"GET", "HEAD"}


class TooLarge(Exception):
    """A request is larger than it may be."""


@dataclass(frozen=True)
class Guard:
    """Wraps an ASGI application.

    Attributes:
        app: The application.
        token: What a browser must show.
        port: Where it is served, for the names that it may be called by.
        uploads: Path suffixes that may be as large as a network.
    """

    app: App
    token: str
    port: int
    uploads: tuple[str, ...] = ("/upload",)

    @property
    def hosts(self) -> frozenset[str]:
        """What may stand in ``Host``."""
        return frozenset(f"{name}:{self.port}" for name in ("127.0.0.1", "localhost", "[::1]"))

    @property
    def cookie(self) -> str:
        """The cookie's name; browsers share cookies between ports."""
        return f"bitwright-{self.port}"

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request, or say why not."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            elif scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await _answer(send, *refusal)
            return
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        shown = [value for name, value in query if name == "token"]
        if shown and self._is_token(shown[0]):
            await self._let_in(scope, query, send)
            return
        if not self._is_token(self._cookie_of(headers)):
            await _answer(send, 403, "Open the address that `bitwright app` printed: it holds the key to this page.")
            return
        largest = LARGEST_UPLOAD if str(scope["path"]).endswith(self.uploads) else LARGEST_FORM
        try:
            if int(headers.get("content-length", "0") or 0) > largest:
                raise TooLarge
            await self.app(scope, _counted(receive, largest), _with_headers(send))
        except (TooLarge, ValueError):
            await _answer(send, 413, f"This request is larger than {largest >> 20} MiB, the most that the app takes.")

    def _refusal(self, scope: Message, headers: Mapping[str, str]) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if host not in self.hosts:
            return 421, "This app answers to 127.0.0.1 and localhost only."
        if scope["method"] not in SAFE and headers.get("origin") != f"http://{host}":
            return 403, "Only the app's own pages may ask for changes."
        if headers.get("sec-fetch-site", "none") not in {"same-origin", "none"} and (
            scope["method"] not in SAFE or headers.get("sec-fetch-mode") != "navigate"
        ):
            return 403, "Only the app's own pages may ask for this."
        return None

    def _is_token(self, text: str) -> bool:
        return hmac.compare_digest(text.encode("utf-8", "surrogateescape"), self.token.encode())

    def _cookie_of(self, headers: Mapping[str, str]) -> str:
        try:
            jar = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            return ""
        found = jar.get(self.cookie)
        return found.value if found is not None else ""

    async def _let_in(self, scope: Message, query: list[tuple[str, str]], send: Send) -> None:
        """Keep the token in a cookie and leave it out of the address, where it would be copied and logged.

        A page that goes on by itself instead of a redirect: a browser that came from elsewhere sends strict cookies
        only from then on.
        """
        rest = urlencode([(name, value) for name, value in query if name != "token"])
        path = str(scope.get("raw_path", b"/").decode("latin-1").partition("?")[0])
        address = ("/" + path.lstrip("/")) + (f"?{rest}" if rest else "")
        cookie = f"{self.cookie}={self.token}; Path=/; HttpOnly; SameSite=Strict"
        page = (
            '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>bitwright</title><link rel="icon" href="data:,">'
            f'<meta http-equiv="refresh" content="0;url={escape(address, quote=True)}"></head>'
            f'<body><p><a href="{escape(address, quote=True)}">Go on to bitwright</a></p></body></html>'
        )
        await _answer(send, 200, page, html=True, extra={"set-cookie": cookie})


async def _answer(
    send: Send, status: int, text: str, *, html: bool = False, extra: Mapping[str, str] | None = None
) -> None:
    body = text.encode()
    kind = "text/html; charset=utf-8" if html else "text/plain; charset=utf-8"
    named = {**HEADERS, "content-type": kind, "content-length": str(len(body)), **(extra or {})}
    headers = [(name.encode(), value.encode("latin-1")) for name, value in named.items()]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _counted(receive: Receive, largest: int) -> Receive:
    """``receive`` that stops where a body is larger than it said."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > largest:
            raise TooLarge
        return message

    return counted


def _with_headers(send: Send) -> Send:
    """``send`` that adds the headers that an answer does not set itself."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = {bytes(name).lower() for name, _ in message["headers"]}
            more = [(k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in own]
            message = {**message, "headers": [*message["headers"], *more]}
        await send(message)

    return sending
