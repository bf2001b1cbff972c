"""A composed corpus with parts that need no model file, for the tests of jobs and builds.

Run as a script it is the process of a job: `composed.py JOB_FOLDER` does what `python -m esc_skills.pipeline.jobs`
does, with these parts. `ESC_TEST_SLOW` slows each dialogue and each skill down by so many seconds.
"""

import asyncio
import json
import os
import random
import re
import sys
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from esc_skills.pipeline import jobs
from esc_skills.pipeline.annotator import Annotation, NotAnnotated
from esc_skills.pipeline.build import build_all
from esc_skills.pipeline.build_plan import BuildPlan
from esc_skills.pipeline.corpus import Dialogue
from esc_skills.pipeline.engine import LocalEngine
from esc_skills.pipeline.labels import DialogueLabels, TurnLabels
from esc_skills.pipeline.local_writer import LocalWriter
from esc_skills.skills_bank.fake_encoder import FakeEncoder

SEEKER = {
    "anxiety_and_fear": ("The review on {day} makes me panic.", "I keep dreading {day}, my hands tremble."),
    "sadness_and_grief": ("I wept again when the garden bloomed on {day}.", "Her chair stayed empty on {day}."),
    "resistance": ("Lists? I did that on {day} and it was useless.", "No, {day} proved that none of it works."),
    "help_seeking": ("Which step should I take before {day}?", "Tell me, how do I get through {day}?"),
}
SUPPORTER = {
    "open_exploration": "What is it about {day} that weighs on you?",
    "emotional_validation": "Anybody in your shoes would find {day} hard.",
    "feeling_reflection": "There is dread in how you speak of {day}.",
    "practical_suggestion": "Pack your bag the night before {day}.",
    "normalization": "Plenty of people struggle with a {day} like that.",
}
AFTER = {"positive": "That eases it a little.", "negative": "You are not hearing me.", "neutral": "Hm."}
CHANGES = {"positive": "emotional_relief", "negative": "increased_resistance", "neutral": "no_observable_change"}
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
BROKEN = "composed-0007"
"""This dialogue cannot be annotated."""


def write_corpus(path: Path, dialogues: int = 40, turns: int = 6, seed: int = 3) -> Path:
    """Write composed dialogues in our own form; each seeker line says how the last reply went, then its state."""
    rng = random.Random(seed)
    lines = []
    for number in range(dialogues):
        dialog, state = [], rng.choice(list(SEEKER))
        said = ""
        for _ in range(turns):
            day = rng.choice(DAYS)
            dialog.append(
                {"speaker": "seeker", "content": f"{said} {rng.choice(SEEKER[state]).format(day=day)}".strip()}
            )
            action = rng.choice(list(SUPPORTER))
            dialog.append({"speaker": "supporter", "content": SUPPORTER[action].format(day=day)})
            good = 0.2 if (state, action) == ("resistance", "practical_suggestion") else 0.6
            said = AFTER[rng.choices(["positive", "negative", "neutral"], [good, (1 - good) / 2, (1 - good) / 2])[0]]
        dialog.append({"speaker": "seeker", "content": f"{said} {SEEKER[state][0].format(day='Friday')}"})
        lines.append(json.dumps({"id": f"composed-{number:04d}", "split": "composed", "dialog": dialog}))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _matches(template: str, text: str) -> bool:
    return re.search(re.escape(template).replace(r"\{day\}", r"\w+"), text) is not None


class ComposedAnnotator:
    """Knows the composed lines by heart."""

    name = "composed@1"

    def __init__(self, slow: float = 0.0) -> None:
        self.slow = slow
        self.seen: list[str] = []

    def about(self) -> str:
        return "Right about every composed line."

    async def annotate(self, dialogues: AsyncIterable[Dialogue]) -> AsyncIterator[Annotation]:
        async for dialogue in dialogues:
            await asyncio.sleep(self.slow)
            self.seen.append(dialogue.id)
            yield self.one(dialogue)

    def one(self, dialogue: Dialogue) -> Annotation:
        if dialogue.id == BROKEN:
            return NotAnnotated(dialogue=dialogue.id, reason="could not be read")
        spoken = dialogue.turns()
        turns = []
        for i, turn in enumerate(spoken):
            head = {"turn": turn.number, "speaker": turn.speaker, "utterances": turn.utterances}
            if turn.speaker == "seeker":
                state = next(s for s, lines in SEEKER.items() if any(_matches(line, turn.content) for line in lines))
                turns.append(TurnLabels.model_validate(head | {"state": state}))
                continue
            action = next(a for a, line in SUPPORTER.items() if _matches(line, turn.content))
            change = next(CHANGES[kind] for kind, line in AFTER.items() if spoken[i + 1].content.startswith(line))
            turns.append(TurnLabels.model_validate(head | {"actions": (action,), "change": change}))
        head = {"id": dialogue.id, "split": "other", "scenarios": ("workplace_stress",)}
        return DialogueLabels.model_validate(head | {"turns": tuple(turns)})


class SlowWriter(LocalWriter):
    """The real writer, slowed down."""

    slow = 0.0

    async def write(self, facts, taken=()):
        await asyncio.sleep(self.slow)
        return await super().write(facts, taken)


@dataclass(frozen=True)
class ComposedRecipe:
    annotator: ComposedAnnotator

    @asynccontextmanager
    async def open(self):
        yield self.annotator


class SlowEncoder(FakeEncoder):
    slow = 0.0

    def embed(self, texts):
        time.sleep(self.slow)
        return super().embed(texts)


class ComposedParts:
    """`build.Parts` without a model."""

    writer_reads = False
    engine = LocalEngine()

    def __init__(self, slow: float = 0.0) -> None:
        self.annotator = ComposedAnnotator(slow)
        self.recipe = ComposedRecipe(self.annotator)
        self.encoder = SlowEncoder()
        self.slow = self.encoder.slow = slow

    async def prefetch(self, dialogues: Iterable[Dialogue]) -> None:
        """There is nothing to fetch."""

    @asynccontextmanager
    async def writer(self, corpus):
        writer = SlowWriter()
        writer.slow = self.slow
        yield writer

    def spending(self) -> list[str]:
        return []


async def run(job: jobs.Job) -> dict:
    """What `jobs.RUNNERS` names in tests."""
    parts = ComposedParts(float(os.environ.get("ESC_TEST_SLOW") or 0))
    plan = BuildPlan.model_validate(job.read().plan)
    return (await build_all(plan, job, parts)).model_dump(mode="json")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    jobs.RUNNERS = {"build": "composed:run"}
    sys.exit(jobs.main(sys.argv[1:]))
