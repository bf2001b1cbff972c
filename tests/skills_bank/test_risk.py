"""The risk desk over whole conversations."""

import time
from pathlib import Path

import numpy as np
import pytest

from esc_skills.skills_bank.conversation import as_conversation
from esc_skills.skills_bank.errors import InputError
from esc_skills.skills_bank.risk import Risk, RiskDesk

ASKED = "Are you thinking about killing yourself?"


@pytest.fixture(scope="module")
def desk() -> RiskDesk:
    return RiskDesk.load("US")


def assess(desk: RiskDesk, *lines: str, head: list[list[float]] | None = None) -> Risk:
    """Seeker and supporter in turn, seeker first."""
    talk = as_conversation([{"role": ("seeker", "supporter")[i % 2], "content": line} for i, line in enumerate(lines)])
    return desk.assess(talk, None if head is None else np.array(head))


@pytest.mark.parametrize(
    ("line", "level", "kind"),
    [
        ("I want to kill myself", "high", "self_harm"),
        ("i go to sleep hoping i dont wake up", "high", "self_harm"),
        ("i cut myself again last night", "high", "self_harm"),
        ("everyone would be better off without me", "elevated", "self_harm"),
        ("i tried to kill myself when i was 16", "elevated", "self_harm"),
        ("I think my friend is suicidal", "elevated", "self_harm"),
        ("I'm going to kill him, I have the knife ready", "high", "harm_to_others"),
        ("i shook the baby and i'm scared", "elevated", "harm_to_others"),
        ("he's outside my door right now screaming that he'll kill me", "high", "abuse"),
        ("my boyfriend hits me when he's drunk", "elevated", "abuse"),
        ("I'm not suicidal, just exhausted", "none", None),
        ("this exam is killing me lol", "none", None),
        ("my uncle took his own life when i was little", "none", None),
        ("in the film the girl says she wants to die and i cried", "none", None),
        ("I lost my job and I feel awful", "none", None),
    ],
)
def test_single_lines(desk: RiskDesk, line: str, level: str, kind: str | None):
    risk = assess(desk, line)
    assert (risk.level, risk.kind) == (level, kind), risk.trigger


@pytest.mark.parametrize(
    ("answer", "level"),
    [
        ("yes", "high"),
        ("yeah every day", "high"),
        ("sometimes", "elevated"),
        ("not really. well. a bit", "elevated"),
        ("i don't want to answer that", "elevated"),
        ("no, nothing like that", "none"),
    ],
)
def test_answers_to_a_direct_question(desk: RiskDesk, answer: str, level: str):
    assert assess(desk, "hard week at work", ASKED, answer).level == level


def test_a_yes_without_the_question_is_nothing(desk: RiskDesk):
    assert assess(desk, "hard week", "Is it the new boss?", "yes").level == "none"


def test_no_to_being_safe_is_high_and_yes_is_nothing(desk: RiskDesk):
    assert assess(desk, "bad night", "Are you safe right now?", "no").level == "high"
    assert assess(desk, "bad night", "Are you safe right now?", "yes, in bed").level == "none"


def test_a_disclosure_stays_while_the_talk_moves_on(desk: RiskDesk):
    risk = assess(desk, "I want to die", "I'm glad you told me.", "anyway, did you see the match")
    assert risk.level == "high"
    assert risk.trigger is not None and risk.trigger.startswith("Earlier in the talk.")


def test_a_clear_denial_lowers_a_disclosure_to_elevated(desk: RiskDesk):
    risk = assess(desk, "I want to die", ASKED, "no, I'm not going to")
    assert risk.level == "elevated"


def test_a_clear_denial_clears_up_a_hint(desk: RiskDesk):
    assert assess(desk, "i can't go on anymore").level == "elevated"
    assert assess(desk, "i can't go on anymore", ASKED, "oh god no, i mean the diet").level == "none"


def test_a_denial_of_one_kind_leaves_the_others(desk: RiskDesk):
    risk = assess(desk, "my husband hits me", ASKED, "no, never")
    assert (risk.level, risk.kind) == ("elevated", "abuse")


def test_a_new_disclosure_after_a_denial_counts(desk: RiskDesk):
    assert assess(desk, "low today", ASKED, "no", "Tell me more.", "i lied. i want to kill myself").level == "high"


def test_a_hint_fades_but_a_disclosure_does_not(desk: RiskDesk):
    chat = ["What else?", "we had soup and went to the park"] * 8
    assert assess(desk, "i'm just a burden to everyone", *chat).level == "none"
    assert assess(desk, "i want to die", *chat).level == "high"


def test_high_risk_carries_fixed_text_with_the_regions_lines(desk: RiskDesk):
    risk = assess(desk, "I want to kill myself")
    assert "988" in risk.say and "911" in risk.say and "{" not in risk.say + risk.guidance
    assert risk.helplines and all("self_harm" in line.kinds for line in risk.helplines)
    assert "Ask directly" in risk.guidance


def test_worry_about_another_has_its_own_text(desk: RiskDesk):
    assert "someone else's life" in assess(desk, "I think my brother is suicidal").guidance


