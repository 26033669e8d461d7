"""How the values of a column spread over their normal forms: how many differ, how many fall together. No value is kept.

A normal form is counted by 64 bits of a digest under a key that lives as long as the count: 8 bytes of memory a value.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from itertools import groupby
from math import log2

from guard.crypto.random import token

_BUCKETS = 256
_LEAST_BITS = 6.0
"""Fewer than 64 equally likely values are found by their frequency alone: CipherSweet and the AWS Database Encryption
SDK both warn of searchable fields of low cardinality; the bound is our own."""
_TOO_FEW = 16
"""So few values say nothing about how a column spreads."""


@dataclass(frozen=True, slots=True)
class Spread:
    """What was counted. Two of 10 million forms are taken for one with a probability of 3 in 10^6."""

    values: int
    """Values that have a normal form."""
    distinct: int
    bits: float
    """Shannon entropy of the normal forms."""
    formless: int = 0
    """Values that have none, e.g. a phone number without digits: they are not found by a search."""

    @property
    def falling(self) -> int:
        """How many values have a normal form that another value has already."""
        return self.values - self.distinct

    @property
    def low(self) -> bool:
        """Whether a search index would give the values away: few forms, each shared by more than two rows."""
        return self.values >= _TOO_FEW and self.bits < min(_LEAST_BITS, log2(self.values) - 1)


class Tally:
    """Counts normal forms as they go by."""

    def __init__(self) -> None:
        self._key = token(32)
        self._seen = [array("Q") for _ in range(_BUCKETS)]
        self._formless = 0

    def add(self, forms: Iterable[bytes | None]) -> None:
        """Count `forms`; None stands for a value that has none."""
        seen, key = self._seen, self._key
        for form in forms:
            if form is None:
                self._formless += 1
            else:
                digest = blake2b(form, digest_size=8, key=key).digest()
                seen[digest[0]].append(int.from_bytes(digest, "big"))

    def digest(self, form: bytes) -> int:
        """Return what `shared` knows a form by."""
        return int.from_bytes(blake2b(form, digest_size=8, key=self._key).digest(), "big")

    def shared(self) -> frozenset[int]:
        """Return the digests of the forms that were counted more than once."""
        return frozenset(
            digest for bucket in self._seen for digest, same in groupby(sorted(bucket)) if sum(1 for _ in same) > 1
        )

    def spread(self) -> Spread:
        """Return what was counted so far."""
        values = sum(map(len, self._seen))
        distinct, weight = 0, 0.0
        for count in self._counts():
            distinct += 1
            weight += count * log2(count)
        bits = log2(values) - weight / values if values else 0.0
        return Spread(values, distinct, max(0.0, bits), self._formless)

    def _counts(self) -> Iterator[int]:
        for bucket in self._seen:
            yield from (sum(1 for _ in same) for _, same in groupby(sorted(bucket)))
