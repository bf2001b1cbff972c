"""Contact details are masked; what only looks like one is kept."""

import pytest

from esc_skills.pipeline.scrub import scrub


@pytest.mark.parametrize(
    ("text", "clean", "kind"),
    [
        ("write me at anna.lee+x@mail.example.org ok", "write me at <EMAIL> ok", "email"),
        ("call 415-555-0132 tonight", "call <PHONE> tonight", "phone"),
        ("call (415) 555-0132", "call <PHONE>", "phone"),
        ("my number is 4155550132.", "my number is <PHONE>.", "phone"),
        ("ring +44 20 7946 0958 please", "ring <PHONE> please", "phone"),
        ("I live at 12 Old Mill Road now", "I live at <ADDRESS> now", "address"),
        ("come to 4 Elm Street Apt 5b", "come to <ADDRESS>", "address"),
        ("I am on https://www.instagram.com/anna_lee99 daily", "I am on <HANDLE> daily", "handle"),
        ("see facebook.com/anna.lee", "see <HANDLE>", "handle"),
        ("ping @anna_lee there", "ping <HANDLE> there", "handle"),
        ("https://forum.example.org/user/anna22", "<HANDLE>", "handle"),
    ],
)
def test_contact_detail_is_masked_and_counted(text: str, clean: str, kind: str):
    assert scrub(text) == (clean, {kind: 1})


@pytest.mark.parametrize(
    "text",
    [
        "The helpline is 1-800-555-0199, day and night",
        "Dial 988 or 116 123",
        "I was born in 1988 and earn $1500 a month",
        "about 2020-2021, 300 people and 45 000 steps",
        "see https://www.example.org/meetings for a group",
        "meet me @ 7 or @5pm",
        "I drove 20 miles down the road",
        "in 3 days the court decides",
        "well... I waited 10 years",
    ],
)
def test_what_is_no_private_detail_is_kept(text: str):
    assert scrub(text) == (text, {})


def test_several_kinds_in_one_text_are_counted_apart():
    clean, counts = scrub("a@b.example.com, c@d.example.com, 212 555 0100")
    assert clean == "<EMAIL>, <EMAIL>, <PHONE>"
    assert counts == {"email": 2, "phone": 1}


def test_scrubbing_twice_changes_nothing_more():
    once, _ = scrub("a@b.example.com lives at 9 High Street, call 212 555 0100 or @some_one")
    assert scrub(once) == (once, {})
