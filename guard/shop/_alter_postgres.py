"""Change a table of PostgreSQL for sealing: types, token columns, their indexes, guard's triggers."""

import re
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from guard import faults
from guard.errors import GuardError, InterlockError
from guard.shop import names
from guard.shop._collide import collide
from guard.shop._explain import code
from guard.shop._postgres_change import OWNER, holders, locked, qualified, standing
from guard.shop._postgres_triggers import fence, follow, guards, reload, sealed, triggers, unguard
from guard.shop._sql import needing, patiently, quoted, run
from guard.shop.catalog import Sort, Table
from guard.shop.connect import Shop

__all__ = [
    "SORTS", "add_token", "drop_token", "fence", "follow", "guards", "index_token", "narrow", "original", "unguard",
    "widen",
]  # fmt: skip

SORTS = {
    **dict.fromkeys(("text", "character"), Sort.TEXT),
    **dict.fromkeys(("smallint", "integer", "bigint"), Sort.INTEGER),
    **dict.fromkeys(("numeric", "real", "double"), Sort.NUMBER),
    **dict.fromkeys(("date", "time", "timestamp"), Sort.TIME),
    "boolean": Sort.BOOLEAN,
}
"""What a column holds, by the first word of its type."""

_VARCHAR = re.compile(r"character varying\((\d+)\)(?!\[)")
_KIND_AND_DEFAULT = re.compile(r'((?:"(?:[^"]|"")*"|(?! DEFAULT )[^"])+)(?: DEFAULT (.*))?', re.DOTALL)
_TEXTS = {"text", "varchar", "bpchar"}
_C = 'pg_catalog."C"'
_COLUMN = """
SELECT format_type(a.atttypid, a.atttypmod) AS type, t.typname AS name, t.typtype AS kind,
  CASE WHEN a.attcollation <> t.typcollation THEN quote_ident(cn.nspname) || '.' || quote_ident(l.collname) END,
  COALESCE(NOT l.collisdeterministic, false) AS folded, pg_get_expr(d.adbin, d.adrelid) AS expression
FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
LEFT JOIN pg_collation l ON l.oid = a.attcollation
LEFT JOIN pg_namespace cn ON cn.oid = l.collnamespace
WHERE n.nspname = :schema AND c.relname = :table AND a.attname = :column AND a.attnum > 0 AND NOT a.attisdropped
"""
_SHARED = """
SELECT DISTINCT x.privilege_type AS what,
  CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END AS who
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN aclexplode(a.attacl) x
WHERE n.nspname = :schema AND c.relname = :table AND a.attname = :column
  AND x.privilege_type IN ('SELECT', 'INSERT', 'UPDATE') ORDER BY 2, 1
"""
_INDEX = """
SELECT i.indisvalid AND i.indisready AS valid, i.indisunique AS uniq FROM pg_index i
JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_class c ON c.oid = i.indrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = :schema AND c.relname = :table AND x.relname = :index
"""


@dataclass(frozen=True, slots=True)
class _Column:
    """A column's type now."""

    type: str
    name: str
    kind: str
    collation: str | None
    folded: bool
    default: str | None

    @property
    def definition(self) -> str:
        collate = f" COLLATE {self.collation}" if self.collation else ""
        return f"{self.type}{collate}" + (f" DEFAULT {self.default}" if self.default else "")

    @property
    def is_text(self) -> bool:
        return self.kind == "b" and self.name in _TEXTS

    @property
    def fits(self) -> bool:
        """Whether it takes any sealed value as it is."""
        if self.folded or self.kind != "b":
            return False
        return self.type in {"text", "bytea", "character varying"}


def original(shop: Shop, table: Table, column: str) -> str | None:
    """See `guard.shop.alter.original`."""
    with shop.read() as connection:
        run(connection, "SET LOCAL search_path = pg_catalog")
        found = _column(connection, shop, table, column)
    return None if found.fits else found.definition


def widen(shop: Shop, table: Table, column: str, longest: int) -> None:  # noqa: ARG001  # text has no limit
    """See `guard.shop.alter.widen`."""

    def step(connection: Connection) -> None:
        found = _column(connection, shop, table, column)
        if found.fits:
            return
        name = quoted(column)
        kept = found.collation if found.is_text and not found.folded else None
        collate = "" if found.is_text and not found.folded and not kept else f" COLLATE {kept or _C}"
        parts = [f"ALTER COLUMN {name} TYPE text{collate} USING {name}::text"]
        if found.default and not found.is_text:  # else PostgreSQL wants to cast it, which not every type lets it
            parts = [f"ALTER COLUMN {name} DROP DEFAULT", *parts]
            parts.append(f"ALTER COLUMN {name} SET DEFAULT ({found.default})::text")
        run(connection, f"ALTER TABLE {qualified(shop, table.name)} {', '.join(parts)}")
        faults.point("shop.widen.altered")
        reload(connection, shop, table)

    locked(shop, table, step)


def narrow(shop: Shop, table: Table, column: str, original: str) -> str | None:
    """See `guard.shop.alter.narrow`."""
    kind, default = _KIND_AND_DEFAULT.findall(original)[0]
    name = quoted(column)

    def step(connection: Connection) -> str | None:
        found = _column(connection, shop, table, column)
        if found.definition == original:
            return None
        if not found.is_text:
            return f"it is a {found.type} by now, which guard did not make it"
        if why := _why_it_stays(connection, shop, table, column, kind):
            return why
        parts = [
            f"ALTER COLUMN {name} DROP DEFAULT",
            f"ALTER COLUMN {name} TYPE {kind}{_using(connection, kind, name)}",
        ]
        if default:
            parts.append(f"ALTER COLUMN {name} SET DEFAULT {default}")
        run(connection, f"ALTER TABLE {qualified(shop, table.name)} {', '.join(parts)}")
        faults.point("shop.narrow.altered")
        reload(connection, shop, table)
        return None

    try:
        return locked(shop, table, step)
    except GuardError as error:
        if (why := _why_not(code(error), kind)) is None:
            raise
        return why


