"""Input messages → a checked, windowed `Conversation`.

A host hands over a list of messages (newest last) or a single seeker line. Everything that cannot be used is an
`InputError` that names the message and the fix; what passes is trusted by the modules behind it.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from .encoder import Turn
from .errors import InputError
from .models import Message

MAX_MESSAGE_CHARS = 20_000
MAX_TOTAL_CHARS = 400_000
MAX_MESSAGES = 2_000
WINDOW_TURNS = 40
WINDOW_CHARS = 20_000
CONTEXT_TURNS = 2
LANGUAGE_SAMPLE_CHARS = 1_500

_ROLES: dict[str, Literal["seeker", "supporter"]] = {
    "seeker": "seeker",
    "user": "seeker",
    "supporter": "supporter",
    "assistant": "supporter",
}


class Conversation(BaseModel):
    """A checked conversation: alternating turns, oldest first, with at least one turn of the seeker.

    `turns` is the whole conversation, which the risk patterns read; `window` is the recent part that the encoder and
    the ranking read. Contents are as written, less control characters.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    turns: tuple[Message, ...] = Field(min_length=1)
    start: int = Field(ge=0, description="Index in `turns` at which the window begins.")
    language: str = Field(description="'en', the name of another language or script, or 'unknown'.")
    note: str | None = Field(default=None, description="What was cut from the window, if anything was.")

    @property
    def window(self) -> tuple[Message, ...]:
        """The most recent turns."""
        return self.turns[self.start :]

    @cached_property
    def seeker_indices(self) -> tuple[int, ...]:
        """Positions in `turns` of all seeker turns."""
        return tuple(i for i, turn in enumerate(self.turns) if turn.role == "seeker")

    @property
    def seeker_turns(self) -> tuple[Message, ...]:
        """All turns of the seeker."""
        return tuple(turn for turn in self.turns if turn.role == "seeker")

    @property
    def supporter_turns(self) -> tuple[Message, ...]:
        """All turns of the supporter."""
        return tuple(turn for turn in self.turns if turn.role == "supporter")

    @property
    def last_seeker(self) -> Message:
        """The newest turn of the seeker."""
        return self.turns[self.seeker_indices[-1]]

    @property
    def is_english(self) -> bool:
        """Whether the seeker's words look English; 'unknown' (too short to tell) does not count as another language."""
        return self.language in {"en", "unknown"}

    def turn_with_context(self, index: int) -> Turn:
        """Return turn `index` of `turns` with the two turns before it, as the encoder reads it."""
        turn = self.turns[index]
        before = self.turns[max(0, index - CONTEXT_TURNS) : index]
        return Turn(turn.role, turn.content, tuple((m.role, m.content) for m in before))

    def recent_seeker(self, n: int = 3) -> tuple[Turn, ...]:
        """Return the last `n` seeker turns with their context, oldest first."""
        return tuple(self.turn_with_context(i) for i in self.seeker_indices[-n:])


def as_conversation(messages: str | Sequence[Mapping[str, object] | Message]) -> Conversation:
    """Check `messages` and return them as a `Conversation`.

    Args:
        messages: `{"role": "seeker" | "supporter" (or "user" | "assistant"), "content": str}` mappings or `Message`
            objects, newest last, or one seeker line as a plain string. Other keys of a mapping are ignored.

    Raises:
        InputError: The input is empty, not text, too large, of an unknown role or without a seeker's words.
    """
    turns = _merge(_checked(messages))
    if not any(turn.role == "seeker" for turn in turns):
        raise InputError(
            "messages: none is from the seeker. Add at least one message with role 'seeker' (or 'user'), newest last."
        )
    start = _window_start(turns)
    note = None
    if start:
        note = (
            f"Long conversation: states and skills are read from the most recent {len(turns) - start} of {len(turns)} "
            "turns; the risk patterns read all of it."
        )
    return Conversation(turns=turns, start=start, language=_language_of(turns), note=note)


