"""Bring guard's state back where it is lost. Who opens a key slot of the repository is let in: nobody else is known.

All is done to a copy beside the place: `guard.actions._renewal` makes it a state that goes on. Only then it gets its
name, in one step. What fails before leaves nothing behind, and is simply run again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from guard import faults
from guard.actions import unrecorded
from guard.actions._renewal import Back, Came, renew
from guard.actions._resolve import resolve
from guard.actions.epoch import epochs
from guard.actions.kit import recover
from guard.actions.receipts import again
from guard.app import App, declare_tables
from guard.backup import Wanted
from guard.backup.snapshot import POLICIES, STATE
from guard.clock import stamp
from guard.config.settings import StateSettings
from guard.crypto import recovery
from guard.errors import ConfigError, GuardError, InterlockError, TamperedError, UnavailableError
from guard.events import Activity, Ending, Event, Progress, silent
from guard.state import State, file_of, file_url, migrate, place, require_free, settle

if TYPE_CHECKING:
    from guard.backup import Backups, Restored, RestorePlan
    from guard.state import Tx

__all__ = ["Back", "Lost", "Opening", "bring_back", "private_folder", "require_lost", "restore_noted"]

_STAGE: Final = ".restoring"


@dataclass(frozen=True, slots=True)
class Opening:
    """What a person brings: the recovery kit's private key, of two shares; the passphrase of the repository; or both.

    The passphrase opens the repository where it is given, else the kit's key does. The kit's key opens the keys in
    state too, where it is given; else a root key has to.
    """

    private: bytes | None = field(default=None, repr=False)
    passphrase: str | None = field(default=None, repr=False)

    @property
    def by(self) -> Literal["passphrase", "kit"]:
        """What opens the repository."""
        return "kit" if self.passphrase is None else "passphrase"

    @property
    def words(self) -> str:
        """What was brought, for the ledger."""
        kit = "" if self.private is None else f"kit {recovery.kit_id(recovery.public_of(self.private))}"
        return " and ".join(part for part in ("passphrase" if self.passphrase is not None else "", kit) if part)

    def backups(self, backups: Backups, name: str) -> Backups:
        """Return the backups as they open with this. `name`: a store of guard.toml, or the folder one lies in."""
        known = backups if name in backups.stores or not Path(name).is_dir() else backups.at(Path(name))
        if self.passphrase is not None:
            return known.by_passphrase(name, self.passphrase)
        if self.private is None:
            raise ConfigError("nothing opens the repository", hint="give --share-file FILE twice, or --passphrase")
        return known.by_recovery(name, self.private)


@dataclass(frozen=True, slots=True)
class Lost:
    """What is to be brought back, from where, by whom."""

    store: str
    snapshot: str
    opening: Opening
    os_user: str
    wait: timedelta = timedelta()


def require_lost(app: App) -> None:
    """Raise InterlockError while there is a state, whether it opens or not; UnavailableError when nobody can tell."""
    url = app.url(app.settings.state.url)
    path = file_of(url)
    try:
        State.open(url, app.clock).close()
    except ConfigError:
        if path is not None:
            require_free(path)
        return
    except (InterlockError, TamperedError) as error:
        raise InterlockError(
            f"there is a state, but it does not open: {error}",
            hint="keep it, but move it away with its -wal and -shm files before another one is brought back",
        ) from error
    raise InterlockError("guard's state is here and opens; nothing is restored over it", hint="`guard status` shows it")


def bring_back(app: App, lost: Lost, progress: Progress = silent) -> Back:
    """Bring state back from a backup to where guard.toml wants it.

    Raises InterlockError while there is a state, DeniedError for a wrong share, passphrase or root key, TamperedError
    when repository or snapshot are not what was written. What is raised left everything as it was.
    """
    declare_tables()
    url = app.url(app.settings.state.url)
    app.ask_secret = cache(app.ask_secret) if app.ask_secret else None  # one passphrase, asked for once
    private_folder(app.home / "var")
    with app.hold(("state",), lost.wait, "state.restore"), _stage(app, url) as folder:
        require_lost(app)
        came = _fetched(app, lost, folder, progress)
        file = _owned(folder)
        back = _renewed(app, lost, came, file)
        settle(file)
        faults.point("state.restore.settled")
        back = replace(back, policies=_place_policies(folder, app.policies))
        faults.point("state.restore.policies")
        place(file, url)
        faults.point("state.restore.placed")
        unrecorded.forget(app.home / "var")
        return _afterwards(app, lost, back)


def restore_noted(
    app: App,
    backups: Backups,
    plan: RestorePlan,
    occasion: tuple[str, Literal["passphrase", "kit"], str],
    progress: Progress = silent,
) -> tuple[Restored, Path]:
    """Restore where there is no ledger, and note it; return what was done and the file it is noted in.

    `occasion`: the store, what opened it, and the OS user. Raises UnavailableError when it cannot be noted: then
    nothing is restored.
    """
    name, by, os_user = occasion
    folder = app.home / "var"
    note = unrecorded.Note(
        run=app.new_run(), at=stamp(app.clock.now()), outcome="begun", os_user=os_user, by=by, store=name,
        snapshot=plan.snapshot,
    )  # fmt: skip
    private_folder(folder)
    unrecorded.write(folder, note)
    try:
        done = backups.restore(name, plan, progress=progress)
    except BaseException as error:
        outcome = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        unrecorded.write(folder, msgspec.structs.replace(note, outcome=outcome, at=stamp(app.clock.now())))
        raise
    unrecorded.write(folder, msgspec.structs.replace(note, outcome="done", at=stamp(app.clock.now()), files=done.files))
    return done, folder / unrecorded.FILE


def private_folder(folder: Path) -> None:
    """Make a folder, and those above it that are not there, for the caller alone."""
    try:
        for each in reversed((folder, *folder.parents)):
            if not each.exists():
                each.mkdir(mode=0o700)
    except OSError as error:
        raise UnavailableError(f"cannot write to {folder}: {error.strerror}") from error


@contextmanager
def _stage(app: App, url: str) -> Iterator[Path]:
    """Give a private folder on the disk state will lie on; what a killed run left there goes first."""
    path = file_of(url)
    folder = (path.parent if path else app.home / "var") / _STAGE
    shutil.rmtree(folder, ignore_errors=True)
    private_folder(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _fetched(app: App, lost: Lost, folder: Path, progress: Progress) -> Came:
    """Restore state and policies into `folder`."""
    backups = lost.opening.backups(app.backups, lost.store)
    snapshot = backups.pick_state(lost.store, lost.snapshot)
    names = tuple(each.name for each in snapshot.manifest.sources if each.name in {STATE, POLICIES} and each.covered)
    plan = backups.plan_restore(lost.store, snapshot.id, Wanted(folder, names))
    backups.restore(lost.store, plan, progress=progress)
    faults.point("state.restore.staged")
    newer = backups.erasures_since(snapshot, tuple(dict.fromkeys((lost.store, *app.backups.stores))))
    return Came(lost.store, snapshot, newer, lost.opening.words, lost.os_user)


def _owned(folder: Path) -> Path:
    """Make all that was restored the caller's own, whoever had it on the old machine; return state's file."""
    for each in folder.rglob("*"):
        os.chown(each, os.geteuid(), os.getegid(), follow_symlinks=False)
    files = [each for each in (folder / STATE).iterdir() if each.is_file()]
    if len(files) != 1:
        raise TamperedError(f"the snapshot's source {STATE} holds {len(files)} files, not the one of a state")
    return files[0]


def _renewed(app: App, lost: Lost, came: Came, file: Path) -> Back:
    """Make the restored file a state that goes on, opened as an app of its own."""
    migrate(file_url(file), app.clock)
    settings = msgspec.structs.replace(app.settings, state=StateSettings(url=file_url(file)))
    staged = App(app.home, settings, app.clock, app.ask_secret)
    try:
        if lost.opening.private is not None:
            recover(staged, lost.opening.private)
        return renew(staged, came)
    finally:
        staged.close()


def _place_policies(folder: Path, policies: Path) -> bool:
    """Put the restored policies where they belong, if there are none."""
    if policies.exists() or not (folder / POLICIES).is_dir():
        return False
    half = policies.with_name(f".{policies.name}{_STAGE}")
    try:
        shutil.rmtree(half, ignore_errors=True)
        shutil.copytree(folder / POLICIES, half, symlinks=True)
        half.rename(policies)
    except OSError as error:
        raise UnavailableError(f"cannot write {policies}: {error.strerror}") from error
    return True


def _afterwards(app: App, lost: Lost, back: Back) -> Back:
    """Do what others do too when this fails: end open runs, shred again what was, let anchors vouch for the new log."""
    try:
        if app.settings.root.kind == "file":
            private_folder((app.home / app.settings.root.path).parent)
        if lost.opening.private is not None:
            recover(app, lost.opening.private)
        resolve(app)
        back = replace(back, shredded=_shredded_again(app, back))
        failed = tuple(app.ledger.anchor().failed)
    except GuardError as error:
        failed = (str(error),)
    return replace(back, problems=(*back.problems, *failed))


def _shredded_again(app: App, back: Back) -> int:
    """Shred the keys of people that the restored state holds, but that were shredded since; return how many."""
    if epochs(app).current is None:
        return 0
    dead = [app.shredder.shred(replace(each, run=back.run)) for each in again(app)]
    faults.point("state.restore.shredded")
    if count := sum(each is not None for each in dead):
        done = Event("keys.shred", Ending.DONE, back.who, back.run, Activity.DATA_DELETE, counts={"keys": count})
        app.record(_nothing, replace(done, facts={"why": "state was restored"}))
    return count


def _nothing(_: Tx) -> None:
    """Nothing but the event is to be remembered."""
