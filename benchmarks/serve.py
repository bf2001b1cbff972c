"""Measure serving over stdio, in fresh processes, and write `docs/serving.md`.

    .venv/bin/python benchmarks/serve.py [--runs 5] [--queries 200] [--write]

For the shipped bank alone and with 1,000 synthetic skills beside it: time to the answer to `initialize`, time from
process start to the first `select_skill` answer, warm p50 and p99 over 200 queries (half single lines, half talks of
six messages, all composed here), and peak resident memory. Medians over the runs; a run is a new process.
"""

import argparse
import itertools
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from esc_skills.skills_bank.place import shipped_bank
from esc_skills.skills_bank.skillmd import parse_skill, render_skill
from esc_skills.skills_bank.taxonomy import ACTION_INFO, STATE_INFO, Scenario, SeekerState, SupportAction

ROOT = Path(__file__).resolve().parents[1]
SYNTHETIC = 1000

TARGETS = {
    "shipped": {"initialize": 1.0, "first": 2.0, "p50": 8.0, "p99": 25.0, "rss": 300.0},
    "with 1,000 more": {"p50": 12.0, "first": 2.5},
}

PEERS = """\
| claude-skills-mcp 1.0.6 | 34 | 0.47 | 7.81 | 35.2 | 62.5 | 611 |
| | 1000 | 0.41 | 15.04 | 30.7 | 53.1 | 639 |
| mcp-skillset 0.8.6 | 34 | 6.59 | 6.67 | 15.3 | 32.5 | 612 |
| | 1000 | 5.81 | 5.96 | 20.6 | 60.2 | 746 |
| skillz 0.1.14 (no search) | 34 | 0.89 | 1.08 | 0.9 | 2.6 | 91 |
| FastMCP SkillsDirectoryProvider 4.1.2 (no search) | 34 | 0.82 | 1.02 | 1.5 | 3.9 | 87 |
| | 1000 | 1.55 | 2.01 | 23.2 | 136 | 110 |"""
"""Measured side by side on another quiet machine of the same size (2 shared cores)."""

FEELINGS = (
    "I feel so alone since the move",
    "I'm scared I will fail this exam",
    "my boss shouted at me again and I froze",
    "I can't stop thinking about what I said to her",
    "nothing I do seems to matter any more",
    "I miss my grandfather every single morning",
    "he left and I keep checking my phone",
    "I'm so angry at my sister I could scream",
    "I lie awake doing sums about the rent",
    "I don't even know what I want from this talk",
)
TAILS = (
    "and it is getting worse.",
    "and nobody has noticed.",
    "even on good days.",
    "though everyone says I should be over it.",
    "and I have a headache from it.",
    "which makes me feel stupid.",
    "and my mother keeps asking about it.",
    "so I stopped going out.",
)
REPLIES = (
    "That sounds heavy. What is the hardest part of it?",
    "You have been carrying this for a while.",
    "Have you tried writing it down before bed?",
    "No wonder you are worn out.",
    "When did it begin?",
)


class Run(NamedTuple):
    """Figures of one process."""

    initialize: float
    first: float
    p50: float
    p99: float
    rss: float
    line: float
    """p50 of single lines."""
    talk: float
    """p50 of talks of six messages."""


def environment(bank: Path) -> dict[str, str]:
    """Return what a host passes on, with `bank` as the bank and a home beside it, where the index goes."""
    kept = {key: os.environ[key] for key in ("PATH", "TERM", "USER", "LANG") if key in os.environ}
    return kept | {"ESC_BANK_DIR": str(bank), "HOME": str(bank.parent / "home")}


