"""The wiring: the only module that knows every room. A room is imported when it is first needed."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote, unquote

from guard.clock import Clock, SystemClock
from guard.config import Catalog, Secret, Settings, StoreSettings, load_policy, load_settings, reveal
from guard.errors import ConfigError, GuardError
from guard.events import Event, RunId

if TYPE_CHECKING:
    from guard.access import Access
    from guard.audit import FolderAnchor, Ledger
    from guard.backup import Backups, Source
    from guard.backup.stores import Store
    from guard.breach import Breaches
    from guard.canon import KeyPart
    from guard.config.access import AccessPolicy
    from guard.config.retention import RetentionPolicy
    from guard.config.settings import OneRoot
    from guard.crypto.budget import Budget
    from guard.crypto.kek import Kms
    from guard.crypto.keyring import Keyring
    from guard.crypto.receipts import Shredder
    from guard.crypto.subjects import SubjectKeys
    from guard.crypto.unlock import Roots
    from guard.crypto.vault import Vault
    from guard.fields import Fields
    from guard.jobs import Jobs
    from guard.privacy import CatalogFile, Discovery, Retention
    from guard.report import Reports
    from guard.shop import Shop
    from guard.shop.remains import Remains
    from guard.state import State, Tx

R = TypeVar("R")

_log = logging.getLogger(__name__)

_VAULT_WAIT = timedelta(seconds=30)
"""How long another process may be busy with the mirrors of the vault: a few small objects each."""

_UNSAVED = 100
"""Keys of people, or one in a hundred of all, that may be newer than the last backup of state: a day's customers."""

AskSecret = Callable[[str], str]
"""Asks a person for a secret on their terminal; the text is the question."""


def declare_tables() -> None:
    """Import every room's tables, so that a new state gets all of them."""
    for room in ("access", "audit", "backup", "breach", "crypto", "fields", "jobs", "privacy"):
        importlib.import_module(f"guard.{room}.store")
    for name in ("subject_store", "vault_store"):
        importlib.import_module(f"guard.crypto.{name}")


