"""The columns as they stand now, for processes of the shop: what to write, what to read, what to search by.

A `View` is what state said at one moment; `guard.fields.keys` keeps it fresh. Nothing here touches the shop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from guard.crypto.blind import LONGEST, Tokenizer
from guard.crypto.subjects import SHREDDED
from guard.errors import ConfigError, TamperedError
from guard.fields.lease import STALE, TERM, Lease
from guard.fields.store import Bind, Filling, IndexRecord, Stage
from guard.fields.value import CellSpec


class Seals(Protocol):
    """What seals and opens the values of a column: a `guard.fields.value.Cell`, or the agent for this process."""

    @property
    def spec(self) -> CellSpec:
        """What the column is made of, as far as this process has it."""
        ...

    def seal_all(self, bounds: Sequence[bytes], values: Sequence[Any]) -> Sequence[object]:
        """Return each value as the column stores it, sealed for its place."""
        ...

    def open_one(self, bound: bytes, stored: object) -> object:
        """Return one value; `SHREDDED` where its person's key was."""
        ...


@dataclass(frozen=True, slots=True)
class Token:
    """One token column: what lies in it, and who makes what goes into it."""

    record: IndexRecord
    of: Tokenizer

    @property
    def name(self) -> str:
        """The column's name in the shop's table."""
        return self.record.name

    @property
    def exact(self) -> bool:
        """Whether equal tokens mean equal normal forms; shorter ones only rule rows out."""
        return self.record.size == LONGEST


@dataclass(frozen=True, slots=True)
class Live:
    """One column as it stands now. `cell` is None as long as nothing is sealed in it."""

    at: str
    bind: Bind
    stage: Stage
    bound_by: tuple[str, ...] = ()
    """The columns of a row that name what its value is bound to: its key, its person's, or nothing."""
    index: str | None = None
    """The normaliser the catalog names; None where the column is not searchable."""
    tokens: tuple[Token, ...] = ()
    cell: Seals | None = None

    @property
    def ready(self) -> Token | None:
        """The token column that finds every row which has tokens; None before there is one."""
        return next((token for token in self.tokens if token.record.stage is Filling.READY), None)

    @property
    def keys(self) -> frozenset[int]:
        """The keys that make what this column is given: what a lease on it names."""
        made = {token.record.key_id for token in self.tokens}
        key = self.cell.spec.key if self.cell and self.stage.seals else None
        return frozenset(made | {key.id} if key else made)

    def seal(self, bounds: Sequence[bytes], values: Sequence[object]) -> list[object]:
        """Return each value as the shop stores it, sealed for its place."""
        return list(self._cell.seal_all(bounds, values))

    def open(self, bound: bytes, stored: object) -> object:
        """Return the value that was sealed for its place; None where its person's key was shredded.

        Raises TamperedError when it was sealed for another place, or is not what was sealed.
        """
        found: object = self.cell.open_one(bound, stored) if self.cell else self._cell
        return None if found is SHREDDED else found

    def explains(self, *, sealed: bool) -> bool:
        """Say whether a value that looks sealed, or does not, can have been written under this view."""
        return self.cell is not None if sealed else self.stage is not Stage.STRICT

    def refuse(self, *, sealed: bool) -> None:
        """Raise TamperedError for plain text in a finished column. What was never sealed is as it is."""
        if self.stage is Stage.STRICT and not sealed:
            raise TamperedError(
                f"{self.at} is finished, but a row of it holds plain text",
                hint="somebody wrote past the seal; guard fields verify counts such rows",
            )

    @property
    def _cell(self) -> Seals:
        if self.cell is None:
            raise LookupError(self.at)
        return self.cell


@dataclass(frozen=True, slots=True)
class View:
    """What state said at `seen`. `mark` is another one whenever something in it is."""

    mark: str
    seen: datetime
    columns: Mapping[str, Live]
    lease: Lease | None = None
    until: datetime = field(init=False)
    """When another look is due."""

    def __post_init__(self) -> None:
        until = self.seen + STALE
        object.__setattr__(self, "until", until if self.lease is None else min(until, self.lease.until - TERM / 2))

    def holds(self, now: datetime) -> bool:
        """Say whether it may be used at `now` without another look. Asked for every value that is read."""
        return self.seen <= now < self.until

    def endures(self, now: datetime) -> bool:
        """Say whether it may be used while state does not answer: as long as its lease keeps its keys alive."""
        return self.lease is not None and self.lease.since <= now < self.lease.until

    def keys(self) -> frozenset[int]:
        """Return the keys a lease on all columns names."""
        return frozenset().union(*(live.keys for live in self.columns.values()))

    def column(self, at: str) -> Live:
        """Return a column. Raises ConfigError when guard does not know it."""
        if (found := self.columns.get(at)) is None:
            raise ConfigError(
                f'{at} is not in the accepted catalog with protect = "encrypt"',
                hint="guard data accept comes before the shop's code protects a column; guard data catalog lists them",
            )
        return found
