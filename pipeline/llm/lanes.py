"""An HTTP transport with one connection a lane, so that the cost of a request does not grow with those beside it.

Imported on use, as the SDK is: it brings httpx2.
"""

import socket
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx2


class Lanes(httpx2.AsyncBaseTransport):
    """Free lanes as a stack, to one server.

    The pool of httpx2 looks at every idle connection before each request, a system call each: at 64 connections that
    was a third of all CPU spent on a call. A lane is a pool of one connection; a request takes the lane used last.
    """

    def __init__(self, base_url: str) -> None:
        self._free: list[httpx2.AsyncHTTPTransport] = []
        self._all: list[httpx2.AsyncHTTPTransport] = []
        self._tls = httpx2.create_ssl_context()
        self._proxy = proxy_for(base_url)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send the request and read the whole answer."""
        lane = self._free.pop() if self._free else self._open()
        try:
            response = await lane.handle_async_request(request)
            # Read to the end, so that the connection is free when the lane is.
            await response.aread()
        finally:
            self._free.append(lane)
        return response

    async def aclose(self) -> None:
        """Close every connection."""
        for lane in self._all:
            await lane.aclose()

    def _open(self) -> httpx2.AsyncHTTPTransport:
        lane = httpx2.AsyncHTTPTransport(
            verify=self._tls,
            proxy=self._proxy,
            limits=httpx2.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=30),
            # A long answer keeps a connection silent for minutes; routers drop those that do not show signs of life.
            socket_options=[(socket.SOL_SOCKET, socket.SO_KEEPALIVE, True)],
        )
        self._all.append(lane)
        return lane


def proxy_for(base_url: str) -> str | None:
    """Return the proxy that the environment names for a server, as httpx2 itself would use it."""
    url = urlsplit(base_url)
    if proxy_bypass(url.hostname or ""):
        return None
    proxies = getproxies()
    return proxies.get(url.scheme) or proxies.get("all")
