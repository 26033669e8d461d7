"""What sealing would do, and why it must not: pure, from schema, catalog and counts. Nothing here opens anything.

A refusal names what would be lost or broken; a warning what stops working. Sources of the limits are beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from guard.config import Column
from guard.errors import InterlockError
from guard.fields.store import Record, Stage
from guard.shop import ShopColumn, Table
from guard.shop.catalog import Sort, mentions
from guard.shop.rows import key_trouble

_OVERHEAD = 47
"""Bytes a sealed value has beyond its plaintext: head 7, half nonce 12, nonce 12, tag 16 (FORMATS 2)."""
_INDEX_LIMIT = 2600
"""A B-tree entry of PostgreSQL takes at most 2704 bytes (a third of a page), its own head included."""
_WIDE = ("character varying", "character(")
_TEXTS = ("text", *_WIDE)


@dataclass(frozen=True, slots=True)
class Counts:
    """What lies in a column now. `size` and `longest` are bytes of its plain texts."""

    rows: int
    nulls: int
    plain: int
    sealed: int
    other: int = 0
    """Values that are neither text nor NULL."""
    size: int = 0
    longest: int = 0
    keyless: int = 0
    """Rows with NULL in their primary key, which SQLite allows."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything a plan for one column is made from."""

    column: Column
    table: Table
    dialect: str
    counts: Counts
    record: Record | None = None

    @property
    def shop(self) -> ShopColumn:
        """The column in the shop's schema."""
        return self.table.column(self.column.name)


@dataclass(frozen=True, slots=True)
class ColumnPlan:
    """What sealing one column would do."""

    at: str
    id: int
    rows: int
    seal: int
    """Values to seal now."""
    sealed: int
    """Values that are sealed already."""
    nulls: int
    grows: int
    """Bytes the column grows by, about."""
    widen: str | None
    """The type, as SQL, that is widened to text and restored by decrypting."""
    refusals: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SealPlan:
    """What `fields encrypt` would do. `missing` is what must exist first: a recovery kit, a backup of state."""

    columns: tuple[ColumnPlan, ...]
    missing: tuple[str, ...] = ()

    @property
    def refused(self) -> bool:
        """Whether any column is refused."""
        return any(column.refusals for column in self.columns)

    @property
    def lines(self) -> tuple[str, ...]:
        """Return the plan in words, one thing a line."""
        return tuple(line for column in self.columns for line in _lines(column)) + tuple(
            f"missing: {what}" for what in self.missing
        )

    def require(self) -> None:
        """Raise InterlockError, naming every reason, unless the plan may be carried out."""
        reasons = [f"{column.at}: {reason}" for column in self.columns for reason in column.refusals]
        if reasons:
            raise InterlockError("\n".join(reasons), hint="nothing was changed; guard fields plan shows the whole plan")
        if self.missing:
            raise InterlockError(
                "\n".join(f"missing: {what}" for what in self.missing),
                hint="sealed data without a way back is lost data; make what is missing, then run this again",
            )


