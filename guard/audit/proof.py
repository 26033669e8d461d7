"""Proofs out of the stored hashes: that an entry is in the ledger, and that a tree begins with an older one.

C2SP tlog-proof; docs/FORMATS.md, section 4. A few dozen hashes are read, however long the ledger is.
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from guard.audit import merkle, prune, store
from guard.audit.checkpoint import parse
from guard.audit.store import Kind
from guard.crypto.cosign import WitnessKey
from guard.crypto.sign import split_note
from guard.errors import ConfigError, TamperedError
from guard.state import Tx

VERIFY: Final = "`guard audit verify` says what is wrong"

_MAGIC = "c2sp.org/tlog-proof@v1\n"
_HEAD = re.compile(r"(?:extra [A-Za-z0-9+/=]*\n)?index (0|[1-9][0-9]{0,18})\n((?:[A-Za-z0-9+/]{43}=\n)*)\n")
_EARLIER = "an earlier export, or a backup of state from before, still holds it"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Proof:
    """That the log of a checkpoint holds an entry."""

    n: int
    hashes: tuple[bytes, ...]
    """From the leaf's neighbor up to the child of the root."""
    note: str
    """The signed checkpoint."""

    @property
    def text(self) -> str:
        """The content of a `.tlog-proof`."""
        lines = "".join(f"{b64encode(each).decode()}\n" for each in self.hashes)
        return f"{_MAGIC}index {self.n}\n{lines}\n{self.note}"

    def holds(self, leaf: bytes) -> bool:
        """Tell whether it shows the entry with these bytes. The note's signature is not looked at."""
        signed = parse(split_note(self.note)[0])
        digest = merkle.leaf_hash(leaf)
        return merkle.verify_inclusion(digest, self.n, signed.size, self.hashes, signed.root)


def read(text: str) -> Proof:
    """Return the proof in a `.tlog-proof`. Raises TamperedError when it is none."""
    found = _HEAD.match(text, len(_MAGIC))
    if not text.startswith(_MAGIC) or found is None:
        raise TamperedError("this is not a proof of a log's entry")
    return Proof(int(found[1]), tuple(b64decode(line) for line in found[2].split()), text[found.end() :])


def prove(tx: Tx, n: int, *, anchored: bool = False, witnesses: Sequence[WitnessKey] = ()) -> tuple[bytes, Proof]:
    """Return the bytes of entry `n` and the proof of it against the newest checkpoint, or one that others vouch for.

    `witnesses`: those whose cosignatures count.
    Raises ConfigError when there is no such entry, it was removed under retention, or no anchor has seen it;
    TamperedError when the ledger holds other bytes than those that were signed.
    """
    size, note = newest(tx, anchored=anchored, witnesses=witnesses)
    if not 0 <= n < size:
        which = "the newest anchored checkpoint" if anchored else "the ledger"
        raise ConfigError(f"{which} has no entry {n}", hint=f"it holds the entries 0 to {size - 1}")
    leaf, proof = _leaf(tx, n), against(tx, n, size, note)
    if not proof.holds(leaf):
        raise _changed(n)
    return leaf, proof


def against(tx: Tx, n: int, size: int, note: str) -> Proof:
    """Return the proof that entry `n` is in the tree of `size` entries that `note` signs."""
    return Proof(n, tuple(_gathered(tx, lambda get: merkle.inclusion_proof(n, size, get))), note)


def consistency(tx: Tx, old: int, new: int) -> tuple[bytes, ...]:
    """Return the proof that the tree of `new` entries begins with that of `old` (RFC 6962, 2.1.2).

    Raises ValueError unless 0 < old <= new, ConfigError when what it needs was removed under retention.
    """
    return tuple(_gathered(tx, lambda get: merkle.consistency_proof(old, new, get)))


def root(tx: Tx, size: int) -> bytes:
    """Return the root over the first `size` entries. Raises ConfigError when it needs what retention removed."""
    return _gathered(tx, lambda get: merkle.fold([get(*place) for place in merkle.cover(size)]))


def newest(tx: Tx, *, anchored: bool = False, witnesses: Sequence[WitnessKey] = ()) -> tuple[int, str]:
    """Return size and note of the newest checkpoint, or of the newest one that others vouch for: see `vouched`.

    Raises TamperedError when there is none, ConfigError when none was anchored.
    """
    if not anchored:
        found = store.latest(tx)
        if found is None:
            raise TamperedError("the ledger has no checkpoint", hint=VERIFY)
        return found
    note = vouched(tx, witnesses)
    if note is None:
        raise ConfigError("no checkpoint was anchored yet", hint="`guard audit anchor` anchors the newest one")
    return parse(split_note(note)[0]).size, note


def vouched(tx: Tx, witnesses: Sequence[WitnessKey] = ()) -> str | None:
    """Return the newest checkpoint that one of `witnesses` cosigned, or else the newest that any anchor took, or None.

    Raises TamperedError as `cosigned` does.
    """
    notes = store.notes(tx, Kind.ANCHORED)
    return cosigned(notes, witnesses) or (notes[0] if notes else None)


def cosigned(notes: Sequence[str], witnesses: Sequence[WitnessKey]) -> str | None:
    """Return the first of these notes with a good cosignature of one of `witnesses`; None when none has one.

    Lines of other keys say nothing: whoever writes to state can put them there. Raises TamperedError for a wrong line
    under a witness's key.
    """
    try:
        return next((note for note in notes for each in witnesses if each.time_on(note) is not None), None)
    except TamperedError as error:
        raise TamperedError(f"a checkpoint that the ledger keeps: {error}", hint=VERIFY) from None


def minimum(tx: Tx) -> int:
    """Return the minimum index: from it on every entry is here. 0 unless retention has removed some."""
    return prune.pruned(tx).minimum


def _leaf(tx: Tx, n: int) -> bytes:
    found = next(iter(store.rows_from(tx, n, 1)), None)
    if found is None or found.n != n:
        raise gone(tx, n, n)
    if not isinstance(found.leaf, bytes):
        raise _changed(n)
    return found.leaf


def _changed(n: int) -> TamperedError:
    return TamperedError(f"ledger entry {n} is not the one that was signed", hint=VERIFY)


def gone(tx: Tx, first: int, last: int) -> ConfigError | TamperedError:
    """Return the error for entries, or hashes over them, that are not here: by retention, or they are lost."""
    of = f"entry {first}" if first == last else f"entries {first} to {last}"
    if last < (kept := minimum(tx)):
        return ConfigError(f"{of}: removed under retention; the ledger keeps entries from {kept} on", hint=_EARLIER)
    return TamperedError(f"the ledger has lost {of}", hint=VERIFY)


def _gathered(tx: Tx, work: Callable[[merkle.Get], T]) -> T:
    """Run `work` twice: to see which hashes it asks for, and on those, which are then read at once."""
    wanted: list[tuple[int, int]] = []

    def note(level: int, position: int) -> bytes:
        wanted.append((level, position))
        return bytes(32)

    work(note)
    found = store.hashes(tx, wanted)
    for level, position in wanted:
        if len(found.get((level, position), b"")) != 32:
            raise gone(tx, position << level, (position + 1 << level) - 1)
    return work(lambda level, position: found[level, position])
