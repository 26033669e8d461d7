"""Recompute the tree from the exact bytes of the entries and compare every column and every stored node on the way.

The entries are read in chunks of a full subtree, hashed level by level, and nothing is kept of them but the right edge:
the memory does not grow with the ledger.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from guard.audit import entry, merkle, store
from guard.audit.store import UnreadableError
from guard.errors import TamperedError
from guard.events import Progress
from guard.state import Tx

HINT = "keep the database as it is, compare it with the anchors and the backups of state, and tell who answers for it"

_LEVEL = 12
_CHUNK = 1 << _LEVEL
_COLUMNS = ("at", "who", "what", "outcome", "run", "subject")


@dataclass(slots=True)
class Walk:
    """What was recomputed: the tree, and the roots and times at the sizes that were asked for."""

    wanted: list[int]
    """Sizes still to come, descending."""
    tree: merkle.Range = field(default_factory=merkle.Range)
    roots: dict[int, bytes] = field(default_factory=dict)
    times: dict[int, str] = field(default_factory=dict)
    """Size -> time of its last entry."""
    hours: list[int] = field(default_factory=list)
    """Sizes behind which another hour begins."""
    first: str = ""
    last: str = ""


def tampered(what: str) -> TamperedError:
    """Return the error that names what was found."""
    return TamperedError(what, hint=HINT)


def between(first: int, last: int) -> str:
    """Name the entries from `first` to `last`."""
    return f"ledger entry {first}" if first == last else f"ledger entries {first} to {last}"


def walk(tx: Tx, sizes: set[int], progress: Progress, signed: int) -> Walk:
    """Recompute all entries of the snapshot `tx`; keep the roots at `sizes`; there should be `signed` entries.

    Raises TamperedError naming the first entry that is not what its columns, its hash, or a stored node say.
    """
    found = Walk(sorted(sizes, reverse=True))
    first = -(2**63)  # numbers below 0 are found too
    while rows := _rows(tx, first, found.tree.size):
        _compare_chunk(tx, found, rows)
        first = found.tree.size
        progress("ledger entries", first, max(first, signed))
        if len(rows) < _CHUNK:
            break
    _compare_size(found.tree.size, signed)
    _compare_upper(tx, found.tree.size)
    if (wrong := store.damage(tx)) is not None:
        raise tampered(f"the tables of the ledger are damaged: {wrong}")
    return found


def _rows(tx: Tx, first: int, size: int) -> Sequence[Any]:
    try:
        return store.rows_from(tx, first, _CHUNK)
    except UnreadableError as error:
        raise tampered(f"{between(n := store.first_unreadable(tx, size, _CHUNK), n)} cannot be read") from error


def _compare_chunk(tx: Tx, found: Walk, rows: Sequence[Any]) -> None:
    begin = found.tree.size
    levels = [_compare_rows(found, rows)]
    end = begin + len(levels[0])
    while len(levels) <= _LEVEL:
        levels.append(merkle.parents(levels[-1]))
        _compare_nodes(tx, len(levels) - 1, begin >> len(levels) - 1, levels[-1])
    while found.wanted and found.wanted[-1] <= end:
        size = found.wanted.pop()
        pieces = [levels[level][at] for level, at in merkle.cover(size - begin)]
        found.roots[size] = merkle.fold(found.tree.edge + pieces)
        found.times[size] = rows[size - begin - 1].at
    for level, at in merkle.cover(end - begin):
        found.tree.push(levels[level][at], level)


def _compare_rows(found: Walk, rows: Sequence[Any]) -> list[bytes]:
    """Return the leaf hashes, computed from the bytes."""
    hashes: list[bytes] = []
    n, last = found.tree.size, found.last
    for row in rows:
        number, raw, digest, at, *others = row
        try:
            computed, leaf = sha256(b"\x00" + raw).digest(), entry.decode(raw)
        except (TypeError, ValueError):
            raise _blame(row, n, last) from None
        columns = [leaf.who, leaf.what, leaf.outcome, leaf.run, leaf.subject]
        if not number == leaf.n == n or computed != digest or leaf.at != at or columns != others or at < last:
            raise _blame(row, n, last)
        if at[:13] != last[:13] and n:
            found.hours.append(n)
        hashes.append(computed)
        n, last = n + 1, at
    found.first, found.last = found.first or rows[0].at, last
    return hashes


def _blame(row: Any, n: int, last: str) -> TamperedError:
    """Say what is wrong with the row that should be entry `n`."""
    if row.n != n:
        return tampered(f"{between(n, n)} is missing" if row.n > n else f"ledger entry {row.n} does not belong here")
    if not isinstance(row.leaf, bytes) or sha256(b"\x00" + row.leaf).digest() != row.hash:
        return tampered(f"{between(n, n)}: its bytes are not those that were hashed")
    try:
        leaf = entry.decode(row.leaf)
    except ValueError:
        return tampered(f"{between(n, n)}: its bytes are not an entry")
    if leaf.n != n:
        return tampered(f"{between(n, n)}: its bytes are those of entry {leaf.n}")
    names = [name for name in _COLUMNS if getattr(leaf, name) != getattr(row, name)]
    if names:
        return tampered(f"{between(n, n)}: its bytes do not say what the column {names[0]} says")
    return tampered(f"{between(n, n)}: its time {row.at} is before {last}, the time of the entry before it")


def _compare_nodes(tx: Tx, level: int, first: int, computed: list[bytes]) -> None:
    """Compare the stored nodes of `level` from position `first` on with as many that were computed."""
    stored = [tuple(row) for row in store.nodes_between(tx, level, first, first + len(computed))]
    expected = list(enumerate(computed, first))
    if stored == expected:
        return
    kept = dict(stored)
    wrong = next((position for position, digest in expected if kept.get(position) != digest), first)
    low, high = wrong << level, (wrong + 1 << level) - 1
    raise tampered(f"{between(low, high)}: the hash over them is not the stored one")


def _compare_size(size: int, signed: int) -> None:
    if size > signed:
        raise tampered(f"{between(signed, size - 1)}: above the newest checkpoint, which holds {signed}")
    if size < signed:
        raise tampered(f"{between(size, signed - 1)} missing: the newest checkpoint holds {signed}")
    if not size:
        raise tampered("the ledger is empty: entry 0, which `guard init` writes, is missing")


def _compare_upper(tx: Tx, size: int) -> None:
    """Compare the nodes above the chunks, and that no node is left over."""
    tree = merkle.Range()
    for chunk in range(size >> _LEVEL):
        for level, position, digest in tree.push(store.subtree(tx, _LEVEL, chunk)):
            _compare_nodes(tx, level + _LEVEL, position, [digest])
    expected = sum(size >> level for level in range(1, size.bit_length()))
    if (found := store.count_nodes(tx)) != expected:
        raise tampered(f"{between(0, size - 1)}: {found} hashes over them are stored, not {expected}")
