"""The reviewed patterns of `risk_patterns.yaml`: loading, checking and reading one turn with them.

A pattern is a set of regular expressions over a normalised sentence; a guard looks around a hit and lowers or voids it
(negation, hyperbole, quotation, another person, the past), in the manner of NegEx (Chapman et al. 2001). Every
repetition is bounded and no gap crosses a sentence, so a turn is read in time linear in its length.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from functools import cache, cached_property
from importlib.resources import files
from itertools import islice
from typing import Literal, NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, Field

from .helplines import RiskKind

Level = Literal["none", "elevated", "high"]
Strength = Literal["weak", "elevated", "high"]
About = Literal["self", "other"]
ReplyKind = Literal["evade", "partial", "deny", "affirm"]

REPLY_ORDER: tuple[ReplyKind, ...] = ("evade", "partial", "deny", "affirm")
RANK: Mapping[str, int] = {"none": 0, "weak": 1, "elevated": 2, "high": 3}
DENIAL = ("plain_denial", "denied_turn")
LIGHT = ("laugh", "trivial", "die_of_fright", "fiction", "at_work", "gaming", "trivial_kill")
"""Guards that speak of a whole turn."""
REPLY_SENTENCES = 3
MAX_SENTENCE_CHARS = 600
EXCERPT_CHARS = 120


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Matcher(_Frozen):
    """Regular expressions with the vocabulary already filled in, compiled on first use."""

    match: tuple[str, ...] = Field(min_length=1)

    @cached_property
    def regex(self) -> re.Pattern[str]:
        """All expressions as one alternation."""
        return re.compile("|".join(f"(?:{part})" for part in self.match))


class Guard(_Matcher):
    """What voids or lowers a hit."""

    id: str
    reason: str = Field(min_length=1)
    where: Literal["before", "start", "after", "sentence", "near", "turn"] = Field(
        description="Which text is looked at: the clause before the hit, all of its sentence before it, the rest after "
        "it, its sentence, its sentence with those next to it, or its turn."
    )
    cap: Strength | Literal["none"] = Field(description="The strength a guarded hit can have at most.")
    unless: str | None = Field(default=None, description="A sentence that matches this lifts the guard.")

    @cached_property
    def exception(self) -> re.Pattern[str] | None:
        """The compiled `unless`."""
        return re.compile(self.unless) if self.unless else None


class Pattern(_Matcher):
    """One reviewed sign of risk."""

    id: str
    level: Strength = Field(description="'weak' counts only where the encoder agrees.")
    kind: RiskKind
    about: About = "self"
    indirect: bool = Field(default=False, description="A hint that a clear denial clears up, not a disclosure.")
    reason: str = Field(min_length=1)
    guards: tuple[str, ...] = ()
    raise_if: str | None = Field(default=None, description="Lifts a hit to high where the turn matches this.")
    hit: tuple[str, ...] = Field(min_length=1, description="Lines that must be found by this pattern.")
    miss: tuple[str, ...] = Field(default=(), description="Lines that this pattern must not find at its level.")

    @cached_property
    def escalation(self) -> re.Pattern[str] | None:
        """The compiled `raise_if`."""
        return re.compile(self.raise_if) if self.raise_if else None


class Ask(_Matcher):
    """A supporter's direct question about danger."""

    id: str
    kind: RiskKind
    about: Literal["present", "past", "safety", "other"] = Field(
        description="'safety' questions turn yes and no round; 'other' asks about a third person."
    )
    hit: tuple[str, ...] = Field(min_length=1)
    miss: tuple[str, ...] = ()


class Reply(_Matcher):
    """How a seeker may answer a direct question; `hit` and `miss` as for patterns."""

    id: ReplyKind
    hit: tuple[str, ...] = Field(min_length=1)
    miss: tuple[str, ...] = ()


