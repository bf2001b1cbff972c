"""Screening of a text before it is simulated: why it must not stand in a bank.

The rules of `screen.yaml` are read on what a skill recommends: what it says of itself, when it applies, its steps, the
supporter's lines of good examples. A skill may name such things as mistakes (pitfalls, bad examples, when not to use),
save for those whose rule reads `everywhere`. Beside the rules, a text has to pass the strict check of a bank, hold
plain files and plain characters, say no line that another skill says, be no second copy of one, carry no figures but
the bank's own, and repeat nothing of a corpus.

Patterns find what their authors thought of. They are the first of several checks, not the last: what passes here is
simulated and compared before it can enter a bank.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, cached_property, lru_cache
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, Field

from ..pipeline.overlap import RUN, copied, corpus_runs
from ..pipeline.overlap import words as words_of
from ..pipeline.scrub import scrub
from ..skills_bank.bank import Bank
from ..skills_bank.models import Evidence, Skill
from ..skills_bank.problems import ProblemLog
from ..skills_bank.risk_patterns import normalise
from ..skills_bank.taxonomy import ResponseChange, Scenario, SeekerState, SupportAction
from ..skills_bank.validate import EVIDENCE_FILE, MIN_SHARED_WORDS, SKILL_FILE, check_content, problems_in_skill
from .generation import known_cells
from .models import Candidate

Kind = Literal["spoken", "told", "when", "named"]
"""Where a text stands: said by a supporter; said of what to do; said of when to do it; named as a mistake."""
Scope = Literal["everywhere", "recommended", "told", "spoken"]
_READ: dict[Scope, frozenset[Kind]] = {
    "everywhere": frozenset({"spoken", "told", "when", "named"}),
    "recommended": frozenset({"spoken", "told", "when"}),
    "told": frozenset({"spoken", "told"}),
    "spoken": frozenset({"spoken"}),
}
SAME_WORDS = 0.5
"""From this share of words in common (Jaccard) on, two skills for the same moments are the same skill twice. The
closest two of the shipped ones have 0.26 in common."""
SAME_CELLS = 0.8
"""From this share of (state, action) pairs in common on, two skills are for the same moments."""
_EXCERPT = 100
_SHOWN = 3

_NO = re.compile(
    r"\b(?:do not|does not|did not|never|not|no|avoid\w*|rather than|instead of|without|nor|refus\w+|nobody|cannot|"
    r"stop short of|far from|neither|resist\w*|beware of|careful not to|wrong to|harm(?:s|ful)? to|hurts? to)\b"
    r"(?:(?! (?:but|so|until|and (?:then|instead)) )[^,.]){0,70}$"
)
"""A no in the clause before a hit, which makes a warning of it."""
_YES_AFTER_ALL = re.compile(
    r"\b(?:not|never) (?:hesitate|be (?:afraid|shy|ashamed)|forget|fail|wait|worry|mind|only|just|too)\b|"
    r"\bno (?:problem|worries|harm|shame|reason not|need to (?:fear|hesitate|keep))\b|\bwhy not\b|\bnothing wrong\b|"
    r"\bnot (?:wrong|bad|a bad idea|forbidden)\b"
)
"""What looks like such a no and is none."""

_SENTENCE = re.compile(r"[^.!?;\n]+(?:[.!?…]+[”\"']*)?")
_QUOTES = str.maketrans("‘’‚“”„", "'''\"\"\"")
_HIDDEN = frozenset({"Cc", "Cf", "Co", "Cs", "Cn", "Zl", "Zp"})
_PLAIN_CONTROLS = frozenset("\n\t\r")
_RAW: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("link", re.compile(r"[a-z][a-z0-9+.-]*://|\bwww\.|\b(?:mailto|javascript|data|tel):", re.IGNORECASE)),
    ("link", re.compile(r"\]\((?!references/evidence\.json\))|^\s*\[[^\]]+\]:", re.MULTILINE)),
    (
        "link",
        re.compile(
            r"\b[\w-]+(?:\.[\w-]+)*\.(?:com|org|net|io|ai|app|dev|info|co|uk|de|me|gg|ly|xyz|link|site)\b(?!\.json)",
            re.I,
        ),
    ),
    ("markup", re.compile(r"<!--|-->|<\s*/?\s*[a-z!?][^>\n]*>|<\|", re.IGNORECASE)),
    ("markup", re.compile(r"!\[|^\s*(?:```|~~~)|\{\{|\}\}|\$\{|\{%", re.MULTILINE)),
    (
        "encoded text",
        re.compile(r"[A-Za-z0-9+/=]{28,}|(?:\\x[0-9a-f]{2}){3,}|(?:\\u[0-9a-f]{4}){2,}|(?:%[0-9a-f]{2}){3,}"),
    ),
    ("encoded text", re.compile(r"&#?[a-z0-9]{2,8};", re.IGNORECASE)),
    (
        "contact details",
        re.compile(
            r"\b(?:whats\s?app|telegram|instagram|discord|snapchat|facebook|tiktok|signal me|dm me|text me at|"
            r"call me (?:at|on)|write (?:to )?me at|reach me (?:at|on)|"
            r"e-?mail me|my (?:phone )?number|my (?:e-?mail|address))\b",
            re.IGNORECASE,
        ),
    ),
)
_RAW_TOLD = {
    "link": "A link leads out of the bank.",
    "markup": "Markup hides text or runs on a host.",
    "encoded text": "Encoded text cannot be read by a person.",
    "contact details": "It gives contact details; helplines are kept by the server.",
}
_SNAKE = re.compile(r"\b[a-z]+(?:_[a-z0-9]+)+\b")
_IDS = frozenset(str(member) for kind in (SeekerState, SupportAction, Scenario, ResponseChange) for member in kind)
_FIRST_PERSON = re.compile(r"\b(?:I|[Mm]y|[Mm]e)\b")
_HEARD = re.compile(r"(?:write|writes|say|says) (?:something like:? )?[“\"][^”\"]*[”\"]$")
"""A line of the seeker's that closes a step, as the local writer puts it."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Part(_Frozen):
    """One expression of a rule; `near` has to stand in its sentence or the one before."""

    act: str
    near: str | None = None

    @cached_property
    def regexes(self) -> tuple[re.Pattern[str], re.Pattern[str] | None]:
        """`act` and `near`, compiled."""
        return re.compile(self.act), re.compile(self.near) if self.near else None


