"""Labels dialogues with a language model: one dialogue a call, all its turns at once, answers in compact codes.

The instructions are `annotate.prompt.md`; names, definitions and codes in it come from the taxonomy when it is loaded.
"""

import hashlib
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from functools import lru_cache
from string import Template
from typing import ClassVar, NamedTuple, Protocol, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ..skills_bank.errors import BudgetError, LLMError, LLMRefused
from ..skills_bank.taxonomy import (
    ACTION_INFO,
    CHANGE_INFO,
    SCENARIO_INFO,
    STATE_INFO,
    Polarity,
    ResponseChange,
    SeekerState,
    SupportAction,
    polarity,
)
from .annotator import Annotation, NotAnnotated, in_order, split_of
from .codes import ACTION_CODES, CHANGE_CODES, SCENARIO_CODES, STATE_CODES
from .corpus import Dialogue, Speaker
from .labels import DialogueLabels, Flag, TurnLabels
from .llm.client import LLMClient, LLMMessage, LLMRequest, Role
from .llm.prompts import Prompt, load_prompt

Label = TypeVar("Label")
PROMPT_FILE = "annotate.prompt.md"
FLAG_CODES: dict[str, Flag] = {"!sh": "self_harm", "!ha": "harm_or_abuse"}
MOST = 3
"""At most three scenarios a dialogue and three actions a turn (annotation guidelines)."""
MOST_REFUSED = 5
"""So many dialogues refused in a row, and none taken before, mean that the server takes none: a key or a model name."""
_TOKENS_A_TURN, _TOKENS_AROUND = 30, 200
_LETTER: dict[Speaker, str] = {"seeker": "S", "supporter": "H"}


class SeekerLabel(BaseModel):
    """What one seeker line of an answer says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: SeekerState
    flags: tuple[Flag, ...]


class SupporterLabel(BaseModel):
    """What one supporter line of an answer says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    actions: tuple[SupportAction, ...]
    change: ResponseChange | None


class AnnotationAnswer(BaseModel):
    """What the model answers; `answer_schema` binds it to the turns of one dialogue."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    expected: ClassVar[tuple[Speaker, ...]] = ()
    """Who speaks, turn by turn."""

    scenarios: tuple[str, ...] = Field(min_length=1, max_length=MOST, description="Scenario codes, the main one first.")
    turns: tuple[str, ...] = Field(description="One line of codes for every turn, in order.")

    @field_validator("scenarios")
    @classmethod
    def _known(cls, codes: tuple[str, ...]) -> tuple[str, ...]:
        for place, code in enumerate(codes, start=1):
            _of(SCENARIO_CODES, code, f"scenario {place}")
        if len(set(codes)) < len(codes):
            raise ValueError("the same scenario stands twice")
        return codes

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.turns) != len(self.expected):
            raise ValueError(f"the dialogue has {len(self.expected)} turns, the answer has {len(self.turns)}")
        for number in range(1, len(self.turns) + 1):
            self.label(number)
        return self

    def label(self, number: int) -> SeekerLabel | SupporterLabel:
        """Return what the line of turn `number` says.

        Raises:
            ValueError: It does not fit the turn; the message does not quote the line.
        """
        where, speaker = f"turn {number}", self.expected[number - 1]
        parts = self.turns[number - 1].split()
        codes = parts[2:]
        if parts[:2] != [str(number), _LETTER[speaker]] or not codes:
            raise ValueError(f"{where}: the line must begin with `{number} {_LETTER[speaker]}` and a code")
        if speaker == "seeker":
            flags: dict[Flag, None] = dict.fromkeys(_of(FLAG_CODES, code, where) for code in codes[1:])
            return SeekerLabel(state=_of(STATE_CODES, codes[0], where), flags=tuple(flags))
        names = codes[0].split("+")
        if len(names) > MOST:
            raise ValueError(f"{where}: {len(names)} actions, at most {MOST} are allowed")
        between = 1 < number < len(self.expected)
        if len(codes) != 1 + between:
            raise ValueError(f"{where}: {_CHANGE_WANTED if between else _NO_CHANGE}")
        actions = tuple(dict.fromkeys(_of(ACTION_CODES, name, where) for name in names))
        return SupporterLabel(actions=actions, change=_of(CHANGE_CODES, codes[1], where) if between else None)


_CHANGE_WANTED = "after the actions, joined by `+`, stands one change code and nothing else"
_NO_CHANGE = "it does not stand between two S turns, so its actions, joined by `+`, are all"


@lru_cache(maxsize=512)
def answer_schema(first: Speaker, turns: int) -> type[AnnotationAnswer]:
    """Return the schema of an answer on a dialogue of so many turns, which alternate.

    The count is checked within the schema, so that an answer of another length is sent back like any that does not fit.
    """
    second: Speaker = "supporter" if first == "seeker" else "seeker"

    class Answer(AnnotationAnswer):
        """Labels of one dialogue."""

        expected: ClassVar[tuple[Speaker, ...]] = tuple(second if i % 2 else first for i in range(turns))

    return Answer


class LLMAnnotator:
    """An `Annotator` that asks a language model.

    A dialogue the model could not label comes back as `NotAnnotated`. Two things end a run, since they are no fault of
    a dialogue: a cap that is reached, and a server that refused the first `MOST_REFUSED` dialogues.
    """

    def __init__(self, client: LLMClient, model: str, *, width: int = 64) -> None:
        """Ask `client` for `model`, with up to `width` dialogues under way."""
        self._client, self._model, self._width = client, model, width
        self._prompt = annotation_prompt()

    @property
    def name(self) -> str:
        """The model and the prompt's version."""
        return f"{self._model}, {self._prompt.label}"

    def about(self) -> str:
        """Say who labelled and that nobody has measured it here."""
        return (
            f"Labelled by the model {self._model} with the prompt {self._prompt.label}. How well it agrees with other "
            "annotators was not measured."
        )

    def request(self, dialogue: Dialogue) -> LLMRequest:
        """Return the call for one dialogue; for plans and dry runs, too."""
        turns = dialogue.turns()
        lines = (f"{turn.number} {_LETTER[turn.speaker]}: {_one_line(turn.content)}" for turn in turns)
        return LLMRequest(
            role=Role.ANNOTATOR,
            model=self._model,
            prompt=self._prompt.label,
            system=self._prompt.text,
            messages=(LLMMessage(role="user", content="\n".join(("<dialogue>", *lines, "</dialogue>"))),),
            max_tokens=_TOKENS_AROUND + _TOKENS_A_TURN * len(turns),
            subject=dialogue.id,
        )

    async def annotate(self, dialogues: AsyncIterable[Dialogue]) -> AsyncIterator[Annotation]:
        """Yield the labels of each dialogue, in order.

        Raises:
            BudgetError: A cap is reached; the dialogues before it are out.
            LLMRefused: The server took none of the first `MOST_REFUSED` dialogues.
        """
        refused, taken = 0, False
        async for found in in_order(dialogues, self._one, self._width):
            if isinstance(found, _Refusal):
                refused += 1
                if refused == MOST_REFUSED and not taken:
                    raise found.error
                yield NotAnnotated(dialogue=found.dialogue, reason=str(found.error))
                continue
            taken = taken or isinstance(found, DialogueLabels)
            yield found

    async def _one(self, dialogue: Dialogue) -> "Annotation | _Refusal":
        turns = dialogue.turns()
        schema = answer_schema(turns[0].speaker, len(turns))
        try:
            answer = await self._client.structured(self.request(dialogue), schema)
        except BudgetError:
            raise
        except LLMRefused as error:
            return _Refusal(dialogue.id, error)
        except LLMError as error:
            return NotAnnotated(dialogue=dialogue.id, reason=str(error))
        return as_labels(dialogue, answer)


