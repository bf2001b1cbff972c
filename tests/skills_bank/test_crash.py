"""A writer killed at any step leaves the old version or the new one, and the next writer tidies up."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from esc_skills.skills_bank.files import read_bank_files
from esc_skills.skills_bank.store import Adoption, BankStore

DIED = 86

Write = Callable[[BankStore], object]


class MortalStore(BankStore):
    """Ends its process, without any clean-up, before step number `last`."""

    def __init__(self, root: Path, last: int | None = None) -> None:
        super().__init__(root)
        self.last = last
        self.steps: list[str] = []

    def _step(self, name: str) -> None:
        self.steps.append(name)
        if len(self.steps) == self.last:
            os._exit(DIED)


def other_skills(bank_dir: Path) -> dict[str, dict[str, bytes]]:
    """The bank with one skill changed, one removed and one added."""
    skills = read_bank_files(bank_dir)
    del skills["calming-moves"]
    text = skills["calming-dread"]["SKILL.md"]
    skills["calming-dread"] = {
        "SKILL.md": text.replace(b"says so.", b"says it, see `references/notes.md`."),
        "references/notes.md": b"A note.",
    }
    new = text.replace(b"calming-dread", b"calming-rain").replace(b"the talk", b"the rain")
    skills["calming-rain"] = {"SKILL.md": new}
    return skills


def die_at(root: Path, step: int, write: Write) -> bool:
    """Run `write` in a child process that dies before `step`; return whether it got that far."""
    child = os.fork()
    if child == 0:
        try:
            write(MortalStore(root, step))
        except BaseException:
            os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in {0, DIED}
    return status == DIED


def each_death(tmp_path: Path, prepare: Callable[[Path], None], write: Write):
    """Yield a bank folder for every step of `write` at which its process was killed."""
    for step in range(1, 100):
        root = tmp_path / f"bank-{step}"
        prepare(root)
        if not die_at(root, step, write):
            return
        yield root
    raise AssertionError("the writer never finished")


@pytest.fixture
def prepare(bank_dir: Path) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        BankStore(root).init_from(bank_dir)

    return make


def leftovers(root: Path) -> list[str]:
    return [path.name for path in (*root.glob(".current-*"), *root.glob("versions/.*"))]


@pytest.mark.slow
def test_a_commit_killed_at_each_step(tmp_path: Path, bank_dir: Path, prepare: Callable[[Path], None]):
    old, new = read_bank_files(bank_dir), other_skills(bank_dir)
    seen = []
    for root in each_death(tmp_path, prepare, lambda store: store.commit(new, reason="killed")):
        store = BankStore(root)
        bank = store.load()
        served = {name: dict(bank.files(name)) for name in bank.skills}
        assert served in (old, new)
        seen.append(served == new)
        assert [info.version for info in store.history() if info.active] == [bank.version]
        before = [info.version for info in store.history()]
        # The next writer tidies up, and what was live stays live.
        assert store.rollback(bank.version).version == bank.version
        assert leftovers(root) == []
        assert [info.version for info in store.history()] == before
        assert sorted(path.name for path in (root / "versions").iterdir()) == sorted(before)
        assert store.switches()[-1].version == bank.version
        assert read_bank_files(store.working) == served
        assert store.adopt_working() == Adoption(version=None, problems=())
        store.commit(new, reason="again")
        assert read_bank_files(store.active_folder()) == new
    assert seen == sorted(seen)
    assert {True, False} == set(seen)
    assert len(seen) >= 10


@pytest.mark.slow
def test_a_first_version_killed_at_each_step(tmp_path: Path, bank_dir: Path):
    old = read_bank_files(bank_dir)
    states = set()
    for root in each_death(tmp_path, lambda root: None, lambda store: store.init_from(bank_dir)):
        store = BankStore(root)
        states.add(store.initialised)
        if store.initialised:
            assert read_bank_files(store.active_folder()) == old
        else:
            store.init_from(bank_dir)
        store.commit(other_skills(bank_dir), reason="next")
        assert leftovers(root) == []
        assert read_bank_files(store.working) == other_skills(bank_dir)
    assert states == {True, False}


@pytest.mark.slow
def test_a_rollback_killed_at_each_step(tmp_path: Path, bank_dir: Path):
    old, new = read_bank_files(bank_dir), other_skills(bank_dir)

    def prepare(root: Path) -> None:
        store = BankStore(root)
        store.init_from(bank_dir)
        store.commit(new, reason="second")

    def write(store: BankStore) -> None:
        store.rollback(store.history()[-1].version)

    for root in each_death(tmp_path, prepare, write):
        store = BankStore(root)
        assert read_bank_files(store.active_folder()) in (old, new)
        assert len(store.history()) == 2
        write(store)
        assert read_bank_files(store.active_folder()) == read_bank_files(store.working) == old


@pytest.mark.slow
def test_an_adoption_killed_at_each_step_loses_no_edit(tmp_path: Path, bank_dir: Path, prepare: Callable[[Path], None]):
    def prepare_edit(root: Path) -> None:
        prepare(root)
        path = root / "working/calming-dread/SKILL.md"
        path.write_bytes(path.read_bytes().replace(b"says so", b"says it"))

    for root in each_death(tmp_path, prepare_edit, lambda store: store.adopt_working()):
        store = BankStore(root)
        store.adopt_working()
        assert b"says it" in store.load().files("calming-dread")["SKILL.md"]


def test_a_history_line_torn_by_a_crash_is_mended(tmp_path: Path, bank_dir: Path, prepare: Callable[[Path], None]):
    root = tmp_path / "bank"
    prepare(root)
    with (root / "history.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"event": "comm')
    store = BankStore(root)
    assert [switch.event for switch in store.switches()] == ["init"]
    store.commit(other_skills(bank_dir), reason="next")
    assert [switch.event for switch in store.switches()] == ["init", "commit"]


def test_a_version_whose_writer_died_before_recording_it_is_recorded(
    tmp_path: Path, bank_dir: Path, prepare: Callable[[Path], None]
):
    probe = MortalStore(tmp_path / "probe")
    prepare(probe.root)
    probe.commit(other_skills(bank_dir), reason="probe")
    step = probe.steps.index("record") + 1
    root = tmp_path / "bank"
    prepare(root)
    assert die_at(root, step, lambda store: store.commit(other_skills(bank_dir), reason="killed"))
    store = BankStore(root)
    store.rollback(store.active())
    assert [switch.event for switch in store.switches()] == ["init", "recovered"]
