"""What still needs a key: values in the shop, objects in the backup stores, rows of state, leases of shop processes.

What cannot be counted raises: a key is not ended on a guess.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from guard.errors import GuardError, InterlockError
from guard.fields import lease, store
from guard.fields.count import heads
from guard.fields.store import Stage

if TYPE_CHECKING:
    from guard.app import App
    from guard.crypto.keyring import KeyInfo
    from guard.state import Tx


def column_of(purpose: str) -> int | None:
    """Return the id of the column whose values or tokens a key makes; None for the key of anything else."""
    kind, _, rest = purpose.partition("/")
    number = rest.partition("/")[0]
    return int(number) if kind in {"column", "index"} and number.isdecimal() else None


def names(app: App) -> dict[int, str]:
    """Return "Table.Column" of each column by its id: as the accepted catalog calls it, else as it was sealed."""
    with app.state.read() as tx:
        found = {record.column_id: record.at for record in store.every(tx)}
    try:
        return found | {column.id: column.at for column in app.catalog.column}
    except GuardError:  # another catalog than the accepted one; what is told of keys does not hang on it
        return found


def under_others(app: App, column_id: int, current: KeyInfo) -> tuple[str, int]:
    """Return "Table.Column" and how much of it, values or token columns, is not under the version that seals."""
    at, values = values_under(app, column_id)
    mine = {key.id for key in app.keyring.list() if key.purpose == current.purpose and key.state == "old"}
    if current.purpose.startswith("index/"):
        with app.state.read() as tx:
            return at, sum(each.key_id in mine for each in store.indexes(tx, column_id))
    return at, sum(count for key_id, count in values.items() if key_id in mine)


def values_under(app: App, column_id: int) -> tuple[str, dict[int, int]]:
    """Return "Table.Column" and how many of its values name each key.

    Raises InterlockError when the column is sealed, but the shop has it no more.
    """
    record = next((each for each in app.fields.records() if each.column_id == column_id), None)
    known = next((each.at for each in app.catalog.column if each.id == column_id), None)
    at = known or (record.at if record else "")
    name, _, column = at.partition(".")
    table = app.shop.tables(fresh=True).get(name)
    if table is None or table.find(column) is None:
        if record is None or record.stage is Stage.PLAIN:
            return at, {}
        raise InterlockError(
            f"the shop has no column {at} any more, so what is sealed in it cannot be counted",
            hint="data rename follows a column that was renamed; a dropped one: bring it back, or guard fields decrypt",
        )
    with app.shop.read() as connection:
        return at, dict(heads(app.shop, connection, table, column))


def outside(app: App, key: KeyInfo) -> tuple[str, ...]:
    """Return what needs a key outside of state, in words. Raises what a shop or store raises that does not answer."""
    column_id = column_of(key.purpose)
    if column_id is not None and key.purpose.startswith("column/"):
        at, found = values_under(app, column_id)
        count = found.get(key.id, 0)
        return (f"{count} values in {at}",) if count else ()
    if key.purpose == "repository":
        counted = app.backups.objects_under(key.version)
        for error in counted.failed.values():
            raise error
        return tuple(f"{count} objects in store {name}" for name, count in counted.done.items() if count)
    return ()


def within(app: App, key: KeyInfo) -> Callable[[Tx], Sequence[str]]:
    """Return the function that says, in a transaction of state, what needs a key there: rows, and leases on it."""

    def look(tx: Tx) -> Sequence[str]:
        out = [f"the token column {each.name}" for each in store.indexes(tx) if each.key_id == key.id]
        if key.purpose == "totp" and (count := app.access.secrets_under(tx, key.id)):
            out.append(f"the second factors of {count} people")
        if key.purpose == "totp" and (count := app.access.requests_under(tx, key.id)):
            out.append(f"{count} requests that wait")
        if live := lease.live(tx, app.clock.now(), key.id):
            last = max(each.until for each in live)
            out.append(f"{len(live)} leases of the shop's processes, the last until {last:%Y-%m-%d %H:%M} UTC")
        return out

    return look


def all_of(app: App, key: KeyInfo) -> tuple[str, ...]:
    """Return everything that needs a key, for a plan."""
    with app.state.read() as tx:
        inside = within(app, key)(tx)
    return (*inside, *outside(app, key))
