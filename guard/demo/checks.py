"""Two questions the demo and the journeys ask of files: are two shops the same, and is anything in clear left?

Nothing here trusts guard: files are read as bytes and with sqlite3, as a thief or an auditor would.
"""

import io
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

GUARD_TABLES = frozenset({"guard_progress"})
"""Tables that guard keeps in the shop; no part of the shop itself."""

ENCODINGS = ("utf-8", "utf-16-le")

Row = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class TableDifference:
    """How one table differs: rows only in the first file, only in the second, in both but not equal."""

    table: str
    rows: int
    """Rows in the first file."""
    only_first: int = 0
    only_second: int = 0
    changed: int = 0
    columns_differ: bool = False

    @property
    def count(self) -> int:
        """The number of rows that differ, and one more when the columns do."""
        return self.only_first + self.only_second + self.changed + self.columns_differ


@dataclass(frozen=True, slots=True)
class Comparison:
    """All tables of two shops."""

    tables: tuple[TableDifference, ...]

    @property
    def rows(self) -> int:
        """The number of rows compared, counted in the first file."""
        return sum(table.rows for table in self.tables)

    @property
    def differences(self) -> int:
        """The number of rows that differ; 0 when the shops are equal."""
        return sum(table.count for table in self.tables)


def compare(first: Path, second: Path, *, ignore: Collection[str] = GUARD_TABLES) -> Comparison:
    """Compare two SQLite shops row by row, in the order of their keys. Values must be equal in type too.

    A table that one file lacks counts with all rows of the other. Neither file is changed.
    """
    with closing(_open(first)) as one, closing(_open(second)) as two:
        left, right = _tables(one), _tables(two)
        return Comparison(
            tuple(
                _compare_table(_Table(one, name, left.get(name, ())), _Table(two, name, right.get(name, ())))
                for name in sorted({*left, *right} - set(ignore))
            )
        )


def _open(path: Path) -> sqlite3.Connection:
    file = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    file.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")  # what is stored may not be UTF-8
    return file


def _tables(file: sqlite3.Connection) -> dict[str, tuple[str, ...]]:
    names = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    return {
        name: tuple(row[1] for row in file.execute(f"PRAGMA table_info({_quoted(name)})"))
        for (name,) in file.execute(names).fetchall()
    }


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True, slots=True)
class _Table:
    file: sqlite3.Connection
    name: str
    columns: tuple[str, ...]

    def key(self) -> tuple[str, ...]:
        """The primary key; all columns where there is none."""
        info = self.file.execute(f"PRAGMA table_info({_quoted(self.name)})").fetchall()
        return tuple(row[1] for row in sorted(info, key=lambda row: row[5]) if row[5]) or self.columns

    def rows(self, key: Sequence[str]) -> Iterator[Row]:
        """Yield all rows in the order of `key`."""
        if not self.columns:
            return
        columns = ", ".join(map(_quoted, self.columns))
        order = ", ".join(f"{_quoted(name)} COLLATE BINARY" for name in key)
        query = f"SELECT {columns} FROM {_quoted(self.name)} ORDER BY {order}"  # noqa: S608  # quoted names
        yield from self.file.execute(query)


def _ordered(value: object) -> tuple[int, object]:
    # SQLite's own order: NULL, numbers, texts by their bytes, blobs.
    match value:
        case None:
            return 0, 0
        case int() | float():
            return 1, value
        case str():
            return 2, value.encode("utf-8", "surrogateescape")
        case _:
            return 3, value


def _compare_table(one: _Table, two: _Table) -> TableDifference:
    if one.columns and two.columns and one.columns != two.columns:
        rows = one.file.execute(f"SELECT count(*) FROM {_quoted(one.name)}").fetchone()[0]  # noqa: S608  # quoted name
        return TableDifference(one.name, rows, columns_differ=True)
    table = one if one.columns else two
    key = table.key()
    at = [table.columns.index(name) for name in key]
    return _merge(one.name, (one.rows(key), two.rows(key)), lambda row: tuple(_ordered(row[index]) for index in at))


def _merge(name: str, both: tuple[Iterator[Row], Iterator[Row]], key: Callable[[Row], Row]) -> TableDifference:
    one, two = both
    rows = only_first = only_second = changed = 0
    left, right = next(one, None), next(two, None)
    while left or right:
        if left is not None and right is not None and (_same(left, right) or key(left) == key(right)):
            rows, changed = rows + 1, changed + (not _same(left, right))
            left, right = next(one, None), next(two, None)
        elif right is None or (left is not None and key(left) < key(right)):
            rows, only_first, left = rows + 1, only_first + 1, next(one, None)
        else:
            only_second, right = only_second + 1, next(two, None)
    return TableDifference(name, rows, only_first, only_second, changed)


def _same(one: Row, two: Row) -> bool:
    return one == two and list(map(type, one)) == list(map(type, two))


