"""Profiles out of parts: which situation meets which person, character and hidden need.

Composition is a pure function of the parts, the size and the seed. It balances in this order: scenarios, the situations
within them, needs (only those a situation fits), characters, personas (only those it can have happened to).
"""

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, zip_longest

from ..skills_bank.errors import InputError
from ..skills_bank.taxonomy import Scenario
from .coherence import misfits
from .needs import Character, HiddenNeed
from .parts import Parts, Persona, Situation
from .profiles import Person, Profile, ProfileSet, Scene, Split

SIZES: dict[Split, int] = {"evolution": 500, "evaluation": 100}
"""How many profiles ship, as in Zhu et al. 2026 (500 to evolve on) and SAGE (100 to evaluate on)."""
SEED = 7
"""Seed of the shipped profiles."""


@dataclass
class _Slot:
    """A profile in the making."""

    situation: Situation
    need: HiddenNeed
    character: Character = Character.NEGATIVE


_Eligible = Mapping[str, Sequence[Persona]]
"""The personas a situation can have happened to, by the situation's id."""


def fits(situation: Situation, persona: Persona) -> bool:
    """Whether the situation can have happened to the persona, and neither is kept for the other split."""
    return situation.split == persona.split and not list(misfits(situation, persona))


def compose(parts: Parts, split: Split, n: int, seed: int = SEED) -> tuple[Profile, ...]:
    """Compose `n` profiles of a split.

    No two share both situation and persona, nor situation, character and need; no situation or persona of the other
    split is used. The order is mixed so that any first few profiles cover many scenarios.

    Raises:
        InputError: The parts do not allow that many.
    """
    rng = random.Random(f"{seed} {split} {n}")
    eligible = {
        situation.id: [persona for persona in parts.personas_of(split) if fits(situation, persona)]
        for situation in parts.situations_of(split)
    }
    slots = _with_needs(_situations(split, n, eligible, parts, rng), rng)
    _give_characters(slots)
    people = _personas(slots, eligible, rng)
    pairs = _mixed(list(zip(slots, people, strict=True)), rng)
    return tuple(_profile(f"{split}-{i:03d}", slot, person) for i, (slot, person) in enumerate(pairs, start=1))


def _situations(split: Split, n: int, eligible: _Eligible, parts: Parts, rng: random.Random) -> list[Situation]:
    """Return `n` situations: scenarios as evenly as possible, and within each its situations.

    One situation is taken no more often than there are people it can have happened to, and than its needs and the
    characters make different profiles.
    """
    by_scenario = [group for scenario in Scenario if (group := parts.situations_of(split, scenario))]
    rooms = [[min(len(eligible[s.id]), len(s.fits_needs) * len(Character)) for s in group] for group in by_scenario]
    if n > (most := sum(map(sum, rooms))):
        raise InputError(
            f"The parts of the {split} split make {most} different profiles, not {n}; write more situations or "
            "personas, or widen ages and tags of those with few people to happen to."
        )
    found: list[Situation] = []
    for group, room, share in zip(by_scenario, rooms, _shares(n, list(map(sum, rooms)), rng), strict=True):
        for situation, times in zip(group, _shares(share, room, rng), strict=True):
            found += [situation] * times
    return found


def _shares(n: int, rooms: Sequence[int], rng: random.Random) -> list[int]:
    """Share `n` out as evenly as the room of each allows; who gets one more is drawn."""
    shares = [0] * len(rooms)
    while n:
        open_places = [i for i, room in enumerate(rooms) if shares[i] < room]
        for i in rng.sample(open_places, min(n, len(open_places))):
            shares[i] += 1
            n -= 1
    return shares


def _with_needs(situations: Sequence[Situation], rng: random.Random) -> list[_Slot]:
    """Give each slot a need its situation fits, the rarest first, then move needs until they are even.

    One situation takes one need at most as often as there are characters, so that no combination repeats.
    """
    counts: Counter[HiddenNeed] = Counter()
    used: Counter[tuple[str, HiddenNeed]] = Counter()
    slots = []
    for situation in rng.sample(situations, len(situations)):
        open_needs = [need for need in situation.fits_needs if used[situation.id, need] < len(Character)]
        need = min(open_needs, key=lambda need: (used[situation.id, need], counts[need], rng.random()))
        counts[need] += 1
        used[situation.id, need] += 1
        slots.append(_Slot(situation, need))
    while _even_out(slots, counts, used):
        pass
    return slots


def _even_out(slots: Sequence[_Slot], counts: Counter, used: Counter) -> bool:
    """Move one unit from a frequent need to one at least two rarer, along a chain of slots; say whether it was done.

    Breadth-first search over needs: an edge a → b is a slot with need a whose situation fits b and has room for it.
    """
    for start in sorted(HiddenNeed, key=lambda need: (-counts[need], need)):
        came: dict[HiddenNeed, _Slot] = {}
        queue = [start]
        for need in queue:
            for slot in slots:
                if slot.need != need:
                    continue
                for other in slot.situation.fits_needs:
                    if other != start and other not in came and used[slot.situation.id, other] < len(Character):
                        came[other] = slot
                        queue.append(other)
        rarest = min(came, key=lambda need: (counts[need], need), default=start)
        if counts[start] - counts[rarest] < 2:
            continue
        need = rarest
        while need != start:
            slot, before = came[need], came[need].need
            used[slot.situation.id, before] -= 1
            used[slot.situation.id, need] += 1
            slot.need, need = need, before
        counts[start] -= 1
        counts[rarest] += 1
        return True
    return False


