"""The local engine: processes that stay from run to run, whatever cast comes next."""

import asyncio
import os
import pickle
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from esc_skills.simulator.casting import Cast
from esc_skills.simulator.engine import CASTS, LocalEngine, Task, _Worker
from esc_skills.simulator.session import Transcript
from esc_skills.skills_bank.errors import EscError, InputError

sys.path.insert(0, str(Path(__file__).parent))
from scripted_cast import ScriptedRecipe, profiles

TASKS = [Task(profile, 0, 7 + i) for i, profile in enumerate(profiles(4).profiles)]


@dataclass(frozen=True)
class Watched(ScriptedRecipe):
    """Notes when it is opened and closed, and that one task does both."""

    log: Path = Path()
    fails: bool = False

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Cast]:
        if self.fails:
            raise InputError("no such heron")
        mine = asyncio.current_task()
        self._note("opened")
        try:
            async with ScriptedRecipe(lift=self.lift).open() as cast:
                yield cast
        finally:
            self._note("closed" if asyncio.current_task() is mine else "closed by another task")

    def _note(self, what: str) -> None:
        with self.log.open("a") as file:
            file.write(f"{self.lift} {what}\n")


async def lines(engine: LocalEngine, recipe: ScriptedRecipe) -> list[str]:
    found = [transcript.model_dump_json() async for transcript in engine.converse(recipe, TASKS)]
    return sorted(found)


def workers() -> set[int]:
    children = psutil.Process().children(recursive=True)
    return {child.pid for child in children if "spawn_main" in " ".join(child.cmdline())}


@pytest.mark.slow
async def test_workers_stay_between_runs_and_each_run_gets_its_own_cast():
    other = ScriptedRecipe(lift=1)
    here = [await lines(LocalEngine(), recipe) for recipe in (ScriptedRecipe(), other)]
    with LocalEngine(2) as engine:
        assert await lines(engine, ScriptedRecipe()) == here[0]
        first = workers()
        assert await lines(engine, other) == here[1] != here[0]
        async with aclosing(engine.converse(other, TASKS)) as finished:
            await anext(finished)  # a run that is left early
        assert await lines(engine, ScriptedRecipe()) == here[0]
        assert workers() == first and 1 <= len(first) <= 2
    assert not workers()


@pytest.mark.slow
async def test_without_a_context_the_workers_end_with_the_run():
    await lines(LocalEngine(2), ScriptedRecipe())
    assert not workers()


@pytest.mark.slow
async def test_after_a_failure_the_engine_serves_on(tmp_path: Path):
    here = await lines(LocalEngine(), ScriptedRecipe())
    with LocalEngine(2) as engine:
        with pytest.raises(EscError, match="no such heron"):
            await lines(engine, Watched(fails=True))
        await lines(engine, ScriptedRecipe())
        for pid in workers():
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(EscError, match="ended by itself"):
            await lines(engine, ScriptedRecipe())
        assert await lines(engine, ScriptedRecipe()) == here


def test_a_worker_holds_a_few_casts_open_and_closes_the_one_used_longest_ago(tmp_path: Path):
    log, worker = tmp_path / "log", _Worker()
    recipes = [pickle.dumps(Watched(lift=lift, log=log)) for lift in range(CASTS + 1)]
    for recipe in (*recipes[:CASTS], recipes[0], recipes[CASTS], recipes[0]):
        Transcript.model_validate_json(worker.hold(recipe, TASKS[0]))
    assert log.read_text().splitlines() == [*(f"{i} opened" for i in range(CASTS)), "1 closed", f"{CASTS} opened"]
    worker.close()
    assert sum(line.endswith(" closed") for line in log.read_text().splitlines()) == CASTS + 1
