"""Training items of the encoder: what is read, and what each head should answer.

An absent target is `None` (arrays: all zero with weight 0), and its head is not trained on that item. Items come from
labelled turns, from seeker lines of whole dialogues (for the scenario so far), from the taxonomy's own definitions and
examples, and from the composed risk lines.
"""

import json
import random
from collections.abc import Iterable, Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from ..skills_bank.encoder import Turn
from ..skills_bank.errors import CorpusError
from ..skills_bank.models import Message
from ..skills_bank.taxonomy import (
    ACTION_INFO,
    ESCONV_STRATEGIES,
    SCENARIO_INFO,
    STATE_INFO,
    ResponseChange,
    Scenario,
    SeekerState,
    SupportAction,
)
from .corpus import Dialogue, read_corpus
from .labels import DialogueLabels, Split, TurnLabels, read_annotations

RISK_SEEN = ("train", "dev", "extra", "first", *(f"writer_{letter}" for letter in "abcdefg"))
"""Files of composed risk lines by writers whose lines were read when the patterns were written."""
RISK_UNSEEN = ("second", *(f"writer_{letter}" for letter in "hij"))
"""Files by writers whose lines nobody looked at when the patterns were written; on these the signs are joined."""
RISK_WRITERS = RISK_SEEN + RISK_UNSEEN


def risk_lines_path(name: str) -> Path:
    """Return the path of a file of composed risk lines."""
    return Path(str(files("esc_skills.pipeline").joinpath(f"risk_lines.{name}.jsonl")))


RISK_TRAIN = tuple(map(risk_lines_path, RISK_WRITERS))
PRIMARY_WEIGHT = 3.0  # the primary scenario counts as much as three of the others in the target distribution
FLAGGED_HARM = 0.5  # the corpus flag "harm_or_abuse" does not say which of the two kinds it is


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Item(_Frozen):
    """One input with its targets."""

    turn: Turn | None = None
    lines: tuple[tuple[str, str], ...] = ()
    """Set instead of `turn`: a dialogue so far, read as one."""
    group: str
    """Dialogue id, or where a composed item comes from."""
    state: SeekerState | None = None
    actions: tuple[SupportAction, ...] = ()
    scenarios: tuple[Scenario, ...] = ()
    change: ResponseChange | None = None
    strategies: tuple[str, ...] = ()
    risk: tuple[float, float, float, float] | None = None


class RiskLine(_Frozen):
    """A composed conversation with the risk of its last message."""

    category: str
    messages: tuple[Message, ...]
    level: Literal["none", "elevated", "high"]
    kind: Literal["self_harm", "harm_to_others", "abuse"] | None = None


def turn_items(shared: Path, splits: Iterable[Split]) -> list[Item]:
    """Return one item for each labelled turn of the splits, in corpus order."""
    return [item for labels, dialogue in _labelled(shared, splits) for item in _turns(labels, dialogue)]


def dialogue_items(shared: Path, splits: Iterable[Split], views: int, seed: int) -> list[Item]:
    """Return `views` random beginnings of each dialogue plus the whole, with the scenarios as target.

    With no views only the whole dialogue comes back, which is what the scenario figure is measured on.
    """
    random_ = random.Random(seed)
    items: list[Item] = []
    for labels, dialogue in _labelled(shared, splits):
        lines = tuple((turn.speaker, dialogue.text(turn.utterances)) for turn in labels.turns)
        ends = [random_.randint(min(4, len(lines)), len(lines)) for _ in range(views)]
        items += [Item(lines=lines[:end], group=labels.id, scenarios=labels.scenarios) for end in (*ends, len(lines))]
        if views and dialogue.situation:
            told = (("seeker", dialogue.situation),)
            items.append(Item(lines=told, group=labels.id, scenarios=labels.scenarios))
    return items


def taxonomy_items() -> list[Item]:
    """Return the taxonomy's composed examples as turns, and the scenarios' definitions as dialogues."""
    items = [
        Item(turn=Turn("seeker", info.example), group="taxonomy", state=state) for state, info in STATE_INFO.items()
    ]
    items += [
        Item(turn=Turn("supporter", info.example), group="taxonomy", actions=(action,))
        for action, info in ACTION_INFO.items()
    ]
    for scenario, info in SCENARIO_INFO.items():
        for text in (info.definition, info.example):
            items.append(Item(lines=(("seeker", text),), group="taxonomy", scenarios=(scenario,)))
    return items


def read_risk_lines(path: Path) -> list[RiskLine]:
    """Read a JSONL file of composed risk lines.

    Raises:
        CorpusError: The file is absent.
    """
    if not path.is_file():
        raise CorpusError(f"No risk lines at {path}. They ship with the package as pipeline/risk_lines.*.jsonl.")
    rows = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    return [RiskLine.model_validate({key: row.get(key) for key in RiskLine.model_fields}) for row in rows]


def _labelled(shared: Path, splits: Iterable[Split]) -> Iterator[tuple[DialogueLabels, Dialogue]]:
    folder = shared / "data"
    for split in splits:
        dialogues = read_corpus(folder / "esconv" / f"{split}.jsonl").by_id()
        for labels in read_annotations(folder / "annotations", [split]):
            if labels.id in dialogues:
                yield labels, dialogues[labels.id]


def _turns(labels: DialogueLabels, dialogue: Dialogue) -> Iterator[Item]:
    said = [(label.speaker, dialogue.text(label.utterances)) for label in labels.turns]
    for i, (label, (_, text)) in enumerate(zip(labels.turns, said, strict=True)):
        yield Item(
            turn=Turn(label.speaker, text, tuple(said[max(0, i - 2) : i])),
            group=labels.id,
            state=label.state,
            actions=label.actions,
            scenarios=labels.scenarios,
            # The change is judged from the seeker turns around a supporter turn, so it can be read at the later one.
            change=labels.turns[i - 1].change if i and label.state else None,
            strategies=_strategies(dialogue, label),
            risk=_flagged(label) if label.state else None,
        )


def _strategies(dialogue: Dialogue, label: TurnLabels) -> tuple[str, ...]:
    spoken = dialogue.utterances[slice(*label.utterances)]
    return tuple(dict.fromkeys(line.strategy for line in spoken if line.strategy in ESCONV_STRATEGIES))  # type: ignore[misc]


def _flagged(label: TurnLabels) -> tuple[float, float, float, float]:
    harm = "harm_or_abuse" in label.flags
    # A flag does not tell the level either; the corpus holds few turns that would be high.
    return (float("self_harm" in label.flags), FLAGGED_HARM if harm else 0.0, float(harm), 0.0)


def teacher_texts(items: Sequence[Item]) -> list[str]:
    """Return the text whose frozen MiniLM embedding each item's embedding should stay near."""
    return [item.turn.content if item.turn else " ".join(text for _, text in item.lines) for item in items]
