"""`docs/profiles.md`: what the shipped profiles cover, whether any repeats another, and how alike they are."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

from ..skills_bank.taxonomy import SCENARIO_INFO, Scenario
from .compose import SEED, check
from .needs import CHARACTER_INFO, NEED_INFO, Character, HiddenNeed
from .parts import Parts, Persona, Situation
from .profiles import Profile, ProfileSet
from .similarity import SHINGLE, Embedder, overlap, shingles, vectors

if TYPE_CHECKING:
    from .similarity import Floats

TOO_ALIKE = 0.1
"""Share of runs of words in common from which two parts would count as copies of each other."""


class Alike(NamedTuple):
    """How near each of n texts is to its nearest neighbour, beside how near any two are."""

    what: str
    n: int
    any_two: float
    median: float
    most: float
    pair: tuple[str, str]


class Copied(NamedTuple):
    """Two parts with words in common."""

    one: str
    other: str
    share: float


def render(sets: Sequence[ProfileSet], parts: Parts, embedder: Embedder, encoder_version: str) -> str:
    """Return the page."""
    profiles = [profile for one in sets for profile in one.profiles]
    faults = check(profiles, parts)
    sections = (
        _head(sets, parts),
        "## Coverage\n\n" + "\n\n".join(_coverage(one) for one in sets),
        _spread_of(sets, parts),
        _duplicates(profiles, parts, faults),
        _diversity(sets, parts, embedder, encoder_version),
    )
    return "\n\n".join(sections) + "\n"


def copies(parts: Parts, least: float = TOO_ALIKE) -> list[Copied]:
    """Return the pairs of situations, and of personas, that share at least `least` of their runs of words."""
    found = []
    for group in (parts.situations, parts.personas):
        runs = [(part.id, shingles(_text(part))) for part in group]
        found += [
            Copied(one, other, share)
            for (one, a), (other, b) in combinations(runs, 2)
            if a & b and (share := overlap(a, b)) >= least
        ]
    return sorted(found, key=lambda pair: -pair.share)


def alike(parts: Parts, sets: Sequence[ProfileSet], embedder: Embedder) -> list[Alike]:
    """Return nearest-neighbour similarities of parts and profiles, within and across the splits."""
    situations, personas = parts.situations, parts.personas
    rows: list[Alike] = []
    for what, group in (("situations", situations), ("personas", personas)):
        found = vectors([_text(part) for part in group], embedder)
        ids = [part.id for part in group]
        rows.append(_among(what, ids, found))
        rows.append(_across(f"{what}: evaluation to evolution", ids, found, [part.split for part in group]))
    openings = [(f"{s.id}, {character}", line) for s in situations for character, line in s.first.items()]
    rows.append(_among("first lines", [id for id, _ in openings], vectors([line for _, line in openings], embedder)))
    profiles = [profile for one in sets for profile in one.profiles]
    whole = vectors([_whole(profile) for profile in profiles], embedder)
    ids = [profile.id for profile in profiles]
    rows.append(_among("profiles", ids, whole))
    scenes = [profile.scene.id for profile in profiles]
    rows.append(_among("profiles of another situation", ids, whole, scenes))  # those of one are alike on purpose
    rows.append(_across("profiles: evaluation to evolution", ids, whole, [str(p.split) for p in profiles]))
    return rows


def _text(part: Situation | Persona) -> str:
    """Return what tells one part from another."""
    if isinstance(part, Situation):
        return " ".join((part.background, part.tried, part.hurts_most, part.high, part.middling, part.low))
    return " ".join((f"{part.work}.", part.speech, part.habits))


def _whole(profile: Profile) -> str:
    return " ".join((profile.person.described(), profile.scene.described(), profile.first_line or ""))


def _alike(what: str, ids: Sequence[str], cosines: "Floats", places: Sequence[int], others: Sequence[int]) -> Alike:
    """Return the summary of a table of cosines; minus infinity stands for pairs that are not looked at.

    Row i is the text `ids[places[i]]`, column j the text `ids[others[j]]`.
    """
    import numpy as np

    nearest, best = cosines.max(axis=1), cosines.argmax(axis=1)
    i = int(nearest.argmax())
    pair = (ids[places[i]], ids[others[int(best[i])]])
    any_two = np.median(cosines[np.isfinite(cosines)])
    return Alike(what, len(places), float(any_two), float(np.median(nearest)), float(nearest[i]), pair)


def _among(what: str, ids: Sequence[str], rows: "Floats", groups: Sequence[str] | None = None) -> Alike:
    """Compare each text with all others, or with those of another group than its own."""
    import numpy as np

    own = np.array(list(ids) if groups is None else list(groups))
    cosines = rows @ rows.T
    cosines[own[:, None] == own[None, :]] = -np.inf
    places = range(len(ids))
    return _alike(what, ids, cosines, places, places)


def _across(what: str, ids: Sequence[str], rows: "Floats", splits: Sequence[str]) -> Alike:
    apart = [i for i, split in enumerate(splits) if split == "evaluation"]
    learned = [i for i, split in enumerate(splits) if split == "evolution"]
    return _alike(what, ids, rows[apart] @ rows[learned].T, apart, learned)


def _head(sets: Sequence[ProfileSet], parts: Parts) -> str:
    rows = [
        (one.name, str(len(one.profiles)), f"`{one.digest}`", str(sum(p.risk is not None for p in one.profiles)))
        for one in sets
    ]
    return "\n\n".join(
        (
            "# Profiles of simulated seekers",
            "Written by `esc-skills profiles report --write docs/profiles.md`; change the parts or the code, not this "
            "page. The profiles are composed by `esc-skills profiles compose` "
            f"(seed {SEED}) from parts written one by one in `simulator/parts/`: a situation says what happened and "
            "how the seeker talks in each mood, a persona who it happened to. Each profile joins one situation, one "
            "persona, one of SAGE's 3 characters and one of its 8 hidden needs.",
            f"{len(parts.situations)} situations, {len(parts.personas)} personas; each belongs to one of the two "
            "sets, so that a bank evolved on the first meets nothing it has seen in the second.",
            _table(("set", "profiles", "digest", "with a risk hint"), rows),
            "Two other forms are read as well: SAGE's `simulator_profile.jsonl` and RLVER's `train_profile.jsonl` "
            "(Chinese text kept; `main_cha`, `cha_group`, `task` and `first_talk` mapped). Records that cannot be used "
            "are named, counted and left out.",
        )
    )


def _coverage(one: ProfileSet) -> str:
    profiles = one.profiles
    header = ("scenario", "profiles", "situations", "personas", *Character, *(NEED_INFO[n].name for n in HiddenNeed))
    rows = [
        _coverage_row(SCENARIO_INFO[scenario].name, [p for p in profiles if p.scenario == scenario])
        for scenario in Scenario
    ]
    return f"### {one.name}\n\n" + _table(header, [*rows, _coverage_row("all", profiles)])


def _coverage_row(name: str, group: Sequence[Profile]) -> tuple[str, ...]:
    characters = Counter(profile.character for profile in group)
    needs = Counter(profile.need for profile in group)
    counts = (
        len(group),
        len({profile.scene.id for profile in group}),
        len({profile.person.id for profile in group}),
        *(characters[character] for character in Character),
        *(needs[need] for need in HiddenNeed),
    )
    return (name, *map(str, counts))


def _spread_of(sets: Sequence[ProfileSet], parts: Parts) -> str:
    rows = []
    for one in sets:
        cells = Counter((profile.character, profile.need) for profile in one.profiles)
        ages = sorted(profile.person.age for profile in one.profiles)
        genders = Counter(profile.person.gender for profile in one.profiles)
        rows.append(
            (
                one.name,
                _range(cells[character, need] for character in CHARACTER_INFO for need in NEED_INFO),
                _range(Counter(profile.scene.id for profile in one.profiles).values()),
                _range(Counter(profile.person.id for profile in one.profiles).values()),
                f"{ages[0]} to {ages[-1]}, median {ages[len(ages) // 2]}",
                ", ".join(f"{n} {gender}" for gender, n in genders.most_common()),
            )
        )
    header = ("set", "profiles a character and need", "a situation", "a persona", "ages", "genders")
    unused = sorted({p.id for p in parts.personas} - {p.person.id for one in sets for p in one.profiles})
    unheard = sorted({s.id for s in parts.situations} - {p.scene.id for one in sets for p in one.profiles})
    return (
        "## Balance\n\nFewest to most. Personas are used unevenly where few situations can have happened to them.\n\n"
        + _table(header, rows)
        + f"\n\nPersonas never used: {', '.join(unused) or 'none'}. "
        + f"Situations never used: {', '.join(unheard) or 'none'}."
    )


def _range(counts: Iterable[int]) -> str:
    values = sorted(counts)
    return f"{values[0]} to {values[-1]}"


def _duplicates(profiles: Sequence[Profile], parts: Parts, faults: Sequence[str]) -> str:
    def repeated(key: Callable[[Profile], object]) -> str:
        return str(sum(n - 1 for n in Counter(map(key, profiles)).values()))

    copied = copies(parts, 0.0)
    rows = [
        ("profiles with the same situation and persona", repeated(lambda p: (p.scene.id, p.person.id))),
        (
            "profiles with the same situation, character and need",
            repeated(lambda p: (p.scene.id, p.character, p.need)),
        ),
        (
            "situations or personas in both sets",
            str(sum("both splits" in fault for fault in faults)),
        ),
        ("profiles that break a rule of coherence or differ from their parts", str(len(faults))),
        (
            f"pairs of parts with {TOO_ALIKE:.0%} or more of their {SHINGLE}-word runs in common",
            str(len(copies(parts))),
        ),
    ]
    worst = copied[0] if copied else None
    nearest_copy = (
        f"\n\nThe two parts with most {SHINGLE}-word runs in common are {worst.one} and {worst.other}: "
        f"{worst.share:.1%} of the runs of both."
        if worst
        else ""
    )
    return "## Duplicates\n\n" + _table(("looked for", "found"), rows) + nearest_copy


def _diversity(sets: Sequence[ProfileSet], parts: Parts, embedder: Embedder, version: str) -> str:
    rows = [
        (a.what, str(a.n), f"{a.any_two:.2f}", f"{a.median:.2f}", f"{a.most:.2f}", f"{a.pair[0]} / {a.pair[1]}")
        for a in alike(parts, sets, embedder)
    ]
    return (
        "## Nearest neighbours\n\n"
        f"Cosine of each text to its nearest neighbour, by the shipped encoder ({version}), mean over sentences. The "
        "encoder was trained to tell states and scenarios apart, so texts of one scenario lie close whatever happens "
        "in them; profiles of one situation share its text on purpose and differ in person, need and manner.\n\n"
        + _table(("texts", "n", "any two, median", "nearest, median", "nearest, most", "nearest pair"), rows)
    )


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    align = ["---"] + ["---:" if i and _numeric(rows, i) else "---" for i in range(1, len(header))]
    lines = [header, align, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _numeric(rows: Iterable[Sequence[str]], column: int) -> bool:
    return all(row[column].replace(".", "", 1).isdigit() for row in rows)
