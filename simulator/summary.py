"""What came out of a run: SAGE's figures for all talks and for groups of them, the skills, the risk rail, the cost."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from ..skills_bank.files import replace_durably
from ..skills_bank.taxonomy import SupportAction
from .emotion import is_failure, is_success
from .needs import Character, HiddenNeed
from .resample import Estimate, mean, ratio
from .run import RunFolder, RunSettings
from .session import Transcript
from .trajectories import draw

SAFETY = SupportAction.SAFETY_CHECK_AND_REFERRAL
JSON, PAGE, PLOT = "summary.json", "summary.md", "trajectories.svg"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Figures(_Frozen):
    """SAGE's figures over some talks; intervals are 95%, by bootstrap over talks."""

    talks: int
    mean: Estimate
    success: int
    success_share: Estimate
    failure: int
    failure_share: Estimate
    turns: int
    mean_change: Estimate
    negative_share: Estimate


class SkillFigures(_Frozen):
    """What followed the turns in which a skill was followed. An association: a skill is called for hard moments too."""

    talks: int
    turns: int
    mean_change: Estimate
    negative_share: Estimate
    mean: Estimate


class RiskFigures(_Frozen):
    """How the risk rail acted."""

    hinted: int = 0
    """Talks whose profile bears a hint of risk."""
    hinted_read: int = 0
    """Of them, talks in which the agent read a risk."""
    unhinted: int = 0
    unhinted_read: int = 0
    elevated_turns: int = 0
    """Replies before which an elevated risk was read."""
    elevated_checked: int = 0
    """Of them, those that were the safety check or came after it in the same talk."""
    high_turns: int = 0
    high_fixed: int = 0
    """Of them, those in which nothing but the fixed text was said."""
    checks: int = 0
    """Replies that were a safety check, whoever asked for it: the rail, a skill or chance."""


class Summary(_Frozen):
    """All figures of a run."""

    run: str
    all: Figures
    by_character: dict[str, Figures]
    by_need: dict[str, Figures]
    by_scenario: dict[str, Figures]
    by_skill: dict[str, SkillFigures]
    ends: dict[str, int]
    oddities: dict[str, int]
    risk: RiskFigures
    tokens: int
    usd: float | None


class Talk(NamedTuple):
    """What the figures need of a transcript; a run of any length is summed up without its words."""

    profile: str
    repeat: int
    seed: int
    character: str
    need: str
    scenario: str
    risk: bool
    path: tuple[int, ...]
    """The emotion at the start and after each scored turn."""
    points: int
    changes: tuple[int, ...]
    end: str
    followed: tuple[tuple[str, int], ...]
    """The skill followed and the change after it, of scored turns that followed one."""
    oddities: tuple[str, ...]
    rail: tuple[tuple[str, str, bool], ...]
    """Risk read, what the rail did, and whether a safety check was meant, of every reply."""
    tokens: int
    usd: float | None

    @classmethod
    def of(cls, t: Transcript) -> "Talk":
        """Take out of a transcript what is counted."""
        spent = t.spent
        return cls(
            t.profile,
            t.repeat,
            t.seed,
            t.character.value,
            t.need.value,
            t.scenario.value if t.scenario else "",
            t.risk is not None,
            t.trajectory,
            t.points,
            t.changes,
            str(t.end),
            tuple((turn.followed, turn.change) for turn in t.turns if turn.followed and turn.change is not None),
            tuple(odd.value for turn in t.turns for odd in turn.oddities),
            tuple((turn.risk, turn.rail, SAFETY in turn.actions) for turn in t.turns),
            spent.tokens,
            spent.usd,
        )


def talks_of(run: RunFolder) -> list[Talk]:
    """Read what is counted of every conversation of a run."""
    return [Talk.of(transcript) for transcript in run.transcripts()]


def figures(talks: Sequence[Talk]) -> Figures:
    """Return SAGE's figures over some talks, at least one."""
    turns = [float(len(t.changes)) for t in talks]
    success, failure = [is_success(t.points) for t in talks], [is_failure(t.points) for t in talks]
    return Figures(
        talks=len(talks),
        mean=mean([t.points for t in talks]),
        success=sum(success),
        success_share=mean(success),
        failure=sum(failure),
        failure_share=mean(failure),
        turns=int(sum(turns)),
        mean_change=ratio([sum(t.changes) for t in talks], turns),
        negative_share=ratio([sum(c < 0 for c in t.changes) for t in talks], turns),
    )


def summarize(run: str, talks: Sequence[Talk]) -> Summary:
    """Return all figures of a run with at least one talk."""
    costs = [t.usd for t in talks if t.tokens]
    return Summary(
        run=run,
        all=figures(talks),
        by_character=grouped(talks, lambda t: t.character, [c.value for c in Character]),
        by_need=grouped(talks, lambda t: t.need, [n.value for n in HiddenNeed]),
        by_scenario=grouped(talks, lambda t: t.scenario, sorted({t.scenario for t in talks if t.scenario})),
        by_skill=_by_skill(talks),
        ends=dict(sorted(Counter(t.end for t in talks).items())),
        oddities=dict(sorted(Counter(odd for t in talks for odd in t.oddities).items())),
        risk=_risk(talks),
        tokens=sum(t.tokens for t in talks),
        usd=None if not costs or None in costs else round(sum(cost or 0.0 for cost in costs), 6),
    )


def grouped(talks: Sequence[Talk], key: Callable[[Talk], str], values: Iterable[str]) -> dict[str, Figures]:
    """Return the figures of each group that has a talk."""
    groups = {value: [t for t in talks if key(t) == value] for value in values}
    return {value: figures(group) for value, group in groups.items() if group}


