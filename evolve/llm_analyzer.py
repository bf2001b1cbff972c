"""Lets a language model say what each conversation shows: one structured call a talk.

The instructions are `analyze.prompt.md` with the taxonomy and the bank's skills filled in, the same over all talks of a
run so that a provider can cache them. The model sees what the supporter never saw: the hidden need, the scorer's
analysis, the seeker's thoughts. What it answers is checked against the talk before it becomes a finding.
"""

import hashlib
import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from string import Template
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from ..pipeline.annotator import in_order
from ..pipeline.llm.client import LLMClient, LLMMessage, LLMRequest, Role
from ..pipeline.llm.prompts import Prompt, load_prompt
from ..simulator.needs import CHARACTER_INFO, NEED_INFO
from ..simulator.profiles import Profile
from ..simulator.session import SILENCE, Transcript, TurnRecord
from ..skills_bank.bank import Bank
from ..skills_bank.errors import LLMAnswerError, LLMRefused
from ..skills_bank.taxonomy import ACTION_INFO, SCENARIO_INFO, STATE_INFO, SeekerState, SupportAction
from .models import Cite, Context, Finding, FindingKind

PACKAGE, PROMPT_FILE = "esc_skills.evolve", "analyze.prompt.md"
ANSWER_TOKENS = 2000
MOST_REFUSED = 5
"""So many talks refused by the server, and none taken before, mean a wrong key or model name."""
QUOTE = 6
"""So many words in a row of the seeker's are a quotation."""
Led = Literal["constructive", "withdrawal", "agitation", "confusion", "invalidation"]
_WORD = re.compile(r"[^\W_]+")


