"""A skill without a model: one cluster's statistics choose from the library of `phrases/`, code puts it together."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from ..skills_bank.errors import SkillWriteError
from ..skills_bank.models import ActionStep, Example, Message, Pitfall, Prototype, Skill, StatePlan
from ..skills_bank.taxonomy import ACTION_INFO, Polarity, ResponseChange, SeekerState, SupportAction, polarity
from .phrasebook import NEGATIVE, Cell, Never, Phrasebook, Stage, load_phrases
from .steps import by_outcome, harmful, harms, risky, steps, weak
from .writers import DossierFacts, signed

GOOD, BAD, PITFALLS = 3, 2, 5
MIN_GOOD, MIN_PITFALLS = 2, 3
_MOST_WHEN = 6
_MANY_STATES = 4
"""From as many states on, a skill is told by its actions rather than state by state."""
_MAX_NAME = 64
_DANGLING = re.compile(r"(-(a|an|and|amid|from|in|of|or|that|the|through|to|with))+$")
_RARE = (
    "Seldom seen here, so hold it loosely.",
    "Little was seen of it in this state.",
    "The cases are few; try it and watch.",
)
_CARE = (
    "It went wrong fairly often, so keep it short.",
    "Watch the answer, it backfires now and then.",
    "It is no safe move; drop it at the first no.",
)
_SHARES = (
    (0.08, "hardly any"), (0.18, "few"), (0.3, "about a quarter"), (0.4, "about a third"), (0.47, "fewer than half"),
    (0.54, "about half"), (0.64, "more than half"), (0.72, "about two thirds"), (1.01, "most"),
)  # fmt: skip
_LAST = "Nothing here replaces the risk check that comes before it."
_SAFETY = SupportAction.SAFETY_CHECK_AND_REFERRAL
_ACUTE = "The risk check finds acute danger, such as an intent, a plan or an attack: its fixed guidance takes over."
_DANGER = "There is a sign of danger to the seeker or to others: the risk check comes first."

StageName = Literal["early", "mixed", "late"]


class LocalWriter:
    """A `SkillWriter` that calls no model. The same cluster gives the same bytes."""

    def __init__(self, phrases: Phrasebook | None = None) -> None:
        """Take the library to write from; default the shipped one."""
        self.phrases = phrases or load_phrases()

    async def write(self, facts: DossierFacts, taken: Collection[str] = ()) -> Skill:
        """Return the skill of a cluster.

        Raises:
            SkillWriteError: No cell of the cluster can be recommended.
        """
        return _Draft(facts, self.phrases, taken).skill()


def words_for(share: float) -> str:
    """Return a share in words, as numbers stand in the Evidence section alone."""
    return next(words for limit, words in _SHARES if share < limit)


def listed(items: Sequence[str], last: str = "and") -> str:
    """Return `a, b and c`."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {last} {items[-1]}"


def stage_of(actions: Iterable[SupportAction]) -> StageName:
    """Return where in a talk these actions belong, by Hill's stages: early explores, late gives insight and action."""
    stages = {ACTION_INFO[action].hill_stage for action in actions} - {"any"}
    if stages <= {"exploration"}:
        return "early"
    return "mixed" if "exploration" in stages else "late"


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _name(base: str, tail: str = "") -> str:
    """Return base and tail as a skill's name; where they are too long, the base is cut between words."""
    end = "-".join(re.findall(r"[a-z0-9]+", tail.casefold()))
    room = _MAX_NAME - len(end) - 1 if end else _MAX_NAME
    found = ""
    for word in re.findall(r"[a-z]+", base.casefold()):
        if len(found) + 1 + len(word) > room:
            break
        found = f"{found}-{word}" if found else word
    found = _DANGLING.sub("", found)
    return f"{found}-{end}" if end else found


