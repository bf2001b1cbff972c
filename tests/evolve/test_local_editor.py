"""Texts without a model: what a proposal changes, what the next attempt changes, new skills, mended faults."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from esc_skills.evolve import screen as screening
from esc_skills.evolve.faults import Fault, FaultKind, plant
from esc_skills.evolve.generation import Brief, brief_for, known_cells, report
from esc_skills.evolve.local_editor import FEWEST, LocalEditor
from esc_skills.evolve.models import Candidate, Cite, Context, Feedback, Finding, FindingKind, Proposal, ProposalKind
from esc_skills.evolve.screen import hits, passages, screen
from esc_skills.evolve.staging import stage
from esc_skills.simulator.sources import BankRef
from esc_skills.skills_bank.bank import Bank
from esc_skills.skills_bank.errors import GenerationError
from esc_skills.skills_bank.models import Evidence, Skill
from esc_skills.skills_bank.place import shipped_bank
from esc_skills.skills_bank.skillmd import parse_skill
from esc_skills.skills_bank.taxonomy import Scenario, SeekerState, SupportAction
from esc_skills.skills_bank.validate import EVIDENCE_FILE, SKILL_FILE, problems_in_bank

from .composed_talks import OPENING, followed, talk, turn

S, A = SeekerState, SupportAction
HOPELESS, RAPPORT, ANGER = "meeting-hopelessness", "keeping-rapport-and-closing-well", "hearing-out-anger"


@pytest.fixture(autouse=True)
def no_corpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("ESC_SHARED_DIR", str(tmp_path / "none"))  # the corpus takes seconds to read
    screening.corpus.cache_clear()
    yield
    screening.corpus.cache_clear()


@pytest.fixture(scope="module")
def bank() -> Bank:
    loaded = Bank.load(shipped_bank())
    known_cells(loaded)
    return loaded


def propose(
    skill: str | None,
    states: Sequence[SeekerState],
    avoid: Sequence[SupportAction] = (),
    favour: Sequence[SupportAction] = (),
    kind: FindingKind = FindingKind.HARM,
    scenarios: Sequence[Scenario] = (),
) -> Proposal:
    finding = Finding(
        kind=kind, skill=skill, context=Context(states=tuple(states), scenarios=tuple(scenarios)),
        what="Replies were followed by less than elsewhere.", cites=(Cite(profile="composed-1", turns=(1, 2)),),
        turns=12, effect=-1.5, avoid=tuple(avoid), favour=tuple(favour),
    )  # fmt: skip
    return Proposal(
        id=f"refine-{skill}" if skill else "create-another",
        kind=ProposalKind.REFINE if skill else ProposalKind.CREATE,
        skill=skill, context=finding.context, title="Something", findings=(finding,), talks=9, turns=12, priority=18.0,
        avoid=tuple(avoid), favour=tuple(favour),
    )  # fmt: skip


async def edit(proposal: Proposal, bank: Bank, attempt: int = 1, **more: object) -> tuple[Candidate, Skill]:
    made = await LocalEditor().generate(Brief.model_validate({"proposal": proposal, "attempt": attempt, **more}), bank)
    assert screen(made, bank) == []
    return made, parse_skill(made.files[SKILL_FILE])


def actions(skill: Skill, state: SeekerState) -> list[SupportAction]:
    plan = skill.plan_for(state)
    assert plan is not None
    return [step.action for step in plan.steps]


HARMED = propose(
    HOPELESS, [S.HOPELESSNESS], [A.REFLECTIVE_QUESTIONING, A.PRACTICAL_SUGGESTION],
    [A.EMOTIONAL_VALIDATION, A.NORMALIZATION],
)  # fmt: skip


async def test_what_went_badly_goes_and_what_went_well_comes_first(bank: Bank):
    made, skill = await edit(HARMED, bank)
    assert actions(skill, S.HOPELESSNESS)[:2] == [A.EMOTIONAL_VALIDATION, A.NORMALIZATION]
    assert A.PRACTICAL_SUGGESTION not in actions(skill, S.HOPELESSNESS)
    assert any(pitfall.action == A.REFLECTIVE_QUESTIONING for pitfall in skill.pitfalls)
    old = bank.skills[HOPELESS]
    assert len(skill.examples) == len(old.examples) + 1 and skill.overview == old.overview
    assert set(actions(old, S.HOPELESSNESS)) - set(actions(skill, S.HOPELESSNESS)) == {A.PRACTICAL_SUGGESTION}
    assert "no longer recommends practical suggestion" in made.what and "Warns of reflective" in made.what


async def test_a_refined_skill_is_signed_and_keeps_its_evidence(bank: Bank):
    made, skill = await edit(HARMED, bank)
    assert (skill.version, skill.parent) == ("2", f"{HOPELESS}@1")
    assert skill.written_by.startswith("local-editor@2") and skill.extra_metadata == {}
    evidence = Evidence.model_validate_json(made.files[EVIDENCE_FILE])
    old = {(p.state, p.action) for p in bank.evidence[HOPELESS].prototypes}
    assert {(p.state, p.action) for p in evidence.prototypes} >= old
    added = (S.HOPELESSNESS, A.NORMALIZATION)
    assert (added in {(p.state, p.action) for p in evidence.prototypes}) == (added in known_cells(bank))


async def test_the_same_brief_gives_the_same_text(bank: Bank):
    assert (await edit(HARMED, bank))[0] == (await edit(HARMED, bank))[0]


async def test_added_lines_are_said_nowhere_else(bank: Bank):
    _, skill = await edit(HARMED, bank)
    spoken = {s.say for k in bank.skills.values() for plan in k.plans for s in plan.steps if k.name != HOPELESS}
    new = [step.say for plan in skill.plans for step in plan.steps if step.action == A.NORMALIZATION]
    assert new and not spoken & set(new)


@pytest.mark.slow
async def test_the_next_attempt_leaves_out_what_did_worse(bank: Bank):
    first, _ = await edit(HARMED, bank)
    told = Feedback(attempt=1, reason="It ended lower.", worse_actions=(A.NORMALIZATION,))
    second, skill = await edit(HARMED, bank, 2, feedback=told, last=first)
    assert A.NORMALIZATION not in actions(skill, S.HOPELESSNESS)
    assert len(skill.examples) == len(bank.skills[HOPELESS].examples)
    third, short = await edit(HARMED, bank, 3, feedback=told, last=second)
    assert len(actions(short, S.HOPELESSNESS)) == 4 and len(short.when_not) > len(skill.when_not)
    assert len({one.files[SKILL_FILE] for one in (first, second, third)}) == 3


async def test_a_skill_that_is_passed_over_names_another_sign(bank: Bank):
    _, skill = await edit(propose("easing-self-blame", [S.SELF_BLAME], kind=FindingKind.GAP), bank)
    assert len(skill.when) == len(bank.skills["easing-self-blame"].when) + 1


async def test_a_skill_that_strayed_says_what_it_is_not_for(bank: Bank):
    made, skill = await edit(propose(ANGER, [S.HOPELESSNESS]), bank)
    assert len(skill.when_not) == len(bank.skills[ANGER].when_not) + 1
    assert skill.plans == bank.skills[ANGER].plans and "Is not for hopelessness" in made.what


async def test_states_that_do_well_are_left_alone(bank: Bank):
    _, skill = await edit(
        propose(RAPPORT, [S.SADNESS_AND_GRIEF], [A.RAPPORT_AND_CLOSING], [A.FEELING_REFLECTION]), bank
    )
    old = bank.skills[RAPPORT]
    assert [p for p in skill.plans if p.state != S.SADNESS_AND_GRIEF] == [
        p for p in old.plans if p.state != S.SADNESS_AND_GRIEF
    ]
    assert A.FEELING_REFLECTION in actions(skill, S.SADNESS_AND_GRIEF) and A.FEELING_REFLECTION in skill.actions


async def test_the_third_attempt_may_split_a_state_off(bank: Bank):
    asked = propose(RAPPORT, [S.SADNESS_AND_GRIEF], [A.RAPPORT_AND_CLOSING], [A.FEELING_REFLECTION])
    made, skill = await edit(asked, bank, 3)
    assert made.replaces is None and made.skill == skill.name not in bank.skills
    assert skill.states == (S.SADNESS_AND_GRIEF,) and skill.parent == f"{RAPPORT}@1" and skill.version == "1"


async def test_nothing_to_change_is_an_error(bank: Bank):
    with pytest.raises(GenerationError, match="nothing is left to change"):
        await edit(propose(ANGER, [S.HOPELESSNESS]), bank, 2)
    with pytest.raises(GenerationError, match="no skill 'gone'"):
        await edit(propose("gone", []), bank)


async def test_the_safety_check_is_never_dropped(bank: Bank):
    safety = "checking-safety-and-referring"
    asked = propose(safety, [S.HOPELESSNESS], [A.SAFETY_CHECK_AND_REFERRAL], [A.FEELING_REFLECTION])
    _, skill = await edit(asked, bank)
    assert actions(skill, S.HOPELESSNESS)[0] == A.SAFETY_CHECK_AND_REFERRAL


# --- words that did not land ----------------------------------------------------------------------------------------


def with_words(
    proposal: Proposal, *reword: SupportAction, states: Sequence[SeekerState] = (S.HOPELESSNESS,)
) -> Proposal:
    """The proposal with a finding that these steps' words did not land."""
    words = Finding(
        kind=FindingKind.WORDS, skill=proposal.skill, context=Context(states=tuple(states)), what="They do not land.",
        cites=(Cite(profile="composed-2", turns=(1,)),), turns=9, effect=-2.0, reword=reword,
    )  # fmt: skip
    return proposal.model_copy(update={"findings": (*proposal.findings, words), "reword": reword})


