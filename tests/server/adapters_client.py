"""Run by the Python of `.venv/adapters`, where langchain-mcp-adapters and its own mcp 1.x are installed.

`python adapters_client.py COMMAND ARG...` starts the server, lists its tools, calls two, and prints what came as JSON.
"""

import asyncio
import json
import os
import sys

from langchain_mcp_adapters.client import MultiServerMCPClient

LINE = "I am so anxious and scared about the exam deadline next week that I can't sleep."


def text_of(answer) -> str:
    return answer if isinstance(answer, str) else answer[0]["text"]


async def main() -> None:
    command, *arguments = sys.argv[1:]
    connection = {"transport": "stdio", "command": command, "args": arguments, "env": dict(os.environ)}
    client = MultiServerMCPClient({"esc-skills": connection})
    tools = {tool.name: tool for tool in await client.get_tools()}
    talk = [{"role": "seeker", "content": LINE}]
    chosen = await tools["select_skill"].ainvoke({"messages": talk, "min_score": 0.0})
    name = json.loads(text_of(chosen))["skills"][0]["name"]
    read = await tools["read_skill"].ainvoke({"name": name, "section": "Pitfalls"})
    try:
        refused = text_of(await tools["read_skill"].ainvoke({"name": "hug"}))
    except Exception as error:
        refused = str(error)
    print(
        json.dumps(
            {
                "tools": {name: tool.description for name, tool in tools.items()},
                "selection": json.loads(text_of(chosen)),
                "section": json.loads(text_of(read)),
                "refused": refused,
            }
        )
    )


asyncio.run(main())