def _give_characters(slots: list[_Slot]) -> None:
    """Deal the characters out in turn within each need and scenario, beginning where they stay most even.

    Slots of one situation and need lie side by side, so that dealing in turn gives each another character.
    """
    cast = tuple(Character)
    counts: Counter[tuple[str, Character]] = Counter()
    slots.sort(key=lambda slot: (slot.need, slot.situation.scenario, slot.situation.id))
    for (need, scenario), group in groupby(slots, key=lambda slot: (slot.need, slot.situation.scenario)):
        block = list(group)

        def cost(first: int, block: Sequence[_Slot] = block, keys: tuple[str, ...] = (need, scenario, "")) -> int:
            dealt = Counter(cast[(first + i) % len(cast)] for i in range(len(block)))
            return sum((counts[key, character] + dealt[character]) ** 2 for key in keys for character in cast)

        first = min(range(len(cast)), key=cost)
        for i, slot in enumerate(block):
            slot.character = cast[(first + i) % len(cast)]
            for key in (need, scenario, ""):
                counts[key, slot.character] += 1


def _personas(slots: Sequence[_Slot], eligible: _Eligible, rng: random.Random) -> list[Persona]:
    """Choose a persona for each slot: the least used one that fits; the pickiest situations choose first."""
    uses: Counter[str] = Counter()
    taken: set[tuple[str, str]] = set()
    chosen: dict[int, Persona] = {}
    for i in sorted(range(len(slots)), key=lambda i: (len(eligible[slots[i].situation.id]), rng.random())):
        id = slots[i].situation.id
        free = [persona for persona in eligible[id] if (id, persona.id) not in taken]
        persona = min(free, key=lambda persona: (uses[persona.id], rng.random()))
        uses[persona.id] += 1
        taken.add((id, persona.id))
        chosen[i] = persona
    return [chosen[i] for i in range(len(slots))]


def _mixed(pairs: list[tuple[_Slot, Persona]], rng: random.Random) -> list[tuple[_Slot, Persona]]:
    """Order profiles so that one of each scenario comes before the second of any."""
    rng.shuffle(pairs)
    by_scenario: dict[Scenario, list[tuple[_Slot, Persona]]] = defaultdict(list)
    for pair in pairs:
        by_scenario[pair[0].situation.scenario].append(pair)
    rounds = [[pair for pair in row if pair] for row in zip_longest(*by_scenario.values())]
    for row in rounds:
        rng.shuffle(row)
    return [pair for row in rounds for pair in row]


def _profile(id: str, slot: _Slot, persona: Persona) -> Profile:
    situation = slot.situation
    return Profile(
        id=id,
        split=situation.split,
        scenario=situation.scenario,
        character=slot.character,
        traits=persona.traits,
        need=slot.need,
        person=Person(
            id=persona.id, name=persona.name, age=persona.age, gender=persona.gender, work=persona.work,
            speech=persona.speech, habits=persona.habits, tags=tuple(persona.tags),
        ),
        scene=Scene(
            id=situation.id, background=situation.background, tried=situation.tried, hurts_most=situation.hurts_most,
            high=situation.high, middling=situation.middling, low=situation.low,
        ),
        first_line=situation.first[slot.character],
        risk=situation.risk,
    )  # fmt: skip


def check(profiles: Iterable[Profile], parts: Parts) -> list[str]:
    """Return every way in which profiles break the rules, judged from the profiles themselves, not from how they came.

    Looked at: that person and scene are parts as written, that they fit each other and the need, that the first line is
    the character's, that nothing repeats, and that no situation or persona stands in both splits.
    """
    situations = {situation.id: situation for situation in parts.situations}
    personas = {persona.id: persona for persona in parts.personas}
    found: list[str] = []
    seen: dict[tuple[str, ...], str] = {}
    split_of: dict[str, str] = {}
    for profile in profiles:
        situation, persona = situations.get(profile.scene.id), personas.get(profile.person.id)
        if situation is None or persona is None:
            found.append(f"{profile.id}: no situation {profile.scene.id!r} or no persona {profile.person.id!r}")
            continue
        found += [f"{profile.id}: {problem}" for problem in _faults(profile, situation, persona)]
        for key in (
            ("situation and persona", situation.id, persona.id),
            ("situation, character and need", situation.id, profile.character, profile.need),
        ):
            if key in seen:
                found.append(f"{profile.id}: the same {key[0]} as {seen[key]}")
            seen.setdefault(key, profile.id)
        for part in (situation.id, persona.id):
            if split_of.setdefault(part, str(profile.split)) != str(profile.split):
                found.append(f"{profile.id}: {part} stands in both splits")
    return found


def _faults(profile: Profile, situation: Situation, persona: Persona) -> Iterator[str]:
    yield from misfits(situation, persona)
    if profile.need not in situation.fits_needs:
        yield f"need {profile.need} does not fit {situation.id}"
    if not profile.split == situation.split == persona.split:
        yield f"split {profile.split}, but {situation.id} is of {situation.split} and {persona.id} of {persona.split}"
    as_written = _profile(profile.id, _Slot(situation, profile.need, profile.character), persona)
    for field in ("scenario", "traits", "person", "scene", "first_line", "risk"):
        if getattr(profile, field) != getattr(as_written, field):
            yield f"{field} is not as its parts are written; compose again"


def compose_shipped(parts: Parts, seed: int = SEED) -> tuple[ProfileSet, ...]:
    """Compose both shipped sets, in the sizes of `SIZES`."""
    return tuple(ProfileSet(name=split, profiles=compose(parts, split, n, seed)) for split, n in SIZES.items())
