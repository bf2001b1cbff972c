"""What a generator is, what it is told, and what every new text needs beside its prose: evidence and a signature."""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field

from ..pipeline.evidence import CLUSTER_KEY, SOURCE
from ..simulator.needs import CHARACTER_INFO, NEED_INFO
from ..simulator.profiles import Profile
from ..simulator.session import Transcript, TurnRecord
from ..skills_bank.bank import Bank
from ..skills_bank.evidence import evidence_from, render_evidence
from ..skills_bank.models import Prototype, Skill
from ..skills_bank.skillmd import render_skill
from ..skills_bank.taxonomy import SCENARIO_INFO, SeekerState, SupportAction
from ..skills_bank.validate import EVIDENCE_FILE, SKILL_FILE
from .models import Candidate, Feedback, Proposal

Cell = tuple[SeekerState, SupportAction]
MOST_BAD = 2
"""Conversations told in full (Zhu et al. 2026: up to two)."""
MOST_REPORTS = 5


class Brief(BaseModel):
    """All that the writer of a text is told."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    proposal: Proposal
    attempt: int = Field(ge=1)
    bad: tuple[Transcript, ...] = Field(default=(), max_length=MOST_BAD, description="Talks that went worst.")
    reports: tuple[str, ...] = Field(default=(), description="Of the lowest profiles, without a seeker's words.")
    feedback: Feedback | None = Field(default=None, description="What became of the attempt before.")
    last: Candidate | None = Field(default=None, description="The text of the attempt before.")


class Generator(Protocol):
    """Anybody who can write the text that a proposal asks for."""

    @property
    def name(self) -> str:
        """Who it is, with the version of what decides its texts."""
        ...

    async def generate(self, brief: Brief, bank: Bank) -> Candidate:
        """Return a text for `brief.proposal`, made from `bank`.

        Raises:
            GenerationError: Nothing can be changed, or no text came about that may stand in the bank.
        """
        ...


def brief_for(
    proposal: Proposal,
    attempt: int,
    talks: Sequence[Transcript],
    profiles: Mapping[str, Profile],
    *,
    feedback: Feedback | None = None,
    last: Candidate | None = None,
) -> Brief:
    """Return what a generator is told.

    Args:
        proposal: What is to be written.
        attempt: Which try this is, from 1.
        talks: Conversations that may be shown.
        profiles: Whom they were held with, by id.
        feedback: What became of the attempt before.
        last: Its text.
    """
    worst = worst_talks(proposal, talks)
    return Brief(
        proposal=proposal,
        attempt=attempt,
        bad=tuple(worst[:MOST_BAD]),
        reports=tuple(report(talk, profiles.get(talk.profile)) for talk in worst[:MOST_REPORTS]),
        feedback=feedback,
        last=last,
    )


def worst_talks(proposal: Proposal, talks: Sequence[Transcript]) -> list[Transcript]:
    """Return the talks the proposal is about, worst first, one a profile.

    For a skill, those in which it was followed, by the points that its replies lost; for a missing one, and where the
    skill was never followed, those that the findings cite, by the points at the end.
    """
    cited = {(cite.profile, cite.repeat) for finding in proposal.findings for cite in finding.cites}
    followed = [talk for talk in talks if any(turn.followed == proposal.skill for turn in talk.turns)]
    if proposal.skill is not None and followed:
        ranked = sorted(followed, key=lambda talk: (_gained(talk, proposal.skill), talk.points, talk.key))
    else:
        ranked = sorted((talk for talk in talks if talk.key in cited), key=lambda talk: (talk.points, talk.key))
    return list({talk.profile: talk for talk in reversed(ranked)}.values())[::-1]


def _gained(talk: Transcript, skill: str | None) -> int:
    return sum(turn.change or 0 for turn in talk.turns if turn.followed == skill)


def report(talk: Transcript, profile: Profile | None = None) -> str:
    """Return how a talk went, reply by reply, without a word that the seeker said."""
    character, need = CHARACTER_INFO[talk.character], NEED_INFO[talk.need]
    scenario = SCENARIO_INFO[talk.scenario].name if talk.scenario else "not told"
    traits = f" Traits: {', '.join(profile.traits)}." if profile is not None and profile.traits else ""
    head = (
        f"{talk.profile}, talk {talk.repeat}. Character: {character.name}.{traits} Hidden need: {need.name}. "
        f"Scenario: {scenario}. Risk hint in the profile: {talk.risk or 'none'}.",
        f"Ended: {talk.end}, {talk.points} points. Points: {', '.join(map(str, talk.changes))}.",
    )
    return "\n".join((*head, *map(_turn, talk.turns)))


def _turn(turn: TurnRecord) -> str:
    meant, heard = (", ".join(actions) or "nothing named" for actions in (turn.actions, turn.heard))
    text = f"{turn.number}. Followed {turn.followed or 'no skill'}; meant {meant}; heard {heard}."
    if turn.rail != "none":
        text += f" The risk rail acted: {turn.rail}."
    if turn.change is not None:
        text += f" Change {turn.change:+d}, to {turn.points}."
    if turn.appraisal is not None:
        seen = turn.appraisal
        notes = (seen.content, seen.serves, seen.inner, seen.feeling)
        text += f" {' '.join(' '.join(note.split()) for note in notes if note)}"
    return text


# --- evidence and signature -----------------------------------------------------------------------------------------


@lru_cache(maxsize=8)
def known_cells(bank: Bank) -> Mapping[Cell, Prototype]:
    """Return every prototype there is, by cell: the bank's own, and for a bank counted from the shipped labels theirs.

    The latter matters where a skill was lost, and its cells with it.
    """
    from ..pipeline.prototypes import prototypes
    from ..pipeline.units import units

    own = {(p.state, p.action): p for proof in bank.evidence.values() for p in proof.prototypes}
    if any(proof.source == SOURCE for proof in bank.evidence.values()):
        return {(p.state, p.action): p for p in prototypes(units())} | own
    return own


def complete(skill: Skill, bank: Bank, *, old: str | None = None, written_by: str) -> tuple[Skill, dict[str, str]]:
    """Return a new text as it is served: signed, with its evidence by code, and its files.

    Its evidence is that of `proof_of`; a skill without any has no evidence, as one written by hand.

    Args:
        skill: The text; what it says of version, author and evidence is written anew.
        bank: The bank it is made for.
        old: The skill it was made from; None: a new one.
        written_by: Who wrote it.

    Raises:
        SkillParseError: The text cannot be written in the grammar of SKILL.md.
    """
    before = bank.skills[old] if old is not None else None
    same = before is not None and before.name == skill.name
    extra = {key: text for key, text in skill.extra_metadata.items() if key != CLUSTER_KEY}
    signed = skill.model_copy(
        update={
            "version": next_version(before.version) if before is not None and same else "1",
            "parent": f"{before.name}@{before.version}" if before is not None else None,
            "written_by": written_by,
            "extra_metadata": extra,
            "evidence": "",
        }
    )
    found = proof_of(signed, bank, old if same else None)
    if not found:
        return signed, {SKILL_FILE: render_skill(signed)}
    source = next((proof.source for proof in bank.evidence.values()), SOURCE)
    evidence = evidence_from(signed.name, found, source)
    full = signed.model_copy(update={"evidence": render_evidence(evidence)})
    return full, {SKILL_FILE: render_skill(full), EVIDENCE_FILE: evidence.model_dump_json(indent=1) + "\n"}


def next_version(version: str) -> str:
    """Return the version after this one."""
    return str(int(version) + 1) if version.isdigit() else f"{version}.1"


def proof_of(skill: Skill, bank: Bank, old: str | None) -> list[Prototype]:
    """Return the prototypes a text stands on, of those that the bank's evidence holds.

    Those that the old text stood on, less the states that are gone, and one for each step that is new: a text whose
    words alone are others stands on what the old one stood on, and is selected as it was.
    """
    known = known_cells(bank)
    stood = bank.evidence[old].prototypes if old is not None and old in bank.evidence else ()
    cells = {(p.state, p.action): p for p in stood if p.state in skill.states}
    before = _steps(bank.skills[old]) if old is not None else set()
    for cell in dict.fromkeys((plan.state, step.action) for plan in skill.plans for step in plan.steps):
        if cell in known and cell not in before:
            cells.setdefault(cell, known[cell])
    return list(cells.values())


def _steps(skill: Skill) -> set[tuple[SeekerState, SupportAction]]:
    return {(plan.state, step.action) for plan in skill.plans for step in plan.steps}


def candidate_of(brief: Brief, skill: Skill, files: dict[str, str], *, what: str, generator: str) -> Candidate:
    """Return a text as the candidate of this attempt."""
    proposal = brief.proposal
    return Candidate(
        id=f"{proposal.id}.{brief.attempt}",
        proposal=proposal.id,
        attempt=brief.attempt,
        skill=skill.name,
        replaces=proposal.skill if skill.name == proposal.skill else None,
        files=files,
        what=what,
        generator=generator,
    )


def same_text(one: Skill, other: Skill) -> bool:
    """Whether two skills say the same; who wrote them, when and on what evidence aside."""
    aside = {"version": "", "parent": None, "written_by": "", "evidence": "", "extra_metadata": {}}
    return one.model_copy(update=aside) == other.model_copy(update=aside)


def states_of(proposal: Proposal) -> tuple[SeekerState, ...]:
    """Return the states a proposal is about, those of most replies first; empty: any."""
    weight: dict[SeekerState, int] = {}
    for finding in proposal.findings:
        for state in finding.context.states:
            weight[state] = weight.get(state, 0) + finding.turns
    for state in proposal.context.states:
        weight.setdefault(state, 0)
    return tuple(sorted(weight, key=lambda state: (-weight[state], list(SeekerState).index(state))))


def in_words(items: Iterable[str]) -> str:
    """Return ids as words in a list."""
    return ", ".join(str(item).replace("_", " ") for item in items)
