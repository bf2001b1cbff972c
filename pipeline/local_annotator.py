"""Labels dialogues with the shipped encoder: no model call, no network.

State: the likeliest of the encoder (a Viterbi pass over neighbouring states was tried and gave less: the encoder reads
the two turns before already). Actions: those above their threshold. Change: `change_model`. Scenario: the encoder's
reading of the seeker's lines. Flags: `RiskDesk` on each seeker turn with what it answers. Thresholds and weights are
fitted by `esc-skills fit change`, the expected accuracy is measured by `esc-skills eval annotator`.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from ..skills_bank.conversation import MAX_MESSAGE_CHARS, as_conversation, clean
from ..skills_bank.encoder import Turn
from ..skills_bank.errors import ModelError
from ..skills_bank.models import Message
from ..skills_bank.risk import RiskDesk
from ..skills_bank.taxonomy import STATE_INFO, Scenario, SeekerState, SupportAction
from .annotator import Annotation, NotAnnotated, in_order, split_of
from .change_model import ChangeModel, change_features, decide, interventions
from .corpus import Dialogue
from .corpus import Turn as SpokenTurn
from .labels import DialogueLabels, Flag, TurnLabels
from .reading import DialogueReading, read_whole

if TYPE_CHECKING:
    from ..skills_bank.encoder import Encoder
    from ..skills_bank.fake_encoder import FakeEncoder

STATES, ACTIONS, SCENARIOS = list(SeekerState), list(SupportAction), list(Scenario)
MODEL_FILE, CARD_FILE, FIGURES_FILE = "change_model.npz", "local_annotator.json", "local_figures.json"
MOST = 3
"""At most three actions a turn and three scenarios a dialogue (annotation guidelines)."""
PROBE_TOLERANCE = 0.05
"""Processors round the quantised encoder differently in the second decimal; another trunk differs by far more."""
_FLAG_OF: dict[str | None, Flag] = {
    "self_harm": "self_harm", "harm_to_others": "harm_or_abuse", "abuse": "harm_or_abuse",
}  # fmt: skip


class LocalCard(BaseModel):
    """What was fitted beside the change model: `data/local_annotator.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    encoder: str
    """Version of the encoder it was fitted on; a later one will do if it reads the probe alike."""
    change_model: str
    """SHA-256 of `change_model.npz`."""
    thresholds: dict[SupportAction, float]
    places: dict[SupportAction, float]
    """Mean place of an action among those of its turn, 0 first to 1 last: the order actions are given in."""
    other_scenarios: float
    """Least chance of a scenario beside the primary one."""
    probe: tuple[float, ...]
    """What the encoder makes of the taxonomy's example of each state; tells whether it is still the same reader."""

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the card.

        Raises:
            ModelError: It is missing or no such card.
        """
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ModelError(f"No {path}. Reinstall esc-skills, or run `esc-skills fit change`.") from error
        except ValidationError as error:
            raise ModelError(f"{path} is no card of the local annotator ({error.error_count()} problems).") from error


class LocalFiguresFile(BaseModel):
    """`data/local_figures.json`: what was measured, and the lines in which the annotator tells it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    about: str
    report: dict[str, Any]


def data_folder() -> Path:
    """Return where the fitted files ship."""
    return Path(str(files("esc_skills.pipeline").joinpath("data")))


def probe(encoder: "Encoder | FakeEncoder") -> tuple[float, ...]:
    """Return the chance of its own state that the encoder gives each of the taxonomy's examples."""
    read = encoder.read([Turn("seeker", info.example) for info in STATE_INFO.values()])
    return tuple(round(float(chance), 4) for chance in read.states.diagonal())


class LocalAnnotator:
    """An `Annotator` that needs nothing but the package. It holds no state between dialogues and is thread-safe."""

    def __init__(
        self,
        encoder: "Encoder | FakeEncoder",
        desk: RiskDesk,
        change_model: ChangeModel,
        card: LocalCard,
        *,
        workers: int = 2,
        figures: str = "",
    ) -> None:
        """Take the loaded parts; `figures` is what `about` says."""
        self._encoder, self._desk, self._changes, self._card = encoder, desk, change_model, card
        self._thresholds = np.array([card.thresholds[action] for action in ACTIONS])
        self._workers, self._figures = workers, figures

    @classmethod
    def load(cls, encoder: "Encoder | None" = None, *, folder: Path | None = None, workers: int = 2) -> Self:
        """Load the shipped annotator.

        Args:
            encoder: Default: the shipped one, with one thread a reading.
            folder: Holds `change_model.npz` and `local_annotator.json`; default: the package's.
            workers: Dialogues read at the same time.

        Raises:
            ModelError: A file is missing or altered, or was fitted on an encoder that reads differently.
        """
        from ..skills_bank.encoder import Encoder

        folder, encoder = folder or data_folder(), encoder or Encoder.load(threads=1)
        card = LocalCard.load(folder / CARD_FILE)
        off = max(abs(a - b) for a, b in zip(probe(encoder), card.probe, strict=True))
        if off > PROBE_TOLERANCE:
            raise ModelError(
                f"{folder / CARD_FILE} was fitted on encoder {card.encoder}; encoder {encoder.version} reads the same "
                f"lines differently (by up to {off:.2f}). Run `esc-skills fit change`."
            )
        model = ChangeModel.load(folder / MODEL_FILE, card.change_model)
        return cls(encoder, RiskDesk.load(), model, card, workers=workers, figures=_figures(folder))

    @property
    def name(self) -> str:
        """`local@` with the versions of the encoder and the change model."""
        return f"local@{self._encoder.version}+{self._card.change_model[:6]}"

    def about(self) -> str:
        """Say how good the labels are, as `esc-skills eval annotator` measured it."""
        return self._figures

    async def annotate(self, dialogues: AsyncIterable[Dialogue]) -> AsyncIterator[Annotation]:
        """Yield the labels of each dialogue, in order; twice as many are held as are read at the same time."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(self._workers, thread_name_prefix="annotate") as pool:
            found = in_order(dialogues, lambda d: loop.run_in_executor(pool, self.one, d), 2 * self._workers)
            async for annotation in found:
                yield annotation

    def one(self, dialogue: Dialogue) -> Annotation:
        """Return the labels of one dialogue; they depend on nothing else."""
        try:
            return self.labels(dialogue, read_whole(self._encoder, dialogue))
        except Exception as error:  # whatever is wrong with one dialogue must not end a run of thousands
            return NotAnnotated(dialogue=dialogue.id, reason=f"could not be read ({type(error).__name__})")

    def labels(self, dialogue: Dialogue, reading: DialogueReading) -> DialogueLabels:
        """Return the labels of a dialogue that was read already."""
        rows = reading.rows
        between = interventions(reading)
        changes = dict(zip(between, decide(self.change_chances(reading)), strict=True)) if between else {}
        turns = [
            TurnLabels(
                turn=turn.number,
                speaker="supporter",
                utterances=turn.utterances,
                actions=self._actions(rows.actions[i]),
                change=changes.get(i),
            )
            if turn.speaker == "supporter"
            else TurnLabels(
                turn=turn.number,
                speaker="seeker",
                utterances=turn.utterances,
                state=STATES[int(rows.states[i].argmax())],
                flags=self._flags(reading.turns[max(0, i - 1) : i + 1], rows.risk[i]),
            )
            for i, turn in enumerate(reading.turns)
        ]
        return DialogueLabels(
            id=dialogue.id,
            split=split_of(dialogue),
            scenarios=chosen_scenarios(reading.scenarios, self._card.other_scenarios),
            turns=tuple(turns),
        )

    def change_chances(self, reading: DialogueReading) -> NDArray[np.float64]:
        """Return the distribution over the changes of every intervention of a dialogue."""
        return self._changes.chances(change_features(reading, interventions(reading)))

    def _actions(self, chances: NDArray[np.float32]) -> tuple[SupportAction, ...]:
        picked = [ACTIONS[i] for i in chosen_actions(chances, self._thresholds)]
        return tuple(sorted(picked, key=lambda action: (self._card.places[action], ACTIONS.index(action))))

    def _flags(self, said: Sequence[SpokenTurn], risk: NDArray[np.float32]) -> tuple[Flag, ...]:
        """Read one seeker turn, with the supporter turn it answers, for danger."""
        # Messages of many thousand characters are no talk; the desk refuses them, and their ends tell enough.
        texts = [clean(turn.content)[-MAX_MESSAGE_CHARS:].strip() for turn in said]
        if not texts[-1]:
            return ()
        messages = [Message(role=turn.speaker, content=text) for turn, text in zip(said, texts, strict=True) if text]
        found = self._desk.assess(as_conversation(messages), np.clip(risk[None, :].astype(np.float64), 0.0, 1.0))
        return (_FLAG_OF[found.kind],) if found.kind in _FLAG_OF else ()


def chosen_actions(chances: NDArray[np.floating], thresholds: NDArray[np.floating]) -> list[int]:
    """Return the places of the actions above their threshold, at most `MOST`; the likeliest where none is."""
    ratio = chances / thresholds
    best = [int(i) for i in np.argsort(-ratio, kind="stable")[:MOST] if ratio[i] >= 1]
    return best or [int(chances.argmax())]


def chosen_scenarios(chances: NDArray[np.floating], least: float) -> tuple[Scenario, ...]:
    """Return the primary scenario, then the others of at least `least`, at most `MOST` in all."""
    primary, *others = (int(i) for i in np.argsort(-chances, kind="stable")[:MOST])
    return (SCENARIOS[primary], *(SCENARIOS[i] for i in others if chances[i] >= least))


def _figures(folder: Path) -> str:
    path = folder / FIGURES_FILE
    if not path.is_file():
        return "Local annotator; its accuracy was not measured here. Run `esc-skills eval annotator --write PAGE`."
    return LocalFiguresFile.model_validate_json(path.read_text(encoding="utf-8")).about
