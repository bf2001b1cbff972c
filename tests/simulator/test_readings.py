"""Kept readings: the same numbers as read anew, no words on disk, and nothing from another encoder."""

from pathlib import Path

import numpy as np
import pytest

from esc_skills.simulator import readings as module
from esc_skills.simulator.reader import PROBE, Reader
from esc_skills.simulator.readings import AT_ONCE, Readings, readings_file
from esc_skills.skills_bank.encoder import Turn
from esc_skills.skills_bank.errors import InputError
from esc_skills.skills_bank.fake_encoder import FakeEncoder

TURNS = [
    *(Turn("seeker", f"The heron stood in row {i} again, and I am afraid.") for i in range(AT_ONCE)),
    Turn("supporter", "What did the heron do?", (("seeker", "It stood there, I am worried."),)),
]
TALK = [("seeker", "My boss moved the heron."), ("supporter", "Oh."), ("seeker", "And I cry at the office.")]


class Counting(FakeEncoder):
    """A fake encoder that remembers what it was asked."""

    def __init__(self, version: str = "fake", shift: float = 0.0) -> None:
        super().__init__()
        self.version, self._shift = version, shift
        self.turns: list[Turn] = []
        self.dialogues = 0

    def read(self, turns):
        self.turns += turns
        found = super().read(turns)
        return found._replace(risk=(found.risk + np.float32(self._shift)))

    def read_dialogue(self, turns):
        self.dialogues += 1
        return super().read_dialogue(turns)


def everything(reader: Reader) -> list[bytes]:
    return [*(column.tobytes() for column in reader.read(TURNS)), reader.read_dialogue(TALK).tobytes()]


def test_what_is_kept_is_what_would_be_read(tmp_path: Path):
    anew = everything(Reader(FakeEncoder()))
    assert everything(Reader(FakeEncoder(), Readings(tmp_path / "kept"))) == anew
    later = Counting(FakeEncoder().version)
    assert everything(Reader(later, Readings(tmp_path / "kept"))) == anew
    assert later.turns[0] == PROBE and len(later.turns) - 1 <= len(TURNS) + 1 - AT_ONCE, "most stood in the file"


def test_it_is_read_once_by_all_who_share_the_file(tmp_path: Path):
    kept, one, other = Readings(tmp_path / "kept"), Counting(), Counting()
    everything(Reader(one, kept))
    everything(Reader(other, kept))
    assert len(one.turns) == 1 + len(TURNS) and one.dialogues == 1
    assert other.turns == [PROBE] and other.dialogues == 0


@pytest.mark.parametrize("changed", [{"version": "retrained"}, {"shift": 1e-6}])
def test_rows_of_an_encoder_that_reads_otherwise_are_not_used(tmp_path: Path, changed: dict):
    kept, other = Readings(tmp_path / "kept"), Counting(**changed)
    everything(Reader(Counting(), kept))
    assert everything(Reader(other, kept)) == everything(Reader(Counting(**changed)))
    assert len(other.turns) == 1 + len(TURNS) and other.dialogues == 1


def test_a_turn_and_a_dialogue_of_the_same_words_are_told_apart(tmp_path: Path):
    reader = Reader(FakeEncoder(), Readings(tmp_path / "kept"))
    bare, with_context = Turn("seeker", "So."), Turn("seeker", "So.", (("supporter", "And the debt?"),))
    alone = Reader(FakeEncoder())
    for turn in (bare, with_context, Turn("supporter", "So.")):
        assert all((a == b).all() for a, b in zip(reader.read([turn]), alone.read([turn]), strict=True))
    assert (reader.read_dialogue([("seeker", "So.")]) == alone.read_dialogue([("seeker", "So.")])).all()


def test_no_words_reach_the_disk(tmp_path: Path):
    everything(Reader(FakeEncoder(), Readings(tmp_path / "kept")))
    on_disk = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert len(on_disk) > AT_ONCE * 1000
    assert not any(word in on_disk for word in (b"heron", b"afraid", b"office"))


def test_the_oldest_go_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MOST", 2 * AT_ONCE)
    kept = Readings(tmp_path / "kept")
    keys = [i.to_bytes(2, "big") for i in range(5 * AT_ONCE)]
    for key in keys:
        kept.put(key, b"row of " + key)
    again = Readings(tmp_path / "kept")
    assert [again.get(key) for key in keys[-2 * AT_ONCE :]] == [b"row of " + key for key in keys[-2 * AT_ONCE :]]
    assert all(again.get(key) is None for key in keys[: -2 * AT_ONCE])


def test_a_broken_file_is_named(tmp_path: Path):
    (tmp_path / "kept").write_bytes(b"no database at all, however long one looks at it")
    with pytest.raises(InputError, match=r"kept cannot be used .*Delete that file"):
        Readings(tmp_path / "kept")


def test_the_file_is_named_by_the_environment_or_switched_off(isolated_home: Path, monkeypatch: pytest.MonkeyPatch):
    default = readings_file()
    assert default is not None and default.is_relative_to(isolated_home)
    monkeypatch.setenv("ESC_READINGS", str(isolated_home / "mine.sqlite"))
    assert readings_file() == isolated_home / "mine.sqlite"
    monkeypatch.setenv("ESC_READINGS", "off")
    assert readings_file() is None


def test_a_write_that_fails_leaves_no_lock_behind(tmp_path: Path):
    kept, other = Readings(tmp_path / "kept"), Readings(tmp_path / "kept")
    for i in range(AT_ONCE - 1):
        kept.put(i.to_bytes(2, "big"), b"row")
    with pytest.raises(InputError, match="cannot be used"):
        kept.put(b"last", None)  # pyright: ignore[reportArgumentType]  # as if the disk were full: refused by the file
    for i in range(AT_ONCE):
        other.put(b"other %d" % i, b"row")
    assert Readings(tmp_path / "kept").get(b"other 0") == b"row"


def test_a_text_is_embedded_the_same_in_any_company():
    texts = [turn.content for turn in TURNS]
    together, alone = Reader(FakeEncoder()).embed(texts), Reader(FakeEncoder())
    assert (together == np.concatenate([alone.embed([text]) for text in texts])).all()
    assert Reader(FakeEncoder()).embed([]).shape == (0, together.shape[1])
