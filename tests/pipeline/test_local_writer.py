"""Skills without a model: valid, stable, honest about the numbers, and never advising what did harm."""

import random
import re
from pathlib import Path

import pytest
from skills_ref.validator import validate as agentskills_validate

from esc_skills.pipeline.clusters import Cluster, load_clusters
from esc_skills.pipeline.corpus import read_corpus
from esc_skills.pipeline.local_writer import LocalWriter, stage_of, words_for
from esc_skills.pipeline.overlap import copied, corpus_runs
from esc_skills.pipeline.phrasebook import load_phrases
from esc_skills.pipeline.prototypes import index, prototypes
from esc_skills.pipeline.steps import harmful, harms, ordered, risky, steps, weak
from esc_skills.pipeline.units import units
from esc_skills.pipeline.writers import DossierFacts, gather, skill_files
from esc_skills.skills_bank.bank import Bank
from esc_skills.skills_bank.errors import SkillWriteError
from esc_skills.skills_bank.models import Proportion, Prototype, Skill
from esc_skills.skills_bank.taxonomy import ResponseChange, Scenario, SeekerState, SupportAction
from esc_skills.skills_bank.validate import problems_in_bank

SAFETY = SupportAction.SAFETY_CHECK_AND_REFERRAL


def proto(state: str, action: str, good: int, bad: int, n: int | None = None) -> Prototype:
    n = n or good + bad
    return Prototype(
        state=SeekerState(state), action=SupportAction(action), n=n, n_key=good + bad,
        positive=Proportion.wilson(good, n), negative=Proportion.wilson(bad, n), lift_positive=0.0, lift_negative=0.0,
        failed_share=0.0, scenarios={Scenario.LONELINESS: n},
        changes={c: k for c, k in (
            (ResponseChange.INCREASED_HOPE, good), (ResponseChange.INCREASED_RESISTANCE, bad),
            (ResponseChange.NO_OBSERVABLE_CHANGE, n - good - bad),
        ) if k},
    )  # fmt: skip


def facts_from(*found: Prototype, cluster: str = "c01") -> DossierFacts:
    return DossierFacts(
        cluster=Cluster(
            id=cluster, label="composed", states=tuple(dict.fromkeys(p.state for p in found)),
            actions=tuple(dict.fromkeys(p.action for p in found)), scenarios=(Scenario.LONELINESS,),
            n=sum(p.n for p in found), n_key=sum(p.n_key for p in found),
            prototypes=tuple((p.state, p.action) for p in found), neighbours=(),
        ),
        prototypes=found,
    )  # fmt: skip


@pytest.fixture(scope="module")
def known() -> list[Prototype]:
    return prototypes(units())


@pytest.fixture(scope="module")
def facts(known: list[Prototype]) -> list[DossierFacts]:
    return gather(load_clusters(), known)


async def write_all(facts: list[DossierFacts], folder: Path) -> dict[str, Skill]:
    writer, skills = LocalWriter(), {}
    for one in facts:
        skill = await writer.write(one, skills)
        skills[skill.name] = skill
        for name, text in skill_files(skill, one).items():
            path = folder / skill.name / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return skills


async def test_every_shipped_cluster_becomes_a_valid_skill(facts: list[DossierFacts], tmp_path: Path):
    skills = await write_all(facts, tmp_path)
    assert len(skills) == len(facts)
    assert [str(problem) for problem in problems_in_bank(tmp_path, strict=True)] == []
    assert {folder.name: found for folder in tmp_path.iterdir() if (found := list(agentskills_validate(folder)))} == {}
    assert set(Bank.load(tmp_path).skills) == set(skills)
    assert {plan.state for skill in skills.values() for plan in skill.plans} == set(SeekerState)
    assert all(re.fullmatch(r"local-writer phrases@[0-9a-f]{6}", skill.written_by) for skill in skills.values())


async def test_the_same_cluster_gives_the_same_bytes(facts: list[DossierFacts]):
    for one in facts:
        first, second = [skill_files(await LocalWriter().write(one), one) for _ in range(2)]
        assert first == second


async def test_no_step_stands_on_a_cell_that_went_wrong_as_often_as_right(facts: list[DossierFacts]):
    for one in facts:
        skill = await LocalWriter().write(one)
        for plan in skill.plans:
            for step in plan.steps:
                cell = one.by_cell[plan.state, step.action]
                assert step.action == SAFETY or cell.negative.rate < 0.7 * cell.positive.rate, (skill.name, step)


