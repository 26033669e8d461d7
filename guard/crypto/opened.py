"""What was opened for people, in memory: little, for a minute, and nothing of it in a forked child."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final, Generic, Protocol, TypeVar

from guard.clock import Clock
from guard.crypto import xaes

KEPT: Final = timedelta(seconds=60)
"""How long an opened key of an epoch or a person is used without looking again. Source: DESIGN 1, leases."""

MOST: Final = 10_000
"""Keys kept: more than a batch of a sweep has rows, and some MB."""

Owner = tuple[bytes, str]
"""Whom it belongs to, as it is looked up: a person's digest and a class of data, or a pseudonym."""


class Numbered(Protocol):
    """What has the id of a key: the key, or what was opened with it."""

    @property
    def id(self) -> int:
        """The key's id."""
        ...


V = TypeVar("V", bound=Numbered)


def is_fresh(kept_at: datetime, now: datetime) -> bool:
    """Tell whether what was opened at `kept_at` may still be used; not after the clock went back."""
    return timedelta() <= now - kept_at <= KEPT


class Opened(Generic[V]):
    """The most recently used keys, or what was opened with them. May be shared by threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._swept_at = clock.now()
        self._begin()

    def by_id(self, key_id: int) -> V | None:
        """Return a kept key; None when there is none of this id, or it was opened more than a minute ago."""
        now = self._clock.now()
        with self._held(now):
            found = self._keys.get(key_id)
            if found is None or not is_fresh(found[0], now):
                return None
            self._keys.move_to_end(key_id)
            return found[1]

    def of(self, owner: Owner) -> V | None:
        """Return the kept key of a person and class."""
        key_id = self._ids.get(owner)
        return None if key_id is None else self.by_id(key_id)

    def keep(self, keys: Iterable[tuple[Owner, V]]) -> None:
        """Keep keys that were just opened or made."""
        now = self._clock.now()
        with self._held(now):
            for owner, key in keys:
                self._keys[key.id] = now, key, owner
                self._keys.move_to_end(key.id)
                self._ids[owner] = key.id
            while len(self._keys) > MOST:
                self._drop(next(iter(self._keys)))

    def clear(self) -> None:
        """Drop every key, and what the ciphers keep of them."""
        with self._held(self._clock.now()):
            self._keys.clear()
            self._ids.clear()
        xaes.clear()

    def __len__(self) -> int:
        return len(self._keys)

    def _held(self, now: datetime) -> threading.Lock:
        """Return the lock, in a forked child a new one with nothing kept; once a minute what is too old is dropped."""
        if self._generation != xaes.PROCESS.generation:
            self._begin()
        if not is_fresh(self._swept_at, now):
            self._swept_at = now
            with self._lock:
                for key_id in [key_id for key_id, (at, _, _) in self._keys.items() if not is_fresh(at, now)]:
                    self._drop(key_id)
            xaes.clear()
        return self._lock

    def _begin(self) -> None:
        self._generation = xaes.PROCESS.generation
        self._lock = threading.Lock()
        self._keys: OrderedDict[int, tuple[datetime, V, Owner]] = OrderedDict()
        self._ids: dict[Owner, int] = {}

    def _drop(self, key_id: int) -> None:
        _, _, owner = self._keys.pop(key_id)
        if self._ids.get(owner) == key_id:
            del self._ids[owner]
