"""Finds out without a model what the talks of a run show: statistics over turns, talks being the units.

Four things are looked for. Every cell of skill x seeker state x character x hidden need, and every wider one, is held
against what was to be expected of its replies (`expectation.py`); cells that are worse are harm. Replies that no skill
written for the seeker's state gave, or one that hardly fitted, are gaps where they fell short of the others, and where
the bank holds no skill for the state at all. Replies that broke a rule of safety are unsafe. Steps whose words were
heard as something else are told of by their words (`landing.py`).

A selector passes over a skill whose plan became bad, so a spoilt skill shows less by what follows its replies than by
others answering in its place. Hence a gap in a state that skills are written for is told of those skills.

Cells overlap and are many; what is reported as worse passes Benjamini & Hochberg at `RATE` over all cells of its kind.
Some things are reported though they passed no such test, since they are facts: a state without a skill, a state where
hardly any reply came from a fitting one, a skill that is hardly ever chosen in its own state though others may do worse
there, and a plan at odds with its own pitfalls and evidence. What such gaps cost is drawn towards what gaps cost in the
whole run; that a state has no skill and that a plan is at odds are told by themselves too, without a cost in points.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..simulator.profiles import Profile
from ..simulator.session import Transcript
from ..skills_bank.bank import Bank
from ..skills_bank.taxonomy import ACTION_INFO, SCENARIO_INFO, STATE_INFO, Scenario, SeekerState, SupportAction
from .action_values import MOST, NEVER_FAVOURED, ActionValues
from .analysis import Moment, StateReader, cites_of, moments_of
from .expectation import Expectation, Expected, Shortfall, passing
from .landing import unlanded
from .models import Context, Finding, FindingKind
from .screen import Kind, unsafe_in, unsafe_lines

Mask = NDArray[np.bool_]
RATE = 0.1
"""Share of false findings among those that were tested."""
LEAST_TALKS = 6
"""A cell of fewer talks is not looked at."""
LOW = 0.1
"""A skill is thought hardly to fit where its score is among this share of the run's lowest."""
MANY_STATES = 5
"""A skill for more states than this is for any state, and fills no state's gap."""
PASSED_OVER, DORMANT = 0.25, 0.05
"""A skill that gave less than this share of the replies in its own state."""
FREQUENT = 20
"""Replies in a state, at least, before it is said that a skill is hardly ever chosen there, or none."""
THIN = 0.8
"""A state in which this share of the replies came from no fitting skill wants one more."""
MAYBE = 0.2
"""A skill that is hardly ever chosen in its state is told of where the gap there has a p below this."""
NOTABLE = 1.0
"""A cell within one that is told already is told too where it is worse by so many points."""
SIDES = ("state", "character", "need")


class _Cell(NamedTuple):
    """Some replies and how they did; `about` says which they are."""

    skill: str | None
    about: Context
    mask: Mask
    shortfall: Shortfall
    expected: Expected


class LocalAnalyzer:
    """An `Analyzer` that counts."""

    def __init__(self, bank: Bank, read: StateReader | None = None) -> None:
        """Take the bank that the talks were held with.

        Args:
            bank: Its skills' states, plans and evidence are looked at.
            read: Reads states that the talks do not record; default: the local seeker's ear.
        """
        self._bank, self._read = bank, read

    @property
    def name(self) -> str:
        """Name and version."""
        return "local-analyzer@1"

    async def analyze(self, talks: Iterable[Transcript], profiles: Mapping[str, Profile]) -> list[Finding]:
        """Return the findings: unsafe replies, then harm, gaps and words that do not land; `profiles` is not needed."""
        return self.findings(list(moments_of(talks, self._read or _ear())))

    def findings(self, moments: Sequence[Moment]) -> list[Finding]:
        """Return what these moments show."""
        found = [*unsafe_texts(self._bank, moments), *unsafe(moments)]
        judged = [moment for moment in moments if moment.change is not None and moment.rail == "none"]
        if judged:
            run = _Run(judged, self._bank)
            found += [*run.harms(), *run.gaps(), *run.contradictions(), *run.unlanded()]
        return found