@dataclass(frozen=True)
class _Draft:
    facts: DossierFacts
    book: Phrasebook
    taken: Collection[str]

    def skill(self) -> Skill:
        if not self.plan:
            raise SkillWriteError(self.facts.cluster.id, ["no cell of it can be recommended; leave it out of the bank"])
        title, name = self._title()
        draft = Skill(
            name=name,
            description=self._description(),
            states=tuple(self.plan),
            actions=tuple(a for a in self.facts.cluster.actions if any(p.action == a for p in self._steps)),
            scenarios=self.facts.cluster.scenarios,
            title=title,
            overview=self._overview(),
            when=tuple(self._when())[:_MOST_WHEN],
            when_not=tuple(dict.fromkeys(self._when_not())),
            plans=tuple(self._plans()),
            pitfalls=tuple(self._pitfalls()),
            examples=(*self._good_examples(), *self._bad_examples()),
            expected_outcome=self._outcome(),
            risks=self._risks(),
        )
        return signed(draft, self.facts, f"local-writer phrases@{self.book.version}")

    # --- what is chosen ---------------------------------------------------------------------------------------------

    @cached_property
    def plan(self) -> dict[SeekerState, list[Prototype]]:
        senseless = {
            (state, action)
            for state, action in self.facts.cluster.prototypes
            if isinstance(self.book.actions[action].cells[state], Never)
        }
        return steps(self.facts.prototypes, senseless)

    @cached_property
    def _steps(self) -> list[Prototype]:
        return [p for found in self.plan.values() for p in found]

    @cached_property
    def stage(self) -> StageName:
        return stage_of(p.action for p in self._steps)

    @cached_property
    def _told_by_actions(self) -> bool:
        return len(self.plan) >= _MANY_STATES

    @cached_property
    def _best_actions(self) -> list[SupportAction]:
        """The actions of the steps, best first; those seldom seen, and what is held back, stand last."""
        totals: Counter[SupportAction] = Counter()
        for place, p in enumerate(by_outcome(self._steps)):
            totals[p.action] += len(self._steps) - place
        ranked = [action for action, _ in totals.most_common()]
        firm = {p.action for p in self._steps if not weak(p)}
        return sorted(ranked, key=lambda action: (action == SupportAction.SELF_DISCLOSURE, action not in firm))

    @cached_property
    def _shown(self) -> list[Prototype]:
        """The cells whose moments are the good examples: fitting scenarios first, varied in state, action, scenario."""
        left, chosen = by_outcome(self._steps), []
        if self._best_actions == [_SAFETY]:
            left.reverse()  # asking about safety is shown where it is hardest
        disclosure = [p for p in left if p.action == SupportAction.SELF_DISCLOSURE]
        left = [p for p in left if p not in disclosure] + disclosure
        while left and len(chosen) < GOOD:
            left.sort(key=lambda p: self._likeness(p, chosen))
            chosen.append(left.pop(0))
        return chosen

    def _likeness(self, p: Prototype, chosen: Sequence[Prototype]) -> float:
        cell = self._cell(p)
        twin = sum(p.action == c.action for c in chosen) + sum(p.state == c.state for c in chosen) / 2
        same = sum(cell.scenario == self._cell(c).scenario for c in chosen)
        return twin + same - 0.9 * (cell.scenario in self.facts.cluster.scenarios)

    @cached_property
    def _missed(self) -> list[Prototype]:
        """The cells whose moments are the bad examples: what went wrong most, and not shown as good already."""
        ranked = list(dict.fromkeys((p.state, p.action) for p, _ in harms(self.facts.prototypes)))
        ranked += [cell for cell in self.facts.cluster.prototypes if cell not in ranked]
        found = [self.facts.by_cell[c] for c in ranked if self.book.cell(*c) is not None]
        fresh = [p for p in found if p not in self._shown] or found[:1]
        chosen: list[Prototype] = []
        for p in fresh:
            if len(chosen) < BAD and all(p.action != c.action or p.state != c.state for c in chosen):
                twins = [c for c in chosen if c.action == p.action]
                told = [self._cell(c).harm for c in twins]
                if not twins or (len({q.action for q in fresh}) == 1 and self._cell(p).harm not in told):
                    chosen.append(p)
        return chosen

    def _cell(self, p: Prototype) -> Cell:
        found = self.book.cell(p.state, p.action)
        assert found is not None, "steps leave senseless cells out"
        return found

    # --- head -------------------------------------------------------------------------------------------------------

    def _title(self) -> tuple[str, str]:
        """Return the title and the name made of it; a taken name is told apart by action, state, scenario or id."""
        base = self._base_title()
        tails = ["", *(f" through {self.book.actions[action].by}" for action in self._best_actions)]
        tails += [f" amid {self.book.states[state].noun}" for state in self.plan]
        tails += [f" in {self.book.scenarios[scenario].amid}" for scenario in self.facts.cluster.scenarios]
        for tail in tails:
            if (name := _name(base, tail)) not in self.taken:
                return base + tail, name
        return base, _name(base, self.facts.cluster.id)

    def _base_title(self) -> str:
        states = [self.book.states[state] for state in self.plan]
        actions = [self.book.actions[action] for action in self._best_actions]
        if self._told_by_actions or (len(states) > 1 and len(actions) == 1):
            goals = [actions[0].goal, *(a.goal[0].lower() + a.goal[1:] for a in actions[1:2])]
            return listed(goals)
        if len(states) > 1:
            verb = {"early": "Hearing out", "mixed": "Going along with", "late": "Moving on from"}[self.stage]
            return f"{verb} {listed([state.noun for state in states])}"
        if len(actions) == 1:
            return f"{actions[0].goal} amid {states[0].noun}"
        return getattr(states[0], self.stage).title

    def _description(self) -> str:
        through = listed([self.book.actions[action].by for action in self._best_actions[:3]])
        about = listed([self.book.scenarios[s].about for s in self.facts.cluster.scenarios] or ["any trouble"], "or")
        if self._told_by_actions:
            does = " ".join(_sentence(self.book.actions[a].does) for a in self._best_actions[:2])
            most = [state for state in self.facts.cluster.states if state in self.plan][:4]
            nouns = listed([self.book.states[state].noun for state in most], "or")
            return f"{does} Load it in many states, most often in {nouns}; often the talk is about {about}."
        states = [self.book.states[state] for state in self.plan]
        does = " ".join(getattr(state, self.stage).does for state in states)
        shows = listed([state.shows for state in states], "or")
        load = {
            "early": f"Load it while they {shows} and have not told it to the end",
            "mixed": f"Load it whenever they {shows}",
            "late": f"Load it once they {shows}, were heard, and look for a way on",
        }[self.stage]
        return f"{does} {load}; often it is about {about}. It works through {through}."

    # --- when -------------------------------------------------------------------------------------------------------

    def _stages(self, state: SeekerState) -> list[Stage]:
        phrases = self.book.states[state]
        return {"early": [phrases.early], "late": [phrases.late], "mixed": [phrases.early, phrases.late]}[self.stage]

    def _when(self) -> Iterator[str]:
        if self._told_by_actions:
            signs = [self.book.actions[action].signs for action in self._best_actions[:2]]
            yield from (sign for group in signs for sign in group[: 4 // len(signs) + 2])
            unseen = [p for p in by_outcome(self._steps) if p not in self._shown and p not in self._missed]
            yield from (f"They write something like “{self._cell(p).seeker}”" for p in unseen[:2])
            return
        stages = [stage for state in self.plan for stage in self._stages(state)]
        most = max(1, 4 // len(stages))
        yield from (sign for stage in stages for sign in stage.signs[:most])
        spoken = [line for stage in stages for line in stage.lines[: max(1, 4 // len(stages))]]
        pairs = zip(spoken[::2], spoken[1::2], strict=False)
        yield from (f"They write something like “{one}” or “{other}”" for one, other in pairs)

    def _when_not(self) -> Iterator[str]:
        yield _ACUTE if self._best_actions == [_SAFETY] else _DANGER
        if self._told_by_actions:
            yield from (self.book.actions[action].unless for action in self._best_actions[:2])
        gone = [state for state in self.facts.cluster.states if state not in self.plan]
        for state in gone:
            yield f"They {self.book.states[state].shows}: these moves went wrong there about as often as right."
        for other in () if self._told_by_actions else self.facts.neighbours:
            yield from self._leave_to([state for state in other.states if state not in gone], other.actions)

    def _leave_to(self, states: Sequence[SeekerState], actions: Sequence[SupportAction]) -> Iterator[str]:
        """Say how one knows that a neighbour is meant."""
        if not states:
            return
        if len(states) >= _MANY_STATES or (len(actions) == 1 and len(states) > 1):
            yield f"{self.book.actions[actions[0]].signs[0].rstrip('.')}: that has a skill of its own."
            return
        fresh = [state for state in states if state not in self.plan]
        for state in fresh[:1]:
            phrases = self.book.states[state]
            yield f"They {phrases.shows}: that asks for a skill of its own."
        if not fresh:
            if stage_of(actions) == "late" and self.stage != "late":
                yield "The story is out and they look for a way on: go on with what comes after hearing out."
            elif self.stage == "late":
                yield "The story is still being told, or they feel unheard: hear it out first."

    # --- what to do -------------------------------------------------------------------------------------------------

    def _plans(self) -> Iterator[StatePlan]:
        for state, found in self.plan.items():
            yield StatePlan(state=state, steps=tuple(self._step(p, place) for place, p in enumerate(found)))

    def _step(self, p: Prototype, place: int) -> ActionStep:
        cell, phrases = self._cell(p), self.book.actions[p.action]
        remarks = [phrases.caution] if phrases.caution else []
        if p.action != _SAFETY:  # rarely seen or not, it is never held loosely
            remarks += self._warnings(p, place)
        if self._in_scene(p):
            return ActionStep(
                action=p.action, how=" ".join([cell.how, *remarks, f"If they write “{cell.seeker}”"]), say=cell.say
            )
        return ActionStep(action=p.action, how=" ".join([cell.how, *remarks]), say=cell.also)

    def _in_scene(self, p: Prototype) -> bool:
        """Whether a step shows its line in the moment it answers: where that fits, and no example shows it."""
        fits = p.action == _SAFETY or self._cell(p).scenario in self.facts.cluster.scenarios
        return fits and p not in self._shown and (p not in self._missed or p.action == _SAFETY)

    def _warnings(self, p: Prototype, place: int) -> list[str]:
        turn = place + list(SeekerState).index(p.state)
        if weak(p):
            return [_RARE[turn % len(_RARE)]]
        return [_CARE[turn % len(_CARE)]] if risky(p) else []

    # --- pitfalls ---------------------------------------------------------------------------------------------------

    @cached_property
    def _wrongs(self) -> dict[tuple[SupportAction, ResponseChange], Prototype]:
        """What to warn of: one entry an action first, worst first; what was not counted fills up to the least."""
        seen = [(p, self._telling(p, change)) for p, change in harms(self.facts.prototypes)]
        leaders = {p.action: (p, change) for p, change in reversed(seen)}
        ranked = [entry for entry in seen if leaders[entry[0].action] == entry]
        ranked += [entry for entry in seen if entry not in ranked] if len(ranked) < MIN_PITFALLS else []
        ranked += [(p, change) for p in by_outcome(self.facts.prototypes)[::-1] for change in NEGATIVE]
        most = max(MIN_PITFALLS, min(PITFALLS, len(leaders)))
        told: dict[tuple[SupportAction, ResponseChange], Prototype] = {}
        for p, change in ranked:
            if len(told) < most:
                told.setdefault((p.action, change), p)
        return told

    def _telling(self, p: Prototype, change: ResponseChange) -> ResponseChange:
        """Return the change to warn of: the one the cell's own words show, if it was seen there, else `change`."""
        cell = self.book.cell(p.state, p.action)
        return cell.harm if cell is not None and cell.harm in p.changes else change

    def _pitfalls(self) -> Iterator[Pitfall]:
        heard: set[str] = {self._cell(p).answer for p in self._missed}
        for (_, change), p in self._wrongs.items():
            answer = self._heard(p, change, heard)
            heard.add(answer)
            yield self._pitfall(p, change, answer)

    def _heard(self, p: Prototype, change: ResponseChange, heard: Collection[str]) -> str:
        """Return how the wrong may sound, in the cell's own words if they show this change, and each line once."""
        cell, replies = self.book.cell(p.state, p.action), self.book.changes[change].replies
        start = list(SeekerState).index(p.state) + list(SupportAction).index(p.action)
        own = [cell.answer] if cell is not None and cell.harm == change else []
        spare = [replies[(start + i) % len(replies)] for i in range(len(replies))]
        return next((line for line in own + spare if line not in heard), spare[0])

    def _pitfall(self, p: Prototype, change: ResponseChange, answer: str) -> Pitfall:
        phrases = self.book.actions[p.action].pitfalls[change]
        cell = self.book.cell(p.state, p.action)
        text = [_sentence(phrases.what)]
        if cell is not None and cell.harm == change and p not in self._missed:
            text.append(f"It may sound like “{cell.slip}”")
        if len(self.facts.cluster.states) > 1:
            text.append(f"It was met most in {self.book.states[p.state].noun}.")
        if harmful(p):
            text.append("This move went wrong here about as often as right.")
        signal = f"{phrases.signal.rstrip('.')}; for instance “{answer}”"
        text.append(_sentence(phrases.instead))
        return Pitfall(title=phrases.title, action=p.action, text=" ".join(text), signal=signal)

    # --- examples ---------------------------------------------------------------------------------------------------

    def _good_examples(self) -> Iterator[Example]:
        for p in self._shown:
            cell = self._cell(p)
            yield Example(
                kind="good",
                title=f"{self.book.actions[p.action].title} {self.book.scenarios[cell.scenario].when}",
                lines=_talk(cell.seeker, cell.say, cell.reply),
                comment=cell.why,
            )
        for p in self._shown[: max(0, MIN_GOOD - len(self._shown))]:
            yield self._repair(p)

    def _repair(self, p: Prototype) -> Example:
        """Show the same moment missed and mended: what a cluster of a single cell has for a second example."""
        cell = self._cell(p)
        return Example(
            kind="good",
            title=f"{self.book.actions[p.action].title}, missed and mended",
            lines=_talk(cell.seeker, cell.slip, cell.answer, f"Sorry, that was not it. {cell.say}", cell.reply),
            comment=f"{cell.wrong} A short sorry without excuse and a line that fits bring the talk back.",
        )

    def _bad_examples(self) -> Iterator[Example]:
        for p in self._missed:
            cell = self._cell(p)
            fits = p not in self._shown and not harmful(p) and not self._in_scene(p)
            better = f" A line that fits: “{cell.say}”" if fits else ""
            yield Example(
                kind="bad",
                title=f"{self.book.actions[p.action].title}, gone wrong",
                lines=_talk(cell.seeker, cell.slip, cell.answer),
                comment=f"{cell.wrong}{better}",
            )

    # --- prose ------------------------------------------------------------------------------------------------------

    def _overview(self) -> str:
        if self._told_by_actions:
            needs = [self.book.actions[action].essence for action in self._best_actions[:2]]
        else:
            needs = [stage.need for state in self.plan for stage in self._stages(state)]
        return " ".join([*needs, self._support()])

    def _support(self) -> str:
        """Say which moves the statistics favour, and which not."""
        if len(self._best_actions) > 1:
            best = listed([self.book.actions[action].by for action in self._best_actions[:2]])
            said = f"In the talks behind this page {best} were followed by a good turn most often."
        else:
            ranked = list(dict.fromkeys(p.state for p in by_outcome(self._steps)))
            best, worst = (listed([self.book.states[s].noun for s in part]) for part in (ranked[:2], ranked[-2:]))
            said = f"In the talks behind this page it did best with {best}, and worst with {worst}."
            if len(ranked) < _MANY_STATES:
                said = "In the talks behind this page it was the one move that could be told from the others."
        bad = list(dict.fromkeys(p.action for p in self.facts.prototypes if harmful(p)))
        left_out = [self.book.actions[action].by for action in bad if action not in self._best_actions]
        if not left_out:
            return said
        return (
            f"{said} Left out of the steps: {listed(left_out)}, after which things went wrong about as often as right."
        )

    def _outcome(self) -> str:
        states = list(self.plan)
        said = [self._stages(state)[0 if self.stage != "late" else -1].outcome for state in states[:2]]
        if self._told_by_actions:
            said = ["What follows depends on the state more than on the words."]
        rates = [
            self._follows("positive", "showed a change for the better"),
            self._follows("negative", "a change for the worse"),
        ]
        said.append(f"Of the answers to all these moves, {listed(rates)}.")
        rare = list(dict.fromkeys(p.action for p in self._steps if weak(p)))
        if rare and not self._told_by_actions:
            said.append(f"Little was seen of {listed([self.book.actions[a].by for a in rare])}.")
        stuck = "go back to their last sentence and answer that"
        said.append(f"When it stalls, {stuck if self._told_by_actions else self.book.states[states[0]].stuck}.")
        return " ".join(said)

    def _follows(self, kind: Polarity, how: str) -> str:
        counts: Counter[ResponseChange] = Counter()
        for p in self._steps:
            counts.update({change: n for change, n in p.changes.items() if polarity(change) == kind})
        share = words_for(counts.total() / sum(p.n for p in self._steps))
        most = max(counts, key=lambda c: (counts[c], -list(ResponseChange).index(c)), default=None)
        looks = f" (most often the seeker {self.book.changes[most].looks})" if most else ""
        return f"{share} {how}{looks}"

    def _risks(self) -> str:
        worst = list(dict.fromkeys(p.state for p in by_outcome(self._steps)[::-1]))
        states = worst if self._told_by_actions else list(self.plan)
        return " ".join([*(self.book.states[state].risk for state in states[:2]), _LAST])


def _talk(*turns: str) -> tuple[Message, ...]:
    """Return an exchange that the seeker begins."""
    return tuple(Message(role="supporter" if i % 2 else "seeker", content=text) for i, text in enumerate(turns))
