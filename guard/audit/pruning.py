"""What retention removes now, and the removal: the record of it first, then the entries, some at a time.

A kill leaves entries below the minimum index that are still there and still right; the next run removes them.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Final

from guard import faults
from guard.audit import entry, prune, store
from guard.audit.prune import PRUNE, STANDING, Prune, names_minimum
from guard.audit.store import Kind
from guard.audit.walk import BLOCK
from guard.errors import BusyError, InterlockError
from guard.events import PrincipalId, Progress, RunId
from guard.state import State, Tx

_AT_ONCE: Final = 16
"""Blocks that go in one transaction: some 0.2 s on a busy machine, in which nobody else writes."""

_LONGEST: Final = 50_000
"""Characters of the list of what stays: an entry has room for little more."""

Keep = Callable[[], Collection[int]]
"""Gives numbers of entries that stay, beside those that the ledger itself needs."""


@dataclass(frozen=True, slots=True)
class Pruning:
    """What is removed."""

    prune: Prune
    blocks: tuple[int, ...]
    """The numbers of the blocks that go."""
    before: int = 0
    """The minimum index until now."""
    begun: bool = False
    """Whether an earlier run has recorded it, and did not come to its end."""

    @property
    def entries(self) -> int:
        """How many entries go."""
        return len(self.blocks) * BLOCK

    @property
    def kept(self) -> int:
        """How many entries stay among them."""
        return len(self.prune.kept) * BLOCK


def plan(tx: Tx, before: datetime, keep: Keep) -> Pruning | None:
    """Return what is to be removed of the entries recorded before a time; None when there is nothing."""
    last = prune.pruned(tx)
    end = store.first_since(tx, before) // BLOCK
    here = store.blocks(tx, max(end * BLOCK, last.minimum), BLOCK)
    first = last.minimum // BLOCK
    if left := tuple(each for each in here if each < first and each not in last.kept):
        return Pruning(Prune(last.minimum, last.root, last.kept), left, last.minimum, begun=True)
    fresh = [each for each in here if first <= each < end]
    if not fresh:
        return None
    stays = {n // BLOCK for n in (*_needed(tx, end * BLOCK), *keep())}
    made = _fitting(tx, [each for each in fresh if each in stays], (first, end))
    going = tuple(each for each in fresh if each < made.minimum // BLOCK and each not in made.kept)
    return Pruning(made, going, last.minimum) if going else None


def _fitting(tx: Tx, kept: list[int], blocks: tuple[int, int]) -> Prune:
    """Return the removal between two blocks, or the first part of it for which the list of what stays fits an entry."""
    first, end = blocks
    while True:
        minimum = end * BLOCK
        made = Prune(minimum, prune.root_at(tx, minimum) or b"", frozenset(each for each in kept if each < end))
        if len(made.text) <= _LONGEST:
            return made
        end = (first + end) // 2


def carry_out(state: State, what: Pruning, told: tuple[PrincipalId, RunId], progress: Progress) -> None:
    """Record what is removed, as `told` says by whom and in which run, and remove it.

    Raises BusyError when another run has removed entries since it was planned.
    """
    if not what.begun:
        state.write(lambda tx: _begin(tx, what), what.prune.event(*told))
        faults.point("audit.prune.recorded")
    done = 0
    while done < len(what.blocks):
        some = what.blocks[done : done + _AT_ONCE]
        state.write(lambda tx, some=some: _remove(tx, some))  # type: ignore[misc]  # mypy knows no default of a lambda
        done += len(some)
        progress("entries removed", done * BLOCK, what.entries)
        faults.point("audit.prune.removed")


def _begin(tx: Tx, what: Pruning) -> None:
    if prune.pruned(tx).minimum != what.before:
        raise BusyError("another run has removed entries of the ledger meanwhile", hint="run it again")
    store.drop_kept(tx, what.prune.minimum)


def require_vouched(what: Pruning, anchors: Iterable[tuple[str, int | None]]) -> None:
    """Raise InterlockError unless every anchor, given as (name, size it vouches for), vouches for all that goes."""
    for name, size in anchors:
        if (size or 0) < what.prune.minimum:
            raise InterlockError(
                f"anchor {name} vouches for {size or 0} entries only, and those below {what.prune.minimum} are to go",
                hint="`guard audit anchor` gives it the newest checkpoint; an anchor that is no more leaves guard.toml",
            )


def _needed(tx: Tx, minimum: int) -> Iterator[int]:
    """Yield the numbers of entries that the ledger is read by, and of those that end the commit of a change of key."""
    for row in store.rows_called(tx, STANDING, minimum):
        if row.what != PRUNE or names_minimum(entry.read(row.leaf)):
            yield row.n
    yield from (size - 1 for size, kind, _ in store.checkpoints(tx) if kind == Kind.REKEYED)


def _remove(tx: Tx, blocks: tuple[int, ...]) -> None:
    for _, run in groupby(enumerate(blocks), key=lambda pair: pair[1] - pair[0]):
        first, *rest = [block for _, block in run]
        store.remove(tx, first * BLOCK, ((rest[-1] if rest else first) + 1) * BLOCK)