def says(skill: Skill, state: SeekerState) -> dict[SupportAction, str | None]:
    plan = skill.plan_for(state)
    assert plan is not None
    return {step.action: step.say for step in plan.steps}


async def test_words_that_did_not_land_are_written_anew_beside_the_other_edits(bank: Bank):
    made, skill = await edit(with_words(HARMED, A.OPEN_EXPLORATION), bank, attempt=2)
    plain, before = await edit(HARMED, bank)
    new, old = says(skill, S.HOPELESSNESS), says(before, S.HOPELESSNESS)
    assert {action for action in new if new[action] != old[action]} == {A.OPEN_EXPLORATION}
    assert list(new) == list(old) and made.what.startswith(plain.what)
    assert "new words for open exploration, heard as it by" in made.what


async def test_the_words_alone_are_tried_first(bank: Bank):
    made, skill = await edit(with_words(HARMED, A.OPEN_EXPLORATION), bank)
    old = bank.skills[HOPELESS]
    assert says(skill, S.HOPELESSNESS)[A.OPEN_EXPLORATION] != says(old, S.HOPELESSNESS)[A.OPEN_EXPLORATION]
    assert [actions(skill, plan.state) for plan in skill.plans] == [actions(old, plan.state) for plan in old.plans]
    assert (skill.pitfalls, skill.when, skill.examples) == (old.pitfalls, old.when, old.examples)
    assert "recommends" not in made.what


