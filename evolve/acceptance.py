"""Whether a candidate text is better than the one it would replace.

`Paired` (the default) holds the same talks with both texts: same profiles, same seeds, the old one run again, because
the scores that chose the hard profiles are biased low and would let anything look like a gain. The seeds are new in
every attempt, since the text of a later one was made knowing how the earlier ones went. A profile's differences over
all its seeds are one unit of an exact sign-flip test.

Errors: `ALPHA` two-sided for a proposal, over everything it may try. Its attempts get parts of it (`SHARES`, the first,
which does what was found and no more, the largest; Bonferroni). Within one, talks are held in looks; each look has its
own part of the attempt's level (`SPENT`), so that stopping at the first one that is significant keeps the sum. That a
look without promise ends the attempt can only cost power.

The first look is at the hardest profiles alone (`HARD`). Where a case names more, the next one takes them in: what a
text does differs from profile to profile by more than repeats can average out, so further profiles tell more than
further talks with the same.

`Paper` decides as Zhu et al. (2026) do: all profiles reach Success, or the mean strictly improves within three
attempts.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from ..simulator.emotion import is_failure, is_success
from ..simulator.profiles import Profile
from ..simulator.resample import Estimate, ratio, sign_flip_p
from ..simulator.session import Transcript
from ..simulator.sources import BankRef
from ..skills_bank.errors import InputError
from ..skills_bank.taxonomy import SupportAction
from .arena import Arena
from .models import Candidate, Effect, Feedback, ProposalKind, Ruling, TalkPair, Verdict
from .plan import HARD
from .split import Split

if TYPE_CHECKING:
    from .guards import Guards

ALPHA = 0.05
"""Declared error rate of a proposal, two-sided: that any of its attempts is called better or worse though it is not."""
SHARES = (0.5, 0.3, 0.2)
"""Parts of the error rate for the attempts."""
SPENT = (0.2, 0.3, 0.5)
"""Parts of an attempt's level that its looks may use; one that is left out leaves its part to the next."""
LEAST_TURNS = 3
"""Turns after which the changes that followed an action are worth telling."""
NAMED = 5
WIDEST = 100.0
"""The largest difference two talks can have; the interval of a single profile, which has no standard error."""


class Case(NamedTuple):
    """A candidate and what it is tried on."""

    candidate: Candidate
    kind: ProposalKind
    parent: BankRef
    staged: BankRef
    profiles: tuple[str, ...]
    """Hard ones, of the verify part, hardest first."""
    repeats: int
    """Talks with each profile and text, at most."""
    seed: int
    attempt: int = 1
    mends: bool = False
    """Whether it takes the place of a text that must not stand in a bank; then it need only not be worse."""


class Strategy(Protocol):
    """Decides over candidates."""

    name: Literal["paper", "paired"]

    async def judge(self, case: Case, arena: Arena, guards: "Guards") -> Verdict:
        """Hold the talks that are needed and say what becomes of the candidate."""
        ...


class Look(NamedTuple):
    """Talks that are added before the next decision, and the p up to which it is called significant."""

    repeats: int
    level: float
    profiles: slice
    """Whom they are held with."""
    first: int
    """Talks that were held with each of them before."""


class Paired:
    """New against old on the same profiles and seeds, with a declared error rate."""

    name: Literal["paper", "paired"] = "paired"

    def __init__(self, alpha: float = ALPHA, shares: Sequence[float] = SHARES) -> None:
        """Take the error rate of a proposal and how its attempts share it."""
        self._levels = [alpha * share for share in shares]

    async def judge(self, case: Case, arena: Arena, guards: "Guards") -> Verdict:
        """Hold talks until the difference is significant, or no gain, or the repeats are used up."""
        if case.staged.hash == case.parent.hash:
            return _unchanged(case, self.name)
        looks = looks_of(case.repeats, self._levels[min(case.attempt, len(self._levels)) - 1], len(case.profiles))
        hardest = case.profiles[looks[0].profiles]
        floor = await noise_floor(case.parent, hardest, looks[0].repeats, case.seed, arena)
        talks = _Talks()
        for number, look in enumerate(looks, start=1):
            await talks.hold(case, arena, look, trial_seed(case.seed, "verify", case.attempt, number))
            found = effect_of(talks.pairs)
            significant = found.p <= look.level
            if significant or found.difference.value <= 0:
                break
        ruling, reason = _paired_ruling(found, floor, significant=significant, level=look.level)
        return await _settled(case, self.name, talks, found, ruling, reason, arena, guards, floor)


