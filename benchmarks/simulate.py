"""Measure simulation: local talks on this machine, talks between language models, memory; write the figures.

    .venv/bin/python benchmarks/simulate.py [--n 500] [--talks 192] [--write docs/simulation.md]

Local: `esc-skills simulate --agent bank --seeker local` over the 500 evolution profiles, with one process a core; first
with nothing read before, then again with the readings that were kept. Both must say the same to the byte.
Models: `--agent no-skill --supporter llm --seeker llm` against tests/messages_server.py in a process of its own, which
answers after 300 ms and never moves a seeker, so that every talk has its full 29 calls one after the other. The ideal
is those calls alone, on 64 lanes. Memory is the resident set of the command and its workers, looked at four times a
second.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import psutil

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- figures: benchmarks/simulate.py -->", "<!-- end of figures -->"
LATENCY, LANES, CALLS = 0.3, 64, 29
LOCAL_TARGET, RATIO_TARGET = 60.0, 1.2
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}


class Measured(NamedTuple):
    """One command."""

    seconds: float
    talks: int
    replies: int
    memory: list[float]
    """MiB, over the time of the command."""
    cpu: float
    """Seconds of CPU of the command and its workers; on a busy machine they say more than the clock."""

    def grown(self) -> tuple[float, float]:
        """Return the median memory in the second fifth of the time, when all is loaded, and in the last."""
        fifth = max(1, len(self.memory) // 5)
        return statistics.median(self.memory[fifth : 2 * fifth]), statistics.median(self.memory[-fifth:])


def simulate(out: Path, *arguments: str, environment: dict[str, str] | None = None) -> Measured:
    """Run the command into `out` and watch it."""
    command = [sys.executable, "-m", "esc_skills.server", "simulate", "--profiles", "evolution", "--out", str(out)]
    before = _used()
    began = time.perf_counter()
    process = subprocess.Popen(
        [*command, *arguments],
        env={**os.environ, **ONE_THREAD, **(environment or {})},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    memory = []
    while process.poll() is None:
        memory.append(_resident(process.pid))
        time.sleep(0.25)
    seconds = time.perf_counter() - began
    if process.returncode:
        raise SystemExit((process.stderr.read() if process.stderr else b"").decode()[-2000:])
    lines = [json.loads(line) for line in (out / "transcripts.jsonl").open(encoding="utf-8")]
    return Measured(seconds, len(lines), sum(len(line["turns"]) for line in lines), memory, _used() - before)


def _used() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _resident(pid: int) -> float:
    total = 0
    try:
        me = psutil.Process(pid)
        for each in (me, *me.children(recursive=True)):
            total += each.memory_info().rss
    except psutil.NoSuchProcess:
        pass
    return total / 2**20


def with_models(scratch: Path, talks: int) -> Measured:
    """Let models talk through a server with latency."""
    script = scratch / "answers.py"
    script.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(ROOT / 'tests')!r})\n"
        "from messages_server import default_script, schema_of\n"
        "def script(body):\n"
        "    return {**default_script(body), 'change': 0} if schema_of(body) else 'I hear you, line by line.'\n",
        encoding="utf-8",
    )
    arguments = ["--latency", str(LATENCY), "--forget", "--script", f"{script}:script"]
    server = subprocess.Popen(
        [sys.executable, str(ROOT / "tests" / "messages_server.py"), *arguments], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        environment = {"ESC_LLM_BASE_URL": server.stdout.readline().strip(), "ESC_LLM_IN_FLIGHT": str(LANES)}
        environment |= {f"ESC_MODEL_{role}": "scripted" for role in ("SUPPORTER", "SEEKER", "SCORER")}
        cast = ("--agent", "no-skill", "--supporter", "llm", "--seeker", "llm", "--in-flight", str(LANES))
        return simulate(scratch / "models", *cast, "--n", str(talks), environment=environment)
    finally:
        server.terminate()
        server.wait()


def local_twice(scratch: Path, n: int) -> tuple[Measured, Measured]:
    """Hold the local talks without kept readings and with them."""
    environment = {"ESC_READINGS": str(scratch / "readings.sqlite")}
    folders = (scratch / "local", scratch / "again")
    first, again = (simulate(f, "--agent", "bank", "--n", str(n), environment=environment) for f in folders)
    if len({(folder / "transcripts.jsonl").read_bytes() for folder in folders}) > 1:
        raise SystemExit("The talks with kept readings are not those without.")
    return first, again


def report(local: Measured, again: Measured, models: Measured) -> str:
    """Return the figures as markdown."""
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    ideal = models.talks * CALLS * LATENCY / LANES
    ratio = models.seconds / ideal
    rows = [
        (
            f"{local.talks} local talks, bank and local seeker, {local.replies} replies",
            f"{local.seconds:.0f} s ({local.cpu:.0f} s of CPU)",
            f"{LOCAL_TARGET:g} s for 500: {_verdict(local.seconds * 500 / local.talks <= LOCAL_TARGET)}",
        ),
        (
            "the same again, with the readings that were kept",
            f"{again.seconds:.0f} s ({again.cpu:.0f} s of CPU)",
            "",
        ),
        (
            f"{models.talks} talks between models, {models.talks * CALLS} calls of 300 ms, {LANES} talks at a time",
            f"{models.seconds:.1f} s ({models.cpu:.0f} s of CPU)",
            f"{RATIO_TARGET:g} x the ideal {ideal:.1f} s; {ratio:.2f}: {_verdict(ratio <= RATIO_TARGET)}",
        ),
    ]
    for name, one in (("local", local), ("models", models)):
        early, late = one.grown()
        rows.append(
            (f"memory, {name}: when all is loaded, at the end", f"{early:.0f}, {late:.0f} MiB", f"{late / early:.2f}")
        )
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"""{BEGIN}
Written by `python benchmarks/simulate.py --write docs/simulation.md` on {datetime.now(UTC):%Y-%m-%d} ({machine}; load
average at the end {load}). Times are of the whole command, starting and the summary included.

| | measured | target |
| --- | ---: | --- |
{table}
{END}"""


def _verdict(met: bool) -> str:
    return "met" if met else "**missed**"


def main() -> None:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--talks", type=int, default=3 * LANES)
    parser.add_argument("--write", type=Path, help="page whose figures are replaced, e.g. docs/simulation.md")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="esc-simulate-") as scratch:
        models = with_models(Path(scratch), arguments.talks)
        print(f"models: {models.seconds:.1f} s", flush=True)
        local, again = local_twice(Path(scratch), arguments.n)
    text = report(local, again, models)
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