class Rule(_Frozen):
    """One thing that must not be recommended."""

    id: str
    reason: str = Field(min_length=1)
    scope: Scope = Field(alias="in")
    negated: Literal["free", "bound"] = "free"
    match: tuple[Part, ...] = Field(min_length=1)
    unless: str | None = Field(default=None, description="A sentence that matches this breaks no such rule.")
    miss: tuple[str, ...] = Field(default=(), description="Lines this rule must leave alone.")

    @cached_property
    def exception(self) -> re.Pattern[str] | None:
        """The compiled `unless`."""
        return re.compile(self.unless) if self.unless else None

    def broken_by(self, sentence: str, before: str) -> bool:
        """Whether a normalised sentence breaks this rule, after the sentence `before` it."""
        if self.exception is not None and self.exception.search(sentence):
            return False
        return any(self._hits(part, sentence, before) for part in self.match)

    def _hits(self, part: Part, sentence: str, before: str) -> bool:
        act, near = part.regexes
        if near is not None and not (near.search(sentence) or near.search(before)):
            return False
        return any(self.negated == "bound" or not _denied(sentence[: hit.start()]) for hit in act.finditer(sentence))


class Hit(NamedTuple):
    """A rule that a sentence breaks."""

    rule: str
    reason: str
    excerpt: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.reason} “{self.excerpt}”"


