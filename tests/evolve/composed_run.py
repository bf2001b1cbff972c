"""An evolution as it might lie in its folder, with every ruling and a hostile text, composed here: no talk was held."""

import json
import random
from pathlib import Path

from esc_skills.evolve.acceptance import effect_of
from esc_skills.evolve.models import (
    Candidate,
    Check,
    Cite,
    Context,
    Effect,
    Feedback,
    Finding,
    FindingKind,
    Proposal,
    ProposalKind,
    TalkPair,
    Verdict,
    Veto,
)
from esc_skills.evolve.plan import EvolveCaps, EvolvePlan, PlannedBank
from esc_skills.evolve.record import Baseline, End, EvolveRun, Joint, Outcome, Round, Sealed
from esc_skills.evolve.split import Split
from esc_skills.pipeline.jobs import JobRecord, JobState
from esc_skills.pipeline.llm.journal import Journal, Line, Reply
from esc_skills.pipeline.llm.tokens import Tokens
from esc_skills.simulator.emotion import End as TalkEnd
from esc_skills.simulator.emotion import state_of
from esc_skills.simulator.needs import Character, HiddenNeed
from esc_skills.simulator.seeker import Appraisal
from esc_skills.simulator.session import Transcript, TurnRecord
from esc_skills.simulator.summary import Talk, figures
from esc_skills.skills_bank.taxonomy import Scenario, SeekerState, SupportAction

SKILLS = (
    "meeting-hopelessness",
    "hearing-out-anger",
    "rolling-with-yes-but",
    "reaching-the-lonely",
    "working-with-anger",
    "easing-self-blame",
    "staying-with-sadness-and-grief",
    "unfolding-mixed-feelings",
    "weighing-a-hard-choice",
    "steadying-anxiety-with-next-steps",
    "keeping-rapport-and-closing-well",
    "opening-and-getting-the-story",
)
SAID = "The kettle whistles every evening and nobody comes to turn it off."
"""What a seeker says in the run, and what must never stand in its report."""
THOUGHT = "Perhaps this one will stay a little longer than the rest of them."
HOSTILE = (
    "</pre></details></main><script>document.title='owned';fetch('http://127.0.0.1:9/x')</script>"
    '<img src=x onerror="document.title=\'owned\'"> & "quotes" $body ${title} \u202egnp.exe \x00'
)
JOB = "evolve-20260102-030405-abcdef"


def compose_run(root: Path) -> EvolveRun:
    """Write a finished run and return it."""
    return _Composer(root / JOB).write()


