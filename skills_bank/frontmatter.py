"""The YAML head of a SKILL.md: cut it off, read it as strings, write it.

Only the profile that every consumer of Agent Skills accepts is read: the five keys below, block style, string values,
quoted metadata values, no anchors. The head is composed into YAML nodes rather than loaded, which is as safe as
`yaml.safe_load` and also shows what loading hides: duplicate keys, unquoted values, flow style.
"""

import json
import re
from collections.abc import Iterable, Mapping

import yaml

from .problems import ProblemLog

FENCE = "---"
ALLOWED_KEYS = ("name", "description", "license", "compatibility", "metadata")
MAX_NAME, MAX_DESCRIPTION, MAX_COMPATIBILITY = 64, 1024, 500
NAME_PATTERN = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
METADATA_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")

_LOADER: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_STRING_TAG = "tag:yaml.org,2002:str"
_PLAIN = re.compile(r"[A-Za-z][^\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff]*")
_UNPRINTABLE = re.compile(r"[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def normal_lines(text: str) -> list[str]:
    """Return the lines of `text` without BOM and with any of the three line endings taken away."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")


def split_frontmatter(lines: list[str], log: ProblemLog) -> tuple[str, int] | None:
    """Return the YAML text and the index of the first line after it, or None when there is no frontmatter.

    A fence is a line of `---` alone, so a value that contains `---` does not end the head.
    """
    if lines[0].rstrip() != FENCE:
        log.add("frontmatter", "The file does not begin with a line '---'.", "Begin with '---', keys, '---'.", 1)
        return None
    for index in range(1, len(lines)):
        if lines[index].rstrip() == FENCE:
            return "\n".join(lines[1:index]), index + 1
    log.add("frontmatter", "The frontmatter is never closed.", "End it with a line of '---' alone.", 1)
    return None


def read_frontmatter(source: str, log: ProblemLog) -> tuple[dict[str, str], dict[str, str]]:
    """Return the top-level strings and the metadata strings of a head; faults go into `log`."""
    try:
        node = yaml.compose(source, Loader=_LOADER)
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 2 if mark else None
        reason = getattr(error, "problem", None) or str(error).splitlines()[0]
        log.add("frontmatter", f"This is no valid YAML: {reason}.", "Quote values that hold ':' or '#'.", line)
        return {}, {}
    if not isinstance(node, yaml.MappingNode):
        log.add("frontmatter", "The frontmatter is no mapping.", "Write one 'key: value' a line.", 2)
        return {}, {}
    values: dict[str, str] = {}
    metadata: dict[str, str] = {}
    for key, line, value in _entries(node, "frontmatter", log):
        if key not in ALLOWED_KEYS:
            fix = f"Keep to {', '.join(ALLOWED_KEYS)}; put the rest under metadata."
            log.add(key, f"The key {key!r} is not in the profile that all hosts accept.", fix, line)
        elif key != "metadata":
            values |= _scalar(key, value, log)
        elif not isinstance(value, yaml.MappingNode):
            log.add(key, "The metadata is no mapping.", "Write one indented 'key: \"value\"' a line.", line)
        else:
            metadata = _metadata(value, log)
    return values, metadata


def check_values(values: Mapping[str, str], log: ProblemLog) -> None:
    """Note what is missing from, or outside the limits of, the top-level keys."""
    for key in ("name", "description"):
        if key not in values and not any(problem.field == key for problem in log.problems):
            log.add(key, f"The frontmatter has no {key!r}.", f"Add '{key}: ...'.", 1)
    name = values.get("name", "a")
    if len(name) > MAX_NAME or not NAME_PATTERN.fullmatch(name):
        log.add("name", f"{name!r} is no valid name.", f"Use a-z, 0-9 and single hyphens, at most {MAX_NAME}.")
    for key, limit in (("description", MAX_DESCRIPTION), ("compatibility", MAX_COMPATIBILITY)):
        if key in values and not 1 <= len(values[key]) <= limit:
            log.add(key, f"It has {len(values[key])} characters.", f"Write 1 to {limit} characters.")


def check_profile(source: str, log: ProblemLog) -> None:
    """Note what we can read but some host cannot: anchors, tags, unquoted metadata, angle brackets."""
    try:
        events = list(yaml.parse(source, Loader=_LOADER))
        node = yaml.compose(source, Loader=_LOADER)
    except (yaml.YAMLError, ValueError):
        return
    for event in events:
        if getattr(event, "anchor", None) or getattr(event, "tag", None):
            line = event.start_mark.line + 2
            log.add("frontmatter", "It uses a YAML anchor, alias or tag.", "Write the plain value.", line)
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        if key.value == "description" and {"<", ">"} & set(str(value.value)):
            fix = "Write it without < and >."
            log.add("description", "It holds an angle bracket, which some hosts refuse.", fix, key.start_mark.line + 2)
        if key.value == "metadata" and isinstance(value, yaml.MappingNode):
            _check_quotes(value, log)


def _check_quotes(metadata: yaml.MappingNode, log: ProblemLog) -> None:
    for key, value in metadata.value:
        if isinstance(value, yaml.ScalarNode) and value.tag == _STRING_TAG and value.style not in {'"', "'"}:
            fix = f'Write {key.value}: "{value.value}".'
            log.add(str(key.value), "The value is not quoted.", fix, key.start_mark.line + 2)


def render_frontmatter(values: Iterable[tuple[str, str]], metadata: Mapping[str, str]) -> str:
    """Return the head, fences included: block style, every metadata value quoted."""
    lines = [FENCE, *(f"{key}: {_plain(value)}" for key, value in values), "metadata:"]
    lines += [f"  {key}: {_quoted(value)}" for key, value in metadata.items()]
    return "\n".join([*lines, FENCE])


def _entries(node: yaml.MappingNode, field: str, log: ProblemLog) -> list[tuple[str, int, yaml.Node]]:
    if node.flow_style:
        log.add(field, "It is written in flow style.", "Write one 'key: value' a line.", node.start_mark.line + 2)
    seen: set[str] = set()
    found: list[tuple[str, int, yaml.Node]] = []
    for key, value in node.value:
        line = key.start_mark.line + 2
        if not isinstance(key, yaml.ScalarNode):
            log.add(field, "A key is no plain word.", "Write 'key: value'.", line)
        elif key.value in seen:
            log.add(key.value, f"The key {key.value!r} stands twice.", "Keep one of the two.", line)
        else:
            seen.add(key.value)
            found.append((key.value, line, value))
    return found


def _scalar(key: str, node: yaml.Node, log: ProblemLog) -> dict[str, str]:
    if isinstance(node, yaml.ScalarNode) and node.tag == _STRING_TAG:
        return {key: node.value.strip()}
    log.add(key, "The value is not a string.", 'Put it in double quotes: "...".', node.start_mark.line + 2)
    return {}


def _metadata(node: yaml.MappingNode, log: ProblemLog) -> dict[str, str]:
    read: dict[str, str] = {}
    for key, line, value in _entries(node, "metadata", log):
        if not METADATA_KEY.fullmatch(key):
            log.add("metadata", f"{key!r} is no valid key.", "Use letters, digits, '.', '_' and '-'.", line)
        else:
            read |= _scalar(key, value, log)
    return read


def _quoted(value: str) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _plain(value: str) -> str:
    """Return `value` unquoted where YAML and simpler line readers agree on it, else in double quotes."""
    risky = ": " in value or " #" in value or value.endswith((":", " "))
    if not _PLAIN.fullmatch(value) or risky or _is_typed(value):
        return _quoted(value)
    return value


def _is_typed(value: str) -> bool:
    node = yaml.compose(value, Loader=_LOADER)
    return not (isinstance(node, yaml.ScalarNode) and node.tag == _STRING_TAG and node.value == value)