async def test_example_lines_and_conditions_are_each_skills_own(facts: list[DossierFacts]):
    owners: dict[str, str] = {}
    for one in facts:
        skill = await LocalWriter().write(one)
        texts = [skill.description, *skill.when, *(m.content for e in skill.examples for m in e.lines)]
        for text in texts:
            assert owners.setdefault(text, skill.name) == skill.name, text


async def test_no_pitfall_signal_is_quoted_twice_in_a_skill(facts: list[DossierFacts]):
    for one in facts:
        signals = [pitfall.signal for pitfall in (await LocalWriter().write(one)).pitfalls]
        assert len({signal.split("for instance")[1] for signal in signals}) == len(signals)


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "clusters"), [(1, 3), (2, 12), (3, 40), (4, 110)])
async def test_any_grouping_of_the_prototypes_becomes_a_valid_bank(
    known: list[Prototype], tmp_path: Path, seed: int, clusters: int
):
    rng = random.Random(seed)
    groups: list[list[Prototype]] = [[] for _ in range(clusters)]
    pool = rng.sample(known, len(known))
    pool = pool[: clusters * 12]
    for place, p in enumerate(pool):
        groups[place % clusters].append(p)
    facts = [facts_from(*sorted(group, key=known.index), cluster=f"c{i:03}") for i, group in enumerate(groups)]
    skills = await write_all(facts, tmp_path)
    assert len(skills) == clusters
    assert [str(problem) for problem in problems_in_bank(tmp_path, strict=True)] == []


@pytest.mark.slow
async def test_every_cell_alone_becomes_a_valid_bank(known: list[Prototype], tmp_path: Path):
    skills = await write_all([facts_from(p) for p in known if p.state != SeekerState.WITHDRAWAL], tmp_path)
    assert len(skills) > 200
    assert [str(problem) for problem in problems_in_bank(tmp_path, strict=True)] == []


async def test_two_cells_that_went_well_are_shown_and_none_is_mended():
    skill = await LocalWriter().write(
        facts_from(proto("withdrawal", "restatement", 20, 2), proto("withdrawal", "normalization", 20, 3))
    )
    assert [example.title for example in skill.examples if "mended" in example.title] == []
    lone = await LocalWriter().write(facts_from(proto("withdrawal", "restatement", 20, 2)))
    assert [example.kind for example in lone.examples] == ["good", "good", "bad"]
    assert len(lone.examples[1].lines) == 5, "missed, then mended"


async def test_a_senseless_cell_is_never_recommended():
    facts = facts_from(proto("withdrawal", "cognitive_reframing", 30, 0), proto("withdrawal", "restatement", 20, 1))
    skill = await LocalWriter().write(facts)
    assert [step.action for plan in skill.plans for step in plan.steps] == [SupportAction.RESTATEMENT]


async def test_a_cluster_of_senseless_cells_is_refused_by_name():
    with pytest.raises(SkillWriteError, match="c07") as caught:
        await LocalWriter().write(facts_from(proto("withdrawal", "cognitive_reframing", 9, 0), cluster="c07"))
    assert caught.value.cluster == "c07"


async def test_a_taken_name_is_told_apart():
    facts = facts_from(proto("resistance", "restatement", 20, 1), proto("resistance", "normalization", 18, 2))
    first = await LocalWriter().write(facts)
    second = await LocalWriter().write(facts, {first.name})
    assert first.name == "yielding-to-a-no"
    assert second.name == "yielding-to-a-no-through-saying-back-what-was-told"


async def test_a_state_left_without_steps_is_named_where_not_to_use_it():
    hurt, helped = proto("resistance", "restatement", 10, 12), proto("calm_or_hopeful", "restatement", 30, 1)
    skill = await LocalWriter().write(facts_from(hurt, helped))
    assert skill.states == (SeekerState.CALM_OR_HOPEFUL,)
    assert any("push back" in text and "as often as right" in text for text in skill.when_not)


async def test_what_was_seldom_seen_is_said_in_words():
    facts = facts_from(proto("resistance", "restatement", 6, 0), proto("resistance", "normalization", 60, 4))
    skill = await LocalWriter().write(facts)
    (plan,) = skill.plans
    remarks = ("hold it loosely", "Little was seen", "cases are few")
    told = {step.action.value: any(remark in step.how for remark in remarks) for step in plan.steps}
    assert told == {"restatement": True, "normalization": False}
    assert "Little was seen of saying back what was told." in skill.expected_outcome


