"""The keys of one store: roots -> KEK -> column keys, index keys and the store's own. FORMATS 3.

A key is opened when it is first needed, its commitment compared, and kept in memory. What is stored is always wrapped;
when there is a recovery kit, every key is also sealed to it. The KEK wraps what is in this room's table and nothing
else: who has to wrap keys elsewhere takes a key with a purpose of its own.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from datetime import datetime

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from guard.canon import parts
from guard.crypto import escrow, kit, life, random, recovery, store, xaes
from guard.crypto.kek import Origin
from guard.crypto.life import KEK, KeyInfo
from guard.crypto.ring import Ring, kek_row, kit_tag, open_sealed, unlocked
from guard.crypto.store import KitHalf, Life, Row
from guard.crypto.unlock import Roots
from guard.crypto.wrap import KEY_SIZE, Key
from guard.errors import ConfigError, InterlockError, TamperedError
from guard.state import State, Tx

__all__ = ["STORE_KEYS", "Key", "KeyInfo", "Keyring", "Origin", "origins"]

STORE_KEYS = ("totp", "ledger", "digest", "pseudonym", "service", "repository")
"""The keys every store has from its first day, beside the KEK. Column and index keys come with their columns."""

_FIRST_ID = 1
_u32 = struct.Struct(">I").pack


def origins(state: State) -> tuple[Origin, ...]:
    """Return what the KEK lies under; nothing before `Keyring.create`."""
    with state.read() as tx:
        return tuple(under.origin for under in store.roots_of(tx))


class Keyring:
    """The opened keys of one store. Made by `create`, `open` or `recover`. May be shared by threads."""

    def __init__(self, state: State, kek: Key, roots: Roots | None = None) -> None:
        self.ring = Ring(state, kek, roots)
        self._state = state
        self._digests: dict[str, HMAC] = {}

    @classmethod
    def create(cls, state: State, roots: Roots | bytes, recovery_public: bytes | None) -> Keyring:
        """Make the keys of a new store in one transaction. `roots`: 32 bytes are the one local root key.

        Raises InterlockError when the store has keys already, and what a root raises that does not answer.
        """
        roots = Roots.of_key(roots) if isinstance(roots, bytes) else roots
        if origins(state):
            raise InterlockError("this store has its keys already")
        kek = Key(_FIRST_ID, KEK, 1, random.token(KEY_SIZE))
        under = roots.wrap_named(state.store_id, kek)
        made = cls(state, kek, roots)

        def work(tx: Tx) -> None:
            if store.roots_of(tx):
                raise InterlockError("this store has its keys already")
            store.found(tx, kek.id + 1, under, state.clock.now())
            made.ring.add_kek(tx, kek, recovery_public)
            if recovery_public is not None:
                tag = kit_tag(state.store_id, kek, recovery_public)
                store.set_kit(tx, KitHalf(recovery_public, tag), state.clock.now())
            for purpose in STORE_KEYS:
                made.ring.make(tx, purpose)

        state.write(work)
        return made

    @classmethod
    def open(cls, state: State, roots: Roots | bytes) -> Keyring:
        """Open the keys of a store. `roots`: 32 bytes are the one local root key.

        Raises DeniedError when a root is none of this store's, TamperedError when the KEK does not open or is not the
        one committed to, ConfigError or UnavailableError when no root is at hand or answers.
        """
        roots = Roots.of_key(roots) if isinstance(roots, bytes) else roots
        return cls(state, unlocked(state, roots), roots)

    @classmethod
    def recover(cls, state: State, private: bytes) -> Keyring:
        """Open the keys of a store with the private key of its recovery kit, without a root key.

        Raises DeniedError for another kit's key, InterlockError when the store has no kit, TamperedError when the KEK
        does not open.
        """
        try:
            return cls(state, open_sealed(state.store_id, kek_row(state), private))
        except TamperedError:
            with state.read() as tx:
                half = store.kit_of(tx)
            if half is not None:
                recovery.belongs(private, half.public)
            raise

    # For those who seal and open -------------------------------------------------------------------------------------

    def current(self, purpose: str) -> Key:
        """Return the version of a purpose's key that seals. Raises InterlockError when there is none."""
        with self._state.read() as tx:
            row = store.current(tx, purpose)
        if row is None:
            raise InterlockError(f"there is no key for {purpose}")
        return self.ring.load(row)

    def ensure(self, purpose: str) -> Key:
        """Return the version of a purpose's key that seals, made now when there is none."""

        def work(tx: Tx) -> Key:
            row = store.current(tx, purpose)
            return self.ring.load(row) if row else self.ring.make(tx, purpose)

        with self._state.read() as tx:
            row = store.current(tx, purpose)
        key = self.ring.load(row) if row else self.ring.write(work)
        return self.ring.opened.setdefault(key.id, key)  # only now is it certain that the key was stored

    def by_id(self, key_id: int) -> Key:
        """Return the one key with this id. Raises TamperedError when the store has none, or when it opens nothing."""
        known = self.ring.opened.get(key_id)
        if known is not None:
            return known
        with self._state.read() as tx:
            row = store.by_id(tx, key_id)
        if row is None:
            raise TamperedError(f"a stored value names key {key_id:010x}, which this store does not have")
        if row.life in {Life.RETIRED, Life.DESTROYED}:
            raise TamperedError(
                f"a stored value names key {key_id:010x} ({row.sheet.purpose}), which is {row.life.value}",
                hint="is it from an older backup of the shop? `guard keys retire --undo` lets a retired key open again",
            )
        return self.ring.load(row)

    def digest(self, domain: str, data: bytes) -> str:
        """Return a keyed digest of `data` as 64 hex characters; nobody without the key can guess back from it."""
        taken = (self._digests.get(domain) or self._started(domain)).copy()
        taken.update(_u32(len(data)) + data)
        return taken.finalize().hex()

    def recovery_public(self) -> bytes | None:
        """Return the public key of the recovery kit; None without a kit. Raises TamperedError when it was exchanged."""
        return kit.public(self.ring)

    # The life of a key -----------------------------------------------------------------------------------------------

    def list(self) -> tuple[KeyInfo, ...]:
        """Return what may be shown of every key, by id."""
        with self._state.read() as tx:
            return life.infos(store.all_rows(tx))

    def info(self, key_id: int) -> KeyInfo:
        """Return what may be shown of a key. Raises ConfigError when there is none with this id."""
        with self._state.read() as tx:
            return _info(tx, key_id)

    def changed_at(self) -> datetime:
        """Return when the newest key that may be used, the roots or the kit were made; a backup must be newer.

        A version that waits does not count: it is not used before a backup holds it. The shares of a kit open nothing
        in a backup from before the kit.
        """
        with self._state.read() as tx:
            made = [row.made_at for row in store.all_rows(tx) if row.life is Life.ACTIVE]
            others = (store.roots_changed_at(tx), store.kit_dates(tx).made_at)
        return max([*made, *(at for at in others if at)])

    def rotate(self, purpose: str) -> Key:
        """Return the next version of a purpose's key. It waits, sealing nothing, until `activate`.

        One that waits already is returned again. Raises InterlockError for a purpose that is not rotated or has no key.
        """
        life.require_rotated(purpose)

        def work(tx: Tx) -> int:
            newest = store.newest(tx, purpose)
            if newest is None:
                raise InterlockError(f"there is no key for {purpose} yet, so there is none to replace")
            if newest.life is Life.WAITING:
                return newest.sheet.id
            return self.ring.make(tx, purpose, newest.sheet.version + 1, Life.WAITING).id

        return self.by_id(self.ring.write(work))

    def activate(self, tx: Tx, key_id: int, saved_at: datetime | None) -> None:
        """Let a version that waits seal from now on; the one before only opens then.

        `saved_at`: when the newest backup of state was begun. Raises InterlockError when it is older than the key: what
        it would seal could not be read again after state was lost.
        """
        key = _info(tx, key_id)
        life.require_step(key, Life.ACTIVE)
        if saved_at is None or saved_at < key.made_at:
            raise InterlockError(f"no backup of guard's state holds key {key_id:010x} yet", hint="guard backup run")
        store.set_life(tx, key_id, Life.ACTIVE, self._state.clock.now())

    def retire(self, tx: Tx, key_id: int, in_use: Callable[[Tx], Sequence[str]]) -> None:
        """Let a key open nothing any more. `in_use` returns what still needs it, in words.

        Raises InterlockError when something does, or when the key is not an older version.
        """
        self._end(tx, key_id, Life.RETIRED, in_use)

    def destroy(self, tx: Tx, key_id: int, in_use: Callable[[Tx], Sequence[str]]) -> None:
        """Wipe a retired key's material and its copy for the kit; its row stays, so that its id is not given again.

        Raises InterlockError when something needs it after all, or when it is not retired.
        """
        self._end(tx, key_id, Life.DESTROYED, in_use)

    def call_back(self, tx: Tx, key_id: int) -> None:
        """Let a retired key open again, as an older version. Raises InterlockError when it is not retired."""
        life.require_retired(_info(tx, key_id))
        store.set_life(tx, key_id, Life.ACTIVE, self._state.clock.now())

    def seal_for(self, key_id: int, recipient: bytes) -> str:
        """Return a key sealed to an X25519 public key, as a document; retired keys too.

        Raises InterlockError for a key that is destroyed, ConfigError for a public key that nothing can be sealed to.
        """
        with self._state.read() as tx:
            row = _row(tx, key_id)
        if row.life is Life.DESTROYED:
            raise InterlockError(f"key {key_id:010x} is destroyed: there is nothing left to export")
        return escrow.document(self._state.store_id, self.ring.load(row), row.commitment, recipient)

    def forget_ended(self) -> None:
        """Drop opened keys that another process has retired or destroyed since: from here on they open nothing."""
        if ended := {key.id for key in self.list() if not key.opens} & self.ring.opened.keys():
            for key_id in ended:
                self.ring.opened.pop(key_id, None)
            xaes.clear()

    def _end(self, tx: Tx, key_id: int, to: Life, in_use: Callable[[Tx], Sequence[str]]) -> None:
        key = _info(tx, key_id)
        life.require_step(key, to)
        life.require_unused(key, in_use(tx))
        store.set_life(tx, key_id, to, self._state.clock.now())
        self.ring.opened.pop(key_id, None)

    def _started(self, domain: str) -> HMAC:
        """Return an HMAC that has hashed all that a domain's digests begin with: three times as fast as anew each."""
        started = HMAC(self.current("digest").material, SHA256())
        started.update(parts(b"guard/digest1", domain.encode()))
        return self._digests.setdefault(domain, started)


def _row(tx: Tx, key_id: int) -> Row:
    row = store.by_id(tx, key_id)
    if row is None:
        raise ConfigError(f"there is no key {key_id:010x}", hint="guard keys list shows which there are")
    return row


def _info(tx: Tx, key_id: int) -> KeyInfo:
    row = _row(tx, key_id)
    sealing = store.current(tx, row.sheet.purpose)
    return life.info(row, sealing.sheet.id if sealing else None)
