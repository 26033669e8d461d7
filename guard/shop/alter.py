"""Change a table of the shop so that a column can be sealed, and back. Each step may be done twice.

A change that needs the table's lock waits for it briefly and gives way (`Shop.patience`); it ends in BusyError, naming
who is in the way, when it never gets it. What guard adds is named by `guard.shop.names`, and the readers hide it.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

from guard.shop import _alter_mysql, _alter_postgres, _alter_sqlite, _mysql
from guard.shop.catalog import Sort, Table
from guard.shop.connect import Shop


def why_not(dialect: str, table: Table, column: str) -> str | None:
    """Say in words why the type of a column does not let it be sealed; None when it does."""
    found = table.column(column)
    if found.generated:
        return "it is a generated column"
    if found.identity:
        return "the database numbers it itself"
    if dialect == "sqlite" and table.strict and not _takes_texts(found.type):
        return f"its table is STRICT, so that a {found.type} column takes no sealed value"
    if dialect == "mysql" and (why := _alter_mysql.WHY_NOT.get(found.type.partition("(")[0].partition(" ")[0])):
        return f"it is a {found.type}: {why}"
    return None


def original(shop: Shop, table: Table, column: str) -> str | None:
    """Return the SQL definition to give back to `narrow`; None where the column's type never has to change.

    Asked before `widen`. It holds type, collation, default and what else the database needs to make it as it was.
    """
    return _of(shop).original(shop, table, column)


def widen(shop: Shop, table: Table, column: str, longest: int) -> None:
    """Make room for a sealed value of `longest` characters (bytes in a binary column), compared byte by byte.

    Values stay what they are; one that was no text (a number, a date) becomes its text. NOT NULL, default, comment and
    indexes are kept. Raises InterlockError where an index or the row has no room for it.
    """
    _of(shop).widen(shop, table, column, longest)


def narrow(shop: Shop, table: Table, column: str, original: str) -> str | None:
    """Give a column back the definition `original` told; return why not, in words, when its values do not allow it."""
    return _of(shop).narrow(shop, table, column, original)


def add_token(shop: Shop, table: Table, name: str) -> None:
    """Add the token column `name`, empty; on MariaDB `SELECT *` and an INSERT without names pass it by."""
    _of(shop).add_token(shop, table, name)


def drop_token(shop: Shop, table: Table, name: str) -> None:
    """Drop the token column `name` with its index. Raises InterlockError while a trigger of guard still writes it."""
    _of(shop).drop_token(shop, table, name)


def index_token(shop: Shop, table: Table, name: str, *, unique: bool) -> None:
    """Build the index of the token column `name`; on PostgreSQL and MariaDB writers go on meanwhile.

    Raises InterlockError, saying how many rows collide and never which values, when it is unique and tokens are not.
    """
    _of(shop).index_token(shop, table, name, unique=unique)


def follow(shop: Shop, table: Table, column: str, tokens: Sequence[str]) -> None:
    """Let tokens follow: an UPDATE that puts another value there, plain or sealed, empties those it does not bring.

    It brings a token that is another than before, or that it names, as `guard.shop.brought` says. Installs the
    triggers, or puts them in place of those for other tokens.
    """
    _of(shop).follow(shop, table, column, tokens)


def fence(shop: Shop, table: Table, column: str, tokens: Sequence[str], *, plain: bool = False) -> None:
    """Refuse, in the database itself, every write of a value that is not sealed or lacks one of `tokens`.

    An UPDATE that touches neither value nor tokens passes, whatever the row holds. Without tokens only the seal counts.
    With `plain` a value that is not sealed passes too when it brings its tokens: while writers change over to sealing.
    Stands beside `follow`, which says what is brought.
    """
    _of(shop).fence(shop, table, column, tokens, plain=plain)


def unguard(shop: Shop, table: Table, column: str) -> None:
    """Drop all triggers of a column."""
    _of(shop).unguard(shop, table, column)


def guards(shop: Shop, table: Table, column: str) -> frozenset[str]:
    """Return which of guard's triggers stand on a column and are enabled: "follow", "fence"."""
    return _of(shop).guards(shop, table, column)


def sort_of(dialect: str, original: str) -> Sort:
    """Return what a column held by the definition `original` told, before it was widened."""
    kind = original.lower().partition(" ")[0].partition("(")[0]
    return (_mysql.SORTS if dialect == "mysql" else _alter_postgres.SORTS).get(kind, Sort.OTHER)


class _Alter(Protocol):
    """What each database's module has."""

    def original(self, shop: Shop, table: Table, column: str) -> str | None: ...
    def widen(self, shop: Shop, table: Table, column: str, longest: int) -> None: ...
    def narrow(self, shop: Shop, table: Table, column: str, original: str) -> str | None: ...
    def add_token(self, shop: Shop, table: Table, name: str) -> None: ...
    def drop_token(self, shop: Shop, table: Table, name: str) -> None: ...
    def index_token(self, shop: Shop, table: Table, name: str, *, unique: bool) -> None: ...
    def follow(self, shop: Shop, table: Table, column: str, tokens: Sequence[str]) -> None: ...
    def fence(self, shop: Shop, table: Table, column: str, tokens: Sequence[str], *, plain: bool) -> None: ...
    def unguard(self, shop: Shop, table: Table, column: str) -> None: ...
    def guards(self, shop: Shop, table: Table, column: str) -> frozenset[str]: ...


_ALTER: Mapping[str, _Alter] = MappingProxyType(
    {"sqlite": _alter_sqlite, "postgresql": _alter_postgres, "mysql": _alter_mysql}
)


def _of(shop: Shop) -> _Alter:
    return _ALTER[shop.dialect]


def _takes_texts(declared: str) -> bool:
    return declared.upper() in {"TEXT", "BLOB", "ANY"}
