"""Rulings over candidates: the declared error rate, fresh seeds, ties, vetoes, what the next attempt is told."""

import random
from pathlib import Path

import pytest
from made import DREAD, MakeCandidate, ScriptedRecipe, profile, profiles

from esc_skills.evolve.acceptance import (
    ALPHA,
    SHARES,
    SPENT,
    Case,
    Paired,
    Paper,
    effect_of,
    hard_profiles,
    looks_of,
    noise_floor,
    pair_talks,
    strata_of,
    trial_seed,
)
from esc_skills.evolve.arena import Arena
from esc_skills.evolve.models import Candidate, Check, ProposalKind, TalkPair, Veto
from esc_skills.evolve.split import Split
from esc_skills.evolve.staging import stage
from esc_skills.simulator.engine import LocalEngine
from esc_skills.simulator.resample import sign_flip_p
from esc_skills.simulator.session import Transcript
from esc_skills.simulator.sources import BankRef
from esc_skills.skills_bank.errors import InputError
from esc_skills.skills_bank.taxonomy import SupportAction

DRAWS = 1000
HARD = tuple(f"made-{i:03d}" for i in range(15))


class NoGuards:
    """Guards that find what they are told to."""

    def __init__(self, *vetoes: Veto) -> None:
        self.vetoes = list(vetoes)
        self.asked = 0

    async def checks(self, case, pairs, strata, arena):
        self.asked += 1
        return [Check(name="risk", run=True, told="Looked.")], self.vetoes


@pytest.fixture
def case_of(parent: BankRef, tmp_path: Path):
    """Return a function that stages a candidate and makes a case of it."""

    def make(candidate: Candidate, repeats: int = 4, seed: int = 3, profiles: tuple[str, ...] = HARD) -> Case:
        staged = stage(parent, [candidate], tmp_path / "banks" / f"{abs(hash(candidate.files['SKILL.md']))}")
        return Case(candidate, ProposalKind.REFINE, parent, staged, profiles, repeats, seed, candidate.attempt)

    return make


def pairs(*differences: int, repeats: int = 1) -> list[TalkPair]:
    return [
        TalkPair(profile=f"p{i:02d}", repeat=repeat, old=40, new=40 + d)
        for i, d in enumerate(differences)
        for repeat in range(repeats)
    ]


# --- paired ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", [Paired(), Paper()])
async def test_a_byte_identical_candidate_is_indecisive_and_nothing_is_held(
    strategy, arena: Arena, make_candidate: MakeCandidate, case_of
):
    guards = NoGuards()
    verdict = await strategy.judge(case_of(make_candidate(None)), arena, guards)
    assert verdict.ruling == "indecisive" and "byte-identical" in verdict.reason and verdict.effect is None
    assert not arena.folder.exists() and guards.asked == 0


@pytest.mark.parametrize("strategy", [Paired(), Paper()])
async def test_a_text_that_changes_no_talk_is_indecisive(
    strategy, arena: Arena, make_candidate: MakeCandidate, case_of
):
    verdict = await strategy.judge(case_of(make_candidate(0)), arena, NoGuards())
    assert verdict.ruling == "indecisive" and "ended as it did" in verdict.reason
    assert {pair.new - pair.old for pair in verdict.pairs} == {0}


async def test_a_better_text_is_accepted_with_its_figures(arena: Arena, make_candidate: MakeCandidate, case_of):
    verdict = await Paired().judge(case_of(make_candidate(4)), arena, NoGuards())
    assert verdict.ruling == "accept" and verdict.reason.startswith("Better: +") and verdict.feedback is None
    assert verdict.effect is not None and verdict.floor is not None
    assert verdict.effect.p <= ALPHA * SHARES[0] and verdict.effect.difference.low > 0
    assert verdict.effect.profiles == 15 and len(verdict.pairs) == verdict.effect.talks
    assert verdict.effect.new == sum(pair.new for pair in verdict.pairs) / len(verdict.pairs)
    assert len({(pair.profile, pair.repeat) for pair in verdict.pairs}) == len(verdict.pairs)
    assert "character: negative" in verdict.strata and verdict.checks[0].told == "Looked."


async def test_a_worse_text_is_rejected_and_the_next_attempt_is_told_where(
    arena: Arena, make_candidate: MakeCandidate, case_of
):
    verdict = await Paired().judge(case_of(make_candidate(-4)), arena, NoGuards())
    assert verdict.ruling in {"reject", "indecisive"} and verdict.feedback is not None
    assert verdict.feedback.worse_profiles and verdict.feedback.worse_actions == (SupportAction.EMOTIONAL_VALIDATION,)
    lost = {p: sum(pair.new - pair.old for pair in verdict.pairs if pair.profile == p) for p in HARD}
    worst = verdict.feedback.worse_profiles[0]
    assert lost[worst] == min(lost.values()) < 0
    assert set(verdict.feedback.worse_profiles) == {p for p in HARD if lost[p] < 0}


