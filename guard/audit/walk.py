"""Recompute the tree from the exact bytes of the entries and compare every column and every stored node on the way.

The entries are read in chunks of a full subtree, hashed level by level, and nothing is kept of them but the right edge:
the memory does not grow with the ledger.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from guard.audit import entry, merkle, store
from guard.audit.entry import NOT_ONE, Leaf, decode_raw
from guard.audit.store import UnreadableError
from guard.errors import TamperedError
from guard.events import Progress
from guard.state import Tx

HINT = "keep the database as it is, compare it with the anchors and the backups of state, and tell who answers for it"

BLOCK_LEVEL = 8
BLOCK = 1 << BLOCK_LEVEL
"""Entries that retention removes together, as C2SP tlog-tiles does; the hash over them stays."""

_LEVEL = 12
_CHUNK = 1 << _LEVEL
_LOWEST = -(2**63)
_COLUMNS = ("at", "who", "what", "outcome", "run", "subject")

Look = Callable[[Sequence[Leaf]], None]
"""Is shown the entries with a payload that are read, in order, some at a time, and the last one that was read."""


def _blind(_: Sequence[Leaf]) -> None:
    """Look at nothing."""


@dataclass(frozen=True, slots=True)
class Way:
    """What is walked over, and what should be there."""

    signed: int
    """How many entries the ledger has by its newest checkpoint."""
    sizes: frozenset[int] = frozenset()
    """At which the root is asked for."""
    begin: int = 0
    """Entries below are not read, as far as they fill chunks: the stored hashes over them stand for them."""
    minimum: int = 0
    """Below it whole blocks of entries may be removed."""
    stays: frozenset[int] = frozenset()
    """The numbers of blocks below it that must not be."""
    look: Look = _blind

    @property
    def first(self) -> int:
        """The first entry that is read."""
        return self.begin // _CHUNK * _CHUNK


@dataclass(slots=True)
class Walk:
    """What was recomputed: the tree, and the roots and times at the sizes that were asked for."""

    wanted: list[int]
    """Sizes still to come, descending."""
    tree: merkle.Range = field(default_factory=merkle.Range)
    roots: dict[int, bytes] = field(default_factory=dict)
    """Without sizes that end among entries that were removed."""
    times: dict[int, str] = field(default_factory=dict)
    """Size -> time of its last entry."""
    hours: list[int] = field(default_factory=list)
    """Sizes behind which another hour begins."""
    removed: int = 0
    """Blocks that were removed."""
    first: str = ""
    """The time of the first entry that was read, not counting those below the minimum."""
    last: str = ""


def tampered(what: str) -> TamperedError:
    """Return the error that names what was found."""
    return TamperedError(what, hint=HINT)


def between(first: int, last: int) -> str:
    """Name the entries from `first` to `last`."""
    return f"ledger entry {first}" if first == last else f"ledger entries {first} to {last}"


def walk(tx: Tx, way: Way, progress: Progress) -> Walk:
    """Recompute the entries of the snapshot `tx` and compare them with all that is stored beside them.

    Raises TamperedError naming the first entry that is not what its columns, its hash, or a stored node say.
    """
    begin = way.first
    found = Walk(sorted((size for size in way.sizes if size >= begin), reverse=True))
    found.tree = merkle.Range(begin, [store.subtree(tx, level, at) for level, at in merkle.cover(begin)])
    while found.tree.size == begin:
        known = _chunk(tx, way, found, begin) if begin >= way.minimum else _blocks(tx, way, found, begin)
        _take(found, known, begin)
        progress("ledger entries", found.tree.size - way.first, max(found.tree.size, way.signed) - way.first)
        begin += _CHUNK
    _compare_size(found.tree.size, way.signed)
    _compare_upper(tx, found, way)
    if not way.first and (wrong := store.damage(tx)) is not None:
        raise tampered(f"the tables of the ledger are damaged: {wrong}")
    return found


@dataclass(frozen=True, slots=True)
class _Known:
    """What was computed of one chunk. `end`: the number behind its last entry."""

    end: int
    hash: Callable[[int, int], bytes]
    """By level and position; raises KeyError where blocks were removed that it takes."""
    time: Callable[[int], str | None]
    """Of an entry, by its number."""


def _chunk(tx: Tx, way: Way, found: Walk, begin: int) -> _Known:
    """Compare a chunk of which every entry has to be there."""
    leaves: list[bytes] = []
    times: list[str] = []
    for rows in _parts(tx, begin):
        leaves += compare_rows(found, way, rows, begin + len(leaves))
        times += [row.at for row in rows]
    levels = [leaves]
    while len(levels) <= _LEVEL:
        levels.append(merkle.parents(levels[-1]))
        _compare_nodes(tx, len(levels) - 1, begin >> len(levels) - 1, levels[-1])
    return _Known(
        begin + len(leaves),
        lambda level, position: levels[level][position - (begin >> level)],
        lambda n: times[n - begin],
    )


def _blocks(tx: Tx, way: Way, found: Walk, begin: int) -> _Known:
    """Compare a chunk that begins below the minimum, block by block; of those that were removed the hash is left."""
    with _readable(tx, begin):
        rows = list(store.rows_from(tx, begin or _LOWEST, _CHUNK, begin + _CHUNK))
    edge = min(begin + _CHUNK, way.minimum)
    known: dict[tuple[int, int], bytes] = {}
    for first in range(begin, edge, BLOCK):
        here = [row for row in rows if row.n < first + BLOCK]
        del rows[: len(here)]
        block = first >> BLOCK_LEVEL
        if not here and block not in way.stays:
            known[BLOCK_LEVEL, block] = store.subtree(tx, BLOCK_LEVEL, block)
            found.removed += 1
            continue
        known |= _section(tx, way, found, here, first)
        if len(here) < BLOCK:
            raise tampered(f"{between(first + len(here), first + BLOCK - 1)} missing")
    known |= _section(tx, way, found, rows, edge)
    end = edge + len(rows)
    level, above = BLOCK_LEVEL, [known[BLOCK_LEVEL, at] for at in range(begin >> BLOCK_LEVEL, end >> BLOCK_LEVEL)]
    while level < _LEVEL:
        level, above = level + 1, merkle.parents(above)
        _compare_nodes(tx, level, begin >> level, above)
        known |= {(level, at): digest for at, digest in enumerate(above, begin >> level)}
    times = {row.n: row.at for row in rows}
    return _Known(end, lambda *place: known[place], times.get)


def _section(tx: Tx, way: Way, found: Walk, rows: Sequence[Any], first: int) -> dict[tuple[int, int], bytes]:
    """Compare entries that begin at the start of a block; return their hashes, and those over them up to a block's."""
    hashes = compare_rows(found, way, rows, first)
    known = {(0, at): digest for at, digest in enumerate(hashes, first)}
    for level in range(1, BLOCK_LEVEL + 1):
        hashes = merkle.parents(hashes)
        _compare_nodes(tx, level, first >> level, hashes)
        known |= {(level, at): digest for at, digest in enumerate(hashes, first >> level)}
    return known


