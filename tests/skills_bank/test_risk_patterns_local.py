"""Guards speak of the sentence they stand in: a plain statement beside an everyday one keeps its weight."""

import pytest

from esc_skills.skills_bank.risk_patterns import load_patterns

PATTERNS = load_patterns()


@pytest.mark.parametrize(
    "text",
    [
        "The exam results came. I want to kill myself.",
        "Night shift again, twelve patients. I'm going to end my life.",
        "haha my day was a joke. I have decided to die",
        "We lost the football on Saturday. Got home and took an overdose.",
        "No I don't have a therapist. I want to die.",
        "you can't talk me out of killing myself",
        "I finished the book. I've written the goodbye letters.",
        "i'll never be fine and i will be dead by friday",
    ],
)
def test_an_everyday_sentence_takes_nothing_from_a_plain_one(text: str):
    assert "high" in {signal.strength for signal in PATTERNS.signals(text)}


@pytest.mark.parametrize(
    "text",
    [
        "i want to die, my phone autocorrected it lol",
        "if the printer jams once more I'll throw myself out of the window",
        "My nurse asked whether I was thinking of killing myself. I am not.",
        "the villain says 'i'll end my own life first' in that film",
        "jumping off a bridge on Sunday, it's a bungee",
    ],
)
def test_a_guard_still_holds_in_its_own_sentence(text: str):
    assert not {signal.strength for signal in PATTERNS.signals(text)} & {"elevated", "high"}


@pytest.mark.parametrize(
    ("text", "tone"),
    [
        ("I want to die lol", "light"),
        ("the exam is tomorrow lol", "light"),
        ("The exam is tomorrow. I want to be dead.", "plain"),
        ("I'm not suicidal", "denies"),
        ("I never have suicidal thoughts. I want to be dead by the weekend.", "plain"),
        ("we had soup and went to the park", "plain"),
    ],
)
def test_a_tone_holds_only_where_each_sentence_of_danger_has_it(text: str, tone: str):
    assert PATTERNS.tone(text) == tone
