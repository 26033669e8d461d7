"""What an operator may face, and the exit code each means. Only `cli.main` turns these into exits.

GuardError (1)
├── ConfigError (2)         usage or configuration
├── DeniedError (10)        tier, second factor or approval
├── TamperedError (11)      stored bytes are not what was written
├── ShreddedError (1)       the key was destroyed on purpose; nobody opens it any more
├── BusyError (12)          another run holds it
│   └── GoneError (12)      whom it is about was shredded meanwhile
├── UnavailableError (13)   try again
├── InterlockError (14)     refused to keep something from being lost
│   ├── WaitingError (14)   asked for; what cannot be undone waits first
│   └── ClockError (14)     the clock went back
└── UnanchoredError (15)    consistent, but nothing outside vouches for it
"""

from enum import IntEnum


class Exit(IntEnum):
    """Process exit codes; unknown ones must be read as failure."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    FINDINGS = 3
    PARTLY = 4
    DENIED = 10
    TAMPERED = 11
    BUSY = 12
    UNAVAILABLE = 13
    INTERLOCK = 14
    UNANCHORED = 15
    INTERRUPTED = 130


class GuardError(Exception):
    """Base of all errors an operator sees. The message says what and where, `hint` what to do.

    Neither may carry a secret or personal data.
    """

    exit_code = Exit.FAILED

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class ConfigError(GuardError):
    """Usage or configuration is wrong. May hold several problems, one a line."""

    exit_code = Exit.USAGE


class DeniedError(GuardError):
    """The principal may not do this: tier, second factor or approval. `reason` is the ledger's word for why."""

    exit_code = Exit.DENIED

    def __init__(self, message: str, *, hint: str | None = None, reason: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class TamperedError(GuardError):
    """Stored bytes are not the ones that were written."""

    exit_code = Exit.TAMPERED


class ShreddedError(GuardError):
    """What was asked for was shredded: its key is gone, as somebody wanted. Nothing is wrong, and nothing helps."""


class BusyError(GuardError):
    """Another run holds what this one needs."""

    exit_code = Exit.BUSY


class GoneError(BusyError):
    """Whom it is about was shredded while it was done. Done again, it is about somebody who came back."""


class UnavailableError(GuardError):
    """A database, store or host did not answer; the same call may work later."""

    exit_code = Exit.UNAVAILABLE


class InterlockError(GuardError):
    """Refused, because going on could lose or expose something."""

    exit_code = Exit.INTERLOCK


class WaitingError(InterlockError):
    """Asked for and allowed, but what cannot be undone waits first."""

    reason = "waits"


class ClockError(InterlockError):
    """The clock is behind a time that was already recorded."""


class UnanchoredError(GuardError):
    """Everything is consistent, but no fresh anchor outside vouches for it."""

    exit_code = Exit.UNANCHORED
