"""A seeker played by a language model, in SAGE's two calls a turn: it appraises the reply, then it answers.

The instructions are `appraise.prompt.md` and `reply.prompt.md`, the same over all profiles so that a provider can cache
them; all that is of one profile or talk stands in the message. The first call goes to the scorer's model, the second to
the seeker's. Both know the hidden need; nothing of that reaches a supporter but the reply, and a reply that spells the
need out is asked for again.
"""

import random
import re
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field, field_validator

from ..pipeline.llm.client import LLMClient, LLMMessage, LLMRequest, Role
from ..pipeline.llm.prompts import load_prompt
from ..skills_bank.errors import InputError, LLMAnswerError
from ..skills_bank.models import Message
from .emotion import SAGE, Rules, clipped, end_of, moved, says_goodbye
from .needs import CHARACTER_INFO
from .profiles import Profile
from .seeker import Appraisal, Emotion, Reaction, at_start

PACKAGE = "esc_skills.simulator"
APPRAISAL_TOKENS, REPLY_TOKENS = 700, 400
_TAG = re.compile(r"<(/?)\s*(profile|scene|character|need|mood|appraisal|talk)\b[^<>]*>", re.IGNORECASE)
_EDGES = '"“”„«» \n'
_BARE = re.compile(r"\W+")


class _Appraised(BaseModel):
    """What the model answers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    content: str = Field(min_length=1, description="What the latest reply conveys.")
    serves: str = Field(min_length=1, description="Whether it serves the talk and the hidden need, and what shows it.")
    inner: str = Field(min_length=1, description="What goes through the person, as their thought.")
    feeling: str = Field(min_length=1, description="The feeling that follows.")
    change: int = Field(description="By how much the mood moves, a whole number from -10 to 10.")

    @field_validator("change")
    @classmethod
    def _sensible(cls, change: int) -> int:
        if abs(change) > 100:
            raise ValueError("change must be a whole number from -10 to 10")
        return change


class LLMSeeker:
    """A `Seeker` that asks a language model. It holds no state of any talk and is safe to share."""

    def __init__(
        self,
        client: LLMClient,
        scorer_model: str,
        seeker_model: str,
        rules: Rules = SAGE,
        temperature: float | None = None,
    ) -> None:
        """Take the client and the models that appraise and reply."""
        self._client, self._rules, self._temperature = client, rules, temperature
        self._scorer_model, self._seeker_model = scorer_model, seeker_model
        self._appraise = load_prompt("appraise.prompt.md", PACKAGE)
        self._reply = load_prompt("reply.prompt.md", PACKAGE)

    @property
    def name(self) -> str:
        """The models with the versions of the prompts."""
        scorer, seeker = f"{self._scorer_model}:{self._appraise.label}", f"{self._seeker_model}:{self._reply.label}"
        return f"llm@{scorer}+{seeker}"

    async def opening(self, profile: Profile) -> str:
        """Return the profile's first line; where it has none, the model opens the talk.

        Raises:
            LLMError: The model gave no usable answer.
        """
        if profile.first_line:
            return profile.first_line
        ask = "The talk has not begun. Write this person's first message: what is up, in a sentence or two."
        start = at_start(self._rules)
        return await self._spoken(profile, (), f"{_portrait(profile, start)}\n\n{ask}\n{_language(profile)}")

    async def react(self, profile: Profile, talk: Sequence[Message], emotion: Emotion, rng: random.Random) -> Reaction:
        """Judge the last message of `talk`, which is the supporter's, and answer it. `rng` is not used: a model draws.

        Raises:
            InputError: The talk does not end with a supporter's message.
            LLMError: A model gave no usable answer.
        """
        if not talk or talk[-1].role != "supporter":
            raise InputError("A seeker reacts to a supporter: the talk must end with a message of the supporter.")
        appraised = await self._client.structured(self.appraisal_request(profile, talk, emotion), _Appraised)
        change = clipped(appraised.change, self._rules)
        appraisal = Appraisal(**appraised.model_dump(exclude={"change"}), change=change)
        points = moved(emotion.points, change, self._rules)
        asked = self.reply_content(profile, talk, Emotion(points=points, last=change), appraisal)
        text = await self._spoken(profile, talk, asked)
        # Prompted to leave only when content or given up; a farewell that slips out before ends the talk all the same.
        return Reaction(appraisal=appraisal, text=text, goodbye=says_goodbye(text))

    def appraisal_request(self, profile: Profile, talk: Sequence[Message], emotion: Emotion) -> LLMRequest:
        """Return the first call of a turn."""
        content = f"{_portrait(profile, emotion)}\n\n{_talk(talk)}\n\nJudge the supporter's last message."
        return LLMRequest(
            role=Role.SCORER,
            model=self._scorer_model,
            prompt=self._appraise.label,
            system=self._appraise.text,
            messages=(LLMMessage(role="user", content=f"{content}\n{_language(profile)}"),),
            max_tokens=APPRAISAL_TOKENS,
            temperature=self._temperature,
            subject=f"{profile.id}, turn {_turn(talk)}",
        )

    def reply_content(self, profile: Profile, talk: Sequence[Message], emotion: Emotion, appraisal: Appraisal) -> str:
        """Return what the second call of a turn is asked; `emotion` is that after the change."""
        over = end_of(emotion.points, 0, rules=self._rules)
        leave = "\nThe person may take leave now." if over else "\nThe person stays in the talk."
        taken = "\n".join((
            "<appraisal>",
            f"What the reply said: {_plain(appraisal.content)}",
            f"Whether it helps: {_plain(appraisal.serves)}",
            f"Inside: {_plain(appraisal.inner)}",
            f"Feeling: {_plain(appraisal.feeling)}",
            "</appraisal>",
        ))  # fmt: skip
        return f"{_portrait(profile, emotion)}\n\n{taken}\n\n{_talk(talk)}\n{leave}\n{_language(profile)}"

    async def _spoken(self, profile: Profile, talk: Sequence[Message], content: str) -> str:
        """Ask for the person's words; once more where they give the hidden need away."""
        request = LLMRequest(
            role=Role.SEEKER,
            model=self._seeker_model,
            prompt=self._reply.label,
            system=self._reply.text,
            messages=(LLMMessage(role="user", content=content),),
            max_tokens=REPLY_TOKENS,
            temperature=self._temperature,
            subject=f"{profile.id}, turn {_turn(talk)}",
        )
        text = _clean(await self._client.text(request))
        if not gives_away(profile, text):
            return text
        again = (
            *request.messages,
            LLMMessage(role="assistant", content=text),
            LLMMessage(role="user", content="That says aloud what the person keeps to itself. Write it anew without."),
        )
        text = _clean(await self._client.text(request.model_copy(update={"messages": again})))
        if gives_away(profile, text):
            raise LLMAnswerError(
                f"{request.prompt} on {request.subject}", "the seeker's words give the hidden need away"
            )
        return text


