"""Plant five faults in a copy of the shipped bank S1, evolve it without a model, and say what became of each.

    .venv/bin/python benchmarks/faults.py [--n 500] [--seed 7] [--workers 2] [--keep DIR] [--write docs/evolution.md]

Damage to a skill that does harm already is no fault that a simulation could see. So of the skills that the undamaged
bank's simulation follows at least twenty times, the ten whose replies are followed by most are taken, and a seeded draw
of these takes five: three have their recommended actions swapped for those their pitfalls warn of, in the words of
their bad examples, one is deleted, one gets an unsafe line. A fault counts as found when
a proposal about it stands among the first ten: about the skill itself, or, of the deleted one, about a new skill for
states that it served, or about a skill that was followed in its place there and is now given actions of its. It counts
as mended when an attempt at such a proposal is accepted and the harm is gone from the text. The unsafe line is also
proposed by hand, to be refused.
"""

import argparse
import os
import random
import re
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from esc_skills.evolve.faults import UNSAFE_LINE, Fault, FaultKind, most_helpful, plant, unsafe
from esc_skills.evolve.models import Candidate, Proposal
from esc_skills.evolve.plan import plan_evolution, start_evolution
from esc_skills.evolve.record import EvolveRun
from esc_skills.evolve.screen import screen
from esc_skills.pipeline.jobs import run_here
from esc_skills.skills_bank.bank import Bank
from esc_skills.skills_bank.models import Skill
from esc_skills.skills_bank.place import shipped_bank
from esc_skills.skills_bank.skillmd import parse_skill, render_skill

BEGIN, END = "<!-- figures: benchmarks/faults.py -->", "<!-- end of figures: benchmarks/faults.py -->"
TOP = 10
BASE = "S1"
"""The bank that is damaged: of the shipped ones the one whose words land better."""
KINDS = (FaultKind.SWAPPED, FaultKind.SWAPPED, FaultKind.SWAPPED, FaultKind.DELETED, FaultKind.UNSAFE)


class Fate(NamedTuple):
    """What became of a fault."""

    fault: Fault
    followed: int
    place: int | None
    """Of the first proposal about it, from 1."""
    proposal: str
    verdict: str
    mended: bool


def drawn(changes: dict[str, list[int]], skills: dict[str, Skill], seed: int) -> list[Fault]:
    """Return the faults to plant."""
    names = most_helpful(changes, skills, TOP)
    random.Random(seed).shuffle(names)
    return [Fault(kind=kind, skill=name) for kind, name in zip(KINDS, names, strict=False)]


def usage(n: int, seed: int, workers: int, home: Path) -> dict[str, list[int]]:
    """Return the changes that followed the replies by each skill of the shipped bank in a simulation."""
    import asyncio

    from esc_skills.simulator.casting import CastRecipe
    from esc_skills.simulator.engine import LocalEngine
    from esc_skills.simulator.profiles import load_profiles
    from esc_skills.simulator.run import settle_run, simulate
    from esc_skills.simulator.sources import settle_bank

    recipe, profiles = CastRecipe("bank", settle_bank(shipped_bank(BASE))), load_profiles("evolution")
    settings = settle_run(recipe, profiles, n=n, seed=seed)
    run = asyncio.run(simulate(home / "usage", settings, recipe, profiles, LocalEngine(workers), resume=True))
    changes: dict[str, list[int]] = defaultdict(list)
    for turn in (turn for talk in run.transcripts() for turn in talk.turns):
        if turn.followed and turn.change is not None:
            changes[turn.followed].append(turn.change)
    return changes


def about(proposal: Proposal, fault: Fault, lost: Skill | None) -> bool:
    """Whether a proposal is about a fault."""
    if fault.kind is not FaultKind.DELETED or lost is None:
        return proposal.skill == fault.skill
    actions = {step.action for plan in lost.plans for step in plan.steps}
    touches = bool(set(proposal.context.states) & set(lost.states))
    return touches and (proposal.skill is None or bool(actions & set(proposal.favour)))


def fate(fault: Fault, followed: int, run: EvolveRun, original: Skill) -> Fate:
    """Follow a fault through a run."""
    lost = original if fault.kind is FaultKind.DELETED else None
    proposals = list(run.proposals() or ())
    mine = [(place, p) for place, p in enumerate(proposals, start=1) if about(p, fault, lost)]
    kept = set(joint.kept) if (joint := run.joint()) else set()
    verdict, mended = "no attempt", False
    for _, proposal in mine:
        for attempt in run.attempts(proposal.id):
            if attempt.verdict is None:
                continue
            verdict = attempt.verdict.ruling if verdict != "accept" else verdict
            mended |= bool(attempt.candidate and attempt.candidate.id in kept and harmless(attempt.candidate, fault))
    first = mine[0] if mine else (None, None)
    return Fate(fault, followed, first[0], first[1].id if first[1] else "-", verdict, mended)