def sealed_size(plain: int) -> int:
    """Return the characters a text of `plain` bytes takes when it is sealed."""
    return 3 + -(-(_OVERHEAD + plain) * 4 // 3)


def plan_column(facts: Facts) -> ColumnPlan:
    """Return what sealing one column would do, with every reason against it."""
    counts = facts.counts
    shop = facts.shop
    wide = facts.dialect == "postgresql" and shop.type.startswith(_WIDE)
    collate = f" COLLATE {shop.collation}" if shop.collation else ""
    return ColumnPlan(
        facts.column.at,
        facts.column.id,
        counts.rows,
        counts.plain,
        counts.sealed,
        counts.nulls,
        sealed_size(counts.size // counts.plain) * counts.plain - counts.size if counts.plain else 0,
        shop.type + collate if wide else None,
        tuple(reason for ask in _REFUSALS for reason in ask(facts)),
        tuple(reason for ask in _WARNINGS for reason in ask(facts)),
    )


def _catalog(facts: Facts) -> Iterator[str]:
    if not facts.column.id:
        yield "it has no id yet; accept the catalog first: guard data accept"
    if facts.column.bind == "subject":
        yield 'bind = "subject" needs the vault of epoch keys, which this guard does not have; use bind = "row"'
    record = facts.record
    if record is None or record.stage is Stage.PLAIN:
        return
    if record.stage is Stage.OPENING:
        yield "decrypting it was interrupted; run guard fields decrypt again to finish that first"
    if record.binding != facts.column.bind:
        yield f"it was sealed with bind = {record.binding}; decrypt it before changing that"
    if set(record.key_columns) != set(facts.table.key):
        yield f"its rows were bound to the key {', '.join(record.key_columns)}, which the table no longer has"


def _engine(facts: Facts) -> Iterator[str]:
    if facts.dialect == "mysql":
        yield "sealing on MariaDB and MySQL is not built yet"
    if facts.table.trouble:
        yield f"{facts.table.trouble}; guard cannot change its rows safely"


def _rows(facts: Facts) -> Iterator[str]:
    if trouble := key_trouble(facts.table):
        yield f"{trouble}; guard cannot name its rows"
    if facts.counts.keyless:
        yield f"{facts.counts.keyless} rows have NULL in their primary key; guard cannot name them"


def _kind(facts: Facts) -> Iterator[str]:
    if facts.dialect == "postgresql" and not facts.shop.type.startswith(_TEXTS):
        yield f"it is a {facts.shop.type}; only text columns can be sealed"
    elif facts.counts.other:
        yield f"{facts.counts.other} of its values are not text; only text can be sealed"
    if facts.shop.folded and facts.dialect != "sqlite":
        yield "its collation does not tell upper from lower case, which sealed values need"
    if facts.shop.generated:
        yield "it is a generated column"


def _looks_sealed(facts: Facts) -> Iterator[str]:
    fresh = facts.record is None or facts.record.stage is Stage.PLAIN
    if fresh and facts.counts.sealed:
        yield f'{facts.counts.sealed} of its values begin with "g1." as sealed ones do, but guard did not seal them'


def _keys(facts: Facts) -> Iterator[str]:
    name = facts.column.name
    if name in facts.table.key:
        yield "it is part of the primary key"
    for key in facts.table.foreign_keys:
        if name in key.columns:
            yield f"it is a foreign key to {key.to_table}"
    for source, key in facts.table.referred:
        if name in key.to_columns:
            yield f"{source} refers to it by a foreign key"


def _uniques(facts: Facts) -> Iterator[str]:
    for index in facts.table.indexes:
        if index.unique and _touches(index.columns, index.definition, facts):
            yield f"the unique index {index.name} would no longer find duplicates; that needs a blind index"


def _expressions(facts: Facts) -> Iterator[str]:
    name = facts.column.name
    for check in facts.table.checks:
        if mentions(check.sql, name):
            yield f"the constraint CHECK ({check.sql.removeprefix('CHECK ')}) would test sealed values; drop it first"
    for other in facts.table.columns:
        if other.generated and other.name != name and mentions(other.generated, name):
            yield f"the generated column {other.name} is made from it"
    for trigger in facts.table.triggers:
        if trigger.on_update and mentions(trigger.sql, name):
            yield f"the trigger {trigger.name} works with it on update and could copy or change it; drop it first"


def _views_in_the_way(facts: Facts) -> Iterator[str]:
    if facts.dialect == "postgresql" and facts.shop.type.startswith(_WIDE):
        for view in facts.table.views:
            if facts.column.name in view.columns:
                yield f"the view {view.name} reads it, so PostgreSQL does not let its type be widened; drop it first"


def _index_limit(facts: Facts) -> Iterator[str]:
    if facts.dialect != "postgresql" or sealed_size(facts.counts.longest) <= _INDEX_LIMIT:
        return
    for index in facts.table.indexes:
        if _touches(index.columns, index.definition, facts):
            yield f"its longest value would not fit into the index {index.name} once sealed; drop it first"


def _searching(facts: Facts) -> Iterator[str]:
    for index in facts.table.indexes:
        if not index.unique and _touches(index.columns, index.definition, facts):
            yield f"the index {index.name} finds nothing any more; drop it"
    yield "LIKE, ORDER BY and comparisons on it find nothing any more"


def _readers(facts: Facts) -> Iterator[str]:
    name = facts.column.name
    for view in facts.table.views:
        reads = name in view.columns if facts.dialect == "postgresql" else mentions(view.sql, name)
        if reads or (facts.dialect != "postgresql" and "*" in view.sql):
            yield f"the view {view.name} may show sealed values"
    for trigger in facts.table.triggers:
        if trigger.on_update and not mentions(trigger.sql, name):
            yield f"the trigger {trigger.name} runs for each row that is sealed"
        elif not trigger.on_update and mentions(trigger.sql, name):
            yield f"the trigger {trigger.name} works with it and will see sealed values"
    if facts.shop.default not in {None, "NULL", "NULL::character varying", "NULL::text"}:
        yield "it has a default in plain text, which a finished column refuses"


def _types(facts: Facts) -> Iterator[str]:
    if facts.dialect == "postgresql" and facts.shop.type.startswith(_WIDE):
        yield f"its type {facts.shop.type} becomes text (a short exclusive lock); decrypting restores it"
    elif facts.dialect == "sqlite" and facts.shop.sort is not Sort.TEXT:
        yield f"it is declared {facts.shop.type or 'without a type'}, but holds texts"


def _touches(columns: tuple[str, ...], definition: str, facts: Facts) -> bool:
    return facts.column.name in columns or mentions(definition, facts.column.name)


_Ask = Callable[[Facts], Iterator[str]]
_REFUSALS: tuple[_Ask, ...] = (
    _catalog, _engine, _rows, _kind, _looks_sealed, _keys, _uniques, _expressions, _views_in_the_way, _index_limit,
)  # fmt: skip
_WARNINGS: tuple[_Ask, ...] = (_types, _searching, _readers)


def _lines(column: ColumnPlan) -> Iterator[str]:
    yield f"{column.at}: seal {column.seal} of {column.rows} rows ({column.nulls} NULL, {column.sealed} sealed already)"
    yield from (f"  refused: {reason}" for reason in column.refusals)
    yield from (f"  note: {warning}" for warning in column.warnings)