class _Answered(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Applied(_Answered):
    """What a skill that was followed led to."""

    skill: str = Field(min_length=1, description="Its name as it stands in the talk.")
    turns: tuple[int, ...] = Field(description="Numbers of the turns that show it.")
    led_to: tuple[Led, ...] = Field(min_length=1, description="What its replies led to.")
    refine: bool = Field(description="Whether its text should change.")
    why: str = Field(min_length=1, description="What did it, and what would have been better.")
    avoid: tuple[SupportAction, ...] = Field(description="Actions that did harm.")
    favour: tuple[SupportAction, ...] = Field(description="Actions that did well or would have.")


class Missing(_Answered):
    """A skill that the bank lacks."""

    title: str = Field(min_length=1, description="What it would do, in three to six words.")
    states: tuple[SeekerState, ...] = Field(description="States of the seeker in which it would be used.")
    context: str = Field(min_length=1, description="When it would be used, in general terms.")
    why: str = Field(min_length=1, description="What went wrong without it.")
    turns: tuple[int, ...] = Field(description="Numbers of the turns that needed it.")
    favour: tuple[SupportAction, ...] = Field(description="Actions it should be made of.")


class AnalyzerAnswer(_Answered):
    """What the model answers on one conversation."""

    applied: tuple[Applied, ...]
    missing: tuple[Missing, ...]


class Failed(NamedTuple):
    """A conversation that the model did not analyze, and why; nothing of the talk is quoted."""

    profile: str
    repeat: int
    reason: str


class Dropped(BaseModel):
    """What was left out of the answers, by count."""

    turns: int = 0
    """Turns that the talk does not have."""
    findings: int = 0
    """Findings that no turn was left of, or on a skill of the bank that was not selected in the talk."""
    quotes: int = 0
    """Reasons that quoted the seeker; the finding stays, without them."""


class LLMAnalyzer:
    """An `Analyzer` that asks a language model. `failed` and `dropped` tell of the last analysis."""

    def __init__(
        self, client: LLMClient, model: str, bank: Bank, *, width: int = 16, temperature: float | None = None
    ) -> None:
        """Ask `client` for `model` about talks held with `bank`, with up to `width` talks under way."""
        self._client, self._model, self._width, self._temperature = client, model, width, temperature
        self._bank, self._prompt = bank, analysis_prompt(bank)
        self.failed: list[Failed] = []
        self.dropped = Dropped()

    @property
    def name(self) -> str:
        """The model with the version of the prompt."""
        return f"llm@{self._model}:{self._prompt.label}"

    async def analyze(self, talks: Iterable[Transcript], profiles: Mapping[str, Profile]) -> list[Finding]:
        """Return what the model sees in the talks, talk by talk; `profiles` is not needed.

        A talk that it gives no usable answer on is noted in `failed`; talks in which nothing was answered are left out.

        Raises:
            BudgetError: A cap is reached.
            LLMUnavailable: The server failed.
            LLMRefused: The server took none of the first `MOST_REFUSED` talks.
        """
        self.failed, self.dropped = [], Dropped()
        found: list[Finding] = []
        refused, taken = 0, False
        async for talk, answer in in_order(_stream(talks), self._one, self._width):
            if isinstance(answer, AnalyzerAnswer):
                taken = True
                found += self._findings(talk, answer)
                continue
            if isinstance(answer, LLMRefused):
                refused += 1
                if refused == MOST_REFUSED and not taken:
                    raise answer
            taken = taken or isinstance(answer, LLMAnswerError)
            reason = answer.reason if isinstance(answer, LLMAnswerError) else "the server does not take the request"
            self.failed.append(Failed(talk.profile, talk.repeat, reason))
        return found

    async def _one(self, talk: Transcript) -> tuple[Transcript, AnalyzerAnswer | LLMAnswerError | LLMRefused]:
        try:
            return talk, await self._client.structured(self.request(talk), AnalyzerAnswer)
        except (LLMAnswerError, LLMRefused) as error:
            return talk, error

    def request(self, talk: Transcript) -> LLMRequest:
        """Return the call on one talk; for plans and dry runs, too. Its schema is `AnalyzerAnswer`."""
        return LLMRequest(
            role=Role.ANALYZER,
            model=self._model,
            prompt=self._prompt.label,
            system=self._prompt.text,
            messages=(LLMMessage(role="user", content=told(talk)),),
            max_tokens=ANSWER_TOKENS,
            temperature=self._temperature,
            subject=f"{talk.profile}, talk {talk.repeat}",
        )

    def _findings(self, talk: Transcript, answer: AnalyzerAnswer) -> list[Finding]:
        made = [self._harm(talk, each) for each in answer.applied if each.refine]
        made += [self._gap(talk, each) for each in answer.missing]
        self.dropped.findings += sum(each is None for each in made)
        return [each for each in made if each is not None]

    def _harm(self, talk: Transcript, applied: Applied) -> Finding | None:
        if applied.skill in self._bank.skills and not any(applied.skill in _skills(turn) for turn in talk.turns):
            return None
        cite = self._cite(talk, applied.turns)
        if cite is None:
            return None
        bad = [led for led in dict.fromkeys(applied.led_to) if led != "constructive"]
        head = f"`{applied.skill}` led to {' and '.join(bad)}" if bad else f"`{applied.skill}` could do better"
        return Finding(
            kind=FindingKind.HARM,
            skill=applied.skill,
            context=Context(states=_states(talk, cite.turns)),
            what=self._what(talk, head, applied.why),
            cites=(cite,),
            turns=len(cite.turns),
            avoid=applied.avoid,
            favour=tuple(action for action in applied.favour if action not in applied.avoid),
            source="llm",
        )

    def _gap(self, talk: Transcript, missing: Missing) -> Finding | None:
        cite = self._cite(talk, missing.turns)
        if cite is None:
            return None
        title = "A missing skill" if _quotes(missing.title, talk) else _line(missing.title).replace(":", ",")
        return Finding(
            kind=FindingKind.GAP,
            context=Context(
                states=tuple(dict.fromkeys(missing.states)), scenarios=(talk.scenario,) if talk.scenario else ()
            ),
            what=self._what(talk, title, f"{missing.context} {missing.why}"),
            cites=(cite,),
            turns=len(cite.turns),
            favour=missing.favour,
            source="llm",
        )

    def _cite(self, talk: Transcript, turns: Sequence[int]) -> Cite | None:
        """Return the turns that the talk has; None where it has none of them."""
        known = {turn.number for turn in talk.turns}
        kept = tuple(sorted(set(turns) & known))
        self.dropped.turns += len(set(turns) - known)
        return Cite(profile=talk.profile, repeat=talk.repeat, turns=kept) if kept else None

    def _what(self, talk: Transcript, head: str, why: str) -> str:
        if _quotes(why, talk):
            self.dropped.quotes += 1
            return f"{head}."
        return f"{head}: {_line(why)}"


def analysis_prompt(bank: Bank) -> Prompt:
    """Return the instructions with taxonomy and bank filled in; the version tells the filled text.

    Raises:
        KeyError: The file names a part that is not there.
    """
    file = load_prompt(PROMPT_FILE, PACKAGE)
    text = Template(file.text).substitute(
        states="\n".join(f"- {state}: {info.definition}" for state, info in STATE_INFO.items()),
        actions="\n".join(f"- {action}: {info.definition}" for action, info in ACTION_INFO.items()),
        skills="\n".join(f"- {name}: {_line(skill.description)}" for name, skill in bank.skills.items()),
    )
    return Prompt(name=file.name, text=text, version=hashlib.sha256(text.encode()).hexdigest()[:6])


def told(talk: Transcript) -> str:
    """Return a talk as the model gets it, turn by turn with what each side did and felt."""
    character, need = CHARACTER_INFO[talk.character], NEED_INFO[talk.need]
    scenario = SCENARIO_INFO[talk.scenario].name if talk.scenario else "not told"
    head = (
        f"<seeker>\nScenario: {scenario}\nCharacter: {character.name}. {character.manner}",
        f"Hidden need: {need.wish}\n</seeker>",
        f"<talk>\nSeeker: {_line(talk.opening)}",
    )
    turns = [_turn(turn, before) for turn, before in zip(talk.turns, _points_before(talk), strict=True)]
    return "\n".join((*head, *turns, f"</talk>\nIt ended: {talk.end}, mood {talk.points} of 100."))


def _turn(turn: TurnRecord, before: int) -> str:
    selected = ", ".join(f"{used.name} {used.score:.2f}" for used in turn.skills) or "none"
    lines = [
        f"Turn {turn.number}. Mood before: {before}. Followed: {turn.followed or 'no skill'}. Selected: {selected}. "
        f"Risk: {turn.risk}.{'' if turn.rail == 'none' else f' The risk rail acted: {turn.rail}.'}",
        f"Supporter: {_line(turn.supporter) or SILENCE}",
    ]
    if turn.appraisal is not None:
        seen = turn.appraisal
        lines.append(f"Analysis: {_line(seen.content)} {_line(seen.serves)}")
        lines.append(f"Thoughts: {_line(seen.inner)} Feeling: {_line(seen.feeling)}")
    if turn.change is not None:
        lines.append(f"Change: {turn.change:+d}, to {turn.points}.")
    if turn.seeker is not None:
        lines.append(f"Seeker: {_line(turn.seeker) or SILENCE}")
    return "\n".join(lines)


async def _stream(talks: Iterable[Transcript]) -> AsyncIterator[Transcript]:
    for talk in talks:
        if talk.turns:
            yield talk


def _points_before(talk: Transcript) -> list[int]:
    return [talk.start, *(turn.points for turn in talk.turns)][: len(talk.turns)]


def _skills(turn: TurnRecord) -> set[str]:
    return {used.name for used in turn.skills} | ({turn.followed} if turn.followed else set())


def _states(talk: Transcript, turns: Sequence[int]) -> tuple[SeekerState, ...]:
    """Return the states that these replies answered, where they were recorded."""
    before: dict[int, SeekerState | None] = {turn.number + 1: turn.state for turn in talk.turns}
    return tuple(dict.fromkeys(state for number in turns if (state := before.get(number)) is not None))


def _quotes(text: str, talk: Transcript) -> bool:
    """Say whether a text holds `QUOTE` words in a row that the seeker said."""
    said = [talk.opening, *(turn.seeker or "" for turn in talk.turns)]
    runs = set().union(*(_runs(each) for each in said))
    return not runs.isdisjoint(_runs(text))


def _runs(text: str) -> set[tuple[str, ...]]:
    words = _WORD.findall(text.lower())
    return {tuple(words[i : i + QUOTE]) for i in range(len(words) - QUOTE + 1)}


def _line(text: str) -> str:
    """Return words as one line that can neither open nor close a tag."""
    return " ".join(text.replace("<", "(").replace(">", ")").split())
