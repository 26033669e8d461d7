"""A driver's error in the words of an operator: no parameters, no values, no password."""

import sqlite3

from sqlalchemy import exc

from guard.errors import BusyError, GuardError, UnavailableError

_BUSY = {"55P03", "40P01", "40001"}
"""PostgreSQL: lock not available, deadlock detected, serialization failure."""
_DENIED = {"42501"}
_FULL = {"53100"}
_READ_ONLY = {"25006"}
_BOUND = "0A000"
"""PostgreSQL: something else uses the column whose type is to change."""
_MYSQL = {
    1205: "busy",
    1213: "busy",
    **dict.fromkeys((1142, 1143, 1227, 1370, 1419), "denied"),
    1021: "full",
    1114: "full",
    1290: "read-only",
    1836: "read-only",
    **dict.fromkeys((1040, 1044, 1045, 1049, 1053, 1129, 1130, 1203, 1698), "gone"),
}
"""Numbers of MariaDB and MySQL. Texts of others may quote a row; those from 2000 to 2999 are the connection's own."""
_CLIENT = range(2000, 3000)
_SQLITE = {
    "BUSY": "busy",
    "LOCKED": "busy",
    "FULL": "full",
    "READONLY": "read-only",
    "PERM": "read-only",
    "CANTOPEN": "gone",
    "IOERR": "broken",
    "CORRUPT": "not readable",
    "NOTADB": "not readable",
}

_SAYINGS = {
    "full": ("has no space left", "free some disk space; nothing was lost"),
    "read-only": ("cannot be written", "check file modes and rights"),
    "not readable": ("is not a readable SQLite database", "restore it from a backup"),
}


class GrantError(UnavailableError):
    """guard's account lacks a grant. `reason` is the database's own sentence, which names objects and no values."""

    def __init__(self, place: str, reason: str, hint: str = "docs/GRANTS.md lists the grants") -> None:
        super().__init__(f"the shop's database at {place} does not let guard's account do this: {reason}", hint=hint)


def explained(error: exc.DBAPIError, place: str) -> GuardError:
    """Return what an operator should read instead of `error`. `place`: where the database is, without secrets."""
    word = _word(error)
    if word == "busy":
        return BusyError(f"the shop's database at {place} is locked by somebody else", hint="try again in a moment")
    if word in {"gone", "broken"}:
        return UnavailableError(f"the shop's database at {place} does not answer: {_first_line(error)}")
    if word == "denied":
        reason = _first_line(error, texts=True)
        return GrantError(place, reason, f"{_grant(reason, error.statement or '')}docs/GRANTS.md lists the grants")
    if word in _SAYINGS:
        say, hint = _SAYINGS[word]
        return UnavailableError(f"the shop's database at {place} {say}", hint=hint)
    drop = "a policy, rule or function of the shop uses the column; drop it first" if _BOUND in word else None
    return GuardError(f"the shop's database at {place} refused: {word}", hint=drop)


def _word(error: exc.DBAPIError) -> str:
    """Name the kind of error; by class and SQLSTATE where it is unknown, for a driver's full text may quote a row."""
    raw = error.orig
    if name := getattr(raw, "sqlite_errorname", None):
        kind = str(name).removeprefix("SQLITE_")
        text = str(raw)
        return text if text.startswith(("no such ", "error in ")) else _SQLITE.get(kind.partition("_")[0], kind)
    if isinstance(raw, sqlite3.Error):  # Python's own; that of a text that is not UTF-8 quotes the text
        return "a text in it is not UTF-8" if str(raw).startswith("Could not decode") else type(raw).__name__
    state = getattr(raw, "sqlstate", None)
    for word, states in (("busy", _BUSY), ("denied", _DENIED), ("full", _FULL), ("read-only", _READ_ONLY)):
        if state in states:
            return word
    if type(raw).__module__.startswith("pymysql"):
        number = raw.args[0] if raw is not None and raw.args and isinstance(raw.args[0], int) else 0
        return "gone" if number in _CLIENT or not number else _MYSQL.get(number, f"error {number}")
    if isinstance(error, exc.OperationalError | exc.InterfaceError):
        return "gone"
    return type(raw).__name__ + (f" (SQLSTATE {state})" if state else "")


def _grant(reason: str, statement: str) -> str:
    """Return which grant is missing, as far as the refused statement tells; PostgreSQL names only the object."""
    verb = statement.lstrip().partition(" ")[0].upper()
    if reason.startswith("must be owner"):
        return "GRANT the role that owns it to guard's account; "
    if reason.startswith("permission denied for schema"):
        return f"GRANT {'CREATE' if verb in {'CREATE', 'ALTER'} else 'USAGE'} on it to guard's account; "
    if reason.startswith("permission denied for table") and verb in {"SELECT", "INSERT", "UPDATE", "DELETE"}:
        return f"GRANT {'SELECT' if verb == 'SELECT' else f'SELECT and {verb}'} on it to guard's account; "
    return ""


def code(error: BaseException | None) -> str:
    """Return the SQLSTATE (PostgreSQL) or the error number (MariaDB, MySQL) behind an error; empty when unknown."""
    if isinstance(error, GuardError):
        error = error.__cause__
    raw = error.orig if isinstance(error, exc.DBAPIError) else error
    if raw is not None and raw.args and isinstance(raw.args[0], int):
        return str(raw.args[0])
    return str(getattr(raw, "sqlstate", None) or "")


def _first_line(error: exc.DBAPIError, *, texts: bool = False) -> str:
    """Return the first line of what the database said; with `texts` without the number MariaDB puts before it."""
    args = error.orig.args if error.orig is not None else ()
    said = str(args[1]) if texts and len(args) > 1 else str(error.orig)
    return (said.strip().splitlines() or ["no reason given"])[0][:200]
