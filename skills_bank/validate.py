"""Every problem of a skill or a bank folder, as a list (empty means valid).

Run it on its own with `python -m esc_skills.skills_bank.validate [--strict] PATH...`. Format checks hold for any bank.
`strict=True` adds what the bank shipped with the project promises: enough conditions, pitfalls and examples, no
numbers outside Evidence, a plan for every state and no text used twice.
"""

import argparse
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pydantic import ValidationError

from .errors import EscError
from .frontmatter import check_profile, normal_lines, split_frontmatter
from .models import Evidence, Skill
from .problems import Problem, ProblemLog
from .skillmd import DO, EVIDENCE, EXAMPLES, OUTCOME, OVERVIEW, PITFALLS, RISKS, WHEN, WHEN_NOT, read_skill_text

SKILL_FILE = "SKILL.md"
EVIDENCE_FILE = "references/evidence.json"
SUPPORT_FOLDERS = ("references", "scripts", "assets")
MAX_LINES, MAX_TOKENS = 500, 5000
MAX_FILE_BYTES = 1_000_000
CHARACTERS_PER_TOKEN = 4
"""Rule of thumb for English prose; the limit is a recommendation of the Agent Skills format, not a hard one."""
MIN_CONDITIONS, MIN_WHEN_NOT, MIN_PITFALLS, MIN_GOOD, MIN_BAD = 3, 1, 3, 2, 1
MIN_SHARED_WORDS = 4
"""An example line of fewer words ("Thank you.") may stand in several skills."""

_LINK = re.compile(r"\]\(([^)\s]+)\)|`((?:references|scripts|assets)/[^`\s]+)`")
_EDITOR_FILE = re.compile(r"\..*|.*(~|\.swp|\.tmp)|#.*#|4913")


def is_ignored(name: str) -> bool:
    """Whether a file or folder of this name is no part of a bank: hidden, or left by an editor while it saves."""
    return bool(_EDITOR_FILE.fullmatch(name))


def problems_in_skill(folder: Path, *, strict: bool = False) -> list[Problem]:
    """Return every problem of the skill in `folder`."""
    log = ProblemLog(f"{folder.name}/{SKILL_FILE}")
    files = _read_files(folder, log)
    text = files.get(SKILL_FILE, b"").decode("utf-8", errors="replace")
    _check_files(folder, text, log)
    skill, _ = check_content(folder.name, files, log)
    _check_text(text, log)
    if skill is not None and strict:
        _check_amounts(skill, log)
        _check_digits(skill, log)
    return log.problems


def check_content(name: str, files: Mapping[str, bytes], log: ProblemLog) -> tuple[Skill | None, Evidence | None]:
    """Check what serving relies on: the text, its name, its states and actions, its evidence.

    Args:
        name: Name of the skill's folder.
        files: The skill's files by POSIX path.
        log: Takes the problems; without any, the skill can be served.

    Returns:
        The skill and its evidence, each None where it is absent or cannot be read.
    """
    content = files.get(SKILL_FILE)
    if content is None:
        log.add("file", f"There is no {SKILL_FILE}.", "Add one, or take the folder away.")
        return None, None
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        log.add("file", f"It is not UTF-8 (byte {error.start}).", "Save it as UTF-8.")
        return None, None
    skill, problems = read_skill_text(text, log.file)
    log.problems += problems
    evidence = _read_evidence(files.get(EVIDENCE_FILE), log)
    if skill is None:
        return None, evidence
    if skill.name != name:
        fix = f"Rename the folder to {skill.name!r}, or set 'name: {name}'."
        log.add("name", f"The name {skill.name!r} is not the folder's, {name!r}.", fix)
    _check_ids(skill, log)
    _check_evidence(skill, evidence, EVIDENCE_FILE in files, log)
    return skill, evidence


def problems_in_bank(folder: Path, *, strict: bool = False) -> list[Problem]:
    """Return every problem of the skills in `folder`, and with `strict` also what they share."""
    skills = skill_folders(folder)
    problems = [problem for skill in skills for problem in problems_in_skill(skill, strict=strict)]
    if not skills:
        log = ProblemLog(str(folder))
        log.add("bank", "There is no skill.", f"Put each skill into a folder of its name with a {SKILL_FILE}.")
        problems += log.problems
    return problems + (_check_shared(skills) if strict else [])


