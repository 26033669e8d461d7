"""The backups, and what they say of the shop and of state: when each was saved last, and which old copies are kept."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from guard.app._ground import Ground, declare_tables
from guard.clock import SystemClock
from guard.config import StoreSettings, load_policy, reveal
from guard.errors import GuardError

if TYPE_CHECKING:
    from guard.backup import Backups, Source
    from guard.backup.stores import Store
    from guard.fields.lack import Lack
    from guard.shop.remains import Remains

_UNSAVED = 100
"""Keys of people, or one in a hundred of all, that may be newer than the last backup of state: a day's customers."""


class Saved(Ground):
    """The ground, with the backups that keep it."""

    @cached_property
    def backups(self) -> Backups:
        """Snapshots of shop, files and state, and the stores they lie in."""
        from guard.backup import Backups, Keys, Places, Setup
        from guard.config.backup import BackupPolicy

        def keys() -> Keys:
            versions = [key for key in self.keyring.list() if key.purpose == "repository" and key.opens]
            masters = {key.version: self.keyring.by_id(key.id).material for key in versions}
            newest = self.keyring.current("repository").version
            return Keys(self.state.store_id, masters, self.keyring.recovery_public(), newest)

        places = Places(self.settings.backup.store, self.home, self.clock, self._open_s3)

        def policy() -> BackupPolicy:
            return load_policy(self.policies, "backup", BackupPolicy)

        return Backups(Setup(places, keys, self._sources, policy, self.clock, self.home / "var" / "scratch"))

    def _open_s3(self, settings: StoreSettings) -> Store:
        from guard.backup.stores.s3 import open_s3

        stepped = None if isinstance(self.clock, SystemClock) else self.clock
        return open_s3(settings, lambda secret: reveal(secret, self.home), stepped)

    def _sources(self) -> Sequence[Source]:
        from guard.backup import Configured, sources_of

        declare_tables()  # a state in PostgreSQL is copied table by table
        settings = self.settings.backup
        stores = [self.home / store.path for store in settings.store if store.path]
        dialect, _, path = self.url(self.settings.shop.url).partition("://")  # the shop need not be there any more
        return sources_of(
            Configured(
                self.home,
                Path(unquote(path.removeprefix("/").partition("?")[0])) if dialect.startswith("sqlite") else None,
                dialect.partition("+")[0],
                self.state.path or self.state.copy_to,
                settings.files,
                settings.exclude,
                (self.home / "var", *stores, *(self.home / each.path for each in self.settings.vault if each.path)),
                self.policies,
            )
        )

    def shop_saved_at(self) -> tuple[datetime | None, str | None]:
        """Return when the newest backup of the shop was begun, or why that is not known, or that there is none."""
        from guard.backup import older

        if not self.url(self.settings.shop.url).startswith("sqlite"):
            return None, "guard does not back this database up: see that somebody does"
        if not self.backups.stores:
            return None, "there is none: guard.toml names no store"
        try:
            at = older.last(self.backups.list())
        except GuardError as error:
            return None, f"could not be looked at: {error}"
        return at, None if at else "there is none of the shop: guard backup run"

    def old_backups(self) -> tuple[Remains, ...]:
        """Return guard's own snapshots of the shop as it was until now, and until when retention keeps each."""
        from guard.backup import older
        from guard.config.backup import BackupPolicy

        if not self.backups.stores:
            return ()
        try:
            found = self.backups.list()
        except GuardError as error:
            return (older.silent(str(error)),)
        return older.copies(found, load_policy(self.policies, "backup", BackupPolicy), self.clock.now())

    def lacks(self) -> tuple[Lack, ...]:
        """Return what is missing before anything may be sealed."""
        from guard.fields.lack import Lack

        missing = []
        if not all(key.recoverable for key in self.keyring.list() if key.opens):
            missing.append(Lack("a recovery kit that opens every key", "guard keys recovery make"))
        if not self.backups.stores:
            what = "a place for backups of guard's state"
            return (*missing, Lack(what, "add a [[backup.store]] to guard.toml, then guard backup init"))
        saved = self.backups.state_saved_at()
        if saved is None or saved < self.keyring.changed_at():
            what = "a backup of guard's state newer than its last key"
            missing.append(Lack(what, "guard state backup", by_backup=True))
        newer, people = self.people_unsaved(saved)
        if newer > max(_UNSAVED, people // 100):
            what = f"a backup of guard's state with the keys of {newer} people"
            missing.append(Lack(what, "guard state backup", by_backup=True))
        return tuple(missing)

    def people_unsaved(self, saved: datetime | None) -> tuple[int, int]:
        """Return how many keys of people are newer than the backup of state of `saved`, and how many there are."""
        return self.subjects.unsaved(saved) if self.settings.vault else (0, 0)
