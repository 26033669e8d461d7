"""The keys of one store: root -> KEK -> column keys, index keys and the store's own. FORMATS 3.

A key is opened when it is first needed, its commitment compared, and kept in memory. What is stored is always wrapped;
when there is a recovery kit, every key is also sealed to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from hmac import compare_digest
from hmac import digest as hmac_digest
from uuid import UUID

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from guard.canon import parts
from guard.crypto import random, recovery, store, wrap
from guard.crypto.store import KitHalf, Origin, Row
from guard.crypto.wrap import KEY_SIZE, ROOT_ID, Key
from guard.errors import InterlockError, TamperedError
from guard.state import State, Tx

__all__ = ["STORE_KEYS", "Key", "KeyInfo", "Keyring", "Origin", "origin"]

KEK = "kek"
STORE_KEYS = ("totp", "ledger", "digest", "pseudonym", "service", "repository")
"""The keys every store has from its first day, beside the KEK. Column and index keys come with their columns."""


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """What may be shown of a key. `state` is "current" for the version that seals, "old" for those that only open."""

    id: int
    purpose: str
    version: int
    made_at: datetime
    state: str
    recoverable: bool
    """Whether it is sealed to the recovery kit."""


def origin(state: State) -> Origin | None:
    """Return where this store's root key comes from; None before `Keyring.create`."""
    with state.read() as tx:
        return store.origin_of(tx)


class Keyring:
    """The opened keys of one store. Made by `create`, `open` or `recover`. May be shared by threads."""

    def __init__(self, state: State, kek: Key) -> None:
        self._state = state
        self._kek = kek
        self._opened: dict[int, Key] = {kek.id: kek}
        self._digest: Key | None = None

    @classmethod
    def create(
        cls, state: State, root_key: bytes, recovery_public: bytes | None, from_: Origin | None = None
    ) -> Keyring:
        """Make the keys of a new store in one transaction. `from_` says where the root key comes from (a key file).

        Raises InterlockError when the store has keys already.
        """

        def work(tx: Tx) -> Keyring:
            if store.origin_of(tx) is not None:
                raise InterlockError("this store has its keys already")
            store.found(tx, from_ or Origin())
            root = _root(root_key)
            kek = _make(state, tx, KEK, root, recovery_public)
            if recovery_public is not None:
                store.set_kit(tx, KitHalf(recovery_public, _kit_tag(state.store_id, kek, recovery_public)))
            for purpose in STORE_KEYS:
                _make(state, tx, purpose, kek, recovery_public)
            return cls(state, kek)

        return state.write(work)

    @classmethod
    def open(cls, state: State, root_key: bytes) -> Keyring:
        """Open the keys of a store.

        Raises DeniedError when the root key does not open the KEK, TamperedError when it is not the KEK committed to.
        """
        row = _kek_row(state)
        kek = wrap.unwrap(state.store_id, row.wrapped, row.sheet, _root(root_key))
        return cls(state, wrap.check(state.store_id, kek, row.commitment))

    @classmethod
    def recover(cls, state: State, private: bytes) -> Keyring:
        """Open the keys of a store with the private key of its recovery kit, without the root key.

        Raises DeniedError for another kit's key, InterlockError when the store has no kit, TamperedError when the KEK
        does not open.
        """
        try:
            return cls(state, _open_sealed(state.store_id, _kek_row(state), private))
        except TamperedError:
            with state.read() as tx:
                kit = store.kit_of(tx)
            if kit is not None:
                recovery.belongs(private, kit.public)
            raise

    def current(self, purpose: str) -> Key:
        """Return the newest version of a purpose's key. Raises InterlockError when there is none."""
        with self._state.read() as tx:
            row = store.newest(tx, purpose)
        if row is None:
            raise InterlockError(f"there is no key for {purpose}")
        return self._load(row)

    def ensure(self, purpose: str) -> Key:
        """Return the newest version of a purpose's key, made now when there is none."""

        def work(tx: Tx) -> Key:
            row = store.newest(tx, purpose)
            return self._load(row) if row else _make(self._state, tx, purpose, self._kek, self._kit(tx))

        with self._state.read() as tx:
            row = store.newest(tx, purpose)
        key = self._load(row) if row else self._state.write(work)
        return self._opened.setdefault(key.id, key)  # only now is it certain that the key was stored

    def by_id(self, key_id: int) -> Key:
        """Return the one key with this id. Raises TamperedError when the store has no such key."""
        known = self._opened.get(key_id)
        if known is not None:
            return known
        with self._state.read() as tx:
            row = store.by_id(tx, key_id)
        if row is None:
            raise TamperedError(f"a stored value names key {key_id:010x}, which this store does not have")
        return self._load(row)

    def list(self) -> tuple[KeyInfo, ...]:
        """Return what may be shown of every key, by id."""
        with self._state.read() as tx:
            rows = store.all_rows(tx)
        newest = {row.sheet.purpose: row.sheet.version for row in sorted(rows, key=lambda row: row.sheet.version)}
        return tuple(
            KeyInfo(
                row.sheet.id,
                row.sheet.purpose,
                row.sheet.version,
                row.made_at,
                "current" if row.sheet.version == newest[row.sheet.purpose] else "old",
                row.recovery is not None,
            )
            for row in rows
        )

    def digest(self, domain: str, data: bytes) -> str:
        """Return a keyed digest of `data` as 64 hex characters; nobody without the key can guess back from it."""
        if self._digest is None:
            self._digest = self.current("digest")
        return hmac_digest(self._digest.material, parts(b"guard/digest1", domain.encode(), data), "sha256").hex()

    def recovery_public(self) -> bytes | None:
        """Return the public key of the recovery kit; None without a kit. Raises TamperedError when it was exchanged."""
        with self._state.read() as tx:
            return self._kit(tx)

    def replace_kit(self, tx: Tx, public: bytes) -> int:
        """Seal every key to a new recovery kit and return how many; the old kit opens nothing that is sealed later.

        Raises TamperedError when a key does not open: then the old kit stays.
        """
        store.set_kit(tx, KitHalf(public, _kit_tag(self._state.store_id, self._kek, public)))
        rows = store.all_rows(tx)
        for row in rows:
            store.set_recovery(tx, row.sheet.id, _seal(self._state.store_id, self._load(row), public))
        return len(rows)

    def prove_kit(self, private: bytes) -> int:
        """Open every key with the recovery kit and return how many.

        Raises DeniedError for another kit's key, TamperedError when a key does not open or is not the one committed to,
        InterlockError when one is not sealed to the kit.
        """
        with self._state.read() as tx:
            public, rows = self._kit(tx), store.all_rows(tx)
        if public is None:
            raise InterlockError("this store has no recovery kit", hint="guard keys recovery make")
        recovery.belongs(private, public)
        for row in rows:
            _open_sealed(self._state.store_id, row, private)
        return len(rows)

    def replace_root(self, tx: Tx, root_key: bytes, from_: Origin) -> None:
        """Wrap the KEK under a new root key; the old one opens nothing of this state any more."""
        store.set_wrapped(tx, self._kek.id, wrap.wrap(self._state.store_id, self._kek, _root(root_key)))
        store.set_origin(tx, from_)

    def _load(self, row: Row) -> Key:
        known = self._opened.get(row.sheet.id)
        if known is not None:
            return known
        key = wrap.unwrap(self._state.store_id, row.wrapped, row.sheet, self._kek)
        self._opened[key.id] = wrap.check(self._state.store_id, key, row.commitment)
        return key

    def _kit(self, tx: Tx) -> bytes | None:
        kit = store.kit_of(tx)
        if kit is None:
            return None
        if not compare_digest(_kit_tag(self._state.store_id, self._kek, kit.public), kit.tag):
            raise TamperedError(
                "the recovery kit's public key in state is not the one that was put there",
                hint="`guard keys recovery make` replaces it with a new kit's",
            )
        return kit.public


