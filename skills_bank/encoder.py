"""The ONNX encoder: one forward pass, several readings of each turn.

Serving needs numpy, onnxruntime and tokenizers; the last two are imported in `Encoder.load` only, so that a server
starts without them. The files beside it in `model/` are written by `esc_skills.pipeline.train`; `docs/encoder.md` is
the model card.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

from .errors import ModelError
from .taxonomy import Scenario, SeekerState, SupportAction

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from onnxruntime import InferenceSession
    from tokenizers import Tokenizer

    Floats = NDArray[np.float32]
    Ints = NDArray[np.int64]

RISK_KINDS: tuple[str, ...] = ("self_harm", "harm_to_others", "abuse")
RISK_OUTPUTS: tuple[str, ...] = (*RISK_KINDS, "high")
"""Column order of `Reading.risk`: each kind at any level, and whether the level is high."""

EMBEDDING_SIZE = 384


class Turn(NamedTuple):
    """One turn to read, with the two turns before it."""

    role: Literal["seeker", "supporter"]
    content: str
    context: tuple[tuple[str, str], ...] = ()
    """The previous two turns as (role, text), oldest first."""


class Reading(NamedTuple):
    """What the encoder says about n turns, one row each; columns follow the order of the taxonomy's enums."""

    embedding: "Floats"
    """(n, 384), L2-normalised."""
    states: "Floats"
    """(n, 15), calibrated softmax."""
    actions: "Floats"
    """(n, 17), calibrated sigmoids: a turn may do several things."""
    scenarios: "Floats"
    """(n, 18), calibrated softmax."""
    risk: "Floats"
    """(n, 4), sigmoids for `RISK_OUTPUTS`."""


class Limits(NamedTuple):
    """How many tokens of each part of a turn are read; the current turn comes first."""

    current: int = 64
    previous: int = 28
    earlier: int = 20
    dialogue: int = 120


SEEKER_MARK, SUPPORTER_MARK, DIALOGUE_MARK = "[unused1]", "[unused2]", "[unused3]"
"""One token says who speaks: entries that BERT's vocabulary keeps free, so no word's meaning leaks into it."""


class Encoded(NamedTuple):
    """Token ids and segment types of one input (0: what is read and pooled, 1: the turns before it)."""

    ids: list[int]
    types: list[int]


