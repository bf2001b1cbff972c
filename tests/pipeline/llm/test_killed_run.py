"""kill -9 in the middle of a run, and resume."""

import random
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from .run_calls import IN_FLIGHT

SCRIPT = Path(__file__).with_name("run_calls.py")
COUNT = 200


def line_of(body) -> str:
    return body["messages"][0]["content"]


def journaled(journal: Path) -> set[str]:
    with sqlite3.connect(journal) as db:
        rows = db.execute("SELECT subject FROM calls WHERE state = 'answered'").fetchall()
    db.close()
    return {subject for (subject,) in rows}


@pytest.mark.slow
def test_no_answer_in_the_journal_is_paid_twice(server, tmp_path):
    server.script = lambda body: f"mood of {line_of(body)}"
    server.latency = 0.02
    journal = tmp_path / "journal.db"
    command = [sys.executable, str(SCRIPT), server.url, str(journal), str(COUNT)]
    chance = random.Random(5)
    after_kill: list[tuple[set[str], int]] = []
    for _ in range(4):
        enough = server.answered + chance.randint(5, 40)
        with subprocess.Popen(command) as run:
            deadline = time.monotonic() + 60
            while server.answered < enough and time.monotonic() < deadline:
                time.sleep(0.002)
            assert run.poll() is None, "the run ended before it was killed"
            run.kill()
        kept = journaled(journal)
        assert kept, "nothing was journaled before the kill"
        time.sleep(0.2)  # until what the dead run had sent has all arrived
        after_kill.append((kept, len(server.requests)))
    subprocess.run(command, check=True, timeout=60)
    sent = [line_of(seen.body) for seen in server.requests]
    for kept, before in after_kill:
        assert not kept & set(sent[before:])
    assert journaled(journal) == {f"line {number}" for number in range(COUNT)}
    twice = sum(times - 1 for times in Counter(sent).values())
    assert twice <= len(after_kill) * IN_FLIGHT
    with sqlite3.connect(journal) as db:
        assert db.execute("SELECT count(*), count(DISTINCT hash) FROM calls").fetchone() == (COUNT, COUNT)
    db.close()
