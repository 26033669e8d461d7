"""What stands on a column in the database: triggers of the shop that work with it, and guard's own where they belong.

A shop's triggers change with its releases; those that came after sealing were never judged by a plan.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from guard.fields.store import Filling, IndexRecord, Record, Stage
from guard.shop import Shop, Table, Trigger, alter
from guard.shop.catalog import mentions

_WHAT = {
    "follow": "guard's trigger that empties tokens which are not the value's",
    "fence": "guard's trigger that refuses values without seal or token",
}


def meddling(table: Table, column: str) -> Iterator[Trigger]:
    """Yield the shop's triggers that could change or copy values of a column, sealed ones as well."""
    for trigger in table.triggers:
        if (trigger.on_update and mentions(trigger.sql, column)) or assigns(trigger.sql, column):
            yield trigger


def assigns(sql: str, column: str) -> bool:
    """Say whether the text of a trigger sets a column: `NEW.column :=`, `UPDATE ... SET column =`, `INTO NEW.column`.

    A comparison right behind a comma is taken for a setting.
    """
    name = rf"[\"`\[]?(?<!\w){re.escape(column)}(?!\w)[\"`\]]?"
    new = rf"\bNEW\s*\.\s*{name}"
    return any(
        re.search(pattern, sql, re.IGNORECASE | re.DOTALL)
        for pattern in (
            rf"{new}\s*:=",
            rf"(?:^|;|,|\bBEGIN|\bTHEN|\bELSE|\bLOOP|\bSET)\s*{new}\s*=",
            rf"\bINTO\s+(?:STRICT\s+)?(?:[^;]*?,\s*)?{new}",
            rf"\bUPDATE\b[^;]*?\bSET\b(?:[^;]*?,)?\s*\(?\s*{name}\s*[=,)]",
        )
    )


def amiss(shop: Shop, table: Table, column: str, record: Record, indexes: Sequence[IndexRecord]) -> tuple[str, ...]:
    """Return what stands on a sealed column and should not, and what should and does not, in words."""
    found = [
        f"the shop's trigger {trigger.name} works with it and could change or copy it; drop it, or let it leave"
        f" {column} alone"
        for trigger in meddling(table, column)
    ]
    if wanted := _wanted(record, indexes):
        found += [
            f"{_WHAT[kind]} is gone or disabled; guard fields encrypt makes it anew"
            for kind in sorted(wanted - alter.guards(shop, table, column))
        ]
    return tuple(found)


def _wanted(record: Record, indexes: Sequence[IndexRecord]) -> frozenset[str]:
    """Return the triggers of guard that stand while nothing is under way."""
    mine = [each for each in indexes if each.column_id == record.column_id]
    if record.stage not in {Stage.SEALED, Stage.STRICT} or not any(each.stage is Filling.READY for each in mine):
        return frozenset()
    return frozenset({"follow", "fence"} if all(each.is_unique for each in mine) else {"follow"})
