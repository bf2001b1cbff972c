"""The library's words for one skill of a bank: safe lines that neither it nor another skill says already."""

import re
import zlib
from collections.abc import Iterator, Sequence
from functools import cached_property

from ..pipeline.phrasebook import NEGATIVE, Phrasebook
from ..skills_bank.bank import Bank
from ..skills_bank.models import ActionStep, Example, Message, Pitfall, Skill
from ..skills_bank.taxonomy import SeekerState, SupportAction
from .generation import known_cells
from .plain_lines import load_plain_lines
from .screen import hits, unsafe_lines

NEVER_ADDED = frozenset({SupportAction.SAFETY_CHECK_AND_REFERRAL, SupportAction.SELF_DISCLOSURE})
"""The risk rail decides on the first, and the second is for a person with a true story."""

_SOMEBODY = re.compile(r"\b(?:he|she|him|her|his|hers)\b", re.IGNORECASE)


class Words:
    """What the library offers for a skill of a bank, or for a new one."""

    def __init__(self, book: Phrasebook, bank: Bank, name: str | None) -> None:
        """Take the library, the bank, and the skill that is edited; None for a new one."""
        self.book = book
        self._bank, self._name = bank, name

    @cached_property
    def _spoken(self) -> frozenset[str]:
        """Every line that some other skill of the bank says."""
        lines: set[str] = set()
        for skill in self._bank.skills.values():
            if skill.name != self._name:
                lines |= {step.say for plan in skill.plans for step in plan.steps if step.say}
                lines |= {message.content for example in skill.examples for message in example.lines}
        return frozenset(map(_plain, lines))

    def step(self, skill: Skill, state: SeekerState, action: SupportAction) -> ActionStep | None:
        """Return a step for an action that a plan lacks, or None where there are no words for it."""
        cell = self.book.cell(state, action)
        if cell is None or action in NEVER_ADDED:
            return None
        how = f"{cell.how} {self.book.actions[action].caution}".strip()
        own = {_plain(step.say) for plan in skill.plans for step in plan.steps if step.say}
        # `also` fits any such moment; `say` answers one seeker, and comes second.
        lines = [line for line in (cell.also, cell.say) if _plain(line) not in self._spoken | own]
        say = next((line for line in lines if not hits(line)), None)
        return ActionStep(action=action, how=how, say=say) if say and not hits(how, "told") else None

    def lines(self, skill: Skill, state: SeekerState, action: SupportAction) -> Iterator[str]:
        """Yield lines for an action that anybody in a state may be told and no skill says: its own, then plain ones.

        A line with a he or a she in it speaks of somebody whom this seeker may not have named. Which plain ones come
        first varies by skill.
        """
        said = self._spoken | {_plain(step.say) for plan in skill.plans for step in plan.steps if step.say}
        cell, plain = self.book.cell(state, action), load_plain_lines().get(action)
        lines = [cell.also] if cell is not None else []
        lines += _turned(plain.lines(state), skill.name) if plain is not None else []
        for line in lines:
            if _plain(line) not in said and not _SOMEBODY.search(line) and not unsafe_lines(line):
                yield line

    def pitfall(self, skill: Skill, state: SeekerState, action: SupportAction) -> Pitfall:
        """Return a warning of an action, of the way in which it went wrong most often in the labels."""
        cell, counted = self.book.cell(state, action), known_cells(self._bank).get((state, action))
        seen = {change: counted.changes.get(change, 0) for change in NEGATIVE} if counted else {}
        change = max(seen, key=lambda c: seen[c]) if any(seen.values()) else (cell.harm if cell else NEGATIVE[0])
        told = self.book.actions[action].pitfalls[change]
        where = f" It was met in {self.book.states[state].noun}." if len(skill.states) > 1 else ""
        text = f"{_sentence(told.what)}{where} {_sentence(told.instead)}"
        return Pitfall(title=told.title, action=action, text=text, signal=_sentence(told.signal))

    def signs(self, skill: Skill, state: SeekerState) -> Iterator[str]:
        """Yield conditions for a state: what it sounds like, then how it shows; which come first varies by skill."""
        phrases = self.book.states[state]
        lines = _turned([*phrases.early.lines, *phrases.late.lines], skill.name)
        taken = {line for other in self._bank.skills.values() for line in other.when}
        pairs = [f"They write something like “{a}” or “{b}”" for a, b in zip(lines[::2], lines[1::2], strict=False)]
        signs = [*pairs, *_turned([*phrases.early.signs, *phrases.late.signs], skill.name)]
        yield from (line for line in signs if line not in taken and not hits(line, "when"))

    def example(self, skill: Skill, state: SeekerState, action: SupportAction) -> Example | None:
        """Return the moment the library tells of an action, unless it is told already."""
        cell = self.book.cell(state, action)
        if cell is None:
            return None
        turns = (("seeker", cell.seeker), ("supporter", cell.say), ("seeker", cell.reply))
        mine = {_plain(message.content) for example in skill.examples for message in example.lines}
        if any(_plain(line) in self._spoken | mine for _, line in turns) or hits(cell.say):
            return None
        return Example(
            kind="good",
            title=f"{self.book.actions[action].title} {self.book.scenarios[cell.scenario].when}",
            lines=tuple(Message.model_validate({"role": role, "content": line}) for role, line in turns),
            comment=cell.why,
        )

    def not_for(self, state: SeekerState) -> str:
        """Return the condition that keeps a skill away from a state."""
        return f"They {self.book.states[state].shows}: that asks for a skill of its own."

    def leave(self, state: SeekerState) -> str:
        """Return the condition on which a skill is left."""
        phrases = self.book.states[state]
        return (
            f"They {phrases.shows} and two of these steps moved nothing: {phrases.stuck}, then look for another skill."
        )


def _plain(line: str) -> str:
    return " ".join(re.findall(r"\w+", line.casefold()))


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _turned(lines: Sequence[str], by: str) -> list[str]:
    """Return the lines begun at another place for each name, so that two skills do not say the same first."""
    start = zlib.crc32(by.encode()) % len(lines)
    return [*lines[start:], *lines[:start]]
