"""Say how many example lines of the shipped banks are heard as the action they stand for.

    .venv/bin/python benchmarks/words.py

Each `Say:` line is heard after eight seeker lines of the phrase library in the plan's state, as a local seeker hears it
(`evolve/rewording.py`); it lands where 85% of these hear the action, and not something else that is talked about.
"""

from collections import Counter
from typing import get_args

from esc_skills.evolve.rewording import LANDS, local_hear, seekers
from esc_skills.pipeline.phrasebook import load_phrases
from esc_skills.skills_bank.bank import Bank
from esc_skills.skills_bank.models import ActionStep, Message
from esc_skills.skills_bank.place import shipped_bank
from esc_skills.skills_bank.settings import Shipped
from esc_skills.skills_bank.taxonomy import SeekerState


def heard(step: ActionStep, state: SeekerState) -> tuple[bool, bool]:
    """Return whether a step's line lands, and whether any of the talks takes it to be about something else."""
    talks = seekers(load_phrases(), state)
    line = Message(role="supporter", content=step.say or "")
    taken = [local_hear([Message(role="seeker", content=said), line]) for said in talks]
    good = sum(step.action in each.actions and not each.off_topic for each in taken)
    return good >= LANDS * len(taken), any(each.off_topic for each in taken)


def main() -> None:
    """Print a line for each bank."""
    print("| bank | lines | land | taken to be about something else |\n| --- | ---: | ---: | ---: |")
    for name in get_args(Shipped):
        found: Counter[str] = Counter()
        for skill in Bank.load(shipped_bank(name)).skills.values():
            for plan in skill.plans:
                for step in (step for step in plan.steps if step.say):
                    lands, strays = heard(step, plan.state)
                    found.update(lines=1, land=lands, strays=strays)
        print(f"| {name} | {found['lines']} | {found['land']} | {found['strays']} |")


if __name__ == "__main__":
    main()