def _why_it_stays(connection: Connection, shop: Shop, table: Table, column: str, kind: str) -> str | None:
    """Say in words why values must not go back into type `kind` though PostgreSQL would let them."""
    if left := _count(connection, shop, table, sealed(table, column, "")):
        return f"{left} of its values are still sealed"
    limit = _VARCHAR.match(kind)  # where only blanks are too many it cuts them without a word
    if limit and _count(connection, shop, table, f"pg_catalog.char_length({quoted(column)}) > {limit[1]}"):
        return f"it holds texts longer than {limit[0]}"
    return None


def _why_not(state: str, kind: str) -> str | None:
    """Say in words why values of a text column do not go back into type `kind`, by the SQLSTATE."""
    if state == "22001":
        return f"it holds texts longer than {kind}"
    if state == "23505":
        return f"two of its values are the same as {kind}, and it is unique"
    if state[:2] in {"22", "23"}:
        return f"it holds values that are no {kind}"
    if state == "0A000":
        return "a view, rule, policy or function of the shop reads it; drop that first"
    return None


def _using(connection: Connection, kind: str, name: str) -> str:
    """Return the cast back. A text type gets none: the explicit one would cut what is too long without a word."""
    bare = kind.partition(" COLLATE ")[0]
    if bare == "text" or (bare.startswith("character") and not bare.endswith("]")):
        return ""
    domain = sa.text("SELECT typtype = 'd' AND typcategory = 'S' FROM pg_type WHERE oid = to_regtype(:type)")
    return "" if connection.execute(domain, {"type": bare}).scalar() else f" USING {name}::{bare}"


def add_token(shop: Shop, table: Table, name: str) -> None:
    """See `guard.shop.alter.add_token`."""

    def step(connection: Connection) -> None:
        found = _found(connection, shop, table, name)
        if found is None:
            run(connection, f"ALTER TABLE {qualified(shop, table.name)} ADD COLUMN {quoted(name)} bytea")
            _share(connection, shop, table, name)
        elif found.type != "bytea":
            raise InterlockError(f"{table.name}.{name} is a {found.type}, not a column of tokens")

    locked(shop, table, step)


def _share(connection: Connection, shop: Shop, table: Table, token: str) -> None:
    """Grant a token column to whom its column is granted by name: else their `SELECT *` and their writes would fail."""
    for column in table.columns:
        if names.token_column(column.name, names.version(token)) == token:
            wanted = {"schema": shop.schema, "table": table.name, "column": column.name}
            for what, who in connection.execute(sa.text(_SHARED), wanted).all():
                run(connection, f"GRANT {what} ({quoted(token)}) ON {qualified(shop, table.name)} TO {who}")


def drop_token(shop: Shop, table: Table, name: str) -> None:
    """See `guard.shop.alter.drop_token`."""

    def step(connection: Connection) -> None:
        for trigger in triggers(connection, shop, table):
            if quoted(name) in trigger.body:
                raise InterlockError(f"guard's trigger {trigger.name} still writes {table.name}.{name}")
        if _found(connection, shop, table, name) is not None:
            run(connection, f"ALTER TABLE {qualified(shop, table.name)} DROP COLUMN {quoted(name)}")

    locked(shop, table, step)


def index_token(shop: Shop, table: Table, name: str, *, unique: bool) -> None:
    """See `guard.shop.alter.index_token`. Writers go on meanwhile."""
    index = names.token_index(table.name, name)
    named = qualified(shop, index)
    wanted = {"schema": shop.schema, "table": table.name, "index": index}

    def step() -> None:
        with standing(shop) as connection:
            found = connection.execute(sa.text(_INDEX), wanted).first()
            if found is not None and found.valid and found.uniq == unique:
                return
            if found is not None:  # a build that was interrupted leaves an invalid one
                run(connection, f"DROP INDEX CONCURRENTLY {named}")
                faults.point("shop.index.dropped")
            kind = "UNIQUE INDEX" if unique else "INDEX"
            run(
                connection,
                f"CREATE {kind} CONCURRENTLY {quoted(index)} ON {qualified(shop, table.name)} ({quoted(name)})",
            )

    if unique:
        collide(shop, table, name)
    try:
        with needing(OWNER):
            patiently(shop, f"the table {table.name}", step, lambda: holders(shop, table))
    except GuardError as error:
        if code(error) == "23505":
            collide(shop, table, name)
        raise
    faults.point("shop.index.built")


def _count(connection: Connection, shop: Shop, table: Table, condition: str) -> int:
    query = f"SELECT count(*) FROM {qualified(shop, table.name)} WHERE {condition}"  # noqa: S608  # quoted
    return int(run(connection, query).scalar_one())


def _column(connection: Connection, shop: Shop, table: Table, column: str) -> _Column:
    found = _found(connection, shop, table, column)
    if found is None:
        raise InterlockError(f"the shop has no column {table.name}.{column} any more")
    return found


def _found(connection: Connection, shop: Shop, table: Table, column: str) -> _Column | None:
    wanted = {"schema": shop.schema, "table": table.name, "column": column}
    row = connection.execute(sa.text(_COLUMN), wanted).first()
    return _Column(*row) if row is not None else None
