"""What becomes of the bank: one new version, or a folder that can be made one; then the sealed part, once."""

from ..skills_bank.bank import Bank
from ..skills_bank.errors import BankError, InputError
from ..skills_bank.files import read_bank_files, replace_durably
from ..skills_bank.place import find_bank
from ..skills_bank.store import VersionInfo
from .acceptance import effect_of, pair_talks, strata_of
from .bench import Bench
from .propose import own_copy
from .record import BANK, SEAL, Joint, Outcome, Sealed

REPEATS = 4
"""Talks with each profile of the sealed part."""


def settle(bench: Bench) -> Outcome:
    """Put the kept candidates into one bank, and commit it where that was asked for.

    Nothing is awaited here: an evolution is cancelled before its commit, or not at all.
    """
    found, joint = bench.run.outcome(), bench.run.joint()
    if found is not None:
        return found
    if joint is None or not joint.kept:
        found = _outcome(bench, joint, None, None, "Nothing was accepted to stay; the bank is as it was.")
    else:
        staged = bench.stage(bench.candidates(joint.kept), BANK)
        version, told = _commit(bench, joint) if bench.plan.apply else (None, _propose_only())
        found = _outcome(bench, joint, staged.hash, version, told)
    bench.run.write("outcome.json", found)
    return found


def _outcome(bench: Bench, joint: Joint | None, hash: str | None, version: str | None, told: str) -> Outcome:
    kept = joint.kept if joint else ()
    return Outcome(
        parent=bench.parent.version, parent_hash=bench.parent.hash, kept=kept, hash=hash, version=version, told=told
    )


def _propose_only() -> str:
    return (
        f"The bank is as it was. The result lies in the run's folder `{BANK}`; `esc-skills bank commit` makes it a "
        "version, and so does --apply in another run."
    )


def _commit(bench: Bench, joint: Joint) -> tuple[str | None, str]:
    """Return the new version and what was done; a bank that moved on meanwhile is left alone."""
    bench.job.advance("committing")
    try:
        info = _committed(bench, joint)
    except BankError as error:
        told = f"Not committed: {error} The result lies in the run's folder `{BANK}`."
        bench.job.note(told)
        return None, told
    return info.version, f"Committed as {info.version}; a running server serves it by itself."


def _committed(bench: Bench, joint: Joint) -> VersionInfo:
    """Make the result the active version, unless an attempt before this one has done so.

    Raises:
        BankError: The bank moved on since the evolution began.
    """
    place, mark = find_bank(bench.plan.bank.root), f"{bench.job.id}: "
    store = place.store()
    done = [info for info in store.history() if info.note.startswith(mark)] if store.initialised else []
    if done:
        return done[0]
    own_copy(place)
    active = store.active()
    if Bank.load(store.active_folder()).hash != bench.parent.hash:
        raise BankError(f"the bank moved on from {bench.parent.version} to {active}. Evolve {active} anew.")
    reason = f"{mark}{len(joint.kept)} accepted of {len(bench.run.all_attempts())} attempts: {', '.join(joint.kept)}"
    return store.commit(read_bank_files(bench.run.folder / BANK), reason=reason, parent=active)


async def open_sealed(bench: Bench) -> Sealed:
    """Hold parent against result on the sealed part, for the report only; nothing is decided by it.

    Raises:
        InputError: It was opened before, for another result.
    """
    found, outcome = bench.run.sealed(), bench.run.outcome()
    if found is not None:
        return found
    seed, digest = bench.plan.seed_of("sealed"), bench.split.hashes()["sealed"]
    if outcome is None or outcome.hash is None:
        found = Sealed(split=digest, seed=seed, effect=None, told="There is no result to compare; it stays sealed.")
    else:
        _break_seal(bench, f"{digest} {outcome.hash}\n")
        ids, arena = bench.split.sealed, bench.arena
        staged = bench.stage(bench.candidates(outcome.kept), BANK)
        with bench.watch.phase("sealed", total=2 * REPEATS * len(ids)):
            old = await arena.talks(bench.parent, ids, repeats=REPEATS, seed=seed)
            new = await arena.talks(staged, ids, repeats=REPEATS, seed=seed)
        pairs = pair_talks(old, new)
        found = Sealed(
            split=digest,
            seed=seed,
            effect=effect_of(pairs),
            strata=strata_of(pairs, arena.profile, by_talk=False),
            told=f"{len(ids)} profiles that nothing was chosen on, {REPEATS} talks each; read once.",
        )
    bench.run.write("sealed.json", found)
    return found


def _break_seal(bench: Bench, mark: str) -> None:
    path = bench.run.folder / SEAL
    if path.is_file() and path.read_text(encoding="utf-8") != mark:
        raise InputError(f"{path}: the sealed part was read for another result. It cannot be read twice.")
    replace_durably(path, mark.encode())
