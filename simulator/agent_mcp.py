"""Skills over the real protocol: a server of its own is started over stdio and asked through its tools.

Whoever takes skills from here (the local agent or the model) does what it would do with the bank in its own process,
so a run by `mcp` and one by `bank` must come out the same; a test holds them against each other.
"""

import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..skills_bank.errors import EscError
from ..skills_bank.models import Message
from ..skills_bank.results import Selection
from .sources import SKILLS, BankRef

if TYPE_CHECKING:
    from fastmcp import Client

SERVE = ("-m", "esc_skills.server", "serve")


class McpSource:
    """A `SkillSource` that calls the tools of a connected client."""

    def __init__(self, client: "Client[Any]") -> None:
        """Take a connected client."""
        self._client = client

    async def select(self, talk: Sequence[Message]) -> Selection:
        """Call `select_skill`."""
        messages = [{"role": message.role, "content": message.content} for message in talk]
        answer = await self._call("select_skill", messages=messages, k=SKILLS)
        # They stand in `risk.say` as well, and the wire leaves out of them for what each line is.
        answer["risk"]["helplines"] = []
        return Selection.model_validate_json(json.dumps(answer))

    async def text(self, name: str) -> str:
        """Call `read_skill`."""
        return (await self._call("read_skill", name=name))["text"]

    async def _call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        from fastmcp.exceptions import ToolError

        try:
            result = await self._client.call_tool(tool, arguments)
        except ToolError as error:
            raise EscError(f"The server's tool {tool} failed: {error}") from error
        if not isinstance(result.structured_content, dict):
            raise EscError(f"The server's tool {tool} gave no structured answer; is it esc-skills?")
        return result.structured_content


@asynccontextmanager
async def open_mcp_source(ref: BankRef, command: Sequence[str] = ()) -> AsyncIterator[McpSource]:
    """Start a server on a bank and connect to it.

    Args:
        ref: The bank; its folder is served as it is.
        command: What starts the server; default: `serve` of this installation.

    Raises:
        EscError: The server answers from another bank.
    """
    from fastmcp import Client
    from fastmcp.client.transports import StdioTransport

    program, *arguments = command or (sys.executable, *SERVE)
    transport = StdioTransport(program, list(arguments), env=_environment(ref.folder))
    async with Client(transport) as client:
        source = McpSource(client)
        served = (await source.select([Message(role="seeker", content="Hello")])).bank_version
        if served != ref.version:
            raise EscError(f"The server answers from bank {served}, the run is about {ref.version}.")
        yield source


def _environment(folder: Path) -> dict[str, str]:
    """Return this process's environment with the bank set and nothing watched: it does not change during a run."""
    return {**os.environ, "ESC_BANK_DIR": str(folder), "ESC_WATCH": "false", "ESC_LOG_LEVEL": "ERROR"}
