"""Two-letter codes for the taxonomy's ids, made from the ids themselves, so that no list of them can fall behind."""

from collections.abc import Iterable
from enum import StrEnum

from ..skills_bank.taxonomy import ResponseChange, Scenario, SeekerState, SupportAction

_SMALL_WORDS = frozenset({"and", "or", "of", "to"})


def _codes(kind: type[StrEnum], *, lower: bool = False) -> dict[str, StrEnum]:
    """Return code → member: initials of the first two words where they are free, else the next free pair of letters."""
    found: dict[str, StrEnum] = {}
    for member in kind:
        code = next(code for code in _candidates(member.value) if code not in found)
        found[code] = member
    return {code.lower() if lower else code: member for code, member in found.items()}


def _candidates(name: str) -> Iterable[str]:
    words = [word for word in name.upper().split("_") if word.lower() not in _SMALL_WORDS]
    if len(words) > 1:
        yield words[0][0] + words[1][0]
        yield from (words[0][0] + letter for letter in words[1][1:])
    yield from (words[0][0] + letter for letter in words[0][1:])


SCENARIO_CODES: dict[str, Scenario] = {code: Scenario(m) for code, m in _codes(Scenario).items()}
STATE_CODES: dict[str, SeekerState] = {code: SeekerState(m) for code, m in _codes(SeekerState).items()}
ACTION_CODES: dict[str, SupportAction] = {code: SupportAction(m) for code, m in _codes(SupportAction).items()}
CHANGE_CODES: dict[str, ResponseChange] = {
    code: ResponseChange(m) for code, m in _codes(ResponseChange, lower=True).items()
}
"""Lower case, so that a change cannot be taken for a state or an action."""