class Paper:
    """As published: all reach Success, or the mean strictly improves over the old text's.

    The best of three attempts improves where one of them does, so the first that does is taken. Unlike the published
    method the old text is run again, on the same seeds, and the vetoes hold.
    """

    name: Literal["paper", "paired"] = "paper"

    async def judge(self, case: Case, arena: Arena, guards: "Guards") -> Verdict:
        """Hold one talk with each of the hardest profiles and text."""
        if case.staged.hash == case.parent.hash:
            return _unchanged(case, self.name)
        talks = _Talks()
        await talks.hold(case, arena, Look(1, 1.0, slice(0, HARD), 0), trial_seed(case.seed, "paper"))
        found = effect_of(talks.pairs)
        gain = sum(pair.new - pair.old for pair in talks.pairs)
        if not any(pair.new != pair.old for pair in talks.pairs):
            ruling, reason = _SAME
        elif found.success[1] == found.talks:
            ruling, reason = "accept", f"All {found.talks} talks reach Success ({found.success[0]} with the old text)."
        elif gain > 0:
            ruling, reason = "accept", f"The mean rises from {found.old:.1f} to {found.new:.1f}."
        else:
            ruling, reason = "reject", f"The mean goes from {found.old:.1f} to {found.new:.1f}: no gain."
        return await _settled(case, self.name, talks, found, ruling, reason, arena, guards, None)


def strategy_named(name: Literal["paper", "paired"]) -> Strategy:
    """Return a strategy by name."""
    return Paired() if name == "paired" else Paper()


# --- what it is tried on --------------------------------------------------------------------------------------------


def hard_profiles(talks: Sequence[Transcript], split: Split, skill: str | None, n: int = HARD) -> tuple[str, ...]:
    """Return up to `n` profiles of the verify part, those that ended lowest first.

    Those in whose talks the skill was followed come first, then those in which it was selected; others, whom another
    text of it may never reach, only fill up to `HARD`. For a new skill (None) all are alike. Repeats of a profile are
    taken together; ties go by id.

    Raises:
        InputError: No talk is with a profile of the verify part.
    """
    verify = set(split.verify)
    by_profile: dict[str, list[Transcript]] = defaultdict(list)
    for talk in talks:
        if talk.profile in verify:
            by_profile[talk.profile].append(talk)
    if not by_profile:
        raise InputError("None of the talks is with a profile of the verify part; hold the baseline over it first.")
    distance = {profile: _distance(mine, skill) for profile, mine in by_profile.items()}
    end = {profile: fmean(talk.points for talk in mine) for profile, mine in by_profile.items()}
    order = sorted(by_profile, key=lambda profile: (distance[profile], end[profile], profile))
    reached = sum(steps < _UNREACHED for steps in distance.values())
    return tuple(order[: min(n, max(reached, HARD))])


_UNREACHED = 2


def _distance(talks: Sequence[Transcript], skill: str | None) -> int:
    turns = [turn for talk in talks for turn in talk.turns]
    if skill is None or any(turn.followed == skill for turn in turns):
        return 0
    return 1 if any(used.name == skill for turn in turns for used in turn.skills) else _UNREACHED


def looks_of(repeats: int, level: float, profiles: int = HARD) -> list[Look]:
    """Return the looks at an attempt of at most `repeats` talks with each of so many profiles.

    With no more than `HARD` profiles: after a quarter, a half and all of the repeats. With more: at the hardest after
    half of the repeats, at all after as many, and at all after all of them.
    """
    half = max(1, round(repeats / 2))
    if profiles > HARD:
        wanted = [(slice(0, HARD), 0, half), (slice(HARD, profiles), 0, half), (slice(0, profiles), half, repeats)]
    else:
        steps = (0, max(1, round(repeats / 4)), half, repeats)
        wanted = [(slice(0, profiles), begin, end) for begin, end in pairwise(steps)]
    found, spared = [], 0.0
    for part, (who, begin, end) in zip(SPENT, wanted, strict=True):
        spared += part
        if end > begin:
            found.append(Look(end - begin, spared * level, who, begin))
            spared = 0.0
    if spared:
        found[-1] = found[-1]._replace(level=found[-1].level + spared * level)
    return found