async def test_a_safety_question_is_never_held_loosely():
    skill = await LocalWriter().write(facts_from(*(proto(s, SAFETY, 3, 4) for s in SeekerState)))
    assert len(skill.plans) == len(SeekerState)
    assert not [p for p in skill.plans for s in p.steps if re.search("loosely|few|short|watch|drop it", s.how.lower())]
    assert "fixed guidance" in skill.when_not[0]


# --- steps.py -----------------------------------------------------------------------------------------------------


def test_a_new_view_waits_for_an_acknowledgement_and_a_word_of_oneself_comes_last():
    found = [
        proto("anger_and_frustration", "cognitive_reframing", 90, 1),
        proto("anger_and_frustration", "self_disclosure", 80, 1),
        proto("anger_and_frustration", "emotional_validation", 60, 10),
        proto("anger_and_frustration", "restatement", 70, 5),
    ]
    assert [p.action.value for p in ordered(found)] == [
        "restatement", "emotional_validation", "cognitive_reframing", "self_disclosure",
    ]  # fmt: skip


def test_a_plan_follows_its_idea():
    found = [
        proto("help_seeking", "collaborative_planning", 30, 0),
        proto("help_seeking", "information_giving", 30, 3),
        proto("help_seeking", "practical_suggestion", 30, 6),
        proto("help_seeking", "strength_affirmation", 30, 9),
    ]
    assert [p.action.value for p in ordered(found)] == [
        "information_giving", "practical_suggestion", "collaborative_planning", "strength_affirmation",
    ]  # fmt: skip


def test_a_question_about_safety_leads():
    found = [proto("hopelessness", "open_exploration", 50, 0), proto("hopelessness", SAFETY, 8, 8)]
    assert ordered(found)[0].action == SAFETY


def test_harmful_and_risky_and_weak():
    assert harmful(proto("resistance", "restatement", 10, 7)) and not harmful(proto("resistance", "restatement", 10, 6))
    assert not harmful(proto("resistance", SAFETY, 1, 9))
    assert risky(proto("resistance", "restatement", 10, 5)) and not risky(proto("resistance", "restatement", 10, 3))
    assert weak(proto("resistance", "restatement", 10, 9)) and not weak(proto("resistance", "restatement", 10, 10))


def test_when_all_went_wrong_the_best_is_kept():
    found = [proto("resistance", "restatement", 5, 9), proto("resistance", "normalization", 5, 6)]
    (kept,) = steps(found, ())[SeekerState.RESISTANCE]
    assert kept.action == SupportAction.NORMALIZATION


def test_one_bad_turn_of_a_rare_cell_does_not_lead_the_harms():
    rare, often = proto("resistance", "restatement", 4, 1, 5), proto("resistance", "normalization", 60, 25, 100)
    assert [p.action.value for p, _ in harms([rare, often])] == ["normalization", "restatement"]


def test_shares_in_words_hold_no_digit_and_cover_all():
    told = [words_for(i / 100) for i in range(101)]
    assert told[0] == "hardly any" and told[50] == "about half" and told[100] == "most"
    assert not re.search(r"\d", " ".join(told))


def test_stage_follows_the_actions():
    explore, act, small = (
        SupportAction.RESTATEMENT, SupportAction.PRACTICAL_SUGGESTION, SupportAction.RAPPORT_AND_CLOSING,
    )  # fmt: skip
    assert [stage_of(actions) for actions in ([explore, small], [explore, act], [act])] == ["early", "mixed", "late"]


@pytest.mark.slow
async def test_no_written_skill_repeats_the_corpus(facts: list[DossierFacts], shared_dir: Path):
    corpus = corpus_runs(
        turn.content
        for split in ("train", "valid", "failed")
        for dialogue in read_corpus(shared_dir / "data" / "esconv" / f"{split}.jsonl").dialogues
        for turn in dialogue.turns()
    )
    writer = LocalWriter(load_phrases())
    texts = {one.cluster.id: skill_files(await writer.write(one), one)["SKILL.md"] for one in facts}
    assert {name: found for name, text in texts.items() if (found := copied(text, corpus))} == {}


def test_gathered_facts_hold_one_cluster_and_the_names_of_others(facts: list[DossierFacts], known: list[Prototype]):
    clustering, by_cell = load_clusters(), index(known)
    for one in facts:
        assert [(p.state, p.action) for p in one.prototypes] == list(one.cluster.prototypes)
        assert all(by_cell[p.state, p.action] == p for p in one.prototypes)
        assert [n.label for n in one.neighbours] == [clustering.get(name).label for name in one.cluster.neighbours]
        assert one.text == ""
