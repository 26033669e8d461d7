"""Open what entries say of people in clear. What was erased is told from what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from guard.audit import person_store
from guard.audit.entry import Entry
from guard.audit.persons import Persons
from guard.audit.walk import tampered
from guard.state import State


@dataclass(frozen=True, slots=True)
class Revealed:
    """An entry, and what it says of a person."""

    entry: Entry
    said: Mapping[str, Any] | None
    """None: it says nothing, or that was erased."""
    erased: bool = False


def reveal(state: State, persons: Persons, entries: Sequence[Entry]) -> list[Revealed]:
    """Return what each of `entries` says. Raises TamperedError naming the first whose payload is not what was sealed.

    Raises UnavailableError when no mirror of the vault answers. To find whose a pseudonym is, everybody whom the ledger
    names may have to be looked at.
    """
    saying = [each for each in entries if each.payload is not None]
    subjects = {each.subject for each in saying if each.subject is not None}
    with state.read() as tx:
        sealed = person_store.payloads(tx, [each.n for each in saying])
        gone = person_store.forgotten(tx, subjects)
    names = persons.names(subjects - set(gone))
    out = []
    for each in entries:
        if each.payload is None or (each.subject in gone and each.n not in sealed):
            out.append(Revealed(each, None, each.payload is not None))
            continue
        raw, name = sealed.get(each.n), names.get(each.subject or "")
        is_it = raw is not None and sha256(raw).hexdigest() == each.payload
        said = persons.opened(name, raw) if is_it and raw is not None and name is not None else None
        if said is None:
            raise tampered(f"ledger entry {each.n}: what it says of a person is not what was sealed")
        out.append(Revealed(each, said))
    return out