def gives_away(profile: Profile, text: str) -> bool:
    """Whether a text says the hidden need in the words it is written down in, whole or without its opening words."""
    said = _BARE.sub(" ", text.lower())
    wish = _BARE.sub(" ", profile.wish.lower()).strip()
    return any(form in said for form in (wish, wish.removeprefix("you want ")) if form)


def _portrait(profile: Profile, emotion: Emotion) -> str:
    character = CHARACTER_INFO[profile.character]
    traits = f" Traits: {', '.join(profile.traits)}." if profile.traits else ""
    return "\n".join((
        f"<profile>\n{profile.person.described()}\n</profile>",
        f"<scene>\n{profile.scene.described()}\n</scene>",
        f"<character>\n{character.name}. {character.manner}{traits}\n</character>",
        f"<need>\n{profile.wish}\n</need>",
        f"<mood>\n{emotion.points} of 100, state {emotion.state}; last change {emotion.last:+d}\n</mood>",
    ))  # fmt: skip


def _talk(talk: Sequence[Message]) -> str:
    lines = [f"{'Person' if message.role == 'seeker' else 'Supporter'}: {_plain(message.content)}" for message in talk]
    return "\n".join(("<talk>", *lines, "</talk>"))


def _plain(text: str) -> str:
    """Return words as one line that cannot close the tags they stand in."""
    return _TAG.sub(r"(\1\2)", " ".join(text.split()))


def _language(profile: Profile) -> str:
    return "Language of the talk: " + ("English." if profile.language == "en" else "Chinese (简体中文).")


def _turn(talk: Sequence[Message]) -> int:
    return sum(message.role == "supporter" for message in talk)


def _clean(text: str) -> str:
    """Return the message without the quotation marks or the name that some models put around it."""
    spoken = re.sub(r"^(?:Person|Seeker)\s*[:：]\s*", "", text.strip())
    if len(spoken) > 1 and spoken[0] in '"“„«' and spoken[-1] in '"”“»':
        spoken = spoken.strip(_EDGES)
    return spoken or text.strip()
