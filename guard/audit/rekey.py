"""The keys of one ledger. A change of key is an entry that the old key signs and the new one signs too.

So whoever trusts one key of a ledger follows it to all others, in both directions. docs/FORMATS.md, section 4.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Final

from guard.audit.checkpoint import Checkpoint, log_of, parse
from guard.audit.entry import Entry
from guard.audit.walk import HINT, tampered
from guard.crypto.sign import Signer, Verifier, sign_note, split_note
from guard.errors import ConfigError, TamperedError
from guard.events import Activity, Ending, Event, PrincipalId, RunId

REKEY: Final = "audit.rekey"
"""The action of an entry from whose commit on another key signs. No other entry is called so."""


@dataclass(frozen=True, slots=True)
class Seeds:
    """The 32-byte seeds of a store's `ledger` key, as far as they can be opened."""

    current: bytes = field(repr=False)
    """Of the version that signs."""
    others: tuple[bytes, ...] = field(default=(), repr=False)
    """Of older versions, and of one that waits."""


MOST: Final = 2**53 - 1
"""Entries of a ledger: what a count in an entry can say."""

AskSeeds = Callable[[], Seeds]
"""Gives the seeds as they are in state now."""


@dataclass(frozen=True, slots=True)
class Rekey:
    """A change of key: `old` signs the commit of this entry for the last time, `new` for the first."""

    old: Verifier
    """Under the name of the log that is written to, as `new` is."""
    new: Verifier
    version: int
    """Of the new key."""

    def event(self, who: PrincipalId, run: RunId) -> Event:
        """Return what the ledger records of it: the first event of its commit, or the second behind a restart."""
        return Event(
            REKEY,
            Ending.DONE,
            who,
            run,
            Activity.ENTITY_UPDATE,
            counts={"version": self.version},
            facts={"old": self.old.vkey, "new": self.new.vkey},
        )

    @classmethod
    def read(cls, found: Entry | Event) -> "Rekey":
        """Return what an entry, or the event it will be, says. Raises ValueError when it says something else."""
        try:
            old, new = (Verifier.from_vkey(found.facts[name]) for name in ("old", "new"))
            version = found.counts["version"]
        except KeyError as error:
            raise ValueError(f"the entry {REKEY} lacks {error.args[0]}") from None
        except ConfigError as error:
            raise ValueError(f"the entry {REKEY} names a key that is none: {error}") from None
        if old.name != new.name or old.raw == new.raw:
            raise ValueError(f"the entry {REKEY} names no two keys of one log")
        return cls(old, new, version)


@dataclass(frozen=True, slots=True)
class Signed(Checkpoint):
    """A checkpoint of this ledger with who signed it."""

    by: tuple[bytes, ...]
    """The raw public keys of this ledger that did, in the order of the lines."""
    strangers: tuple[str, ...] = ()
    """Ids (hex) of keys that signed under the log's name and that this ledger does not know."""


@dataclass(frozen=True, slots=True)
class Change:
    """Where a key followed another."""

    n: int
    """The number of the entry."""
    size: int
    """That of the checkpoint of its commit, which both signed."""
    rekey: Rekey


