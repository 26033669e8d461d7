"""Cells from what is remembered of a column: its keys are looked up, nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from guard.crypto.budget import Budget
from guard.crypto.keyring import Keyring
from guard.crypto.subjects import SubjectKeys
from guard.fields.kinds import spelling_of
from guard.fields.store import Filling, IndexRecord, Record
from guard.fields.value import Cell, CellSpec, Means, TokenSpec, purpose


@dataclass(frozen=True, slots=True)
class Keys:
    """Where the keys of cells come from. `subjects` is None where there is no vault."""

    store_id: UUID
    keyring: Keyring
    dialect: str
    """The shop's database: it decides how values are written as texts."""
    budget: Budget | None = None
    subjects: SubjectKeys | None = None

    def spec(self, record: Record, indexes: Iterable[IndexRecord] = ()) -> CellSpec:
        """Return what the cell of a column is made of, with the tokens of the token columns that are to be filled.

        Raises InterlockError when the column has no key.
        """
        person = (record.subject, record.class_) if record.subject and record.class_ else None
        return CellSpec(
            self.store_id,
            record.column_id,
            record.at,
            record.binding,
            record.form,
            spelling_of(self.dialect, record.kind, record.original_type),
            self.keyring.current("digest").material,
            None if person else self.keyring.current(purpose(record.column_id, tight=record.tight)),
            person,
            tuple(
                TokenSpec(index.name, index.normaliser, index.size, self.keyring.by_id(index.key_id))
                for index in indexes
                if index.column_id == record.column_id and index.stage is not Filling.LEAVING
            ),
        )

    def cell(self, record: Record, indexes: Iterable[IndexRecord] = ()) -> Cell:
        """Return the cell of a column. What it opens may name any key of the column that is not retired."""
        return Cell(self.spec(record, indexes), self.means())

    def means(self) -> Means:
        """Return what a cell asks while it works."""
        return Means(self.keyring.by_id, self.budget, self.subjects)

    def opening(self, record: Record) -> tuple[int, ...]:
        """Return the ids of the keys a column's values may name, for those who cannot ask."""
        names = {purpose(record.column_id), purpose(record.column_id, tight=True)}
        return tuple(key.id for key in self.keyring.list() if key.purpose in names and key.opens)
