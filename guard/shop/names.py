"""The names of what guard adds to the shop's tables. The readers of the schema hide what carries them.

A name is cut at 60 bytes (PostgreSQL takes 63 bytes, MariaDB 64 characters) and then ends in a hash of the whole.
"""

import hashlib
import re
from collections.abc import Iterable

_LIMIT = 60
_LONGEST_KIND = 13
"""The characters of "_fence_update". All triggers of a column are cut at one place: their ends order them."""
_TOKEN = re.compile(r"(.+)__guard([0-9]+)", re.DOTALL)
_OURS = "guard__"

BROUGHT = "guard__brought"
"""SQLite's table of what the row that is just being written brings along: empty between two statements."""


def token_column(column: str, version: int) -> str:
    """Return the name of the token column of `column` under version `version` of its index key."""
    return _cut(column, f"__guard{version}")


def token_index(table: str, token: str) -> str:
    """Return the name of the index on the token column `token`. Raises ValueError when it is none."""
    if (found := _TOKEN.fullmatch(token)) is None:
        raise ValueError("not the name of a token column")
    return _joined(table, found[1], found[2])


def version(token: str) -> int:
    """Return the version of the index key by which the token column `token` is named. Raises ValueError for another."""
    if (found := _TOKEN.fullmatch(token)) is None:
        raise ValueError("not the name of a token column")
    return int(found[2])


def tokens_of(column: str, tokens: Iterable[str]) -> tuple[str, ...]:
    """Return those of the token columns `tokens` that are `column`'s."""
    return tuple(token for token in tokens if token == token_column(column, version(token)))


def trigger(kind: str, table: str, column: str) -> str:
    """Return the name of guard's trigger of a kind ("follow", "fence") on a column."""
    return _joined(table, column, kind, _LONGEST_KIND)


def brought(table: str, column: str, token: str) -> str:
    """Return the name of the trigger that notes that an UPDATE names `token`. It comes first in the alphabet."""
    return trigger(f"brought{version(token)}", table, column)


def is_brought(name: str, table: str, column: str) -> bool:
    """Say whether a trigger is one of those that `brought` names, for whichever token of a column."""
    return re.fullmatch(re.escape(trigger("brought", table, column)) + "[0-9]+", name) is not None


def is_token(name: str) -> bool:
    """Say whether a column is one of guard's token columns."""
    return _TOKEN.fullmatch(name) is not None


def is_guards(name: str) -> bool:
    """Say whether an index, trigger or function is guard's."""
    return name.startswith(_OURS)


def _joined(table: str, column: str, last: str, room: int = 0) -> str:
    """Join so that no two pairs of table and column get one name: those with an underscore get a hash."""
    apart = f"_{_hash(table, column)}" if "_" in table or "_" in column else ""
    return _cut(f"{_OURS}{table}_{column}", f"{apart}_{last}", len(apart) + room)


def _cut(name: str, end: str, room: int = 0) -> str:
    """Return `name` with `end`, cut between them as if the end had `room` bytes at least."""
    room = max(room, len(end))
    if len(name.encode()) + room <= _LIMIT:
        return name + end
    end = f"_{_hash(name)}{end}"
    return name.encode()[: _LIMIT - room - 9].decode(errors="ignore") + end


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:8]
