"""Serving over HTTP: who may connect, how much and how often.

Loopback needs no token, every other address does. FastMCP's guard checks the `Host` and `Origin` headers (a web page
must not reach a local server by DNS rebinding); the two middlewares here limit the size of a body and the rate of
requests, each before anything is parsed.
"""

import hmac
import logging
import socket
import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from fastmcp import FastMCP
from fastmcp.server.auth import AccessToken, TokenVerifier
from pydantic import BaseModel, ConfigDict, Field
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..skills_bank.errors import InputError

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from .watch import LiveBank

logger = logging.getLogger(__name__)

MAX_CLIENTS = 10_000
"""Buckets kept at most; the one not seen for longest goes first."""


class HttpLimits(BaseModel):
    """Limits of the HTTP transport."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_body_bytes: int = Field(default=262_144, ge=1, description="Larger request bodies are answered with 413.")
    requests_per_minute: int = Field(default=240, ge=1, description="Sustained rate of one client address.")

    @property
    def burst(self) -> int:
        """Requests a client may send at once before the rate applies: a quarter of a minute's."""
        return max(1, self.requests_per_minute // 4)


class OneToken(TokenVerifier):
    """Accepts one bearer token, compared in constant time."""

    def __init__(self, token: str) -> None:
        super().__init__()
        self._token = token.encode()

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return the access that `token` gives, or None."""
        if not hmac.compare_digest(token.encode(), self._token):
            return None
        return AccessToken(token=token, client_id="esc-skills", scopes=[])


class BodyLimit:
    """Answers 413 to a request body over the limit, whether its length is announced or not."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = _header(scope, b"content-length")
        if length is not None and (not length.isdigit() or int(length) > self._max):
            await self._refuse(scope, receive, send)
            return
        chunks: list[Message] = []
        size = 0
        while True:
            message = await receive()
            chunks.append(message)
            size += len(message.get("body", b""))
            if size > self._max:
                await self._refuse(scope, receive, send)
                return
            if message["type"] != "http.request" or not message.get("more_body", False):
                break

        async def replay() -> Message:
            return chunks.pop(0) if chunks else await receive()

        await self._app(scope, replay, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = _error(413, f"The request body is larger than {self._max:,} bytes. Send a shorter conversation.")
        await response(scope, receive, send)


class RateLimit:
    """A token bucket for each client address: `burst` requests at once, then `rate` a second; over it, 429."""

    def __init__(
        self, app: ASGIApp, rate: float, burst: int, clock: Callable[[], float] = time.monotonic, free: str = "/health"
    ) -> None:
        self._app = app
        self._rate, self._burst, self._clock, self._free = rate, burst, clock, free
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 429 with the time to wait."""
        if scope["type"] != "http" or scope["path"] == self._free:
            await self._app(scope, receive, send)
            return
        wait = self.take((scope.get("client") or ("unknown", 0))[0])
        if wait > 0:
            response = _error(429, "Too many requests. Wait as long as Retry-After says, then try again.")
            response.headers["Retry-After"] = str(max(1, round(wait)))
            await response(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def take(self, client: str) -> float:
        """Take one token of `client`; return 0, or the seconds until there is one."""
        now = self._clock()
        tokens, seen = self._buckets.pop(client, (float(self._burst), now))
        tokens = min(self._burst, tokens + (now - seen) * self._rate)
        allowed = tokens >= 1
        self._buckets[client] = (tokens - 1 if allowed else tokens, now)
        while len(self._buckets) > MAX_CLIENTS:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (1 - tokens) / self._rate


def is_loopback(host: str) -> bool:
    """Whether `host` can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_binding(host: str, token: str | None) -> None:
    """Refuse to serve a network without a token.

    Raises:
        InputError: `host` is not loopback and there is no token, or the token is too short to be one.
    """
    if token is not None and len(token) < 16:
        raise InputError(
            "ESC_TOKEN is shorter than 16 characters. Make one with: python -c 'import secrets; "
            "print(secrets.token_urlsafe(32))'"
        )
    if token is None and not is_loopback(host):
        raise InputError(
            f"Refusing to serve on {host!r} without a token: anyone who reaches the address could read and roll back "
            "the bank. Set ESC_TOKEN (at least 16 characters), or serve on 127.0.0.1."
        )


def http_app(
    mcp: FastMCP,
    live: "LiveBank",
    *,
    host: str = "127.0.0.1",
    token: str | None = None,
    allowed_hosts: list[str] | None = None,
    limits: HttpLimits | None = None,
) -> "Starlette":
    """Return the ASGI app that serves `mcp` at `/mcp` and a health check at `/health`.

    Sessions and SSE streams are kept (not `stateless_http`, not `json_response`): they carry `list_changed` to clients.

    Raises:
        InputError: See `check_binding`.
    """
    check_binding(host, token)
    limits = limits or HttpLimits()
    mcp.auth = OneToken(token) if token is not None else None
    _add_health(mcp, live, detailed=token is None)
    return mcp.http_app(
        path="/mcp",
        transport="http",
        stateless_http=False,
        json_response=False,
        host_origin_protection=True,
        allowed_hosts=allowed_hosts,
        middleware=[
            Middleware(RateLimit, rate=limits.requests_per_minute / 60, burst=limits.burst),
            Middleware(BodyLimit, max_bytes=limits.max_body_bytes),
        ],
    )


def run_http(app: "Starlette", host: str, port: int, *, with_token: bool, log_level: str = "WARNING") -> None:
    """Bind, say on stdout how to connect, and serve until interrupted. Port 0 takes a free one.

    Raises:
        InputError: The address cannot be bound.
    """
    import uvicorn

    from .hosts import instructions

    listener = _bind(host, port)
    address = f"[{host}]" if ":" in host else host
    print(instructions(f"http://{address}:{listener.getsockname()[1]}/mcp", with_token), flush=True)
    config = uvicorn.Config(
        app, log_level=log_level.lower(), access_log=False, timeout_graceful_shutdown=2, lifespan="on"
    )
    uvicorn.Server(config).run(sockets=[listener])


def _bind(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise InputError(
            f"Cannot serve on {host}:{port}: {error.strerror}. "
            "Pass another port (`make serve PORT=8766`, `--port 8766`)."
        ) from error
    return listener


def _add_health(mcp: FastMCP, live: "LiveBank", detailed: bool) -> None:
    """Add `/health`: 200 when answers can be given, 503 while loading or after a failed load; no token needed.

    The details are left out where a token protects the rest.
    """

    async def health(request: Request) -> JSONResponse:
        status = live.status()
        body: dict[str, Any] = {"status": status}
        view = live.peek()
        if detailed and view is not None:
            body |= {"bank_version": view.bank.version, "skills": len(view.bank.skills), "problems": len(view.problems)}
        return JSONResponse(body, status_code=200 if status == "ok" else 503)

    mcp.custom_route("/health", methods=["GET"])(health)


def _header(scope: Scope, name: bytes) -> str | None:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), None)


def _error(status: int, message: str) -> JSONResponse:
    return JSONResponse({"error": message}, status_code=status)