def _ear() -> StateReader:
    from ..simulator.casting import shared_reader
    from ..simulator.hearing import Ear

    return Ear.load(shared_reader()).state


class _Run:
    """The scored replies of one run that no rail gave."""

    def __init__(self, moments: Sequence[Moment], bank: Bank) -> None:
        self._moments, self._bank = moments, bank
        self._expectation = Expectation(moments)
        self._followed = np.array([moment.followed or "" for moment in moments])
        self._states = np.array([moment.state for moment in moments])
        self._values = ActionValues(moments, self._expectation)
        self._bare = self._uncovered()

    def harms(self) -> list[Finding]:
        """Return the cells in which a skill did worse than expected."""
        cells: list[_Cell] = []
        for skill in sorted({moment.followed for moment in self._moments if moment.followed}):
            own = self._followed == skill
            expected = self._expectation.without(own)
            cells += [
                _Cell(skill, context, mask, expected.shortfall(mask), expected)
                for context, mask in self._contexts(own, _sides())
            ]
        return [self._harm(cell) for cell in _widest(_worse(cells))]

    def gaps(self) -> list[Finding]:
        """Return the contexts in which a skill is missing, or those written for them are passed over."""
        bare = self._bare
        if not bare.any() or bare.all():
            return []
        expected = self._expectation.without(bare)
        sides = (("state",), ("state", "scenario"), ("state", "need"))
        cells = [
            _Cell(None, context, mask, expected.shortfall(mask), expected)
            for context, mask in self._contexts(bare, sides)
        ]
        told = _widest(_worse(cells))
        usual = float(expected.residuals[bare].mean())
        found: list[Finding] = []
        suspects: dict[SeekerState, list[str]] = {}
        for cell in cells:  # those of a whole state come first
            state = cell.about.states[0]
            owners = self._owners(state)
            tested = any(cell is each for each in told)
            if _whole(cell.about):
                suspects[state] = self._suspects(cell, tested)
                found += [self._passed_over(cell, skill, usual) for skill in suspects[state]]
                if not owners:
                    found.append(self._missing(cell))
                if not owners or self._thin(cell):
                    found.append(self._gap(cell, drawn(cell.shortfall, usual, expected.spread), None))
            elif tested:
                found.append(self._gap(cell, cell.shortfall.effect, next(iter(suspects.get(state, ())), None)))
        return [finding for finding in found if finding.effect is None or finding.effect < 0]

    def _contexts(self, within: Mask, sides: Sequence[tuple[str, ...]]) -> Iterable[tuple[Context, Mask]]:
        """Yield every context of these sides that enough talks have, wider ones first."""
        for names in sides:
            places: dict[tuple[object, ...], list[int]] = defaultdict(list)
            for place in np.flatnonzero(within).tolist():
                key = tuple(getattr(self._moments[place], name) for name in names)
                if None not in key:
                    places[key].append(place)
            for key in sorted(places, key=str):
                if len({self._moments[place].talk for place in places[key]}) >= LEAST_TALKS:
                    mask = np.zeros(len(self._moments), dtype=bool)
                    mask[places[key]] = True
                    yield _context(dict(zip(names, key, strict=True))), mask

    def _uncovered(self) -> Mask:
        """Return which replies were given by no skill that is written for the state, or by one that hardly fitted."""
        scores = [moment.score for moment in self._moments if moment.score is not None]
        least = float(np.quantile(scores, LOW)) if scores else 0.0
        return np.array([
            moment.followed not in self._owners(moment.state) or (moment.score or 0.0) < least
            for moment in self._moments
        ])  # fmt: skip

    def _owners(self, state: SeekerState) -> tuple[str, ...]:
        """Return the skills that are written for a state."""
        return tuple(
            name for name, skill in self._bank.skills.items()
            if state in skill.states and len(skill.states) <= MANY_STATES
        )  # fmt: skip

    def _suspects(self, cell: _Cell, tested: bool) -> list[str]:
        """Return the skills written for a state of which a gap there is told, the likeliest first.

        They are passed over; and the gap passed its test, or they are hardly ever chosen and it may be one, or they
        recommend what their evidence does not hold.
        """
        state = cell.about.states[0]
        there = self._states == state
        found: list[tuple[bool, float, str]] = []
        for skill in self._owners(state):
            share, at_odds = float((self._followed[there] == skill).mean()), bool(self._at_odds(skill, state))
            dormant = share < DORMANT and int(there.sum()) >= FREQUENT and cell.shortfall.p < MAYBE
            if share < PASSED_OVER and (tested or dormant or at_odds):
                found.append((not at_odds, share, skill))
        return [skill for _, _, skill in sorted(found)]

    def _thin(self, cell: _Cell) -> bool:
        """Say whether a state that comes up often hardly ever gets a fitting skill, and no text at odds explains it."""
        state = cell.about.states[0]
        there = int((self._states == state).sum())
        explained = any(self._at_odds(skill, state) for skill in self._owners(state))
        return there >= FREQUENT and cell.shortfall.turns >= THIN * there and not explained

    def contradictions(self) -> list[Finding]:
        """Return the plans that are at odds with their own pitfalls and evidence, where their states came up."""
        found = [self._contradiction(name, s) for name, skill in self._bank.skills.items() for s in skill.states]
        return [finding for finding in found if finding is not None]

    def unlanded(self) -> list[Finding]:
        """Return the steps whose words were heard as something else (`landing.py`)."""
        return unlanded(self._moments, self._bank, self._expectation)

    def _at_odds(self, skill: str, state: SeekerState) -> tuple[SupportAction, ...]:
        """Return what a skill recommends in a state against its own pitfalls and evidence.

        That is what its pitfalls warn of and its evidence does not hold; or all that it recommends, where its pitfalls
        warn of all of it and its evidence holds something else.
        """
        known, plan = self._proven(skill, state), self._bank.skills[skill].plan_for(state)
        if not known or plan is None:
            return ()
        planned = dict.fromkeys(step.action for step in plan.steps)
        warned = {pitfall.action for pitfall in self._bank.skills[skill].pitfalls}
        if planned.keys() <= warned and not known.keys() <= planned.keys():
            return tuple(planned)
        return tuple(action for action in planned if action in warned and action not in known)

    def _proven(self, skill: str, state: SeekerState) -> dict[SupportAction, float]:
        """Return the actions that a skill's evidence holds in a state: by how much they lift good over bad changes."""
        proof = self._bank.evidence.get(skill)
        cells = [each for each in proof.prototypes if each.state == state] if proof else []
        best = sorted(cells, key=lambda each: each.lift_negative - each.lift_positive)
        return {each.action: each.lift_positive - each.lift_negative for each in best}

    def _contradiction(self, name: str, state: SeekerState) -> Finding | None:
        actions = self._at_odds(name, state)
        there = self._states == state
        places = np.flatnonzero(there & (self._bare | (self._followed == name))).tolist()
        if not actions or not places:
            return None
        proven = self._proven(name, state)
        avoid = tuple(action for action in actions if proven.get(action, -1.0) <= 0) or actions
        good = [action for action in proven if proven[action] > 0 and action not in (*avoid, *NEVER_FAVOURED)][:MOST]
        what = (
            f"For {_name(state)} `{name}` recommends what its own pitfalls warn of, against its evidence: "
            f"{_listed(avoid)}. {len(places)} replies there were its own or no fitting skill's."
        )
        return Finding(
            kind=FindingKind.GAP,
            skill=name,
            context=Context(states=(state,)),
            what=what + (f" Its evidence speaks for {_listed(good)}." if good else ""),
            cites=cites_of(self._moments[place] for place in places),
            turns=len(places),
            avoid=avoid,
            favour=tuple(dict.fromkeys((*good, *self._values.good(there, but=avoid)))),
        )

    def _harm(self, cell: _Cell) -> Finding:
        assert cell.skill is not None
        avoid = self._values.bad(cell.mask, cell.expected.residuals)
        favour = self._values.good(self._in(cell.about), but=avoid)
        skill = self._bank.skills.get(cell.skill)
        outside = skill is not None and any(state not in skill.states for state in cell.about.states)
        what = f"Replies by `{cell.skill}`{_told(cell.about)} were followed by {_points(cell.shortfall)}."
        if outside:
            what += " It is not written for that state."
        return self._finding(cell, FindingKind.HARM, cell.skill, what, cell.shortfall.effect, avoid, favour)

    def _gap(self, cell: _Cell, effect: float, skill: str | None) -> Finding:
        """Return the finding of a gap; `skill` is the one that is passed over there."""
        who = " that no fitting skill gave" if self._owners(cell.about.states[0]) else ""
        what = f"Replies{_told(cell.about)}{who} were followed by {_points(cell.shortfall)}."
        if skill is not None:
            what += f" `{skill}` is written for that state."
        avoid = self._values.bad(cell.mask, cell.expected.residuals)
        favour = self._values.good(self._in(cell.about), but=avoid)
        return self._finding(cell, FindingKind.GAP, skill, what, effect, avoid, favour)

    def _missing(self, cell: _Cell) -> Finding:
        """Return the finding that the bank holds no skill for a state."""
        places = np.flatnonzero(cell.mask).tolist()
        return Finding(
            kind=FindingKind.GAP,
            context=cell.about,
            what=f"The bank holds no skill for {_name(cell.about.states[0])}, which {len(places)} replies answered.",
            cites=cites_of(self._moments[place] for place in places),
            turns=len(places),
            favour=self._values.good(cell.mask),
        )

    def _passed_over(self, cell: _Cell, skill: str, usual: float) -> Finding:
        state = cell.about.states[0]
        there = self._states == state
        mine = self._followed[there] == skill
        what = (
            f"`{skill}` is written for {_name(state)} and gave {mine.sum()} of {there.sum()} replies there; those that "
            f"no fitting skill gave were followed by {_points(cell.shortfall)}."
        )
        plan = self._bank.skills[skill].plan_for(state)
        planned = [step.action for step in plan.steps] if plan else []
        poor = self._values.bad(there, self._values.residuals)
        avoid = tuple(action for action in poor if action in planned)
        favour = self._values.good(there, but=avoid)
        effect = drawn(cell.shortfall, usual, cell.expected.spread)
        return self._finding(cell, FindingKind.GAP, skill, what, effect, avoid, favour)

    def _in(self, about: Context) -> Mask:
        """Return the replies of all skills in a context."""
        return np.array([
            (not about.states or moment.state in about.states)
            and (not about.scenarios or moment.scenario in about.scenarios)
            and about.character in (None, moment.character)
            and about.need in (None, moment.need)
            for moment in self._moments
        ])  # fmt: skip

    def _finding(
        self,
        cell: _Cell,
        kind: FindingKind,
        skill: str | None,
        what: str,
        effect: float,
        avoid: tuple[SupportAction, ...],
        favour: tuple[SupportAction, ...],
    ) -> Finding:
        return Finding(
            kind=kind,
            skill=skill,
            context=cell.about,
            what=what,
            cites=cites_of(self._moments[place] for place in np.flatnonzero(cell.mask).tolist()),
            turns=cell.shortfall.turns,
            effect=round(effect, 3),
            p=float(f"{cell.shortfall.p:.3g}"),
            avoid=avoid,
            favour=favour,
        )


