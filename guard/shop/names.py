"""The names of what guard adds to the shop's tables. The readers of the schema hide what carries them.

A name is cut at 60 bytes (PostgreSQL takes 63 bytes, MariaDB 64 characters) and then ends in a hash of the whole.
"""

import hashlib
import re

_LIMIT = 60
_TOKEN = re.compile(r"(.+)__guard([0-9]+)", re.DOTALL)
_OURS = "guard__"


def token_column(column: str, version: int) -> str:
    """Return the name of the token column of `column` under version `version` of its index key."""
    return _cut(column, f"__guard{version}")


def token_index(table: str, token: str) -> str:
    """Return the name of the index on the token column `token`. Raises ValueError when it is none."""
    if (found := _TOKEN.fullmatch(token)) is None:
        raise ValueError("not the name of a token column")
    return _joined(table, found[1], found[2])


def trigger(kind: str, table: str, column: str) -> str:
    """Return the name of guard's trigger of a kind ("follow", "fence") on a column."""
    return _joined(table, column, kind)


def is_token(name: str) -> bool:
    """Say whether a column is one of guard's token columns."""
    return _TOKEN.fullmatch(name) is not None


def is_guards(name: str) -> bool:
    """Say whether an index, trigger or function is guard's."""
    return name.startswith(_OURS)


def _joined(table: str, column: str, last: str) -> str:
    """Join so that no two pairs of table and column get one name: those with an underscore get a hash."""
    end = f"_{last}"
    if "_" in table or "_" in column:
        end = f"_{_hash(table, column)}{end}"
    return _cut(f"{_OURS}{table}_{column}", end)


def _cut(name: str, end: str) -> str:
    if len(f"{name}{end}".encode()) <= _LIMIT:
        return name + end
    end = f"_{_hash(name)}{end}"
    return name.encode()[: _LIMIT - len(end)].decode(errors="ignore") + end


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:8]