def test_none_says_nothing(desk: RiskDesk):
    risk = assess(desk, "I got the job!", head=[[0.0] * 4])
    assert risk == Risk(level="none")


def test_without_an_encoder_it_says_so(desk: RiskDesk):
    assert "encoder is not available" in assess(desk, "hello, rough day at work").note
    assert assess(desk, "hello, rough day at work", head=[[0.0] * 4]).note == ""


def test_another_language_is_said(desk: RiskDesk):
    risk = assess(desk, "Ich weiß nicht, was ich noch machen soll, es ist alles sehr viel", head=[[0.0] * 4])
    assert "does not seem to write English" in risk.note
    assert assess(desk, "Ich will nicht mehr leben").level == "high"


def test_the_encoder_raises_an_odd_phrase_and_leaves_a_calm_one(desk: RiskDesk):
    odd = "my chapter closes and the pages after it are blank"
    assert assess(desk, odd, head=[[0.9999, 0.0, 0.0, 0.9]]).level != "none"
    assert assess(desk, "we had soup and went to the park", head=[[0.02, 0.0, 0.0, 0.0]]).level == "none"


def test_the_encoder_does_not_outvote_a_plain_denial(desk: RiskDesk):
    assert (
        assess(desk, "sad day", ASKED, "no, nothing like that", head=[[0.3, 0, 0, 0], [0.9999, 0, 0, 0.9]]).level
        == "none"
    )


@pytest.mark.parametrize(
    "head", [np.zeros(4), np.zeros((1, 3)), np.zeros((2, 4)), np.full((1, 4), 1.2), np.full((1, 4), np.nan)]
)
def test_wrong_probabilities_are_refused(desk: RiskDesk, head: np.ndarray):
    with pytest.raises(ValueError, match="probabilities"):
        desk.assess(as_conversation("hello"), head)


def test_an_unknown_region_is_refused():
    with pytest.raises(InputError, match="Known regions"):
        RiskDesk.load("ATLANTIS")


def test_helplines_of_ones_own(tmp_path: Path):
    path = tmp_path / "own.yaml"
    path.write_text(
        "format: 1\nchecked: 2026-01-31\nhow: called\ndefault: XX\nregions:\n  XX:\n    name: Here\n"
        '    emergency: "111"\n    lines:\n      - {name: Our line, contact: call 7, hours: always, '
        "kinds: [self_harm, harm_to_others, abuse], source: 'https://example.org'}\n"
    )
    risk = RiskDesk.load("XX", path).assess(as_conversation("i want to die"))
    assert [line.name for line in risk.helplines] == ["Our line"] and "Our line: call 7" in risk.say


def test_nothing_is_kept_between_talks(desk: RiskDesk):
    assert assess(desk, "i want to die").level == "high"
    assert assess(desk, "we had soup and went to the park").level == "none"


def test_a_short_talk_takes_about_a_millisecond(desk: RiskDesk):
    talk = as_conversation("I have been feeling low since the move and nobody here knows me")
    desk.assess(talk)
    begin = time.process_time()
    for _ in range(50):
        desk.assess(talk)
    assert (time.process_time() - begin) / 50 < 0.01


def say(desk: RiskDesk, *turns: str) -> str:
    return assess(desk, *turns).say


HINT = "everyone would be better off without me"


def test_the_question_is_not_put_again_once_it_is_denied(desk: RiskDesk):
    before = assess(desk, "i tried to kill myself when i was 16")
    after = assess(desk, "i tried to kill myself when i was 16", ASKED, "no, not any more")
    assert (before.level, before.asked) == ("elevated", False)
    assert (after.level, after.asked) == ("elevated", True)
    assert after.guidance.endswith(before.guidance) and after.guidance != before.guidance


def test_an_unclear_answer_is_asked_about_once_more(desk: RiskDesk):
    assert not assess(desk, HINT, ASKED, "sometimes").asked
    assert assess(desk, HINT, ASKED, "sometimes", ASKED, "it's complicated").asked


def test_a_new_sign_opens_the_question_again(desk: RiskDesk):
    asked = (HINT, ASKED, "sometimes", ASKED, "it's complicated")
    assert not assess(desk, *asked, "I see.", HINT).asked


def test_high_risk_is_never_settled_by_asking(desk: RiskDesk):
    risk = assess(desk, "I want to die", ASKED, "yes", ASKED, "yes")
    assert (risk.level, risk.asked) == ("high", False)


def test_yes_to_the_fixed_question_whether_they_are_safe_is_no_danger(desk: RiskDesk):
    told = "my boyfriend hits me when he's drunk"
    risk = assess(desk, told, say(desk, told), "yes")
    assert (risk.level, risk.asked) == ("elevated", True)
    assert assess(desk, told, say(desk, told), "no").level == "high"


def test_yes_to_the_fixed_question_about_harm_is_high(desk: RiskDesk):
    told = "i shook the baby and i'm scared"
    assert assess(desk, told, say(desk, told), "yes").level == "high"