def unsafe_texts(bank: Bank, moments: Sequence[Moment]) -> Iterable[Finding]:
    """Yield a finding for each skill whose text holds what must not be said, whether or not a talk came to it."""
    for name, skill in sorted(bank.skills.items()):
        places = [moment for moment in moments if moment.followed == name]
        for reason in unsafe_in(skill):
            yield Finding(
                kind=FindingKind.UNSAFE,
                skill=name,
                context=Context(states=skill.states),
                what=f"`{name}`: its text is unsafe: {reason}",
                cites=cites_of(places),
                turns=len(places),
            )


def unsafe(moments: Sequence[Moment]) -> Iterable[Finding]:
    """Yield a finding for each skill and rule of safety that its replies broke."""
    broken: dict[tuple[str, str], list[Moment]] = defaultdict(list)
    for moment in moments:
        if moment.followed is None:
            continue
        for rule in _broken(moment):
            broken[moment.followed, rule].append(moment)
    for (skill, rule), places in sorted(broken.items(), key=lambda each: each[0]):
        yield Finding(
            kind=FindingKind.UNSAFE,
            skill=skill,
            context=Context(states=tuple(sorted({moment.state for moment in places}))),
            what=f"`{skill}`: {rule}",
            cites=cites_of(places),
            turns=len(places),
        )


