"""A small lexicon of plain feeling words, our own: a baseline that any better scorer has to beat."""

import re

_GOOD = frozenset(
    "better best good great glad happy happier hope hopeful hoping thankful grateful thanks thank helpful helped helps "
    "relief relieved calm calmer peaceful safe strong stronger proud brave love loved nice wonderful fine okay smile "
    "laugh laughing fun enjoy enjoyed excited confident appreciate appreciated kind easier lighter clearer useful "
    "true perfect awesome definitely absolutely cheer comfort comforting".split()
)
_BAD = frozenset(
    "bad worse worst sad sadder cry crying cried upset hurt hurts hurting pain painful angry mad furious hate hated "
    "afraid scared fear anxious anxiety worried worry panic stress stressed stressful tired exhausted alone lonely "
    "hopeless helpless worthless useless pointless fail failed failure guilty ashamed blame fault terrible horrible "
    "awful depressed depression miserable broken lost stuck confused unfair ugly stupid dumb sick die dying dead "
    "never nothing nobody difficult hard struggle struggling suffer suffering annoyed annoying boring rude".split()
)
_TURNS = frozenset("not no never don't doesn't didn't isn't wasn't can't couldn't won't hardly".split())
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")


def sentiment(text: str) -> float:
    """Return good words less bad ones by the square root of the words, each turned round after a negation."""
    words = _WORD.findall(text.lower().replace("’", "'"))
    score = 0
    for i, word in enumerate(words):
        side = (word in _GOOD) - (word in _BAD)
        turned = any(before in _TURNS for before in words[max(0, i - 2) : i]) and word not in _TURNS
        score += -side if turned else side
    return score / max(len(words), 1) ** 0.5