@dataclass(frozen=True, slots=True)
class Keys:
    """Every key that signed for one ledger, under the name of its first log, oldest first."""

    verifiers: tuple[Verifier, ...]
    changes: tuple[Change, ...] = ()
    """One fewer."""

    @classmethod
    def read(cls, trusted: Verifier, entries: Iterable[Entry], ends: Sequence[int]) -> "Keys":
        """Follow the entries called `REKEY`, oldest first, from and to a key that is trusted.

        `ends`: the sizes of the kept checkpoints behind them. Raises TamperedError when they do not follow each other,
        or the trusted key is none of them.
        """
        found = [(entry.n, _read(entry)) for entry in entries]
        if len(found) != len(ends):
            raise tampered(
                f"the ledger has {len(found)} entries {REKEY}, and keeps {len(ends)} checkpoints behind such"
            )
        changes = tuple(Change(n, size, rekey) for (n, rekey), size in zip(found, ends, strict=True))
        _require_in_order(changes)
        used = [changes[0].rekey.old, *(each.rekey.new for each in changes)] if changes else [trusted]
        verifiers = tuple(each.named(trusted.name) for each in used)
        if trusted.raw not in {each.raw for each in verifiers}:
            raise tampered(f"the trusted key {trusted.key_id.hex()} is none of those that this ledger says signed it")
        return cls(verifiers, changes)

    @property
    def name(self) -> str:
        """The origin of the ledger's first log."""
        return self.verifiers[0].name

    @property
    def current(self) -> Verifier:
        """The key that signs now, under the name of the first log."""
        return self.verifiers[-1]

    def owns(self, origin: str) -> bool:
        """Tell whether `origin` is that of a log of this ledger."""
        return origin in {self.name, f"{self.name}/{log_of(origin)}"}

    def at(self, size: int) -> tuple[bytes, ...]:
        """Return which keys, raw, sign the checkpoint of `size` entries: two where one follows the other."""
        before = sum(change.size < size for change in self.changes)
        both = before < len(self.changes) and size > self.changes[before].n
        return tuple(each.raw for each in self.verifiers[before : before + 1 + both])

    def open(self, note: str) -> Signed:
        """Return the checkpoint in a signed note of this ledger. Cosignatures of witnesses are passed over.

        Raises TamperedError when it is none of this ledger's, nobody signed it, or a signature is wrong.
        """
        text, signatures = split_note(note)
        found = parse(text)
        if found.size > MOST:
            raise TamperedError(f"this is a checkpoint of {found.size} entries, which no ledger has")
        if not self.owns(found.origin):
            raise TamperedError(f"this is a checkpoint of {found.origin}, not of {self.name}")
        known = {key.key_id: key for key in (each.named(found.origin) for each in self.verifiers)}
        mine = [key_id for name, key_id, _ in signatures if name == found.origin]
        by = [known[key_id] for key_id in mine if key_id in known]
        for key in by:
            key.open_note(note)
        if not mine:
            raise TamperedError(f"this note is not signed by {found.origin}")
        strangers = tuple(key_id.hex() for key_id in mine if key_id not in known)
        return Signed(found.origin, found.size, found.root, tuple(key.raw for key in by), strangers)

    def require_in_force(self, signed: Signed) -> None:
        """Raise TamperedError unless exactly those keys signed that did so at this size."""
        expected = self.at(signed.size)
        if (signed.by, signed.strangers) == (expected, ()):
            return
        names = {each.raw: each.named(signed.origin).key_id.hex() for each in self.verifiers}
        by = " and ".join((*(names[raw] for raw in signed.by), *signed.strangers))
        said = " and ".join(names[raw] for raw in expected)
        raise TamperedError(f"it is signed by the key {by}, not by {said}, which signed at that size")


def _require_in_order(changes: Sequence[Change]) -> None:
    for change, then in zip_longest(changes, changes[1:]):
        if change.size <= change.n or (then is not None and then.n < change.size):
            raise tampered(f"ledger entry {change.n} changes the key, but the checkpoint behind it is not kept")
        if then is not None and then.rekey.old.raw != change.rekey.new.raw:
            raise tampered(f"ledger entry {then.n} changes another key than the one that signed")
    given_up: set[bytes] = set()
    for change in changes:
        given_up.add(change.rekey.old.raw)
        if change.rekey.new.raw in given_up:
            raise tampered(f"ledger entry {change.n} brings back a key that was given up")


class Pen:
    """Holds the seeds of a store's ledger, and signs with those that are asked for."""

    def __init__(self, origin: str, keys: AskSeeds | bytes) -> None:
        self._origin = origin
        self._ask: AskSeeds = (lambda: Seeds(keys)) if isinstance(keys, bytes) else keys
        self._seeds: dict[bytes, bytes] = {}
        self._signers: dict[tuple[bytes, str], Signer] = {}
        self.current = self.renew()

    def renew(self) -> Verifier:
        """Ask for the seeds again, and return the key that signs by what state says, under the first log's name."""
        seeds = self._ask()
        self._seeds = {Signer(seed, self._origin).verifier.raw: seed for seed in (*seeds.others, seeds.current)}
        self.current = Signer(seeds.current, self._origin).verifier
        return self.current

    def sign(self, what: Checkpoint, keys: Sequence[bytes]) -> str:
        """Return a checkpoint as a note signed with public `keys`, raw, in their order.

        Raises TamperedError when the seed of one is not at hand.
        """
        signers = [self._signer(raw, what.origin) for raw in keys]
        return sign_note(what.text(), signers)

    def _signer(self, raw: bytes, name: str) -> Signer:
        known = self._signers.get((raw, name))
        if known is not None:
            return known
        if raw not in self._seeds:
            self.renew()
        if raw not in self._seeds:
            raise TamperedError("guard's keys do not hold the one that signs the ledger", hint=HINT)
        return self._signers.setdefault((raw, name), Signer(self._seeds[raw], name))


def _read(entry: Entry) -> Rekey:
    try:
        return Rekey.read(entry)
    except ValueError as error:
        raise tampered(f"ledger entry {entry.n}: {error}") from None
