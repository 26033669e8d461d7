"""Sealed columns in the shop's own code, on SQLAlchemy: what a shop imports. docs/example shows all of it at work.

    keys = FieldKeys.open("guard.toml")
    protect(Customer, keys, "email", "phone")      # below the class; bind = "row" and "subject"
    token: Mapped[str] = mapped_column(Encrypted("Session.Token", keys, String(60)))       # bind = "column" alone

Objects have their values in clear and are searched by `Customer.email == value`. For Core and bulk statements `seal`
marks rows. Synchronous engines on SQLite, PostgreSQL and MariaDB, threads and forked workers.
"""

from __future__ import annotations

from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import sqlalchemy as sa

from guard.errors import ConfigError
from guard.fields import statements
from guard.fields.encrypted import Encrypted
from guard.fields.flush import Watch, fields_of
from guard.fields.keys import FieldKeys
from guard.fields.seal import SealedColumnError, Stored, seal

__all__ = ["Encrypted", "FieldKeys", "SealedColumnError", "Stored", "protect", "seal"]

T = TypeVar("T")

_watches: WeakKeyDictionary[type[Any], Watch] = WeakKeyDictionary()


def protect(class_: type[T], keys: FieldKeys, *attributes: str) -> type[T]:
    """Let objects of a mapped class seal and open `attributes`, and return the class.

    Called directly below the class, before anything else uses it. The catalog must list each column with protect =
    "encrypt"; as long as it is not sealed, it is written as before. Raises ConfigError for what is no column, or cannot
    be sealed.
    """
    columns = dict(fields_of(class_))
    watch = _watches.get(class_) or _watches.setdefault(class_, Watch(class_))
    for name in attributes:
        if (column := columns.get(name)) is None:
            raise ConfigError(f"{class_.__name__}.{name} is not a column of a table")
        if column.primary_key or column.foreign_keys:
            raise ConfigError(f"{class_.__name__}.{name} is part of a key, which cannot be sealed")
        watch.fields[name] = _sealed(column, keys)
    return class_


def _sealed(column: sa.Column[Any], keys: FieldKeys) -> Encrypted:
    if isinstance(column.type, Encrypted):
        return column.type
    type_ = Encrypted(f"{column.table.name}.{column.name}", keys, column.type)
    type_.column = column
    column.type = type_
    column.__dict__.pop("comparator", None)  # made for the type it had
    statements.forget(column.table)
    return type_
