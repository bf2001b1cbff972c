"""Where talks are held with a bank: every trial of a run is a simulated run of its own, kept, and never held twice.

A trial lies in a folder that is named by everything its transcripts depend on. One that is complete is read back, one
that was begun is taken up. Two banks on the same profiles and seed meet the same seekers in the same luck. Where models
talk, each repeat and seed is a draw of its own in the one journal of the run: what both banks ask alike is paid once
and answered alike, what another seed asks is asked anew.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from ..simulator.casting import WITH_BANK, CastRecipe, Recipe
from ..simulator.engine import Engine, Task
from ..simulator.profiles import Profile, ProfileSet
from ..simulator.run import RunFolder, RunSettings, settle_run, simulate
from ..simulator.session import Transcript
from ..simulator.sources import BankRef
from ..skills_bank.errors import InputError
from .staging import warm

_DIGITS = 16


class Arena:
    """Holds talks between one kind of cast and the seekers of one file, with whichever bank."""

    def __init__(
        self,
        folder: Path,
        recipe: CastRecipe,
        profiles: ProfileSet,
        engine: Engine,
        on_talk: Callable[[Transcript], None] | None = None,
        *,
        prepare: Callable[[BankRef], None] = warm,
    ) -> None:
        """Take where trials are kept, the cast and its seekers.

        Args:
            folder: The trials of one evolution.
            recipe: The cast; its bank is replaced by the one that is tried.
            profiles: All seekers; a trial names some of them.
            engine: Where talks are held. A `LocalEngine` that is entered keeps its workers from trial to trial.
            on_talk: Told of every talk once, whether it is held now or was in an earlier attempt.
            prepare: Called with each bank before its first trial; by default its vectors are brought up to it.
        """
        self.folder = folder
        self.profiles = profiles
        self._recipe, self._engine = recipe, engine
        self._on_talk = on_talk
        self._prepare = prepare
        self._known = {profile.id: profile for profile in profiles.profiles}
        self._told: set[str] = set()
        self._ready: set[BankRef] = set()

    def profile(self, id: str) -> Profile:
        """Return a seeker by id.

        Raises:
            InputError: None has that id.
        """
        return self._known.get(id) or self.profiles.get(id)

    async def hold(self, bank: BankRef, profiles: Sequence[str], *, repeats: int, seed: int) -> RunFolder:
        """Hold `repeats` talks with each of `profiles`, or find those that were held.

        Raises:
            InputError: A profile is not among the arena's.
            JobError: Another process holds the same talks.
            EscError: A talk could not be held; those before it are kept.
        """
        recipe = replace(self._recipe, bank=bank)
        cut = self._cut(profiles)
        settings = self._settled(recipe, cut, repeats, seed)
        run = RunFolder(self.folder / hashlib.sha256(settings.model_dump_json().encode()).hexdigest()[:_DIGITS])
        if run.complete and run.id in self._told:
            return run
        if not run.complete and recipe.agent in WITH_BANK and bank not in self._ready:
            await asyncio.to_thread(self._prepare, bank)
            self._ready.add(bank)
        engine = _Drawn(self._engine, recipe, seed) if recipe.asks_models else self._engine
        tell = self._on_talk if run.id not in self._told else None
        await simulate(run.folder, settings, recipe, cut, engine, resume=True, on_progress=tell)
        self._told.add(run.id)
        return run

    async def talks(self, bank: BankRef, profiles: Sequence[str], *, repeats: int, seed: int) -> list[Transcript]:
        """Return the talks that `hold` holds, in the order of the profiles."""
        return list((await self.hold(bank, profiles, repeats=repeats, seed=seed)).transcripts())

    def _cut(self, ids: Sequence[str]) -> ProfileSet:
        wanted = {self.profile(id).id for id in ids}
        if not wanted:
            raise InputError("A trial needs a profile; none was named.")
        some = tuple(profile for profile in self.profiles.profiles if profile.id in wanted)
        return ProfileSet(name=self.profiles.name, profiles=some)

    @staticmethod
    def _settled(recipe: CastRecipe, cut: ProfileSet, repeats: int, seed: int) -> RunSettings:
        # `settle_run` refuses repeats by models, since their answers would be copies; here each repeat is a draw.
        return settle_run(recipe, cut, seed=seed).model_copy(update={"n": repeats * len(cut.profiles)})


class _Drawn:
    """An `Engine` that lets models answer each repeat anew."""

    def __init__(self, engine: Engine, recipe: CastRecipe, seed: int) -> None:
        self._engine, self._recipe, self._seed = engine, recipe, seed

    async def converse(self, recipe: Recipe, tasks: Iterable[Task]) -> AsyncGenerator[Transcript]:
        """Yield a transcript for each task; one repeat after the other."""
        for repeat, group in groupby(sorted(tasks, key=lambda task: task.repeat), key=lambda task: task.repeat):
            drawn = replace(self._recipe, draw=f"{self._seed}/{repeat}")
            async with aclosing(self._engine.converse(drawn, list(group))) as found:
                async for transcript in found:
                    yield transcript
