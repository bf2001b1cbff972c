"""Telling clients that the bank has changed, in both protocol eras.

Modern clients open a `subscriptions/listen` stream; FastMCP 4.1 does not serve it, so the SDK's handler is registered
on its low-level server. Legacy clients get the notification on their session. Both use attributes FastMCP does not
promise: the dependency is capped at `fastmcp<5` and `tests/server/test_reload.py` covers both.
"""

import logging
from collections.abc import Iterable
from typing import Any

from fastmcp import FastMCP
from fastmcp.server.middleware import CallNext, Middleware, MiddlewareContext
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ResourcesListChanged, ResourceUpdated
from mcp_types import SubscriptionsListenRequestParams

logger = logging.getLogger(__name__)


class Notifier(Middleware):
    """Remembers who listens and tells them. Register it as middleware, then call `serve`."""

    def __init__(self) -> None:
        self._bus = InMemorySubscriptionBus()
        self._handler = ListenHandler(self._bus)
        self._legacy: set[Any] = set()

    def serve(self, mcp: FastMCP) -> None:
        """Answer `subscriptions/listen` on `mcp`."""
        mcp._mcp_server.add_request_handler("subscriptions/listen", SubscriptionsListenRequestParams, self._handler)

    async def on_initialize(self, context: MiddlewareContext[Any], call_next: CallNext[Any, Any]) -> Any:
        """Remember the session of a legacy client; modern clients never initialize."""
        result = await call_next(context)
        if context.fastmcp_context is not None:
            session = context.fastmcp_context.session
            self._legacy.add(session)
            session._connection.exit_stack.callback(self._legacy.discard, session)
        return result

    async def resources_changed(self, updated: Iterable[str] = ()) -> None:
        """Tell every client that the list of resources has changed, and modern ones which resources did."""
        await self._bus.publish(ResourcesListChanged())
        for uri in updated:
            await self._bus.publish(ResourceUpdated(uri=uri))
        for session in list(self._legacy):
            try:
                await session.send_resource_list_changed()
            except Exception as error:  # a client that has gone must not keep the others from hearing
                logger.debug("a client could not be notified: %s", type(error).__name__)
                self._legacy.discard(session)

    def close(self) -> None:
        """End the open listen streams in the protocol's orderly way."""
        self._handler.close()