@pytest.mark.slow
async def test_each_attempt_has_other_words(bank: Bank):
    asked, told, last = with_words(HARMED, A.OPEN_EXPLORATION), None, None
    lines = []
    for attempt in (1, 2, 3):
        last, skill = await edit(asked, bank, attempt, last=last, feedback=told)
        lines.append(says(skill, S.HOPELESSNESS)[A.OPEN_EXPLORATION])
        told = Feedback(attempt=attempt, reason="It ended lower.")
    assert len({*lines, says(bank.skills[HOPELESS], S.HOPELESSNESS)[A.OPEN_EXPLORATION]}) == 4


async def test_words_alone_change_nothing_but_words_and_what_they_meant_is_not_avoided(bank: Bank):
    harm = propose(HOPELESS, [S.HOPELESSNESS], [A.OPEN_EXPLORATION])
    words = with_words(harm, A.OPEN_EXPLORATION)
    _, skill = await edit(words, bank)
    assert actions(skill, S.HOPELESSNESS) == actions(bank.skills[HOPELESS], S.HOPELESSNESS)
    assert skill.pitfalls == bank.skills[HOPELESS].pitfalls


async def test_a_state_that_only_lacks_words_is_not_edited_for_another(bank: Bank):
    harmed = propose(RAPPORT, [S.SADNESS_AND_GRIEF], [A.RAPPORT_AND_CLOSING])
    asked = with_words(harmed, A.RAPPORT_AND_CLOSING, states=[S.CALM_OR_HOPEFUL])
    _, skill = await edit(asked, bank, attempt=2)
    assert actions(skill, S.CALM_OR_HOPEFUL) == actions(bank.skills[RAPPORT], S.CALM_OR_HOPEFUL)
    assert A.RAPPORT_AND_CLOSING not in actions(skill, S.SADNESS_AND_GRIEF)


# --- new skills -----------------------------------------------------------------------------------------------------