def skill_folders(folder: Path) -> list[Path]:
    """Return the folders in `folder` that are, or were meant to be, skills: all but hidden ones, in order of name."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not is_ignored(path.name))


def support_files(folder: Path) -> list[str]:
    """Return the files of a skill other than SKILL.md, as POSIX paths relative to `folder`, in order."""
    found = []
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        if path.is_file() and parts != (SKILL_FILE,) and not any(is_ignored(part) for part in parts):
            found.append("/".join(parts))
    return sorted(found)


def _read_files(folder: Path, log: ProblemLog) -> dict[str, bytes]:
    """Return the files that are checked by content; those that cannot be read are noted."""
    files = {}
    for name in (SKILL_FILE, EVIDENCE_FILE):
        path = folder / name
        try:
            if path.is_file():
                files[name] = path.read_bytes()
        except OSError as error:
            log.add("files", f"{name} cannot be read: {error.strerror}.", "Check its permissions.")
    return files


def _check_files(folder: Path, text: str, log: ProblemLog) -> None:
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder).as_posix()
        if path.is_symlink():
            log.add("files", f"{relative} is a symbolic link.", "Put the file itself there.")
        elif path.name.casefold() == "skill.md" and relative != SKILL_FILE:
            log.add("files", f"{relative} is a second {SKILL_FILE}.", "Give it a folder of its own in the bank.")
    for relative in support_files(folder):
        top = relative.split("/")[0]
        if top not in SUPPORT_FOLDERS or "/" not in relative:
            fix = f"Move it under {', '.join(f'{name}/' for name in SUPPORT_FOLDERS)}."
            log.add("files", f"{relative} lies where hosts do not look.", fix)
        elif (folder / relative).stat().st_size > MAX_FILE_BYTES:
            log.add("files", f"{relative} has over {MAX_FILE_BYTES} bytes.", "Keep such files elsewhere.")
        elif relative not in text:
            log.add("files", f"{relative} is not linked.", f"Link it in {SKILL_FILE}: [{relative}]({relative}).")
    for match in _LINK.finditer(text):
        target = (match[1] or match[2]).split("#")[0]
        if target and "://" not in target and not target.startswith("mailto:") and not (folder / target).is_file():
            line = text.count("\n", 0, match.start()) + 1
            log.add("links", f"The link to {target} leads nowhere.", "Add the file or take the link away.", line)


def _check_text(text: str, log: ProblemLog) -> None:
    lines = normal_lines(text)
    tokens = -(-len(text) // CHARACTERS_PER_TOKEN)
    if len(lines) > MAX_LINES:
        log.add("size", f"It has {len(lines)} lines.", f"Keep it to {MAX_LINES}; move detail to references/.")
    if tokens > MAX_TOKENS:
        log.add("size", f"It has about {tokens} tokens.", f"Keep it to {MAX_TOKENS}; move detail to references/.")
    head = split_frontmatter(lines, ProblemLog(log.file))
    if head is not None:
        check_profile(head[0], log)


def _check_ids(skill: Skill, log: ProblemLog) -> None:
    planned = {plan.state for plan in skill.plans}
    for state in sorted(planned - set(skill.states)):
        log.add(DO, f"There is a plan for {state.value!r}, not named in esc-states.", "Add it there.")
    for state in sorted(set(skill.states) - planned):
        log.add("esc-states", f"{state.value!r} has no plan.", f"Add '### ... (`{state}`)' under '## {DO}'.")
    used = {step.action for plan in skill.plans for step in plan.steps}
    for action in sorted(used - set(skill.actions)):
        log.add(DO, f"A plan uses {action.value!r}, not named in esc-actions.", "Add it there.")
    named = used | {pitfall.action for pitfall in skill.pitfalls}
    for action in sorted(set(skill.actions) - named):
        log.add("esc-actions", f"No plan and no pitfall names {action.value!r}.", "Write about it or take it out.")


def _read_evidence(content: bytes | None, log: ProblemLog) -> Evidence | None:
    if content is None:
        return None
    try:
        return Evidence.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        log.add(EVIDENCE_FILE, f"{place}: {first['msg']}.", "Write it again with code.")
        return None


def _check_evidence(skill: Skill, evidence: Evidence | None, present: bool, log: ProblemLog) -> None:
    if skill.evidence and not present:
        log.add(EVIDENCE, f"The section stands there without {EVIDENCE_FILE}.", "Let code write both.")
    if evidence is None:
        return
    if evidence.skill != skill.name:
        log.add(EVIDENCE_FILE, f"It is about {evidence.skill!r}.", "Write it again with code.")
    if skill.evidence != _rendered(evidence):
        log.add(EVIDENCE, f"The section does not say what {EVIDENCE_FILE} says.", "Let code write the section.")


def _rendered(evidence: Evidence) -> str:
    from .evidence import render_evidence

    return render_evidence(evidence).strip("\n")


def _check_amounts(skill: Skill, log: ProblemLog) -> None:
    kinds = [example.kind for example in skill.examples]
    for field, what, count, least in (
        (WHEN, "activation conditions", len(skill.when), MIN_CONDITIONS),
        (WHEN_NOT, "conditions", len(skill.when_not), MIN_WHEN_NOT),
        (PITFALLS, "pitfalls", len(skill.pitfalls), MIN_PITFALLS),
        (EXAMPLES, "good examples", kinds.count("good"), MIN_GOOD),
        (EXAMPLES, "bad examples", kinds.count("bad"), MIN_BAD),
    ):
        if count < least:
            log.add(field, f"There are {count} {what}.", f"Write at least {least}.")


def _prose(skill: Skill) -> Iterator[tuple[str, str]]:
    yield from (("description", skill.description), ("title", skill.title), (OVERVIEW, skill.overview))
    yield from ((WHEN, text) for text in (*skill.when, *skill.when_not))
    for plan in skill.plans:
        yield from ((DO, text) for step in plan.steps for text in (step.how, step.say or ""))
    for pitfall in skill.pitfalls:
        yield from ((PITFALLS, text) for text in (pitfall.title, pitfall.text, pitfall.signal))
    for example in skill.examples:
        lines = (message.content for message in example.lines)
        yield from ((EXAMPLES, text) for text in (example.title, *lines, example.comment))
    yield from ((OUTCOME, skill.expected_outcome), (RISKS, skill.risks), *skill.extra_sections)


def _check_digits(skill: Skill, log: ProblemLog) -> None:
    for field, text in _prose(skill):
        for line in text.split("\n"):
            match = re.search(r"\S*\d\S*", re.sub(r"^\s*\d+[.)]\s", "", line))
            if match:
                log.add(field, f"A number stands in the prose: {match[0]!r}.", "Write it as a word or leave it out.")


def _check_shared(folders: Iterable[Path]) -> list[Problem]:
    owners: dict[tuple[str, str], list[str]] = defaultdict(list)
    for folder in folders:
        skill, _ = check_content(folder.name, _read_files(folder, ProblemLog("")), ProblemLog(""))
        if skill is None:
            continue
        texts = {("description", skill.description)}
        texts |= {(EXAMPLES, message.content) for example in skill.examples for message in example.lines}
        for field, value in texts:
            words = re.findall(r"\w+", value.casefold())
            if field == "description" or len(words) >= MIN_SHARED_WORDS:
                owners[field, " ".join(words)].append(folder.name)
    log = ProblemLog("bank")
    for (field, value), names in owners.items():
        if len(names) > 1:
            log.add(field, f"{', '.join(names)} share the text {value[:60]!r}.", "Write each skill its own.")
    return log.problems


def problems_at(path: Path, *, strict: bool = False) -> list[Problem]:
    """Return the problems of what `path` is: a SKILL.md, a skill's folder or a bank's folder."""
    if path.name == SKILL_FILE:
        path = path.absolute().parent
    if not path.exists():
        raise EscError(f"There is no {path}. Name a {SKILL_FILE}, a skill's folder or a bank's folder.")
    path = path.resolve()
    if (path / SKILL_FILE).exists():
        return problems_in_skill(path, strict=strict)
    return problems_in_bank(path, strict=strict)


def main(arguments: list[str] | None = None) -> int:
    """Print every problem of the paths given; 0 when there is none, 1 when there are some, 2 for a wrong path."""
    parser = argparse.ArgumentParser(prog="python -m esc_skills.skills_bank.validate", description=__doc__)
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH")
    parser.add_argument("--strict", action="store_true", help="also check what the shipped bank promises")
    options = parser.parse_args(arguments)
    try:
        problems = [problem for path in options.paths for problem in problems_at(path, strict=options.strict)]
    except EscError as error:
        print(error, file=sys.stderr)
        return 2
    print("\n".join(str(problem) for problem in problems) or "No problems.")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
