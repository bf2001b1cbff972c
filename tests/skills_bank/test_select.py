"""Selection over a small bank with the fake encoder: what the answer says, not how good the ranking is."""

from collections.abc import Callable
from pathlib import Path

import pytest

from esc_skills.skills_bank.bank import Bank
from esc_skills.skills_bank.errors import InputError
from esc_skills.skills_bank.fake_encoder import FakeEncoder
from esc_skills.skills_bank.index import FacetIndex
from esc_skills.skills_bank.outcome import OutcomeModel
from esc_skills.skills_bank.ranking import Weights
from esc_skills.skills_bank.risk import RiskDesk
from esc_skills.skills_bank.select import Selector
from esc_skills.skills_bank.taxonomy import SeekerState, SupportAction

LINE = "I am so worried about the exam, I lie awake every night."


@pytest.fixture
def make_selector(bank_dir: Path, tmp_path: Path) -> Callable[[float], Selector]:
    encoder, bank = FakeEncoder(), Bank.load(bank_dir)
    facets = FacetIndex.open(tmp_path / "index", encoder).matrix(bank)

    def make(min_similarity: float) -> Selector:
        weights = Weights.load().model_copy(update={"min_score": 0.0, "min_similarity": min_similarity})
        return Selector(bank, encoder, facets, OutcomeModel.load(), weights, RiskDesk.load())  # pyright: ignore[reportArgumentType]

    return make


@pytest.fixture
def selector(make_selector: Callable[[float], Selector]) -> Selector:
    return make_selector(-1.0)


def test_the_answer_names_skill_reason_actions_and_pitfall(selector: Selector):
    answer = selector.select(LINE)
    first = answer.skills[0]
    assert answer.risk.level == "none"
    assert first.uri == f"skill://{first.name}/SKILL.md"
    assert "anxiety_and_fear" in first.why and "no evidence file" in first.why
    assert first.next_actions[0].action in {SupportAction.EMOTIONAL_VALIDATION, SupportAction.OPEN_EXPLORATION}
    assert "Signal:" in first.pitfall
    assert answer.bank_version == selector.bank.version
    assert answer.states_source == "encoder"


def test_scores_fall_and_k_is_kept(selector: Selector):
    scores = [skill.score for skill in selector.select(LINE, k=2).skills]
    assert len(scores) == 2
    assert scores == sorted(scores, reverse=True)


def test_excluded_skills_do_not_come_back(selector: Selector):
    first = selector.select(LINE).skills[0].name
    assert first not in [skill.name for skill in selector.select(LINE, exclude=[first]).skills]


def test_an_unknown_exclusion_is_said(selector: Selector):
    assert "no-such-skill" in selector.select(LINE, exclude=["no-such-skill"]).note


def test_excluding_everything_is_said(selector: Selector):
    answer = selector.select(LINE, exclude=list(selector.bank.skills))
    assert answer.skills == ()
    assert "Every skill" in answer.note


def test_it_abstains_below_min_score_and_says_what_to_do(selector: Selector):
    answer = selector.select(LINE, min_score=1.0)
    assert answer.skills == ()
    assert "No skill fits" in answer.note and "open question" in answer.note


def test_what_is_far_from_every_skill_and_shows_no_feeling_is_off_topic(make_selector: Callable[[float], Selector]):
    strict = make_selector(0.9)
    answer = strict.select("We live near the harbour and the shop opens at nine.")
    assert answer.skills == ()
    assert "unlike anything" in answer.note
    assert strict.select("I am anxious, worried and scared.").skills, "a clear feeling is never off topic"
    assert strict.select("The shop opens at nine.", state="anxiety_and_fear").skills, "nor what the caller has read"


def test_the_callers_state_outweighs_the_encoders_and_that_is_said(selector: Selector):
    answer = selector.select(LINE, state="emotional_distress", scenario="academic_pressure")
    assert answer.states[0].state == SeekerState.EMOTIONAL_DISTRESS
    assert answer.states_source == "caller"
    assert "state and scenario" in answer.note
    assert answer.skills[0].next_actions[0].action == SupportAction.FEELING_REFLECTION


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"k": 0}, "k: 0"),
        ({"k": 11}, "k: 11"),
        ({"min_score": 1.5}, "min_score"),
        ({"state": "sadness"}, "state: 'sadness' is not in the taxonomy"),
        ({"scenario": "work"}, "workplace_stress"),
    ],
)
def test_bad_arguments_are_named_with_the_fix(selector: Selector, arguments: dict[str, object], named: str):
    with pytest.raises(InputError, match=named):
        selector.select(LINE, **arguments)  # pyright: ignore[reportArgumentType]


def test_high_risk_returns_no_skill(selector: Selector):
    answer = selector.select("I want to kill myself tonight.")
    assert answer.risk.level == "high"
    assert answer.skills == ()
    assert answer.note.startswith("High risk")


def test_elevated_risk_puts_the_safety_check_first(selector: Selector):
    answer = selector.select("Everyone would be better off without me, and I am so worried about the exam.")
    assert answer.risk.level in {"elevated", "high"}
    if answer.risk.level == "elevated":
        assert all(s.next_actions[0].action == SupportAction.SAFETY_CHECK_AND_REFERRAL for s in answer.skills)
        assert answer.skills


def test_the_safety_check_is_not_first_again_once_it_was_denied(selector: Selector):
    talk = [
        {"role": "seeker", "content": "I tried to kill myself when I was 16. Now I worry about the exam."},
        {"role": "supporter", "content": "Are you thinking about killing yourself now?"},
        {"role": "seeker", "content": "No, I'm not. It is the exam that scares me."},
    ]
    answer = selector.select(talk)
    assert (answer.risk.level, answer.risk.asked) == ("elevated", True)
    assert answer.skills[0].next_actions[0].action != SupportAction.SAFETY_CHECK_AND_REFERRAL


def test_three_questions_in_a_row_move_questions_back(selector: Selector):
    talk = [{"role": "seeker", "content": LINE}]
    for question in ("When did it begin?", "Was that before?", "Which exam was it? When did you hear?"):
        talk += [{"role": "supporter", "content": question}, {"role": "seeker", "content": "I am worried and scared."}]
    first = selector.select(talk).skills[0].next_actions
    assert first[0].action == SupportAction.EMOTIONAL_VALIDATION
    waiting = [step for step in first if step.action == SupportAction.OPEN_EXPLORATION]
    assert waiting and "questions" in waiting[0].how


def test_a_talk_leaves_nothing_behind(selector: Selector):
    before = selector.select(LINE)
    selector.select("My dog died and I cry all day.")
    assert selector.select(LINE) == before


def test_another_language_is_said(selector: Selector):
    answer = selector.classify("Ich bin sehr traurig und ich kann nicht mehr schlafen, weil alles zu viel ist.")
    assert answer.language == "de"
    assert "not English" in answer.note


def test_classification_quotes_the_phrase_that_drove_the_state(selector: Selector):
    answer = selector.classify("We live near the sea. I am worried, anxious and scared of the exam. The cat is well.")
    assert answer.states[0].state == SeekerState.ANXIETY_AND_FEAR
    assert len(answer.states) == 3
    assert any("scared" in phrase for phrase in answer.evidence)


@pytest.mark.parametrize("bad", ["", "   ", [], [{"role": "supporter", "content": "Hello?"}], [{"content": "hi"}], 7])
def test_unusable_messages_are_refused(selector: Selector, bad: object):
    with pytest.raises(InputError, match="messages"):
        selector.classify(bad)  # pyright: ignore[reportArgumentType]
