"""A stand-in for `Encoder` that needs no model file: hashed bags of words and a few keywords, for tests."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from zlib import crc32

from .encoder import EMBEDDING_SIZE, RISK_KINDS, Reading, Turn
from .taxonomy import Scenario, SeekerState, SupportAction

if TYPE_CHECKING:
    from .encoder import Floats

_WORD = re.compile(r"[a-z']+")

_STATES: dict[str, str] = {
    "emotional_distress": "overwhelmed upset everything terrible awful",
    "anxiety_and_fear": "worried worry anxious afraid scared panic nervous fear",
    "sadness_and_grief": "sad cry crying miss lost died heartbroken hurt",
    "anger_and_frustration": "angry furious unfair mad annoyed hate frustrated",
    "hopelessness": "hopeless pointless never nothing use",
    "self_blame": "fault guilty blame ashamed",
    "self_doubt": "stupid worthless failure capable enough",
    "loneliness_and_disconnection": "alone lonely nobody noone invisible",
    "confusion_and_ambivalence": "confused torn unsure decide half",
    "resistance": "won't tried doesn't whatever listening useless",
    "withdrawal": "forget nevermind okay ok fine",
    "help_seeking": "how should advice what help",
    "self_awareness": "realise realize notice because pattern",
    "calm_or_hopeful": "thanks thank better hope relieved good calm",
    "neutral_narration": "hi hello work live yesterday",
}
_ACTIONS: dict[str, str] = {
    "open_exploration": "tell more what",
    "clarifying_question": "when did was which",
    "reflective_questioning": "mean why meaning",
    "restatement": "so you",
    "summarizing": "gather together points",
    "feeling_reflection": "sounds seem feeling hurt",
    "emotional_validation": "understandable sense natural",
    "normalization": "many people common others",
    "reassurance_and_encouragement": "will okay through hope",
    "strength_affirmation": "strong strength brave proud",
    "self_disclosure": "me my i same",
    "cognitive_reframing": "maybe another could perhaps",
    "practical_suggestion": "try might write walk call",
    "collaborative_planning": "plan step together friday",
    "information_giving": "free usually groups research",
    "safety_check_and_referral": "safe suicide therapist doctor crisis hotline",
    "rapport_and_closing": "hi hello bye welcome thanks care",
}
_SCENARIOS: dict[str, str] = {
    "depressed_mood": "depressed depression empty",
    "anxiety_and_panic": "anxiety panic",
    "romantic_breakup": "breakup ex girlfriend boyfriend divorce",
    "relationship_conflict": "husband wife partner cheating",
    "family_conflict": "mother father parents sister brother",
    "parenting_and_caregiving": "son daughter kids child",
    "friendship_problems": "friend friends",
    "loneliness": "lonely alone",
    "loss_and_grief": "died funeral grief death",
    "job_loss_and_career_crisis": "fired job layoff career",
    "workplace_stress": "boss colleague manager office deadline",
    "academic_pressure": "exam exams school thesis grades",
    "financial_hardship": "rent debt money bills",
    "illness_and_health_worries": "ill sick hospital diagnosis pain",
    "sleep_problems": "sleep insomnia nightmares",
    "self_worth_and_body_image": "ugly fat looks body",
    "bullying_abuse_and_trauma": "bullied abused trauma",
    "habits_and_substance_use": "drinking alcohol drugs gambling procrastinate",
}
_RISK: dict[str, str] = {
    "self_harm": "suicide suicidal die dying myself",
    "harm_to_others": "kill hurt him them",
    "abuse": "hits beats abused abuses chokes",
}


class FakeEncoder:
    """An `Encoder` for tests: deterministic, instant, and right only about the keywords above.

    Similar texts share words and so lie near each other; a state's, action's, scenario's or risk's probability grows
    with the number of its keywords in the turn. It makes no claim beyond that and is never used in serving.
    """

    version = "fake-encoder"

    def read(self, turns: Sequence[Turn]) -> Reading:
        """Read the turns; context is not looked at."""
        import numpy as np

        texts = [turn.content for turn in turns]
        kinds = _counts(texts, _RISK, RISK_KINDS)
        risk = np.concatenate([kinds, kinds[:, :1]], axis=1)  # "high" goes with self-harm
        return Reading(
            embedding=self.embed(texts),
            states=_softmax(_counts(texts, _STATES, tuple(SeekerState))),
            actions=(1 / (1 + np.exp(2.5 - 3 * _counts(texts, _ACTIONS, tuple(SupportAction))))).astype(np.float32),
            scenarios=_softmax(_counts(texts, _SCENARIOS, tuple(Scenario))),
            risk=(1 / (1 + np.exp(4 - 3 * risk))).astype(np.float32),
        )

    def embed(self, texts: Sequence[str]) -> "Floats":
        """Return normalised, signed, hashed bags of words, (n, 384)."""
        import numpy as np

        rows = np.zeros((len(texts), EMBEDDING_SIZE), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in _WORD.findall(text.lower()) or [""]:
                code = crc32(word.encode())
                row[code % EMBEDDING_SIZE] += 1.0 if code & 0x10000 else -1.0
            if not row.any():
                row[0] = 1.0
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def read_dialogue(self, turns: Sequence[tuple[str, str]]) -> "Floats":
        """Return the scenario distribution of all seeker lines together, (18,)."""
        text = " ".join(content for role, content in turns if role == "seeker")
        return _softmax(_counts([text], _SCENARIOS, tuple(Scenario)))[0]


def _counts(texts: Sequence[str], keywords: Mapping[str, str], order: Sequence[str]) -> "Floats":
    import numpy as np

    bags = [set(_WORD.findall(text.lower())) for text in texts]
    rows = [[len(bag & set(keywords[label].split())) for label in order] for bag in bags]
    return np.asarray(rows, dtype=np.float32).reshape(len(texts), len(order))


def _softmax(counts: "Floats") -> "Floats":
    import numpy as np

    powers = np.exp(3 * counts)
    return powers / powers.sum(axis=1, keepdims=True)
