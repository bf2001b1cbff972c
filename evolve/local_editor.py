"""Writes new texts without a model: it edits what a skill is made of, and words come from the library of `phrases/`.

Each kind of change is a move. A refinement has several, the first of which follows the proposal to the letter; an
attempt takes the first move, from its own number on, that gives a text which differs from the old one and from the last
attempt's, holds in the strict check and passes the screen. What the last verdict says went badly is avoided in all.

    speak      only where words did not land: other words, and nothing else; the smallest change is tried first
    act        drop what went badly, put first what went well, add what is missing, warn, show
    soften     the same without what did worse in the last attempt; the next best instead; nothing is shown
    split      a skill for several states: a skill of its own for the states that went badly
    shorten    keep the few best supported steps for those states, and say when to leave the skill

A text that is unsafe, or at odds with the bank's other lines, is mended first, whatever the move. Steps whose words did
not land get other words in each of them (`rewording.py`); what they were meant to do is not avoided for that.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain

from ..pipeline.clusters import Cluster
from ..pipeline.local_writer import LocalWriter
from ..pipeline.phrasebook import Phrasebook, load_phrases
from ..pipeline.steps import by_outcome, harmful, harms
from ..pipeline.writers import DossierFacts
from ..skills_bank.bank import Bank
from ..skills_bank.errors import GenerationError, SkillParseError, SkillWriteError
from ..skills_bank.models import ActionStep, Prototype, Skill, StatePlan
from ..skills_bank.taxonomy import Scenario, SeekerState, SupportAction
from .generation import Brief, candidate_of, complete, in_words, known_cells, same_text, states_of
from .mending import mended
from .models import Candidate, Finding, FindingKind, Proposal, ProposalKind
from .rewording import Hear, local_hear, reworded
from .screen import screen
from .words import Words

FEWEST, MOST = 3, 7
"""Steps of a plan; fewer where nothing else is known."""
SHORT = 4
"""Steps that `shorten` keeps."""
MOST_STATES = 3
"""States of a new skill."""
MOST_EXAMPLES, MOST_WHEN, MOST_PITFALLS = 7, 9, 8
MOST_STRAYED = 2
"""States that a skill is told to keep away from, at once."""
_WARNED = 3
"""Cells of a state that a new skill may warn of."""
_SAFETY, _DISCLOSURE = SupportAction.SAFETY_CHECK_AND_REFERRAL, SupportAction.SELF_DISCLOSURE
_NEW_CLUSTER = "c99"
"""The writer of the library works on clusters; a new skill comes of none, so this never reaches a text."""


class LocalEditor:
    """A `Generator` that calls no model. The same brief and bank give the same text."""

    def __init__(self, phrases: Phrasebook | None = None, hear: Hear | None = None) -> None:
        """Take the library to write from, and who hears new words; default the shipped one, and local seekers."""
        self._book = phrases or load_phrases()
        self._hear = hear or local_hear

    @property
    def name(self) -> str:
        """Its version and that of the library."""
        return f"local-editor@2 phrases@{self._book.version}"

    async def generate(self, brief: Brief, bank: Bank) -> Candidate:
        """Return a text for the proposal.

        Raises:
            GenerationError: Nothing can be changed, or no change gives a text that may stand in the bank.
        """
        refusals: list[str] = []
        for move in _moves(brief, bank)[brief.attempt - 1 :]:
            desk = _Desk(brief, bank, self._book)
            made = await move(desk)
            if made is None:
                continue
            made = desk.reworded(made, self._hear)
            candidate, refused = self._candidate(brief, bank, made, desk.done)
            if candidate is not None:
                return candidate
            refusals += refused
        reason = "nothing is left to change: the skill, or the attempt before, says it already"
        if refusals:
            reason = f"no text came about that may stand in the bank: {'; '.join(dict.fromkeys(refusals))}"
        raise GenerationError(brief.proposal.id, reason)

    def _candidate(
        self, brief: Brief, bank: Bank, made: Skill, done: Sequence[str]
    ) -> tuple[Candidate | None, list[str]]:
        """Return the candidate, or why the text cannot be one."""
        old = brief.proposal.skill
        if old is not None and made.name == old and same_text(made, bank.skills[old]):
            return None, []
        try:
            skill, files = complete(made, bank, old=old, written_by=self.name)
        except SkillParseError as error:
            return None, list(error.problems)
        if brief.last is not None and files == brief.last.files:
            return None, []
        candidate = candidate_of(brief, skill, files, what="\n".join(done), generator=self.name)
        reasons = screen(candidate, bank)
        return (candidate, []) if not reasons else (None, reasons)


Move = Callable[["_Desk"], Awaitable[Skill | None]]


def _moves(brief: Brief, bank: Bank) -> list[Move]:
    proposal = brief.proposal
    if proposal.kind == ProposalKind.CREATE:
        return [_Desk.create, _Desk.create_otherwise, _Desk.create_narrow]
    if proposal.skill not in bank.skills:
        raise GenerationError(proposal.id, f"there is no skill {proposal.skill!r} in the bank")
    moves: list[Move] = [_Desk.act, _Desk.soften, _Desk.split, _Desk.shorten]
    return [_Desk.speak, *moves] if proposal.reword else moves


@dataclass
class _Desk:
    """One text in the making; `done` tells what was changed."""

    brief: Brief
    bank: Bank
    book: Phrasebook
    done: list[str] = field(default_factory=list)

    # --- moves ------------------------------------------------------------------------------------------------------

    async def speak(self) -> Skill | None:
        """Leave everything but the words that did not land; `reworded` finds others."""
        return self._mended(self.skill)

    async def act(self) -> Skill | None:
        """Follow the proposal to the letter."""
        skill = self._mended(self.skill)
        plans = [self._replanned(skill, plan, self._bad(plan.state)) for plan in skill.plans]
        skill = self._with_plans(skill, plans)
        skill = self._warned(skill)
        skill = self._applied(skill)
        return self._shown(skill)

    async def soften(self) -> Skill | None:
        """Do the same without what did worse, and the next best instead."""
        skill = self._mended(self.skill)
        plans = [
            self._replanned(skill, plan, (*self._bad(plan.state), *self._worse), wider=True) for plan in skill.plans
        ]
        return self._warned(self._with_plans(skill, plans))

    async def split(self) -> Skill | None:
        """Give the states that went badly a skill of their own; the old one stays as it is."""
        states = [state for state in states_of(self.proposal) if state in self.skill.states]
        if len(self.skill.states) < 2 or not states or len(states) == len(self.skill.states):
            return None
        made = await self._new(states[:MOST_STATES], but=self._worse)
        if made is not None:
            self.done.insert(0, f"Split off from {self.skill.name} for {in_words(made.states)}.")
        return made

    async def shorten(self) -> Skill | None:
        """Keep the best supported steps alone, and say when to leave."""
        skill = self._mended(self.skill)
        plans = []
        for plan in skill.plans:
            full = self._replanned(skill, plan, (*self._bad(plan.state), *self._worse))
            keep = self._ranked(plan.state, full.steps)[:SHORT] if plan.state in self.states else full.steps
            steps = tuple(step for step in full.steps if step in keep)
            if len(steps) < len(full.steps):
                self.done.append(f"{plan.state}: only the {len(steps)} best supported steps are kept.")
            plans.append(plan.model_copy(update={"steps": steps}))
        return self._left(self._with_plans(skill, plans))

    async def create(self) -> Skill | None:
        """Write the skill that is missing."""
        return await self._new(self.states[:MOST_STATES])

    async def create_otherwise(self) -> Skill | None:
        """Write it without what did worse."""
        return await self._new(self.states[:MOST_STATES], but=self._worse, more=2)

    async def create_narrow(self) -> Skill | None:
        """Write it for the state that comes up most alone."""
        return await self._new(self.states[:1], but=self._worse)

    def reworded(self, skill: Skill, hear: Hear) -> Skill:
        """Return the skill with other words for the steps whose words did not land."""
        wanted = {state: self._unlanded(state) for state in skill.states}
        if not any(wanted.values()):
            return skill
        skill, told = reworded(skill, wanted, self.words, hear, self.brief.attempt)
        self.done += told
        return skill

    def _mended(self, skill: Skill) -> Skill:
        """Return the skill without what the screen refuses."""
        clean = mended(skill, self.words)
        if clean == skill:
            return skill
        self.done.append("What was unsafe is taken out.")
        return self._with_plans(clean, clean.plans)

    # --- what is known ----------------------------------------------------------------------------------------------

    @property
    def proposal(self) -> Proposal:
        """What is asked for."""
        return self.brief.proposal

    @cached_property
    def words(self) -> Words:
        """The library, as far as it may be used here."""
        return Words(self.book, self.bank, self.proposal.skill)

    @property
    def skill(self) -> Skill:
        """The skill to refine."""
        assert self.proposal.skill is not None
        return self.bank.skills[self.proposal.skill]

    @cached_property
    def states(self) -> tuple[SeekerState, ...]:
        """The states it is about; for a refinement those the skill has a plan for, all where none is named."""
        named = states_of(self.proposal)
        if self.proposal.kind == ProposalKind.CREATE:
            return named
        return tuple(state for state in named if state in self.skill.states) or (self.skill.states if not named else ())

    @cached_property
    def _worse(self) -> tuple[SupportAction, ...]:
        """What did worse in the last attempt; never the safety check, which is not there to soothe."""
        told = self.brief.feedback.worse_actions if self.brief.feedback else ()
        return tuple(action for action in told if action != _SAFETY)

    def _bad(self, state: SeekerState) -> tuple[SupportAction, ...]:
        unlanded = self._unlanded(state)
        return tuple(action for action in self._named(state, "avoid") if action not in (_SAFETY, *unlanded))

    def _unlanded(self, state: SeekerState) -> tuple[SupportAction, ...]:
        """Return the steps there whose words did not land; where no finding names any, the proposal's own."""
        about = self._about(state)
        if any(finding.reword for finding in self.proposal.findings):
            return tuple(dict.fromkeys(action for finding in about for action in finding.reword))
        return self.proposal.reword if not self.states or state in self.states else ()

    def _about(self, state: SeekerState) -> list[Finding]:
        return [f for f in self.proposal.findings if not f.context.states or state in f.context.states]

    def _good(self, state: SeekerState) -> tuple[SupportAction, ...]:
        return self._named(state, "favour")

    def _named(self, state: SeekerState, side: str) -> tuple[SupportAction, ...]:
        """Return the actions the findings on a state name, weightiest finding first, then the proposal's own."""
        if self.states and state not in self.states:
            return ()
        about = self._about(state)
        found = [action for finding in about for action in getattr(finding, side)]
        if not found and not (about and all(finding.kind == FindingKind.WORDS for finding in about)):
            found = list(getattr(self.proposal, side))
        return tuple(dict.fromkeys(found))

    def _cells(self, state: SeekerState) -> list[Prototype]:
        """Return the counted cells of a state that make sense and went well more often than not, best first."""
        found = [p for cell, p in known_cells(self.bank).items() if cell[0] == state]
        return [p for p in by_outcome(found) if not harmful(p) and self.book.cell(state, p.action) is not None]

    def _ranked(self, state: SeekerState, steps: Sequence[ActionStep]) -> list[ActionStep]:
        order = [*self._good(state), *(p.action for p in self._cells(state))]
        return sorted(steps, key=lambda s: (s.action != _SAFETY, order.index(s.action) if s.action in order else 99))

    # --- plans ------------------------------------------------------------------------------------------------------

    def _replanned(
        self, skill: Skill, plan: StatePlan, avoid: Collection[SupportAction], *, wider: bool = False
    ) -> StatePlan:
        """Return a plan without what went badly, with what went well first."""
        state = plan.state
        if state not in self.states:
            return plan
        favour = [action for action in self._good(state) if action not in avoid]
        kept = [step for step in plan.steps if step.action not in avoid]
        dropped = [step for step in plan.steps if step.action in avoid]
        own = {step.action for step in plan.steps}
        spare = [p.action for p in self._cells(state) if p.action not in {*avoid, *own, *favour}]
        wanted = [action for action in favour if action not in own]
        wanted += spare[:1] if wider else []
        added = [step for action in wanted if (step := self.words.step(skill, state, action)) is not None]
        for action in spare[1:] if wider else spare:
            if len(kept) + len(added) >= FEWEST:
                break
            if (step := self.words.step(skill, state, action)) is not None:
                added.append(step)
        if len(kept) + len(added) < 2:
            kept += dropped[: 2 - len(kept) - len(added)]
        steps = _in_order([*kept, *added], favour, last=avoid)[:MOST]
        self._tell_plan(state, plan.steps, steps)
        return plan.model_copy(update={"steps": tuple(steps)})

    def _tell_plan(self, state: SeekerState, old: Sequence[ActionStep], new: Sequence[ActionStep]) -> None:
        before, after = ([*dict.fromkeys(step.action for step in steps)] for steps in (old, new))
        gone, come = [a for a in before if a not in after], [a for a in after if a not in before]
        if gone:
            self.done.append(f"{state}: no longer recommends {in_words(gone)}.")
        if come:
            self.done.append(f"{state}: now recommends {in_words(come)}.")
        if not gone and not come and before != after:
            self.done.append(f"{state}: now begins with {in_words(after[:1])}.")

    def _with_plans(self, skill: Skill, plans: Sequence[StatePlan]) -> Skill:
        """Return the skill with these plans, its list of actions brought up to them."""
        used = [step.action for plan in plans for step in plan.steps]
        named = {*used, *(pitfall.action for pitfall in skill.pitfalls)}
        kept = [action for action in skill.actions if action in named]
        return skill.model_copy(
            update={"plans": tuple(plans), "actions": tuple(dict.fromkeys([*kept, *used]))},
        )

    # --- pitfalls, conditions, examples -----------------------------------------------------------------------------

    def _warned(self, skill: Skill) -> Skill:
        """Return the skill with a pitfall for each action that went badly and has none yet."""
        pitfalls = list(skill.pitfalls)
        for state in self.states:
            for action in self._bad(state):
                if all(pitfall.action != action for pitfall in pitfalls) and len(pitfalls) < MOST_PITFALLS:
                    pitfalls.append(self.words.pitfall(skill, state, action))
                    self.done.append(f"Warns of {in_words([action])}.")
        warned = {pitfall.action for pitfall in pitfalls if pitfall.action}
        used = {step.action for plan in skill.plans for step in plan.steps}
        actions = tuple(action for action in skill.actions if action in used | warned)
        return skill.model_copy(update={"pitfalls": tuple(pitfalls), "actions": actions})

    def _applied(self, skill: Skill) -> Skill:
        """Return the skill with conditions that are wider where it was passed over, narrower where it strayed."""
        when, when_not = list(skill.when), list(skill.when_not)
        harms_in = [f.context.states for f in self.proposal.findings if f.kind == FindingKind.HARM]
        strayed = [state for state in dict.fromkeys(chain(*harms_in)) if state not in skill.states]
        for state in strayed[:MOST_STRAYED]:
            line = self.words.not_for(state)
            if line not in when_not:
                when_not.append(line)
                self.done.append(f"Is not for {in_words([state])}.")
        if any(finding.kind == FindingKind.GAP for finding in self.proposal.findings):
            for state in self.states:
                line = next((line for line in self.words.signs(skill, state) if line not in when), None)
                if line and len(when) < MOST_WHEN:
                    when.append(line)
                    self.done.append(f"Names one more sign of {in_words([state])}.")
        return skill.model_copy(update={"when": tuple(when), "when_not": tuple(when_not)})

    def _left(self, skill: Skill) -> Skill:
        """Return the skill with a word on when to leave it."""
        lines = [self.words.leave(state) for state in self.states[:1]]
        fresh = [line for line in lines if line not in skill.when_not]
        self.done += ["Says when to leave it."] if fresh else []
        return skill.model_copy(update={"when_not": (*skill.when_not, *fresh)})

    def _shown(self, skill: Skill) -> Skill:
        """Return the skill with an example of the first action that was added."""
        old = {(plan.state, step.action) for plan in self.skill.plans for step in plan.steps}
        added = [
            (plan.state, step) for plan in skill.plans for step in plan.steps if (plan.state, step.action) not in old
        ]
        if len(skill.examples) >= MOST_EXAMPLES:
            return skill
        for state, step in added:
            example = self.words.example(skill, state, step.action)
            if example is not None:
                good = [one for one in skill.examples if one.kind == "good"]
                bad = [one for one in skill.examples if one.kind == "bad"]
                self.done.append(f"Shows {in_words([step.action])} in an example.")
                return skill.model_copy(update={"examples": (*good, example, *bad)})
        return skill

    # --- new skills -------------------------------------------------------------------------------------------------

    async def _new(
        self, states: Sequence[SeekerState], *, but: Collection[SupportAction] = (), more: int = 0
    ) -> Skill | None:
        """Write a skill for these states from the cells that were counted there, favoured actions first.

        Args:
            states: What it is for.
            but: Actions to leave out.
            more: How many further actions to try than at first.
        """
        found = {state: self._chosen(state, but, more) for state in states}
        cells = [p for state in states for p in found[state]]
        if not cells:
            return None
        facts = DossierFacts(cluster=self._cluster(cells), prototypes=tuple(cells))
        try:
            skill = await LocalWriter(self.book).write(facts, self.bank.skills)
        except SkillWriteError:
            return None
        skill = self._mended(self._ordered(skill, but))
        for state in skill.states:
            plan = skill.plan_for(state)
            self.done.append(f"{state}: {in_words(step.action for step in plan.steps) if plan else 'no plan'}.")
        return skill

    def _chosen(self, state: SeekerState, but: Collection[SupportAction], more: int) -> list[Prototype]:
        """Return the cells of a state to write from: favoured ones, the best others, and the worst to warn of."""
        avoid = {*self._bad(state), *but}
        known = known_cells(self.bank)
        good = [p for p in self._cells(state) if p.action not in avoid]
        favoured = [known[state, a] for a in self._good(state) if (state, a) in known and known[state, a] in good]
        bad = [p for cell, p in known.items() if cell[0] == state and (harmful(p) or p.action in avoid)]
        worst = list(dict.fromkeys(p.action for p, _ in harms(bad)))[:_WARNED]
        # The writer recommends whatever is not harmful, up to a number; what is only warned of must not take a place.
        places = MOST - sum(not harmful(known[state, action]) for action in worst)
        chosen = list(dict.fromkeys(p.action for p in [*favoured, *good]))[: min(FEWEST + 2 + more, places)]
        return [known[state, action] for action in [*chosen, *worst] if (state, action) in known]

    def _cluster(self, cells: Sequence[Prototype]) -> Cluster:
        actions = list(dict.fromkeys(p.action for p in cells))
        return Cluster(
            id=_NEW_CLUSTER,
            label=self.proposal.title,
            states=tuple(dict.fromkeys(p.state for p in cells)),
            actions=tuple(actions),
            scenarios=self._scenarios(cells),
            n=sum(p.n for p in cells),
            n_key=sum(p.n_key for p in cells),
            prototypes=tuple((p.state, p.action) for p in cells),
            neighbours=(),
        )

    def _scenarios(self, cells: Sequence[Prototype]) -> tuple[Scenario, ...]:
        """Return the scenarios the findings name, else those of most units."""
        named = [s for finding in self.proposal.findings for s in finding.context.scenarios]
        if named:
            return tuple(dict.fromkeys(named))[:3]
        counts = {s: sum(p.scenarios.get(s, 0) for p in cells) for s in Scenario}
        return tuple(sorted(counts, key=lambda s: -counts[s])[:3])

    def _ordered(self, skill: Skill, but: Collection[SupportAction]) -> Skill:
        """Return a new skill with favoured actions first and, where others are left, without those to avoid."""
        plans = []
        for plan in skill.plans:
            avoid = {*self._bad(plan.state), *but}
            kept = [step for step in plan.steps if step.action not in avoid] or list(plan.steps)
            steps = _in_order(kept, self._good(plan.state), last=avoid)
            plans.append(plan.model_copy(update={"steps": tuple(steps)}))
        return self._with_plans(skill, plans)


def _in_order(
    steps: Sequence[ActionStep], first: Sequence[SupportAction], last: Collection[SupportAction]
) -> list[ActionStep]:
    """Return the steps: a leading safety check stays, then `first`; `last` and self-disclosure come behind."""

    def place(step: ActionStep) -> tuple[int, int]:
        if step.action == _SAFETY and steps[0].action == _SAFETY:
            return 0, 0
        if step.action == _DISCLOSURE:
            return 4, 0
        if step.action in last:
            return 3, 0
        return (1, first.index(step.action)) if step.action in first else (2, 0)

    return sorted(steps, key=place)
