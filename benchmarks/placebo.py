"""A/A: evolve the undamaged bank with changes that change nothing, and count what is accepted all the same.

    .venv/bin/python benchmarks/placebo.py [--evolutions 20] [--n 60] [--write docs/evolution.md]

Each evolution has a seed of its own, so other splits, other seekers' luck and other proposals. The generator adds one
sentence to a section that neither selection nor the agent reads, so that the new text is another one and does the same.
On equal seeds every talk would then end as before, and the verdict be `indecisive` without a test; so the new text's
talks are held on other seeds than the old one's. What is accepted then is accepted by luck. The declared error rate is
of a proposal, over all its attempts and both directions; that of wrong acceptance is half of it.
"""

import argparse
import asyncio
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from esc_skills.evolve.acceptance import ALPHA, trial_seed
from esc_skills.evolve.arena import Arena
from esc_skills.evolve.generation import Brief, Generator
from esc_skills.evolve.guards import Guards
from esc_skills.evolve.loop import evolve
from esc_skills.evolve.models import Candidate, Check, ProposalKind, Veto
from esc_skills.evolve.parts import RealParts, recipe_of
from esc_skills.evolve.plan import EvolveCaps, EvolvePlan, plan_evolution, start_evolution
from esc_skills.evolve.record import EvolveRun
from esc_skills.evolve.split import Split
from esc_skills.evolve.watch import Watch
from esc_skills.pipeline.jobs import Job
from esc_skills.simulator.engine import LocalEngine
from esc_skills.simulator.run import RunFolder
from esc_skills.simulator.sources import BankRef
from esc_skills.skills_bank.bank import Bank
from esc_skills.skills_bank.errors import GenerationError
from esc_skills.skills_bank.models import Proportion
from esc_skills.skills_bank.place import shipped_bank
from esc_skills.skills_bank.skillmd import render_skill

BEGIN, END = "<!-- figures: benchmarks/placebo.py -->", "<!-- end of figures: benchmarks/placebo.py -->"
INERT = (
    "It helps to come back to this page now and then.",
    "Reading it a second time does no harm.",
    "Notes of your own may stand beside it.",
)


class Placebo:
    """A generator of texts that do what the old ones did."""

    name = "placebo"

    async def generate(self, brief: Brief, bank: Bank) -> Candidate:
        """Return the old text with one more sentence under its risks."""
        name = brief.proposal.skill
        if brief.proposal.kind is not ProposalKind.REFINE or name is None:
            raise GenerationError(brief.proposal.id, "A placebo refines; it makes no new skill.")
        skill = bank.skills[name]
        made = skill.model_copy(update={"risks": f"{skill.risks} {INERT[brief.attempt - 1]}"})
        files = {path: text if isinstance(text, str) else text.decode() for path, text in bank.files(name).items()}
        return Candidate(
            id=f"{brief.proposal.id}.{brief.attempt}",
            proposal=brief.proposal.id,
            attempt=brief.attempt,
            skill=name,
            replaces=name,
            files=files | {"SKILL.md": render_skill(made)},
            what="A sentence that nothing reads.",
            generator=self.name,
        )


class Lucky(Arena):
    """An arena in which every bank but the parent is tried on other seeds."""

    parent = ""

    async def hold(self, bank: BankRef, profiles: Sequence[str], *, repeats: int, seed: int) -> RunFolder:
        """Hold talks."""
        if bank.hash != self.parent:
            seed = trial_seed(seed, "placebo")
        return await super().hold(bank, profiles, repeats=repeats, seed=seed)


class NoGuards:
    """Forbids nothing."""

    async def checks(self, *_: object) -> tuple[list[Check], list[Veto]]:
        """Find nothing."""
        return [], []


class PlaceboParts(RealParts):
    """The real parts, but for the generator and the arena."""

    def __init__(self, plan: EvolvePlan, job: Job) -> None:
        """Take the plan and the job."""
        super().__init__(plan, job)
        self._plan = plan

    @contextmanager
    def arena(self, folder: Path, watch: Watch) -> Iterator[Arena]:
        """Open the place where talks are held."""
        with LocalEngine(self._plan.workers) as engine:
            made = Lucky(folder, recipe_of(self._plan, None), self.profiles, engine, watch.talk)
            made.parent = self._plan.bank.hash
            yield made

    def guards(self, split: Split) -> Guards:
        """Make guards that forbid nothing, so that luck is not stopped by them."""
        return cast("Guards", NoGuards())

    @asynccontextmanager
    async def generator(self) -> AsyncIterator[Generator]:
        """Make who writes a text."""
        yield Placebo()


def page(rulings: Counter[str], proposals: int, wrong: int, args: argparse.Namespace) -> str:
    """Return the figures."""
    share = Proportion.wilson(wrong, proposals)
    return "\n".join([
        f"Written by `python benchmarks/placebo.py --evolutions {args.evolutions} --n {args.n} --write "
        f"docs/evolution.md` on {datetime.now(UTC):%Y-%m-%d}.",
        "",
        "| evolutions | proposals tried | attempts judged | accepted | rejected | indecisive | wrongly accepted, share "
        "of proposals (95%) | declared |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        f"| {args.evolutions} | {proposals} | {sum(rulings.values())} | {rulings['accept']} | {rulings['reject']} | "
        f"{rulings['indecisive']} | {share.rate:.3f} ({share.low:.3f} to {share.high:.3f}) | {ALPHA / 2:g}, and "
        f"{ALPHA:g} with wrong rejections |",
    ])  # fmt: skip


def main() -> None:
    """Run it."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    arguments.add_argument("--evolutions", type=int, default=20)
    arguments.add_argument("--n", type=int, default=60, help="profiles of each")
    arguments.add_argument("--candidates", type=int, default=4, help="texts tried in each, at most")
    arguments.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    arguments.add_argument("--write", type=Path, help="page whose marked part is replaced")
    args = arguments.parse_args()
    home = Path(tempfile.mkdtemp())
    rulings: Counter[str] = Counter()
    proposals = wrong = 0
    try:
        for seed in range(1, args.evolutions + 1):
            caps = EvolveCaps(candidates=args.candidates)
            plan = plan_evolution(bank_dir=shipped_bank(), n=args.n, seed=seed, workers=args.workers, caps=caps)
            job, locks = start_evolution(home / "jobs", plan)
            try:
                asyncio.run(evolve(plan, job, PlaceboParts(plan, job)))
            finally:
                for lock in locks:
                    lock.close()
            tried = [one for one in EvolveRun(job.folder).all_attempts() if one.candidate and one.verdict]
            rulings.update(one.verdict.ruling for one in tried if one.verdict)
            proposals += len({one.candidate.proposal for one in tried if one.candidate})
            wrong += sum(one.verdict.ruling == "accept" for one in tried if one.verdict)
            print(f"evolution {seed}: {dict(rulings)}", flush=True)
            shutil.rmtree(job.folder)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    text = page(rulings, proposals, wrong, args)
    print(text)
    if args.write:
        old = args.write.read_text(encoding="utf-8")
        if BEGIN not in old:
            raise SystemExit(f"{args.write} has no part marked {BEGIN}.")
        new = re.sub(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: f"{BEGIN}\n{text}\n{END}", old, flags=re.S)
        args.write.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
