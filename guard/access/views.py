"""The SQL of masking views: a schema for each role, in which every table looks as the role's tiers say. Pure.

The texts are those of `guard.access.tiers` (docs/FORMATS.md, section 8). A view reads the shop with the rights of who
made it; staff hold rights on the views of their role and on nothing else. The key of pseudonyms lies in a table of its
own and never in a view's definition, which everybody may read. A column that is sealed, or is to be, is NULL in every
view, and no view reads it, so that it can be sealed and opened beside them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from guard.access.tiers import DIGITS, LAST, LONG, MARK, PSEUDONYM, Form, Mask, mask_of
from guard.errors import ConfigError
from guard.events import Role
from guard.shop.catalog import ShopColumn, Sort
from guard.shop.views import name, text

STAFF: Final = tuple(role for role in Role if role is not Role.SERVICE)
Pads = tuple[bytes, bytes] | None
_LONGEST: Final = 63
"""Bytes of a name in PostgreSQL; MariaDB takes 64 characters."""


class Shape(StrEnum):
    """How the text is made that a value of a column is masked by."""

    TEXT = "text"
    NUMBER = "number"
    DAY = "day"
    MOMENT = "moment"
    OPAQUE = "opaque"
    """There is none that every session and every driver writes the same: floats, bytes, lists, times of day."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A column as one role sees it."""

    column: ShopColumn
    category: str
    form: Form


@dataclass(frozen=True, slots=True)
class View:
    """A table as one role sees it."""

    table: str
    columns: tuple[Shown, ...]

    @property
    def is_hidden(self) -> bool:
        """Whether the role sees nothing of it."""
        return all(each.form is Form.HIDDEN for each in self.columns)


@dataclass(frozen=True, slots=True)
class Place:
    """Where views go: the dialect, the shop's schema (PostgreSQL) and database."""

    dialect: str
    schema: str
    database: str

    def group(self, role: Role) -> str:
        """Return the name of the database role that staff of `role` are members of."""
        return f"{self.database}_guard_{role.value}"

    def space(self, what: str) -> str:
        """Return the schema or database of a role's views, or of the key ("views")."""
        found = f"guard_{what}" if self.dialect == "postgresql" else f"{self.database}_guard_{what}"
        if max(len(found.encode()), len(f"{self.database}_guard_{what}".encode())) > _LONGEST:
            raise ConfigError("the database's name is too long to make names of roles from it")
        return found

    def name(self, *names: str) -> str:
        """Return a name as SQL takes it."""
        return name(self.dialect, *names)


def shape_of(dialect: str, column: ShopColumn) -> Shape:
    """Return how values of a column become texts. In SQLite each value says so itself: there nothing is opaque."""
    kind = column.type.lower()
    if dialect == "sqlite" or column.sort is Sort.TEXT:
        return Shape.TEXT
    if column.sort is Sort.TIME:  # not MariaDB's TIMESTAMP, which each session sees in its own time zone
        moment = "datetime" if dialect == "mysql" else "timestamp"
        return Shape.DAY if kind == "date" else Shape.MOMENT if kind.startswith(moment) else Shape.OPAQUE
    exact = column.sort is Sort.INTEGER or kind.startswith(("numeric", "decimal")) or kind == "uuid"
    return Shape.NUMBER if exact and "zerofill" not in kind and not kind.startswith("year") else Shape.OPAQUE


def script(place: Place, views: Mapping[Role, Sequence[View]], pads: Pads) -> tuple[str, ...]:
    """Return the statements that make all views of these roles anew, and the grants on them. Raises ConfigError.

    `pads`: the key as `guard.access.tiers.pads` gives it; None: a note stands in its place.
    """
    makes = _postgres_role if place.dialect == "postgresql" else _mysql_role
    head = _postgres_key if place.dialect == "postgresql" else _mysql_key
    return (*head(place, pads), *(each for role, tables in views.items() for each in makes(place, role, tables)))


def drops(place: Place, roles: Iterable[Role]) -> tuple[str, ...]:
    """Return the statements that take away all views of these roles; with those of all staff the key. Roles stay."""
    what, more = ("SCHEMA", " CASCADE") if place.dialect == "postgresql" else ("DATABASE", "")
    gone = tuple(roles)
    spaces = (*(role.value for role in gone), *(("views",) if set(gone) >= set(STAFF) else ()))
    return tuple(f"DROP {what} IF EXISTS {place.name(place.space(each))}{more}" for each in spaces)