def clean(text: str) -> str:
    """Return `text` without control characters; tabs and line ends stay, lone surrogates become U+FFFD."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_printable(char) for char in text.replace("\r\n", "\n").replace("\r", "\n"))


def _printable(char: str) -> str:
    if char in "\n\t":
        return char
    category = unicodedata.category(char)
    if category == "Cs":
        return "\ufffd"
    return "" if category == "Cc" else char


def _checked(messages: object) -> list[Message]:
    if isinstance(messages, str):
        return [Message(role="seeker", content=_content(messages, "messages"))]
    if isinstance(messages, Mapping) or not isinstance(messages, Sequence) or isinstance(messages, bytes | bytearray):
        raise InputError(
            f"messages: expected a list of messages or one seeker line as text, got {type(messages).__name__}. "
            'Pass [{"role": "seeker", "content": "..."}], newest last.'
        )
    if not messages:
        raise InputError("messages: the list is empty. Pass at least one message of the seeker, newest last.")
    if len(messages) > MAX_MESSAGES:
        raise InputError(
            f"messages: {len(messages):,} messages, the limit is {MAX_MESSAGES:,}. Pass the most recent ones only."
        )
    checked = [_message(message, f"messages[{i}]") for i, message in enumerate(messages)]
    total = sum(len(message.content) for message in checked)
    if total > MAX_TOTAL_CHARS:
        raise InputError(
            f"messages: {total:,} characters in total, the limit is {MAX_TOTAL_CHARS:,}. Pass the most recent messages."
        )
    return checked


def _message(message: object, where: str) -> Message:
    if isinstance(message, Message):
        return Message(role=message.role, content=_content(message.content, f"{where}.content"))
    if not isinstance(message, Mapping):
        raise InputError(
            f'{where}: expected {{"role": ..., "content": ...}}, got {type(message).__name__}. '
            "Give every message a role and a content."
        )
    missing = [key for key in ("role", "content") if key not in message]
    if missing:
        raise InputError(
            f"{where}: {' and '.join(map(repr, missing))} missing. Give every message a role and a content."
        )
    role = message["role"]
    known = _ROLES.get(role.strip().lower()) if isinstance(role, str) else None
    if known is None:
        raise InputError(
            f"{where}.role: unknown role {_short(role)}. Use 'seeker' or 'supporter' ('user' and 'assistant' also "
            "work); leave out system and tool messages."
        )
    return Message(role=known, content=_content(message["content"], f"{where}.content"))


def _content(content: object, where: str) -> str:
    if not isinstance(content, str):
        raise InputError(f"{where}: expected text, got {type(content).__name__}. Pass the words as a string.")
    if len(content) > MAX_MESSAGE_CHARS:
        raise InputError(
            f"{where}: {len(content):,} characters, the limit is {MAX_MESSAGE_CHARS:,} a message. "
            "Shorten it or split it into several messages."
        )
    text = clean(content)
    if not text.strip():
        raise InputError(f"{where}: no text in it. Leave the message out or give it words.")
    return text


def _short(value: object) -> str:
    """Return a role for an error message; a long one may be misplaced text of a person and is not repeated."""
    return repr(value) if isinstance(value, str) and len(value) <= 20 else f"of type {type(value).__name__}"


def _merge(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Join consecutive messages of one speaker into one turn."""
    turns: list[list[str]] = []
    roles: list[Literal["seeker", "supporter"]] = []
    for message in messages:
        if roles and roles[-1] == message.role:
            turns[-1].append(message.content)
        else:
            roles.append(message.role)
            turns.append([message.content])
    return tuple(Message(role=role, content="\n".join(parts)) for role, parts in zip(roles, turns, strict=True))


def _window_start(turns: Sequence[Message]) -> int:
    """Return where the window begins: the most recent turns within the limits, the last seeker turn always in it."""
    last_seeker = max(i for i, turn in enumerate(turns) if turn.role == "seeker")
    start, chars = len(turns), 0
    for i in reversed(range(len(turns))):
        chars += len(turns[i].content)
        if (chars > WINDOW_CHARS or len(turns) - i > WINDOW_TURNS) and i < last_seeker:
            break
        start = i
    return start


# Language ----------------------------------------------------------------------------------------------------------