def _take(found: Walk, known: _Known, begin: int) -> None:
    """Note the roots and times that are wanted within a chunk, and let the tree grow over it."""
    while found.wanted and found.wanted[-1] <= known.end:
        size = found.wanted.pop()
        with suppress(KeyError):
            pieces = [known.hash(level, (begin >> level) + at) for level, at in merkle.cover(size - begin)]
            found.roots[size] = merkle.fold(found.tree.edge + pieces)
        if size > begin and (time := known.time(size - 1)) is not None:
            found.times[size] = time
    for level, at in merkle.cover(known.end - begin):
        found.tree.push(known.hash(level, (begin >> level) + at), level)


def _parts(tx: Tx, begin: int) -> Iterator[Sequence[Any]]:
    """Yield the rows of a chunk; the first one begins with what has numbers below 0 too."""
    with _readable(tx, begin):
        yield from store.parts_from(tx, begin or _LOWEST, _CHUNK)


@contextmanager
def _readable(tx: Tx, begin: int) -> Iterator[None]:
    try:
        yield
    except UnreadableError as error:
        raise tampered(f"{between(n := store.first_unreadable(tx, begin, _CHUNK), n)} cannot be read") from error


def compare_rows(found: Walk, way: Way, rows: Sequence[Any], n: int) -> list[bytes]:
    """Return the leaf hashes of the entries from `n` on, computed from the bytes."""
    hashes: list[bytes] = []
    told: list[Leaf] = []  # keeping all of them would cost a tenth of the time
    leaf, last = None, found.last
    if rows and n >= way.minimum and not found.first:
        found.first = rows[0].at
    for row in rows:
        number, raw, digest, at, who, what, outcome, run, subject = row
        try:
            computed, leaf = sha256(b"\x00" + raw).digest(), decode_raw(raw)
        except NOT_ONE:
            raise _blame(row, n, last) from None
        said = (leaf.n, leaf.at, leaf.who, leaf.what, leaf.outcome, leaf.run, leaf.subject)
        if said != (n, at, who, what, outcome, run, subject) or number != n or computed != digest or at < last:
            raise _blame(row, n, last)
        if at[:13] != last[:13]:
            found.hours.append(n)
        if leaf.payload is not None:
            told.append(leaf)
        hashes.append(computed)
        n, last = n + 1, at
    if leaf is not None:
        found.last = last
        way.look(told if leaf.payload is not None else [*told, leaf])
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
    stored = store.nodes_between(tx, level, first, first + len(computed))
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


def _compare_upper(tx: Tx, found: Walk, way: Way) -> None:
    """Compare the nodes above the chunks, and that no node is left over."""
    size, first = found.tree.size, way.first
    begin = first >> _LEVEL
    tree = merkle.Range(begin, [store.subtree(tx, level + _LEVEL, at) for level, at in merkle.cover(begin)])
    for chunk in range(begin, size >> _LEVEL):
        for level, position, digest in tree.push(store.subtree(tx, _LEVEL, chunk)):
            _compare_nodes(tx, level + _LEVEL, position, [digest])
    expected = sum((size >> level) - (first >> level) for level in range(1, size.bit_length()))
    expected -= found.removed * (BLOCK - 2)
    if (stored := store.count_nodes(tx, first)) != expected:
        raise tampered(f"{between(first, size - 1)}: {stored} hashes over them are stored, not {expected}")
