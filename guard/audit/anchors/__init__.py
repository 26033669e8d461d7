"""Anchors: places outside the ledger that keep or sign its checkpoints, and so make a rollback provable.

A folder keeps them, a bucket with Object Lock keeps them locked, a witness signs that it saw one history, an authority
signs since when they exist. None is believed: what it holds is opened with the ledger's key and compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol, TypeVar

from guard.audit.checkpoint import FIRST, Checkpoint, log_of
from guard.audit.walk import tampered
from guard.crypto.cosign import WitnessKey
from guard.errors import GuardError, TamperedError, UnavailableError

__all__ = ["FIRST", "NOTHING", "Anchor", "BeyondError", "Known", "Said", "ask"]

Opened = TypeVar("Opened", bound=Checkpoint)


class Known(Protocol):
    """What the ledger itself can tell an anchor that cannot be read back. Each call reads the ledger anew."""

    def ends(self) -> Mapping[str, str]:
        """Return the newest signed checkpoint of each log, by the log's name."""
        ...

    def kept(self) -> Iterable[str]:
        """Yield the notes that anchors took, with the cosignatures of witnesses, those of the largest size first."""
        ...

    def prove(self, old: int, new: int) -> Sequence[bytes]:
        """Return the proof that the tree of `new` entries begins with that of `old` (RFC 6962, 2.1.2)."""
        ...


class Nothing:
    """What is known where there is no ledger at hand."""

    def ends(self) -> Mapping[str, str]:
        """Return nothing."""
        return {}

    def kept(self) -> Iterable[str]:
        """Yield nothing."""
        return ()

    def prove(self, old: int, new: int) -> Sequence[bytes]:
        """Raise UnavailableError."""
        raise UnavailableError(f"there is no ledger at hand to prove that {new} entries begin with {old}")


NOTHING: Final[Known] = Nothing()


class Anchor(Protocol):
    """A place outside the ledger. Where it cannot be used, all methods raise a GuardError that names it.

    A log is called `first`, or by the 16 hex digits at the end of its origin.
    """

    @property
    def name(self) -> str:
        """Its name in guard.toml."""
        ...

    @property
    def where(self) -> str:
        """What a person calls this place; holds no secret."""
        ...

    @property
    def weak(self) -> bool:
        """Whether who can rewrite the ledger can most likely rewrite this too."""
        ...

    @property
    def witness(self) -> WitnessKey | None:
        """What checks its cosignatures; None where it makes none. Asks nobody."""
        ...

    def create(self) -> None:
        """Make what can be made before the first use."""
        ...

    def put(self, size: int, note: str, log: str = FIRST, known: Known = NOTHING) -> str | None:
        """Give it the checkpoint `note` of `size` entries of a log; returns once it is safe there.

        Returns the cosignatures, lines of a signed note, where it makes some. Raises TamperedError when it holds
        another history.
        """
        ...

    def newest(self, known: Known = NOTHING) -> Mapping[str, str]:
        """Return the note of the largest size that it vouches for, of each log that has one, by the log's name.

        Raises TamperedError when what it holds was changed, BeyondError when it saw more than the ledger has.
        """
        ...

    def time_of(self, note: str) -> datetime | None:
        """Return when somebody else signed a note that `newest` returned; None where nobody does."""
        ...

    def check(self, known: Known = NOTHING) -> Sequence[str]:
        """Look whether it can be used; changes nothing. Returns what is wrong with it, each in words."""
        ...


class BeyondError(UnavailableError):
    """An anchor that cannot be read says that it saw more entries of a log than the ledger has."""

    def __init__(self, message: str, seen: Sequence[tuple[str, int]], notes: Mapping[str, str]) -> None:
        """`seen`: origin and size of these logs. `notes`: what `newest` would have returned."""
        super().__init__(message)
        self.seen = tuple(seen)
        self.notes = notes


@dataclass(frozen=True, slots=True)
class Said:
    """What an anchor answered, not believed yet: its newest note of each log, or why it could not say."""

    name: str
    notes: Mapping[str, str] = field(default_factory=dict)
    """By the log's name."""
    problem: str | None = None
    weak: bool = False
    beyond: tuple[tuple[str, int], ...] = ()
    """Origin and size of logs of which it saw more than the ledger has, and of which the root cannot be learned."""

    def opened(self, open_note: Callable[[str], Opened]) -> tuple[Opened, ...]:
        """Return its checkpoints. `open_note` checks the ledger's signature. Raises TamperedError for a wrong one."""
        try:
            found = [(log, open_note(note)) for log, note in self.notes.items()]
        except TamperedError as error:
            raise tampered(f"anchor {self.name}: {error}") from None
        if wrong := [log for log, signed in found if log_of(signed.origin) != log]:
            raise tampered(f"anchor {self.name}: what lies there for the log {wrong[0]} is another log's")
        return tuple(signed for _, signed in found)


def ask(anchor: Anchor, known: Known = NOTHING) -> Said:
    """Ask an anchor what it holds. Ask before the ledger is read: what it holds then has to be in what is read.

    Raises TamperedError when what lies there was changed.
    """
    try:
        return Said(anchor.name, anchor.newest(known), weak=anchor.weak)
    except BeyondError as error:
        return Said(anchor.name, error.notes, weak=anchor.weak, beyond=error.seen)
    except TamperedError:
        raise
    except GuardError as error:
        return Said(anchor.name, problem=str(error), weak=anchor.weak)
