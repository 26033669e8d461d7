"""A token comes with its value when an UPDATE names it, though it be the same as before: then it stays.

SQLite and PostgreSQL tell guard's triggers so by themselves. MariaDB does not: there a writer assigns the token, in the
same statement, to the user variable of its column's name as well, and the trigger compares. Of an UPDATE that does not
know this (a copy from another row), tokens that stay the same are emptied.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from guard.shop._sql import ticked
from guard.shop.names import is_token


class Brought(sa.ColumnElement[Any]):
    """The value of the token column `token`, as it is written."""

    inherit_cache = False

    def __init__(self, token: str, value: sa.ColumnElement[Any]) -> None:
        self.token = token
        self.value = value
        self.type = value.type


def brought(name: str, value: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """Return `value` as an UPDATE sets the column `name` to it, which may be a token column or any other."""
    return Brought(name, value) if is_token(name) else value


def assigned(name: str, sql: str) -> str:
    """Return the SQL `sql` as an UPDATE of MariaDB sets the column `name` to it."""
    return f"(@{ticked(name)} := {sql})" if is_token(name) else sql


@compiles(Brought)
def _as_it_is(element: Brought, compiler: SQLCompiler, **kw: Any) -> str:
    return compiler.process(element.value, **kw)


@compiles(Brought, "mysql")
@compiles(Brought, "mariadb")
def _assigned(element: Brought, compiler: SQLCompiler, **kw: Any) -> str:
    value = compiler.process(element.value, **kw)
    return assigned(element.token.replace("%", "%%"), value) if getattr(compiler, "isupdate", False) else value
