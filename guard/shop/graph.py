"""Which joins lead from a row to the person it is about. Pure: tables and declared links in, paths out."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from guard.shop.catalog import ForeignKey, Table


@dataclass(frozen=True, slots=True)
class Step:
    """One join: `columns` of `table` equal `to_columns` of `to_table`."""

    table: str
    columns: tuple[str, ...]
    to_table: str
    to_columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Link:
    """A declared reference where the schema has none: `table.column` refers to `to_table.to_column`."""

    table: str
    column: str
    to_table: str
    to_column: str


def steps(tables: Mapping[str, Table], links: Iterable[Link] = ()) -> dict[str, tuple[Step, ...]]:
    """Return for each table the references it holds: foreign keys first, then declared links."""
    declared = tuple(links)
    return {
        name: (
            *(_of_key(name, key) for key in table.foreign_keys if key.to_table in tables),
            *(Step(name, (link.column,), link.to_table, (link.to_column,)) for link in declared if link.table == name),
        )
        for name, table in tables.items()
    }


def subject_path(
    tables: Mapping[str, Table], start: str, subject: str, links: Iterable[Link] = ()
) -> tuple[Step, ...] | None:
    """Return the shortest chain of references from `start` to the table `subject`.

    Empty when `start` is the subject table itself, None when nothing leads there. Of several chains of the same length
    the one whose first reference stands first in the schema is taken.
    """
    known = steps(tables, links)
    waiting: deque[tuple[str, tuple[Step, ...]]] = deque([(start, ())])
    seen = {start}
    while waiting:
        name, path = waiting.popleft()
        if name == subject:
            return path
        for step in known.get(name, ()):
            if step.to_table not in seen:
                seen.add(step.to_table)
                waiting.append((step.to_table, (*path, step)))
    return None


def dependents(tables: Mapping[str, Table], name: str, links: Iterable[Link] = ()) -> tuple[str, ...]:
    """Return the tables that refer to `name`, directly or through others, those that must be emptied first in front.

    Circles are cut where they close.
    """
    incoming: dict[str, list[str]] = {table: [] for table in tables}
    for source, found in steps(tables, links).items():
        for step in found:
            if step.to_table in incoming and source != step.to_table:
                incoming[step.to_table].append(source)
    seen: set[str] = {name}
    return tuple(_below(name, incoming, seen))


def _below(name: str, incoming: Mapping[str, list[str]], seen: set[str]) -> Iterator[str]:
    for source in incoming.get(name, ()):
        if source not in seen:
            seen.add(source)
            yield from _below(source, incoming, seen)
            yield source


def _of_key(name: str, key: ForeignKey) -> Step:
    return Step(name, key.columns, key.to_table, key.to_columns)