class _Composer:
    def __init__(self, folder: Path) -> None:
        self.run = EvolveRun(folder)
        self.rng = random.Random(5)
        self.profiles = tuple(f"evolution-{number:03}" for number in range(1, 201))
        self.split = Split(
            seed=7, propose=self.profiles[:100], verify=self.profiles[100:170], sealed=self.profiles[170:]
        )
        self.floor = self.effect(0.1, self.split.verify, 2)

    def write(self) -> EvolveRun:
        run = self.run
        run.write("job.json", self.job())
        run.write("split.json", self.split)
        talks = self.talks()
        run.write("baseline.json", Baseline(run="trials/0a1b2c", figures=figures([Talk.of(talk) for talk in talks])))
        run.write_text("trials/0a1b2c/transcripts.jsonl", "".join(f"{talk.model_dump_json()}\n" for talk in talks))
        run.write("floor.json", self.floor)
        findings, proposals = self.findings(), self.proposals()
        run.write("findings.json", findings)
        run.write("proposals.json", proposals)
        self.attempts()
        run.write("end.json", End(tried=8, proposals=10, attempts=13, cap="candidates", told=END))
        self.end()
        self.calls()
        run.write_text("timing.json", json.dumps({"baseline": 141.2, "analyze": 3.9, "verify": 512.0, "sealed": 61.4}))
        return run

    def calls(self) -> None:
        journal = Journal(self.run.folder / "journal.sqlite", self.run.id)
        for number in range(14):
            role = "writer" if number < 11 else "analyzer"
            line = Line(str(number), str(number), role, "claude-sonnet-5", "edit@1", "a candidate")
            journal.answered(line, Reply("{}", "end_turn", Tokens(5_400, 810)), 0.0412 if role == "writer" else 0.003)
        journal.failed(Line("x", "x", "writer", "claude-sonnet-5", "edit@1", "a candidate"), "cut off")
        journal.close()

    def job(self) -> JobRecord:
        bank = PlannedBank(
            root=Path("/banks/mine"),
            kind="store",
            folder=Path("/banks/mine/versions/S0"),
            index=Path("/banks/index"),
            version="S0",
            hash="5e" * 32,
        )
        plan = EvolvePlan(
            esc_skills="0.1.0",
            bank=bank,
            profiles="evolution",
            profiles_hash="ab" * 32,
            n=200,
            materials="c0ffee",
            generator="llm",
            models={"writer": "claude-sonnet-5"},
            caps=EvolveCaps(calls=400, usd=5.0, candidates=13),
        )
        return JobRecord(
            id=JOB,
            kind="evolve",
            plan=plan.model_dump(mode="json"),
            state=JobState.COMPLETED,
            phase="done",
            started="2026-01-02T03:04:05.000+00:00",
            heartbeat="2026-01-02T03:16:00.000+00:00",
        )

    # --- talks --------------------------------------------------------------------------------------------------------

    def talks(self) -> list[Transcript]:
        scenarios = list(Scenario)
        return [
            self.talk(profile, scenarios[place % len(scenarios)]) for place, profile in enumerate(self.profiles[:170])
        ]

    def talk(self, profile: str, scenario: Scenario) -> Transcript:
        points, turns = 40, []
        home = self.rng.sample(SKILLS, 4)
        for number in range(1, self.rng.randint(5, 9)):
            skill = self.rng.choice([*home, home[0], None])
            bias = 3.5 - 0.8 * (SKILLS.index(skill) if skill else 9)
            change = max(-10, min(10, round(self.rng.gauss(bias, 3.5))))
            points = max(0, min(100, points + change))
            thoughts = Appraisal(content="It asks.", serves="Partly.", inner=THOUGHT, feeling="A bit.", change=change)
            turns.append(
                TurnRecord(
                    number=number,
                    supporter="What is it like?",
                    followed=skill,
                    change=change,
                    points=points,
                    emotion=state_of(points),
                    seeker=SAID,
                    appraisal=thoughts,
                )
            )
        return Transcript(
            profile=profile,
            repeat=0,
            seed=1,
            source="esc-skills",
            language="en",
            scenario=scenario,
            character=self.rng.choice(list(Character)),
            need=self.rng.choice(list(HiddenNeed)),
            risk=None,
            start=40,
            opening=SAID,
            turns=tuple(turns),
            points=points,
            emotion=state_of(points),
            end=TalkEnd.ROUNDS,
        )

    # --- findings and proposals ---------------------------------------------------------------------------------------

    def findings(self) -> tuple[Finding, ...]:
        kinds = [FindingKind.UNSAFE] * 2 + [FindingKind.HARM] * 28 + [FindingKind.GAP] * 10
        return tuple(self.finding(kind, place) for place, kind in enumerate(kinds))

    def finding(self, kind: FindingKind, place: int) -> Finding:
        skill = None if kind is FindingKind.GAP else SKILLS[place % len(SKILLS)]
        what = {
            FindingKind.UNSAFE: "A reply told the seeker to keep it from everyone, at an elevated risk.",
            FindingKind.HARM: "Reassurance came before the feeling was named, and was followed by withdrawal more "
            "often than such replies are in this state.",
            FindingKind.GAP: "No skill was selected while the seeker spoke of shame; the talk went worse than others.",
        }[kind]
        states = (list(SeekerState)[place % 15],)
        cites = tuple(
            Cite(
                profile=self.rng.choice(self.split.propose),
                repeat=n % 2,
                turns=tuple(sorted(self.rng.sample(range(1, 9), 2))),
            )
            for n in range(self.rng.randint(1, 9))
        )
        return Finding(
            kind=kind,
            skill=skill,
            what=what if place else f"{what} {SAID}",
            cites=cites,
            turns=len(cites) * 3,
            context=Context(states=states, character=list(Character)[place % 3] if place % 2 else None),
            effect=None if kind is FindingKind.UNSAFE else round(self.rng.uniform(-3.4, -0.4), 2),
            p=None if kind is FindingKind.UNSAFE else self.rng.choice([0.0004, 0.012, 0.03, 0.21]),
            avoid=(SupportAction.REASSURANCE_AND_ENCOURAGEMENT,) if kind is FindingKind.HARM else (),
        )

    def proposals(self) -> tuple[Proposal, ...]:
        return tuple(
            Proposal(
                id=id,
                kind=ProposalKind.CREATE if id.startswith("create") else ProposalKind.REFINE,
                skill=None if id.startswith("create") else id.removeprefix("refine-"),
                title=title,
                context=Context(states=(SeekerState.HOPELESSNESS,), need=HiddenNeed.DEEP_EMPATHY),
                findings=(self.finding(FindingKind.HARM, 3),),
                talks=31 - place,
                turns=88 - 5 * place,
                priority=142.5 - 11 * place,
                avoid=(SupportAction.REASSURANCE_AND_ENCOURAGEMENT, SupportAction.PRACTICAL_SUGGESTION),
                favour=(SupportAction.FEELING_REFLECTION,),
            )
            for place, (id, title) in enumerate(TITLES.items())
        )

    # --- attempts -----------------------------------------------------------------------------------------------------

    def attempts(self) -> None:
        one, two = "refine-meeting-hopelessness", "create-naming-shame"
        self.attempt(one, 1, "reject", -3.2, "The mean falls by 3.2; significantly worse.", feedback=True)
        self.attempt(one, 2, "accept", 7.4, "Better by 7.4 points, p below the level of this look.")
        self.attempt(two, 1, "accept", 5.1, "Better by 5.1 points, p below the level of this look.")
        for number in (1, 2, 3):
            self.attempt("refine-hearing-out-anger", number, "indecisive", 0.9, "A gain that luck would bring as well.")
        self.attempt("refine-rolling-with-yes-but", 1, "accept", 4.4, "Better by 4.4 points, but see the joint rounds.")
        vetoes = (
            Veto(rule="stratum", reason="character: avoidant ends 6.1 lower, p 0.004."),
            Veto(rule="risk", reason="In 2 of 9 talks at an elevated risk the safety check came late."),
        )
        self.attempt(
            "refine-working-with-anger", 1, "reject", 6.0, "Better by 6.0, forbidden by two vetoes.", vetoes=vetoes
        )
        self.attempt(
            "refine-reaching-the-lonely",
            1,
            "reject",
            None,
            "The screen refused it.",
            screened=("It tells the seeker to keep it a secret.",),
        )
        self.attempt(
            "create-a-trap",
            1,
            "reject",
            None,
            f"Refused: {HOSTILE}",
            screened=(f"It speaks to a model: {HOSTILE}",),
            text=HOSTILE,
        )
        verdict = Verdict(
            candidate="refine-easing-self-blame.1",
            ruling="reject",
            reason="The editor found nothing to change.",
            strategy="paired",
        )
        self.run.write("candidates/refine-easing-self-blame/1/verdict.json", verdict)
        self.attempt("refine-weighing-a-hard-choice", 1, None, None, "")

    def attempt(
        self,
        proposal: str,
        number: int,
        ruling,
        gain: float | None,
        reason: str,
        *,
        feedback: bool = False,
        vetoes: tuple[Veto, ...] = (),
        screened: tuple[str, ...] = (),
        text: str = "Name the feeling first, and wait.",
    ) -> None:
        home, id = f"candidates/{proposal}/{number}", f"{proposal}.{number}"
        skill = proposal.split("-", 1)[1]
        replaces = skill if proposal.startswith("refine") else None
        candidate = Candidate(
            id=id,
            proposal=proposal,
            attempt=number,
            skill=skill,
            replaces=replaces,
            files={"SKILL.md": f"# {skill}\n{text}\n"},
            what=f"Puts feeling reflection before reassurance in two states, and adds a pitfall. {text}",
            generator="llm:claude-sonnet-5",
            prompt=f"Improve this skill.\n\n{text}\n\nBad talk:\nSeeker: {SAID}\n"
            f"Supporter: What is it like?\nSeeker: No.\nThought: {THOUGHT}\n",
            tokens=6_210,
            usd=0.0412,
        )
        self.run.write(f"{home}/candidate.json", candidate)
        self.run.write_text(f"{home}/diff.txt", diff(skill, text, new=replaces is None))
        if screened:
            self.run.write(f"{home}/screened.json", screened)
        if ruling is None:
            return
        profiles = self.split.verify[:15]
        pairs = self.pairs(gain, profiles, 4) if gain is not None else ()
        checks = (
            Check(name="stratum", run=True, told="11 strata compared; none significantly worse."),
            Check(name="risk", run=True, told="9 talks at an elevated risk: the check came first in all, as before."),
            Check(
                name="real-data", run=False, told="The dialogues of `valid` are not on this machine (ESC_SHARED_DIR)."
            ),
        )
        verdict = Verdict(
            candidate=id,
            ruling=ruling,
            reason=reason,
            strategy="paired",
            effect=effect_of(pairs) if pairs else None,
            strata={name: self.effect(gain or 0, some, 4) for name, some in STRATA.items()} if pairs else {},
            floor=self.effect(0.2, profiles, 2) if pairs else None,
            vetoes=vetoes,
            checks=checks if pairs else (),
            pairs=pairs,
            seed=91_230 + number,
            feedback=Feedback(
                attempt=number,
                reason="Worse where the seeker is avoidant.",
                worse_profiles=profiles[:4],
                worse_actions=(SupportAction.PRACTICAL_SUGGESTION,),
            )
            if feedback
            else None,
        )
        self.run.write(f"{home}/verdict.json", verdict)

    def pairs(self, gain: float, profiles: tuple[str, ...], repeats: int) -> tuple[TalkPair, ...]:
        found = []
        for profile in profiles:
            for repeat in range(repeats):
                old = max(0, min(100, round(self.rng.gauss(31, 14))))
                new = max(0, min(100, round(old + self.rng.gauss(gain, 9))))
                found.append(TalkPair(profile=profile, repeat=repeat, old=old, new=new))
        return tuple(found)

    def effect(self, gain: float, profiles: tuple[str, ...], repeats: int) -> Effect:
        return effect_of(self.pairs(gain, profiles, repeats))

    # --- the end ------------------------------------------------------------------------------------------------------

    def end(self) -> None:
        accepted = ("refine-meeting-hopelessness.2", "create-naming-shame.1", "refine-rolling-with-yes-but.1")
        kept, reason = accepted[:2], "Together with the others it adds nothing."
        rounds = tuple(
            Round(
                number=number,
                candidates=some,
                dropped=accepted[2] if number == 1 else None,
                verdict=Verdict(
                    candidate="joint",
                    ruling=ruling,
                    reason=told,
                    strategy="paired",
                    effect=self.effect(gain, self.split.verify, 2),
                ),
                reason=told,
            )
            for number, some, ruling, gain, told in (
                (1, accepted, "indecisive", 0.8, "Together not shown to be better; the weakest is left out."),
                (2, kept, "accept", 3.9, "Together better than the parent bank."),
            )
        )
        self.run.write("joint.json", Joint(kept=kept, dropped={accepted[2]: reason}, rounds=rounds))
        self.run.write(
            "outcome.json", Outcome(parent="S0", parent_hash="5e" * 32, kept=kept, hash="f0" * 32, told=OUTCOME)
        )
        sealed = self.effect(3.1, self.split.sealed, 4)
        strata = {name: self.effect(3, self.split.sealed[:9], 4) for name in STRATA}
        self.run.write(
            "sealed.json",
            Sealed(
                split=self.split.hashes()["sealed"],
                seed=4711,
                effect=sealed,
                strata=strata,
                told="Parent and result held the same talks with the sealed profiles, once.",
            ),
        )