def _root(material: bytes) -> Key:
    if len(material) != KEY_SIZE:
        raise ValueError(f"a root key has {KEY_SIZE} bytes, not {len(material)}")
    return Key(ROOT_ID, "root", 0, material)


def _make(state: State, tx: Tx, purpose: str, parent: Key, public: bytes | None) -> Key:
    store_id = state.store_id
    key = Key(store.take_id(tx), purpose, 1, random.token(KEY_SIZE))
    store.add(
        tx,
        Row(
            sheet=key,
            made_at=state.clock.now(),
            parent=parent.id,
            wrapped=wrap.wrap(store_id, key, parent),
            commitment=wrap.commitment(store_id, key),
            recovery=None if public is None else _seal(store_id, key, public),
        ),
    )
    return key


def _kek_row(state: State) -> Row:
    with state.read() as tx:
        row = store.newest(tx, KEK)
    if row is None:
        raise InterlockError("this store has no keys yet", hint="`guard init` makes them")
    return row


def _seal(store_id: UUID, key: Key, public: bytes) -> bytes:
    return recovery.seal_to(public, key.material, wrap.binding(store_id, key, ROOT_ID))


def _open_sealed(store_id: UUID, row: Row, private: bytes) -> Key:
    sheet = row.sheet
    if row.recovery is None:
        raise InterlockError(f"key {sheet.id:010x} ({sheet.purpose}) is not sealed to the recovery kit")
    try:
        material = recovery.open_with(private, row.recovery, wrap.binding(store_id, sheet, ROOT_ID))
    except TamperedError:
        raise TamperedError(f"key {sheet.id:010x} ({sheet.purpose}) does not open with the recovery kit") from None
    return wrap.check(store_id, Key(sheet.id, sheet.purpose, sheet.version, material), row.commitment)


def _kit_tag(store_id: UUID, kek: Key, public: bytes) -> bytes:
    info = parts(b"guard/gk1/kit", public)
    return HKDF(algorithm=SHA256(), length=32, salt=store_id.bytes, info=info).derive(kek.material)