async def test_a_significantly_worse_text_is_rejected(arena: Arena, make_candidate: MakeCandidate, case_of):
    strategy = Paired(alpha=3.0)  # a level of one at the first look: only the sign decides
    verdict = await strategy.judge(case_of(make_candidate(-6), repeats=1), arena, NoGuards())
    assert verdict.ruling == "reject" and verdict.reason.startswith("Worse: -")


async def test_a_veto_rejects_what_is_better(arena: Arena, make_candidate: MakeCandidate, case_of):
    veto = Veto(rule="risk", reason="A check is missing.")
    verdict = await Paired().judge(case_of(make_candidate(4)), arena, NoGuards(veto))
    assert verdict.ruling == "reject" and verdict.reason.startswith("Veto: A check is missing. Better: ")
    assert verdict.vetoes == (veto,) and verdict.feedback is not None
    assert "A check is missing" in verdict.feedback.reason


async def test_one_profile_alone_is_never_enough(arena: Arena, make_candidate: MakeCandidate, case_of):
    verdict = await Paired().judge(case_of(make_candidate(6), profiles=HARD[:1]), arena, NoGuards())
    assert verdict.ruling == "indecisive" and verdict.effect is not None
    assert verdict.effect.p == 1 and (verdict.effect.difference.low, verdict.effect.difference.high) == (-100, 100)


async def test_both_texts_meet_the_same_seeds_and_each_attempt_and_look_new_ones(
    arena: Arena, make_candidate: MakeCandidate, case_of
):
    held: list[tuple[str, int]] = []
    talks = arena.talks

    async def noted(bank, profiles, *, repeats, seed):
        held.append((bank.hash, seed))
        return await talks(bank, profiles, repeats=repeats, seed=seed)

    arena.talks = noted  # pyright: ignore[reportAttributeAccessIssue]
    seeds = []
    for attempt in (1, 2):
        held.clear()
        case = case_of(make_candidate(1, attempt), repeats=4)
        await Paired(alpha=1e-9).judge(case, arena, NoGuards())
        old, new = ([seed for bank, seed in held if bank == ref.hash] for ref in (case.parent, case.staged))
        assert set(new) <= set(old) and len(set(new)) == len(new)
        seeds += new
        floor = set(old) - set(new)
        assert trial_seed(case.seed, "floor") in floor
    assert len(set(seeds)) == len(seeds)


# --- paper ----------------------------------------------------------------------------------------------------------


async def test_paper_takes_any_rise_of_the_mean_and_nothing_less(arena: Arena, make_candidate: MakeCandidate, case_of):
    rulings = {}
    for shift in (6, -6):
        verdict = await Paper().judge(case_of(make_candidate(shift)), arena, NoGuards())
        assert verdict.effect is not None and verdict.effect.talks == 15
        rulings[shift] = verdict.ruling
    assert rulings == {6: "accept", -6: "reject"}


async def test_paper_takes_what_brings_all_to_success(parent: BankRef, make_candidate, case_of, tmp_path: Path):
    case = case_of(make_candidate(20))
    arena = Arena(
        tmp_path / "trials", ScriptedRecipe("bank", parent), profiles(), LocalEngine(), prepare=lambda _: None
    )
    verdict = await Paper().judge(case, arena, NoGuards())
    assert verdict.ruling == "accept" and verdict.reason.startswith("All 15 talks reach Success")


# --- the error rate -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("repeats", [1, 2, 3, 4, 6, 8, 16, 24])
@pytest.mark.parametrize("number", [1, 9, 15, 16, 60])
def test_the_looks_of_an_attempt_hold_all_repeats_and_spend_its_level_once(repeats: int, number: int):
    looks = looks_of(repeats, 0.02, number)
    assert sum(look.level for look in looks) == pytest.approx(0.02) and len(looks) <= len(SPENT)
    held = [
        (place, look.first + repeat)
        for look in looks
        for place in range(number)[look.profiles]
        for repeat in range(look.repeats)
    ]
    assert sorted(held) == [(place, repeat) for place in range(number) for repeat in range(repeats)]
    counts = [0] * number
    for look in looks:  # at each look all profiles seen so far weigh alike
        for place in range(number)[look.profiles]:
            counts[place] += look.repeats
        assert len({count for count in counts if count}) == 1
    assert looks[0].profiles.stop == min(number, 15)


async def test_where_a_case_names_more_the_hardest_come_first_and_all_only_where_it_is_open(
    arena: Arena, make_candidate: MakeCandidate, case_of
):
    many = tuple(p.id for p in profiles().profiles[:40])
    hopeless = await Paired().judge(case_of(make_candidate(-3), repeats=2, profiles=many), arena, NoGuards())
    assert {pair.profile for pair in hopeless.pairs} == set(many[:15])
    found = await Paired(alpha=1e-30).judge(case_of(make_candidate(3), repeats=2, profiles=many), arena, NoGuards())
    assert found.effect is not None and found.effect.profiles == 40 and found.effect.talks == 80
    assert len({(pair.profile, pair.repeat) for pair in found.pairs}) == 80


