"""A driver's error in the words of an operator: no parameters, no values, no password."""

from sqlalchemy import exc

from guard.errors import BusyError, GuardError, UnavailableError

_BUSY = {"55P03", "40P01", "40001"}
"""PostgreSQL: lock not available, deadlock detected, serialization failure."""
_DENIED = {"42501"}
_FULL = {"53100"}
_READ_ONLY = {"25006"}
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
    "denied": ("does not let guard's account do this", "docs/GRANTS.md lists the grants"),
}


def explained(error: exc.DBAPIError, place: str) -> GuardError:
    """Return what an operator should read instead of `error`. `place`: where the database is, without secrets."""
    word = _word(error)
    if word == "busy":
        return BusyError(f"the shop's database at {place} is locked by somebody else", hint="try again in a moment")
    if word in {"gone", "broken"}:
        return UnavailableError(f"the shop's database at {place} does not answer: {_first_line(error)}")
    if word in _SAYINGS:
        say, hint = _SAYINGS[word]
        return UnavailableError(f"the shop's database at {place} {say}", hint=hint)
    return GuardError(f"the shop's database at {place} refused: {word}")


def _word(error: exc.DBAPIError) -> str:
    """Name the kind of error; by class and SQLSTATE where it is unknown, for a driver's full text may quote a row."""
    raw = error.orig
    if name := getattr(raw, "sqlite_errorname", None):
        kind = str(name).removeprefix("SQLITE_")
        return _SQLITE.get(kind.partition("_")[0], kind)
    state = getattr(raw, "sqlstate", None)
    for word, states in (("busy", _BUSY), ("denied", _DENIED), ("full", _FULL), ("read-only", _READ_ONLY)):
        if state in states:
            return word
    if isinstance(error, exc.OperationalError | exc.InterfaceError):
        return "gone"
    return type(raw).__name__ + (f" (SQLSTATE {state})" if state else "")


def _first_line(error: exc.DBAPIError) -> str:
    return (str(error.orig).strip().splitlines() or ["no reason given"])[0][:200]
