"""How many values each AES-256-GCM key has sealed, over all processes of a store. FORMATS 2.

Its nonces are 96 random bits, so what keeps them from meeting is their number. State counts them in blocks, before they
are used: a process that dies loses what is left of its block, and none is ever used twice.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Final

from guard import faults
from guard.crypto import store, xaes
from guard.errors import InterlockError
from guard.state import State, Tx

BLOCK: Final = 1 << 20
"""How many values a process reserves at a time."""

LIMIT: Final = 1 << 31
"""The most values a key seals: half of what NIST SP 800-38D 8.3 allows for random nonces, so that even a state that was
restored from a backup once, and counts again what it had counted, stays within it."""


@dataclass(slots=True)
class _Purse:
    """What is left of this process's blocks, by key."""

    generation: int
    left: dict[int, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


class Budget:
    """Counts the values of alg 1, in state. May be shared by threads; a forked child begins with blocks of its own."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._purse = _Purse(xaes.PROCESS.generation)

    def take(self, key_id: int, count: int) -> None:
        """Count `count` values that are about to be sealed; writes to state when this process's block does not do.

        Raises InterlockError when the key has sealed all that it may, RuntimeError within a work of state's writer that
        would have to reserve.
        """
        purse = self._own()
        with purse.lock:
            have = purse.left.get(key_id, 0)
            purse.left[key_id] = max(have - count, 0)
        if count <= have:
            return
        try:  # without the lock: the writer may be leading a work that waits for it
            granted = self._reserve(key_id, count - have)
        except BaseException:
            self._put(purse, key_id, have)
            raise
        self._put(purse, key_id, have + granted - count)

    def give_back(self) -> None:
        """Return what is left of this process's blocks, at its end: what was never used need not count."""
        purse = self._own()
        with purse.lock:
            left, purse.left = purse.left, {}
        faults.point("crypto.budget.dropped")

        def work(tx: Tx) -> None:
            for key_id, count in left.items():
                store.reserve(tx, key_id, -count)

        if any(left.values()):
            self._state.write(work)

    def reserved(self, key_id: int) -> int:
        """Return how many of the `LIMIT` values of a key are used or reserved by a process."""
        with self._state.read() as tx:
            return store.reserved(tx, key_id)

    def _own(self) -> _Purse:
        purse = self._purse
        if purse.generation != xaes.PROCESS.generation:  # the parent goes on with what is left of its blocks
            purse = self._purse = _Purse(xaes.PROCESS.generation)
        return purse

    def _put(self, purse: _Purse, key_id: int, count: int) -> None:
        with purse.lock:
            purse.left[key_id] = purse.left.get(key_id, 0) + count

    def _reserve(self, key_id: int, short: int) -> int:
        """Reserve at least `short` values, in whole blocks as far as the limit lets, and return how many."""

        def work(tx: Tx) -> int:
            free = LIMIT - store.reserved(tx, key_id)
            if short > free:
                raise InterlockError(
                    f"key {key_id:010x} has sealed all the values that one AES-256-GCM key may: 2^31",
                    hint="give the column a new key: guard keys rotate",
                )
            granted = min(-(-short // BLOCK) * BLOCK, free)
            store.reserve(tx, key_id, granted)
            return granted

        granted = self._state.write(work)
        faults.point("crypto.budget.reserved")
        return granted