class _Refusal(NamedTuple):
    dialogue: str
    error: LLMRefused


def as_labels(dialogue: Dialogue, answer: AnnotationAnswer) -> DialogueLabels:
    """Return an answer that fits the dialogue as its labels."""
    turns: list[TurnLabels] = []
    for turn in dialogue.turns():
        label = answer.label(turn.number)
        place = TurnLabels(turn=turn.number, speaker=turn.speaker, utterances=turn.utterances)
        turns.append(place.model_copy(update={name: getattr(label, name) for name in type(label).model_fields}))
    scenarios = tuple(SCENARIO_CODES[code] for code in answer.scenarios)
    return DialogueLabels(id=dialogue.id, split=split_of(dialogue), scenarios=scenarios, turns=tuple(turns))


@lru_cache(maxsize=1)
def annotation_prompt() -> Prompt:
    """Return the instructions with the taxonomy filled in; the version tells the filled text, taxonomy and all.

    Raises:
        KeyError: The file names something that is no label of the taxonomy.
    """
    file = load_prompt(PROMPT_FILE)
    text = Template(file.text).substitute(_fillings())
    return Prompt(name=file.name, text=text, version=hashlib.sha256(text.encode()).hexdigest()[:6])


def _fillings() -> dict[str, str]:
    def changes(side: Polarity) -> str:
        return _listed((code, CHANGE_INFO[c]) for code, c in CHANGE_CODES.items() if polarity(c) == side)

    return {
        **{member.value: code for code, member in (*STATE_CODES.items(), *ACTION_CODES.items(), *CHANGE_CODES.items())},
        "scenarios": _listed((code, SCENARIO_INFO[member]) for code, member in SCENARIO_CODES.items()),
        "states": _listed((code, STATE_INFO[member]) for code, member in STATE_CODES.items()),
        "actions": _listed((code, ACTION_INFO[member]) for code, member in ACTION_CODES.items()),
        "positive_changes": changes("positive"),
        "negative_changes": changes("negative"),
        "neutral_changes": changes("neutral"),
    }


def _listed(rows: "Iterable[tuple[str, _Entry]]") -> str:
    return "\n".join(f"- {code} {info.name}: {info.definition} E.g. \u201c{info.example}\u201d" for code, info in rows)


class _Entry(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def definition(self) -> str: ...
    @property
    def example(self) -> str: ...


def _of(codes: Mapping[str, Label], code: str, where: str) -> Label:
    """Return what a code stands for; the error does not quote it, since a model may answer with the seeker's words."""
    if code not in codes:
        raise ValueError(f"{where}: an unknown code; known here: {' '.join(codes)}")
    return codes[code]


def _one_line(text: str) -> str:
    # A turn that closes the tag itself must not end the material.
    return " ".join(text.split()).replace("</dialogue>", "</ dialogue>")