def _postgres_key(place: Place, pads: Pads) -> Iterator[str]:
    space, table = place.name(place.space("views")), _key_table(place)
    yield "SET LOCAL search_path = pg_catalog"
    yield "SET LOCAL standard_conforming_strings = on"
    yield f"CREATE SCHEMA IF NOT EXISTS {space}"
    yield f"ALTER SCHEMA {space} OWNER TO CURRENT_USER"  # refused where somebody else made it, to read what comes
    yield f"REVOKE ALL ON SCHEMA {space} FROM PUBLIC"
    yield f"CREATE TABLE IF NOT EXISTS {table} (inner_pad bytea NOT NULL, outer_pad bytea NOT NULL)"
    yield f"ALTER TABLE {table} OWNER TO CURRENT_USER"
    yield f"REVOKE ALL ON {table} FROM PUBLIC"
    yield f"DELETE FROM {table}"  # noqa: S608  # quoted
    yield _insert(place, pads)


def _mysql_key(place: Place, pads: Pads) -> Iterator[str]:
    yield f"CREATE DATABASE IF NOT EXISTS {place.name(place.space('views'))}"
    columns = "inner_pad VARBINARY(64) NOT NULL, outer_pad VARBINARY(64) NOT NULL"
    yield f"CREATE TABLE IF NOT EXISTS {_key_table(place)} ({columns})"
    yield f"DELETE FROM {_key_table(place)}"  # noqa: S608  # quoted
    yield _insert(place, pads)


def _insert(place: Place, pads: Pads) -> str:
    if pads is None:
        return "-- the key of pseudonyms goes here: --apply and --out write it"
    values = ", ".join(_bytes(place.dialect, each) for each in pads)
    return f"INSERT INTO {_key_table(place)} VALUES ({values})"  # noqa: S608  # quoted


def _postgres_role(place: Place, role: Role, views: Sequence[View]) -> Iterator[str]:
    group, space = place.name(place.group(role)), place.name(place.space(role.value))
    exists = f"SELECT FROM pg_catalog.pg_roles WHERE rolname = {text(place.group(role))}"
    made = f"BEGIN IF NOT EXISTS ({exists}) THEN CREATE ROLE {group} NOLOGIN; END IF; END"
    yield f"DO {text(made)}"
    yield f"DROP SCHEMA IF EXISTS {space} CASCADE"
    yield f"CREATE SCHEMA {space}"
    yield f"REVOKE ALL ON SCHEMA {space} FROM PUBLIC"
    yield f"GRANT USAGE ON SCHEMA {space} TO {group}"
    for view in _seen(views):
        here = place.name(place.space(role.value), view.table)
        yield f"CREATE VIEW {here} WITH (security_barrier = true) AS {_select(place, view)}"
        yield f"REVOKE ALL ON {here} FROM PUBLIC"
        yield f"GRANT SELECT ON {here} TO {group}"


def _mysql_role(place: Place, role: Role, views: Sequence[View]) -> Iterator[str]:
    group, space = place.name(place.group(role)), place.name(place.space(role.value))
    yield f"CREATE ROLE IF NOT EXISTS {group}"
    yield f"DROP DATABASE IF EXISTS {space}"
    yield f"CREATE DATABASE {space} CHARACTER SET utf8mb4"
    for view in _seen(views):
        here = place.name(place.space(role.value), view.table)
        yield f"CREATE SQL SECURITY DEFINER VIEW {here} AS {_select(place, view)}"
        yield f"GRANT SELECT ON {here} TO {group}"  # not on the database: there _ and % of its name would be wildcards


def _seen(views: Sequence[View]) -> Iterator[View]:
    return (view for view in views if not view.is_hidden)


def _key_table(place: Place) -> str:
    return place.name(place.space("views"), "key")


def _select(place: Place, view: View) -> str:
    columns = ", ".join(f"{_shown(place, each)} AS {place.name(each.column.name)}" for each in view.columns)
    base = place.name(place.schema if place.dialect == "postgresql" else place.database, view.table)
    keyed = any(each.form is Form.PSEUDONYM for each in view.columns)
    return f"SELECT {columns} FROM {base} AS t{f' CROSS JOIN {_key_table(place)} AS k' if keyed else ''}"  # noqa: S608  # quoted


def _shown(place: Place, shown: Shown) -> str:
    """Return the expression of a column in its form; NULL where the value is."""
    is_postgres = place.dialect == "postgresql"
    value, shape = f"t.{place.name(shown.column.name)}", shape_of(place.dialect, shown.column)
    if shown.form is Form.HIDDEN:
        return "NULL::text" if is_postgres else "CAST(NULL AS CHAR(1))"
    sealed = _sealed(place.dialect, shown.column, value)
    if shown.form is Form.CLEAR:
        return f"CASE WHEN {sealed} THEN NULL ELSE {value} END" if sealed else value
    if shape is Shape.MOMENT and "with time zone" in shown.column.type.lower():
        value = f"({value} AT TIME ZONE 'UTC')"
    rules = [f"WHEN {value} IS NULL THEN NULL", *([f"WHEN {sealed} THEN NULL"] if sealed else [])]
    if shape is Shape.OPAQUE:
        rules.append(f"ELSE '{MARK}'")
    elif shown.form is Form.PSEUDONYM:
        digest = _hmac(place.dialect, shown.category, _text(place.dialect, value, shape))
        rules.append(f"ELSE {digest}")
    else:
        how = Mask.YEAR if shape in {Shape.DAY, Shape.MOMENT} else mask_of(shown.category)
        rules += _masked(place.dialect, _text(place.dialect, value, shape), how)
    return f"CASE {' '.join(rules)} END"