class Speller:
    """Turns text into the encoder's input; training and serving share it, so that they cannot differ."""

    def __init__(self, tokenizer: "Tokenizer", limits: Limits) -> None:
        self._tokenizer = tokenizer
        self.limits = limits
        names = ("[CLS]", "[SEP]", SEEKER_MARK, SUPPORTER_MARK, DIALOGUE_MARK)
        self._cls, self._sep, self._seeker, self._supporter, self._dialogue = map(self._id, names)

    @classmethod
    def from_file(cls, path: Path, limits: Limits) -> Self:
        """Read a `tokenizer.json`."""
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(path))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True  # a "[SEP]" typed by a person is text
        return cls(tokenizer, limits)

    def turns(self, turns: Sequence[Turn]) -> list[Encoded]:
        """Spell turns: `[CLS] who words [SEP]` and, as second segment, `who words who words [SEP]` of the context."""
        texts = [text for turn in turns for text in (turn.content, *(said for _, said in turn.context[-2:]))]
        words = iter(self._words(texts))
        return [self._turn(turn, words) for turn in turns]

    def dialogue(self, turns: Sequence[tuple[str, str]]) -> Encoded:
        """Spell the seeker's lines so far: the first ones, which tell the matter, and the last ones."""
        lines = self._words([text for role, text in turns if role == "seeker"])
        room = self.limits.dialogue
        telling = [line for line in lines if len(line) > _SHORT] or lines
        ids = _ends([token for line in telling for token in line], room // 2, room - room // 2)
        return Encoded([self._cls, self._dialogue, *ids, self._sep], [0] * (len(ids) + 3))

    def plain(self, texts: Sequence[str]) -> list[Encoded]:
        """Spell texts without any mark, as the untuned MiniLM expects them."""
        room = self.limits.current
        words = [_ends(tokens, room, 0) for tokens in self._words(list(texts))]
        return [Encoded([self._cls, *ids, self._sep], [0] * (len(ids) + 2)) for ids in words]

    def _turn(self, turn: Turn, words: Iterator[list[int]]) -> Encoded:
        limits = self.limits
        current = _ends(next(words), limits.current // 4, limits.current - limits.current // 4)
        ids = [self._cls, self._mark(turn.role), *current, self._sep]
        types = [0] * len(ids)
        context = turn.context[-2:]
        if context:
            rooms = (limits.earlier, limits.previous)[-len(context) :]
            before = [
                token
                for (role, _), room in zip(context, rooms, strict=True)
                for token in (self._mark(role), *_ends(next(words), 0, room))
            ]
            ids += [*before, self._sep]
            types += [1] * (len(before) + 1)
        return Encoded(ids, types)

    def _words(self, texts: list[str]) -> list[list[int]]:
        clipped = [text if len(text) <= _CHARACTERS else f"{text[:_HALF]} {text[-_HALF:]}" for text in texts]
        return [encoding.ids for encoding in self._tokenizer.encode_batch(clipped, add_special_tokens=False)]

    def _mark(self, role: str) -> int:
        return self._seeker if role == "seeker" else self._supporter

    def _id(self, name: str) -> int:
        token = self._tokenizer.token_to_id(name)
        if token is None:
            raise ModelError(f"The tokenizer has no token {name!r}; it is not the one the encoder was trained with.")
        return token


_SHORT = 4  # tokens; "yes", "thank you" tell nothing about the matter
_CHARACTERS = 4000  # beyond it only the ends are tokenised: 64 tokens are read at most, so the middle cannot matter
_HALF = _CHARACTERS // 2


def _ends(tokens: list[int], head: int, tail: int) -> list[int]:
    """Keep the first `head` and the last `tail` tokens: the state shows in the last clause (annotation guidelines)."""
    return tokens if len(tokens) <= head + tail else tokens[:head] + tokens[len(tokens) - tail :]


def padded(inputs: Sequence[Encoded]) -> tuple["Ints", "Ints"]:
    """Return ids and types as arrays, padded with 0 to the longest input."""
    import numpy as np

    width = max(len(item.ids) for item in inputs)
    ids = np.zeros((len(inputs), width), dtype=np.int64)
    types = np.zeros((len(inputs), width), dtype=np.int64)
    for row, item in enumerate(inputs):
        ids[row, : len(item.ids)] = item.ids
        types[row, : len(item.types)] = item.types
    return ids, types


MODEL_FILE, TOKENIZER_FILE, CARD_FILE = "encoder.onnx", "tokenizer.json", "encoder.json"
FORMAT = 1
_HEADS: dict[str, tuple[str, ...]] = {
    "states": tuple(SeekerState),
    "actions": tuple(SupportAction),
    "scenarios": tuple(Scenario),
    "risk": RISK_OUTPUTS,
}


class Encoder:
    """The trained encoder. One instance serves all calls: it holds no state between them and is thread-safe."""

    def __init__(self, session: "InferenceSession", speller: Speller, card: dict[str, Any]) -> None:
        """Hold what `load` has read and checked."""
        self._session = session
        self._speller = speller
        self._temperatures: dict[str, float] = card["temperatures"]
        self.version: str = card["version"]

    @classmethod
    def load(cls, folder: Path | None = None, threads: int = 1) -> Self:
        """Load the encoder of `folder`, by default the shipped one.

        Args:
            folder: Holds `encoder.json`, `encoder.onnx` and `tokenizer.json`.
            threads: Threads that one reading may use. One is best where several calls run at a time.

        Raises:
            ModelError: A file is missing, differs from its checksum, or was trained for another taxonomy.
        """
        import onnxruntime

        folder = folder or Path(str(files("esc_skills.skills_bank").joinpath("model")))
        card = _card(folder)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Threads that wait without spinning: the event loop of the server shares the core.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        model = _checked(folder, MODEL_FILE, card)
        session = onnxruntime.InferenceSession(
            model,
            options,
            providers=["CPUExecutionProvider"],
            # The fused operator is eight times slower on a CPU than the addition and the norm it stands for.
            disabled_optimizers=["SkipLayerNormFusion"],
        )
        _checked(folder, TOKENIZER_FILE, card)
        return cls(session, Speller.from_file(folder / TOKENIZER_FILE, Limits(**card["limits"])), card)

    def read(self, turns: Sequence[Turn]) -> Reading:
        """Read turns, each with its context; the rows of the answer follow the turns."""
        import numpy as np

        if not turns:
            sizes = (EMBEDDING_SIZE, *map(len, _HEADS.values()))
            return Reading(*(np.zeros((0, size), dtype=np.float32) for size in sizes))
        embedding, states, actions, scenarios, risk = self._run(self._speller.turns(turns))
        heat = self._temperatures
        return Reading(
            embedding=embedding,
            states=_softmax(states / heat["states"]),
            actions=_sigmoid(actions / heat["actions"]),
            scenarios=_softmax(scenarios / heat["turn_scenarios"]),
            risk=_sigmoid(risk / heat["risk"]),
        )

    def embed(self, texts: Sequence[str]) -> "Floats":
        """Return the embeddings of plain texts, read as seeker turns without context, (n, 384)."""
        import numpy as np

        inputs = self._speller.turns([Turn("seeker", text) for text in texts])
        found = np.zeros((len(texts), EMBEDDING_SIZE), dtype=np.float32)
        order = sorted(range(len(inputs)), key=lambda i: len(inputs[i].ids))
        for begin in range(0, len(order), _EMBED_BATCH):
            rows = order[begin : begin + _EMBED_BATCH]
            found[rows] = self._run([inputs[i] for i in rows])[0]
        return found

    def read_dialogue(self, turns: Sequence[tuple[str, str]]) -> "Floats":
        """Return the scenario distribution (18,) of the dialogue so far, (role, text) a turn; the seeker's are read."""
        logits = self._run([self._speller.dialogue(turns)])[3]
        return _softmax(logits / self._temperatures["scenarios"])[0]

    def _run(self, inputs: list[Encoded]) -> list["Floats"]:
        import numpy as np

        lengths = [len(item.ids) for item in inputs]
        order = sorted(range(len(inputs)), key=lambda i: lengths[i])
        parts: list[list[Floats]] = []
        for begin, end in _cuts([lengths[i] for i in order]):
            ids, types = padded([inputs[i] for i in order[begin:end]])
            parts.append(self._session.run(None, {"ids": ids, "types": types}))  # pyright: ignore[reportArgumentType]
        back = np.argsort(order)
        return [np.concatenate(columns)[back] for columns in zip(*parts, strict=True)]


_RUN_COST = 6  # tokens that one more run of the session costs as much time as (measured: 0.4 ms against 0.1 ms a token)


def _cuts(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Cut ascending lengths into runs so that padded tokens plus the cost of the runs are fewest."""
    best: list[tuple[int, int]] = [(0, 0)]
    for end in range(1, len(lengths) + 1):
        best.append(min((best[begin][0] + (end - begin) * lengths[end - 1] + _RUN_COST, begin) for begin in range(end)))
    cuts: list[tuple[int, int]] = []
    end = len(lengths)
    while end:
        cuts.append((best[end][1], end))
        end = best[end][1]
    return cuts[::-1]


_EMBED_BATCH = 32


def _card(folder: Path) -> dict[str, Any]:
    path = folder / CARD_FILE
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(
            f"No encoder at {path}. Reinstall esc-skills, or train one with `esc-skills train`."
        ) from error
    except ValueError as error:
        raise ModelError(f"{path} is no JSON: {error}. Reinstall esc-skills.") from error
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise ModelError(f"{path} is not an encoder card of format {FORMAT}. Reinstall esc-skills.")
    for head, labels in _HEADS.items():
        if tuple(card["labels"][head]) != labels:
            raise ModelError(f"{path} was trained for other {head} than the taxonomy's. Train it again.")
    return card


def _checked(folder: Path, name: str, card: dict[str, Any]) -> bytes:
    path = folder / name
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise ModelError(f"{path} is missing. Reinstall esc-skills.") from error
    if (found := hashlib.sha256(data).hexdigest()) != card["files"][name]:
        raise ModelError(f"{path} has sha256 {found}, but {CARD_FILE} expects {card['files'][name]}. Reinstall it.")
    return data


def _softmax(logits: "Floats") -> "Floats":
    import numpy as np

    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _sigmoid(logits: "Floats") -> "Floats":
    import numpy as np

    return (1.0 / (1.0 + np.exp(-np.clip(logits, -30.0, 30.0)))).astype(np.float32)
