"""Does what is said of people lie where the entries say, and is it gone where they were forgotten? A part of `verify`.

The payloads are read beside the entries, a chunk at a time: memory does not grow with the ledger.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Final

from guard.audit import person_store
from guard.audit.entry import Leaf
from guard.audit.walk import tampered
from guard.errors import TamperedError
from guard.state import Tx

_NOBODY: Final[Mapping[str, int]] = {"": -1}
_MOST: Final = 10_000
"""Some 2 MB."""


class Check:
    """Compares the payloads in one snapshot with the entries, which it is shown in order, from number `begin` on."""

    def __init__(self, tx: Tx, begin: int = 0, most: int = _MOST) -> None:
        """`most`: how many forgotten people are kept in memory; of more, those of each chunk are looked up."""
        self._tx = tx
        self._next = begin
        found = person_store.all_forgotten(tx, most)
        self._forgotten = None if found is None else {**_NOBODY, **found}

    def look(self, leaves: Sequence[Leaf]) -> None:
        """Compare the payloads from where the last look ended up to the last of `leaves`.

        Raises TamperedError naming the first entry whose payload is missing, changed, or should not be there.
        """
        first, self._next = self._next, leaves[-1].n + 1
        rows = person_store.payloads_between(self._tx, first, self._next)
        said = [leaf for leaf in leaves if leaf.payload is not None]
        gone = self._gone(said)
        kept = [(leaf.n, leaf.payload) for leaf in said if (leaf.subject or "") not in gone]
        late = any(leaf.n > gone.get(leaf.subject or "", leaf.n) for leaf in said)
        if late or _digests(rows) != kept:
            raise _blame(said, dict(rows), gone)

    def end(self, size: int) -> None:
        """Look for payloads beyond the `size` entries of the ledger. Raises TamperedError naming the first."""
        if (n := person_store.payload_outside(self._tx, size)) is not None:
            raise _wrong(n, "something is said of a person, and there is no such entry")

    def _gone(self, said: Sequence[Leaf]) -> Mapping[str, int]:
        """Return for who was forgotten the entry that says so; for "", nobody, one before all entries."""
        if self._forgotten is not None:
            return self._forgotten
        subjects = [leaf.subject for leaf in said if leaf.subject is not None]
        return {**_NOBODY, **person_store.forgotten(self._tx, subjects)}


def _digests(rows: Sequence[tuple[int, bytes]]) -> list[tuple[int, str]]:
    """Return number and digest of payloads, all at once: one by one would cost `verify` a quarter of its time."""
    try:
        return [(n, sha256(sealed).hexdigest()) for n, sealed in rows]
    except TypeError:  # a text in their place: equal to nothing that was said, nor to nothing said
        return [(-1, "")]


def _blame(said: Sequence[Leaf], stored: dict[int, bytes], gone: Mapping[str, int]) -> TamperedError:
    """Say what is wrong with the first entry whose payload is not as it should be."""
    for leaf in said:
        if wrong := _compared(leaf, stored.pop(leaf.n, None), gone.get(leaf.subject or "")):
            return _wrong(leaf.n, wrong)
    return _wrong(min(stored), "something is said of a person beside it that is not in it")


def _compared(leaf: Leaf, sealed: object, forgotten: int | None) -> str | None:
    """Return what is wrong with one payload; `forgotten` is the entry that erased it."""
    if leaf.subject is None:
        return "it says something of a person, but not of whom"
    if forgotten is not None and leaf.n > forgotten:
        return f"it says something of a person whom entry {forgotten} forgot"
    if forgotten is not None:
        return (
            f"what it says of a person is there, though entry {forgotten} says that it was erased"
            if sealed is not None
            else None
        )
    if sealed is None:
        return "what it says of a person is missing, and no entry says that it was erased"
    is_it = isinstance(sealed, bytes) and sha256(sealed).hexdigest() == leaf.payload
    return None if is_it else "what it says of a person was changed"


def _wrong(n: int, what: str) -> TamperedError:
    return tampered(f"ledger entry {n}: {what}")
