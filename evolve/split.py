"""Which profiles an evolution learns from, which it checks on, and which it opens once, at the end.

Whole situations go to one part, so that no part knows the story of another's seekers. Where a seeded hash puts them
depends on the seed and the situation alone, never on the order of the file.
"""

import hashlib
from collections import defaultdict
from typing import Self

from pydantic import BaseModel, ConfigDict, model_validator

from ..simulator.profiles import Profile, ProfileSet
from ..skills_bank.errors import InputError

LEAST = 30
"""Profiles; with fewer a part would hold too few to tell anything."""
SHARES = {"propose": 0.50, "verify": 0.35, "sealed": 0.15}
PARTS = tuple(SHARES)
_DIGITS = 16


class Split(BaseModel):
    """The three parts, by profile ids in the order of the profiles."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int
    propose: tuple[str, ...]
    verify: tuple[str, ...]
    sealed: tuple[str, ...]

    @model_validator(mode="after")
    def _apart(self) -> Self:
        ids = [*self.propose, *self.verify, *self.sealed]
        if len(set(ids)) != len(ids):
            raise ValueError("a profile stands in two parts")
        return self

    def hashes(self) -> dict[str, str]:
        """Return a hash of each part's ids, for the report."""
        return {
            part: hashlib.sha256("\n".join((part, *sorted(getattr(self, part)))).encode()).hexdigest()[:_DIGITS]
            for part in PARTS
        }


def split_profiles(profiles: ProfileSet, seed: int) -> Split:
    """Split profiles 50 / 35 / 15 by situation, each part with all scenarios where there are situations enough.

    Raises:
        InputError: There are too few profiles, or too few situations to share out.
    """
    if len(profiles.profiles) < LEAST:
        raise InputError(
            f"{profiles.name} holds {len(profiles.profiles)} profiles; an evolution needs {LEAST} at least, to propose "
            "on some, verify on others and keep some sealed. Use --profiles evolution, or a larger file."
        )
    seekers: dict[str, list[Profile]] = defaultdict(list)
    for profile in profiles.profiles:
        seekers[situation_of(profile)].append(profile)
    if len(seekers) < len(PARTS):
        raise InputError(
            f"The profiles of {profiles.name} share fewer than {len(PARTS)} situations; none may be split."
        )
    sizes: dict[str, dict[str, int]] = defaultdict(dict)
    for situation, some in seekers.items():
        sizes[min(str(profile.scenario or "") for profile in some)][situation] = len(some)
    places = _shared_out(sizes, seed)
    ids: dict[str, list[str]] = {part: [] for part in PARTS}
    for profile in profiles.profiles:
        ids[places[situation_of(profile)]].append(profile.id)
    return Split(seed=seed, **{part: tuple(found) for part, found in ids.items()})


def situation_of(profile: Profile) -> str:
    """Return the situation a profile stands in; a foreign one, whose file does not say, is one by itself."""
    return profile.scene.id or f"profile {profile.id}"


def _shared_out(sizes: dict[str, dict[str, int]], seed: int) -> dict[str, str]:
    """Return the part of each situation.

    In a scenario of three situations or more each part gets its share of them, rounded down, and one at least. What is
    left over goes to the part that is farthest from its share so far, within a scenario of few to another part each.
    """
    places: dict[str, str] = {}
    filled = dict.fromkeys(PARTS, 0)

    def put(situation: str, part: str, size: int) -> None:
        places[situation] = part
        filled[part] += size

    for scenario in sorted(sizes):
        order = sorted(sizes[scenario], key=lambda situation: _draw(seed, situation))
        quota = [part for part in PARTS for _ in range(max(1, int(SHARES[part] * len(order))))]
        whole = quota if len(order) >= len(PARTS) else []
        for situation, part in zip(order, whole, strict=False):
            put(situation, part, sizes[scenario][situation])
        free = list(PARTS)
        for situation in order[len(whole) :]:
            part = min(free, key=lambda part: filled[part] / SHARES[part])
            put(situation, part, sizes[scenario][situation])
            if not whole:
                free.remove(part)
    return places


def _draw(seed: int, situation: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{situation}".encode()).digest()