async def test_a_new_skill_is_built_from_what_went_well(bank: Bank):
    asked = propose(
        None, [S.WITHDRAWAL, S.RESISTANCE], [A.PRACTICAL_SUGGESTION], [A.RESTATEMENT],
        FindingKind.GAP, [Scenario.WORKPLACE_STRESS],
    )  # fmt: skip
    made, skill = await edit(asked, bank)
    assert made.replaces is None and skill.name not in bank.skills and skill.parent is None
    assert set(skill.states) == {S.WITHDRAWAL, S.RESISTANCE} and Scenario.WORKPLACE_STRESS in skill.scenarios
    assert actions(skill, S.RESISTANCE)[0] == A.RESTATEMENT
    assert all(A.PRACTICAL_SUGGESTION not in actions(skill, state) for state in skill.states)
    evidence = Evidence.model_validate_json(made.files[EVIDENCE_FILE])
    known = known_cells(bank)
    assert all(known[p.state, p.action] == p for p in evidence.prototypes)


@pytest.mark.slow
async def test_a_new_skill_is_written_otherwise_after_a_failure(bank: Bank):
    asked = propose(None, [S.WITHDRAWAL, S.RESISTANCE], [], [A.RESTATEMENT], FindingKind.GAP)
    first, _ = await edit(asked, bank)
    told = Feedback(attempt=1, reason="Lower.", worse_actions=(A.RESTATEMENT,))
    second, skill = await edit(asked, bank, 2, feedback=told, last=first)
    assert all(A.RESTATEMENT not in actions(skill, state) for state in skill.states)
    _, narrow = await edit(asked, bank, 3, feedback=told, last=second)
    assert len(narrow.states) == 1


async def test_a_new_skill_needs_a_state(bank: Bank):
    with pytest.raises(GenerationError):
        await edit(propose(None, [], kind=FindingKind.GAP), bank)


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(FaultKind))
async def test_a_planted_fault_is_mended(kind: FaultKind, tmp_path: Path):
    plant(shipped_bank(), [Fault(kind=kind, skill=HOPELESS)], tmp_path / "damaged")
    damaged = Bank.load(tmp_path / "damaged")
    if kind == FaultKind.DELETED:
        _, skill = await edit(propose(None, [S.HOPELESSNESS], kind=FindingKind.GAP), damaged)
        assert skill.states == (S.HOPELESSNESS,) and len(actions(skill, S.HOPELESSNESS)) >= FEWEST
        return
    bad = actions(damaged.skills[HOPELESS], S.HOPELESSNESS) if kind == FaultKind.SWAPPED else []
    finding = FindingKind.UNSAFE if kind == FaultKind.UNSAFE else FindingKind.GAP
    _, skill = await edit(propose(HOPELESS, [S.HOPELESSNESS], bad, kind=finding), damaged)
    assert not set(bad) & set(actions(skill, S.HOPELESSNESS)) and len(actions(skill, S.HOPELESSNESS)) >= FEWEST
    assert not [hit for place, text in passages(skill) for hit in hits(text, place)]


@pytest.mark.slow
async def test_candidates_make_a_bank(bank: Bank, tmp_path: Path):
    one, _ = await edit(HARMED, bank)
    other, _ = await edit(propose(None, [S.WITHDRAWAL], [], [A.RESTATEMENT], FindingKind.GAP), bank)
    parent = BankRef(shipped_bank(), tmp_path / "index", bank.version, bank.hash)
    staged = stage(parent, [one, other], tmp_path / "staged")
    assert staged.hash != bank.hash and len(Bank.load(tmp_path / "staged").skills) == len(bank.skills) + 1
    assert problems_in_bank(tmp_path / "staged", strict=True) == []


# --- what a generator is told ---------------------------------------------------------------------------------------


def test_a_brief_shows_the_talks_that_went_worst():
    talks = [
        talk([turn(1, 40, -number, **followed(HOPELESS)), turn(2, 40, number)], f"composed-{number}")
        for number in range(1, 9)
    ]
    brief = brief_for(HARMED, 1, talks, {})
    assert [one.profile for one in brief.bad] == ["composed-8", "composed-7"]
    assert len(brief.reports) == 5 and brief.reports[0].startswith("composed-8, talk 0.")


def test_a_skill_that_was_never_followed_is_told_by_what_is_cited():
    talks = [talk([turn(1, 40, -1)], f"composed-{number}") for number in (1, 2)]
    assert [one.profile for one in brief_for(HARMED, 1, talks, {}).bad] == ["composed-1"]


def test_a_report_holds_no_word_of_the_seekers():
    told = report(talk([turn(1, 40, -3, **followed(HOPELESS)), turn(2, 37)]))
    assert OPENING not in told and "So it is" not in told
    assert f"Followed {HOPELESS}" in told and "Change -3, to 37" in told and "Hidden need: Deep empathy" in told
