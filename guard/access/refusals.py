"""Why somebody was refused: the words the ledger keeps, and the one text a person gets for every bad code."""

from enum import StrEnum

from guard.errors import DeniedError


class Refusal(StrEnum):
    """The reasons of a denied event. The ledger holds these words and no others."""

    NO_CODE = "no code"
    WRONG_CODE = "wrong code"
    USED_CODE = "used code"
    LOCKED = "locked"
    ROLE = "role"
    UNKNOWN = "unknown principal"
    NO_APPROVAL = "no approval"
    OVER_LIMIT = "over limit"
    WAITS = "waits"
    OWN = "own request"
    TWICE = "approved before"
    CHANGED = "changed"
    EXPIRED = "expired"
    NOT_OPEN = "not open"
    CONCERNED = "concerned"


def refused(reason: Refusal, message: str, hint: str | None = None) -> DeniedError:
    """Return the error that tells a person `message` and the ledger `reason`."""
    return DeniedError(message, hint=hint, reason=reason)


def bad_code(reason: Refusal) -> DeniedError:
    """Return the error for a code that was wrong, used, or given while locked: the text does not tell which.

    Whoever guesses must not learn whether to go on; the ledger keeps the reason.
    """
    return refused(
        reason,
        "the code was not accepted",
        "wait for the next code; each is taken once, and after several wrong ones guard takes none for a while",
    )
