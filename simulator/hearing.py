"""What a local seeker hears in a supporter's reply: actions, and three faults.

The encoder's action head reads the reply with the end of the seeker's own message before it, one text a run: the
quantised encoder rounds over a whole batch, and what somebody hears must not depend on who else is listening. Only the
end of the message is read because that costs a third less time and loses little (docs/simulator.md).
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from ..pipeline.local_annotator import CARD_FILE, LocalCard, chosen_actions
from ..pipeline.local_annotator import data_folder as annotator_folder
from ..skills_bank.encoder import Turn
from ..skills_bank.models import Message
from ..skills_bank.taxonomy import SeekerState, SupportAction

if TYPE_CHECKING:
    from ..skills_bank.encoder import Encoder
    from ..skills_bank.fake_encoder import FakeEncoder
    from .reader import Reader

ACTIONS, STATES = list(SupportAction), list(SeekerState)
CONTEXT_WORDS = 10
"""Words of the seeker's message that are read before the reply."""
KEPT = 4096
ALIKE = 0.8
"""Share of a reply's word triples that stood in an earlier one, from which it is a repetition."""
SURE, NEVER = 0.5, 0.03
"""A reply is off topic where one scenario is at least `SURE` and the talk's own is at most `NEVER`, and no word of
content was said before."""
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_FUNCTION = frozenset(
    "about above after again against all also am an and any are around as at away be because been before being both "
    "but by can could did do does doing done down each even ever every few for from get gets getting go goes going got "
    "had has have having he her here hers him his how i if in into is it its just know let like made make makes many "
    "me might more most much must my need never no nor not now of off often on once one only or other our out over "
    "own people perhaps please quite rather really right said same say see seem seems she should since so some "
    "something sometimes soon sort still such sure take tell than thank thanks that the their them then there these "
    "they thing things think this those though through time to today together too try under until up us very want "
    "was way we well were what when where whether which while who whom why will with without would yes yet you "
    "your".split()
)


class Heard(NamedTuple):
    """What was heard in one reply."""

    actions: dict[SupportAction, float]
    """Those above their threshold with their chances, likeliest first; at least one unless the reply is empty."""
    empty: bool = False
    repeated: bool = False
    off_topic: bool = False

    @property
    def faults(self) -> tuple[str, ...]:
        """The faults by name."""
        return tuple(name for name in ("empty", "repeated", "off_topic") if getattr(self, name))


class Ear:
    """Hears replies, and reads the state of a seeker's words. Holds no state of any talk; safe to share."""

    def __init__(self, encoder: "Encoder | FakeEncoder | Reader", card: LocalCard) -> None:
        """Take the encoder, and the card with the thresholds of the actions."""
        self._encoder = encoder
        self._thresholds = np.array([card.thresholds[action] for action in ACTIONS])
        self.version: str = encoder.version
        self._read = lru_cache(KEPT)(self._one)
        self._picked = lru_cache(KEPT)(self._pick)

    @classmethod
    def load(cls, encoder: "Encoder | FakeEncoder | Reader | None" = None) -> Self:
        """Load the shipped thresholds, and the shipped encoder where none is given.

        Raises:
            ModelError: A file is missing or altered.
        """
        from ..skills_bank.encoder import Encoder

        return cls(encoder or Encoder.load(threads=1), LocalCard.load(annotator_folder() / CARD_FILE))

    def hear(self, talk: Sequence[Message]) -> Heard:
        """Hear the last message of `talk`, which is the supporter's."""
        text = talk[-1].content
        words = content_words(text)
        actions = self.actions(talk)
        if not actions:
            return Heard({}, empty=True)
        _, scenarios = self._read("supporter", text, _end_of(talk[:-1]))
        earlier = [m.content for m in talk[:-1] if m.role == "supporter"]
        return Heard(
            actions=actions,
            repeated=any(alike(text, said) >= ALIKE for said in earlier),
            off_topic=bool(words) and self._off_topic(scenarios, words, talk),
        )

    def actions(self, talk: Sequence[Message]) -> dict[SupportAction, float]:
        """Return the actions heard in the last message of `talk`, likeliest first; none where it has no words."""
        text = talk[-1].content
        if not _WORD.search(text):
            return {}
        return dict(self._picked(text, _end_of(talk[:-1])))

    def state(self, text: str) -> SeekerState:
        """Return the likeliest state of a seeker's words, read without what came before."""
        return STATES[int(self._read_states(text).argmax())]

    def _pick(self, text: str, before: str) -> tuple[tuple[SupportAction, float], ...]:
        chances, _ = self._read("supporter", text, before)
        return tuple((ACTIONS[i], round(float(chances[i]), 4)) for i in chosen_actions(chances, self._thresholds))

    def _off_topic(self, scenarios: NDArray[np.floating], words: frozenset[str], talk: Sequence[Message]) -> bool:
        if float(scenarios.max()) < SURE:
            return False
        said = [m.content for m in talk if m.role == "seeker"]
        if words & frozenset(word for text in said for word in content_words(text)):
            return False
        own = self._dialogue(tuple(said))
        return int(own.argmax()) != int(scenarios.argmax()) and float(own[int(scenarios.argmax())]) <= NEVER

    def _one(self, role: str, text: str, before: str) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        context = (("seeker", before),) if before else ()
        row = self._encoder.read([Turn("supporter" if role == "supporter" else "seeker", text, context)])
        return (row.actions if role == "supporter" else row.states)[0], row.scenarios[0]

    def _read_states(self, text: str) -> NDArray[np.floating]:
        return self._read("seeker", text, "")[0]

    def _dialogue(self, said: tuple[str, ...]) -> NDArray[np.floating]:
        return self._encoder.read_dialogue([("seeker", text) for text in said])


def _end_of(talk: Sequence[Message]) -> str:
    """Return the last words of the seeker before the reply."""
    last = next((m.content for m in reversed(talk) if m.role == "seeker"), "")
    return " ".join(last.split()[-CONTEXT_WORDS:])


@lru_cache(maxsize=2048)
def content_words(text: str) -> frozenset[str]:
    """Return the words of a text that carry content, in lower case and without a plural s."""
    words = (word.lower().replace("’", "'") for word in _WORD.findall(text))
    return frozenset(word.rstrip("s") for word in words if len(word) > 2 and word.split("'")[0] not in _FUNCTION)


def alike(text: str, earlier: str) -> float:
    """Return the share of a text's word triples that stand in an earlier one; of its words, where it has fewer."""
    triples, others = _triples(text), _triples(earlier)
    return len(triples & others) / len(triples) if triples else 0.0


@lru_cache(maxsize=2048)
def _triples(text: str) -> frozenset[tuple[str, ...]]:
    words = [word.lower() for word in _WORD.findall(text)]
    return frozenset(tuple(words[i : i + 3]) for i in range(max(1, len(words) - 2))) if words else frozenset()
