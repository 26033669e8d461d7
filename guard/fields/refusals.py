"""Why a column must not be sealed as things are: pure. Each reason names what would be lost or broken, and the way out.

Sources of the limits are beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from guard.fields.facts import Facts
from guard.fields.measure import sealed_size
from guard.fields.standing import meddling
from guard.fields.store import Stage
from guard.shop import Index, ShopColumn, alter
from guard.shop.catalog import Sort, mentions
from guard.shop.rows import key_trouble

_INDEX_LIMIT = 2600
"""A B-tree entry of PostgreSQL takes at most 2704 bytes (a third of a page), its own head included."""
_KEY_LIMIT = 3072
"""Bytes of a key of InnoDB, with pages of 16 KiB. Beyond that a unique index becomes one of hashes by itself, one on a
single column one of beginnings; on several columns it is refused."""
_ORDERED = ("btree", "hash")
"""PostgreSQL's index methods that take any text."""


def refusals(facts: Facts) -> tuple[str, ...]:
    """Return every reason against sealing a column; none means go."""
    return tuple(reason for ask in _ASKED for reason in ask(facts))


def touches(index: Index, name: str) -> bool:
    """Say whether an index holds the column, whole, in part, in an expression or in its condition."""
    return name in index.columns or mentions(index.definition, name)


def _catalog(facts: Facts) -> Iterator[str]:
    if not facts.column.id:
        yield "it has no id yet; accept the catalog first: guard data accept"
    for place in facts.links:
        yield f"the catalog finds people by it ({place}), which needs it in clear"
    if facts.searched is not None and facts.column.index not in {None, facts.searched}:
        yield f'it is searched by index = "{facts.searched}" now; decrypt it before that changes'
    record = facts.record
    if record is None or record.stage is Stage.PLAIN:
        return
    if record.stage is Stage.OPENING:
        yield "decrypting it was interrupted; run guard fields decrypt again to finish that first"
    if record.binding != facts.column.bind:
        yield f"it was sealed with bind = {record.binding}; decrypt it before changing that"
    if record.binding == "row" and set(record.key_columns) != set(facts.table.key):
        yield (
            f"its rows were bound to the key {', '.join(record.key_columns)}, which the table no longer has; "
            f"guard fields rebind {facts.table.name} binds them to the one it has"
        )


def _person(facts: Facts) -> Iterator[str]:
    if facts.column.bind != "subject":
        return
    for lack in facts.vault:
        yield f'bind = "subject" needs the vault of epoch keys: {lack}'
    if facts.person is None:
        yield (
            f'nothing leads from {facts.table.name} to a person of the catalog; declare a [[link]], or use bind = "row"'
        )
    elif facts.person.several:
        yield f"{facts.person.several} may lead to several rows, but a value is sealed for one person; link to a key"
    elif facts.person.missing:
        yield (
            f"{facts.person.missing} of its rows lead to no {facts.person.kind}, so there is no key to seal them "
            'under; give them one, or use bind = "row"'
        )


def _engine(facts: Facts) -> Iterator[str]:
    if facts.table.trouble:
        yield f"{facts.table.trouble}; guard cannot change its rows safely"
    for what in facts.table.unseen:
        yield f"guard's account may not see its {what}; what it does not see it cannot judge"


def _rows(facts: Facts) -> Iterator[str]:
    if trouble := key_trouble(facts.table):
        yield f"{trouble}; guard cannot name its rows"
    if facts.counts.keyless:
        yield f"{facts.counts.keyless} rows have NULL in their primary key; guard cannot name them"


def _kind(facts: Facts) -> Iterator[str]:
    if why := alter.why_not(facts.dialect, facts.table, facts.column.name):
        yield why
    if facts.dialect == "postgresql" and (facts.shop.default or "").startswith("nextval("):
        yield "the database numbers it by a sequence"
    if facts.unsealable:
        yield facts.unsealable
    if facts.counts.other:
        yield f"{facts.counts.other} of its values have a type that guard does not seal"


def _looks_sealed(facts: Facts) -> Iterator[str]:
    if facts.fresh and facts.counts.sealed:
        form = "the bytes g1" if facts.shop.sort is Sort.BINARY else '"g1."'
        yield f"{facts.counts.sealed} of its values begin with {form} as sealed ones do, but guard did not seal them"


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
    name = facts.column.name
    for index in facts.table.indexes:
        if not index.unique or not touches(index, name):
            continue
        if index.is_on(name):
            yield from _unique(facts, index)
        elif index.condition or index.derived or name not in index.columns:
            yield (
                f"the unique index {index.name} is on an expression or on some rows only, and would no longer find "
                "duplicates; make it one on the whole column, or drop it"
            )
        else:
            yield (
                f"the unique index {index.name} is on {', '.join(index.columns)} together, and would no longer find "
                "duplicates: guard keeps a column unique only for itself; drop it, or leave the column in clear"
            )


