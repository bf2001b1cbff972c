"""A seeker without a model: it hears the reply, is moved by what the labels say follows, and answers in our own lines.

One turn: `hearing` reads actions and faults from the reply's words; `response` says what tends to follow in this state;
`judgement` tilts that by how well the reply serves the hidden need, by mood, character and disposition, draws the
response change and what it is worth in points; the next state is drawn from P(state' | state, change); `lines` gives
the words, or `answers` where it is asked directly whether it is in danger. What it knows of the turns before it reads
off the talk, so any turn can be played again by itself.

It says goodbye as often as recorded SAGE seekers did when they were content or had given up, and not before.
"""

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

import numpy as np

from ..skills_bank.errors import InputError
from ..skills_bank.models import Message
from ..skills_bank.taxonomy import ACTION_INFO, CHANGE_INFO, STATE_INFO, ResponseChange, SeekerState
from .answers import Answers
from .emotion import SAGE, EmotionState, Rules, moved, says_goodbye, state_of
from .hearing import Ear, Heard
from .judgement import Rules as JudgementRules
from .judgement import SeekerParams, disposition, drawn, drive, judge
from .lines import LineBank, Mood
from .needs import NEED_INFO
from .profiles import Profile
from .response import CHANGES, STATES, ResponseModel, sameness
from .seeker import Appraisal, Emotion, Reaction
from .service import service

if TYPE_CHECKING:
    from ..skills_bank.encoder import Encoder
    from ..skills_bank.fake_encoder import FakeEncoder
    from .reader import Reader

FAULTS = {
    "empty": "It says nothing.",
    "repeated": "It says again what was said before.",
    "off_topic": "It seems to be about something else.",
}
"""What an appraisal says of a fault in the reply."""
_WORN = 0.3
_MOODS = {
    EmotionState.S: "content",
    EmotionState.A: "good",
    EmotionState.B: "middling",
    EmotionState.C: "low",
    EmotionState.F: "giving up",
}


