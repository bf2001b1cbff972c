"""Support agents without a language model: actions by a policy, words from our own lines.

`no-skill` does what human supporters did in such a state, as often as they did it. `bank` follows the skill that the
bank selects. The known-groups agents do one kind of thing whatever is said; a simulator in which they did as well as
the others would be worth nothing.
"""

import random
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

from ..skills_bank.classify import STATES, bare
from ..skills_bank.conversation import Conversation, as_conversation
from ..skills_bank.models import Message
from ..skills_bank.moment import QUESTIONS
from ..skills_bank.results import NextAction, Selection, SkillChoice
from ..skills_bank.risk import Risk
from ..skills_bank.taxonomy import SeekerState, SupportAction
from .agent import AgentReply, UsedSkill
from .answers import asked
from .human_actions import HumanActions, load_human_actions
from .sources import SkillSource
from .wording import Wording, fresh

if TYPE_CHECKING:
    from ..skills_bank.risk import RiskDesk
    from .reader import Reader

Policy = Callable[[SeekerState], Mapping[SupportAction, float]]
"""How likely each action is in a state."""
ONLY: dict[str, tuple[SupportAction, ...]] = {
    "only-advice": (SupportAction.PRACTICAL_SUGGESTION,),
    "only-questions": tuple(sorted(QUESTIONS)),
    "only-reassurance": (SupportAction.REASSURANCE_AND_ENCOURAGEMENT,),
}
"""The known-groups agents, by what they do at every turn, each action as often as the others."""
ABSTAINS = (SupportAction.FEELING_REFLECTION, SupportAction.OPEN_EXPLORATION)
"""What the bank's note asks for where no skill fits: a sentence on what was heard, and an open question."""
SAFETY = SupportAction.SAFETY_CHECK_AND_REFERRAL
SEEKER_TURNS = 3
_SAY = re.compile(r"Say: \u201c(.+?)\u201d(?= \(Wait: |$)", re.DOTALL)
_WAIT = re.compile(r"\(Wait: [^()]*\.\)$")


class ActionAgent:
    """Draws an action from a policy by the state it reads; has no bank and no risk rail, but notes the risk it read."""

    def __init__(self, name: str, policy: Policy, reader: "Reader", desk: "RiskDesk", wording: Wording) -> None:
        """Take the policy, what it reads with, and its words."""
        self._name, self._policy = name, policy
        self._reader, self._desk, self._wording = reader, desk, wording

    @property
    def name(self) -> str:
        """Name, encoder and phrases."""
        return f"{self._name} (encoder {self._reader.version}, phrases {self._wording.version})"

    async def reply(self, talk: Sequence[Message], rng: random.Random) -> AgentReply:
        """Answer with one action of the policy."""
        conversation = as_conversation(talk)
        reading = self._reader.read(_turns(conversation))
        state = STATES[int(reading.states[0].argmax())]
        risk = self._desk.assess(conversation, reading.risk[[*range(1, len(reading.risk)), 0]])
        chances = self._policy(state)
        action = rng.choices(list(chances), weights=list(chances.values()))[0]
        text = self._wording.line(action, state, said_in(talk), rng)
        return AgentReply(text=text, actions=(action,), risk=risk.level)


def _turns(conversation: Conversation) -> list:
    """Return the newest seeker turn in its context and the two before it bare, as `classify.read` reads them."""
    newest, *earlier = reversed(conversation.seeker_indices[-SEEKER_TURNS:])
    return [
        conversation.turn_with_context(newest), *(bare(conversation.turns[i]) for i in reversed(earlier)),
    ]  # fmt: skip


def human_policy(counts: HumanActions | None = None) -> Policy:
    """Return the policy of the human supporters of ESConv and FailedESConv."""
    found = counts or load_human_actions()
    shares = {state: found.shares(state) for state in SeekerState}
    return shares.__getitem__


def only_policy(actions: Sequence[SupportAction]) -> Policy:
    """Return a policy that takes each of `actions` as often, whatever the state."""
    chances = {action: 1 / len(actions) for action in actions}
    return lambda _: chances


