"""The text of a skill, whole or by section."""

import re
from collections.abc import Mapping, Sequence

from ..skills_bank.errors import InputError, SkillNotFound
from .answers import SkillText
from .uris import skill_uri

MAX_TEXT_CHARS = 60_000
"""Hosts cap a tool result at about 25,000 tokens; a longer skill is cut and the answer says so."""


def skill_text(texts: Mapping[str, str], name: str, section: str | None, version: str) -> SkillText:
    """Return the text of a skill or of one `##` section of it.

    Raises:
        SkillNotFound: No skill of that name.
        InputError: No section of that heading.
    """
    if name not in texts:
        raise SkillNotFound(name, texts)
    parts = split_sections(texts[name])
    headings = tuple(heading for heading, _ in parts)
    text = texts[name]
    heading = None
    if section is not None:
        wanted = section.strip().lstrip("#").strip().casefold()
        found = [(title, body) for title, body in parts if title.casefold() == wanted]
        if not found:
            raise InputError(f"No section {section[:80]!r} in {name!r}. Sections: {', '.join(headings)}.")
        heading, text = found[0]
    return SkillText(
        name=name,
        section=heading,
        text=text[:MAX_TEXT_CHARS],
        sections=headings,
        truncated=len(text) > MAX_TEXT_CHARS,
        uri=skill_uri(name),
        bank_version=version,
    )


def split_sections(text: str) -> Sequence[tuple[str, str]]:
    """Split Markdown at its `## ` headings into (heading, text with heading), without what stands before the first."""
    starts = list(re.finditer(r"^## +(.+?)[ \t]*#*[ \t]*$", text, re.MULTILINE))
    ends = [start.start() for start in starts[1:]] + [len(text)]
    return [(m.group(1), text[m.start() : end].strip() + "\n") for m, end in zip(starts, ends, strict=True)]