class Signal(NamedTuple):
    """One sign of risk found in a turn, after its guards."""

    id: str
    strength: Strength
    kind: RiskKind
    about: About
    indirect: bool
    lowered: bool
    """Whether a guard took the sign below its pattern's level: it lies in the past, say."""
    reason: str
    excerpt: str
    """A piece of the seeker's own words, for the answer only; never logged."""


class RiskPatterns(_Frozen):
    """The whole reviewed file."""

    format: Literal[1]
    reviewed: str
    vocabulary: dict[str, str]
    guards: tuple[Guard, ...]
    patterns: tuple[Pattern, ...]
    asks: tuple[Ask, ...]
    replies: tuple[Reply, ...]

    @cached_property
    def guard_by_id(self) -> dict[str, Guard]:
        """Guards by id."""
        return {guard.id: guard for guard in self.guards}

    @cached_property
    def reply_by_id(self) -> dict[str, Reply]:
        """Replies by id."""
        return {reply.id: reply for reply in self.replies}

    def signals(self, text: str) -> list[Signal]:
        """Return the signs of risk in one seeker turn, after guards, in reading order."""
        pieces = list(sentences(text))
        turn = _Turn([plain for _, plain in pieces])
        found: list[Signal] = []
        full: set[str] = set()
        for number, (original, plain) in enumerate(pieces):
            for pattern in self.patterns:
                # A sign found at its full strength is not looked for again: repetition adds nothing.
                if pattern.id in full:
                    continue
                strength = self._strength(pattern, plain, turn, number)
                if strength != "none":
                    found.append(_signal(pattern, strength, original))
                    if RANK[strength] >= RANK[pattern.level]:
                        full.add(pattern.id)
        return found

    def tone(self, text: str) -> Literal["denies", "light", "plain"]:
        """Whether a turn denies danger plainly, or laughs, names an everyday nuisance, or tells of fiction or work.

        Such a turn needs a clearer reading before statistics over its words may raise it. Where sentences name death or
        harm, each of them must have the tone: an exam or a laugh beside a plain statement takes nothing from it.
        """
        plains = [plain for _, plain in sentences(text)]
        named = [plain for plain in plains if self._danger.search(plain)]
        parts = [_Turn([plain]) for plain in named] or [_Turn(plains)]
        tones: tuple[tuple[Literal["denies", "light"], tuple[str, ...]], ...] = (("denies", DENIAL), ("light", LIGHT))
        for tone, names in tones:
            guards = [self.guard_by_id[name] for name in names]
            if all(any(_holds(guard, part) for guard in guards) for part in parts):
                return tone
        return "plain"

    @cached_property
    def _danger(self) -> re.Pattern[str]:
        return re.compile(rf"\b(?:{self.vocabulary['DANGER']})\b")

    def asked(self, text: str) -> Ask | None:
        """Return the last direct question about danger in a supporter turn, or None."""
        found = None
        for _, plain in sentences(text):
            for ask in self.asks:
                if ask.regex.search(plain):
                    found = ask
                    break
        return found

    def reply(self, text: str) -> ReplyKind | Literal["other"]:
        """Read how a seeker turn answers a direct question: by its first sentence, else by its second."""
        plains = [plain for _, plain in islice(sentences(text), REPLY_SENTENCES)]
        for plain in plains[:2]:
            for name in REPLY_ORDER:
                if self.reply_by_id[name].regex.search(plain):
                    # "Not really. Well. A bit": a denial taken back is none.
                    later = any(self.reply_by_id["partial"].regex.search(rest) for rest in plains[1:])
                    return "partial" if name == "deny" and later else name
        return "other"

    def _strength(self, pattern: Pattern, plain: str, turn: "_Turn", number: int) -> Strength | Literal["none"]:
        best: Strength | Literal["none"] = "none"
        for hit in pattern.regex.finditer(plain):
            level: Strength | Literal["none"] = pattern.level
            if pattern.escalation and turn.has(pattern.escalation):
                level = "high"
            for name in pattern.guards:
                guard = self.guard_by_id[name]
                if RANK[guard.cap] < RANK[level] and _guards(guard, hit, turn, number):
                    level = guard.cap
            if RANK[level] > RANK[best]:
                best = level
            if RANK[best] >= RANK[pattern.level]:
                break
        return best


