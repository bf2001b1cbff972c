"""All accepted candidates together: each was better by itself, the bank that holds them all must not be worse.

They are held against the parent over the whole verify part, with all guards, on seeds that no trial has used. Where
they are significantly worse or vetoed, the one that gained least goes, and the rest is tried again.
"""

from collections.abc import Sequence

from ..skills_bank.errors import BankError
from .acceptance import Case
from .bench import Bench
from .models import Candidate, ProposalKind
from .record import Attempt, Joint, Round

ROUNDS = 6
"""Rounds until the rest is given up. A bank that is worse six times over holds more than one bad apple."""
REPEATS = 2
"""Talks with each profile; there are many more profiles than in a trial of one candidate."""
JOINT = "joint"


async def join(bench: Bench) -> Joint:
    """Settle which of the accepted candidates stay."""
    found = bench.run.joint()
    if found is not None:
        return found
    accepted = [one for one in bench.run.all_attempts() if one.verdict and one.verdict.ruling == "accept"]
    dropped: dict[str, str] = {}
    kept = _one_of_each(bench, accepted, dropped)
    rounds: list[Round] = []
    while kept:
        before = bench.run.rounds()
        found = before[len(rounds)] if len(before) > len(rounds) else await _round(bench, len(rounds) + 1, kept)
        rounds.append(found)
        if found.dropped is None:
            break
        dropped[found.dropped] = found.reason
        kept = [one for one in kept if one.id != found.dropped]
        if len(rounds) == ROUNDS:
            dropped |= dict.fromkeys((one.id for one in kept), f"The rest was given up after {ROUNDS} rounds.")
            kept = []
    joint = Joint(kept=tuple(one.id for one in kept), dropped=dropped, rounds=tuple(rounds))
    bench.run.write("joint.json", joint)
    return joint


def _one_of_each(bench: Bench, accepted: Sequence[Attempt], dropped: dict[str, str]) -> list[Attempt]:
    """Return the accepted ones, of those that touch the same skill the best; `dropped` gets the others."""
    best: dict[str, Attempt] = {}
    for one in sorted(accepted, key=bench.gain, reverse=True):
        touched = _touched(one.candidate) if one.candidate else set()
        rivals = [best[name].id for name in sorted(touched) if name in best]
        if rivals:
            dropped[one.id] = f"{', '.join(dict.fromkeys(rivals))} touches the same skill and gained more."
        else:
            best |= dict.fromkeys(touched, one)
    stays = {one.id for one in best.values()}
    return [one for one in accepted if one.id in stays]


def _touched(candidate: Candidate) -> set[str]:
    return {name for name in (candidate.skill, candidate.replaces) if name}


async def _round(bench: Bench, number: int, kept: Sequence[Attempt]) -> Round:
    """Try `kept` together, and name the weakest where that must not be."""
    ids = tuple(one.id for one in kept)
    weakest = min(reversed(kept), key=bench.gain).id
    try:
        staged = bench.stage(bench.candidates(ids), f"joint/{number}/bank")
    except BankError as error:
        found = Round(
            number=number, candidates=ids, verdict=None, dropped=weakest, reason=f"They make no bank together: {error}"
        )
    else:
        case = Case(
            candidate=_together(number, ids),
            kind=ProposalKind.REFINE,
            parent=bench.parent,
            staged=staged,
            profiles=bench.split.verify,
            repeats=REPEATS,
            seed=bench.plan.seed_of(f"joint/{number}"),
            attempt=1,
        )
        with bench.watch.phase("joining", f"round {number}"):
            verdict = await bench.parts.joint.judge(case, bench.arena, bench.guards)
        bad = verdict.ruling == "reject"
        found = Round(
            number=number,
            candidates=ids,
            verdict=verdict,
            dropped=weakest if bad else None,
            reason=f"With it the bank fails as a whole, and it gained least. {verdict.reason}"
            if bad
            else verdict.reason,
        )
    bench.run.write(f"joint/{number}/round.json", found)
    return found


def _together(number: int, ids: Sequence[str]) -> Candidate:
    """Return the name under which a strategy judges several candidates at once."""
    return Candidate(
        id=f"{JOINT}.{number}",
        proposal=JOINT,
        attempt=number,
        skill=JOINT,
        replaces=None,
        files={},
        what=f"All of {', '.join(ids)}.",
        generator=JOINT,
    )
