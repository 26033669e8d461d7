"""The logs of one ledger. Bringing an older state back closes its log and begins another, under an origin of its own.

What was signed after the snapshot is lost, but others may hold it. Were the old log continued, its key would sign two
roots of one size under one origin, which is what a forger does. The new log's tree holds the entries of the old one as
they are; its first own entry says where the old one ends and what was lost. docs/FORMATS.md, section 4.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from guard.audit.checkpoint import log_of
from guard.audit.entry import Entry
from guard.audit.rekey import Keys, Signed
from guard.audit.walk import between, tampered
from guard.errors import TamperedError
from guard.events import Activity, Ending, Event, PrincipalId, RunId

RESTART: Final = "audit.restart"
"""The action of an entry that begins a log. No other entry is called so."""

_AHEAD: Final = "ahead "

RootAt = Callable[[int], bytes | None]
"""Gives the root over the first so many entries; None where retention has removed what it takes."""


@dataclass(frozen=True, slots=True)
class Restart:
    """The end of one log and the begin of the next; written as the entry of number `size`."""

    closed: str
    """The origin of the log that ends here."""
    size: int
    """How many entries it has, those of the logs before it included."""
    root: bytes
    origin: str
    """The origin of the log that begins here."""
    ahead: Mapping[str, tuple[int, bytes]] = field(default_factory=dict)
    """What anchors hold beyond `size`, or of logs that the restored state did not know: log -> size, root."""
    unread: tuple[str, ...] = ()
    """Anchors that could not be read then."""
    unknown: tuple[str, ...] = ()
    """Ids (hex) of keys that signed what is ahead, and that the restored entries do not name."""

    @property
    def lost(self) -> int:
        """How many entries are known to be lost; there may be more that no anchor saw."""
        return max((size - self.size for size, _ in self.ahead.values()), default=0)

    def event(self, who: PrincipalId, run: RunId) -> Event:
        """Return what the ledger records of it."""
        return Event(
            RESTART,
            Ending.DONE,
            who,
            run,
            Activity.COMPLIANCE,
            counts={"size": self.size, "lost": self.lost, **{_AHEAD + log: at for log, (at, _) in self.ahead.items()}},
            digests={"root": self.root.hex(), **{_AHEAD + log: root.hex() for log, (_, root) in self.ahead.items()}},
            facts={
                "closed": self.closed,
                "origin": self.origin,
                **({"unread": " ".join(self.unread)} if self.unread else {}),
                **({"unknown": " ".join(self.unknown)} if self.unknown else {}),
            },
        )

    @classmethod
    def read(cls, found: Entry | Event) -> "Restart":
        """Return what an entry, or the event it will be, says. Raises ValueError when it says something else."""
        try:
            return cls(
                closed=found.facts["closed"],
                size=found.counts["size"],
                root=bytes.fromhex(found.digests["root"]),
                origin=found.facts["origin"],
                ahead={
                    name.removeprefix(_AHEAD): (at, bytes.fromhex(found.digests[name]))
                    for name, at in found.counts.items()
                    if name.startswith(_AHEAD)
                },
                unread=tuple(found.facts.get("unread", "").split()),
                unknown=tuple(found.facts.get("unknown", "").split()),
            )
        except KeyError as error:
            raise ValueError(f"the entry {RESTART} lacks {error.args[0]}") from None


@dataclass(frozen=True, slots=True)
class Chain:
    """All logs of a ledger, in order: the keys they were signed with, and what began each later one."""

    keys: Keys
    restarts: tuple[Restart, ...] = ()

    @classmethod
    def read(cls, keys: Keys, entries: Iterable[Entry]) -> "Chain":
        """Return the chain that the entries called `RESTART` make, oldest first. Raises TamperedError if it breaks."""
        restarts: list[Restart] = []
        first = keys.name
        for entry in entries:
            try:
                found = Restart.read(entry)
            except ValueError as error:
                raise tampered(f"ledger entry {entry.n}: {error}") from None
            before = restarts[-1].origin if restarts else first
            known = {first, *(each.origin for each in restarts)}
            if (found.size, found.closed) != (entry.n, before) or not is_new(first, found.origin, known):
                raise tampered(f"ledger entry {entry.n} does not begin a log where the one before it ends")
            restarts.append(found)
        made = cls(keys, tuple(restarts))
        for change in keys.changes:
            if change.rekey.new.name != made.origin_at(change.size):
                raise tampered(f"ledger entry {change.n} changes the key of another log")
        return made

    @property
    def first(self) -> str:
        """The origin of the ledger's first log."""
        return self.keys.name

    @property
    def origin(self) -> str:
        """The origin of the log that is written to."""
        return self.restarts[-1].origin if self.restarts else self.first

    def origin_at(self, size: int) -> str:
        """Return the origin under which the checkpoint of `size` entries was signed."""
        return next((each.closed for each in self.restarts if size <= each.size), self.origin)

    def end_of(self, origin: str, size: int) -> int | None:
        """Return how many entries the log with `origin` has, of `size` in all; None for a log that is not ours."""
        ends = {each.closed: each.size for each in self.restarts}
        return ends.get(origin, size if origin == self.origin else None)

    def vouched(self, who: str, signed: Signed, size: int, root_at: RootAt) -> int | None:
        """Return how many of our `size` entries `signed`, which `who` holds ("anchor usb"), vouches for.

        That is 0 where it is about entries that a restart has declared lost, and None where it cannot be compared,
        ending among entries that retention removed. Raises TamperedError when it is about entries that are gone or were
        others, when a key signed it that did not sign then, or when another log goes on of which we know nothing.
        """
        end = self.end_of(signed.origin, size)
        if end is not None and signed.size <= end:
            return self._compared(who, signed, root_at)
        if signed.origin == self.origin:
            raise tampered(f"{between(size, signed.size - 1)} gone: {who} holds a checkpoint of {_said(signed)}")
        if not self._is_declared(who, signed):
            raise tampered(
                f"{who} holds {_said(signed)} of the log {log_of(signed.origin)} that this ledger does not know: "
                "guard's state was restored elsewhere, or an old one is still written to"
            )
        return 0

    def require_declared(self, who: str, saw: Sequence[tuple[str, int]], size: int) -> None:
        """Compare with our `size` entries the (origin, size) that `who` says it saw, of which it shows no root.

        Raises TamperedError when they are more than we have of a log, unless a restart names `who` as unread.
        """
        for origin, seen in saw:
            end = self.end_of(origin, size)
            if end is not None and seen <= end:
                continue
            if origin == self.origin:
                raise tampered(f"{between(size, seen - 1)} gone: {who} saw {seen} entries")
            if not self._was_unread(who):
                raise tampered(f"{who} saw {seen} entries of the log {log_of(origin)}, which are not in this ledger")

    def _was_unread(self, who: str) -> bool:
        return any(who == f"anchor {name}" for each in self.restarts for name in each.unread)

    def _compared(self, who: str, signed: Signed, root_at: RootAt) -> int | None:
        root = root_at(signed.size)
        if root is not None and root != signed.root:
            raise tampered(f"{between(0, signed.size - 1)}: not those that {who} holds")
        try:
            self.keys.require_in_force(signed)
        except TamperedError as error:
            raise tampered(f"the checkpoint of {signed.size} entries that {who} holds: {error}") from None
        return None if root is None else signed.size

    def ahead(
        self, found: Mapping[str, Sequence[Signed]], size: int, root_at: RootAt
    ) -> tuple[dict[str, tuple[int, bytes]], tuple[str, ...]]:
        """Return what anchors hold (`found`, by their names) that our `size` entries lack: log -> size, root.

        Beside it the ids of keys that signed some of that, and that we do not know. Raises TamperedError when one holds
        other entries than ours, or two contradict each other.
        """
        ahead: dict[str, tuple[int, bytes]] = {}
        unknown: set[str] = set()
        for who, signed in ((f"anchor {name}", each) for name, notes in found.items() for each in notes):
            end = self.end_of(signed.origin, size)
            if end is not None and (signed.size <= end or signed.origin != self.origin):
                self.vouched(who, signed, size, root_at)
                continue
            log, this = log_of(signed.origin), (signed.size, signed.root)
            if this[0] == ahead.get(log, this)[0] and this != ahead.get(log, this):
                raise tampered(f"two anchors hold different entries 0 to {signed.size - 1} of the log {log}")
            ahead[log] = max(ahead.get(log, this), this)
            unknown |= set(signed.strangers)
        return ahead, tuple(sorted(unknown))

    def _is_declared(self, who: str, signed: Signed) -> bool:
        if self._was_unread(who):
            return True
        if not signed.by and not set(signed.strangers) <= {name for each in self.restarts for name in each.unknown}:
            return False
        log, this = log_of(signed.origin), (signed.size, signed.root)
        known = [each.ahead[log] for each in self.restarts if log in each.ahead]
        return any(signed.size < size or this == (size, root) for size, root in known)


def is_new(first: str, origin: str, known: Iterable[str]) -> bool:
    """Tell whether `origin` may be that of a later log of the ledger whose first one is `first`."""
    return origin == f"{first}/{log_of(origin)}" and origin not in known


def _said(signed: Signed) -> str:
    count = f"{signed.size} entries"
    if signed.by:
        return count
    return f"{count}, signed by the key {' and '.join(signed.strangers)}, which this ledger does not know,"
