"""Versions of a bank: commit, history, diff, rollback, hand edits."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from esc_skills.skills_bank.errors import BankError, BankLocked, VersionNotFound
from esc_skills.skills_bank.files import read_bank_files
from esc_skills.skills_bank.lock import write_lock
from esc_skills.skills_bank.place import find_bank
from esc_skills.skills_bank.store import BankStore
from esc_skills.skills_bank.validate import problems_in_bank


@pytest.fixture
def store(tmp_path: Path, bank_dir: Path) -> BankStore:
    store = BankStore(tmp_path / "bank")
    store.init_from(bank_dir)
    return store


def edit(path: Path, old: str = "says so", new: str = "says it") -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def changed(store: BankStore, new: str = "says it") -> dict[str, dict[str, bytes]]:
    skills = read_bank_files(store.active_folder())
    skills["calming-dread"]["SKILL.md"] = skills["calming-dread"]["SKILL.md"].replace(b"says so", new.encode())
    return skills


def test_the_first_version_is_a_copy(store: BankStore, bank_dir: Path):
    assert read_bank_files(store.root / "current") == read_bank_files(bank_dir)
    assert store.active().startswith("v0001-")
    (info,) = store.history()
    assert (info.active, info.parent, info.skills) == (True, None, 3)
    assert store.load().version == store.active()
    assert problems_in_bank(store.root / "current") == []


def test_a_commit_adds_a_version_and_makes_it_active(store: BankStore):
    first = store.active()
    info = store.commit(changed(store), reason="clearer")
    assert (info.parent, info.note, info.active) == (first, "clearer", True)
    assert store.active() == info.version
    assert [entry.version for entry in store.history()] == [info.version, first]
    assert "says it" in store.load().texts["calming-dread"]
    assert "says so" in store.load(first).texts["calming-dread"]
    manifest = store.load().manifest
    assert manifest is not None
    assert manifest.skills["calming-exams"] == store.load(first).manifest.skills["calming-exams"]  # pyright: ignore


def test_a_folder_can_be_committed(store: BankStore, bank_dir: Path):
    edit(bank_dir / "calming-moves/SKILL.md")
    assert store.commit(bank_dir, reason="from a folder").version == store.active()
    assert "says it" in store.load().texts["calming-moves"]


def test_the_same_skills_make_no_new_version(store: BankStore, bank_dir: Path):
    first = store.active()
    assert store.commit(bank_dir, reason="again").version == first
    assert len(store.history()) == 1


def test_skills_with_problems_are_refused(store: BankStore):
    skills = changed(store)
    skills["calming-moves"] = {"SKILL.md": b"# nothing"}
    with pytest.raises(BankError, match=r"calming-moves/SKILL.md:1: frontmatter"):
        store.commit(skills, reason="broken")
    with pytest.raises(BankError, match="There is no skill"):
        store.commit({}, reason="empty")
    assert len(store.history()) == 1


@pytest.mark.parametrize(
    ("name", "path"),
    [("../outside", "SKILL.md"), ("calming-dread", "../../x"), ("calming-dread", "/etc/x"), ("calming-dread", ".x")],
)
def test_names_and_paths_stay_inside_the_bank(store: BankStore, name: str, path: str):
    with pytest.raises(BankError, match=r"is no (skill name|path)"):
        store.commit({name: {path: b"x"}}, reason="escape")


def test_a_commit_from_a_version_that_is_no_longer_active_is_refused(store: BankStore):
    first, skills = store.active(), changed(store)
    store.commit(changed(store, "tells it"), reason="someone else")
    with pytest.raises(BankError, match=f"moved on from {first}"):
        store.commit(skills, reason="late", parent=first)


def test_rollback_switches_back_and_forth_and_is_recorded(store: BankStore):
    first = store.active()
    second = store.commit(changed(store), reason="clearer").version
    assert store.rollback(first).active
    assert store.active() == first
    assert [(info.version, info.active) for info in store.history()] == [(second, False), (first, True)]
    store.rollback(second)
    assert [(s.event, s.version, s.previous) for s in store.switches()] == [
        ("init", first, None),
        ("commit", second, first),
        ("rollback", first, second),
        ("rollback", second, first),
    ]


def test_a_commit_after_a_rollback_has_the_older_parent(store: BankStore):
    first = store.active()
    store.commit(changed(store), reason="a")
    store.rollback(first)
    info = store.commit(changed(store, "tells it"), reason="b")
    assert info.parent == first
    assert info.version.startswith("v0003-")


def test_an_unknown_version_is_named(store: BankStore):
    with pytest.raises(VersionNotFound, match=r"'v9'\. Known versions: v0001-"):
        store.rollback("v9")
    with pytest.raises(VersionNotFound):
        store.diff(store.active(), "v9")


def test_diff_names_what_came_went_and_changed(store: BankStore, make_skill_text):
    first = store.active()
    skills = changed(store)
    del skills["calming-moves"]
    skills["calming-rain"] = {"SKILL.md": make_skill_text("calming-rain", "the rain").encode()}
    second = store.commit(skills, reason="several").version
    diff = store.diff(first, second)
    assert (diff.added, diff.removed) == (("calming-rain",), ("calming-moves",))
    assert list(diff.changed) == ["calming-dread"]
    lines = diff.changed["calming-dread"].splitlines()
    assert "-- The seeker fears the talk and says so." in lines
    assert "+- The seeker fears the talk and says it." in lines


def test_a_version_edited_in_place_is_noticed(store: BankStore):
    edit(store.active_folder() / "calming-dread/SKILL.md")
    with pytest.raises(BankError, match=r"was changed after it was written. Put your edits into .*working"):
        store.load()


def test_export_copies_the_skills(store: BankStore, tmp_path: Path):
    assert store.export(tmp_path / "out") == 3
    assert read_bank_files(tmp_path / "out") == read_bank_files(store.active_folder())
    with pytest.raises(BankError, match="is not empty"):
        store.export(tmp_path / "out")


def test_the_first_write_copies_the_shipped_bank(tmp_path: Path, bank_dir: Path):
    before = read_bank_files(bank_dir)
    store = BankStore(tmp_path / "bank", shipped=bank_dir)
    assert store.active().startswith("local-")
    assert [info.active for info in store.history()] == [True]
    assert not (tmp_path / "bank").exists()
    store.commit(changed(store), reason="mine")
    assert [switch.event for switch in store.switches()] == ["init", "commit"]
    assert read_bank_files(bank_dir) == before


def test_a_second_writer_is_told_who_writes(store: BankStore):
    told = pytest.raises(BankLocked, match=f"written by process {os.getpid()}")
    with write_lock(store.root), told, write_lock(store.root, wait=0):
        pass


def test_a_writer_that_died_leaves_no_lock(store: BankStore):
    code = f"from pathlib import Path; from esc_skills.skills_bank.lock import write_lock; import os\n\
with write_lock(Path({str(store.root)!r})): os._exit(3)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 3
    with write_lock(store.root, wait=0):
        pass


def test_a_lost_pointer_can_be_set_again(store: BankStore):
    version = store.active()
    (store.root / "current").unlink()
    with pytest.raises(BankError, match="points to nothing"):
        store.load()
    assert [info.active for info in store.history()] == [False]
    store.rollback(version)
    assert store.load().version == version


# --- hand edits ---


def test_an_edit_in_the_working_folder_becomes_a_version(store: BankStore):
    first = store.active()
    edit(store.working / "calming-dread/SKILL.md")
    adoption = store.adopt_working()
    assert adoption.version is not None
    assert (adoption.version.parent, adoption.version.note, adoption.problems) == (first, "edited by hand", ())
    assert "says it" in store.load().texts["calming-dread"]
    assert store.adopt_working().version is None


def test_a_broken_edit_is_held_back_while_a_good_one_goes_live(store: BankStore):
    edit(store.working / "calming-dread/SKILL.md", "## Pitfalls", "## Traps")
    edit(store.working / "calming-moves/SKILL.md")
    adoption = store.adopt_working()
    assert adoption.version is not None
    assert "Pitfalls: The section is missing" in str(adoption.problems[0])
    assert "## Pitfalls" in store.load().texts["calming-dread"]
    assert "says it" in store.load().texts["calming-moves"]
    edit(store.working / "calming-dread/SKILL.md", "## Traps", "## Pitfalls")
    assert store.adopt_working().problems == ()


def test_a_broken_edit_alone_writes_nothing(store: BankStore):
    edit(store.working / "calming-dread/SKILL.md", "## Pitfalls", "## Traps")
    before = sorted((path, path.stat().st_mtime_ns) for path in store.root.rglob("*"))
    assert store.adopt_working().problems
    assert sorted((path, path.stat().st_mtime_ns) for path in store.root.rglob("*")) == before


def test_skills_can_be_added_and_removed_by_hand(store: BankStore, make_skill_text):
    (store.working / "calming-rain").mkdir()
    (store.working / "calming-rain/SKILL.md").write_text(make_skill_text("calming-rain", "rain"), encoding="utf-8")
    (store.working / "calming-moves/SKILL.md").unlink()
    (store.working / "calming-moves").rmdir()
    assert store.adopt_working().version is not None
    assert list(store.load().skills) == ["calming-dread", "calming-exams", "calming-rain"]


def test_a_commit_and_a_rollback_bring_the_working_folder_along(store: BankStore):
    first = store.active()
    store.commit(changed(store), reason="clearer")
    assert read_bank_files(store.working) == read_bank_files(store.active_folder())
    store.rollback(first)
    assert read_bank_files(store.working) == read_bank_files(store.active_folder())
    assert store.adopt_working().version is None


def test_an_edit_survives_a_commit_to_another_skill(store: BankStore):
    edit(store.working / "calming-moves/SKILL.md")
    store.commit(changed(store), reason="elsewhere")
    adoption = store.adopt_working()
    assert adoption.version is not None
    bank = store.load()
    assert "says it" in bank.texts["calming-moves"]
    assert "says it" in bank.texts["calming-dread"]


def test_an_edit_to_a_skill_that_moved_on_is_a_clash_that_can_be_settled(store: BankStore):
    edit(store.working / "calming-dread/SKILL.md", "says so", "shouts it")
    second = store.commit(changed(store), reason="elsewhere").version
    adoption = store.adopt_working()
    assert adoption.version is None
    assert f"You and version {second} both changed this skill" in str(adoption.problems[0])
    assert store.adopt_working(keep_mine=True).version is not None
    assert "shouts it" in store.load().texts["calming-dread"]
    assert store.adopt_working().problems == ()


def test_edits_can_be_thrown_away(store: BankStore):
    edit(store.working / "calming-dread/SKILL.md", "## Pitfalls", "## Traps")
    store.reset_working()
    assert read_bank_files(store.working) == read_bank_files(store.active_folder())
    assert store.adopt_working().problems == ()


def test_removing_every_skill_is_held_back(store: BankStore):
    for path in store.working.glob("*/SKILL.md"):
        path.unlink()
        path.parent.rmdir()
    assert "No skill is left" in str(store.adopt_working().problems[0])


# --- where the bank lies ---


def test_the_shipped_bank_is_served_until_the_first_write(tmp_path: Path, bank_dir: Path):
    place = find_bank(tmp_path / "user", shipped=bank_dir)
    assert place.kind == "shipped"
    bank, problems = place.read()
    assert (len(bank.skills), problems) == (3, [])
    assert set(place.watched()) == {bank_dir, tmp_path / "user"}
    assert not place.index_folder().is_relative_to(bank_dir)
    place.store().commit(changed(place.store()), reason="mine")
    after, _ = place.read(bank)
    assert after.version == place.store().active()
    assert find_bank(tmp_path / "user", shipped=bank_dir).kind == "store"


def test_a_plain_folder_is_served_as_it_is(bank_dir: Path, tmp_path: Path):
    place = find_bank(bank_dir)
    assert place.kind == "plain"
    bank, _ = place.read()
    edit(bank_dir / "calming-dread/SKILL.md")
    after, problems = place.read(bank)
    assert problems == []
    assert "says it" in after.texts["calming-dread"]
    assert [info.version for info in place.store().history()] == [after.version]
    assert sorted(path.name for path in bank_dir.iterdir()) == ["calming-dread", "calming-exams", "calming-moves"]
    for refused in (
        lambda: place.store().rollback("v1"),
        lambda: place.store().commit(bank_dir, reason="x"),
        lambda: place.store().init_from(bank_dir),
        lambda: place.store().reset_working(),
    ):
        with pytest.raises(BankError, match="bank init --from"):
            refused()


def test_a_store_takes_hand_edits_over_when_it_is_read(store: BankStore):
    place = find_bank(store.root)
    assert place.kind == "store"
    bank, _ = place.read()
    assert place.read(bank)[0] is bank
    edit(store.working / "calming-dread/SKILL.md")
    after, problems = place.read(bank)
    assert problems == []
    assert after.version == store.active() != bank.version
    assert after.skills["calming-exams"] is bank.skills["calming-exams"]


def test_while_another_writer_is_at_work_the_active_version_is_served(
    store: BankStore, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("esc_skills.skills_bank.store.write_lock", lambda folder: write_lock(folder, wait=0))
    place = find_bank(store.root)
    edit(store.working / "calming-dread/SKILL.md")
    with write_lock(store.root):
        bank, problems = place.read()
    assert bank.version == store.active()
    assert "is being written by" in str(problems[0])


def test_a_folder_of_something_else_is_refused(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("x", encoding="utf-8")
    with pytest.raises(BankError, match="neither skills nor a bank"):
        find_bank(tmp_path)
    with pytest.raises(BankError, match="is a file"):
        find_bank(tmp_path / "notes.txt")