def _by_skill(talks: Sequence[Talk]) -> dict[str, SkillFigures]:
    after: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for place, talk in enumerate(talks):
        for skill, change in talk.followed:
            after[skill][place].append(change)
    return {skill: _skill(talks, after[skill]) for skill in sorted(after)}


def _skill(talks: Sequence[Talk], after: dict[int, list[int]]) -> SkillFigures:
    turns = [float(len(changes)) for changes in after.values()]
    return SkillFigures(
        talks=len(after),
        turns=int(sum(turns)),
        mean_change=ratio([sum(changes) for changes in after.values()], turns),
        negative_share=ratio([sum(c < 0 for c in changes) for changes in after.values()], turns),
        mean=mean([talks[place].points for place in after]),
    )


def _risk(talks: Sequence[Talk]) -> RiskFigures:
    count: Counter[str] = Counter()
    for talk in talks:
        read = any(level != "none" for level, _, _ in talk.rail)
        side = "hinted" if talk.risk else "unhinted"
        count[side] += 1
        count[f"{side}_read"] += read
        checked = False
        for level, rail, check in talk.rail:
            checked = checked or check or rail == "check"
            count["checks"] += check or rail == "check"
            count["elevated_turns"] += level == "elevated"
            count["elevated_checked"] += level == "elevated" and checked
            count["high_turns"] += level == "high"
            count["high_fixed"] += level == "high" and rail == "fixed"
    return RiskFigures(**{name: count[name] for name in RiskFigures.model_fields})


def write_summary(run: RunFolder) -> Summary:
    """Sum a run up and write the figures, the page and the plot into its folder.

    Raises:
        InputError: The run cannot be read.
    """
    talks = talks_of(run)
    found = summarize(run.id, talks)
    groups = {c.value: [t.path for t in talks if t.character == c] for c in Character}
    plot = draw([t.path for t in talks], {name: lines for name, lines in groups.items() if lines})
    page = f"# {run.id}\n\n{described(run.settings())}\n\n![emotion by turn]({PLOT})\n\n{tables(found)}"
    for name, text in ((JSON, found.model_dump_json(indent=1) + "\n"), (PAGE, page), (PLOT, plot)):
        replace_durably(run.folder / name, text.encode())
    return found


def described(settings: RunSettings) -> str:
    """Say in a sentence what a run is."""
    bank = f", bank {settings.bank_version}" if settings.bank_version else ""
    return (
        f"{settings.n} talks over {settings.profiles} (digest {settings.profiles_hash}), seed {settings.seed}: agent "
        f"{settings.agent_name}{bank}; seeker {settings.seeker_name}; {settings.rules} rules."
    )


HEAD = "| | talks | mean | Success | Failure | turns | change a turn | negative |\n| --- |" + " ---: |" * 7


def tables(found: Summary) -> str:
    """Return the figures as markdown."""
    parts = [f"{HEAD}\n{row('all', found.all)}"]
    groups = (("character", found.by_character), ("hidden need", found.by_need), ("scenario", found.by_scenario))
    for title, group in groups:
        if group:
            lines = "\n".join(row(name.replace("_", " "), figures) for name, figures in group.items())
            parts.append(f"## By {title}\n\n{HEAD}\n{lines}")
    if found.by_skill:
        parts.append("## By skill\n\nTurns in which a step of the skill was taken.\n\n" + _skill_table(found))
    parts.append(f"## Risk rail\n\n{risk_table(found.risk)}")
    ends = ", ".join(f"{name} {n}" for name, n in found.ends.items())
    odd = ", ".join(f"{name.replace('_', ' ')} {n}" for name, n in found.oddities.items()) or "none"
    cost = f"{found.tokens:,} tokens, " + ("cost unknown" if found.usd is None else f"${found.usd:.2f}")
    parts.append(f"Ends: {ends}. Oddities: {odd}. " + (f"Models: {cost}." if found.tokens else "No model was asked."))
    return "\n\n".join(parts) + "\n"


def row(name: str, f: Figures) -> str:
    """Return one line of a table with `HEAD`."""
    return (
        f"| {name} | {f.talks} | {spread(f.mean)} | {f.success} | {f.failure} | {f.turns} | "
        f"{spread(f.mean_change, '+.2f')} | {spread(f.negative_share, '.0%')} |"
    )


def _skill_table(found: Summary) -> str:
    head = "| skill | talks | turns | change a turn | negative | mean of its talks |\n| --- |" + " ---: |" * 5
    lines = (
        f"| `{name}` | {f.talks} | {f.turns} | {spread(f.mean_change, '+.2f')} | {spread(f.negative_share, '.0%')} | "
        f"{spread(f.mean)} |"
        for name, f in sorted(found.by_skill.items(), key=lambda item: (-item[1].turns, item[0]))
    )
    return "\n".join((head, *lines))


def risk_table(r: RiskFigures) -> str:
    """Return the counts of the risk rail as markdown."""
    return f"""\
| | |
| --- | ---: |
| talks whose profile hints at risk, of them read as such | {r.hinted}, {r.hinted_read} |
| talks whose profile does not, of them read as risk | {r.unhinted}, {r.unhinted_read} |
| replies at elevated risk, of them the safety check or after it | {r.elevated_turns}, {r.elevated_checked} |
| replies at high risk, of them the fixed text alone | {r.high_turns}, {r.high_fixed} |
| replies that check on safety, for whatever reason | {r.checks} |"""


def spread(e: Estimate, form: str = ".1f") -> str:
    """Return a figure with its interval."""
    return f"{e.value:{form}} ({e.low:{form}} to {e.high:{form}})"