def screen(candidate: Candidate, bank: Bank) -> list[str]:
    """Return the reasons why this text must not stand in `bank`; none if it is clean."""
    told = _files(candidate)
    text = candidate.files.get(SKILL_FILE, "")
    told += [str(hit) for file in candidate.files.values() for hit in _raw_hits(file)]
    log = ProblemLog(f"{candidate.skill}/{SKILL_FILE}")
    contents = {name: content.encode() for name, content in candidate.files.items()}
    skill, evidence = check_content(candidate.skill, contents, log)
    if skill is None:
        return _once([*told, *(problem.detail for problem in log.problems)])
    told += _format(candidate)
    told += [str(hit) for kind, passage in passages(skill) for hit in hits(passage, kind)]
    told += [str(hit) for name, file in candidate.files.items() if _is_page(name) for hit in hits(file, "told")]
    told += _foreign_names(text)
    told += _naming(candidate, bank)
    others = [other for name, other in bank.skills.items() if name not in (candidate.replaces, candidate.skill)]
    told += _shared_lines(skill, others) + _twin(skill, others) + _figures(evidence, bank)
    told += _copies("\n".join(content for name, content in candidate.files.items() if name.endswith(".md")))
    return _once(told)


def unsafe_lines(text: str, kind: Kind = "spoken") -> list[str]:
    """Return what is unsafe in something said to a seeker: a reason with the sentence, one for each rule broken.

    Args:
        text: A supporter's reply.
        kind: `told` for a word about oneself (self-disclosure), which is for a person and may speak of a life.
    """
    return _once(str(hit) for hit in [*hits(text, kind), *_raw_hits(text)])


def hits(text: str, kind: Kind = "spoken") -> list[Hit]:
    """Return the rules that a text of this kind breaks, with the sentences that break them."""
    found, before = [], ""
    for original, plain in _sentences(text):
        found += [
            Hit(rule.id, rule.reason, _short(original))
            for rule in load_rules()
            if kind in _READ[rule.scope] and rule.broken_by(plain, before)
        ]
        before = plain
    return found


def unsafe_in(skill: Skill) -> list[str]:
    """Return what is unsafe in a skill's own text, wherever it stands."""
    return _once(str(hit) for kind, text in passages(skill) for hit in hits(text, kind))


def passages(skill: Skill) -> Iterator[tuple[Kind, str]]:
    """Yield the texts of a skill with the kind of place each stands in."""
    yield from _all("told", skill.title, skill.overview, skill.expected_outcome, skill.risks)
    yield from _all("told", *(text for _, text in skill.extra_sections))
    yield from _all("when", skill.description, *skill.when)
    yield from _all("named", *skill.when_not)
    for step in (step for plan in skill.plans for step in plan.steps):
        how = _HEARD.sub("write that", step.how)
        # What speaks of itself as "I" is a line to say, wherever it stands.
        yield ("spoken" if _FIRST_PERSON.search(how) else "told"), how
        # A step about oneself is for a person with a true story; a program is told to skip it (skills_bank/advice.py).
        if step.say:
            yield ("told" if step.action == SupportAction.SELF_DISCLOSURE else "spoken"), step.say
    for pitfall in skill.pitfalls:
        yield from _all("named", pitfall.title, pitfall.text, pitfall.signal)
    for example in skill.examples:
        good = example.kind == "good"
        yield from _all("told" if good else "named", example.title, example.comment)
        for message in example.lines:
            yield ("spoken" if good and message.role == "supporter" else "named"), message.content


def _all(kind: Kind, *texts: str) -> Iterator[tuple[Kind, str]]:
    for text in texts:
        yield kind, text


@cache
def load_rules() -> tuple[Rule, ...]:
    """Return the rules of `screen.yaml`, their vocabulary filled in."""
    raw = yaml.safe_load(files("esc_skills.evolve").joinpath("screen.yaml").read_text(encoding="utf-8"))
    vocabulary: dict[str, str] = {}
    for name, expression in raw["vocabulary"].items():
        vocabulary[name] = _fill(expression, vocabulary)
    return tuple(_rule(entry, vocabulary) for entry in raw["rules"])


