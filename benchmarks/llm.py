r"""Measure the door to language models against a local Messages server in another process.

    .venv/bin/python benchmarks/llm.py [--calls 2000] [--in-flight 64] [--latency 0.2] [--runs 3] \
        [--write docs/models.md]

Wall time of all calls against the ideal (calls / in flight x latency), and CPU of the client process a call. A call is
one as the annotator makes it: 9 kB of instructions, a dialogue of 3 kB, a structured answer; scrubbed, hashed, looked
up and kept in a journal on disk. Beside it the SDK alone (`messages.create`, nothing of ours). Connections and imports
are warmed by one call a place before the clock starts.
"""

import argparse
import asyncio
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, SecretStr

from esc_skills.pipeline.llm.client import LLMMessage, LLMRequest, Role
from esc_skills.pipeline.llm.door import open_door
from esc_skills.pipeline.llm.settings import LLMSettings

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- figures of benchmarks/llm.py -->", "<!-- end of figures -->"
MOST_WALL, MOST_CPU = 1.15, 3.0
MODEL = "bench-model"
SYSTEM = "Label each turn with one state and up to three actions, as the guide says. " * 120
TURN = "Turn {n}: I keep going over that talk with my sister and I cannot put it down, it sits in my chest all day.\n"


class Turn(BaseModel):
    """One labelled turn."""

    turn: int
    state: str
    actions: list[str]


class Labels(BaseModel):
    """The answer asked for."""

    scenario: str
    turns: list[Turn]
    flags: list[str]


class Run(NamedTuple):
    """One measurement."""

    wall: float
    cpu: float
    """Milliseconds a call."""


def dialogue(number: int) -> str:
    """Return a dialogue that no other call has."""
    return f"Dialogue {number}\n" + "".join(TURN.format(n=n) for n in range(28))


async def measure(call: Callable[[int], Awaitable[object]], calls: int, in_flight: int) -> Run:
    """Run `calls` calls with all of them waiting for a place at once."""
    await asyncio.gather(*(call(-number) for number in range(1, in_flight + 1)))
    cpu, start = time.process_time(), time.perf_counter()
    await asyncio.gather(*map(call, range(calls)))
    return Run(time.perf_counter() - start, (time.process_time() - cpu) / calls * 1000)


async def through_the_door(url: str, calls: int, in_flight: int) -> Run:
    """Measure our client."""
    settings = LLMSettings(llm_base_url=url, api_key=SecretStr("sk-benchmark-key"), llm_in_flight=in_flight)
    with tempfile.TemporaryDirectory() as folder:
        async with open_door(settings, Path(folder) / "journal.db") as door:

            def call(number: int) -> Awaitable[Labels]:
                message = LLMMessage(role="user", content=dialogue(number))
                request = LLMRequest(
                    role=Role.ANNOTATOR,
                    model=MODEL,
                    prompt="bench@000000",
                    system=SYSTEM,
                    messages=(message,),
                    max_tokens=1000,
                    subject=str(number),
                )
                return door.structured(request, Labels)

            run = await measure(call, calls, in_flight)
            assert door.journal.spent().calls == calls + in_flight
            return run


async def by_the_sdk(url: str, calls: int, in_flight: int) -> Run:
    """Measure the SDK alone."""
    from anthropic import AsyncAnthropic

    places = asyncio.Semaphore(in_flight)
    async with AsyncAnthropic(api_key="sk-benchmark-key", base_url=url, max_retries=0) as sdk:

        async def call(number: int) -> None:
            async with places:
                answer = await sdk.messages.create(
                    model=MODEL,
                    max_tokens=1000,
                    system=SYSTEM,
                    messages=[{"role": "user", "content": dialogue(number)}],
                )
            assert answer.content

        return await measure(call, calls, in_flight)


def against_a_server(what: Callable[..., Awaitable[Run]], latency: float, calls: int, in_flight: int) -> Run:
    """Measure `what` against a server of its own."""
    command = [sys.executable, str(ROOT / "tests" / "messages_server.py"), "--latency", str(latency), "--forget"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            return asyncio.run(what(server.stdout.readline().strip(), calls, in_flight))  # type: ignore[arg-type]
        finally:
            server.kill()


def report(rows: list[tuple[str, list[Run]]], given: argparse.Namespace) -> str:
    """Return the figures as Markdown."""
    ideal = given.calls / given.in_flight * given.latency
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    lines = [
        f"Written by `python benchmarks/llm.py --write docs/models.md` on {datetime.now(UTC):%Y-%m-%d} "
        f"({platform.system()} {platform.machine()}, {os.cpu_count()} shared cores, "
        f"Python {platform.python_version()}; load average {load}).",
        f"{given.calls:,} calls, {given.in_flight} in flight, answers after {given.latency * 1000:.0f} ms from a "
        f"server in another process; ideal {ideal:.2f} s. Medians of {given.runs} runs, the best in brackets.",
        "",
        "| client | wall s | x ideal | CPU ms a call |",
        "| --- | --- | --- | --- |",
    ]
    for name, runs in rows:
        wall, best = statistics.median(r.wall for r in runs), min(r.wall for r in runs)
        cpu, least = statistics.median(r.cpu for r in runs), min(r.cpu for r in runs)
        lines.append(
            f"| {name} | {wall:.2f} ({best:.2f}) | {wall / ideal:.3f} ({best / ideal:.3f}) | {cpu:.2f} ({least:.2f}) |"
        )
    ours = rows[0][1]
    ratio, cpu = statistics.median(r.wall for r in ours) / ideal, statistics.median(r.cpu for r in ours)
    lines += [
        "",
        f"- wall: {ratio:.3f} x ideal (target {MOST_WALL}): {'met' if ratio <= MOST_WALL else '**missed**'}",
        f"- CPU: {cpu:.2f} ms a call (target {MOST_CPU:g}): {'met' if cpu <= MOST_CPU else '**missed**'}",
    ]
    return "\n".join(lines) + "\n"


def write(text: str, file: Path) -> None:
    """Put the figures between their marks in `file`."""
    before, _, rest = file.read_text(encoding="utf-8").partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise SystemExit(f"{file} has no marks {BEGIN} and {END}.")
    fresh = file.with_suffix(".tmp")
    fresh.write_text(f"{before}{BEGIN}\n{text}{END}{after}", encoding="utf-8")
    os.replace(fresh, file)


def main() -> None:
    """Measure, print, and write the figures where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--latency", type=float, default=0.2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--write", type=Path, help="put the figures into this file, between their marks")
    given = parser.parse_args()
    rows: list[tuple[str, list[Run]]] = [("**esc-skills**", []), ("the SDK alone", [])]
    for _ in range(given.runs):
        for (_, runs), what in zip(rows, (through_the_door, by_the_sdk), strict=True):
            runs.append(against_a_server(what, given.latency, given.calls, given.in_flight))
    text = report(rows, given)
    print(text)
    if given.write:
        write(text, given.write)


if __name__ == "__main__":
    main()