class BankAgent:
    """Selects a skill at each turn and says its next step; the risk rail comes before that."""

    def __init__(self, source: SkillSource, wording: Wording, name: str = "bank") -> None:
        """Take where skills come from and the words for steps that have none."""
        self._source, self._wording, self._name = source, wording, name

    @property
    def name(self) -> str:
        """Name and phrases; the bank stands in `run.json` by itself."""
        return f"{self._name} (phrases {self._wording.version})"

    async def reply(self, talk: Sequence[Message], rng: random.Random) -> AgentReply:
        """Answer as the selection for this moment says."""
        selection = await self._source.select(talk)
        return follow(selection, said_in(talk), self._wording, rng)


class Step(NamedTuple):
    """One recommended step of a selected skill."""

    skill: SkillChoice
    action: SupportAction
    say: str

    def is_fresh(self, said: Collection[str]) -> bool:
        """Whether it has words of its own that were not said before, nor nearly so."""
        return bool(self.say) and fresh(self.say, said)


def follow(selection: Selection, said: Collection[str], wording: Wording, rng: random.Random) -> AgentReply:
    """Turn a selection into a reply, risk first.

    At high risk only the fixed text is said. At elevated risk the safety check comes first, unless the question has
    been put and answered; once it has been made in these words the talk goes on with the skill, as the bank's guidance
    has it, and the check is not repeated. Then: the first step of the best skill that is not to wait and whose words
    were not said before; where all were, the first that is not to wait, in words of the library.
    """
    base = AgentReply(
        text="",
        skills=tuple(UsedSkill(name=s.name, score=s.score, uri=s.uri) for s in selection.skills),
        risk=selection.risk.level,
        bank_version=selection.bank_version,
    )
    risk = selection.risk
    if risk.level == "high":
        return base.model_copy(update={"text": risk.say, "actions": (SAFETY,), "rail": "fixed"})
    if risk.level == "elevated" and not risk.asked and risk.say not in said:
        return base.model_copy(update={"text": risk.say, "actions": (SAFETY,), "rail": "check"})
    state = selection.states[0].state
    if not selection.skills:
        words = " ".join(wording.line(action, state, said, rng) for action in ABSTAINS)
        return base.model_copy(update={"text": words, "actions": ABSTAINS})
    step = _next_step(selection, said)
    text = step.say if step.is_fresh(said) else wording.line(step.action, state, said, rng)
    return base.model_copy(update={"text": text, "actions": (step.action,), "followed": step.skill.name})


def _next_step(selection: Selection, said: Collection[str]) -> Step:
    """Return the first step that may be taken now and has fresh words; else the first that may be; else the first."""
    elevated = selection.risk.level == "elevated"
    steps = [
        (Step(skill, each.action, said_by(each)), bool(_WAIT.search(each.how)))
        for skill in selection.skills
        for each in skill.next_actions
        if not (elevated and _asks_again(each, selection.risk))
    ]
    due = [step for step, waits in steps if not waits] or [step for step, _ in steps]
    if not due:  # a skill whose every step was the check
        first = selection.skills[0]
        return Step(first, SupportAction.EMOTIONAL_VALIDATION, "")
    return next((step for step in due if step.is_fresh(said)), due[0])


def _asks_again(step: NextAction, risk: Risk) -> bool:
    """Whether a step would put the safety question again, after the check; a referral does not."""
    if step.action != SAFETY:
        return False
    return not risk.asked or asked(said_by(step)) is not None


def said_by(action: NextAction) -> str:
    """Return the line to say that stands in a recommended action; empty where there is none."""
    found = _SAY.search(action.how)
    return found[1] if found else ""


def said_in(talk: Sequence[Message]) -> frozenset[str]:
    """Return what the supporter has said in a talk, whole replies."""
    return frozenset(message.content for message in talk if message.role == "supporter")


def action_agent(name: str, reader: "Reader", desk: "RiskDesk", wording: Wording) -> ActionAgent:
    """Return `no-skill` or a known-groups agent by name."""
    policy = human_policy() if name == "no-skill" else only_policy(ONLY[name])
    return ActionAgent(name, policy, cast("Reader", reader), desk, wording)
