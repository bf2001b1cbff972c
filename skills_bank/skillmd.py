"""SKILL.md text ⇄ `Skill`. The grammar is in docs/design.md.

Reading collects every fault before it gives up, so an author sees them all at once. Writing checks itself: a skill
that the text could not carry (a heading inside a paragraph, say) is refused rather than changed in silence.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from typing import Literal, TypeVar

from .errors import SkillParseError
from .frontmatter import check_values, normal_lines, read_frontmatter, render_frontmatter, split_frontmatter
from .models import ActionStep, Example, Message, Pitfall, Skill, StatePlan
from .problems import Problem, ProblemLog
from .taxonomy import ACTION_INFO, STATE_INFO, Scenario, SeekerState, SupportAction

OVERVIEW, WHEN, DO, PITFALLS = "Overview", "When to use", "What to do", "Pitfalls"
EXAMPLES, OUTCOME, RISKS, EVIDENCE = "Examples", "Expected outcome", "Risks and escalation", "Evidence"
WHEN_NOT = "When not to use"
SECTIONS = (OVERVIEW, WHEN, DO, PITFALLS, EXAMPLES, OUTCOME, RISKS, EVIDENCE)
REQUIRED_SECTIONS = (OVERVIEW, WHEN, DO, PITFALLS, OUTCOME, RISKS)

_KNOWN_METADATA = ("esc-version", "esc-states", "esc-actions", "esc-scenarios", "esc-parent", "esc-written-by")
_CANONICAL = {title.casefold(): title for title in SECTIONS}
_CODE_FENCE = re.compile(r"\s{0,3}(```+|~~~+)")
_BULLET = re.compile(r"[-*]\s+(\S.*)")
_NUMBERED = re.compile(r"\d+[.)]\s+(\S.*)")
_ANY_ITEM = re.compile(r"\s+([-*]|\d+[.)])\s+\S")
_STATE_HEADING = re.compile(r"\(`([^`]*)`\)\s*$")
_STEP = re.compile(r"\*\*[^*]+\*\*\s*\(`([^`]*)`\)\s*:?\s*(.*)")
_SAY = re.compile(r'(.*?)\s*\bSay:\s*["“](.+)["”]')
_PITFALL = re.compile(r"\*\*([^*]+?):?\*\*\s*(?:\(`([^`]*)`\))?\s*:?\s*(.*)")
_SIGNAL = re.compile(r"(.*)\bSignal:\s*(.+)")
_EXAMPLE = re.compile(r"(good|bad)\s*:\s*(\S.*)", re.IGNORECASE)
_SPEAKER = re.compile(r"\**(seeker|supporter)\s*(?:\*\*)?:\s*(?:\*\*)?\s*(.*)", re.IGNORECASE)
_COMMENT = {"good": "Why it works:", "bad": "What went wrong:"}

_E = TypeVar("_E", bound=StrEnum)


def parse_skill(text: str, where: str = "SKILL.md") -> Skill:
    """Return the skill that `text` describes.

    Raises:
        SkillParseError: The text is no skill; the error lists every fault found.
    """
    skill, problems = read_skill_text(text, where)
    if skill is None or problems:
        raise SkillParseError(where, [p.detail + (f" (line {p.line})" if p.line else "") for p in problems])
    return skill


def read_skill_text(text: str, where: str = "SKILL.md") -> tuple[Skill | None, list[Problem]]:
    """Return the skill and no problems, or None and every problem that stands in its way."""
    return _Reader(text, where).read()


def render_skill(skill: Skill) -> str:
    """Return the SKILL.md text of `skill`; `parse_skill` gives back an equal skill.

    Raises:
        SkillParseError: A value cannot be written in the grammar, e.g. a paragraph that holds a `##` heading.
    """
    text = "\n".join([_render_head(skill), "", f"# {skill.title}", *_render_body(skill), ""])
    back, problems = read_skill_text(text, skill.name)
    if back is None:
        raise SkillParseError(f"Rendered skill {skill.name!r}", [problem.detail for problem in problems])
    if back != skill:
        changed = [name for name in Skill.model_fields if getattr(back, name) != getattr(skill, name)]
        fixes = [f"{name}: SKILL.md cannot carry this value unchanged. Fix: use plain prose." for name in changed]
        raise SkillParseError(f"Rendered skill {skill.name!r}", fixes)
    return text


@dataclass
class _Section:
    """The lines under one heading; `line` is the number of the heading in the file."""

    title: str
    line: int
    lines: list[str]

    @property
    def prose(self) -> str:
        return "\n".join(line.rstrip() for line in self.lines).strip("\n")

    def split(self) -> Iterator["_Section"]:
        """Yield the part before the first `###` heading (with this title) and then one part for each of them."""
        part = _Section(self.title, self.line, [])
        fenced = False
        for number, line in enumerate(self.lines, self.line + 1):
            fenced ^= bool(_CODE_FENCE.match(line))
            if line.startswith("### ") and not fenced:
                yield part
                part = _Section(line[4:].strip(), number, [])
            else:
                part.lines.append(line)
        yield part


class _Reader:
    def __init__(self, text: str, where: str) -> None:
        self.log = ProblemLog(where)
        self.lines = normal_lines(text)

    def read(self) -> tuple[Skill | None, list[Problem]]:
        head = split_frontmatter(self.lines, self.log)
        if head is None:
            return None, self.log.problems
        source, start = head
        values, metadata = read_frontmatter(source, self.log)
        check_values(values, self.log)
        title, sections = self._sections(start)
        fields = self._frontmatter_fields(values, metadata) | self._body_fields(sections)
        if self.log.problems:
            return None, self.log.problems
        return Skill(title=title, **fields), []

    # --- frontmatter ------------------------------------------------------------------------------------------------

    def _frontmatter_fields(self, values: dict[str, str], metadata: dict[str, str]) -> dict:
        fields: dict = dict(values)
        fields["states"] = self._ids("esc-states", metadata, SeekerState, required=True)
        fields["actions"] = self._ids("esc-actions", metadata, SupportAction, required=True)
        fields["scenarios"] = self._ids("esc-scenarios", metadata, Scenario, required=False)
        fields["parent"] = metadata.get("esc-parent") or None
        fields["version"] = metadata.get("esc-version", "1")
        fields["written_by"] = metadata.get("esc-written-by", "unknown")
        fields["extra_metadata"] = {key: text for key, text in metadata.items() if key not in _KNOWN_METADATA}
        return fields

    def _ids(self, key: str, metadata: dict[str, str], kind: type[_E], *, required: bool) -> tuple[_E, ...]:
        if required and not metadata.get(key):
            self.log.add(key, f"The metadata has no {key!r}.", f'Add {key}: "id id ...".')
        words = metadata.get(key, "").split()
        if len(set(words)) < len(words):
            self.log.add(key, "An id stands twice.", "Name each id once.")
        return tuple(found for word in words if (found := self._id(key, word, kind)) is not None)

    def _id(self, field: str, word: str, kind: type[_E], line: int | None = None) -> _E | None:
        try:
            return kind(word)
        except ValueError:
            known = [member.value for member in kind]
            close = get_close_matches(word, known, n=1, cutoff=0.5)
            fix = f"Did you mean {close[0]!r}?" if close else f"Use one of: {', '.join(known)}."
            self.log.add(field, f"{word!r} is no {kind.__name__} of the taxonomy.", fix, line)
            return None

    # --- body -------------------------------------------------------------------------------------------------------

    def _sections(self, start: int) -> tuple[str, list[_Section]]:
        title = ""
        sections: list[_Section] = []
        fence = 0
        for number, line in enumerate(self.lines[start:], start + 1):
            if _CODE_FENCE.match(line):
                fence = 0 if fence else number
            if not fence and line.startswith("## "):
                name = line[3:].strip()
                sections.append(_Section(_CANONICAL.get(name.casefold(), name), number, []))
            elif not fence and line.startswith("# "):
                if title or sections:
                    self.log.add("title", "There is a second title.", "Use '##' for sections.", number)
                title = title or line[2:].strip()
            elif sections:
                sections[-1].lines.append(line)
            elif line.strip():
                self.log.add("title", "Text stands before the first section.", "Move it under '## Overview'.", number)
        if fence:
            self.log.add("body", "A code fence is never closed.", "Close it, or take it away.", fence)
        if not title:
            self.log.add("title", "There is no title.", "Add a line '# Title' after the frontmatter.", start)
        return title, sections

    def _body_fields(self, sections: list[_Section]) -> dict:
        known: dict[str, _Section] = {}
        extra: list[tuple[str, str]] = []
        for section in sections:
            if section.title not in SECTIONS:
                extra.append((section.title, section.prose))
            elif section.title in known:
                self.log.add(section.title, "The section stands twice.", "Join the two.", section.line)
            else:
                known[section.title] = section
        for name in REQUIRED_SECTIONS:
            if name not in known:
                self.log.add(name, "The section is missing.", f"Add '## {name}'.")
            elif not known[name].prose.strip():
                self.log.add(name, "The section is empty.", "Write it.", known[name].line)
        prose = {name: section.prose for name, section in known.items()}
        when, when_not = self._when(known.get(WHEN))
        return {
            "overview": prose.get(OVERVIEW, ""),
            "when": when,
            "when_not": when_not,
            "plans": self._plans(known.get(DO)),
            "pitfalls": self._pitfalls(known.get(PITFALLS)),
            "examples": self._examples(known.get(EXAMPLES)),
            "expected_outcome": prose.get(OUTCOME, ""),
            "risks": prose.get(RISKS, ""),
            "evidence": prose.get(EVIDENCE, ""),
            "extra_sections": tuple(extra),
        }

    def _items(self, part: _Section, marker: re.Pattern[str], field: str) -> list[tuple[int, str]]:
        """Return the list items of `part` with their lines; a wrapped item is joined with single spaces."""
        items: list[tuple[int, str]] = []
        open_item = False
        for number, line in enumerate(part.lines, part.line + 1):
            match = marker.match(line)
            if match:
                items.append((number, " ".join(match[1].split())))
                open_item = True
            elif not line.strip():
                open_item = False
            elif _ANY_ITEM.match(line) or line.startswith("#"):
                self.log.add(field, "A list item or heading stands where none can.", "Use one flat list.", number)
            elif items and (open_item or line[0].isspace()):
                items[-1] = (items[-1][0], " ".join([items[-1][1], *line.split()]))
            else:
                self.log.add(field, "This line belongs to no list item.", "Make it an item, or indent it.", number)
        return items

    def _when(self, section: _Section | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
        if section is None:
            return (), ()
        first, *others = section.split()
        when = self._items(first, _BULLET, WHEN)
        if not when:
            self.log.add(WHEN, "There is no activation condition.", "Add one '- ' line for each.", section.line)
        when_not: list[tuple[int, str]] = []
        for part in others:
            if part.title.casefold() != WHEN_NOT.casefold():
                fix = f"Only '### {WHEN_NOT}' can stand here."
                self.log.add(WHEN, f"The heading {part.title!r} is not known.", fix, part.line)
            when_not += self._items(part, _BULLET, WHEN_NOT)
        return tuple(text for _, text in when), tuple(text for _, text in when_not)

    def _plans(self, section: _Section | None) -> tuple[StatePlan, ...]:
        if section is None:
            return ()
        first, *parts = section.split()
        self._no_text(first, DO, "Put it under '## Overview' or into a step.")
        if not parts:
            fix = "Add '### Name (`state_id`)' with numbered steps."
            self.log.add(DO, "There is no plan for any state.", fix, section.line)
        plans = [plan for part in parts if (plan := self._plan(part)) is not None]
        states = [plan.state for plan in plans]
        for state in sorted({state for state in states if states.count(state) > 1}):
            self.log.add(DO, f"There are two plans for {state.value!r}.", "Join them.", section.line)
        return tuple(plans)

    def _plan(self, part: _Section) -> StatePlan | None:
        match = _STATE_HEADING.search(part.title)
        state = None
        if match is None:
            self.log.add(DO, f"The heading {part.title!r} names no state.", "Write '### Name (`state_id`)'.", part.line)
        else:
            state = self._id(DO, match[1], SeekerState, part.line)
        items = self._items(part, _NUMBERED, DO)
        steps = tuple(step for number, item in items if (step := self._step(number, item)) is not None)
        if not items:
            self.log.add(
                DO, f"The plan {part.title!r} has no steps.", "Add '1. **Name** (`action_id`): ...'.", part.line
            )
        return StatePlan(state=state, steps=steps) if state and steps else None

    def _step(self, number: int, item: str) -> ActionStep | None:
        match = _STEP.fullmatch(item)
        if match is None:
            self.log.add(DO, "The step names no action.", "Write '1. **Name** (`action_id`): how.'.", number)
            return None
        action = self._id(DO, match[1], SupportAction, number)
        how, say = match[2], None
        if "Say:" in how:
            spoken = _SAY.fullmatch(how)
            if spoken is None:
                self.log.add(DO, "The 'Say:' part is not understood.", 'End the step with Say: "line".', number)
                return None
            how, say = spoken[1], spoken[2]
        if not how:
            self.log.add(DO, "The step does not tell how.", "Tell how before 'Say:'.", number)
            return None
        return ActionStep(action=action, how=how, say=say) if action else None

    def _pitfalls(self, section: _Section | None) -> tuple[Pitfall, ...]:
        if section is None:
            return ()
        items = self._items(section, _BULLET, PITFALLS)
        if not items:
            self.log.add(PITFALLS, "There is no pitfall.", "Add '- **Title**: text. Signal: ...'.", section.line)
        return tuple(pitfall for number, item in items if (pitfall := self._pitfall(number, item)) is not None)

    def _pitfall(self, number: int, item: str) -> Pitfall | None:
        match = _PITFALL.fullmatch(item)
        if match is None:
            self.log.add(PITFALLS, "The pitfall has no bold title.", "Write '- **Title**: text. Signal: ...'.", number)
            return None
        parts = _SIGNAL.fullmatch(match[3])
        action = self._id(PITFALLS, match[2], SupportAction, number) if match[2] is not None else None
        if parts is None or not parts[1].strip():
            fix = "Write what went wrong, then 'Signal: what the seeker then does or says'."
            self.log.add(PITFALLS, f"The pitfall {match[1]!r} lacks its text or its signal.", fix, number)
            return None
        return Pitfall(title=match[1], action=action, text=parts[1].strip(), signal=parts[2])

    def _examples(self, section: _Section | None) -> tuple[Example, ...]:
        if section is None:
            return ()
        first, *parts = section.split()
        self._no_text(first, EXAMPLES, "Put it under a '### Good: title' heading.")
        return tuple(example for part in parts if (example := self._example(part)) is not None)

    def _example(self, part: _Section) -> Example | None:
        match = _EXAMPLE.fullmatch(part.title)
        if match is None:
            fix = "Write '### Good: title' or '### Bad: title'."
            self.log.add(EXAMPLES, f"The heading {part.title!r} tells neither good nor bad.", fix, part.line)
            return None
        kind: Literal["good", "bad"] = "good" if match[1].casefold() == "good" else "bad"
        quoted = [(n, line[1:].strip()) for n, line in enumerate(part.lines, part.line + 1) if line.startswith(">")]
        rest = " ".join(word for line in part.lines if not line.startswith(">") for word in line.split())
        lines = self._talk(quoted)
        label = _COMMENT[kind]
        if len(lines) < 2:
            fix = "Write at least two '> Seeker: ...' / '> Supporter: ...' lines."
            self.log.add(EXAMPLES, f"The example {match[2]!r} is no exchange.", fix, part.line)
        if not rest.startswith(label) or not rest.removeprefix(label).strip():
            fix = f"End it with '{label} ...'."
            self.log.add(EXAMPLES, f"The example {match[2]!r} has no comment.", fix, part.line)
            return None
        comment = rest.removeprefix(label).strip()
        return Example(kind=kind, title=match[2], lines=lines, comment=comment) if len(lines) >= 2 else None

    def _talk(self, quoted: Sequence[tuple[int, str]]) -> tuple[Message, ...]:
        turns: list[tuple[str, str]] = []
        for number, line in quoted:
            match = _SPEAKER.fullmatch(line)
            if match:
                turns.append((match[1].casefold(), " ".join(match[2].split())))
            elif turns:
                turns[-1] = (turns[-1][0], " ".join([turns[-1][1], *line.split()]))
            elif line:
                self.log.add(EXAMPLES, "A line has no speaker.", "Begin it '> Seeker:' or '> Supporter:'.", number)
        if any(not text for _, text in turns):
            self.log.add(EXAMPLES, "A speaker says nothing.", "Write the line or take it away.", quoted[0][0])
        return tuple(Message.model_validate({"role": role, "content": text}) for role, text in turns)

    def _no_text(self, part: _Section, field: str, fix: str) -> None:
        for number, line in enumerate(part.lines, part.line + 1):
            if line.strip():
                self.log.add(field, "Text stands before the first '###' heading.", fix, number)
                return


def _render_head(skill: Skill) -> str:
    values = [("name", skill.name), ("description", skill.description), ("license", skill.license)]
    if skill.compatibility is not None:
        values.append(("compatibility", skill.compatibility))
    metadata = {
        "esc-version": skill.version,
        "esc-states": " ".join(skill.states),
        "esc-actions": " ".join(skill.actions),
        "esc-scenarios": " ".join(skill.scenarios),
        "esc-parent": skill.parent or "",
        "esc-written-by": skill.written_by,
    }
    return render_frontmatter(values, metadata | skill.extra_metadata)


def _render_body(skill: Skill) -> Iterator[str]:
    yield from _render_prose(OVERVIEW, skill.overview)
    yield from ("", f"## {WHEN}", *(f"- {line}" for line in skill.when))
    if skill.when_not:
        yield from ("", f"### {WHEN_NOT}", *(f"- {line}" for line in skill.when_not))
    yield from ("", f"## {DO}")
    for plan in skill.plans:
        yield from _render_plan(plan)
    yield from ("", f"## {PITFALLS}", *(_render_pitfall(pitfall) for pitfall in skill.pitfalls))
    if skill.examples:
        yield from ("", f"## {EXAMPLES}")
        for example in skill.examples:
            yield from _render_example(example)
    yield from _render_prose(OUTCOME, skill.expected_outcome)
    yield from _render_prose(RISKS, skill.risks)
    for title, text in skill.extra_sections:
        yield from _render_prose(title, text)
    if skill.evidence:
        yield from _render_prose(EVIDENCE, skill.evidence)


def _render_prose(title: str, text: str) -> Iterable[str]:
    return ("", f"## {title}", text)


def _render_plan(plan: StatePlan) -> Iterator[str]:
    yield from ("", f"### {STATE_INFO[plan.state].name} (`{plan.state}`)")
    for number, step in enumerate(plan.steps, 1):
        say = "" if step.say is None else f' Say: "{step.say}"'
        yield f"{number}. **{ACTION_INFO[step.action].name}** (`{step.action}`): {step.how}{say}"


def _render_pitfall(pitfall: Pitfall) -> str:
    action = "" if pitfall.action is None else f" (`{pitfall.action}`)"
    return f"- **{pitfall.title}**{action}: {pitfall.text} Signal: {pitfall.signal}"


def _render_example(example: Example) -> Iterator[str]:
    yield from ("", f"### {example.kind.capitalize()}: {example.title}")
    yield from (f"> {message.role.capitalize()}: {message.content}" for message in example.lines)
    yield from ("", f"{_COMMENT[example.kind]} {example.comment}")