class LocalSeeker:
    """A `Seeker` that needs nothing but the package. It holds no state of any talk and is safe to share."""

    def __init__(
        self,
        ear: Ear,
        response: ResponseModel,
        params: SeekerParams,
        lines: LineBank,
        answers: Answers,
        rules: Rules = SAGE,
    ) -> None:
        """Take the loaded parts."""
        self._ear, self._response, self._params, self._emotion = ear, response, params, rules
        self._lines, self._answers = lines, answers
        self._rules = JudgementRules.of(params)

    @classmethod
    def load(cls, encoder: "Encoder | FakeEncoder | Reader | None" = None, rules: Rules = SAGE) -> Self:
        """Load the shipped seeker.

        Args:
            encoder: What it hears with; default: the shipped encoder with one thread.
            rules: The emotion's rules, by which it knows when it is content or has given up.

        Raises:
            ModelError: A fitted file is missing or altered.
            InputError: The lines break their schema.
        """
        return cls(Ear.load(encoder), ResponseModel.load(), SeekerParams.load(), LineBank.load(), Answers.load(), rules)

    @property
    def name(self) -> str:
        """`local@` with the version of the encoder it hears with."""
        return f"local@{self._ear.version}"

    async def opening(self, profile: Profile) -> str:
        """Return the profile's first line; where it has none in English, one of ours, chosen by its id.

        The lines it speaks are English, so a Chinese profile talks English from its first message on.
        """
        if profile.first_line and profile.language == "en":
            return profile.first_line
        rng = random.Random(f"opening of {profile.id}")
        counts = self._response.first_states
        state = rng.choices(STATES, [count + 1 for count in counts])[0]
        return rng.choice(self._lines.openings[state])

    async def react(self, profile: Profile, talk: Sequence[Message], emotion: Emotion, rng: random.Random) -> Reaction:
        """Judge the last message of `talk`, which is the supporter's, and answer it.

        Raises:
            InputError: The talk does not end with a supporter's message, or no seeker spoke before it.
        """
        if not talk or talk[-1].role != "supporter":
            raise InputError("A seeker reacts to a supporter: the talk must end with a message of the supporter.")
        before = self.state_before(profile, talk)
        heard = self._ear.hear(talk)
        same = sameness(heard.actions, [self._ear.actions(talk[: i + 1]) for i in _replies(talk[:-1])])
        draws = [_open(rng) for _ in range(4)]
        change, points = self._judged(profile, before, heard, same, emotion, draws)
        after = STATES[int(drawn(self._response.next_chances(before, change)[None], np.array(draws[2:3]))[0])]
        mood = self._leaves(moved(emotion.points, points, self._emotion), draws[3])
        if mood is None:
            text, after = self._words(profile, after, change, talk, rng)
        else:
            text = self._lines.farewell(profile, mood, rng)
        return Reaction(
            appraisal=self._appraisal(profile, before, after, heard, same, change, points, emotion),
            text=text,
            goodbye=says_goodbye(text),
            state=after,
            heard=tuple(heard.actions),
            response=change,
        )

    def state_before(self, profile: Profile, talk: Sequence[Message]) -> SeekerState:
        """Return the state of the seeker's last message: that of its line, or what the encoder reads in other words."""
        last = next((m.content for m in reversed(talk) if m.role == "seeker"), None)
        if last is None:
            raise InputError("A seeker reacts to an answer: the talk holds no message of the seeker.")
        if (line := self._lines.find(profile, last)) is not None:
            return line.state
        if (given := self._answers.find(profile, last)) is not None:
            return given.answer.state
        opening = next((state for state, texts in self._lines.openings.items() if last in texts), None)
        return opening or self._ear.state(last)

    def _words(
        self,
        profile: Profile,
        state: SeekerState,
        change: ResponseChange,
        talk: Sequence[Message],
        rng: random.Random,
    ) -> tuple[str, SeekerState]:
        """Return what is said, and the state it shows: another than `state` where no such line is left."""
        if (given := self._answers.choose(profile, state, talk, rng)) is not None:
            return given.text, given.answer.state
        told = self._lines.choose(profile, state, change, talk, rng)
        return told.text, told.line.state

    def _judged(
        self,
        profile: Profile,
        before: SeekerState,
        heard: Heard,
        same: float,
        emotion: Emotion,
        draws: Sequence[float],
    ) -> tuple[ResponseChange, int]:
        params = self._params
        lasting = params.characters[profile.character].value
        lasting += params.disposition.value * disposition(profile.id)
        lasting += sum(getattr(params, fault) for fault in heard.faults)
        by = drive(
            self._rules,
            np.array([service(profile.need, heard.actions)]),
            np.array([float(emotion.points)]),
            np.array([float(emotion.last)]),
            np.array([lasting]),
        )
        chances = self._response.change_chances(before, heard.actions, same)[None]
        judged = judge(self._rules, chances, by, np.array([draws[:2]]))
        return CHANGES[int(judged.change[0])], int(judged.points[0])

    def _leaves(self, points: int, draw: float) -> Mood | None:
        """Say in which mood the seeker takes leave, if it does."""
        if draw >= self._params.goodbyes[state_of(points)]:
            return None
        return "content" if points >= self._emotion.start else "given_up"

    def _appraisal(
        self,
        profile: Profile,
        before: SeekerState,
        after: SeekerState,
        heard: Heard,
        same: float,
        change: ResponseChange,
        points: int,
        emotion: Emotion,
    ) -> Appraisal:
        """Say in short notes how it came about; they are for analysts and are never spoken."""
        actions = ", ".join(f"{ACTION_INFO[a].name.lower()} ({chance:.2f})" for a, chance in heard.actions.items())
        faults = " ".join(FAULTS[fault] for fault in heard.faults)
        value = service(profile.need, heard.actions)
        worn = " Much like the replies before it." if same > _WORN else ""
        told = "serves" if value > 0.2 else "works against" if value < -0.2 else "hardly touches"
        reached = moved(emotion.points, points, self._emotion)
        return Appraisal(
            content=f"Heard: {actions or 'nothing'}. {faults}".strip() + worn,
            serves=f"It {told} the hidden need ({NEED_INFO[profile.need].name.lower()}, {value:+.2f}).",
            inner=f"{STATE_INFO[before].name} to {STATE_INFO[after].name.lower()}: {CHANGE_INFO[change].name.lower()}.",
            feeling=f"{points:+d} to {reached}: {_MOODS[state_of(reached)]}.",
            change=points,
        )


def _replies(talk: Sequence[Message]) -> list[int]:
    return [i for i, message in enumerate(talk) if message.role == "supporter"]


def _open(rng: random.Random) -> float:
    """Return a uniform number that is neither 0 nor 1, which the logistic noise could not take."""
    return min(max(rng.random(), 1e-12), 1 - 1e-12)