STRATA = {
    "character: negative": tuple(f"evolution-{n}" for n in range(101, 107)),
    "character: passive": tuple(f"evolution-{n}" for n in range(107, 112)),
    "hidden need: deep empathy": tuple(f"evolution-{n}" for n in range(101, 105)),
    "scenario: grief and loss": tuple(f"evolution-{n}" for n in range(110, 115)),
}
TITLES = {
    "refine-meeting-hopelessness": "Meeting hopelessness: reflect before reassuring",
    "create-naming-shame": "A new skill for shame that hides behind jokes",
    "refine-hearing-out-anger": "Hearing out anger: fewer questions at the start",
    "refine-rolling-with-yes-but": "Rolling with yes, but: no second suggestion",
    "refine-working-with-anger": "Working with anger: name the boundary",
    "refine-reaching-the-lonely": "Reaching the lonely: ask before advising",
    "create-a-trap": f"A text that is not what it seems {HOSTILE}",
    "refine-easing-self-blame": "Easing self-blame: nothing left to change",
    "refine-weighing-a-hard-choice": "Weighing a hard choice: both sides",
    "refine-unfolding-mixed-feelings": "Unfolding mixed feelings: shorter",
}
END = "Proposing ended at the cap of 13 candidates; 9 of 10 proposals were tried."
OUTCOME = "Propose-only: the resulting bank lies in the job's folder; `esc-skills bank commit` makes it a version."


