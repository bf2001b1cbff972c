"""Composed conversations with planted effects, for tests of what is found in them."""

import random
from collections.abc import Callable, Sequence

from esc_skills.simulator.agent import Rail, UsedSkill
from esc_skills.simulator.emotion import End, moved, state_of
from esc_skills.simulator.needs import Character, HiddenNeed
from esc_skills.simulator.seeker import Appraisal
from esc_skills.simulator.session import Transcript, TurnRecord
from esc_skills.skills_bank.risk_patterns import Level
from esc_skills.skills_bank.taxonomy import Scenario, SeekerState, SupportAction

Effect = Callable[[SeekerState, str | None, SupportAction, HiddenNeed], float]
OPENING = "The heron has not come back to the pond, and I keep looking."
FIRST = SeekerState.NEUTRAL_NARRATION
"""The state of every opening."""


def read(_: str) -> SeekerState:
    """Read openings; every other state is recorded."""
    return FIRST


def turn(number: int, points: int, change: int | None = 0, **more: object) -> TurnRecord:
    """One reply; without a change it was not answered."""
    after = points if change is None else moved(points, change)
    values: dict[str, object] = {
        "number": number,
        "supporter": f"That is reply {number}.",
        "points": after,
        "emotion": state_of(after),
        "change": change,
    }
    if change is not None:
        values |= {
            "seeker": f"So it is, for the {number}. time.",
            "state": SeekerState.EMOTIONAL_DISTRESS,
            "appraisal": Appraisal(content="c", serves="s", inner="i", feeling="f", change=change),
        }
    return TurnRecord.model_validate(values | more)


def talk(turns: Sequence[TurnRecord], profile: str = "composed-1", **more: object) -> Transcript:
    """A conversation of these replies."""
    points = turns[-1].points if turns else 40
    values: dict[str, object] = {
        "profile": profile,
        "repeat": 0,
        "seed": 1,
        "source": "esc-skills",
        "language": "en",
        "scenario": Scenario.WORKPLACE_STRESS,
        "character": Character.PASSIVE,
        "need": HiddenNeed.DEEP_EMPATHY,
        "risk": None,
        "start": 40,
        "opening": OPENING,
        "turns": tuple(turns),
        "points": points,
        "emotion": state_of(points),
        "end": End.ROUNDS,
    }
    return Transcript.model_validate(values | more)


def followed(name: str | None, score: float = 0.5, **more: object) -> dict[str, object]:
    """The fields of a reply by a skill."""
    used = (UsedSkill(name=name, score=score, uri=f"skill://{name}/SKILL.md"),) if name else ()
    return {"followed": name, "skills": used, **more}


def run(
    n: int,
    states: Sequence[SeekerState],
    choose: Callable[[SeekerState, random.Random], str | None],
    effect: Effect = lambda *_: 0.0,
    *,
    actions: Sequence[SupportAction] = tuple(SupportAction)[:6],
    seed: int = 1,
    risk: Level = "none",
    rail: Rail = "none",
) -> list[Transcript]:
    """Return `n` talks whose changes are noise, a lasting part of each talk, what its need makes, and `effect`."""
    talks = []
    for i in range(n):
        rng = random.Random(f"{seed}/{i}")
        need, points, state, turns = list(HiddenNeed)[i % 8], 40, FIRST, []
        lasting = rng.gauss(0, 1.5) + (2.0 if need == HiddenNeed.TO_BE_HEARD else 0.0)
        for number in range(1, 9):
            skill, action = choose(state, rng), rng.choice(list(actions))
            change = round(max(-10, min(10, rng.gauss(0.5 + lasting + effect(state, skill, action, need), 3))))
            after = rng.choice(list(states))
            told = followed(skill, actions=(action,), state=after, risk=risk, rail=rail)
            turns.append(turn(number, points, change, **told))
            points, state = turns[-1].points, after
        more = {"need": need, "character": list(Character)[i % 3], "scenario": list(Scenario)[i % 18]}
        talks.append(talk(turns, f"composed-{i:03d}", **more))
    return talks
