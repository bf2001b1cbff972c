"""Trials: named by what they depend on, kept, taken up, never held twice."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from made import MakeCandidate, ScriptedRecipe, profiles

from esc_skills.evolve.arena import Arena
from esc_skills.evolve.staging import stage
from esc_skills.pipeline.llm.call import Call
from esc_skills.pipeline.llm.client import LLMMessage, LLMRequest, Role
from esc_skills.pipeline.llm.messages_api import MessagesAPI
from esc_skills.pipeline.llm.settings import LLMSettings
from esc_skills.simulator.casting import CastRecipe
from esc_skills.simulator.engine import LocalEngine, Task
from esc_skills.simulator.profiles import ProfileSet, load_profiles
from esc_skills.simulator.run import DONE, PARTIAL
from esc_skills.simulator.session import Transcript
from esc_skills.simulator.sources import BankRef
from esc_skills.skills_bank.errors import InputError

SOME = ("made-003", "made-001", "made-002")


class Counting:
    """An engine that counts the talks it is given, and stops after some."""

    def __init__(self, most: int = 10**6) -> None:
        self.held: list[Task] = []
        self.recipes: list[CastRecipe] = []
        self._most = most

    async def converse(self, recipe, tasks):
        self.recipes.append(recipe)
        async for talk in LocalEngine().converse(recipe, self._counted(tasks)):
            yield talk

    def _counted(self, tasks):
        for task in tasks:
            if len(self.held) >= self._most:
                raise RuntimeError("killed")
            self.held.append(task)
            yield task


def make(folder: Path, recipe: CastRecipe, engine, told: list[Transcript] | None = None) -> Arena:
    on_talk = told.append if told is not None else None
    return Arena(folder, recipe, profiles(), engine, on_talk, prepare=lambda _: None)


async def test_talks_come_in_the_order_of_the_profiles_as_often_as_asked(arena: Arena, parent: BankRef):
    found = await arena.talks(parent, SOME, repeats=2, seed=5)
    assert [talk.key for talk in found] == [(id, repeat) for id in sorted(SOME) for repeat in (0, 1)]


async def test_a_trial_is_held_once_and_other_banks_seeds_profiles_and_repeats_are_other_trials(
    parent: BankRef, make_candidate: MakeCandidate, tmp_path: Path
):
    engine = Counting()
    recipe = ScriptedRecipe("bank", parent)
    arena = make(tmp_path / "trials", recipe, engine)
    first = await arena.hold(parent, SOME, repeats=1, seed=5)
    again = await make(tmp_path / "trials", recipe, engine).hold(parent, SOME[::-1], repeats=1, seed=5)
    assert again.folder == first.folder and len(engine.held) == 3
    other = stage(parent, [make_candidate(2)], tmp_path / "other")
    folders = {
        first.folder,
        (await arena.hold(other, SOME, repeats=1, seed=5)).folder,
        (await arena.hold(parent, SOME, repeats=1, seed=6)).folder,
        (await arena.hold(parent, SOME, repeats=2, seed=5)).folder,
        (await arena.hold(parent, SOME[:2], repeats=1, seed=5)).folder,
    }
    assert len(folders) == 5 and len(engine.held) == 3 + 3 + 3 + 6 + 2


async def test_a_trial_that_was_begun_is_taken_up_and_ends_as_an_undisturbed_one(parent: BankRef, tmp_path: Path):
    recipe = ScriptedRecipe("bank", parent)
    whole = await make(tmp_path / "whole", recipe, LocalEngine()).hold(parent, SOME, repeats=3, seed=5)
    dying = Counting(4)
    with pytest.raises(RuntimeError, match="killed"):
        await make(tmp_path / "trials", recipe, dying).hold(parent, SOME, repeats=3, seed=5)
    assert len(list((tmp_path / "trials").glob(f"*/{PARTIAL}"))) == 1
    engine = Counting()
    run = await make(tmp_path / "trials", recipe, engine).hold(parent, SOME, repeats=3, seed=5)
    assert 9 - 4 <= len(engine.held) < 9
    assert (run.folder / DONE).read_bytes() == (whole.folder / DONE).read_bytes()


async def test_who_listens_is_told_of_each_talk_once_also_of_those_held_before(parent: BankRef, tmp_path: Path):
    recipe = ScriptedRecipe("bank", parent)
    for _ in range(2):
        told: list[Transcript] = []
        arena = make(tmp_path / "trials", recipe, LocalEngine(), told)
        for _ in range(2):
            await arena.hold(parent, SOME, repeats=2, seed=5)
        assert len(told) == 6


async def test_a_bank_is_prepared_once_and_not_for_talks_that_were_held(parent: BankRef, tmp_path: Path):
    prepared: list[BankRef] = []
    recipe = ScriptedRecipe("bank", parent)
    for _ in range(2):
        arena = Arena(tmp_path / "trials", recipe, profiles(), LocalEngine(), prepare=prepared.append)
        for seed in (1, 2):
            await arena.hold(parent, SOME, repeats=1, seed=seed)
    assert prepared == [parent]


async def test_two_banks_on_one_seed_meet_the_same_luck(
    arena: Arena, parent: BankRef, make_candidate: MakeCandidate, tmp_path: Path
):
    other = stage(parent, [make_candidate(0)], tmp_path / "other")
    old, new = [await arena.talks(bank, SOME, repeats=2, seed=5) for bank in (parent, other)]
    assert [talk.points for talk in old] == [talk.points for talk in new]


@dataclass(frozen=True)
class Asking(ScriptedRecipe):
    """A scripted cast that passes for one with models."""

    @property
    def asks_models(self) -> bool:
        return True


async def test_where_models_talk_each_repeat_and_seed_is_a_draw_of_its_own(parent: BankRef, tmp_path: Path):
    engine = Counting()
    arena = make(tmp_path / "trials", Asking("bank", parent), engine)
    assert len(await arena.talks(parent, SOME, repeats=2, seed=5)) == 6
    assert [recipe.draw for recipe in engine.recipes] == ["5/0", "5/1"]
    await arena.talks(parent, SOME, repeats=1, seed=6)
    assert engine.recipes[-1].draw == "6/0"


async def test_a_profile_nobody_knows_is_named(arena: Arena, parent: BankRef):
    with pytest.raises(InputError, match="'made-999'"):
        await arena.hold(parent, ["made-999"], repeats=1, seed=5)
    with pytest.raises(InputError, match="none was named"):
        await arena.hold(parent, [], repeats=1, seed=5)


def test_a_draw_tells_calls_apart_and_stays_out_of_what_is_sent():
    asked = LLMRequest(
        role=Role.SEEKER,
        model="m",
        prompt="p@1",
        system="s",
        messages=(LLMMessage(role="user", content="c"),),
        max_tokens=9,
    )
    hashes = {Call.of(asked.model_copy(update={"draw": draw}), None).hash for draw in ("5/0", "5/1", "6/0")}
    assert len(hashes) == 3 and Call.of(asked, None).hash not in hashes
    assert Call.of(asked, None).hash == Call.of(asked.model_copy(update={"draw": ""}), None).hash
    with_draw = asked.model_copy(update={"draw": "5/0"})
    api = MessagesAPI(LLMSettings(llm_base_url="http://127.0.0.1:9"))
    assert api.body(Call.of(with_draw, None)) == api.body(Call.of(asked, None))


@pytest.mark.slow
async def test_local_talks_are_the_same_in_several_processes_and_read_the_vectors_the_parent_made(
    tmp_path: Path, make_candidate: MakeCandidate, parent: BankRef
):
    some = ProfileSet(name="evaluation", profiles=load_profiles("evaluation").profiles[:4])
    ids = [profile.id for profile in some.profiles]
    staged = stage(parent, [make_candidate(1)], tmp_path / "staged")
    found, made = [], set()
    for workers in (1, 2):
        with LocalEngine(workers) as engine:
            arena = Arena(tmp_path / f"trials-{workers}", CastRecipe("bank", parent), some, engine)
            found.append([await arena.talks(bank, ids, repeats=1, seed=5) for bank in (parent, staged)])
        made.add((staged.index / "vectors.npz").stat().st_mtime_ns)
    assert found[0] == found[1] and len(made) == 1
    assert {turn.bank_version for talk in found[0][1] for turn in talk.turns} == {staged.version}