def _unique(facts: Facts, index: Index) -> Iterator[str]:
    """Yield what keeps tokens from being unique where the values are."""
    wanted, spread = facts.column.index, facts.spread
    if wanted is None:
        yield (
            f"the unique index {index.name} would no longer find duplicates; that needs a blind index: write "
            'index = "exact" (or email, phone, name) in the catalog, then guard data accept'
        )
        return
    if facts.shop.folded and not facts.folds:
        yield (
            f"the unique index {index.name} takes upper and lower case for equal, but index = "
            f'"{wanted}" does not; use email or name'
        )
    if spread and spread.falling:
        yield (
            f'{spread.falling} of its values are equal to another one as index = "{wanted}" reads them, and could no '
            "longer be told apart; correct them in the shop, or choose another index"
        )
    if spread and spread.formless:
        yield f'{spread.formless} of its values have nothing that index = "{wanted}" reads: nothing keeps them unique'


def _low(facts: Facts) -> Iterator[str]:
    unique = any(index.unique and index.is_on(facts.column.name) for index in facts.table.indexes)
    if facts.column.index and facts.spread and facts.spread.low and not unique:
        yield (
            f"it has {facts.spread.distinct} different values in {facts.spread.values} rows: an index would give them "
            "away by how often each one is there; take index out of the catalog"
        )


def _expressions(facts: Facts) -> Iterator[str]:
    name = facts.column.name
    for check in facts.table.checks:
        if mentions(check.sql, name):
            yield f"the constraint CHECK ({check.sql.removeprefix('CHECK ')}) would test sealed values; drop it first"
    for other in facts.table.columns:
        if other.generated and other.name != name and mentions(other.generated, name):
            yield f"the generated column {other.name} is made from it"
    for trigger in meddling(facts.table, name):
        when = "on update" if trigger.on_update else "on insert"
        yield f"the trigger {trigger.name} works with it {when} and could copy or change it; drop it first"


def _type_in_use(facts: Facts) -> Iterator[str]:
    """What keeps PostgreSQL from changing the type. What it tells of dependents includes the views of our own list."""
    if facts.dialect != "postgresql" or facts.change is None:
        return
    views = (f"view {view.name} reads" for view in facts.table.views if facts.column.name in view.columns)
    for what in (*views, *(f"{other} uses" for other in facts.dependents)):
        yield f"the {what} it, so PostgreSQL does not let its type change; drop it first, make it again after"
    for index in facts.table.indexes:
        method = index.definition.partition(" USING ")[2].partition(" ")[0]
        if facts.change.copies and touches(index, facts.column.name) and (index.derived or method not in _ORDERED):
            yield f"the index {index.name} cannot be kept on a text; drop it first"


def _index_limit(facts: Facts) -> Iterator[str]:
    longest = sealed_size(facts.counts.longest, tight=facts.column.tight)
    for index in facts.table.indexes:
        if facts.dialect == "postgresql" and longest > _INDEX_LIMIT and touches(index, facts.column.name):
            yield f"its longest value would not fit into the index {index.name} once sealed; drop it first"
        if facts.dialect == "mysql" and facts.change and not index.unique and _width(facts, index) > _KEY_LIMIT:
            yield (
                f"sealed values of up to {facts.change.room} characters do not fit into the index {index.name}, "
                "which would find nothing among them; drop it first"
            )


def _width(facts: Facts, index: Index) -> int:
    """Return the bytes a key of an index of MariaDB takes at most once the column is changed; 0 where it is not in."""
    if len(index.columns) == 1 or facts.column.name not in index.columns or index.derived or facts.change is None:
        return 0
    room = {facts.column.name: facts.change.room or 0}
    return sum(_bytes(column, room.get(column.name)) for column in map(facts.table.column, index.columns))


def _bytes(column: ShopColumn, room: int | None) -> int:
    narrow = column.sort is not Sort.TEXT or str(column.collation).startswith(("ascii", "latin1"))
    return (room if room is not None else column.length or 0) * (1 if narrow else 4)


def _budget(facts: Facts) -> Iterator[str]:
    if facts.column.tight and facts.column.bind == "subject":
        yield 'it is tight, but keys of persons seal with XAES only; take tight out of the catalog, or use bind = "row"'
    if facts.column.tight and facts.budget is not None and facts.counts.plain > facts.budget:
        yield (
            f"it is tight, and its key may seal only {facts.budget} more values; guard keys rotate gives it a new one, "
            "or take tight out of the catalog"
        )


_Ask = Callable[[Facts], Iterator[str]]
_ASKED: tuple[_Ask, ...] = (
    _catalog, _person, _engine, _rows, _kind, _looks_sealed, _keys, _uniques, _low, _expressions, _type_in_use,
    _index_limit, _budget,
)  # fmt: skip
