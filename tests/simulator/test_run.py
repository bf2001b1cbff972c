"""Runs: resumable, the same to the byte, in as many processes as one likes."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from esc_skills.simulator.engine import LocalEngine, Task
from esc_skills.simulator.profiles import Profile
from esc_skills.simulator.run import DONE, LOCK, PARTIAL, RUN, RunFolder, find_run, simulate, tasks_of
from esc_skills.simulator.session import NOT_TAKEN, conversation_seed
from esc_skills.skills_bank.errors import InputError, JobError, LLMRefused

sys.path.insert(0, str(Path(__file__).parent))
from scripted_cast import ScriptedRecipe, profiles, settings

SCRIPT = Path(__file__).with_name("scripted_cast.py")


async def run(folder: Path, n: int = 12, workers: int = 1, recipe=None, **more):
    kept = {key: more.pop(key) for key in ("resume", "on_progress") if key in more}
    given = settings(n, **more)
    return await simulate(folder, given, recipe or ScriptedRecipe(), profiles(n), LocalEngine(workers), **kept)


async def test_a_run_holds_one_line_a_profile_in_their_order(tmp_path):
    done = await run(tmp_path / "a")
    found = list(done.transcripts())
    assert [t.profile for t in found] == [p.id for p in profiles(12).profiles]
    assert all(t.seed == conversation_seed(7, t.profile, 0) for t in found)
    assert sorted(path.name for path in done.folder.iterdir()) == sorted([LOCK, RUN, DONE])
    assert json.loads((done.folder / RUN).read_text())["profiles_hash"] == profiles(12).digest


@pytest.mark.slow
async def test_two_processes_write_the_same_bytes_as_one(tmp_path):
    await run(tmp_path / "one", 24)
    await run(tmp_path / "two", 24, workers=2)
    for name in (RUN, DONE):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


async def test_talks_side_by_side_give_the_same_bytes_as_one_after_the_other(tmp_path):
    await run(tmp_path / "one")
    await run(tmp_path / "many", recipe=ScriptedRecipe(asks_models=True))
    assert (tmp_path / "one" / DONE).read_bytes() == (tmp_path / "many" / DONE).read_bytes()


async def test_another_seed_gives_other_talks_with_the_same_people(tmp_path):
    one, other = await run(tmp_path / "a"), await run(tmp_path / "b", seed=8)
    assert [t.profile for t in one.transcripts()] == [t.profile for t in other.transcripts()]
    assert (tmp_path / "a" / DONE).read_bytes() != (tmp_path / "b" / DONE).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
async def test_a_killed_run_is_taken_up_with_no_talk_lost_or_repeated(tmp_path, workers):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    await run(whole, 20)
    process = subprocess.Popen([sys.executable, str(SCRIPT), str(cut), "20", "0.02", str(workers)])
    partial = cut / PARTIAL
    deadline = time.monotonic() + 60
    while not (partial.is_file() and partial.read_bytes().count(b"\n") >= 4):
        assert time.monotonic() < deadline and process.poll() is None, "the run wrote nothing, or was too quick"
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with partial.open("ab") as file:
        file.write(b'{"format":1,"profile":"composed-0')  # as a kill in the middle of a write leaves it
    before = partial.read_bytes().splitlines(keepends=True)[:-1]
    assert 4 <= len(before) < 20
    held: list[str] = []
    await run(cut, 20, resume=True, on_progress=lambda t: held.append(t.profile))
    assert sorted(held) == sorted(p.id for p in profiles(20).profiles)
    assert (cut / DONE).read_bytes() == (whole / DONE).read_bytes()
    assert not partial.exists()


@pytest.mark.slow
def test_workers_end_when_their_parent_is_killed(tmp_path):
    import psutil

    process = subprocess.Popen([sys.executable, str(SCRIPT), str(tmp_path / "run"), "60", "0.05", "2"])
    deadline = time.monotonic() + 60
    while not (tmp_path / "run" / PARTIAL).is_file() or not (tmp_path / "run" / PARTIAL).read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    children = psutil.Process(process.pid).children(recursive=True)
    workers = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    assert len(workers) == 2
    process.kill()
    process.wait()
    gone, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive and len(gone) == 2


async def test_what_was_begun_is_only_taken_up_when_asked(tmp_path):
    await run(tmp_path / "a")
    with pytest.raises(InputError, match=r"is complete. Pass --resume"):
        await run(tmp_path / "a")
    told: list[str] = []
    await run(tmp_path / "a", resume=True, on_progress=lambda t: told.append(t.profile))
    assert len(told) == 12


async def test_a_folder_with_another_run_is_left_alone(tmp_path):
    await run(tmp_path / "a")
    before = (tmp_path / "a" / DONE).read_bytes()
    with pytest.raises(InputError, match=r"differs in seed \(7, now 9\)"):
        await run(tmp_path / "a", seed=9, resume=True)
    assert (tmp_path / "a" / DONE).read_bytes() == before


async def test_a_folder_with_something_else_is_left_alone(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="no run"):
        await run(tmp_path / "a")


async def test_two_processes_do_not_write_one_run(tmp_path):
    from esc_skills.pipeline.jobs import take

    (tmp_path / "a").mkdir()
    held = take(tmp_path / "a" / LOCK)
    assert held is not None
    with pytest.raises(JobError, match="Another process"):
        await run(tmp_path / "a")
    held.close()
    await run(tmp_path / "a", resume=True)


async def test_a_failure_keeps_what_was_finished(tmp_path):
    class Breaks:
        def __init__(self) -> None:
            self.held = 0

        async def converse(self, recipe, tasks):
            async for transcript in LocalEngine().converse(recipe, tasks):
                self.held += 1
                if self.held == 5:
                    raise JobError("the lights went out")
                yield transcript

    with pytest.raises(JobError, match="lights"):
        await simulate(tmp_path / "a", settings(12), ScriptedRecipe(), profiles(12), Breaks())
    assert (tmp_path / "a" / PARTIAL).read_bytes().count(b"\n") == 4
    await run(tmp_path / "a", resume=True)
    await run(tmp_path / "b")
    assert (tmp_path / "a" / DONE).read_bytes() == (tmp_path / "b" / DONE).read_bytes()


async def test_a_server_that_takes_no_talk_ends_the_run(tmp_path):
    class Refused:
        async def converse(self, recipe, tasks):
            async for transcript in LocalEngine().converse(recipe, tasks):
                yield transcript.model_copy(update={"trouble": NOT_TAKEN, "end": "refused"})

    with pytest.raises(LLMRefused, match="none of the first 5"):
        await simulate(tmp_path / "a", settings(12), ScriptedRecipe(), profiles(12), Refused())


def ids(tasks: list[Task]) -> list[tuple[str, int]]:
    return [(task.profile.id, task.repeat) for task in tasks]


def test_a_small_run_is_part_of_a_larger_one_and_keeps_its_order():
    found = profiles(20)
    small, large, twice = (ids(tasks_of(found, n, 1)) for n in (5, 11, 45))
    assert set(small) < set(large) < set(twice) and len(small) == 5 and len(large) == 11 and len(twice) == 45
    assert small == sorted(small) and max(repeat for _, repeat in twice) == 2
    assert ids(tasks_of(found, 5, 1)) == ids(tasks_of(found, 5, 2))


def test_seeds_do_not_depend_on_the_order_or_the_number():
    few = {(t.profile.id, t.repeat): t.seed for t in tasks_of(profiles(20), 5, 3)}
    many = {(t.profile.id, t.repeat): t.seed for t in tasks_of(profiles(20), 60, 3)}
    assert few.items() <= many.items() and len(set(many.values())) == 60


async def test_a_run_is_found_by_folder_id_or_beginning(tmp_path):
    for name in ("bank-a", "bank-b"):
        await run(tmp_path / name, 2)
    assert find_run("bank-a", tmp_path).folder == tmp_path / "bank-a"
    assert find_run(tmp_path / "bank-b", Path("nowhere")).id == "bank-b"
    with pytest.raises(InputError, match="Several runs begin"):
        find_run("bank", tmp_path)
    with pytest.raises(InputError, match="Runs there: bank-a, bank-b"):
        find_run("other", tmp_path)


def test_the_id_tells_what_it_is_and_changes_with_every_setting():
    assert settings(4).id.startswith("bank-local-composed-n4-s7-")
    assert len({settings(4, bank_hash=value).id for value in ("a", "b", None)}) == 3


async def test_a_broken_line_of_a_complete_run_is_named(tmp_path):
    done = await run(tmp_path / "a", 3)
    lines = (done.folder / DONE).read_bytes().splitlines(keepends=True)
    (done.folder / DONE).write_bytes(lines[0] + b"{}\n" + lines[2])
    with pytest.raises(InputError, match="line 2 is no transcript"):
        list(RunFolder(done.folder).transcripts())


def test_profiles_travel_to_workers():
    import pickle

    first = profiles(1).profiles[0]
    assert pickle.loads(pickle.dumps(Task(first, 0, 1))).profile == first and isinstance(first, Profile)
    assert asyncio.iscoroutinefunction(simulate)
