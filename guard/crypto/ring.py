"""The opened KEK of one store and the keys under it: loaded when needed, made new, and kept right when the KEK changes.

`Keyring` is what other rooms see; this is what it, `rewrap` and `kit` stand on.
"""

from __future__ import annotations

from collections.abc import Callable
from hmac import compare_digest
from typing import TypeVar
from uuid import UUID

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from guard.canon import parts
from guard.crypto import random, recovery, store, wrap
from guard.crypto.life import KEK
from guard.crypto.store import Life, Row
from guard.crypto.unlock import Roots
from guard.crypto.wrap import KEY_SIZE, ROOT_ID, Key
from guard.errors import BusyError, InterlockError, TamperedError
from guard.state import State, Tx

R = TypeVar("R")


class StaleError(BusyError):
    """Another process made a new KEK since this one opened the keys."""

    def __init__(self) -> None:
        super().__init__("another process has just wrapped the keys anew", hint="run it again")


class Ring:
    """The KEK and what it opens. `roots` opens a KEK that another process made; None where nobody can."""

    def __init__(self, state: State, kek: Key, roots: Roots | None = None) -> None:
        self.state = state
        self.kek = kek
        self.opened: dict[int, Key] = {kek.id: kek}
        self._roots = roots

    @property
    def roots(self) -> Roots:
        """The roots of guard.toml. Raises InterlockError where the keys were opened without them."""
        if self._roots is None:
            raise InterlockError("the keys were opened with the recovery kit, not with a root", hint="start again")
        return self._roots

    def load(self, row: Row) -> Key:
        """Return the key of a row, opened under the KEK and compared with its commitment. Raises TamperedError."""
        known = self.opened.get(row.sheet.id)
        if known is not None:
            return known
        if row.parent != self.kek.id:
            row = self._anew(row)
        if row.wrapped is None:
            raise TamperedError(f"key {row.sheet.id:010x} ({row.sheet.purpose}) has lost its material")
        key = wrap.unwrap(self.state.store_id, row.wrapped, row.sheet, self.kek)
        return self.opened.setdefault(key.id, wrap.check(self.state.store_id, key, row.commitment))

    def make(self, tx: Tx, purpose: str, version: int = 1, life: Life = Life.ACTIVE) -> Key:
        """Store a new key, wrapped, and sealed to the recovery kit. Raises StaleError when the KEK is another now."""
        kek, public, store_id = self.fresh(tx), self.kit_public(tx), self.state.store_id
        key = Key(store.take_id(tx), purpose, version, random.token(KEY_SIZE))
        store.add(
            tx,
            Row(
                sheet=key,
                made_at=self.state.clock.now(),
                parent=kek.id,
                wrapped=wrap.wrap(store_id, key, kek),
                commitment=wrap.commitment(store_id, key),
                recovery=None if public is None else sealed(store_id, key, public),
                life=life,
            ),
        )
        return key

    def add_kek(self, tx: Tx, kek: Key, public: bytes | None) -> None:
        """Store the row of a KEK; what wraps it lies with the roots."""
        store_id, now = self.state.store_id, self.state.clock.now()
        copy = None if public is None else sealed(store_id, kek, public)
        store.add(tx, Row(kek, now, ROOT_ID, None, wrap.commitment(store_id, kek), copy))

    def fresh(self, tx: Tx) -> Key:
        """Return the KEK, which still is state's. Raises StaleError when another process made a new one."""
        row = store.current(tx, KEK)
        if row is None or row.sheet.id != self.kek.id:
            raise StaleError
        return self.kek

    def renew(self) -> None:
        """Open state's KEK when it is another than the one at hand."""
        with self.state.read() as tx:
            row = store.current(tx, KEK)
        if row is not None and row.sheet.id != self.kek.id:
            self.kek = unlocked(self.state, self.roots)
            self.opened[self.kek.id] = self.kek

    def write(self, work: Callable[[Tx], R]) -> R:
        """Run a work that needs the KEK of now; one that found another is run again under it."""
        try:
            return self.state.write(work)
        except StaleError:
            self.renew()
            return self.state.write(work)

    def kit_public(self, tx: Tx) -> bytes | None:
        """Return the recovery kit's public key; None without a kit. Raises TamperedError when it was exchanged."""
        kit = store.kit_of(tx)
        if kit is None:
            return None
        if not compare_digest(kit_tag(self.state.store_id, self.kek, kit.public), kit.tag):
            self.fresh(tx)  # a tag under a newer KEK is no tampering
            raise TamperedError(
                "the recovery kit's public key in state is not the one that was put there",
                hint="`guard keys recovery make` replaces it with a new kit's",
            )
        return kit.public

    def _anew(self, row: Row) -> Row:
        """Return a row as it is under the KEK of now, which is opened. Raises TamperedError when it is under none."""
        self.renew()
        with self.state.read() as tx:
            again = store.by_id(tx, row.sheet.id) or row
        if again.parent != self.kek.id:
            name = f"key {row.sheet.id:010x} ({row.sheet.purpose})"
            raise TamperedError(f"{name} is wrapped under key {again.parent:010x}, which is not the KEK")
        return again


def unlocked(state: State, roots: Roots) -> Key:
    """Return the KEK of a store by its roots, compared with its commitment.

    Raises InterlockError before there is one, and what `Roots.unlock` raises.
    """
    row = kek_row(state)
    with state.read() as tx:
        stored = store.roots_of(tx)
    return wrap.check(state.store_id, roots.unlock(state.store_id, row.sheet, stored), row.commitment)


def kek_row(state: State) -> Row:
    """Return the row of the KEK. Raises InterlockError before there is one."""
    with state.read() as tx:
        row = store.current(tx, KEK)
    if row is None:
        raise InterlockError("this store has no keys yet", hint="`guard init` makes them")
    return row


def sealed(store_id: UUID, key: Key, public: bytes) -> bytes:
    """Return a key sealed to the recovery kit."""
    return recovery.seal_to(public, key.material, wrap.binding(store_id, key, ROOT_ID))


def open_sealed(store_id: UUID, row: Row, private: bytes) -> Key:
    """Return a key by the recovery kit's private key.

    Raises InterlockError when it is not sealed to the kit, TamperedError when it does not open or is another key.
    """
    sheet = row.sheet
    if row.recovery is None:
        raise InterlockError(f"key {sheet.id:010x} ({sheet.purpose}) is not sealed to the recovery kit")
    try:
        material = recovery.open_with(private, row.recovery, wrap.binding(store_id, sheet, ROOT_ID))
    except TamperedError:
        raise TamperedError(f"key {sheet.id:010x} ({sheet.purpose}) does not open with the recovery kit") from None
    return wrap.check(store_id, Key(sheet.id, sheet.purpose, sheet.version, material), row.commitment)


def kit_tag(store_id: UUID, kek: Key, public: bytes) -> bytes:
    """Return what vouches for the recovery kit: only who has the KEK can write it."""
    info = parts(b"guard/gk1/kit", public)
    return HKDF(algorithm=SHA256(), length=32, salt=store_id.bytes, info=info).derive(kek.material)
