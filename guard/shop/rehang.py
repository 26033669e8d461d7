"""Hang what guard put on a column anew where the shop renamed the column or its table: names and bodies follow.

On PostgreSQL and MariaDB a trigger that names a column by its old name fails every write of a row, so nothing slips
through before the new one stands. Each step may be done twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from guard import faults
from guard.shop import alter
from guard.shop._sql import quoted, run, ticked, waiting
from guard.shop.connect import Shop
from guard.shop.leftovers import Leftover, drop, leftovers
from guard.shop.names import is_brought, token_column, token_index, trigger, version
from guard.shop.rename import Rename

_TRIGGERS = ("follow", "fence", "fence_update")


@dataclass(frozen=True, slots=True)
class Hung:
    """What stands on a column; `at` is what it was called."""

    at: str
    tokens: tuple[str, ...]
    """Its token columns that are written."""
    leaving: tuple[str, ...]
    """Those that another has taken the place of."""
    unique: bool
    """Whether no two tokens may be the same."""
    guarded: bool
    """Whether triggers keep the tokens true."""
    fence: bool
    """Whether what comes without its tokens is refused."""
    sealed: bool
    """Whether what is not sealed is refused then, too."""


def token_now(rename: Rename, at: str, token: str) -> str:
    """Return what a token column of the column that was called `at` is called once it has followed."""
    table, _, column = at.partition(".")
    return token if rename.part(table, column) == column else token_column(rename.part(table, column), version(token))


def rehang(shop: Shop, rename: Rename, hung: Sequence[Hung]) -> None:
    """Hang `hung` anew under the names the shop uses now. Raises BusyError while others keep a table locked."""
    shop.tables(fresh=True)
    for each in hung:
        if rename.at(each.at) != each.at:
            _rehang(shop, rename, each)


def _rehang(shop: Shop, rename: Rename, each: Hung) -> None:
    old_table, _, old_column = each.at.partition(".")
    new_table, _, column = rename.at(each.at).partition(".")
    for token in (*each.tokens, *each.leaving):
        _token(shop, new_table, token, token_now(rename, each.at, token))
        faults.point("shop.rehang.renamed")
    if each.guarded:
        table = shop.tables(fresh=True)[new_table]
        tokens = [token_now(rename, each.at, token) for token in each.tokens]
        alter.follow(shop, table, column, tokens)
        if each.fence:
            alter.fence(shop, table, column, tokens, plain=not each.sealed)
    faults.point("shop.rehang.hung")
    gone = {trigger(kind, old_table, old_column) for kind in _TRIGGERS}
    gone -= {trigger(kind, new_table, column) for kind in _TRIGGERS}
    for thing in leftovers(shop):
        is_old = is_brought(thing.name, old_table, old_column) and not is_brought(thing.name, new_table, column)
        if thing.kind in {"trigger", "function"} and (is_old or thing.name in gone):
            drop(shop, thing)
    for token in (*each.tokens, *each.leaving):
        now = Leftover("index", token_index(new_table, token_now(rename, each.at, token)), new_table)
        _index(shop, Leftover("index", token_index(old_table, token), new_table), now, unique=each.unique)


def _token(shop: Shop, table: str, old: str, new: str) -> None:
    """Give a token column the name its column asks for."""
    with shop.begin() as connection:
        there = {column["name"] for column in sa.inspect(connection).get_columns(table, schema=shop.schema)}
        if old != new and old in there:
            waiting(shop, connection)
            name = ticked if shop.dialect == "mysql" else quoted
            run(connection, f"ALTER TABLE {_place(shop, table)} RENAME COLUMN {name(old)} TO {name(new)}")
    shop.forget()


def _index(shop: Shop, old: Leftover, now: Leftover, *, unique: bool) -> None:
    """Give the index of a token column the name its table and column ask for. SQLite has to build it anew."""
    if old == now or old not in leftovers(shop):
        return
    if shop.dialect == "sqlite":
        token = next(each for each in shop.table(now.table).tokens if token_index(now.table, each) == now.name)
        alter.index_token(shop, shop.table(now.table), token, unique=unique)
        drop(shop, old)
        return
    with shop.begin() as connection:
        waiting(shop, connection)
        if shop.dialect == "postgresql":
            run(connection, f"ALTER INDEX {_place(shop, old.name)} RENAME TO {quoted(now.name)}")
        else:
            run(connection, f"ALTER TABLE {ticked(now.table)} RENAME INDEX {ticked(old.name)} TO {ticked(now.name)}")
    faults.point("shop.rehang.indexed")
    shop.forget()


def _place(shop: Shop, name: str) -> str:
    if shop.dialect == "postgresql":
        return f"{quoted(shop.schema or 'public')}.{quoted(name)}"
    return ticked(name) if shop.dialect == "mysql" else quoted(name)
