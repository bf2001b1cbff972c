"""Two runs against each other, talk by talk: the same profile, the same seed, another agent or another bank.

Common random numbers make the pairs alike in all but what is compared, so that the difference is seen through far less
noise than between two separate samples.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from ..skills_bank.errors import InputError
from .emotion import is_failure, is_success
from .resample import Estimate, ratio, sign_flip_p
from .run import RunFolder
from .summary import Figures, Talk, described, figures, spread, talks_of

NAMED = 3


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Contrast(_Frozen):
    """B minus A over some pairs. Repeats of a profile are taken together, since they are not independent."""

    profiles: int
    talks: int
    mean_a: float
    mean_b: float
    difference: Estimate
    p: float
    better: int
    """Profiles that end higher in B, and in A."""
    worse: int
    success: tuple[int, int]
    failure: tuple[int, int]


class Comparison(_Frozen):
    """Two runs, paired."""

    a: str
    b: str
    about_a: str
    about_b: str
    profiles: str
    seed: int
    all: Contrast
    strata: dict[str, dict[str, Contrast]]
    figures_a: Figures
    figures_b: Figures


class Pair(NamedTuple):
    """The same conversation in both runs."""

    a: Talk
    b: Talk


def compare(a: RunFolder, b: RunFolder) -> Comparison:
    """Pair two runs by profile, repeat and seed.

    Raises:
        InputError: One is not complete, or they hold other conversations.
    """
    for run in (a, b):
        if not run.complete:
            raise InputError(f"The run {run.id} is not complete; take it up with `esc-skills simulate ... --resume`.")
    about_a, about_b = a.settings(), b.settings()
    if (about_a.profiles_hash, about_a.rules) != (about_b.profiles_hash, about_b.rules):
        raise InputError(f"{a.id} and {b.id} are over other profiles or by other rules; there is nothing to pair.")
    pairs = paired(talks_of(a), talks_of(b))
    keys: dict[str, Callable[[Talk], str]] = {
        "character": lambda t: t.character,
        "hidden need": lambda t: t.need,
        "scenario": lambda t: t.scenario,
        "risk hint": lambda t: "with a hint" if t.risk else "without",
    }
    return Comparison(
        a=a.id,
        b=b.id,
        about_a=described(about_a),
        about_b=described(about_b),
        profiles=about_a.profiles,
        seed=about_a.seed,
        all=contrast(pairs),
        strata={name: strata for name, key in keys.items() if len(strata := _strata(pairs, key)) > 1},
        figures_a=figures([pair.a for pair in pairs]),
        figures_b=figures([pair.b for pair in pairs]),
    )


def paired(a: Sequence[Talk], b: Sequence[Talk]) -> list[Pair]:
    """Return the conversations of two runs side by side, in the order of the first.

    Raises:
        InputError: One holds a conversation that the other does not.
    """
    mine = {(t.profile, t.repeat, t.seed): t for t in a}
    theirs = {(t.profile, t.repeat, t.seed): t for t in b}
    if odd := sorted(mine.keys() ^ theirs.keys()):
        named = ", ".join(f"{profile} #{repeat} (seed {seed})" for profile, repeat, seed in odd[:NAMED])
        raise InputError(
            f"{len(odd)} talks have no partner, e.g. {named}. Compare runs of the same profiles, --n and --seed."
        )
    if not mine:
        raise InputError("The runs hold no conversation.")
    return [Pair(talk, theirs[key]) for key, talk in mine.items()]


def contrast(pairs: Sequence[Pair]) -> Contrast:
    """Return B minus A over at least one pair."""
    by_profile: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        by_profile[pair.a.profile].append(pair)
    groups = list(by_profile.values())
    sums = [sum(pair.b.points - pair.a.points for pair in group) for group in groups]
    return Contrast(
        profiles=len(groups),
        talks=len(pairs),
        mean_a=sum(pair.a.points for pair in pairs) / len(pairs),
        mean_b=sum(pair.b.points for pair in pairs) / len(pairs),
        difference=ratio(sums, [float(len(group)) for group in groups]),
        p=sign_flip_p(sums),
        better=sum(total > 0 for total in sums),
        worse=sum(total < 0 for total in sums),
        success=(sum(is_success(p.a.points) for p in pairs), sum(is_success(p.b.points) for p in pairs)),
        failure=(sum(is_failure(p.a.points) for p in pairs), sum(is_failure(p.b.points) for p in pairs)),
    )


def _strata(pairs: Sequence[Pair], key: Callable[[Talk], str]) -> dict[str, Contrast]:
    groups: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        if value := key(pair.a):
            groups[value].append(pair)
    return {value: contrast(groups[value]) for value in sorted(groups)}


HEAD = (
    "| | talks | A | B | B - A (95% interval) | p | better, worse | Success A, B | Failure A, B |\n| --- |"
    + " ---: |" * 8
)


def page(found: Comparison) -> str:
    """Return a comparison as markdown."""
    lines = [
        f"- A `{found.a}`: {found.about_a}",
        f"- B `{found.b}`: {found.about_b}",
        "",
        "Change a turn, negative turns: A "
        f"{spread(found.figures_a.mean_change, '+.2f')}, {found.figures_a.negative_share.value:.0%}; B "
        f"{spread(found.figures_b.mean_change, '+.2f')}, {found.figures_b.negative_share.value:.0%}.",
        "",
        HEAD,
        row("**all**", found.all),
    ]
    for name, strata in found.strata.items():
        lines += [row(f"{name}: {value.replace('_', ' ')}", c) for value, c in strata.items()]
    tests = sum(map(len, found.strata.values()))
    lines += [
        "",
        f"Intervals: bootstrap over profiles. p: exact two-sided sign-flip test. The {tests} strata are not corrected "
        "for their number; read them as where to look, not as findings.",
    ]
    return "\n".join(lines)


def row(name: str, c: Contrast) -> str:
    """Return one line of the table."""
    p = f"{c.p:.3f}" if c.p >= 0.001 else f"{c.p:.0e}"
    return (
        f"| {name} | {c.talks} | {c.mean_a:.1f} | {c.mean_b:.1f} | {spread(c.difference, '+.1f')} | {p} | "
        f"{c.better}, {c.worse} | {c.success[0]}, {c.success[1]} | {c.failure[0]}, {c.failure[1]} |"
    )