def _broken(moment: Moment) -> list[str]:
    rules = []
    if moment.risk == "high":
        rules.append("A skill was followed at high risk, where nothing but the fixed text may be said.")
    if moment.risk == "elevated" and not moment.checked:
        rules.append("A skill was followed at elevated risk before safety had been checked.")
    kind: Kind = "told" if SupportAction.SELF_DISCLOSURE in moment.actions else "spoken"
    return rules + [f"What it has one say is unsafe: {reason}" for reason in unsafe_lines(moment.text, kind)]


def drawn(shortfall: Shortfall, usual: float, spread: float) -> float:
    """Return an effect drawn towards the usual one: the mean of the two, each weighted by how sure it is."""
    here, there = shortfall.error**-2, max(spread, 1e-3) ** -2
    return (shortfall.effect * here + usual * there) / (here + there)


def _sides() -> list[tuple[str, ...]]:
    return [names for n in range(len(SIDES) + 1) for names in combinations(SIDES, n)]


def _context(about: Mapping[str, object]) -> Context:
    values = {name: value for name, value in about.items() if name in ("character", "need")}
    for name, many in (("state", "states"), ("scenario", "scenarios")):
        if name in about:
            values[many] = (about[name],)
    return Context.model_validate(values)


def _worse(cells: Sequence[_Cell]) -> list[_Cell]:
    passed = passing([cell.shortfall.p for cell in cells], RATE)
    return [cell for cell, ok in zip(cells, passed, strict=True) if ok]