class _Turn:
    """A whole turn in normal form; each expression is searched in it once, however many hits ask for it."""

    def __init__(self, plains: list[str]) -> None:
        self.plains = plains
        self._whole = " . ".join(plains)
        self._known: dict[tuple[re.Pattern[str], int], bool] = {}

    def has(self, expression: re.Pattern[str], near: int = -1) -> bool:
        """Whether the expression occurs in the turn, or in sentence number `near` and those next to it."""
        key = (expression, near)
        if key not in self._known:
            text = self._whole if near < 0 else " . ".join(self.plains[max(0, near - 1) : near + 2])
            self._known[key] = expression.search(text) is not None
        return self._known[key]


def _guards(guard: Guard, hit: re.Match[str], turn: _Turn, number: int) -> bool:
    """Whether the guard finds its words round the hit, in sentence `number` of the turn, and nothing lifts it."""
    if guard.where in {"turn", "near"}:
        near = number if guard.where == "near" else -1
        return turn.has(guard.regex, near) and not (guard.exception and turn.has(guard.exception, near))
    plain = turn.plains[number]
    if guard.where == "before":
        text = _clause_before(plain[: hit.start()], starts_with_i=hit[0].startswith("i "))
    elif guard.where == "start":
        text = plain[: hit.start()]
    else:
        text = plain[hit.end() :] if guard.where == "after" else plain
    if not guard.regex.search(text):
        return False
    return not (guard.exception and guard.exception.search(plain))


def _holds(guard: Guard, turn: _Turn) -> bool:
    return turn.has(guard.regex) and not (guard.exception and turn.has(guard.exception))


_CLAUSE_END = re.compile(
    r" but | because | although | though | then i | and (?=just |then |end |kill )"
    r"| and i (?=am|want|will|do|have|feel|just|can)"
)


def _clause_before(text: str, *, starts_with_i: bool) -> str:
    """Return the part of `text` after its last clause boundary, at most 120 characters.

    A hit that brings its own subject ("... and I will ...") begins a clause.
    """
    text = text[-120:]
    if starts_with_i and text.endswith(" and "):
        return ""
    ends = [m.end() for m in _CLAUSE_END.finditer(text)]
    return text[ends[-1] - 2 :] if ends and text[: ends[-1]].endswith("i ") else text[ends[-1] :] if ends else text


def _signal(pattern: Pattern, strength: Strength, original: str) -> Signal:
    excerpt = " ".join(original.split())
    if len(excerpt) > EXCERPT_CHARS:
        excerpt = excerpt[: EXCERPT_CHARS - 1].rstrip() + "…"
    lowered = RANK[strength] < RANK[pattern.level]
    return Signal(pattern.id, strength, pattern.kind, pattern.about, pattern.indirect, lowered, pattern.reason, excerpt)


# Normalisation ------------------------------------------------------------------------------------------------------

_SENTENCE_END = re.compile(r"(?<!\.)\.(?![.\w])|[!?;\n。！？]+")
_QUOTES = str.maketrans(
    {"’": "'", "‘": "'", "ʼ": "'", "`": "'", "´": "'", "“": '"', "”": '"', "„": '"', "«": '"', "»": '"'}
)
_SINGLE_QUOTED = re.compile(r"(?<![\w'])'(?=\w(?:[^']|(?<=\w)'(?=\w)){3,200}'(?!\w))|(?<=[\w.,!?])'(?=[\s,.!?;:)]|$)")
_STRETCHED = re.compile(r"([a-z])\1{2,}")
_TOKEN = re.compile(r"[^\W_]+(?:'[^\W_]+)*(?:[*@!$][^\W_]+)*|\"|[,:()–—-]|\.{2,}|…|[😂🤣💀😭😅🙃]")
_PAUSES = frozenset(",:()–—-…")

