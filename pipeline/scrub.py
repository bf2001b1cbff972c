"""Mask private contact details before a corpus text is stored, embedded or shown.

Masked: e-mail addresses, phone numbers, street addresses, and web addresses or handles that point at a person. Kept:
toll-free and short service numbers and the pages of organisations, because the helplines a supporter names are public
and part of what the supporter did.
"""

import re
from collections import Counter
from typing import Literal

Kind = Literal["email", "phone", "address", "handle"]

_STREET = (
    "street|st|avenue|ave|road|rd|lane|ln|drive|dr|boulevard|blvd|court|ct|crescent|terrace|square|highway|hwy|parkway"
)
_EMAIL = re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b")
_PERSONAL_URL = re.compile(
    r"\b(?:https?://)?(?:www\.|m\.)?(?:(?:facebook|fb|instagram|twitter|x|tiktok|linkedin|snapchat|t|wa|discord|reddit|"
    r"youtube|patreon|venmo|cash)\.(?:com|me|gg|app)|onlyfans\.com)/[^\s)>\]]+"
    r"|\bhttps?://[^\s/]+/(?:users?|profile|u|people|in|~|@)[/]?[\w.~@-]+[^\s)>\]]*",
    re.IGNORECASE,
)
_HANDLE = re.compile(r"(?<![\w@.])@[A-Za-z_][\w.]{2,}")
_PHONE = re.compile(
    r"(?<![\w.$£€/-])(?:\+\d{1,3}[ .-]?)?(?:1[ .-])?(?:\(\d{2,5}\)[ .-]?|\d{2,5}[ .-]?)?\d{3,4}[ .-]?\d{3,4}(?![\w%-])"
)
_ADDRESS = re.compile(
    # A capitalised name before any word for a street, or one word of any case before a plain one ("221 elm street").
    rf"\b(?:\d{{1,5}}[a-z]?\s+(?:[NSEW]\.?\s+)?(?:[A-Z][\w'.-]*\s+){{1,4}}(?i:{_STREET})"
    r"|\d{2,5}\s+(?!way|the|of)[a-z]+\s+(?i:street|avenue|boulevard|blvd))\b\.?"
    r"(?:,?\s+(?i:apt|unit|suite|flat)\.?\s*\w+)?"
)
_TOLL_FREE = re.compile(r"\D*(?:1\D*)?8(?:00|33|44|55|66|77|88)\D")
_MASK: dict[Kind, str] = {"email": "<EMAIL>", "phone": "<PHONE>", "address": "<ADDRESS>", "handle": "<HANDLE>"}
_DIGIT = re.compile(r"\d")
_FEWEST_DIGITS = 9
"""Shorter runs of digits are amounts, years, room and service numbers more often than somebody's phone."""


def scrub(text: str) -> tuple[str, Counter[Kind]]:
    """Return `text` with contact details masked, and how many of each kind were masked."""
    counts: Counter[Kind] = Counter()

    def mask(kind: Kind) -> str:
        counts[kind] += 1
        return _MASK[kind]

    def phone(match: re.Match[str]) -> str:
        found = match.group()
        if sum(c.isdigit() for c in found) < _FEWEST_DIGITS or _TOLL_FREE.match(found):
            return found
        return mask("phone")

    # Each pattern needs one of these characters; most lines have none of them, and looking for them costs nothing.
    if "@" in text:
        text = _EMAIL.sub(lambda _: mask("email"), text)
    if "/" in text:
        text = _PERSONAL_URL.sub(lambda _: mask("handle"), text)
    if "@" in text:
        text = _HANDLE.sub(lambda _: mask("handle"), text)
    if _DIGIT.search(text):
        text = _ADDRESS.sub(lambda _: mask("address"), text)
        text = _PHONE.sub(phone, text)
    return text, counts
