"""Findings become proposals: everything about one skill is one refinement, gaps that overlap are one new skill.

A proposal's priority is the points lost in all. Findings of overlapping contexts do not count a reply twice: it counts
by the effect of the widest finding that cites it, whose estimate is the surest. Findings without an effect (a model's)
count 1 a talk. Unsafe ones come before all others.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from itertools import chain
from typing import NamedTuple, TypeVar

from ..skills_bank.bank import Bank
from ..skills_bank.taxonomy import SCENARIO_INFO, STATE_INFO, SupportAction
from .models import Cite, Context, Finding, FindingKind, Proposal, ProposalKind

T = TypeVar("T", bound=Hashable)
SAME_WORDS = 0.6
"""Two reasons of which this share of the words is common say the same."""
SAME_GAP = 0.5
"""Two gaps whose contexts have this much in common want the same skill."""
TOUCHING = 0.2
"""So much their titles must share beside, where a model gave both: in one state more than one skill can be missing."""
UNSAFE_FIRST = 1e6
"""Added to the priority of what is unsafe."""
MOST_ACTIONS = 4
NAME_LENGTH = 64 - len("create-")
_WORD = re.compile(r"[a-z']+")
_PLAIN = frozenset("a an and are as at be by for from has have in is it its no not of on or that the this to was "
                   "were what when which who with skill skills reply replies seeker seekers".split())  # fmt: skip


class Dropped(NamedTuple):
    """A finding that no proposal was made of, and why."""

    finding: Finding
    reason: str


def consolidate(findings: Sequence[Finding], bank: Bank) -> list[Proposal]:
    """Return the proposals, highest priority first; ties by id. The same findings in any order give the same."""
    return consolidated(findings, bank)[0]


def consolidated(findings: Sequence[Finding], bank: Bank) -> tuple[list[Proposal], list[Dropped]]:
    """Return the proposals, and what was dropped: findings on a skill that the bank does not hold.

    Of those, a gap stays one: an analyzer that names the skill it misses has still seen that one is missing.
    """
    about: dict[str, list[Finding]] = defaultdict(list)
    gaps: list[Finding] = []
    dropped: list[Dropped] = []
    for finding in sorted(findings, key=_order):
        if finding.skill in bank.skills and finding.skill is not None:
            about[finding.skill].append(finding)
        elif finding.kind == FindingKind.GAP:
            gaps.append(finding)
        else:
            dropped.append(Dropped(finding, f"the bank holds no skill {finding.skill!r}"))
    proposals = [_refinement(skill, group) for skill, group in about.items()]
    taken: set[str] = set()
    for cluster in _clusters(gaps, _same_gap):
        proposals.append(_creation(cluster, taken))
    return sorted(proposals, key=lambda each: (-each.priority, each.id)), dropped


def _refinement(skill: str, findings: Sequence[Finding]) -> Proposal:
    worst = max(_clusters(findings, _same_reason), key=lambda each: (_priority(each), len(each)))
    title = f"Refine {skill}: {_short(worst[0].what)}"
    return _proposal(f"refine-{skill}", ProposalKind.REFINE, skill, title, findings)


def _creation(findings: Sequence[Finding], taken: set[str]) -> Proposal:
    named = next((finding.skill for finding in findings if finding.skill), None)
    title = _title(_together([finding.context for finding in findings]), findings)
    slug = base = _slug(named or title)
    number = 2
    while slug in taken:
        slug, number = f"{base[: NAME_LENGTH - 3]}-{number}", number + 1
    taken.add(slug)
    return _proposal(f"create-{slug}", ProposalKind.CREATE, None, title, findings)


def _proposal(id: str, kind: ProposalKind, skill: str | None, title: str, findings: Sequence[Finding]) -> Proposal:
    merged = tuple(_merged(group) for group in _clusters(findings, _same_reason))
    cites = _cites(chain.from_iterable(finding.cites for finding in findings))
    reword = tuple(dict.fromkeys(chain.from_iterable(finding.reword for finding in findings)))
    # What was meant and not heard was not done: its words are at fault before the action is.
    avoid = tuple(action for action in _most(finding.avoid for finding in findings) if action not in reword)
    return Proposal(
        id=id,
        kind=kind,
        skill=skill,
        context=_together([finding.context for finding in findings]),
        title=title,
        findings=tuple(
            sorted(merged, key=lambda each: (each.kind != FindingKind.UNSAFE, -_priority([each]), each.what))
        ),
        talks=len({(cite.profile, cite.repeat) for cite in cites}),
        turns=sum(len(cite.turns) for cite in cites),
        priority=round(_priority(findings), 3),
        avoid=avoid,
        favour=tuple(action for action in _most(finding.favour for finding in findings) if action not in avoid),
        reword=reword,
    )


def _priority(findings: Iterable[Finding]) -> float:
    """Return the points lost in all, and what is added for findings without an effect and for unsafe ones."""
    some = list(findings)
    told = UNSAFE_FIRST * sum(finding.kind == FindingKind.UNSAFE for finding in some)
    told += sum(finding.effect is None for finding in some for _ in finding.cites)
    return told - sum(_lost(some).values())


def _lost(findings: Sequence[Finding]) -> dict[tuple[str, int, int], float]:
    """Return the effect on each reply: that of the widest finding that cites it."""
    narrow_first = sorted(findings, key=lambda finding: finding.turns)
    return {
        (cite.profile, cite.repeat, turn): finding.effect
        for finding in narrow_first
        if finding.effect is not None
        for cite in finding.cites
        for turn in cite.turns
    }


def _clusters(findings: Sequence[Finding], same: Callable[[Finding, Finding], bool]) -> list[list[Finding]]:
    """Put findings together that are the same as the first one of a cluster, largest support first.

    Leaders rather than chains: through a chain of neighbours everything would in the end be one.
    """
    clusters: list[list[Finding]] = []
    for finding in sorted(findings, key=_order):
        home = next((cluster for cluster in clusters if same(cluster[0], finding)), None)
        if home is None:
            clusters.append([finding])
        else:
            home.append(finding)
    return clusters


def _order(finding: Finding) -> tuple[float, int, str]:
    """Order by weight, then support; the whole text makes it the same whatever order they came in."""
    return (-_priority([finding]), -finding.turns, finding.model_dump_json())


def _same_reason(one: Finding, other: Finding) -> bool:
    """Say whether two findings give the same reason for the same moments."""
    return (
        one.kind == other.kind
        and one.skill == other.skill
        and one.source == other.source
        and one.reword == other.reword
        and _overlap(one.context, other.context)
        and _jaccard(_words(one.what), _words(other.what)) >= SAME_WORDS
    )


def _overlap(one: Context, other: Context) -> bool:
    """Say whether some moment could be in both contexts."""
    return (
        (not one.states or not other.states or bool(set(one.states) & set(other.states)))
        and (not one.scenarios or not other.scenarios or bool(set(one.scenarios) & set(other.scenarios)))
        and (one.character is None or other.character is None or one.character == other.character)
        and (one.need is None or other.need is None or one.need == other.need)
    )


def _same_gap(one: Finding, other: Finding) -> bool:
    """Say whether two gaps want the same skill: by context and favoured actions, or by a model's titles."""
    if one.skill and one.skill == other.skill:
        return True
    if one.context.states and other.context.states and not set(one.context.states) & set(other.context.states):
        return False
    alike = _jaccard(_labels(one), _labels(other))
    if one.source == other.source == "llm":
        titles = _jaccard(_words(_head(one)), _words(_head(other)))
        return titles >= SAME_GAP or (alike >= SAME_GAP and titles >= TOUCHING)
    return alike >= SAME_GAP


