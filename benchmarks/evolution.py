"""Measure what an evolution does to serving, and kill one at twenty random points.

    .venv/bin/python benchmarks/evolution.py [--queries 300] [--kills 20] [--write docs/evolution.md]

Serving: a server over stdio is asked `select_skill` at a steady pace, idle first, then while an evolution that it was
asked for runs beside it. Kills: an evolution runs undisturbed; another of the same plan is killed (SIGKILL) at random
moments and resumed, and must leave the same files to the byte, those that hold times aside.
"""

import argparse
import json
import os
import platform
import random
import re
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from build import TARGET, Latency, asked, call
from serve import Server, environment, queries

BEGIN, END = "<!-- figures: benchmarks/evolution.py -->", "<!-- end of figures: benchmarks/evolution.py -->"
CHANGING = {"job.json", "timing.json", "progress.json", "report.html", "log.txt", ".lock", "cancel"}
PLAN = ("--n", "60", "--seed", "11", "--repeats", "2", "--cap-candidates", "6", "--workers", "2")
LONGEST = 9.0
"""Seconds until a kill, at most; starting takes about three of them."""


def serving(scratch: Path, n: int) -> tuple[Latency, Latency]:
    """Return the latency idle and while an evolution runs."""
    server = Server(scratch / "bank")
    try:
        server.initialize()
        asked(server, queries(30, seed=1))
        idle = Latency.of(asked(server, queries(n, seed=2)))
        task = call(server, "evolve_bank", n=60, seed=7)["task_id"]
        times: list[float] = []
        seed = 100
        while (status := call(server, "evolve_status", task_id=task))["status"] == "running" and len(times) < 4 * n:
            times += asked(server, queries(20, seed=seed))
            seed += 1
        if status["status"] == "running":
            call(server, "cancel_evolve", task_id=task)
        elif status["status"] != "completed":
            raise SystemExit(f"the evolution {status['status']}: {status['error']}")
        return idle, Latency.of(times)
    finally:
        server.close()


def killed(scratch: Path, kills: int) -> tuple[int, list[str]]:
    """Return how often the second evolution was killed, and the files in which it differs from the first."""
    quiet, hit = scratch / "quiet", scratch / "hit"
    _evolve(quiet, *PLAN).wait()
    chance, done = random.Random(5), 0
    process = _evolve(hit, *PLAN)
    while done < kills:
        try:
            process.wait(timeout=chance.uniform(1.0, LONGEST))
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            done += 1
        job = _job(hit)  # None: killed before there was one to take up
        process = _evolve(hit, *PLAN) if job is None else _evolve(hit, "--resume", job.name)
    if process.wait() != 0:
        raise SystemExit("the resumed evolution failed")
    return done, different(_job(quiet), _job(hit))


def _evolve(home: Path, *options: str) -> "subprocess.Popen[bytes]":
    home.mkdir(exist_ok=True)
    command = Path(sys.executable).with_name("esc-skills")
    env = environment(home / "bank") | {"ESC_JOBS_DIR": str(home / "jobs")}
    quiet: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([str(command), "evolve", "run", *options], env=env, **quiet)


def _job(home: Path) -> Path | None:
    return next((path.parent for path in (home / "jobs").glob("*/job.json")), None)


def different(one: Path | None, other: Path | None) -> list[str]:
    """Return the names of the files that are not the same."""
    if one is None or other is None:
        return ["an evolution left no job"]
    a, b = _files(one), _files(other)
    return sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name))


def _files(folder: Path) -> dict[str, bytes]:
    # `run.json` and `candidate.json` may name the job or its folder, which differ.
    # What a kill left of a `job.json` that was being written is a part of it that nobody reads.
    left = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".job.json."))
    found = (path for path in left if path.name not in CHANGING)
    return {
        path.relative_to(folder).as_posix(): path.read_bytes().replace(folder.name.encode(), b"JOB") for path in found
    }


def report(idle: Latency, busy: Latency, kills: int, differing: list[str]) -> str:
    """Return the figures as markdown."""
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    ratio = busy.p99 / idle.p99
    verdict = "met" if ratio <= TARGET else "**missed**"
    same = "the same files to the byte" if not differing else f"**other files: {', '.join(differing[:5])}**"
    return f"""{BEGIN}
Written by `python benchmarks/evolution.py --write docs/evolution.md` on {datetime.now(UTC):%Y-%m-%d} ({machine}).

| `select_skill`, ms | calls | p50 | p99 | worst |
| --- | ---: | ---: | ---: | ---: |
| idle | {idle.n} | {idle.p50:.1f} | {idle.p99:.1f} | {idle.worst:.1f} |
| while an evolution runs | {busy.n} | {busy.p50:.1f} | {busy.p99:.1f} | {busy.worst:.1f} |

p99 against idle: {ratio:.2f} (target {TARGET:g}): {verdict}. An evolution that was killed {kills} times at random
moments and resumed left {same} as the undisturbed one.
{END}"""


def main() -> None:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--write", type=Path, help="page whose figures are replaced")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="esc-evolution-") as scratch:
        kills, differing = killed(Path(scratch), arguments.kills)
        print(json.dumps({"kills": kills, "differing": differing}), flush=True)
        idle, busy = serving(Path(scratch), arguments.queries)
    text = report(idle, busy, kills, differing)
    print(text)
    if arguments.write:
        page = arguments.write.read_text(encoding="utf-8")
        if BEGIN not in page:
            raise SystemExit(f"{arguments.write} has no place for the figures: {BEGIN} ... {END}")
        new = re.sub(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: text, page, flags=re.S)
        arguments.write.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