_SCRIPTS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("ja", re.compile(r"[\u3040-\u30ff]")),  # before Han: Japanese text mixes kana with Han characters
    ("zh", re.compile(r"[\u3400-\u9fff]")),
    ("ko", re.compile(r"[\u1100-\u11ff\uac00-\ud7af]")),
    ("cyrillic", re.compile(r"[\u0400-\u04ff]")),
    ("arabic", re.compile(r"[\u0600-\u06ff]")),
    ("hebrew", re.compile(r"[\u0590-\u05ff]")),
    ("devanagari", re.compile(r"[\u0900-\u097f]")),
    ("greek", re.compile(r"[\u0370-\u03ff]")),
    ("thai", re.compile(r"[\u0e00-\u0e7f]")),
)
_LATIN = re.compile(r"[A-Za-z\u00c0-\u024f]")
_WORD = re.compile(r"[a-z\u00e0-\u024f']+")

# The most frequent function words of each language, plus the short answers of chat; words that English shares with
# another language (me, no, die, so, en) are left out of the other list.
_STOP: dict[str, frozenset[str]] = {
    "en": frozenset(
        "i a the and you it is to of in that my me was for not with have this be are on what so do just like as at he "
        "she they we him her his them but or if about how when who been had has would can could will don't i'm it's "
        "i've can't didn't isn't that's hi hello hey ok okay yes yeah yep no nope thanks thank please bye am feel "
        "feeling really because know think want all from your there out up more now get got too very never im dont "
        "cant idk lol sad tired help maybe sure why going need alone everything nothing".split()
    ),
    "es": frozenset(
        "el la los las que de y en un una es no por con para mi me se lo muy pero como más estoy tengo esta hola "
        "gracias sí yo ya porque cuando todo nada quiero siento hace".split()
    ),
    "fr": frozenset(
        "le la les de des et je un une est que pas pour dans avec mon ma mes ne me suis ce c'est j'ai qui sur très "
        "mais bonjour merci oui non plus tout rien tu vous quand".split()
    ),
    "de": frozenset(
        "der das und ich ist nicht ein eine zu mit mir mich den auf für es sich auch wie aber habe bin hallo danke ja "
        "nein immer mein meine wenn nur noch alles nichts sehr kann".split()
    ),
    "pt": frozenset(
        "o os que de e em um uma não por com para meu minha eu me se muito mas como estou tenho olá obrigado obrigada "
        "sim já porque quando tudo nada quero sinto".split()
    ),
    "it": frozenset(
        "il lo gli che di e un una non per con mi si ma come sono ho molto ciao grazie sì io perché quando tutto "
        "niente voglio sento mia mio".split()
    ),
    "nl": frozenset(
        "de het een en ik is niet van dat met mijn op voor ben maar ook heb hallo dank ja nee als nog alles niets heel "
        "kan geen".split()
    ),
}


def detect_language(text: str) -> str:
    """Return 'en', another language or script, or 'unknown'; a light check, enough to say "this is not English".

    Scripts are told by their characters, Latin-script languages by their share of function words.
    """
    latin = len(_LATIN.findall(text))
    counts = {name: len(pattern.findall(text)) for name, pattern in _SCRIPTS}
    # A Han character carries about as much as a short Latin word, hence the factor.
    if counts and sum(counts.values()) * 3 > latin:
        present = [name for name, _ in _SCRIPTS if counts[name]]
        return "ja" if counts["ja"] else max(present, key=lambda name: counts[name])
    words = _WORD.findall(text.lower().replace("\u2019", "'"))
    if not words:
        return "unknown"
    share = {name: sum(word in stop for word in words) / len(words) for name, stop in _STOP.items()}
    best = max(share, key=lambda name: share[name])
    if share["en"] >= share[best]:
        return "en" if share["en"] >= 0.12 else "unknown"
    return best if share[best] >= 0.2 else "unknown"


def _language_of(turns: Sequence[Message]) -> str:
    """Read the last seeker turn; with too little in it to tell, the seeker's earlier words as well."""
    seeker = [turn.content for turn in turns if turn.role == "seeker"]
    language = detect_language(seeker[-1][:LANGUAGE_SAMPLE_CHARS])
    if language != "unknown" or len(seeker) == 1:
        return language
    return detect_language(" ".join(seeker[-6:])[-LANGUAGE_SAMPLE_CHARS:])
