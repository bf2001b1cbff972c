"""Measure a build without a model, and what it does to serving; write the figures into `docs/build_bank.md`.

    .venv/bin/python benchmarks/build.py [--shared ../shared] [--queries 300] [--write docs/build_bank.md]

A server is started over stdio on an empty bank folder and asked `select_skill` at a steady pace, idle first. Then
`build_bank` builds from `valid.jsonl` and `failed.jsonl` with the local annotator and the local writer, while the same
server goes on being asked at the same pace, until it serves the new version.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from serve import Server, queries

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- figures: benchmarks/build.py -->", "<!-- end of figures -->"
PAUSE = 0.02
"""Seconds between two questions: far busier than a person, and not a closed loop that would take a core by itself."""
TARGET = 2.0


class Latency(NamedTuple):
    """Milliseconds of `select_skill`."""

    n: int
    p50: float
    p99: float
    worst: float

    @classmethod
    def of(cls, times: list[float]) -> "Latency":
        """Sum up."""
        ranked = sorted(times)
        return cls(len(times), statistics.median(ranked), ranked[int(0.99 * len(ranked))], ranked[-1])


def call(server: Server, tool: str, **arguments: Any) -> dict[str, Any]:
    """Call a tool and return its structured answer."""
    return server.request("tools/call", {"name": tool, "arguments": arguments})["structuredContent"]


def asked(server: Server, work: list[Any]) -> list[float]:
    """Ask `select_skill` once per query; return the milliseconds of each."""
    times = []
    for query in work:
        began = time.perf_counter()
        server.select(query)
        times.append(1000 * (time.perf_counter() - began))
        time.sleep(PAUSE)
    return times


def measure(shared: Path, scratch: Path, n: int) -> dict[str, Any]:
    """Run it all; return what the table says."""
    corpus = [str(shared / "data" / "esconv" / name) for name in ("valid.jsonl", "failed.jsonl")]
    server = Server(scratch / "bank")
    try:
        server.initialize()
        asked(server, queries(30, seed=1))
        idle = Latency.of(asked(server, queries(n, seed=2)))
        began = time.perf_counter()
        task = call(server, "build_bank", corpus=corpus, skills=27)["task_id"]
        times: list[float] = []
        seed = 100
        while (status := call(server, "build_status", task_id=task))["status"] == "running":
            times += asked(server, queries(20, seed=seed))
            seed += 1
        seconds = time.perf_counter() - began
        if status["status"] != "completed":
            raise SystemExit(f"the build {status['status']}: {status['error']}")
        wanted = status["result"]["bank_version"]
        while server.select("I am so tired of it all.")["structuredContent"]["bank_version"] != wanted:
            times += asked(server, queries(10, seed=seed))
        live = time.perf_counter() - began - seconds
        times += asked(server, queries(50, seed=99))
        first = server.select("I feel so alone since the move, nobody calls.")["structuredContent"]
        return {
            "idle": idle,
            "building": Latency.of(times),
            "seconds": seconds,
            "live": live,
            "result": status["result"],
            "selected": [skill["name"] for skill in first["skills"]],
        }
    finally:
        server.close()


def report(found: dict[str, Any]) -> str:
    """Return the figures as markdown."""
    result, idle, building = found["result"], found["idle"], found["building"]
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    ratio = building.p99 / idle.p99
    verdict = "met" if ratio <= TARGET else "**missed**"
    selected = ", ".join(f"`{name}`" for name in found["selected"]) or "none"
    return f"""{BEGIN}
Written by `python benchmarks/build.py --write docs/build_bank.md` on {datetime.now(UTC):%Y-%m-%d} ({machine}; load
average at the end {load}).

| local annotator, local writer, `valid.jsonl` + `failed.jsonl` | |
| --- | ---: |
| dialogues annotated, failed | {result["dialogues"]}, {result["failed_dialogues"]} |
| prototypes, skills, situations left out | {result["prototypes"]}, {result["skills"]}, {result["left_out"]} |
| raw dialogues to committed version | {found["seconds"]:.0f} s |
| from there until the running server answers from it | {found["live"]:.1f} s |

The server then chose {selected} for a composed lonely line.

| `select_skill`, ms | calls | p50 | p99 | worst |
| --- | ---: | ---: | ---: | ---: |
| idle | {idle.n} | {idle.p50:.1f} | {idle.p99:.1f} | {idle.worst:.1f} |
| while a build runs, the switch to its version included | {building.n} | {building.p50:.1f} | {building.p99:.1f} \
| {building.worst:.1f} |

p99 while a build runs against idle: {ratio:.2f} (target {TARGET:g}): {verdict}.
{END}"""


def main() -> None:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("ESC_SHARED_DIR") or ROOT.parent / "shared"))
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--write", type=Path, help="page whose figures are replaced, e.g. docs/build_bank.md")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="esc-build-") as scratch:
        found = measure(arguments.shared, Path(scratch), arguments.queries)
    print(json.dumps({key: value for key, value in found.items()}, indent=1))
    text = report(found)
    print(text)
    if arguments.write:
        page = arguments.write.read_text(encoding="utf-8")
        before, _, rest = page.partition(BEGIN)
        after = rest.partition(END)[2]
        if not after:
            raise SystemExit(f"{arguments.write} has no place for the figures: {BEGIN} ... {END}")
        arguments.write.write_text(before + text + after, encoding="utf-8")


if __name__ == "__main__":
    main()
