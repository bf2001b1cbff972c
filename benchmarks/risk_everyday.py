"""How often the risk check raises composed lines without danger in them: what simulated seekers say.

    python benchmarks/risk_everyday.py

Neither patterns nor reader nor head were fitted or tuned on these lines. Those of hopelessness are left out: a trained
listener might ask about some of them. docs/safety.md quotes the result.
"""

from collections.abc import Iterator

import yaml

from esc_skills.simulator.parts import load_parts, parts_folder
from esc_skills.skills_bank.conversation import as_conversation
from esc_skills.skills_bank.encoder import Encoder, Turn
from esc_skills.skills_bank.risk import RiskDesk

FILLED = {"{hurts}": "what she said", "{tried}": "talking to her", "{other}": "my sister"}
HOPELESS = "hopelessness"


def later_lines() -> Iterator[str]:
    """Yield what simulated seekers say in the middle of a talk, slots filled."""
    for file in sorted(parts_folder().joinpath("lines").iterdir(), key=lambda file: file.name):
        if file.name.startswith(HOPELESS):
            continue
        for line in yaml.safe_load(file.read_text(encoding="utf-8")):
            text = line["text"]
            for slot, words in FILLED.items():
                text = text.replace(slot, words)
            yield text


def first_lines() -> Iterator[str]:
    """Yield the first messages of all situations, those of situations with a risk left out."""
    for situation in load_parts().situations:
        if situation.risk is None:
            yield from situation.first.values()


def main() -> None:
    """Print the shares, with the encoder and without it."""
    desk, encoder = RiskDesk.load(), Encoder.load()
    print("| lines | n | elevated | high | elevated, no encoder | high, no encoder |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, texts in (("first messages", list(first_lines())), ("later lines", list(later_lines()))):
        read = [desk.assess(as_conversation(t), encoder.read([Turn("seeker", t)]).risk).level for t in texts]
        alone = [desk.assess(as_conversation(t), None).level for t in texts]
        shares = [
            f"{sum(level == wanted for level in levels) / len(texts):.3f}"
            for levels in (read, alone)
            for wanted in ("elevated", "high")
        ]
        print(f"| {name} | {len(texts)} | {' | '.join(shares)} |")


if __name__ == "__main__":
    main()