class App:
    """One shop under guard: its folder, its settings, and every room, opened when first needed."""

    def __init__(self, home: Path, settings: Settings, clock: Clock, ask_secret: AskSecret | None = None) -> None:
        self.home = home
        self.settings = settings
        self.clock = clock
        self.ask_secret = ask_secret

    @classmethod
    def open(cls, config: Path, clock: Clock | None = None, ask_secret: AskSecret | None = None) -> App:
        """Open the app of a `guard.toml`. Raises ConfigError when it is missing or wrong."""
        return cls(config.absolute().parent, load_settings(config), clock or SystemClock(), ask_secret)

    def close(self) -> None:
        """Close what was opened."""
        if (budget := self.__dict__.pop("budget", None)) is not None:
            budget.give_back()
        for name in ("shop", "state"):
            if (opened := self.__dict__.pop(name, None)) is not None:
                opened.close()

    # What every room stands on ---------------------------------------------------------------------------------------

    @cached_property
    def policies(self) -> Path:
        """The folder of policies."""
        return self.home / self.settings.policies

    def url(self, setting: str | Secret) -> str:
        """Return a database URL as SQLAlchemy takes it: secrets revealed, relative SQLite paths from `home`."""
        text = reveal(setting, self.home) if isinstance(setting, Secret) else setting
        scheme, _, path = text.partition(":///")
        if scheme.partition("+")[0] == "sqlite" and path and not path.startswith("/"):
            return f"{scheme}:///{quote(str(self.home))}/{path}"  # SQLAlchemy reads % and ? of a path as a URL's
        return text

    @cached_property
    def state(self) -> State:
        """guard's own database, with the ledger attached as its writer's witness."""
        from guard.state import State

        return State.open(self.url(self.settings.state.url), self.clock)

    @property
    def demo(self) -> bool:
        """Whether this store is marked as a demo."""
        return self.state.meta.get("demo") == "yes"

    @cached_property
    def keyring(self) -> Keyring:
        """The key hierarchy, opened with a root. Raises DeniedError for a wrong one."""
        from guard.crypto.keyring import Keyring

        return Keyring.open(self.state, self.roots)

    @cached_property
    def roots(self) -> Roots:
        """The roots that guard.toml names; nothing is opened or asked before the keys are needed."""
        from guard.crypto.unlock import roots_of

        return roots_of(self.settings.root, self.home, lambda: self.ask_secret, self._kms)

    def _kms(self, root: OneRoot) -> Kms:
        from guard.aws import Access, kms_key

        keys = [None if secret is None else reveal(secret, self.home) for secret in (root.access_key, root.secret_key)]
        return kms_key(root.key or "", Access(root.endpoint, root.region, *keys))

    @property
    def anchors(self) -> list[FolderAnchor]:
        """The places outside the ledger that keep its checkpoints."""
        from guard.audit import FolderAnchor

        return [FolderAnchor(anchor.name, self.home / anchor.path) for anchor in self.settings.audit.anchor]

    @cached_property
    def vault(self) -> Vault:
        """The keys of epochs, in the mirrors guard.toml names."""
        from guard.backup.stores.vaults import Around, open_mirror
        from guard.crypto.vault import Vault

        backup, state = self.settings.backup, self.state.path
        copied = [self.home / each for each in (*backup.files, *(store.path for store in backup.store if store.path))]
        copied += [self.home / "var", self.policies, *([state.parent] if state else [])]
        around = Around(self.home, self.clock, lambda secret: reveal(secret, self.home), copied)
        mirrors = [open_mirror(each, around) for each in self.settings.vault]
        return Vault(self.state, self.keyring, mirrors, lambda: self.hold(("vault",), _VAULT_WAIT, "vault"))

    @cached_property
    def subjects(self) -> SubjectKeys:
        """The keys of people; one at a time can be shredded."""
        from guard.crypto.subjects import SubjectKeys

        return SubjectKeys(self.state, self.keyring, self.vault)

    @cached_property
    def shredder(self) -> Shredder:
        """Shreds keys of people, and keeps the receipts."""
        from guard.crypto.receipts import Shredder

        return Shredder(self.state, self.keyring, self.subjects)

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger; opening it makes the state's writer record events."""
        from guard.audit import Ledger
        from guard.config.audit import AuditPolicy

        seed = self.keyring.current("ledger").material  # first: where state is lost, that is what has to be said
        ledger = Ledger(self.state, seed, self.anchors, load_policy(self.policies, "audit", AuditPolicy))
        self.state.attach(ledger.append)
        return ledger

    def record(self, work: Callable[[Tx], R], *events: Event) -> R:
        """Run `work` and record `events` in one transaction of state."""
        _ = self.ledger  # attached to the writer when it is opened
        done = self.state.write(work, *events)
        for event in events:
            _log.info("%s by %s: %s (run %s)", event.what, event.who, event.ending, event.run)
        return done

    @cached_property
    def access(self) -> Access:
        """People, second factors, approvals."""
        from guard.access import Access

        _ = self.ledger  # who is refused is recorded
        return Access(self.state, self.keyring, self._access_policy, self.clock)

    # The shop and what is done to it ---------------------------------------------------------------------------------

    @cached_property
    def shop(self) -> Shop:
        """The shop's own database."""
        from guard.shop import Shop

        settings = self.settings.shop
        return Shop.connect(self.url(settings.url), settings.schema, settings.tls)

    def fate_in_shop(self, run: RunId) -> tuple[str, int]:
        """Return what became of a killed run by what the shop says, and how many rows it had changed."""
        from guard.shop import progress

        found = progress.resolve(self.shop, run)
        return found.state.value, found.rows

    @property
    def fields(self) -> Fields:
        """The sealed columns, as the accepted catalog has them now."""
        from guard.fields import Fields
        from guard.fields.facts import Outside

        outside = Outside(
            vault=lambda: self.vault.missing(),  # noqa: PLW0108  # opened when it is asked
            backup=self.shop_saved_at,
            copies=self.old_backups,
        )
        keys = self.subjects if self.settings.vault else None
        shop, catalog, state = self.shop, self.catalog, self.state
        return Fields(
            shop,
            catalog,
            self.keyring,
            state,
            self.clock,
            self.not_ready,
            outside=outside,
            subjects=keys,
            budget=self.budget,
        )

    @cached_property
    def budget(self) -> Budget:
        """What tight keys may still seal: one for the process, as it reserves in blocks."""
        from guard.crypto.budget import Budget

        return Budget(self.state)

    @cached_property
    def _access_policy(self) -> AccessPolicy:
        from guard.config.access import AccessPolicy

        return load_policy(self.policies, "access", AccessPolicy)

    @cached_property
    def _retention_policy(self) -> RetentionPolicy:
        from guard.config.retention import RetentionPolicy

        return load_policy(self.policies, "retention", RetentionPolicy)

    @cached_property
    def discovery(self) -> Discovery:
        """Where personal data lies, and the catalog that says so."""
        from guard.config.taxonomy import Taxonomy
        from guard.privacy import CatalogFile, Discovery

        return Discovery(
            self.shop,
            self._catalog_file(CatalogFile),
            load_policy(self.policies, "taxonomy", Taxonomy),
            self._retention_policy,
            frozenset(self._access_policy.tier),
        )

    def _catalog_file(self, of: type[CatalogFile]) -> CatalogFile:
        return of(self.policies, self.state, self.digest)

    @property
    def catalog(self) -> Catalog:
        """The catalog that was accepted; an empty one before. Raises InterlockError when the file differs from it."""
        from guard.privacy import CatalogFile

        return self._catalog_file(CatalogFile).accepted()

    @cached_property
    def retention(self) -> Retention:
        """The retention policy on this shop; each plan reads policy and catalog as they are then."""
        from guard.privacy import Retention, Ruling, Seals

        return Retention(
            self.shop,
            lambda: Ruling.read(self.policies, self.catalog),
            Seals(
                lambda at: self.fields.opener(at),  # noqa: PLW0108  # the fields of that moment
                lambda at: self.fields.sealer(at),  # noqa: PLW0108  # the fields of that moment
                lambda at: self.fields.key_columns(at),  # noqa: PLW0108  # the fields of that moment
                lambda at: self.fields.tokens(at),  # noqa: PLW0108  # the fields of that moment
                lambda tables: self.fields.declared(tables),  # noqa: PLW0108  # the fields of that moment
            ),
            self.state,
            self.clock,
            self.digest,
        )

    def reasons_to_keep(self, class_: str, rows: Mapping[str, Sequence[tuple[KeyPart, ...]]]) -> tuple[str, ...]:
        """Return, in words, why data of a class in a person's rows (keys by table) must not be shredded now."""
        from guard.privacy import Ruling, basis

        return basis.running(self.shop, Ruling.read(self.policies, self.catalog), class_, rows, self.clock.now())

    def policy_bytes(self, name: str) -> bytes:
        """Return a policy's file as it is: what a standing approval covers. Raises ConfigError when it is not there."""
        path = self.policies / f"{name}.toml"
        try:
            return path.read_bytes()
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {error.strerror}") from error

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

    @cached_property
    def reports(self) -> Reports:
        """Reports on the ledger and the catalog."""
        from guard.report import Reports, Sources

        return Reports(
            Sources(
                entries=self.ledger.entries,
                checkpoint=self.ledger.checkpoint,
                vkey=lambda: self.ledger.vkey,
                inspect=self.ledger.inspect,
                catalog=lambda: self.catalog,
                breach_rules=lambda: self.breaches.policy.rule,
                shop=self.settings.name,
                demo=lambda: self.demo,
            )
        )

    def not_ready(self) -> tuple[str, ...]:
        """Return what is missing before anything may be sealed."""
        missing = []
        if not all(key.recoverable for key in self.keyring.list() if key.opens):
            missing.append("a recovery kit that opens every key: guard keys recovery make")
        saved = self.backups.state_saved_at()
        if saved is None or saved < self.keyring.changed_at():
            missing.append("a backup of guard's state newer than its last key: guard state backup")
        newer, people = self.subjects.unsaved(saved) if self.settings.vault else (0, 0)
        if newer > max(_UNSAVED, people // 100):
            missing.append(f"a backup of guard's state with the keys of {newer} people: guard state backup")
        return tuple(missing)

    @cached_property
    def breaches(self) -> Breaches:
        """Incidents and their deadlines."""
        from guard.breach import Breaches
        from guard.config.breach import BreachPolicy

        return Breaches(self.state, load_policy(self.policies, "breach", BreachPolicy), self.clock)

    @cached_property
    def jobs(self) -> Jobs:
        """What is due and what was done."""
        from guard.config.schedule import Schedule
        from guard.jobs import Jobs

        _ = self.ledger  # what was missed is recorded
        return Jobs(self.state, load_policy(self.policies, "schedule", Schedule), self.clock)

    def digest(self, domain: str, data: bytes) -> str:
        """Return a keyed digest, hex: nobody without the key can guess back what it was made from."""
        return self.keyring.digest(domain, data)

    def new_run(self) -> RunId:
        """Return a fresh run id."""
        from guard.crypto.random import token

        return RunId(token(16).hex())

    def hold(self, names: tuple[str, ...], wait: timedelta, what: str = "") -> AbstractContextManager[None]:
        """Hold `names` against every other process of this folder. Raises BusyError after `wait`."""
        from guard.state import hold

        return hold(self.home / "var" / "locks", names, wait, self.clock, what)