class Server:
    """One server process, spoken to in JSON lines."""

    def __init__(self, bank: Path) -> None:
        command = Path(sys.executable).with_name("esc-skills")
        self.began = time.perf_counter()
        self._process = subprocess.Popen(
            [str(command), "serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment(bank),
        )
        self._ids = itertools.count(1)

    def request(self, method: str, params: dict[str, Any]) -> Any:
        """Send a request and return its result."""
        wanted = next(self._ids)
        self._send({"jsonrpc": "2.0", "id": wanted, "method": method, "params": params})
        assert self._process.stdout is not None
        for line in self._process.stdout:
            message = json.loads(line)
            if message.get("id") == wanted:
                if "error" in message or message["result"].get("isError"):
                    raise SystemExit(f"{method} failed: {message}")
                return message["result"]
        raise SystemExit("the server ended early; run `esc-skills doctor`")

    def initialize(self) -> None:
        """Shake hands in the way that every host of today can."""
        client = {"name": "benchmark", "version": "1"}
        self.request("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client})
        self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def select(self, messages: Any) -> Any:
        """Call `select_skill`."""
        return self.request("tools/call", {"name": "select_skill", "arguments": {"messages": messages}})

    def peak_mb(self) -> float:
        """Return the most memory the process has held, in MB (Linux: VmHWM)."""
        status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="utf-8")
        line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()


def queries(n: int, seed: int = 7) -> list[Any]:
    """Return `n` queries, alternately a single line and a talk of six messages; no two lines are the same."""
    rng = random.Random(seed)

    def line() -> str:
        return f"{rng.choice(FEELINGS)} {rng.choice(TAILS)} It has been {rng.randint(2, 400)} days."

    def talk() -> list[dict[str, str]]:
        turns = [("seeker", line()), ("supporter", rng.choice(REPLIES))] * 2 + [("seeker", line())]
        opening = ("supporter", "Hello, I am glad you wrote. What brings you here?")
        return [{"role": role, "content": content} for role, content in [opening, *turns]]

    return [line() if i % 2 == 0 else talk() for i in range(n)]


def measure(bank: Path, skills: int, n: int) -> Run:
    """Start a server, measure it, stop it."""
    server = Server(bank)
    try:
        server.initialize()
        initialize = time.perf_counter() - server.began
        work = queries(n + 10)
        server.select(work[0])
        first = time.perf_counter() - server.began
        for query in work[1:10]:
            server.select(query)
        served = server.request("tools/call", {"name": "list_skills", "arguments": {"limit": 1}})
        if served["structuredContent"]["total"] != skills:
            raise SystemExit(f"{bank} serves {served['structuredContent']['total']} skills, not {skills}")
        times = []
        for query in work[10:]:
            before = time.perf_counter()
            server.select(query)
            times.append(1000 * (time.perf_counter() - before))
        lines, talks = statistics.median(times[0::2]), statistics.median(times[1::2])
        p99 = sorted(times)[int(0.99 * len(times))]
        return Run(initialize, first, statistics.median(times), p99, server.peak_mb(), lines, talks)
    finally:
        server.close()


def medians(bank: Path, skills: int, runs: int, n: int) -> Run:
    """Return the medians over `runs` fresh processes, after one that is not counted (it fills the file cache)."""
    command = Path(sys.executable).with_name("esc-skills")
    subprocess.run([str(command), "bank", "index"], check=True, env=environment(bank), stdout=subprocess.DEVNULL)
    measure(bank, skills, 10)
    found = [measure(bank, skills, n) for _ in range(runs)]
    return Run(*(statistics.median(column) for column in zip(*found, strict=True)))


def synthetic(texts: dict[str, str], n: int, seed: int = 11) -> dict[str, tuple[str, str]]:
    """Return `n` skills by name, each with the name of the shipped one it is made from.

    The words are that skill's, with a state, a scenario and a number added to what the index reads, so that no two
    facets are the same text.
    """
    rng = random.Random(seed)
    base = [parse_skill(text, name) for name, text in sorted(texts.items())]
    made: dict[str, tuple[str, str]] = {}
    for number in range(n):
        skill = base[number % len(base)]
        state, scenario = rng.choice(list(SeekerState)), rng.choice(list(Scenario))
        action = rng.choice(list(SupportAction))
        mark = f"case {number}, {STATE_INFO[state].name.lower()} in {scenario.replace('_', ' ')}"
        name = f"{skill.name[:48].rstrip('-')}-{number:04d}"
        changed = skill.model_copy(
            update={
                "name": name,
                "description": f"{skill.description[:700]} Synthetic, {mark}.",
                "when": tuple(f"{condition} ({mark})" for condition in skill.when),
                "overview": f"{skill.overview} ({ACTION_INFO[action].name}, {mark})",
            }
        )
        made[name] = render_skill(changed), skill.name
    return made


def prepare(scratch: Path) -> dict[str, tuple[Path, int]]:
    """Copy the shipped bank, and make a larger one beside it; return label to (folder, number of skills)."""
    small, large = scratch / "shipped", scratch / "large"
    shutil.copytree(shipped_bank(), small)
    texts = {path.parent.name: path.read_text(encoding="utf-8") for path in sorted(small.glob("*/SKILL.md"))}
    if not texts:
        raise SystemExit(f"{shipped_bank()} holds no skills to measure with")
    shutil.copytree(small, large)
    (large / "bank.json").unlink(missing_ok=True)
    for name, (text, origin) in synthetic(texts, SYNTHETIC).items():
        (large / name).mkdir()
        (large / name / "SKILL.md").write_text(text, encoding="utf-8")
        evidence = small / origin / "references" / "evidence.json"
        if evidence.is_file():
            own = json.loads(evidence.read_text(encoding="utf-8")) | {"skill": name}
            (large / name / "references").mkdir()
            (large / name / "references" / "evidence.json").write_text(json.dumps(own), encoding="utf-8")
    return {"shipped": (small, len(texts)), "with 1,000 more": (large, len(texts) + SYNTHETIC)}


def row(label: str, skills: int, run: Run) -> str:
    """Return a row of the table."""
    figures = f"{run.initialize:.2f} | {run.first:.2f} | {run.p50:.1f} | {run.p99:.1f} | {run.rss:.0f}"
    return f"| {label} | {skills} | {figures} |"


def verdicts(results: dict[str, Run]) -> list[str]:
    """Return a line for each target: met or missed, and by what."""
    units = {"initialize": "s", "first": "s", "p50": "ms", "p99": "ms", "rss": "MB"}
    lines = []
    for label, targets in TARGETS.items():
        for figure, limit in targets.items():
            value = getattr(results[label], figure)
            word = "met" if value <= limit else "**missed**"
            lines.append(f"- {label}, {figure}: {value:.2f} {units[figure]} (target {limit:g}): {word}")
    return lines


def each(figure: str, results: dict[str, Run]) -> str:
    """Return one figure of every result."""
    return ", ".join(f"{getattr(run, figure):.1f} ms ({label})" for label, run in results.items())


def report(results: dict[str, Run], counts: dict[str, int], runs: int, n: int) -> str:
    """Return `docs/serving.md`."""
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    rows = "\n".join(row(f"**esc-skills**, {label}", counts[label], run) for label, run in results.items())
    return f"""# Serving: what it costs

Written by `python benchmarks/serve.py --write` on {datetime.now(UTC):%Y-%m-%d} ({machine}; load average {load}).
stdio, a fresh process for each run, medians of {runs}; {n} warm queries, half single lines, half talks of six messages.
The index is up to date when a run begins; the encoder, the risk check and the ranking run in every query.

| server | skills | init s | first answer s | p50 ms | p99 ms | RSS MB |
| --- | --- | --- | --- | --- | --- | --- |
{rows}
{PEERS}

Of the warm queries, single lines take {each("line", results)} and talks of six messages {each("talk", results)} (p50).
A talk costs more because the encoder reads up to three turns of each side; in use, a host's own model takes far longer.

The peers were measured side by side on another day on a quiet machine of the same size (2 shared cores). None of them
reads the user's state, checks for risk, abstains or explains a choice; the last three rows do not search at all.

## Targets

{chr(10).join(verdicts(results))}
"""


def main() -> None:
    """Measure, print, and write the report where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--write", action="store_true", help="write docs/serving.md")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="esc-bench-") as scratch:
        banks = prepare(Path(scratch))
        counts = {label: count for label, (_, count) in banks.items()}
        results = {label: medians(*bank, arguments.runs, arguments.queries) for label, bank in banks.items()}
    text = report(results, counts, arguments.runs, arguments.queries)
    print(text)
    if arguments.write:
        (ROOT / "docs" / "serving.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