_ELIDED = re.compile(
    r"\b(?:(?<!the )(hell|shell)(?= (?:be|kill|end|hang|never|hurt|die|jump)\b)"
    r"|(?<!feel )(ill)(?= (?:be|do|kill|never|end|hang|jump|die|finally|probably)\b))"
)
"""Words that are a pronoun with "will" where the apostrophe was left out and a verb follows."""
_ELIDED_FULL: Mapping[str, str] = {"ill": "i will", "hell": "he will", "shell": "she will"}

_WORDS: Mapping[str, str] = {
    "im": "i am", "ive": "i have", "dont": "do not", "cant": "can not", "cannot": "can not", "wont": "will not",
    "didnt": "did not", "doesnt": "does not", "isnt": "is not", "wasnt": "was not", "wouldnt": "would not",
    "couldnt": "could not", "shouldnt": "should not", "havent": "have not", "hasnt": "has not", "hadnt": "had not",
    "arent": "are not", "werent": "were not", "aint": "is not", "ain't": "is not", "can't": "can not",
    "won't": "will not", "shan't": "will not", "wanna": "want to", "gonna": "going to", "gotta": "got to",
    "tryna": "trying to", "gunna": "going to", "finna": "going to", "imma": "i am going to", "ima": "i am going to",
    "wana": "want to", "meself": "myself", "myslef": "myself", "me-self": "myself", "mysef": "myself",
    "ion": "i do not",
    "noone": "no one", "no1": "no one", "any1": "anyone", "every1": "everyone", "some1": "someone", "wud": "would",
    "cud": "could", "shud": "should", "tmrw": "tomorrow", "tmr": "tomorrow", "tomoz": "tomorrow", "2moro": "tomorrow",
    "2nite": "tonight", "2night": "tonight", "2day": "today", "b4": "before", "wont've": "will not have",
    "nite": "night",
    "plz": "please", "pls": "please", "sry": "sorry", "thx": "thanks", "ty": "thanks", "ma": "mom", "mam": "mom",
    "wudnt": "would not", "dnt": "do not", "dunno": "i do not know", "wouldve": "would have", "shouldve": "should have",
    "ded": "dead", "wen": "when", "bin": "been", "thinkin": "thinking", "toppin": "topping", "myself's": "myself",
    "nobody'd": "nobody would", "noone'd": "no one would", "iv": "i have", "yous": "you", "prolly": "probably",
    "kinda": "kind of", "sorta": "sort of", "outta": "out of", "lemme": "let me", "u": "you",
    "ur": "your", "r": "are", "n": "and", "ya": "you", "youre": "you are", "theyre": "they are", "hes": "he is",
    "shes": "she is", "thats": "that is", "theres": "there is", "whats": "what is", "its": "it is", "it's": "it is",
    "id": "i would", "bc": "because", "cuz": "because", "cause": "because", "coz": "because", "cos": "because",
    "rn": "right now", "tn": "tonight", "tonite": "tonight", "kms": "kms", "ppl": "people", "abt": "about",
    "thru": "through", "tho": "though", "nobodys": "nobody is", "everyones": "everyone is", "idk": "i do not know",
    "idc": "i do not care", "sucide": "suicide", "suicde": "suicide", "suiside": "suicide", "suicid": "suicide",
    "sucidal": "suicidal", "suicidle": "suicidal", "suicidial": "suicidal", "suicdal": "suicidal",
    "sewerslide": "suicide", "alot": "a lot", "anymor": "anymore", "everyday": "every day", "lifes": "life is",
    "self-harm": "self harm", "selfharm": "self harm", "k1ll": "kill", "k!ll": "kill", "k*ll": "kill", "ki11": "kill",
    "su1cide": "suicide", "su!cide": "suicide", "s*icide": "suicide", "su*cide": "suicide", "suic*de": "suicide",
    "d1e": "die", "mum": "mom", "mummy": "mom", "mommy": "mom", "bf": "boyfriend", "gf": "girlfriend",
    "theyll": "they will", "youll": "you will", "itll": "it will", "theyd": "they would", "youd": "you would",
    "itd": "it would", "whoever's": "whoever is", "y'all": "you all", "let's": "let us",
}  # fmt: skip
_ENDINGS = (("n't", " not"), ("'re", " are"), ("'ve", " have"), ("'ll", " will"), ("'m", " am"), ("'d", " would"))
_IS = frozenset(
    "he she that there what who everything everyone nobody nothing life here where how someone somebody one tonight "
    "tomorrow today now".split()
)


