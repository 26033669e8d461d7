"""A ledger of a thousand entries with everything in it, and every way in which somebody may change one."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import delete, func, insert, select, text, update

from guard.audit import merkle, verify
from guard.audit.anchors import Said, ask
from guard.audit.anchors.folder import FolderAnchor
from guard.audit.chain import Chain
from guard.audit.checkpoint import Checkpoint
from guard.audit.log import Ledger
from guard.audit.store import CHECKPOINT, ENTRY, NODE, PAYLOAD, checkpoints
from guard.audit.verdict import Trust, Verdict
from guard.config.audit import AuditPolicy
from guard.crypto.sign import Signer, sign_note
from guard.state import Tx
from tests.audit.people import Room

COLUMNS = ("hash", "at", "who", "what", "outcome", "run", "subject")
Change = Callable[[Tx], None]


@dataclass
class Thousand:
    """The ledger, its anchor, and what was signed behind each of its commits."""

    room: Room
    ledger: Ledger
    anchor: FolderAnchor
    folder: Path
    seeds: list[bytes]
    signed: dict[int, str]
    """Size -> the newest note then."""
    anchored: int
    forgotten: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    """What was said of people who were forgotten, by its entry: at which size it went, and the payload."""

    @property
    def size(self) -> int:
        return max(self.signed)

    def trust(self, anchors: list[Any] | None = None) -> Trust:
        """What a fresh process verifies with; the anchors were asked by now."""
        said: list[Said] = [ask(each) for each in (anchors if anchors is not None else [self.anchor])]
        trusted = Signer(self.seeds[-1], f"guard-ledger/{self.room.state.store_id}").verifier
        return Trust(trusted, said, AuditPolicy(), self.room.clock.now())

    def look(self, tx: Tx, trust: Trust) -> Verdict:
        return verify.inspect(tx, trust)


def flipped(value: Any, at: int) -> Any:
    """Return a value with one byte changed; a text stays a text."""
    if value is None:
        return "cd" * 16
    at %= len(value)
    other = chr(ord(value[at]) ^ 1) if isinstance(value, str) else bytes([value[at] ^ 0x10])
    return value[:at] + other + value[at + 1 :]


def on(table: Any, **where: Any) -> Any:
    """A condition on columns."""
    found = None
    for name, value in where.items():
        this = table.c[name] == value
        found = this if found is None else found & this
    return found


# One entry ------------------------------------------------------------------------------------------------------------


def of_entry(tx: Tx, n: int, size: int) -> Iterator[tuple[str, Change]]:
    """Yield every way to change, remove, swap or insert at entry `n`."""
    row = tx.execute(select(ENTRY).where(ENTRY.c.n == n)).one()._mapping
    yield "changed", lambda tx: _set(tx, n, leaf=flipped(row["leaf"], n * 7919))
    yield "changed, its hash too", lambda tx: _fit(tx, n, flipped(row["leaf"], n * 7919))
    yield "changed, hash and columns too", lambda tx: _fit(tx, n, _other(row["leaf"]))
    yield "changed, all that follows too", lambda tx: (_fit(tx, n, _other(row["leaf"])), regrow(tx))
    yield "removed", lambda tx: tx.execute(delete(ENTRY).where(ENTRY.c.n == n))
    if n < size - 1:
        yield (
            "removed, the rest moved up",
            lambda tx: (tx.execute(delete(ENTRY).where(ENTRY.c.n == n)), _move(tx, n, -1)),
        )
        yield "swapped with the next", lambda tx: _swap(tx, n)
        yield "swapped with the next, made to fit", lambda tx: (_swap(tx, n), _renumber(tx, n), _renumber(tx, n + 1))
    yield "inserted twice", lambda tx: (_move(tx, n, 1), tx.execute(insert(ENTRY).values(**{**row, "n": n + 1})))
    yield "inserted, made to fit", lambda tx: (
        _move(tx, n, 1), tx.execute(insert(ENTRY).values(**{**row, "n": n + 1})), _renumber(tx, n + 1),
    )  # fmt: skip


def of_columns(tx: Tx, n: int) -> Iterator[tuple[str, Change]]:
    """Yield a change by one byte of every derived column of a row."""
    row = tx.execute(select(ENTRY).where(ENTRY.c.n == n)).one()._mapping
    for name in COLUMNS:
        yield name, lambda tx, name=name: _set(tx, n, **{name: flipped(row[name], n * 31)})
    if row["subject"] is not None:
        yield "subject taken away", lambda tx: _set(tx, n, subject=None)
    yield "n", lambda tx: _set(tx, n, n=n + 5000)


def of_payload(tx: Tx, n: int) -> Iterator[tuple[str, Change]]:
    """Yield every way to change what is said of a person beside an entry, or to say something."""
    sealed = tx.scalar(select(PAYLOAD.c.sealed).where(PAYLOAD.c.n == n))
    if sealed is None:
        yield "put there", lambda tx: tx.execute(insert(PAYLOAD).values(n=n, sealed=b"gp\x01" + bytes(40)))
        return
    here = PAYLOAD.c.n == n
    yield "changed", lambda tx: tx.execute(update(PAYLOAD).where(here).values(sealed=flipped(sealed, n * 13)))
    yield "removed", lambda tx: tx.execute(delete(PAYLOAD).where(here))
    yield "moved", lambda tx: tx.execute(update(PAYLOAD).where(here).values(n=9_000_000))


def of_node(row: Any) -> Iterator[tuple[str, Change]]:
    """Yield every way to change a stored hash."""
    here = on(NODE, level=row.level, position=row.position)
    yield "changed", lambda tx: tx.execute(update(NODE).where(here).values(hash=flipped(row.hash, row.position * 5)))
    yield "removed", lambda tx: tx.execute(delete(NODE).where(here))
    yield "moved", lambda tx: tx.execute(update(NODE).where(here).values(position=row.position + 10_000))


def of_note(size: int, kind: str, note: str, every: int = 1) -> Iterator[tuple[str, Change]]:
    """Yield a change of every byte of a kept note, and of what it is kept as."""
    here = on(CHECKPOINT, size=size, kind=kind)
    for at in range(size % every, len(note), every):
        yield f"byte {at}", lambda tx, at=at: tx.execute(update(CHECKPOINT).where(here).values(note=flipped(note, at)))
    yield "size", lambda tx: tx.execute(update(CHECKPOINT).where(here).values(size=size + 1))
    yield "kind", lambda tx: tx.execute(update(CHECKPOINT).where(here).values(kind=flipped(kind, size)))
    if kind != "anchored":  # the anchor itself is what counts
        yield "removed", lambda tx: tx.execute(delete(CHECKPOINT).where(here))


def _set(tx: Tx, number: int, **values: Any) -> None:
    tx.execute(update(ENTRY).where(ENTRY.c.n == number).values(values))


def _fit(tx: Tx, n: int, raw: bytes) -> None:
    """Write other bytes of an entry, with the hash and the columns that fit them, as far as they can be read."""
    values: dict[str, Any] = {"leaf": raw, "hash": merkle.leaf_hash(raw)}
    for name in COLUMNS[1:]:
        if found := re.search(rb'"%s":"([^"]*)"' % name.encode(), raw):
            values[name] = found[1].decode("utf-8", "replace")
    _set(tx, n, **values)


def _other(raw: bytes) -> bytes:
    """Return an entry that says it was somebody else."""
    return re.sub(rb'"who":"[^"]+"', b'"who":"p-zzzzzzzzzz"', raw)


def _move(tx: Tx, n: int, by: int) -> None:
    """Move all entries behind `n` by one."""
    tx.execute(update(ENTRY).where(ENTRY.c.n > n).values(n=-ENTRY.c.n - 10))
    tx.execute(update(ENTRY).where(ENTRY.c.n < -1).values(n=-ENTRY.c.n - 10 + by))


def _swap(tx: Tx, n: int) -> None:
    for old, new in ((n, 10**9), (n + 1, n), (10**9, n + 1)):
        tx.execute(update(ENTRY).where(ENTRY.c.n == old).values(n=new))


def _renumber(tx: Tx, n: int) -> None:
    """Let the bytes of an entry say the number it has now, and the hash fit."""
    raw = tx.scalar(select(ENTRY.c.leaf).where(ENTRY.c.n == n))
    _fit(tx, n, re.sub(rb'"n":\d+,"objects"', b'"n":%d,"objects"' % n, raw))


def regrow(tx: Tx) -> None:
    """Make all nodes again from the stored leaf hashes."""
    tx.execute(delete(NODE))
    tree, nodes = merkle.Range(), []
    for digest in tx.scalars(select(ENTRY.c.hash).order_by(ENTRY.c.n)):
        nodes += tree.push(digest)
    tx.execute(insert(NODE), [{"level": level, "position": at, "hash": digest} for level, at, digest in nodes])


# The end --------------------------------------------------------------------------------------------------------------


def cut(tx: Tx, left: int) -> None:
    """Remove all entries from `left` on and what belongs to them, without a key: the newest checkpoint stays."""
    for table in (ENTRY, PAYLOAD):
        tx.execute(delete(table).where(table.c.n >= left))
    for level in range(1, 12):
        tx.execute(delete(NODE).where(NODE.c.level == level, NODE.c.position >= left >> level))


def roll_back(tx: Tx, thousand: Thousand, left: int, note: str) -> None:
    """Make the ledger what it was when `note` was the newest: what an old copy of the database holds."""
    cut(tx, left)
    for n, (gone, sealed) in thousand.forgotten.items():
        if n < left < gone:
            tx.execute(insert(PAYLOAD).values(n=n, sealed=sealed))
    tx.execute(delete(CHECKPOINT).where(CHECKPOINT.c.size > left))
    for kind in ("hourly", "anchored", "closed", "latest"):  # kept of this size only later
        tx.execute(delete(CHECKPOINT).where(on(CHECKPOINT, size=left, kind=kind)))
    tx.execute(insert(CHECKPOINT).values(size=left, kind="latest", note=note))


def resign(tx: Tx, thousand: Thousand, chain: Chain, left: int) -> None:
    """Do as `roll_back` at any size, as who has all keys of the ledger can."""
    origin, first = chain.origin_at(left), chain.first
    by = {Signer(seed, first).verifier.raw: seed for seed in thousand.seeds}
    signers = [Signer(by[raw], origin) for raw in chain.keys.at(left)]
    root = merkle.fold([_hash(tx, level, at) for level, at in merkle.cover(left)])
    note = sign_note(Checkpoint(origin, left, root).text(), signers)
    roll_back(tx, thousand, left, note)
    if len(signers) > 1:
        tx.execute(delete(CHECKPOINT).where(on(CHECKPOINT, size=left, kind="rekeyed")))
        tx.execute(insert(CHECKPOINT).values(size=left, kind="rekeyed", note=note))


def _hash(tx: Tx, level: int, at: int) -> bytes:
    if level:
        return tx.scalar(select(NODE.c.hash).where(on(NODE, level=level, position=at)))
    return tx.scalar(select(ENTRY.c.hash).where(ENTRY.c.n == at))


def rewrite(tx: Tx, thousand: Thousand, chain: Chain, n: int) -> None:
    """Change entry `n` and sign all that follows anew, as who has all keys of the ledger can."""
    raw = tx.scalar(select(ENTRY.c.leaf).where(ENTRY.c.n == n))
    _fit(tx, n, _other(raw))
    _declare(tx, n)
    regrow(tx)
    by = {Signer(seed, chain.first).verifier.raw: seed for seed in thousand.seeds}
    for size, kind, _ in checkpoints(tx):
        if size > n:
            root = merkle.fold([_hash(tx, level, at) for level, at in merkle.cover(size)])
            signers = [Signer(by[raw], chain.origin_at(size)) for raw in chain.keys.at(size)]
            forged = sign_note(Checkpoint(chain.origin_at(size), size, root).text(), signers)
            tx.execute(update(CHECKPOINT).where(on(CHECKPOINT, size=size, kind=kind)).values(note=forged))


def _declare(tx: Tx, n: int) -> None:
    """Let the restarts behind a forged entry name the roots that it makes."""
    for row in tx.execute(
        select(ENTRY).where(ENTRY.c.what == "audit.restart", ENTRY.c.n > n).order_by(ENTRY.c.n)
    ).fetchall():
        regrow(tx)
        root = merkle.fold([_hash(tx, level, at) for level, at in merkle.cover(row.n)])
        _fit(tx, row.n, re.sub(rb'"root":"[0-9a-f]{64}"', b'"root":"%s"' % root.hex().encode(), row.leaf))


def count(tx: Tx, table: Any) -> int:
    return int(tx.scalar(select(func.count()).select_from(table)) or 0)


__all__ = ["Change", "Thousand", "text"]
