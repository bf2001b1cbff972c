"""What every test shares: an isolated home, a composed skill, a small bank."""

from collections.abc import Callable
from pathlib import Path

import pytest

SKILL = """\
---
name: {name}
description: {description}
license: CC-BY-NC-4.0
compatibility: Any Agent Skills host
metadata:
  esc-version: "1"
  esc-states: "anxiety_and_fear emotional_distress"
  esc-actions: "emotional_validation feeling_reflection open_exploration"
  esc-scenarios: "workplace_stress"
  esc-parent: ""
  esc-written-by: "test"
  esc-cluster: "c1"
---

# Calming {topic}

## Overview
The seeker is afraid of {topic} and cannot put it aside.

It helps to stay near the fear before anything else.

## When to use
- The seeker fears {topic} and says so.
- The worry about {topic} circles and does not end.
- The body speaks of {topic}: a tight chest, no sleep.

### When not to use
- The seeker has calmed down and plans ahead.

## What to do
### Anxiety and fear (`anxiety_and_fear`)
1. **Emotional validation** (`emotional_validation`): Call the fear sound. Say: "Of course {topic} scares you."
2. **Open exploration** (`open_exploration`): Ask what the worst part is.

### Emotional distress (`emotional_distress`)
1. **Feeling reflection** (`feeling_reflection`): Name the feeling. Say: "It sounds as if {topic} swallows all."

## Pitfalls
- **Advice before the fear is heard** (`practical_suggestion`): Tips skipped the fear. Signal: A flat yes.
- **Cheering up**: The fear was made small. Signal: The seeker repeats it louder.
- **Too many questions** (`open_exploration`): It felt like a form. Signal: Answers shrink to one word.

## Examples
### Good: Staying with it
> Seeker: Every night I lie awake over {topic} and count the hours.
> Supporter: That sounds like a long and lonely night with {topic}.
> Seeker: Yes, that is just how it is.

Why it works: The night is named before anything is asked.

### Good: Asking openly
> Seeker: My hands shake when {topic} comes to mind.
> Supporter: What goes through you in such a moment about {topic}?

Why it works: The question leaves room.

### Bad: Tips too soon
> Seeker: I cannot breathe when I think of {topic}.
> Supporter: Just make a list about {topic} and go for a run.
> Seeker: Right.

What went wrong: The fear stayed unheard.

## Expected outcome
The seeker says more about the fear and sounds less alone.

## Risks and escalation
If the talk turns to not wanting to live, ask directly and hand over.
"""

SkillText = Callable[..., str]


@pytest.fixture(autouse=True)
def isolated_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test a home of its own, so that none reads or writes the developer's bank, cache or settings."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    for variable, folder in (("XDG_DATA_HOME", "data"), ("XDG_CACHE_HOME", "cache"), ("XDG_CONFIG_HOME", "config")):
        monkeypatch.setenv(variable, str(home / folder))
    monkeypatch.setenv("ESC_BANK_DIR", str(home / "bank"))
    return home


@pytest.fixture
def make_skill_text() -> SkillText:
    """Return a function `(name, topic, description)` that composes a valid SKILL.md, strict checks included."""

    def make(name: str = "calming-dread", topic: str = "the talk", description: str | None = None) -> str:
        text = description or f"Calms a seeker who is afraid of {topic}. Use when the worry about {topic} circles."
        return SKILL.format(name=name, topic=topic, description=text)

    return make


@pytest.fixture
def skill_text(make_skill_text: SkillText) -> str:
    """One composed, valid SKILL.md, named `calming-dread`."""
    return make_skill_text()


@pytest.fixture
def bank_dir(tmp_path: Path, make_skill_text: SkillText) -> Path:
    """A plain folder of three valid skills: `calming-dread`, `calming-exams`, `calming-moves`."""
    folder = tmp_path / "plain-bank"
    for name, topic in (("calming-dread", "the talk"), ("calming-exams", "the exam"), ("calming-moves", "the move")):
        (folder / name).mkdir(parents=True)
        (folder / name / "SKILL.md").write_text(make_skill_text(name, topic), encoding="utf-8")
    return folder