def _labels(finding: Finding) -> frozenset[str]:
    context = finding.context
    need = (context.need,) if context.need else ()
    return frozenset(map(str, (*context.states, *context.scenarios, *need, *finding.favour)))


def _head(finding: Finding) -> str:
    """Return the title that a model gave a missing skill: what stands before the colon."""
    return finding.what.split(":", 1)[0]


def _words(text: str) -> frozenset[str]:
    return frozenset(word for word in _WORD.findall(text.lower()) if word not in _PLAIN)


def _jaccard(one: Collection[str], other: Collection[str]) -> float:
    together = set(one) | set(other)
    return len(set(one) & set(other)) / len(together) if together else 0.0


def _merged(findings: Sequence[Finding]) -> Finding:
    """Return one finding for several of the same reason: that of the greatest weight, with the support of all."""
    if len(findings) == 1:
        return findings[0]
    first = findings[0]
    cites = _cites(chain.from_iterable(finding.cites for finding in findings))
    turns = sum(len(cite.turns) for cite in cites)
    lost = _lost(findings)
    avoid = _most(finding.avoid for finding in findings)
    return first.model_copy(
        update={
            "context": _together([finding.context for finding in findings]),
            "cites": cites,
            "turns": turns,
            "effect": round(sum(lost.values()) / len(lost), 3) if lost else None,
            "p": min((finding.p for finding in findings if finding.p is not None), default=None),
            "avoid": avoid,
            "favour": tuple(a for a in _most(finding.favour for finding in findings) if a not in avoid),
        }
    )