def test_under_no_difference_the_looks_together_err_at_most_as_declared():
    rng = random.Random(4)
    looks = looks_of(8, ALPHA)  # one attempt that may use all of it
    called = 0
    for _ in range(DRAWS):
        sums = [0] * 15
        for look in looks:
            sums = [total + sum(rng.randint(-9, 9) for _ in range(look.repeats)) for total in sums]
            if sign_flip_p(sums) <= look.level:
                called += 1
                break
    assert called / DRAWS <= ALPHA + 2.6 * (ALPHA * (1 - ALPHA) / DRAWS) ** 0.5


# --- what is counted ------------------------------------------------------------------------------------------------


def test_an_effect_takes_the_repeats_of_a_profile_together():
    found = effect_of(pairs(10, -10, 30, 10, repeats=3))
    assert found.profiles == 4 and found.talks == 12 and found.difference.value == 10
    assert found.p == 8 / 16  # of the 16 sums of ±10 ±10 ±30 ±10 eight are at least 40 from 0
    assert effect_of(pairs(10, -10, 30, 10, repeats=3), by_talk=True).p < found.p


def test_differences_that_cancel_are_a_tie_and_no_float_decides_it():
    found = effect_of(pairs(7, -7, 3, -3, repeats=3))
    assert found.difference.value == 0 and found.p == 1


def test_strata_name_what_they_hold():
    known = {p.id: p for p in (profile(i) for i in range(6))}
    some = [TalkPair(profile=id, repeat=0, old=10, new=10 + i) for i, id in enumerate(known)]
    found = strata_of(some, known.__getitem__)
    assert found["character: avoidant"].profiles == 2 and sum(f.talks for n, f in found.items() if "char" in n) == 6
    assert {name.split(":")[0] for name in found} == {"character", "hidden need", "scenario"}


async def test_talks_without_a_partner_are_named(arena: Arena, parent: BankRef):
    one = await arena.talks(parent, HARD[:2], repeats=1, seed=5)
    two = await arena.talks(parent, HARD[:1], repeats=1, seed=5)
    with pytest.raises(InputError, match="made-001 #0"):
        pair_talks(one, two)


async def test_the_floor_is_the_unchanged_bank_on_other_seeds(arena: Arena, parent: BankRef):
    floor = await noise_floor(parent, HARD, 4, 3, arena)
    assert floor.talks == 60 and floor.difference.low < 0 < floor.difference.high
    assert floor.old != floor.new


# --- hard profiles --------------------------------------------------------------------------------------------------


def talk(id: str, points: int, followed: str | None = None, selected: str | None = None) -> Transcript:
    base = profile(1)
    turn = {
        "number": 1,
        "supporter": "So.",
        "points": points,
        "emotion": "B",
        "followed": followed,
        "skills": [{"name": selected, "score": 0.5, "uri": "skill://x"}] if selected else [],
    }
    return Transcript.model_validate(
        {
            "profile": id,
            "repeat": 0,
            "seed": 1,
            "source": "esc-skills",
            "language": "en",
            "scenario": base.scenario,
            "character": base.character,
            "need": base.need,
            "risk": None,
            "start": 40,
            "opening": "So.",
            "turns": [turn],
            "points": points,
            "emotion": "B",
            "end": "rounds",
        }
    )


SPLIT = Split(seed=1, propose=("x",), verify=("a", "b", "c", "d"), sealed=("z",))
TALKS = [
    talk("x", 0, DREAD),
    talk("z", 0, DREAD),
    talk("d", 20, DREAD),
    talk("c", 20, DREAD),
    talk("b", 5),
    talk("a", 60, None, DREAD),
]


def test_hard_profiles_are_the_lowest_of_the_verify_part_that_followed_the_skill_then_those_near_it():
    assert hard_profiles(TALKS, SPLIT, DREAD) == ("c", "d", "a", "b")
    assert hard_profiles(TALKS[::-1], SPLIT, DREAD, 2) == ("c", "d")


def test_profiles_that_a_skill_never_reached_only_fill_up_to_fifteen():
    many = [talk(f"v{i:02d}", i, DREAD if i % 2 else None) for i in range(50)]
    split = Split(seed=1, propose=(), verify=tuple(each.profile for each in many), sealed=())
    assert hard_profiles(many, split, DREAD, 40) == tuple(f"v{i:02d}" for i in range(1, 50, 2))
    few = hard_profiles(many[:20], split, DREAD, 40)
    assert len(few) == 15 and few[:10] == tuple(f"v{i:02d}" for i in range(1, 20, 2)) and few[10] == "v00"
    assert len(hard_profiles(many, split, None, 40)) == 40


def test_for_a_new_skill_they_are_the_lowest_of_all():
    assert hard_profiles(TALKS, SPLIT, None, 3) == ("b", "c", "d")


def test_repeats_of_a_profile_count_with_their_mean():
    more = [*TALKS, talk("c", 90, DREAD).model_copy(update={"repeat": 1})]
    assert hard_profiles(more, SPLIT, DREAD, 2) == ("d", "c")


def test_talks_outside_the_verify_part_are_no_baseline():
    with pytest.raises(InputError, match="verify part"):
        hard_profiles(TALKS[:2], SPLIT, DREAD)
