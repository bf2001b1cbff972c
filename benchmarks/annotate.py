"""Throughput and memory of the local annotator on a corpus that is made by repetition and read as a stream.

    python benchmarks/annotate.py --dialogues 20000                 # the whole run
    python benchmarks/annotate.py --dialogues 20000 --seconds 420   # stop after seven minutes, say how far it came

Every copy of a dialogue has an id of its own and is read anew; nothing is cached between them. The dialogues come from
`--corpus` (any form that `corpus check` reads); without one they are strung together from the taxonomy's examples.
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

import psutil

from esc_skills.pipeline.annotator import stream
from esc_skills.pipeline.corpus import Dialogue, iter_corpus
from esc_skills.pipeline.labels import DialogueLabels
from esc_skills.pipeline.local_annotator import LocalAnnotator
from esc_skills.skills_bank.taxonomy import ACTION_INFO, STATE_INFO

TURNS = 22
"""Turns of a composed dialogue; ESConv's have 23 on average."""


def composed() -> list[list[dict[str, str]]]:
    """Return as many dialogues as there are states, each beginning at another example."""
    seeker, supporter = [i.example for i in STATE_INFO.values()], [i.example for i in ACTION_INFO.values()]
    found: list[list[dict[str, str]]] = []
    for first in range(len(seeker)):
        lines: list[dict[str, str]] = []
        for i in range(TURNS // 2):
            lines.append({"speaker": "seeker", "content": seeker[(first + i) % len(seeker)]})
            lines.append({"speaker": "supporter", "content": supporter[(first + i) % len(supporter)]})
        found.append(lines)
    return found


def of_corpus(path: Path) -> list[list[dict[str, str]]]:
    """Return the words of every dialogue of a corpus, without ids and labels."""
    return [[{"speaker": u.speaker, "content": u.content} for u in d.utterances] for d in iter_corpus(path)]


def write_corpus(path: Path, dialogues: list[list[dict[str, str]]], count: int) -> None:
    """Write `count` dialogues, going round."""
    with path.open("w", encoding="utf-8") as file:
        for i, dialog in enumerate(islice(cycle(dialogues), count)):
            file.write(
                json.dumps({"id": f"copy-{i:06d}", "source": "other", "split": "copies", "dialog": dialog}) + "\n"
            )


def until(dialogues: Iterator[Dialogue], seconds: float) -> Iterator[Dialogue]:
    """Hand dialogues on until the time is up."""
    end = time.monotonic() + seconds
    for dialogue in dialogues:
        if time.monotonic() > end:
            return
        yield dialogue


async def run(path: Path, workers: int, seconds: float, every: float) -> None:
    """Annotate the corpus and print rate and memory at intervals."""
    process = psutil.Process()
    annotator = LocalAnnotator.load(workers=workers)
    began = last = time.monotonic()
    done = turns = failed = before = 0
    used_before = sum(process.cpu_times()[:2])
    print(f"{annotator.name}, {workers} workers\n\n| seconds | dialogues | a minute, overall | lately | RSS MiB |")
    print("| ---: | ---: | ---: | ---: | ---: |")

    def row(now: float) -> None:
        overall, lately = done / (now - began) * 60, (done - before) / max(now - last, 1e-9) * 60
        print(
            f"| {now - began:.0f} | {done} | {overall:.0f} | {lately:.0f} | {process.memory_info().rss / 2**20:.1f} |",
            flush=True,
        )

    async for found in annotator.annotate(stream(until(iter_corpus(path), seconds))):
        done += 1
        if isinstance(found, DialogueLabels):
            turns += len(found.turns)
        else:
            failed += 1
        if (now := time.monotonic()) - last >= every:
            row(now)
            last, before = now, done
    now = time.monotonic()
    row(now)
    cpu, wall = sum(process.cpu_times()[:2]) - used_before, now - began
    print(f"\n{done} dialogues ({turns / max(done - failed, 1):.1f} turns each), {failed} failed, in {wall:.0f} s.")
    print(f"{done / wall * 60:.0f} a minute; {cpu:.0f} s of CPU: {done / cpu * 60:.0f} a minute of one core.")
    load = ", ".join(f"{value:.1f}" for value in psutil.getloadavg())
    print(f"{psutil.cpu_count()} cores; load average over 1, 5, 15 minutes at the end: {load}.")


def main() -> None:
    """Write the corpus, run, and delete it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dialogues", type=int, default=20_000)
    parser.add_argument(
        "--corpus", type=Path, default=None, help="Where the words come from, e.g. ../shared/data/esconv/valid.jsonl"
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="Stop after so long.")
    parser.add_argument("--every", type=float, default=30.0, help="Seconds between two lines.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="esc-annotate-") as folder:
        path = Path(folder) / "copies.jsonl"
        write_corpus(path, of_corpus(given.corpus) if given.corpus else composed(), given.dialogues)
        print(f"{given.dialogues} dialogues, {path.stat().st_size / 2**20:.0f} MiB")
        asyncio.run(run(path, given.workers, given.seconds, given.every))


if __name__ == "__main__":
    main()
