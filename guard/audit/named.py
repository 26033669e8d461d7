"""Events about people as the ledger records them, and what is left of them when a person is forgotten.

Everything here happens in the transaction of the commit: an event is written only while its person has a key, and what
`FORGET` takes away is gone with the same commit that wipes the key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from guard import faults
from guard.audit import person_store
from guard.audit.person_store import FORGET
from guard.errors import GoneError, InterlockError
from guard.events import Event
from guard.state import Tx

Settled = tuple[list[Event], list[tuple[int, bytes]]]
"""Events as they are written, and the payloads that are kept, each with the number of its entry."""


@dataclass(frozen=True, slots=True)
class Named(Event):
    """An event whose person has a pseudonym, and whose details are sealed for them."""

    key: int = 0
    """The id of the person's key."""


class Names(Protocol):
    """What the ledger asks about people."""

    def prepare(self, events: Sequence[Event]) -> tuple[Event, ...]:
        """Return events as `settle` takes them."""
        ...

    def settle(self, tx: Tx, events: Sequence[Event], first: int) -> Settled:
        """Return what is written for `events`, from entry `first` on."""
        ...


class Nobody:
    """For a store without a vault: its ledger names nobody, as it could not forget them."""

    def prepare(self, events: Sequence[Event]) -> tuple[Event, ...]:
        """Return `events`. Raises InterlockError when one is about a person."""
        if any(each.about is not None for each in events):
            raise InterlockError(
                "the ledger names no person without a vault: what it said of them could not be erased",
                hint="set up two mirrors, a [[vault]] for each in guard.toml: runbooks/shredding.md",
            )
        return tuple(events)

    def settle(self, tx: Tx, events: Sequence[Event], first: int) -> Settled:
        """Return `events`. Raises ValueError for one that is about a person."""
        return settle(tx, events, first)


def settle(tx: Tx, events: Sequence[Event], first: int) -> Settled:
    """Return what is written for `events`, from entry `first` on; what `FORGET` takes away is removed in `tx`.

    Raises GoneError when a person was forgotten since their event was prepared, ValueError for an event about a person
    that was not prepared.
    """
    living = person_store.persons_among(tx, [each.key for each in events if isinstance(each, Named)])
    written: list[Event] = []
    payloads: dict[int, Named] = {}
    for n, event in enumerate(events, first):
        if not isinstance(event, Named):
            _require_plain(event)
        elif event.key not in living:
            raise GoneError("a person was shredded while something was recorded of them", hint="run it again")
        elif event.what == FORGET:
            living.discard(event.key)
            written.append(replace(event, counts={"payloads": _forget(tx, event, payloads)}))
            continue
        elif event.payload is not None:
            payloads[n] = event
        written.append(event)
    return written, [(n, each.payload or b"") for n, each in payloads.items()]


def _forget(tx: Tx, event: Named, payloads: dict[int, Named]) -> int:
    """Remove what is held about the person of `event`, also from what this commit would write; return the payloads."""
    unwritten = [n for n, each in payloads.items() if each.key == event.key]
    for n in unwritten:
        del payloads[n]
    removed = person_store.forget(tx, event.key, str(event.subject))
    faults.point("audit.forget.removed")
    return removed + len(unwritten)


def _require_plain(event: Event) -> None:
    if event.about is not None or event.payload is not None:
        raise ValueError(f"{event.what}: an event about a person is prepared before it is recorded")
    if event.what == FORGET:
        raise ValueError(f"{FORGET} is recorded by shredding alone")
