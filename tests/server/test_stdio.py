"""The server as a host starts it: a process of its own, spoken to over stdin and stdout."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fastmcp import Client
from fastmcp.client.transports import StdioTransport

pytestmark = pytest.mark.slow

SERVE_FAKE = Path(__file__).with_name("serve_fake.py")
WORRIED = "I am so anxious and scared about the exam deadline next week that I can't sleep."


def initialize(version: str = "2025-11-25") -> dict[str, Any]:
    return {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
    }


def request(number: int, method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}


def talk(process: "subprocess.Popen[bytes]", messages: list[dict[str, Any]], answers: int) -> list[bytes]:
    """Send `messages`, read lines until `answers` of them are answers, end the process; return every stdout line."""
    assert process.stdin is not None and process.stdout is not None
    for message in messages:
        process.stdin.write(json.dumps(message).encode() + b"\n")
    process.stdin.flush()
    lines, found = [], 0
    while found < answers:
        line = process.stdout.readline()
        assert line, "the server ended early"
        lines.append(line)
        found += b'"id"' in line
    process.stdin.close()
    lines += process.stdout.readlines()
    assert process.wait(timeout=20) == 0
    return lines


def start(folder: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, str(SERVE_FAKE), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_every_line_on_stdout_is_json_and_no_text_is_logged(folder):
    secret = "Rosalind from the yellow house is sad"
    with start(folder) as process:
        lines = talk(
            process,
            [
                initialize(),
                {"jsonrpc": "2.0", "method": "notifications/initialized"},
                request(2, "tools/list"),
                request(3, "tools/call", name="select_skill", arguments={"messages": secret}),
                request(4, "tools/call", name="select_skill", arguments={"messages": [{"role": secret, "content": 1}]}),
                request(5, "tools/call", name="nothing", arguments={}),
                request(6, "resources/read", uri="bank://manifest"),
                request(7, "no/such/method"),
            ],
            answers=7,
        )
        assert process.stderr is not None
        log = process.stderr.read()
    messages = [json.loads(line) for line in lines]
    answers = {message["id"]: message for message in messages if "id" in message}
    assert set(answers) == {1, 2, 3, 4, 5, 6, 7}
    assert all(message["jsonrpc"] == "2.0" for message in messages)
    assert len(answers[2]["result"]["tools"]) == 14
    assert answers[3]["result"]["structuredContent"]["bank_version"]
    assert answers[4]["result"]["isError"]
    assert b"Rosalind" not in log


def test_rubbish_on_stdin_does_not_end_the_server(folder):
    with start(folder) as process:
        assert process.stdin is not None
        process.stdin.write(b'not json\n{"jsonrpc": "2.0"}\n[]\n')
        lines = talk(process, [initialize(), {"jsonrpc": "2.0", "method": "notifications/initialized"}], answers=1)
    assert any(json.loads(line).get("id") == 1 for line in lines)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_client_reads_and_selects_over_stdio(folder, mode):
    transport = StdioTransport(sys.executable, [str(SERVE_FAKE), str(folder)], keep_alive=False)
    async with Client(transport, mode=mode) as client:
        answer = (await client.call_tool("select_skill", {"messages": WORRIED, "min_score": 0.0})).structured_content
        uri = answer["skills"][0]["uri"]
        text = (await client.read_resource(uri))[0].text
    assert text.startswith("---\nname: ")


def test_langchain_adapters_list_and_call_the_tools(folder):
    """The adapters, through which DeerFlow speaks MCP, need mcp 1.x and so a virtual environment of their own."""
    root = Path(__file__).resolve().parents[2]
    python = Path(os.environ.get("ESC_ADAPTERS_PYTHON", root / ".venv" / "adapters" / "bin" / "python"))
    if not python.is_file():
        pytest.skip(f"{python} is not there; `make adapters` installs langchain-mcp-adapters into it")
    script = Path(__file__).with_name("adapters_client.py")
    ended = subprocess.run(
        [str(python), str(script), sys.executable, str(SERVE_FAKE), str(folder)],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert {"select_skill", "classify_seeker_state", "list_skills", "read_skill"} <= set(found["tools"])
    assert "`risk` first" in found["tools"]["select_skill"]
    assert found["selection"]["states"][0]["state"] == "anxiety_and_fear"
    assert found["section"]["text"].startswith("## Pitfalls")
    assert "Known skills" in found["refused"]