def sentences(text: str) -> Iterator[tuple[str, str]]:
    """Yield (original, normalised) for each sentence of `text`; a run-on longer than the limit is cut at words."""
    text = _SINGLE_QUOTED.sub('"', unicodedata.normalize("NFKC", text).translate(_QUOTES))
    for sentence in _SENTENCE_END.split(text):
        for piece in _cut(sentence):
            plain = normalise(piece)
            if plain:
                yield piece, plain


def _cut(sentence: str) -> Iterator[str]:
    while len(sentence) > MAX_SENTENCE_CHARS:
        end = sentence.rfind(" ", MAX_SENTENCE_CHARS // 2, MAX_SENTENCE_CHARS)
        end = end if end > 0 else MAX_SENTENCE_CHARS
        yield sentence[:end]
        # The next piece begins a little earlier, so that a phrase across the cut is still whole in one of the two.
        back = sentence.rfind(" ", max(0, end - 80), max(0, end - 40))
        sentence = sentence[back if back > 0 else end :]
    yield sentence


def normalise(sentence: str) -> str:
    """Return the sentence in lower case with contractions spelt out, pauses as ` , ` and words one space apart."""
    words = []
    for token in _TOKEN.findall(_unstretch(sentence.lower())):
        if token in _PAUSES or token.startswith("."):
            words.append(",")
        else:
            words.append(_word(token))
    return _ELIDED.sub(lambda m: _ELIDED_FULL[m[0]], " ".join(words))


def _unstretch(text: str) -> str:
    return _STRETCHED.sub(lambda m: m[1] * 2 if m[1] in "leos" else m[1], text)


def _word(token: str) -> str:
    known = _WORDS.get(token)
    if known is not None:
        return known
    if "'" in token:
        for ending, full in _ENDINGS:
            if token.endswith(ending):
                return token.removesuffix(ending) + full
        if token.endswith("'s") and token[:-2] in _IS:
            return f"{token[:-2]} is"
    return token


# Loading ------------------------------------------------------------------------------------------------------------

_NAME = re.compile(r"<([A-Z_0-9]+)>")


@cache
def load_patterns() -> RiskPatterns:
    """Return the shipped patterns, each expression with its vocabulary filled in."""
    text = files("esc_skills.skills_bank").joinpath("risk_patterns.yaml").read_text(encoding="utf-8")
    raw = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    vocabulary: dict[str, str] = {}
    for name, value in raw["vocabulary"].items():
        vocabulary[name] = _fill(value, vocabulary)
    for section in ("guards", "patterns", "asks", "replies"):
        for entry in raw[section]:
            entry["match"] = [_fill(part, vocabulary) for part in entry["match"]]
            for key in ("unless", "raise_if"):
                if entry.get(key):
                    entry[key] = _fill(entry[key], vocabulary)
    return RiskPatterns.model_validate(raw)


def _fill(expression: str, vocabulary: Mapping[str, str]) -> str:
    return _NAME.sub(lambda m: f"(?:{vocabulary[m[1]]})", expression)
