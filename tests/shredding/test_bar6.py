"""An old backup of state, the root key, the recovery kit and all of today's vault do not open what was shredded.

The attacker here knows docs/FORMATS.md, has everything guard ever wrote but the deleted keys, and tries each key on
everything. That the attack works is proved first: within the epoch it succeeds, and so does the receipt say.
"""

import importlib.util
import itertools
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from guard.actions import perform
from guard.actions._perform import Caller
from guard.actions.epoch import TURN
from guard.actions.receipts import receipts
from guard.actions.shred import SHRED
from guard.canon import key_bytes

FEBRUARY = datetime(2026, 2, 1, 3, tzinfo=UTC)


def _reader() -> ModuleType:
    path = Path(__file__).parents[1] / "independent/sealed.py"
    spec = importlib.util.spec_from_file_location("independent_sealed", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reader = _reader()


@dataclass
class Thief:
    """Everything but what was deleted: files of state of any age, root, kit, vault."""

    states: list[Path]
    root: bytes
    private: bytes
    objects: list[bytes]
    raw: bytes
    """The bytes of files as they lie on the disk, free pages and logs included."""
    store: UUID = field(init=False)
    known: dict[bytes, str] = field(init=False)
    """Every key material, and what it is."""

    def __post_init__(self) -> None:
        self.store = UUID(self.rows("SELECT value FROM state_meta WHERE name = 'store_id'")[0]["value"])
        self.known = {self.root: "root"}
        self._from_tables()
        while self._from_wrapped():
            pass

    def rows(self, query: str) -> list[Any]:
        out: list[Any] = []
        for path in self.states:
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as state:
                state.row_factory = sqlite3.Row
                out += state.execute(query).fetchall()
        return out

    def _from_tables(self) -> None:
        """Open every key with the kit, and the KEK with the root."""
        for row in self.rows("SELECT * FROM key WHERE recovery IS NOT NULL"):
            key = reader.open_recovery(
                row["recovery"], self.private, self.store, row["id"], row["purpose"], row["version"]
            )
            self.known[key] = row["purpose"]

    def _from_wrapped(self) -> bool:
        """Try every key on every wrapped key there is, of tables and vault, under every id it may be bound to."""
        before = len(self.known)
        wrapped = [
            (row["wrapped"], row["id"], row["purpose"], row["version"]) for row in self.rows("SELECT * FROM key")
        ]
        wrapped += [
            (row["wrapped"], row["id"], f"subject/{row['class']}/{row['kind']}/{row['person'].hex()}", 1)
            for row in self.rows("SELECT * FROM subject_key")
        ]
        names = [(key_id, purpose, version) for _, key_id, purpose, version in wrapped]
        found = {self.raw[at : at + 64] for at in range(len(self.raw) - 63) if self.raw.startswith(b"gk\x01\x01", at)}
        wrapped += [(data, *name) for data in found for name in names]
        for data in self.objects:
            key_id, version = int.from_bytes(data[4:9], "big"), int.from_bytes(data[14:18], "big")
            wrapped.append((data[25:89], key_id, f"epoch/{data[18:25].decode()}", version))
        parents = range(25)  # every id that was given
        for (data, key_id, purpose, version), material in itertools.product(wrapped, list(self.known)):
            if data is not None:
                for parent in parents:
                    try:
                        key = reader.unwrap(data, material, self.store, key_id, purpose, version, parent)
                    except reader.RefusedError:
                        continue
                    self.known[key] = purpose
        return len(self.known) > before

    def opens(self, sealed: bytes, column: int, bound: bytes) -> list[str]:
        """Try every key, whatever id the value names, by both algorithms; return what keys opened it."""
        aad = reader.parts(b"guard/g1", self.store.bytes, reader.u32(column), sealed[:7], bound)
        out = []
        for material, what in self.known.items():
            for key, nonce, body in (
                (reader.xaes_key(material, sealed[7:19]), sealed[19:31], sealed[31:]),
                (material, sealed[7:19], sealed[19:]),
            ):
                try:
                    AESGCM(key).decrypt(nonce, body, aad)
                except InvalidTag:
                    continue
                out.append(what)
        return out


def thief(house: Any, *states: Path) -> Thief:
    root = reader.read_root_file((house.home / "keys/root.key").read_text())
    shares = [
        next(line for line in path.read_text().splitlines() if line.startswith("guard-share"))
        for path in sorted((house.home / "recovery-kit").iterdir())
    ]
    raw = b"".join(path.read_bytes() for path in states)
    return Thief(list(states), root, reader.combine(*shares[:2]), list(house.objects().values()), raw)


def keep_state(house: Any, name: str) -> Path:
    path = house.home.parent / name
    house.app.state.copy_to(path)
    return path


@pytest.mark.slow
def test_what_was_shredded_one_epoch_ago_opens_with_nothing_that_is_left(house: Any) -> None:
    before = keep_state(house, "before.db")
    ada, bob = (house.stored(1, row) for row in (1, 2))
    keys = [key_bytes((row,)) for row in (1, 2)]
    (pending,) = house.do(SHRED, kind="customer", keys=["1"], classes=["account"]).receipts
    after = keep_state(house, "after.db")

    # Within the epoch an old backup still opens it, as the receipt says; state of today does not.
    assert (pending.backups_at, pending.pending_until) == (None, datetime(2026, 2, 1, tzinfo=UTC))
    assert "pending until" in pending.line
    assert thief(house, before).opens(ada, 1, keys[0]) != []
    assert thief(house, after).opens(ada, 1, keys[0]) == []
    assert thief(house, after).opens(bob, 1, keys[1]) != []

    house.clock.step(FEBRUARY - house.clock.now())
    perform(house.app, Caller(house.app.access.service("daemon")), TURN)
    today = keep_state(house, "today.db")
    (receipt,) = receipts(house.app)
    assert receipt.backups_at == FEBRUARY

    # One epoch later nothing that is left does: all states of all ages, root, kit and today's vault together.
    all_of_it = thief(house, before, after, today, *sorted(house.home.glob("var/state.db")))
    assert max(row["id"] for row in all_of_it.rows("SELECT id FROM subject_key")) < 25
    assert {"kek", "vault", "digest", "epoch/2026-02"} <= set(all_of_it.known.values())
    assert "epoch/2026-01" not in all_of_it.known.values()
    assert all_of_it.opens(ada, 1, keys[0]) == []
    assert all_of_it.opens(bob, 1, keys[1]) != []  # the same attack opens what lives
    assert thief(house, before, after).opens(bob, 1, keys[1]) == []  # which old backups alone do not either


@pytest.mark.slow
def test_one_mirror_that_was_kept_back_is_enough_and_the_receipt_stays_pending(house: Any) -> None:
    """The control: with the epoch's key from a mirror that could not be emptied the same attack succeeds."""
    before = keep_state(house, "before.db")
    ada, key = house.stored(1, 1), key_bytes((1,))
    house.do(SHRED, kind="customer", keys=["1"], classes=["account"])
    house.clock.step(FEBRUARY - house.clock.now())
    name = next(iter(house.mirrors[1].rglob("2026-01-*"))).name
    vault = house.app.vault
    vault.mirrors[1].delete = lambda *_: (_ for _ in ()).throw(PermissionError)
    with pytest.raises(PermissionError):
        perform(house.app, Caller(house.app.access.service("daemon")), TURN)
    assert [path.name for path in house.mirrors[1].rglob("2026-01-*")] == [name]
    assert list(house.mirrors[0].rglob("2026-01-*")) == []
    assert receipts(house.app)[0].backups_at is None
    assert thief(house, before).opens(ada, 1, key) != []