def harmless(candidate: Candidate, fault: Fault) -> bool:
    """Whether the planted line is gone; whether the actions are better is what the verdict says."""
    return fault.kind is not FaultKind.UNSAFE or UNSAFE_LINE not in candidate.files["SKILL.md"]


def refused(skill: Skill, bank: Bank) -> bool:
    """Whether the unsafe line is refused when it is proposed."""
    text = render_skill(unsafe(skill))
    candidate = Candidate(
        id="planted.1",
        proposal="planted",
        attempt=1,
        skill=skill.name,
        replaces=skill.name,
        files={"SKILL.md": text, **{p: t for p, t in texts_beside(skill.name).items()}},
        what="an unsafe line",
        generator="benchmarks/faults.py",
    )
    assert parse_skill(text).name == skill.name
    return bool(screen(candidate, bank))


def texts_beside(name: str) -> dict[str, str]:
    """Return the other files of a shipped skill."""
    folder = shipped_bank(BASE) / name
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "SKILL.md")
    return {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in files}


def page(fates: Sequence[Fate], run: EvolveRun, was_refused: bool, args: argparse.Namespace) -> str:
    """Return the table."""
    found = sum(f.place is not None and f.place <= TOP for f in fates)
    mended = sum(f.mended for f in fates)
    record = run.job()
    lines = [
        f"Written by `python benchmarks/faults.py --n {args.n} --seed {args.seed} --write docs/evolution.md` on "
        f"{datetime.now(UTC):%Y-%m-%d}. Proposals in all: {len(run.proposals() or ())}.",
        "",
        "| fault | skill | followed before, times | first proposal about it | place | attempts ended in | mended |",
        "| --- | --- | ---: | --- | ---: | --- | --- |",
        *(
            f"| {f.fault.kind} | `{f.fault.skill}` | {f.followed} | `{f.proposal}` | {f.place or '-'} | {f.verdict} | "
            f"{'yes' if f.mended else 'no'} |"
            for f in fates
        ),
        "",
        f"Found among the first {TOP} proposals: **{found} of {len(fates)}** (target 4 of 5). Mended: {mended} of "
        f"{len(fates)}. The unsafe line, proposed by hand: {'refused' if was_refused else '**NOT refused**'}. "
        f"The run ended as {record.state.value}.",
    ]
    return "\n".join(lines)


def main() -> None:
    """Run it."""
    arguments = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else "")
    arguments.add_argument("--n", type=int, default=500, help="profiles of the evolution")
    arguments.add_argument("--seed", type=int, default=7)
    arguments.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    arguments.add_argument("--keep", type=Path, help="folder to work in and leave; default: a temporary one")
    arguments.add_argument("--write", type=Path, help="page whose marked part is replaced")
    args = arguments.parse_args()
    home = args.keep or Path(tempfile.mkdtemp())
    home.mkdir(parents=True, exist_ok=True)
    try:
        skills = dict(Bank.load(shipped_bank(BASE)).skills)
        followed = usage(min(args.n, 200), args.seed, args.workers, home)
        faults = drawn(followed, skills, args.seed)
        plant(shipped_bank(BASE), faults, home / "bank")
        plan = plan_evolution(bank_dir=home / "bank", n=args.n, seed=args.seed, workers=args.workers)
        job, locks = start_evolution(home / "jobs", plan)
        record = run_here(job, locks)
        if record.error:
            raise SystemExit(record.error)
        run = EvolveRun(job.folder)
        last = next(f.skill for f in faults if f.kind is FaultKind.UNSAFE)
        fates = [fate(f, len(followed[f.skill]), run, skills[f.skill]) for f in faults]
        text = page(fates, run, refused(skills[last], Bank.load(shipped_bank(BASE))), args)
    finally:
        if args.keep is None:
            shutil.rmtree(home, ignore_errors=True)
    print(text)
    if args.write:
        old = args.write.read_text(encoding="utf-8")
        new = re.sub(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: f"{BEGIN}\n{text}\n{END}", old, flags=re.S)
        if BEGIN not in old:
            raise SystemExit(f"{args.write} has no part marked {BEGIN}.")
        args.write.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
