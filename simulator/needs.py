"""The two closed sets of a SAGE seeker: three characters and eight hidden needs.

Source: SAGE (Tencent/digitalhuman, MIT), fields `main_cha` and `task` of a profile. The data is Chinese; what it calls
each is kept here as the short words by which a record is recognised, never as whole sentences of the data. The English
wordings are our own.
"""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from ..skills_bank.errors import InputError


class Character(StrEnum):
    """How a seeker tends to answer (SAGE's `main_cha`)."""

    NEGATIVE = "negative"
    PASSIVE = "passive"
    AVOIDANT = "avoidant"


class HiddenNeed(StrEnum):
    """What a seeker wants of the talk and never says (SAGE's `task`)."""

    TO_BE_HEARD = "to_be_heard"
    DEEP_EMPATHY = "deep_empathy"
    SINCERE_PRAISE = "sincere_praise"
    NO_FAULT = "no_fault"
    GUIDED_REFLECTION = "guided_reflection"
    BALANCED_ANALYSIS = "balanced_analysis"
    UNDERSTANDING_OTHERS = "understanding_others"
    PRACTICAL_ADVICE = "practical_advice"


class CharacterInfo(BaseModel):
    """A character in words."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    manner: str
    chinese: str


class NeedInfo(BaseModel):
    """A hidden need in words; `wish` is addressed to the seeker ("You want ...")."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    wish: str
    chinese: str


CHARACTER_INFO: dict[Character, CharacterInfo] = {
    Character.NEGATIVE: CharacterInfo(
        name="Negative",
        manner="You see the worst first, complain, contradict and blame; comfort sounds hollow to you and you say so.",
        chinese="负面型",
    ),
    Character.PASSIVE: CharacterInfo(
        name="Passive",
        manner="You wait to be led, answer briefly, agree more than you mean and seldom bring up anything yourself.",
        chinese="被动型",
    ),
    Character.AVOIDANT: CharacterInfo(
        name="Avoidant",
        manner="You step around what hurts: you change the subject, joke, make it small and draw back when pressed.",
        chinese="回避型",
    ),
}

NEED_INFO: dict[HiddenNeed, NeedInfo] = {
    HiddenNeed.TO_BE_HEARD: NeedInfo(
        name="To be heard",
        wish="You want to let it all out while the other listens with care, without being steered or corrected.",
        chinese="用心倾听你的情绪宣泄",
    ),
    HiddenNeed.DEEP_EMPATHY: NeedInfo(
        name="Deep empathy",
        wish="You want the other to feel with you in depth what this is like for you, not just to comfort you.",
        chinese="深刻共情",
    ),
    HiddenNeed.SINCERE_PRAISE: NeedInfo(
        name="Sincere praise",
        wish="You want honest praise for something concrete that you did in this matter.",
        chinese="真诚地夸奖",
    ),
    HiddenNeed.NO_FAULT: NeedInfo(
        name="No fault",
        wish="You hold that you did nothing wrong in this and want the other to agree that you are not to blame.",
        chinese="没有任何责任和错误",
    ),
    HiddenNeed.GUIDED_REFLECTION: NeedInfo(
        name="Guided reflection",
        wish="You want to be led to look at your own part in this and to grow from it.",
        chinese="自我反思",
    ),
    HiddenNeed.BALANCED_ANALYSIS: NeedInfo(
        name="Balanced analysis",
        wish="You want the matter weighed fairly from both sides.",
        chinese="辩证地分析",
    ),
    HiddenNeed.UNDERSTANDING_OTHERS: NeedInfo(
        name="Understanding others",
        wish="You want to understand why the other people in this matter acted as they did.",
        chinese="其他人物这么做的原因",
    ),
    HiddenNeed.PRACTICAL_ADVICE: NeedInfo(
        name="Practical advice",
        wish="You want advice that really helps you out of the spot you are in now.",
        chinese="真实帮助你解决当下困境的建议",
    ),
}


def read_character(text: str) -> Character:
    """Return the character a record names, by our id or by SAGE's `main_cha`.

    Raises:
        InputError: No character is named so.
    """
    for character, info in CHARACTER_INFO.items():
        if text.strip() in {character.value, info.chinese}:
            return character
    known = ", ".join(f"{info.chinese} or {character}" for character, info in CHARACTER_INFO.items())
    raise InputError(f"No character is named {text.strip()!r}; use {known}.")


def read_need(text: str) -> HiddenNeed:
    """Return the hidden need a record names, by our id or by the words of SAGE's `task`.

    Raises:
        InputError: The text holds the words of no need, or of several.
    """
    if text.strip() in set(HiddenNeed):
        return HiddenNeed(text.strip())
    found = [need for need, info in NEED_INFO.items() if info.chinese in text]
    if len(found) == 1:
        return found[0]
    reason = f"it fits several: {', '.join(found)}" if found else f"use one of {', '.join(HiddenNeed)}"
    raise InputError(f"No single hidden need is meant by {text.strip()[:40]!r}; {reason}.")
