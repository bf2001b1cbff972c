"""Labelled dialogues + the user's corpus copy → one `SupportTurn` per supporter turn between two seeker turns.

What the outcome model is fitted on and what the selection figures are counted over. Holds labels and counts; the
words themselves stay in the corpus.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from ..skills_bank.models import Message
from ..skills_bank.moment import RECENT, Moment
from ..skills_bank.taxonomy import Polarity, ResponseChange, Scenario, SeekerState, SupportAction, polarity
from .corpus import read_corpus
from .labels import DialogueLabels, Split, load_labels


class SupportTurn(NamedTuple):
    """A supporter turn with what stood before it and what came after."""

    dialogue: str
    index: int
    """Place of the supporter turn among the dialogue's turns, from 0."""
    scenario: Scenario
    state: SeekerState
    actions: tuple[SupportAction, ...]
    change: ResponseChange
    moment: Moment

    @property
    def polarity(self) -> Polarity:
        """Polarity of the change that followed."""
        return polarity(self.change)


def dialogue_turns(shared: Path, splits: Iterable[Split]) -> dict[str, tuple[DialogueLabels, tuple[Message, ...]]]:
    """Return labels and turns (utterances of one speaker joined) of every dialogue in `splits`, by dialogue id.

    Raises:
        CorpusError: The corpus is absent under `shared`/data/esconv.
    """
    chosen = set(splits)
    labels = {d.id: d for d in load_labels() if d.split in chosen}
    found: dict[str, tuple[DialogueLabels, tuple[Message, ...]]] = {}
    for split in sorted(chosen):
        for dialogue in read_corpus(shared / "data" / "esconv" / f"{split}.jsonl").dialogues:
            mine = labels[dialogue.id]
            found[dialogue.id] = (
                mine,
                tuple(
                    Message(
                        role=turn.speaker,
                        content=dialogue.text(turn.utterances),
                    )
                    for turn in mine.turns
                ),
            )
    return found


def support_turns(dialogues: Mapping[str, tuple[DialogueLabels, tuple[Message, ...]]]) -> list[SupportTurn]:
    """Return every supporter turn that stands between two seeker turns, with its gold moment."""
    found: list[SupportTurn] = []
    for labels, messages in dialogues.values():
        found += _of_dialogue(labels, messages)
    return found


def _of_dialogue(labels: DialogueLabels, messages: tuple[Message, ...]) -> list[SupportTurn]:
    found: list[SupportTurn] = []
    actions: list[tuple[SupportAction, ...]] = []
    states: list[SeekerState] = []
    words = 0
    for i, turn in enumerate(labels.turns):
        if turn.speaker == "seeker":
            assert turn.state is not None
            states.append(turn.state)
            words += len(messages[i].content.split())
            continue
        between = 0 < i < len(labels.turns) - 1
        if turn.change is not None and between and states and labels.turns[i - 1].speaker == "seeker":
            before = messages[i - 1].content
            moment = Moment(
                supporter_turns=len(actions),
                recent=tuple(actions[-RECENT:]),
                previous_state=states[-2] if len(states) > 1 else None,
                words=len(before.split()),
                words_so_far=words,
                asks="?" in before,
            )
            found.append(SupportTurn(labels.id, i, labels.scenarios[0], states[-1], turn.actions, turn.change, moment))
        actions.append(turn.actions)
    return found