@lru_cache(maxsize=1)
def corpus() -> frozenset[int] | None:
    """Return the hashes of the runs of words of the corpus beside the checkout; None where there is none.

    Looked for in `ESC_SHARED_DIR`, else in `../shared`. Callers say in their record when it was not there.
    """
    from ..pipeline.corpus import CorpusReader

    paths = sorted((shared_folder() / "data" / "esconv").glob("*.jsonl"))
    if not paths:
        return None
    return corpus_runs(turn.content for dialogue in CorpusReader().read(*paths) for turn in dialogue.turns())


def shared_folder() -> Path:
    """Return where the corpora lie, if they do."""
    import os

    return Path(os.environ.get("ESC_SHARED_DIR") or Path(__file__).resolve().parents[1].parent / "shared")


def alike(one: Skill, other: Skill) -> float:
    """Return the share of words two skills have in common, of all words of either (Jaccard)."""
    mine, theirs = _vocabulary(one), _vocabulary(other)
    return len(mine & theirs) / len(mine | theirs)


# --- rules ----------------------------------------------------------------------------------------------------------


def _rule(entry: dict, vocabulary: dict[str, str]) -> Rule:
    parts = [part if isinstance(part, dict) else {"act": part} for part in entry["match"]]
    filled = [{key: _fill(expression, vocabulary) for key, expression in part.items()} for part in parts]
    return Rule.model_validate({**entry, "match": filled})


def _fill(expression: str, vocabulary: dict[str, str]) -> str:
    return re.sub(r"<([A-Z]+)>", lambda name: vocabulary[name[1]], expression)


def _denied(before: str) -> bool:
    found = _NO.search(before)
    return found is not None and not _YES_AFTER_ALL.search(before[max(0, found.start() - 10) :])


def _sentences(text: str) -> Iterator[tuple[str, str]]:
    """Yield (original, normalised) for each sentence; a question keeps its mark, since asking is not advising."""
    for piece in _SENTENCE.findall(_plain(text)):
        plain = normalise(piece.rstrip(".!?… ”\"'"))
        if plain:
            yield piece, f"{plain} ?" if "?" in piece else plain


def _plain(text: str) -> str:
    """Return the text as it is read aloud: without marks within words, straight quotes, hyphens as spaces."""
    shown = "".join(c for c in unicodedata.normalize("NFKC", text) if unicodedata.category(c) != "Cf")
    shown = re.sub(r"[*`~]|(?<!\w)_|_(?!\w)", "", shown.translate(_QUOTES))
    return re.sub(r"(?<=\w)[-‐‑](?=\w)", " ", shown)


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _EXCERPT else flat[: _EXCERPT - 1] + "…"


def _once(told: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(told))


# --- files and characters -------------------------------------------------------------------------------------------


def _is_page(name: str) -> bool:
    return name != SKILL_FILE and name.endswith(".md")


def _files(candidate: Candidate) -> list[str]:
    """Return the files that have no place in a skill that was not written by its bank's owner."""
    allowed = re.compile(r"references/[\w-]+\.md")
    return [
        f"file: {name} is not taken: only {SKILL_FILE}, {EVIDENCE_FILE} and pages in references/. Fix: Leave it out."
        for name in candidate.files
        if name not in (SKILL_FILE, EVIDENCE_FILE) and not allowed.fullmatch(name)
    ]


def _raw_hits(text: str) -> Iterator[Hit]:
    hidden = sorted({c for c in text if unicodedata.category(c) in _HIDDEN and c not in _PLAIN_CONTROLS})
    if hidden:
        codes = ", ".join(f"U+{ord(c):04X}" for c in hidden[:_SHOWN])
        yield Hit("hidden characters", "Characters that nobody sees may carry text.", codes)
    for word in sorted(set(re.findall(r"\w+", text)), key=text.find):
        if len({_script(c) for c in word if c.isalpha()}) > 1:
            yield Hit("mixed scripts", "Letters of two scripts in one word disguise it.", word[:_EXCERPT])
    for name, pattern in _RAW:
        found = pattern.search(text)
        if found:
            yield Hit(name, _RAW_TOLD[name], _short(text[max(0, found.start() - 20) : found.end() + 20]))
    if scrub(text)[1]:
        yield Hit("contact details", _RAW_TOLD["contact details"], ", ".join(sorted(scrub(text)[1])))


