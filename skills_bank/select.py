"""`select_skill`: the skills that fit a talk now, each with the reason and the next actions.

A `Selector` is built once per bank version and keeps nothing of any conversation: every answer is a function of the
messages and the caller's arguments alone.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from .advice import Ranked, order
from .classify import SCENARIOS, STATES, Read, driving_phrases, notes, read, top_scenarios, top_states
from .conversation import Conversation, as_conversation
from .errors import InputError
from .models import ActionStep, Message, Skill
from .outcome import OutcomeModel
from .ranking import Features, Ranker, Weights, off_topic
from .results import Classification, NextAction, Selection, SkillChoice
from .risk import Risk, RiskDesk
from .taxonomy import Scenario, SeekerState, SupportAction

if TYPE_CHECKING:
    import numpy as np

    from .bank import Bank
    from .encoder import Encoder
    from .index import Facets

CALLER_WEIGHT = 0.9
"""Probability put on a state or scenario that the caller names; the rest stays with the encoder."""
MOST_SKILLS = 10
MOST_ACTIONS = 3
FACET_LENGTH = 90
NO_SKILL = (
    "No skill fits well enough (best {best:.2f} < {least:.2f}). Reply without one: reflect what you heard in one "
    "sentence, ask one open question, and select again after the seeker's next turn."
)
OFF_TOPIC = (
    "No skill fits: this is unlike anything a support talk is about (closest match {best:.2f} < {least:.2f}). "
    "Answer it as it is, or pass `state` if you read a feeling in it."
)
HIGH_RISK = "High risk: no skill. Follow `risk.guidance`, say `risk.say`, show `risk.helplines`, stay with the person."


class Query(NamedTuple):
    """One reading, with what the caller said about it."""

    read: Read
    states: "np.ndarray"
    scenarios: "np.ndarray"
    source: Literal["encoder", "caller"]
    notes: list[str]


class Selector:
    """Classification and selection over one bank version."""

    def __init__(
        self,
        bank: "Bank",
        encoder: "Encoder",
        facets: "Facets",
        outcomes: OutcomeModel,
        weights: Weights,
        desk: RiskDesk,
    ) -> None:
        """Take the loaded parts; nothing is read from disk here."""
        self.bank = bank
        self._encoder, self._outcomes, self._weights, self._desk = encoder, outcomes, weights, desk
        self._facets = facets
        self._skills: list[Skill] = list(bank.skills.values())
        owners = facets.owners([skill.name for skill in self._skills])
        self._ranker = Ranker(self._skills, bank.evidence, facets.vectors, owners)

    def classify(self, messages: str | Sequence[Mapping[str, object] | Message]) -> Classification:
        """Return risk, states, scenarios and the phrases that drove the state.

        Raises:
            InputError: `messages` cannot be used.
        """
        conversation = as_conversation(messages)
        found = read(conversation, self._encoder)
        return Classification(
            risk=self._desk.assess(conversation, found.risk),
            states=top_states(found.states),
            scenarios=top_scenarios(found.scenarios),
            evidence=driving_phrases(conversation, self._encoder, found.states),
            language=conversation.language,
            note=" ".join(notes(conversation, found.states)),
            bank_version=self.bank.version,
        )

    def select(
        self,
        messages: str | Sequence[Mapping[str, object] | Message],
        k: int = 3,
        state: str | None = None,
        scenario: str | None = None,
        exclude: Iterable[str] = (),
        min_score: float | None = None,
    ) -> Selection:
        """Return up to `k` skills, best first; none at high risk, and none when no score reaches `min_score`.

        Args:
            messages: The conversation so far, or one seeker line.
            k: How many skills at most, 1 to 10.
            state: The caller's own reading of the seeker's state; outweighs the encoder's.
            scenario: The caller's own reading of the situation; outweighs the encoder's.
            exclude: Skill names that must not be returned.
            min_score: Least score, 0 to 1; default: the fitted one.

        Raises:
            InputError: An argument cannot be used; the message names it and the fix.
        """
        if not 1 <= k <= MOST_SKILLS:
            raise InputError(f"k: {k} is out of range. Ask for 1 to {MOST_SKILLS} skills.")
        if min_score is not None and not 0 <= min_score <= 1:
            raise InputError(f"min_score: {min_score} is out of range. Use a number from 0 to 1.")
        conversation = as_conversation(messages)
        query = self._query(conversation, state, scenario)
        risk = self._desk.assess(conversation, query.read.risk)
        skills: tuple[SkillChoice, ...] = ()
        if risk.level == "high":
            query.notes.insert(0, HIGH_RISK)
        else:
            least = self._weights.min_score if min_score is None else min_score
            skills = self._ranked(query, risk, k, set(exclude), least)
        return Selection(
            risk=risk,
            states=top_states(query.states),
            states_source=query.source,
            skills=skills,
            note=" ".join(query.notes),
            bank_version=self.bank.version,
        )

    def _query(self, conversation: Conversation, state: str | None, scenario: str | None) -> Query:
        found = read(conversation, self._encoder)
        states, scenarios, said = found.states.astype(float), found.scenarios.astype(float), []
        if state is not None:
            states = _outweigh(states, _member(SeekerState, state, "state"), STATES)
            said.append("state")
        if scenario is not None:
            scenarios = _outweigh(scenarios, _member(Scenario, scenario, "scenario"), SCENARIOS)
            said.append("scenario")
        remarks = notes(conversation, states)
        if said:
            remarks.append(f"The caller's {' and '.join(said)} outweighed the encoder's reading.")
        return Query(found, states, scenarios, "caller" if state else "encoder", remarks)

    def _ranked(self, query: Query, risk: Risk, k: int, exclude: set[str], least: float) -> tuple[SkillChoice, ...]:
        unknown = sorted(exclude - set(self.bank.skills))
        if unknown:
            query.notes.append(f"Not in the bank, so nothing to exclude: {', '.join(unknown)}.")
        outlook = self._outcomes.outlook(query.read.moment)
        features = self._ranker.features(
            query.states, query.scenarios, query.read.embedding, query.read.moment, outlook, self._weights
        )
        scores = self._ranker.scores(features, self._weights)
        if query.source == "encoder" and off_topic(query.states, features.similarity, self._weights):
            query.notes.append(OFF_TOPIC.format(best=features.similarity, least=self._weights.min_similarity))
            return ()
        allowed = [row for row, skill in enumerate(self._skills) if skill.name not in exclude]
        if not allowed:
            query.notes.append("Every skill of the bank is excluded.")
            return ()
        # Skills stand in order of name, so a stable sort breaks ties by name.
        ranked = [allowed[i] for i in (-scores[allowed]).argsort(kind="stable")[:k]]
        if scores[ranked[0]] < least:
            query.notes.append(NO_SKILL.format(best=scores[ranked[0]], least=least))
            return ()
        return tuple(
            self._choice(row, float(scores[row]), features, query, risk) for row in ranked if scores[row] >= least
        )

    def _choice(self, row: int, score: float, features: Features, query: Query, risk: Risk) -> SkillChoice:
        skill = self._skills[row]
        plan = max(skill.plans, key=lambda plan: query.states[STATES.index(plan.state)])
        steps = order(plan.steps, plan.state, query.read.moment, features.worth[STATES.index(plan.state)])
        actions = [NextAction(action=item.step.action, how=_how(item)) for item in steps[:MOST_ACTIONS]]
        if risk.level == "elevated" and not risk.asked:
            first = NextAction(action=SupportAction.SAFETY_CHECK_AND_REFERRAL, how=risk.guidance)
            rest = [a for a in actions if a.action != SupportAction.SAFETY_CHECK_AND_REFERRAL]
            actions = [first, *rest][:MOST_ACTIONS]
        return SkillChoice(
            name=skill.name,
            score=round(score, 3),
            why=self._why(skill, plan.state, self._ranker.closest_facet(row, features), query),
            next_actions=tuple(actions),
            pitfall=_pitfall(skill, plan.steps),
            uri=f"skill://{skill.name}/SKILL.md",
        )

    def _why(self, skill: Skill, state: SeekerState, facet: int, query: Query) -> str:
        parts = [f"state {state} ({query.states[STATES.index(state)]:.2f}, {query.source})"]
        if facet >= 0:
            kind, text = self._facets.kinds[facet], self._facets.texts[facet]
            parts.append(f"closest {kind}: \u201c{_short(text)}\u201d")
        proof = self.bank.evidence.get(skill.name)
        if proof is None:
            parts.append("no evidence file: written by hand, not measured")
        else:
            parts.append(
                f"{proof.n} units, {proof.positive.rate:.0%} positive ({proof.positive.low:.0%}\u2013"
                f"{proof.positive.high:.0%}), {proof.negative.rate:.0%} negative"
            )
        return "; ".join(parts)


def _member(kind: type[SeekerState] | type[Scenario], value: str, name: str) -> SeekerState | Scenario:
    try:
        return kind(value.strip().lower())
    except ValueError:
        raise InputError(f"{name}: {value[:60]!r} is not in the taxonomy. Use one of: {', '.join(kind)}.") from None


def _outweigh(posterior: "np.ndarray", member: str, members: Sequence[str]) -> "np.ndarray":
    """Mix the caller's answer with the posterior, `CALLER_WEIGHT` to the rest."""
    mixed = (1 - CALLER_WEIGHT) * posterior / max(float(posterior.sum()), 1e-9)
    mixed[list(members).index(member)] += CALLER_WEIGHT
    return mixed


def _how(item: Ranked) -> str:
    step: ActionStep = item.step
    text = f"{step.how} Say: \u201c{step.say}\u201d" if step.say else step.how
    return f"{text} (Wait: {item.held_back}.)" if item.held_back else text


def _pitfall(skill: Skill, steps: Sequence[ActionStep]) -> str:
    """Return the pitfall of an action that the plan recommends, or else the first one."""
    planned = {step.action for step in steps}
    chosen = next((p for p in skill.pitfalls if p.action in planned), skill.pitfalls[0])
    return f"{chosen.title}: {chosen.text} Signal: {chosen.signal}"


def _short(text: str) -> str:
    return text if len(text) <= FACET_LENGTH else text[: FACET_LENGTH - 1].rstrip() + "\u2026"
