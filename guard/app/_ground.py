"""What every room stands on: the folder, the settings, guard's own state, its keys, its ledger, and who may act."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar
from urllib.parse import quote

from guard.clock import Clock, SystemClock
from guard.config import Secret, Settings, load_policy, load_settings, reveal
from guard.errors import ConfigError, GoneError
from guard.events import Event, RunId

if TYPE_CHECKING:
    from guard.access import Access
    from guard.audit import Anchor, Ledger
    from guard.audit.persons import Persons
    from guard.audit.rekey import Seeds
    from guard.config.access import AccessPolicy
    from guard.config.settings import OneRoot
    from guard.config.span import Span
    from guard.crypto.budget import Budget
    from guard.crypto.kek import Kms
    from guard.crypto.keyring import Keyring
    from guard.crypto.receipts import Shredder
    from guard.crypto.subjects import SubjectKeys
    from guard.crypto.unlock import Roots
    from guard.crypto.vault import Vault
    from guard.state import State, Tx

R = TypeVar("R")

_log = logging.getLogger(__package__)

_VAULT_WAIT = timedelta(seconds=30)
"""How long another process may be busy with the mirrors of the vault: a few small objects each."""

AskSecret = Callable[[str], str]
"""Asks a person for a secret on their terminal; the text is the question."""


def declare_tables() -> None:
    """Import every room's tables, so that a new state gets all of them."""
    for room in ("access", "audit", "backup", "breach", "crypto", "fields", "jobs", "privacy"):
        importlib.import_module(f"guard.{room}.store")
    for name in ("subject_store", "vault_store"):
        importlib.import_module(f"guard.crypto.{name}")


class Ground:
    """One shop under guard: its folder and settings, guard's state and keys, each opened when first needed."""

    """One shop under guard: its folder, its settings, and every room, opened when first needed."""

    def __init__(self, home: Path, settings: Settings, clock: Clock, ask_secret: AskSecret | None = None) -> None:
        self.home = home
        self.settings = settings
        self.clock = clock
        self.ask_secret = ask_secret

    @classmethod
    def open(cls, config: Path, clock: Clock | None = None, ask_secret: AskSecret | None = None) -> Self:
        """Open the app of a `guard.toml`. Raises ConfigError when it is missing or wrong."""
        return cls(config.absolute().parent, load_settings(config), clock or SystemClock(), ask_secret)

    def close(self) -> None:
        """Close what was opened."""
        if (budget := self.__dict__.pop("budget", None)) is not None:
            budget.give_back()
        for name in ("shop", "state"):
            if (opened := self.__dict__.pop(name, None)) is not None:
                opened.close()

    # The folder ------------------------------------------------------------------------------------------------------

    @cached_property
    def policies(self) -> Path:
        """The folder of policies."""
        return self.home / self.settings.policies

    def policy_bytes(self, name: str) -> bytes:
        """Return a policy's file as it is: what a standing approval covers. Raises ConfigError when it is not there."""
        path = self.policies / f"{name}.toml"
        try:
            return path.read_bytes()
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {error.strerror}") from error

    def url(self, setting: str | Secret) -> str:
        """Return a database URL as SQLAlchemy takes it: secrets revealed, relative SQLite paths from `home`."""
        text = reveal(setting, self.home) if isinstance(setting, Secret) else setting
        scheme, _, path = text.partition(":///")
        if scheme.partition("+")[0] == "sqlite" and path and not path.startswith("/"):
            return f"{scheme}:///{quote(str(self.home))}/{path}"  # SQLAlchemy reads % and ? of a path as a URL's
        return text

    @property
    def agent_socket(self) -> Path:
        """Where `guard daemon` listens."""
        return self.home / self.settings.agent.socket

    def hold(self, names: tuple[str, ...], wait: timedelta, what: str = "") -> AbstractContextManager[None]:
        """Hold `names` against every other process of this folder. Raises BusyError after `wait`."""
        from guard.state import hold

        return hold(self.home / "var" / "locks", names, wait, self.clock, what)

    def new_run(self) -> RunId:
        """Return a fresh run id."""
        from guard.crypto.random import token

        return RunId(token(16).hex())

    # State and its keys ----------------------------------------------------------------------------------------------

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

        return kms_key(root.key or "", Access.of(root, lambda secret: reveal(secret, self.home)))

    def digest(self, domain: str, data: bytes) -> str:
        """Return a keyed digest, hex: nobody without the key can guess back what it was made from."""
        return self.keyring.digest(domain, data)

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

        persons = self.persons
        if persons is None:
            return Shredder(self.state, self.keyring, self.subjects)
        from guard.audit.persons import CLASS

        _ = self.ledger  # what it forgets is recorded
        return Shredder(self.state, self.keyring, self.subjects, {CLASS: persons})

    @cached_property
    def budget(self) -> Budget:
        """What tight keys may still seal: one for the process, as it reserves in blocks."""
        from guard.crypto.budget import Budget

        return Budget(self.state)

    # The ledger, and who may act -------------------------------------------------------------------------------------

    @cached_property
    def anchors(self) -> list[Anchor]:
        """The places outside the ledger that keep its checkpoints, or sign them."""
        from guard.audit.anchors.places import Around, open_anchor
        from guard.config.audit import AuditPolicy

        def lock() -> Span:
            return load_policy(self.policies, "audit", AuditPolicy).anchor_lock

        around = Around(self.home, self.clock, lambda secret: reveal(secret, self.home), lock)
        return [open_anchor(each, around) for each in self.settings.audit.anchor]

    @cached_property
    def persons(self) -> Persons | None:
        """The people whom the ledger names; None without a vault, where it names nobody."""
        from guard.audit.persons import Persons

        return Persons(self.state, self.keyring, lambda: self.subjects) if self.settings.vault else None

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger; opening it makes the state's writer record events."""
        from guard.audit import Ledger
        from guard.config.audit import AuditPolicy

        _ = self.keyring  # first: where state is lost, that is what has to be said
        policy = load_policy(self.policies, "audit", AuditPolicy)
        ledger = Ledger(self.state, self.ledger_seeds, self.anchors, policy, persons=self.persons)
        self.state.attach(ledger.append)
        return ledger

    def ledger_seeds(self) -> Seeds:
        """Return the seeds that the ledger signs with: of the version in force, older ones, and one that waits."""
        from guard.audit.rekey import Seeds

        current = self.keyring.current("ledger")
        known = [key.id for key in self.keyring.list() if key.purpose == "ledger" and key.opens]
        return Seeds(current.material, tuple(self.keyring.by_id(each).material for each in known if each != current.id))

    def record(self, work: Callable[[Tx], R], *events: Event) -> R:
        """Run `work` and record `events` in one transaction of state; whom they are about is named first.

        Raises InterlockError for an event about a person where there is no vault.
        """
        ledger = self.ledger  # attached to the writer when it is opened
        try:
            done = self.state.write(work, *ledger.prepare(events))
        except GoneError:  # the person was shredded in between, and is named anew
            done = self.state.write(work, *ledger.prepare(events))
        for event in events:
            _log.info("%s by %s: %s (run %s)", event.what, event.who, event.ending, event.run)
        return done

    @cached_property
    def access(self) -> Access:
        """People, second factors, approvals."""
        from guard.access import Access

        _ = self.ledger  # who is refused is recorded
        return Access(self.state, self.keyring, self._access_policy, self.clock)

    @cached_property
    def _access_policy(self) -> AccessPolicy:
        from guard.config.access import AccessPolicy

        return load_policy(self.policies, "access", AccessPolicy)