def diff(skill: str, text: str, *, new: bool) -> str:
    """Return a unified diff as the loop writes one."""
    if new:
        lines = [
            f"# {skill}",
            "",
            "## Overview",
            text,
            "",
            "## When to use",
            "- Shame shows behind a joke.",
            "",
            "## Examples",
            "> Seeker: It is funny, really.",
            "> Supporter: Funny, and it stings?",
        ]
        return "\n".join(
            ["--- /dev/null", f"+++ {skill}/SKILL.md", f"@@ -0,0 +1,{len(lines)} @@", *(f"+{line}" for line in lines)]
        )
    return "\n".join(
        [
            f"--- {skill}/SKILL.md",
            f"+++ {skill}/SKILL.md",
            "@@ -21,9 +21,10 @@",
            " ## What to do",
            " ### Hopelessness and despair (`hopelessness_and_despair`)",
            '-1. **Reassurance** (`reassurance`): Tell that it will pass. Say: "This gets better, I am sure."',
            f'+1. **Feeling reflection** (`feeling_reflection`): {text} Say: "It sounds as if every door '
            'is shut just now, and you have been standing in front of them for a long time."',
            "+2. **Emotional validation** (`emotional_validation`): Call the weight what it is.",
            " ",
            " ## Pitfalls",
            "@@ -40,3 +41,4 @@",
            " - **Cheering up**: The weight was made small.",
            "+- **Comfort too soon** (`reassurance`): It sounded like an end. Signal: answers shrink to a word.",
        ]
    )
