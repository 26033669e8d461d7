"""The wiring: the only module that knows every room. A room is imported when it is first needed."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote, unquote

from guard.clock import Clock, SystemClock
from guard.config import Catalog, Secret, Settings, StoreSettings, load_policy, load_settings, reveal
from guard.errors import ConfigError
from guard.events import Event, RunId

if TYPE_CHECKING:
    from guard.access import Access
    from guard.audit import Ledger
    from guard.backup import Backups, Source
    from guard.backup.stores import Store
    from guard.breach import Breaches
    from guard.config.access import AccessPolicy
    from guard.config.retention import RetentionPolicy
    from guard.crypto.keyring import Keyring
    from guard.fields import Fields
    from guard.jobs import Jobs
    from guard.privacy import CatalogFile, Discovery, Retention
    from guard.report import Reports
    from guard.shop import Shop
    from guard.state import State, Tx

R = TypeVar("R")

_log = logging.getLogger(__name__)

AskSecret = Callable[[str], str]
"""Asks a person for a secret on their terminal; the text is the question."""


def declare_tables() -> None:
    """Import every room's tables, so that a new state gets all of them."""
    for room in ("access", "audit", "backup", "breach", "crypto", "fields", "jobs", "privacy"):
        importlib.import_module(f"guard.{room}.store")


class App:
    """One shop under guard: its folder, its settings, and every room, opened when first needed."""

    def __init__(self, home: Path, settings: Settings, clock: Clock, ask_secret: AskSecret | None = None) -> None:
        self.home = home
        self.settings = settings
        self.clock = clock
        self.ask_secret = ask_secret
        self._root: bytes | None = None

    @classmethod
    def open(cls, config: Path, clock: Clock | None = None, ask_secret: AskSecret | None = None) -> App:
        """Open the app of a `guard.toml`. Raises ConfigError when it is missing or wrong."""
        return cls(config.absolute().parent, load_settings(config), clock or SystemClock(), ask_secret)

    def close(self) -> None:
        """Close what was opened."""
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
        """The key hierarchy, opened with the root key. Raises DeniedError for a wrong one."""
        from guard.crypto.keyring import Keyring

        return Keyring.open(self.state, self._root_key())

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger; opening it makes the state's writer record events."""
        from guard.audit import FolderAnchor, Ledger
        from guard.config.audit import AuditPolicy

        anchors = [FolderAnchor(anchor.name, self.home / anchor.path) for anchor in self.settings.audit.anchor]
        policy = load_policy(self.policies, "audit", AuditPolicy)
        ledger = Ledger(self.state, self.keyring.current("ledger").material, anchors, policy)
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

        return Fields(self.shop, self.catalog, self.keyring, self.state, self.clock, self.not_ready)

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
            ),
            self.state,
            self.clock,
            self.digest,
        )

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
            versions = [key for key in self.keyring.list() if key.purpose == "repository"]
            masters = {key.version: self.keyring.by_id(key.id).material for key in versions}
            return Keys(self.state.store_id, masters, self.keyring.recovery_public())

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

        settings = self.settings.backup
        stores = [self.home / store.path for store in settings.store if store.path]
        dialect, _, path = self.url(self.settings.shop.url).partition("://")  # the shop need not be there any more
        return sources_of(
            Configured(
                self.home,
                Path(unquote(path.removeprefix("/").partition("?")[0])) if dialect.startswith("sqlite") else None,
                dialect.partition("+")[0],
                self.state.path,
                settings.files,
                settings.exclude,
                (self.home / "var", *stores),
            )
        )

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
        keys = self.keyring.list()
        missing = []
        if not all(key.recoverable for key in keys):
            missing.append("a recovery kit that opens every key: guard keys recovery make")
        saved = self.backups.state_saved_at()
        if saved is None or saved < max(key.made_at for key in keys):
            missing.append("a backup of guard's state newer than its last key: guard backup run")
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

    def use_root(self, key: bytes) -> None:
        """Open the keys with `key`, which was just made from a passphrase, instead of asking for it again."""
        self._root = key

    def _root_key(self) -> bytes:
        if self._root is not None:
            return self._root
        from guard.crypto import roots
        from guard.crypto.keyring import origin

        root = self.settings.root
        if root.kind == "file":
            return roots.read_file(self.home / root.path)
        if (found := origin(self.state)) is None or found.argon2 is None:
            raise ConfigError('root.kind is "passphrase", but this store was made with a key file')
        if root.passphrase is not None:
            return roots.from_passphrase(reveal(root.passphrase, self.home), found.argon2)
        if self.ask_secret is None:
            raise ConfigError(
                "no terminal to ask for the passphrase",
                hint="run it on a terminal, or set root.passphrase = {file = } or {credential = } in guard.toml",
            )
        return roots.from_passphrase(self.ask_secret("Passphrase"), found.argon2)

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