def values_only_in(shop: Path, columns: Collection[str], *, per_column: int = 100, at_least: int = 6) -> list[str]:
    """Return texts of a SQLite shop that stand in `columns` ("Table.Column") and in no other column.

    Takes up to `per_column` distinct texts of at least `at_least` characters from each, spread evenly over the column.
    A text that also stands elsewhere could be found again without anything having leaked, so it is left out.
    """
    with closing(_open(shop)) as file:
        everywhere = {(table, name) for table, names in _tables(file).items() for name in names}
        wanted = [(table, name) for table, name in sorted(everywhere) if f"{table}.{name}" in columns]
        if len(wanted) != len(set(columns)):
            missing = sorted(set(columns) - {f"{table}.{name}" for table, name in wanted})
            raise ValueError(f"{shop} has no column {', '.join(missing)}")
        values = sorted({text for at in wanted for text in _spread(_texts(file, at, at_least), per_column)})
        search, known = _Search(values), set[int]()
        for at in sorted(everywhere.difference(wanted)):
            rest = io.BytesIO("\n".join(_texts(file, at, 1)).encode("utf-8", "surrogateescape"))
            known.update(which // len(ENCODINGS) for which, _ in search.run(rest, max(1 << 14, 4 * search.longest)))
        return [value for number, value in enumerate(values) if number not in known]


def _texts(file: sqlite3.Connection, at: tuple[str, str], at_least: int) -> list[str]:
    table, name = map(_quoted, at)
    of = f"{table} WHERE typeof({name}) = 'text' AND length({name}) >= ?"
    query = f"SELECT DISTINCT {name} FROM {of} ORDER BY 1"  # noqa: S608  # quoted names
    return [text for (text,) in file.execute(query, [at_least])]


def _spread(texts: list[str], count: int) -> list[str]:
    return texts[:: -(-len(texts) // count)] if texts else []


@dataclass(frozen=True, slots=True)
class Found:
    """A value in clear: which one (its place in the list searched for), in which file, how written, at which byte."""

    value: int
    path: Path
    encoding: str
    offset: int


def find_values(paths: Iterable[Path], values: Sequence[str], *, chunk: int = 1 << 14) -> Iterator[Found]:
    """Yield every place where one of `values` stands in one of the files, as UTF-8 or UTF-16LE.

    Folders are searched whole; a path that is not there raises FileNotFoundError. Files are read `chunk` bytes a time
    with an overlap. Compressed or encoded text is not looked into. Raises ValueError for an empty value.
    """
    search = _Search(values)
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"{path} is not there, so it cannot be searched")
        for file in sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]:
            with file.open("rb") as stream:
                for which, offset in search.run(stream, max(chunk, 4 * search.longest)):
                    number, encoding = divmod(which, len(ENCODINGS))
                    yield Found(number, file, ENCODINGS[encoding], offset)


class _Search:
    """Many fixed strings at once, at the speed of C's hash look-up.

    Of every needle, four overlapping 4-byte pieces are kept. Wherever it stands in a text, one of them stands at an
    offset that 4 divides. So each chunk is read as an array of 4-byte numbers and intersected with the set of pieces;
    only needles that had a hit are then searched for. The four pieces are the least common ones of their needle.
    """

    def __init__(self, values: Sequence[str]) -> None:
        if not all(values):
            raise ValueError("an empty value is everywhere")
        self._needles = [value.encode(encoding) for value in values for encoding in ENCODINGS]
        self.longest = max(map(len, self._needles), default=1)
        self._short = [index for index, needle in enumerate(self._needles) if len(needle) < _PIECE * 2 - 1]
        self._pieces = self._choose()
        self._wanted = frozenset(self._pieces)

    def _choose(self) -> dict[int, list[int]]:
        common: dict[int, int] = {}
        for needle in self._needles:
            for piece in set(_pieces(needle)):
                common[piece] = common.get(piece, 0) + 1
        out: dict[int, list[int]] = {}
        for index, needle in enumerate(self._needles):
            found = _pieces(needle)
            starts = range(len(found) - _PIECE + 1)
            if starts:
                weights = [sum(common[piece] for piece in found[at : at + _PIECE]) for at in starts]
                best = weights.index(min(weights))
                for piece in found[best : best + _PIECE]:
                    out.setdefault(piece, []).append(index)
        return out

    def run(self, stream: BinaryIO, chunk: int) -> Iterator[tuple[int, int]]:
        """Yield (index of the needle, byte offset) for all that stand in `stream`."""
        base, window = 0, b""
        while block := stream.read(chunk):
            before = len(window)  # the overlap: what ends in it was found with the window before
            window += block
            for which, at in self._in(window):
                if at + len(self._needles[which]) > before:
                    yield which, base + at
            keep = min(self.longest - 1, len(window))
            base, window = base + len(window) - keep, window[len(window) - keep :]

    def _in(self, window: bytes) -> Iterator[tuple[int, int]]:
        whole = memoryview(window)[: len(window) // _PIECE * _PIECE].cast("I")
        near = {index for piece in self._wanted.intersection(whole) for index in self._pieces[piece]}
        for index in sorted(near.union(self._short)):
            at = window.find(self._needles[index])
            while at >= 0:
                yield index, at
                at = window.find(self._needles[index], at + 1)


_PIECE = 4


def _pieces(needle: bytes) -> list[int]:
    return [memoryview(needle[at : at + _PIECE]).cast("I")[0] for at in range(len(needle) - _PIECE + 1)]
