"""The server: tools, resources, prompt and notifications over one live bank."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from fastmcp import FastMCP
from fastmcp.exceptions import ToolError, ValidationError
from fastmcp.server.middleware import CallNext, Middleware, MiddlewareContext
from fastmcp.skills.extension import SkillsExtension
from pydantic import ValidationError as PydanticValidationError

from .catalog import BankProvider
from .evolution import add_evolution
from .jobs import add_job_tools
from .notify import Notifier
from .resources import add_prompts, add_resources
from .tools import add_tools
from .uris import MANIFEST, skill_uri

if TYPE_CHECKING:
    from .watch import LiveBank, View

NAME = "esc-skills"

INSTRUCTIONS = """\
Emotional-support skills learnt from labelled dialogues. Before each reply to a person in distress call `select_skill`
with the talk so far. Read `risk` first: at level "high" no skill comes, follow `risk.guidance`, say `risk.say` and
bring in a human; at "elevated" the safety check comes first until it is `asked`. Then follow `next_actions` of the
first skill in your own words and mind its `pitfall`. `read_skill` gives a skill in full. These skills are no
treatment, and this server is no clinical device."""


def create_server(live: "LiveBank") -> FastMCP:
    """Return a server that answers from `live`. Nothing is read from disk or the environment here."""
    notifier = Notifier()

    @asynccontextmanager
    async def lifespan(server: FastMCP) -> AsyncIterator[None]:
        async def tell(before: "View", after: "View") -> None:
            await notifier.resources_changed([MANIFEST, *map(skill_uri, after.changed_since(before))])

        async with live.running(on_change=tell):
            yield
        notifier.close()

    mcp = FastMCP(
        NAME,
        instructions=INSTRUCTIONS,
        version=version(NAME),
        mask_error_details=True,
        lifespan=lifespan,
        middleware=[LoadAfterFirst(live), PlainErrors(), notifier],
    )
    notifier.serve(mcp)
    provider = BankProvider(live)
    mcp.add_provider(provider)
    mcp.add_extension(SkillsExtension(providers=[provider]))
    add_tools(mcp, live)
    add_job_tools(mcp, live)
    add_evolution(mcp, live)
    add_resources(mcp, live)
    add_prompts(mcp, live)
    return mcp


class LoadAfterFirst(Middleware):
    """Starts loading the bank once the client's first message is answered."""

    def __init__(self, live: "LiveBank") -> None:
        self._live = live

    async def on_message(self, context: MiddlewareContext[Any], call_next: CallNext[Any, Any]) -> Any:
        """Answer, then see to it that the bank is being loaded."""
        try:
            return await call_next(context)
        finally:
            self._live.start_soon()


class PlainErrors(Middleware):
    """Says in one line which argument of a tool call is wrong, without repeating what was passed."""

    async def on_call_tool(self, context: MiddlewareContext[Any], call_next: CallNext[Any, Any]) -> Any:
        """Run the call; turn pydantic's report on the arguments into a sentence."""
        try:
            return await call_next(context)
        except ValidationError as error:
            cause = error.__cause__
            if not isinstance(cause, PydanticValidationError):
                raise
            raise ToolError(f"Arguments of {context.message.name}: {describe(cause)}", log_level=logging.INFO) from None


def describe(error: PydanticValidationError) -> str:
    """Return the faults as 'field: message', joined."""
    faults = error.errors(include_input=False, include_url=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, fault['loc'])) or 'arguments'}: {fault['msg']}" for fault in faults)