def _script(letter: str) -> str:
    return unicodedata.name(letter, "?").split()[0]


def _foreign_names(text: str) -> list[str]:
    """Return names in the style of code that are no ids of the taxonomy: tools, variables, settings."""
    body = text.partition("\n---\n")[2]
    found = [name for name in dict.fromkeys(_SNAKE.findall(body)) if name not in _IDS]
    return [f"code: {name!r} is the name of a tool or a variable; say it in words." for name in found[:_SHOWN]]


def _format(candidate: Candidate) -> list[str]:
    """Return what the strict check of a bank says of the skill as it would be served."""
    with TemporaryDirectory() as scratch:
        folder = Path(scratch) / candidate.skill
        for name, content in candidate.files.items():
            path = folder / name
            if folder.resolve() not in path.resolve().parents:
                return [f"file: {name} lies outside the skill's folder."]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
        return [problem.detail for problem in problems_in_skill(folder, strict=True)]


# --- against the bank -----------------------------------------------------------------------------------------------


def _naming(candidate: Candidate, bank: Bank) -> list[str]:
    name, old = candidate.skill, candidate.replaces
    if old is not None and old not in bank.skills:
        return [f"name: There is no skill {old!r} in the bank to be replaced."]
    if name != old and name in bank.skills:
        return [f"name: {name!r} is another skill of the bank. Fix: Choose a name of its own."]
    return []


def _shared_lines(skill: Skill, others: Sequence[Skill]) -> list[str]:
    """Return the lines another skill has as well; the strict check of a whole bank refuses them, too."""
    mine = dict(_lines(skill))
    told = []
    for other in others:
        same = [mine[key] for key, _ in _lines(other) if key in mine]
        told += [f"shared text: {other.name} says {_short(line)!r} as well. Fix: Write its own." for line in same]
    return told[:_SHOWN]


def _lines(skill: Skill) -> Iterator[tuple[tuple[str, str], str]]:
    yield ("description", " ".join(re.findall(r"\w+", skill.description.casefold()))), skill.description
    for line in (message.content for example in skill.examples for message in example.lines):
        words = re.findall(r"\w+", line.casefold())
        if len(words) >= MIN_SHARED_WORDS:
            yield ("line", " ".join(words)), line


def _twin(skill: Skill, others: Sequence[Skill]) -> list[str]:
    mine = _cells(skill)
    for other in others:
        theirs = _cells(other)
        if len(mine & theirs) >= SAME_CELLS * len(mine | theirs) and alike(skill, other) >= SAME_WORDS:
            return [f"duplicate: It is {other.name} in other words. Fix: Refine that one instead."]
    return []


def _cells(skill: Skill) -> frozenset[tuple[SeekerState, SupportAction]]:
    return frozenset((plan.state, step.action) for plan in skill.plans for step in plan.steps)


def _vocabulary(skill: Skill) -> frozenset[str]:
    return frozenset(word for _, text in passages(skill) for word in words_of(text))


def _figures(evidence: Evidence | None, bank: Bank) -> list[str]:
    """Return the cells whose figures are not the bank's own: evidence is counted, never written."""
    if evidence is None:
        return []
    known = known_cells(bank)
    made_up = [p for p in evidence.prototypes if known.get((p.state, p.action)) != p]
    return [
        f"figures: {p.state}, {p.action} in {EVIDENCE_FILE} is not what the bank counted. Fix: Let code write the file."
        for p in made_up[:_SHOWN]
    ]


def _copies(prose: str) -> list[str]:
    known = corpus()
    runs = copied(prose, known) if known is not None else []
    return [f"corpus text: {RUN} words in a row stand in a corpus: {run!r}." for run in runs[:_SHOWN]]
