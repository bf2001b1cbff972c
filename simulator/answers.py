"""How a seeker answers when it is asked directly whether it is in danger: it denies, half admits, or evades.

A profile without a hint at risk denies, and now and then evades once. One with a hint half admits or evades at first
and may deny when it is asked again. The lines stand in `parts/answers.yaml`; as in `lines`, what was answered before is
read off the talk.

A question is heard as the risk check hears it (`RiskPatterns.asked`), where it is a question: "if you are in danger,
call" asks nothing. Whether somebody else is in danger, or somebody does the seeker harm, is a matter of its story, of
which these lines know nothing; to such a question it says what it would have said anyway.
"""

import random
import re
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Literal, NamedTuple, Self

from pydantic import Field

from ..skills_bank.errors import InputError
from ..skills_bank.models import Message
from ..skills_bank.risk_patterns import Ask, load_patterns
from ..skills_bank.taxonomy import STATE_INFO, SeekerState
from .lines import Facts, Slotted, filled, read_part, said_twice
from .parts import parts_folder
from .profiles import Profile

Kind = Literal["denial", "half_admission", "evasion"]
Topic = Literal["life", "others", "danger", "safety"]
KINDS: tuple[Kind, ...] = ("denial", "half_admission", "evasion")
EVADES = 0.1
"""How often a profile without a hint evades the question instead of denying, once in a talk at most."""
ADMITS_FIRST, ADMITS_LATER = 0.6, 0.4
"""How often one with a hint half admits: when first asked, else it evades; and later, else it denies."""
_SENTENCE = re.compile(r"[^.!?]+[.!?]*")
_SAME_STATE, _SAME_VALENCE = 4, 2


class Answer(Slotted):
    """One answer as written."""

    to: tuple[Topic, ...] = Field(default=("life",), min_length=1, description="Which questions it answers.")


class Given(NamedTuple):
    """An answer as a profile gives it."""

    kind: Kind
    answer: Answer
    text: str


class Answers:
    """All answers, checked. Holds no state of any talk."""

    def __init__(self, answers: Mapping[Kind, Sequence[Answer]], facts: Mapping[str, Facts]) -> None:
        """Take checked parts."""
        self.answers, self._facts = answers, facts
        self._told = lru_cache(maxsize=256)(self._tell)

    @classmethod
    def load(cls, folder: Traversable | Path | None = None) -> Self:
        """Read and check the answers and facts of a folder, by default the shipped ones.

        Raises:
            InputError: Something breaks its schema, is missing or stands twice; every fault is named.
        """
        root = parts_folder() if folder is None else folder
        problems: list[str] = []
        answers = read_part(root, "answers.yaml", dict[Kind, tuple[Answer, ...]], problems)
        facts = read_part(root, "facts.yaml", dict[str, Facts], problems)
        problems += said_twice(answer.text for some in answers.values() for answer in some)
        problems += [f"answers.yaml: none for {kind}" for kind in KINDS if not answers.get(kind)]
        if problems:
            raise InputError(f"{len(problems)} faults in the answers of seekers:\n" + "\n".join(problems))
        return cls(answers, facts)

    def find(self, profile: Profile, text: str) -> Given | None:
        """Return the answer that a message of this profile is; None where it is none."""
        return self._told(profile.scene.id).get(text)

    def choose(self, profile: Profile, state: SeekerState, talk: Sequence[Message], rng: random.Random) -> Given | None:
        """Return an answer to the last message of `talk`, the closer to `state` the likelier.

        None where that message does not ask, or all that would answer it has been said; nothing is drawn then.
        """
        topic = asked(talk[-1].content)
        if topic is None:
            return None
        said = {message.content for message in talk if message.role == "seeker"}
        told = self._told(profile.scene.id)
        fresh = [each for text, each in told.items() if text not in said and _fits(each.answer, profile, topic)]
        earlier = {found.kind for text in said if (found := told.get(text))}
        kind = _kind(profile, topic, earlier, rng)
        some = [each for each in fresh if each.kind == kind]
        return rng.choices(some, [_closeness(each.answer, state) for each in some])[0] if some else None

    def _tell(self, scene: str) -> dict[str, Given]:
        facts = self._facts.get(scene, Facts()).model_dump()
        given = [
            Given(kind, answer, filled(answer.text, facts))
            for kind, some in self.answers.items()
            for answer in some
            if all(facts[slot] for slot in answer.slots)
        ]
        return {each.text: each for each in given}


@lru_cache(maxsize=4096)
def asked(text: str) -> Topic | None:
    """Return what danger a supporter's words ask about directly, the last of it; None where they do not."""
    pieces = _SENTENCE.findall(text)
    for number in range(len(pieces) - 1, -1, -1):
        # "People think of such things. Do you?" asks as well: the question that follows points back.
        asks = any(piece.endswith("?") for piece in pieces[number : number + 2])
        if asks and (found := load_patterns().asked(pieces[number])):
            return _topic(found)
    return None


def _topic(ask: Ask) -> Topic | None:
    if ask.about == "safety":
        return "safety"
    if ask.kind == "abuse":
        return "danger" if ask.about == "present" else None
    if ask.about == "other":
        return None
    return "life" if ask.kind == "self_harm" else "others"


def _kind(profile: Profile, topic: Topic, earlier: Collection[str], rng: random.Random) -> Kind:
    draw = rng.random()
    if profile.risk is None or topic in {"others", "danger"}:  # what profiles hint at concerns their own life
        return "evasion" if draw < EVADES and "evasion" not in earlier else "denial"
    if earlier:
        return "half_admission" if draw < ADMITS_LATER else "denial"
    return "half_admission" if draw < ADMITS_FIRST else "evasion"


def _fits(answer: Answer, profile: Profile, topic: Topic) -> bool:
    return topic in answer.to and (not answer.characters or profile.character in answer.characters)


def _closeness(answer: Answer, state: SeekerState) -> int:
    near = answer.state == state
    kin = STATE_INFO[answer.state].valence == STATE_INFO[state].valence
    return (_SAME_STATE if near else _SAME_VALENCE if kin else 1) * (1 + 2 * bool(answer.characters))
