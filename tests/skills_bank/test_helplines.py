"""Helplines by region."""

from pathlib import Path

import pytest

from esc_skills.skills_bank.errors import InputError
from esc_skills.skills_bank.helplines import load_helplines

OWN = """
format: 1
checked: 2026-01-31
how: called
default: XX
regions:
  XX:
    name: Test land
    emergency: "111"
    lines:
      - {name: Line, contact: call 1, hours: 24/7, kinds: [self_harm, harm_to_others, abuse], source: "https://example.org"}
"""


def test_every_shipped_region_serves_every_kind():
    for region in load_helplines().regions.values():
        for kind in ("self_harm", "harm_to_others", "abuse"):
            assert region.lines_for(kind), (region.name, kind)


def test_the_promised_numbers():
    lines = load_helplines()
    assert "988" in lines.region("us").lines_for("self_harm")[0].contact
    assert "116 123" in lines.region("UK").lines_for("self_harm")[0].contact
    assert "116 123" in lines.region("IE").lines_for("self_harm")[0].contact
    assert "findahelpline.com" in lines.region().lines_for("self_harm")[0].contact
    assert lines.region("international") == lines.region(None)


def test_an_unknown_region_lists_the_known_ones():
    with pytest.raises(InputError, match=r"Unknown helpline region 'ATLANTIS'.*GB.*US"):
        load_helplines().region("ATLANTIS")


def test_a_file_of_ones_own_adds_regions(tmp_path: Path):
    path = tmp_path / "own.yaml"
    path.write_text(OWN, encoding="utf-8")
    lines = load_helplines(path)
    assert lines.region("xx").name == "Test land"
    assert lines.region("US").emergency == "911"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("kinds: [self_harm, harm_to_others, abuse]", "kinds: [self_harm]"), "has no line for harm_to_others, abuse"),
        (('emergency: "111"', "emergency: 111"), "emergency"),
        (("default: XX", "default: YY"), "default region 'YY'"),
        (("format: 1", "format: ["), "not valid YAML"),
        (("https://example.org", "ask around"), "source"),
    ],
)
def test_a_faulty_file_is_named_with_its_fault(tmp_path: Path, change: tuple[str, str], says: str):
    path = tmp_path / "own.yaml"
    path.write_text(OWN.replace(*change), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_helplines(path)
    assert says in str(caught.value) and str(path) in str(caught.value)


def test_a_missing_file_is_an_error(tmp_path: Path):
    with pytest.raises(InputError, match="cannot be read"):
        load_helplines(tmp_path / "none.yaml")