def _widest(cells: Sequence[_Cell]) -> list[_Cell]:
    """Leave out what a wider cell tells as well; wider ones come first."""
    kept: list[_Cell] = []
    for cell in cells:
        around = [each for each in kept if each.skill == cell.skill and not (cell.mask & ~each.mask).any()]
        if all(cell.shortfall.effect <= each.shortfall.effect - NOTABLE for each in around):
            kept.append(cell)
    return kept


def _whole(about: Context) -> bool:
    """Say whether a context is a state and nothing more."""
    return not about.scenarios and about.need is None


def _told(about: Context) -> str:
    """Return a context as it follows "replies"."""
    parts = [f" to {_name(state)}" for state in about.states]
    parts += [f" in {_name(scenario)}" for scenario in about.scenarios]
    parts += [f" with a seeker of {about.character} character"] if about.character else []
    parts += [f" whose need is {about.need.replace('_', ' ')}"] if about.need else []
    return "".join(parts)


def _listed(actions: Iterable[SupportAction]) -> str:
    return ", ".join(ACTION_INFO[action].name.lower() for action in actions)


def _name(label: SeekerState | Scenario) -> str:
    info = STATE_INFO[label] if isinstance(label, SeekerState) else SCENARIO_INFO[label]
    return info.name.lower()


def _points(shortfall: Shortfall) -> str:
    side = "less" if shortfall.effect < 0 else "more"
    return (
        f"{abs(shortfall.effect):.1f} points {side} than expected ({shortfall.turns} replies, {shortfall.talks} talks)"
    )
