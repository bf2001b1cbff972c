"""How to connect a host: the configuration blocks that `esc-skills serve` prints."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

PASSED_ON = ("ESC_BANK_DIR", "ESC_REGION", "ESC_HELPLINES", "ESC_MIN_SCORE")
"""Settings a host must hand to the server itself: stdio clients pass only HOME, PATH and a few others on."""


def command() -> str:
    """Return the absolute path of the `esc-skills` command of this installation."""
    beside = Path(sys.executable).with_name("esc-skills")
    return str(beside if beside.is_file() else Path(sys.argv[0]).resolve())


def mcp_servers(environment: Mapping[str, str] = os.environ) -> dict[str, object]:
    """Return the `mcpServers` block for hosts that start the server themselves: Claude Desktop, `.mcp.json`."""
    entry: dict[str, object] = {"command": command(), "args": ["serve"]}
    env = {name: environment[name] for name in PASSED_ON if environment.get(name)}
    return {"mcpServers": {"esc-skills": {**entry, "env": env} if env else entry}}


def deerflow(environment: Mapping[str, str] = os.environ) -> dict[str, object]:
    """Return the block for DeerFlow's `extensions_config.json`."""
    env = {name: environment[name] for name in PASSED_ON if environment.get(name)}
    server = {
        "enabled": True,
        "type": "stdio",
        "command": command(),
        "args": ["serve"],
        "env": env,
        "session_init_timeout": 60,
        "tool_call_timeout": 120,
    }
    return {"mcpServers": {"esc-skills": server}}


def http_servers(url: str, with_token: bool) -> dict[str, object]:
    """Return the `mcpServers` block for hosts that connect to a running HTTP server."""
    entry: dict[str, object] = {"type": "http", "url": url}
    if with_token:
        entry["headers"] = {"Authorization": "Bearer ${ESC_TOKEN}"}
    return {"mcpServers": {"esc-skills": entry}}


def instructions(url: str, with_token: bool) -> str:
    """Return what to show when serving over HTTP: the address, then one block for each kind of host."""
    blocks = (
        ("Hosts that connect by URL", http_servers(url, with_token)),
        ("Claude Desktop (claude_desktop_config.json), Claude Code (.mcp.json): starts its own server", mcp_servers()),
        ("DeerFlow (extensions_config.json): starts its own server", deerflow()),
    )
    parts = [f"esc-skills serves MCP at {url}", f"Health: {url.removesuffix('/mcp')}/health"]
    if with_token:
        parts.append("Clients must send the header: Authorization: Bearer <ESC_TOKEN>")
    for title, block in blocks:
        parts.append(f"\n# {title}\n{json.dumps(block, indent=2)}")
    return "\n".join(parts) + "\n"