def trial_seed(seed: int, *what: object) -> int:
    """Return a seed of its own for one part of a run."""
    text = "\0".join(map(str, (seed, *what)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


async def noise_floor(parent: BankRef, profiles: Sequence[str], repeats: int, seed: int, arena: Arena) -> Effect:
    """Return the A/A run: the unchanged bank against itself on other seeds. What it shows is luck."""
    first = await arena.talks(parent, profiles, repeats=repeats, seed=trial_seed(seed, "verify", 1, 1))
    other = await arena.talks(parent, profiles, repeats=repeats, seed=trial_seed(seed, "floor"))
    return effect_of(pair_talks(first, other))


# --- what it shows --------------------------------------------------------------------------------------------------


def pair_talks(old: Iterable[Transcript], new: Iterable[Transcript], first_repeat: int = 0) -> list[TalkPair]:
    """Return the ends of the same talks side by side; repeats are counted from `first_repeat`.

    Raises:
        InputError: One holds a talk that the other does not.
    """
    mine, theirs = {talk.key: talk for talk in old}, {talk.key: talk for talk in new}
    if mine.keys() != theirs.keys():
        odd = ", ".join(f"{profile} #{repeat}" for profile, repeat in sorted(mine.keys() ^ theirs.keys())[:NAMED])
        raise InputError(f"Talks without a partner: {odd}. Pair trials of the same profiles and repeats.")
    return [
        TalkPair(profile=key[0], repeat=first_repeat + key[1], old=mine[key].points, new=theirs[key].points)
        for key in mine
    ]


def effect_of(pairs: Sequence[TalkPair], *, by_talk: bool = False) -> Effect:
    """Return new minus old over at least one pair.

    Args:
        pairs: The ends of talks.
        by_talk: Whether each talk is a unit of its own. Then test and interval speak of these profiles; otherwise, a
            profile's talks taken together, of profiles such as these.
    """
    groups: dict[object, list[TalkPair]] = defaultdict(list)
    for pair in pairs:
        groups[(pair.profile, pair.repeat) if by_talk else pair.profile].append(pair)
    sums = [sum(pair.new - pair.old for pair in group) for group in groups.values()]
    difference = ratio(sums, [float(len(group)) for group in groups.values()])
    if len(groups) == 1:
        difference = Estimate(difference.value, -WIDEST, WIDEST)
    return Effect(
        profiles=len({pair.profile for pair in pairs}),
        talks=len(pairs),
        old=fmean(pair.old for pair in pairs),
        new=fmean(pair.new for pair in pairs),
        difference=difference,
        p=sign_flip_p(sums),
        success=(sum(is_success(p.old) for p in pairs), sum(is_success(p.new) for p in pairs)),
        failure=(sum(is_failure(p.old) for p in pairs), sum(is_failure(p.new) for p in pairs)),
    )


STRATA: Mapping[str, Callable[[Profile], str | None]] = {
    "character": lambda profile: profile.character.value,
    "hidden need": lambda profile: profile.need.value,
    "scenario": lambda profile: profile.scenario.value if profile.scenario else None,
}


def strata_of(
    pairs: Sequence[TalkPair], profile_of: Callable[[str], Profile], *, by_talk: bool = True
) -> dict[str, Effect]:
    """Return the effect in every stratum, by 'character: negative' and the like."""
    groups: dict[str, list[TalkPair]] = defaultdict(list)
    for pair in pairs:
        for name, value_of in STRATA.items():
            if value := value_of(profile_of(pair.profile)):
                groups[f"{name}: {value.replace('_', ' ')}"].append(pair)
    return {name: effect_of(groups[name], by_talk=by_talk) for name in sorted(groups)}


class _Talks:
    """The talks of an attempt, held look by look."""

    def __init__(self) -> None:
        self.pairs: list[TalkPair] = []
        self.old: list[Transcript] = []
        self.new: list[Transcript] = []

    async def hold(self, case: Case, arena: Arena, look: Look, seed: int) -> None:
        some = case.profiles[look.profiles]
        old = await arena.talks(case.parent, some, repeats=look.repeats, seed=seed)
        new = await arena.talks(case.staged, some, repeats=look.repeats, seed=seed)
        self.pairs += pair_talks(old, new, look.first)
        self.old += old
        self.new += new


# --- the ruling -----------------------------------------------------------------------------------------------------

_SAME: tuple[Ruling, str] = ("indecisive", "Every talk ended as it did with the old text.")


def _paired_ruling(found: Effect, floor: Effect, *, significant: bool, level: float) -> tuple[Ruling, str]:
    gain = found.difference.value
    told = f"{gain:+.1f} ({found.difference.low:+.1f} to {found.difference.high:+.1f}), p = {found.p:.2g}"
    if gain == 0 and found.p == 1 and found.old == found.new and found.difference.low == found.difference.high == 0:
        return _SAME
    if significant and gain > 0:
        return "accept", f"Better: {told}; p to reach {level:.2g}."
    if significant and gain < 0:
        return "reject", f"Worse: {told}; p to reach {level:.2g}."
    half = (floor.difference.high - floor.difference.low) / 2
    luck = "less" if abs(gain) <= half else "more"
    return "indecisive", (
        f"Not told from no difference: {told}; p to reach {level:.2g}. It is {luck} than the unchanged text moves by "
        f"luck (±{half:.1f} over {floor.talks} talks)."
    )


def _unchanged(case: Case, strategy: Literal["paper", "paired"]) -> Verdict:
    reason = "The bank is byte-identical to its parent; nothing was simulated."
    return Verdict(candidate=case.candidate.id, ruling="indecisive", reason=reason, strategy=strategy)


async def _settled(
    case: Case, strategy: Literal["paper", "paired"], talks: _Talks, found: Effect, ruling: Ruling, reason: str,
    arena: Arena, guards: "Guards", floor: Effect | None,
) -> Verdict:  # fmt: skip
    strata = strata_of(talks.pairs, arena.profile)
    checks, vetoes = await guards.checks(case, talks.pairs, strata, arena)
    if case.mends and ruling == "indecisive":
        ruling, reason = "accept", f"It takes out what must not be said, and is not shown to be worse. {reason}"
    if vetoes:
        ruling, reason = "reject", " ".join((*(f"Veto: {veto.reason}" for veto in vetoes), reason))
    return Verdict(
        candidate=case.candidate.id,
        ruling=ruling,
        reason=reason,
        strategy=strategy,
        effect=found,
        strata=strata,
        floor=floor,
        vetoes=tuple(vetoes),
        checks=tuple(checks),
        pairs=tuple(talks.pairs),
        seed=case.seed,
        feedback=None if ruling == "accept" else _feedback(case, talks, reason),
    )


def _feedback(case: Case, talks: _Talks, reason: str) -> Feedback:
    lost: dict[str, int] = defaultdict(int)
    for pair in talks.pairs:
        lost[pair.profile] += pair.new - pair.old
    worse = sorted((profile for profile in lost if lost[profile] < 0), key=lambda profile: (lost[profile], profile))
    return Feedback(
        attempt=case.attempt, reason=reason, worse_profiles=tuple(worse), worse_actions=_worse_actions(case, talks)
    )


def _worse_actions(case: Case, talks: _Talks) -> tuple[SupportAction, ...]:
    """Return the actions of the new text followed by less than the old text's replies (for a new skill: all) were."""
    before = [
        turn.change
        for talk in talks.old
        for turn in talk.turns
        if turn.change is not None and case.candidate.replaces in (None, turn.followed)
    ]
    after: dict[SupportAction, list[int]] = defaultdict(list)
    for turn in (turn for talk in talks.new for turn in talk.turns):
        if turn.change is not None and turn.followed == case.candidate.skill:
            for action in turn.actions:
                after[action].append(turn.change)
    if not before:
        return ()
    usual = fmean(before)
    means = {action: fmean(changes) for action, changes in after.items() if len(changes) >= LEAST_TURNS}
    return tuple(sorted((a for a in means if means[a] < usual), key=lambda action: (means[action], action)))
