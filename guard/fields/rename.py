"""What follows when the shop renames a table or a column: what is remembered, and what guard hung on the column.

Sealed values are not touched: they name their column by its id, and their row by the values of its key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from guard.fields import store
from guard.fields.store import Filling, IndexRecord, Record, Stage
from guard.shop import Shop
from guard.shop.rehang import Hung, rehang, token_now
from guard.shop.rename import Rename
from guard.state import State, Tx


def follow(shop: Shop, state: State, rename: Rename) -> Callable[[Tx], None]:
    """Hang guard's triggers and indexes anew; return the work that notes the new names.

    Values open as before. It may be ended anywhere and done again. Raises BusyError while others keep a table locked.
    """
    with state.read() as tx:
        records, indexes = store.every(tx), store.indexes(tx)
    rehang(shop, rename, hung(records, indexes))

    def work(tx: Tx) -> None:
        at = {record.column_id: record.at for record in store.every(tx)}
        for index in store.indexes(tx):
            store.keep_index(tx, replace(index, name=token_now(rename, at[index.column_id], index.name)))
        for record in followed(store.every(tx), rename):
            store.keep(tx, record)

    return work


def row_keys(records: Iterable[Record]) -> dict[int, tuple[str, ...]]:
    """Return the columns ("Table.Column") that name the rows of each column something is sealed in, by its id."""
    return {
        record.column_id: tuple(f"{record.at.partition('.')[0]}.{name}" for name in record.key_columns)
        for record in records
        if record.stage is not Stage.PLAIN
    }


def followed(records: Iterable[Record], rename: Rename) -> tuple[Record, ...]:
    """Return the records that say something else under the new names."""
    return tuple(new for old in records if (new := _follow(old, rename)) != old)


def hung(records: Iterable[Record], indexes: Sequence[IndexRecord]) -> tuple[Hung, ...]:
    """Return what stands on the columns of `records` by what is remembered of them."""
    found = []
    for record in records:
        mine = [each for each in indexes if each.column_id == record.column_id]
        written = [each for each in mine if each.stage is not Filling.LEAVING]
        if mine:
            unique = all(each.is_unique for each in mine)
            fence = unique and any(each.stage is Filling.READY for each in mine)
            leaving = tuple(each.name for each in mine if each.stage is Filling.LEAVING)
            names = tuple(each.name for each in written)
            guarded = bool(written) and record.stage is not Stage.OPENING
            found.append(Hung(record.at, names, leaving, unique, guarded, fence, record.stage.seals))
    return tuple(found)


def _follow(record: Record, rename: Rename) -> Record:
    table = record.at.partition(".")[0]
    key = tuple(rename.part(table, name) for name in record.key_columns)
    return replace(record, at=rename.at(record.at), key_columns=key)