def _together(contexts: Sequence[Context]) -> Context:
    """Return the context that holds them all; a side on which one of them says nothing is any."""
    characters, needs = {context.character for context in contexts}, {context.need for context in contexts}
    return Context(
        states=_union([context.states for context in contexts]),
        scenarios=_union([context.scenarios for context in contexts]),
        character=characters.pop() if len(characters) == 1 else None,
        need=needs.pop() if len(needs) == 1 else None,
    )


def _union(parts: Sequence[tuple[T, ...]]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(chain.from_iterable(parts))) if all(parts) else ()


def _cites(cites: Iterable[Cite]) -> tuple[Cite, ...]:
    turns: dict[tuple[str, int], set[int]] = defaultdict(set)
    for cite in cites:
        turns[cite.profile, cite.repeat] |= set(cite.turns)
    return tuple(
        Cite(profile=profile, repeat=repeat, turns=tuple(sorted(turns[profile, repeat])))
        for profile, repeat in sorted(turns)
    )


def _most(named: Iterable[tuple[SupportAction, ...]]) -> tuple[SupportAction, ...]:
    """Return the actions that most findings name; those of weightier findings first among equals."""
    return tuple(action for action, _ in Counter(chain.from_iterable(named)).most_common(MOST_ACTIONS))


def _title(context: Context, findings: Sequence[Finding]) -> str:
    named = next((finding.skill for finding in findings if finding.skill), None)
    if named:
        return named.replace("-", " ").capitalize()
    if findings[0].source == "llm":
        return _short(_head(findings[0]))
    parts = [" and ".join(STATE_INFO[state].name.lower() for state in context.states[:2])]
    parts += [f"in {SCENARIO_INFO[scenario].name.lower()}" for scenario in context.scenarios[:1]]
    parts += [f"({context.need.replace('_', ' ')})"] if context.need else []
    title = " ".join(part for part in parts if part)
    return f"Answering {title}" if title else _short(findings[0].what)


def _slug(text: str) -> str:
    """Return a text as a skill's name."""
    slug = ""
    for word in re.findall(r"[a-z0-9]+", text.lower().replace("'", "")):
        longer = f"{slug}-{word}" if slug else word[:NAME_LENGTH]
        if len(longer) > NAME_LENGTH:
            break
        slug = longer
    return slug or "a-missing-skill"


def _short(text: str) -> str:
    return text if len(text) <= 100 else text[:99].rstrip() + "\u2026"
