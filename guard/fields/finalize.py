"""Finish sealed columns: clear what the database still holds of old values, and name every place that keeps some."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from guard.errors import InterlockError
from guard.fields.count import count
from guard.shop import Shop
from guard.shop.remains import Remains
from guard.shop.scrub import scrub

Copies = Callable[[], tuple[Remains, ...]]
"""Tells guard's own backups of the shop as it was until now."""


def finish(shop: Shop, columns: Iterable[tuple[str, str]], copies: Copies) -> tuple[Remains, ...]:
    """Write the tables of `columns` (table, name) anew; return where old values may remain, backups included.

    It may be ended anywhere and done again. Raises InterlockError when the shop wrote plain values meanwhile, BusyError
    while others hold a table or read an old state of it, UnavailableError where guard's account may not.
    """
    wanted: dict[str, list[str]] = {}
    for table, name in columns:
        wanted.setdefault(table, []).append(name)
    remains = (*scrub(shop, wanted), *copies())
    shop.tables(fresh=True)
    for table, names in wanted.items():
        for name in names:
            _require_sealed(shop, table, name)
    return remains


def _require_sealed(shop: Shop, table: str, name: str) -> None:
    with shop.read() as connection:
        found = count(shop, connection, shop.table(table), name)
    if plain := found.plain + found.other:
        raise InterlockError(
            f"{table}.{name}: the shop wrote {plain} values in plain text meanwhile",
            hint="guard fields encrypt seals them; then finalize again",
        )
