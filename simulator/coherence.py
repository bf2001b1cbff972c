"""What can be true together: tags at an age, tags beside each other, a situation and a person.

The writers of the parts say what a situation needs and bars; where its words take more for granted than its tags say
("your boss", "your daughter"), the words count as well.
"""

import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING

from ..skills_bank.taxonomy import Scenario
from .tags import Tag

if TYPE_CHECKING:
    from .parts import Persona, Situation

_AGES: dict[Tag, tuple[int, int]] = {
    Tag.SCHOOL: (12, 18), Tag.STUDENT: (12, 75), Tag.RETIRED: (45, 95), Tag.MARRIED: (18, 95), Tag.DIVORCED: (20, 95),
    Tag.WIDOWED: (20, 95), Tag.CHILDREN: (17, 95), Tag.YOUNG_CHILDREN: (17, 58), Tag.GROWN_CHILDREN: (38, 95),
    Tag.WORKS: (15, 80), Tag.SELF_EMPLOYED: (18, 85), Tag.UNEMPLOYED: (16, 67), Tag.DRINKS: (16, 95),
    Tag.PARENTS_ALIVE: (12, 75),
}  # fmt: skip
"""Ages at which a tag can be true."""

_APART: tuple[frozenset[Tag], ...] = tuple(
    frozenset(pair)
    for pair in (
        (Tag.SINGLE, Tag.PARTNER), (Tag.SINGLE, Tag.MARRIED), (Tag.MARRIED, Tag.DIVORCED), (Tag.MARRIED, Tag.WIDOWED),
        (Tag.LIVES_ALONE, Tag.LIVES_WITH_FAMILY), (Tag.UNEMPLOYED, Tag.WORKS), (Tag.UNEMPLOYED, Tag.SELF_EMPLOYED),
        (Tag.RETIRED, Tag.UNEMPLOYED), (Tag.FRIENDS, Tag.FEW_FRIENDS), (Tag.SCHOOL, Tag.MARRIED),
        (Tag.SCHOOL, Tag.CHILDREN), (Tag.SCHOOL, Tag.LIVES_ALONE), (Tag.SCHOOL, Tag.RETIRED),
        (Tag.SCHOOL, Tag.UNEMPLOYED),
    )
)  # fmt: skip
"""Pairs of tags that cannot both be true of one person."""

_IMPLIES: dict[Tag, Tag] = {Tag.YOUNG_CHILDREN: Tag.CHILDREN, Tag.GROWN_CHILDREN: Tag.CHILDREN}


def odd_tags(age: int, tags: Iterable[Tag]) -> Iterator[str]:
    """Yield why a set of tags cannot be true of one person of that age."""
    given = set(tags)
    for tag in sorted(given):
        least, most = _AGES.get(tag, (0, 200))
        if not least <= age <= most:
            yield f"{tag} at {age}: it is possible from {least} to {most}"
        if (implied := _IMPLIES.get(tag)) and implied not in given:
            yield f"{tag} without {implied}"
    for pair in _APART:
        if pair <= given:
            yield f"{' and '.join(sorted(pair))} at once"


_EMPLOYED = frozenset({Tag.WORKS, Tag.SELF_EMPLOYED, Tag.UNEMPLOYED, Tag.RETIRED})
"""Has, or had, a job."""
_MINE = r"\b(?:your|my) "
_TAKEN_FOR_GRANTED: tuple[tuple[frozenset[Tag], re.Pattern[str]], ...] = tuple(
    (frozenset(tags), re.compile(_MINE + pattern, re.IGNORECASE))
    for tags, pattern in (
        ({Tag.PARTNER, Tag.MARRIED, Tag.DIVORCED, Tag.WIDOWED}, r"(?:husband|wife|spouse|marriage|divorce)\b"),
        ({Tag.CHILDREN, Tag.YOUNG_CHILDREN, Tag.GROWN_CHILDREN}, r"(?:son|daughter|kids?|child|children|baby)\b"),
        (_EMPLOYED, r"(?:boss|manager|colleagues?|co-?workers?|team lead)\b"),
        ({Tag.STUDENT}, r"(?:professor|dissertation|thesis|lecturers?|campus)\b"),
        ({Tag.SIBLING}, r"(?:older |younger |big |little |twin )?(?:sister|brother)\b(?!-in-law)"),
        ({Tag.PARENTS_ALIVE}, r"(?:mother|father|mum|mom|dad|parents)\b(?!-in-law)"),
    )
)
"""Words of a situation, and the tags of which a person must have one for them to be true."""
_OF_THE_LOST = frozenset({Tag.SIBLING, Tag.PARENTS_ALIVE})
"""Kin whom a scene of grief may have lost, so that naming them proves nothing."""


def taken_for_granted(situation: "Situation") -> list[tuple[frozenset[Tag], str]]:
    """Return what a situation's words take for granted beyond its tags: tags of which one must hold, and the words."""
    mourned = _OF_THE_LOST if situation.scenario == Scenario.LOSS_AND_GRIEF else frozenset()
    return [
        (tags, words)
        for tags, words in _granted(situation.texts())
        if not tags & {*situation.needs_tags, *situation.bars_tags} and not tags <= mourned
    ]


@cache
def _granted(texts: tuple[str, ...]) -> tuple[tuple[frozenset[Tag], str], ...]:
    return tuple(
        (tags, match[0])
        for tags, pattern in _TAKEN_FOR_GRANTED
        if (match := next((match for text in texts if (match := pattern.search(text))), None))
    )


def misfits(situation: "Situation", persona: "Persona") -> Iterator[str]:
    """Yield why a situation cannot have happened to a person."""
    least, most = situation.ages
    tags = set(persona.tags)
    if not least <= persona.age <= most:
        yield f"{persona.name} is {persona.age}, {situation.id} is for {least} to {most}"
    if missing := set(situation.needs_tags) - tags:
        yield f"{persona.name} has not the tags {', '.join(sorted(missing))} of {situation.id}"
    if barred := set(situation.bars_tags) & tags:
        yield f"{persona.name} is {', '.join(sorted(barred))}, which {situation.id} bars"
    for any_of, words in taken_for_granted(situation):
        if not any_of & tags:
            yield f"{situation.id} says {words!r}, and {persona.name} is none of {', '.join(sorted(any_of))}"
    if _NIGHT_WORK.search(persona.work) and _by_day(situation):
        yield f"{persona.name} works at night, and {situation.id} takes days at work and nights in bed for granted"
    if persona.name in _capitalised(situation.texts()):
        yield f"somebody else in {situation.id} is named {persona.name}"


_NIGHT_WORK = re.compile(r"\bnights?\b", re.IGNORECASE)
_WORKING_WEEK = re.compile(r"\bMonday to Friday\b")


def _by_day(situation: "Situation") -> bool:
    week = any(_WORKING_WEEK.search(text) for text in situation.texts())
    return week or situation.scenario == Scenario.SLEEP_PROBLEMS


_WORD = re.compile(r"\b[^\W\d_]+\b")


@cache
def _capitalised(texts: tuple[str, ...]) -> frozenset[str]:
    return frozenset(word for text in texts for word in _WORD.findall(text) if word[0].isupper())