def _sealed(dialect: str, column: ShopColumn, value: str) -> str | None:
    """Return the condition that a value is a sealed one: hidden, should a column be sealed after its view was made."""
    if column.sort is Sort.BINARY:
        return f"SUBSTR({value}, 1, 2) = {_bytes(dialect, b'g1')}"
    if column.sort is not Sort.TEXT:
        return None
    if dialect == "postgresql":
        return f"LEFT({_text(dialect, value, Shape.TEXT)}, 3) = 'g1.'"
    return f"CAST(LEFT({value}, 3) AS BINARY) = {_bytes(dialect, b'g1.')}"


def _bytes(dialect: str, value: bytes) -> str:
    return f"'\\x{value.hex()}'::bytea" if dialect == "postgresql" else f"x'{value.hex()}'"


def _text(dialect: str, value: str, shape: Shape) -> str:
    """Return the expression of the one text of a value; it is the same in every session that staff may set up."""
    by_shape = _POSTGRES_TEXTS if dialect == "postgresql" else _MYSQL_TEXTS
    return by_shape[shape].replace("?", value)


_POSTGRES_TEXTS: Final = {
    Shape.TEXT: '(?::text COLLATE "C")',
    Shape.NUMBER: '(?::text COLLATE "C")',
    Shape.DAY: "to_char(?, 'YYYY-MM-DD')",
    Shape.MOMENT: """to_char(?, 'YYYY-MM-DD"T"HH24:MI:SS.US')""",
}
_MYSQL_TEXTS: Final = {
    Shape.TEXT: "CONVERT(? USING utf8mb4)",
    Shape.NUMBER: "CAST(? AS CHAR CHARACTER SET utf8mb4)",
    Shape.DAY: "DATE_FORMAT(?, '%Y-%m-%d')",
    Shape.MOMENT: "DATE_FORMAT(?, '%Y-%m-%dT%H:%i:%s.%f')",
}


def _masked(dialect: str, value: str, how: Mask) -> Iterator[str]:
    """Yield the last rules of a CASE. CONCAT, LEFT, RIGHT, SUBSTR and CHAR_LENGTH are the same in both databases."""
    last = f"CONCAT('{MARK}', RIGHT({value}, {LAST}))"
    match how:
        case Mask.LAST:
            yield f"ELSE {last}"
        case Mask.LAST_OF_LONG:
            yield f"WHEN CHAR_LENGTH({value}) >= {LONG} THEN {last} ELSE '{MARK}'"
        case Mask.YEAR:
            yield f"WHEN {_is_iso(dialect, value)} THEN LEFT({value}, 4) ELSE '{MARK}'"
        case Mask.FIRST:
            yield f"WHEN CHAR_LENGTH({value}) > 1 THEN CONCAT(LEFT({value}, 1), '{MARK}') ELSE '{MARK}'"
        case _:
            yield f"ELSE '{MARK}'"


def _is_iso(dialect: str, value: str) -> str:
    """Return the condition that a text begins as a date. Ten characters for a pattern of ten: it needs no anchors.

    MariaDB's session may change what anchors mean (default_regex_flags).
    """
    return f"LEFT({value}, 10) {'~' if dialect == 'postgresql' else 'REGEXP'} '[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}'"


def _hmac(dialect: str, category: str, value: str) -> str:
    """Return the expression of `guard.access.tiers.pseudonym`: HMAC-SHA256 by its definition in RFC 2104."""
    said = f"CONCAT('{category}:', {value})"
    if dialect == "postgresql":
        inner = f"sha256(k.inner_pad || convert_to({said}, 'UTF8'))"
        return f"CONCAT('{PSEUDONYM}', LEFT(encode(sha256(k.outer_pad || {inner}), 'hex'), {DIGITS}))"
    inner = f"UNHEX(SHA2(CONCAT(k.inner_pad, CAST({said} AS BINARY)), 256))"
    return f"CONCAT('{PSEUDONYM}', LEFT(SHA2(CONCAT(k.outer_pad, {inner}), 256), {DIGITS}))"
