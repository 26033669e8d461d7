"""The life of a blind index: token columns that are filled, kept true, made unique, rotated and taken away again.

Every step may be done twice, and state is told so that whoever writes tokens does so before anybody relies on them, and
stops before they go. A run that was killed anywhere is simply made again.

A unique column stays unique throughout. While its values are plain, the shop's own constraint sees two alike. Before
the first one is sealed all rows have tokens under a unique index, and the fence refuses a value without its token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import floor, log2
from typing import Final

from sqlalchemy.exc import IntegrityError

from guard import faults
from guard.config import Column
from guard.crypto.blind import LONGEST
from guard.crypto.keyring import Key
from guard.errors import GuardError, InterlockError
from guard.events import Progress, RunId, silent
from guard.fields import store
from guard.fields.distinct import distinct
from guard.fields.lease import SEEN
from guard.fields.store import Filling, IndexRecord, Record
from guard.fields.sweep import Outcome, Tools, fill_tokens
from guard.shop import Table, alter
from guard.shop.names import token_column
from guard.state import Tx

_PASSES: Final = 5


@dataclass(frozen=True, slots=True)
class Work:
    """One column whose index is worked on, and who is told how far it is."""

    tools: Tools
    column: Column
    record: Record
    run: RunId
    tell: Progress

    @property
    def table(self) -> Table:
        """The shop's table, as it is now."""
        return self.tools.shop.table(self.column.table)


def purpose(column: Column) -> str:
    """Return the keyring's purpose for a column's index key."""
    return f"index/{column.id}/{column.index}"


def size_of(different: int, *, unique: bool) -> int:
    """Return the bytes of a token in a column of so many different values: all 16 where it is to be unique, else few.

    floor(log2(different)) - 1 bits at most, rounded down to whole bytes: each token then stands for two values or more
    on average, and says which rows may be alike, not which are. One byte is the least, so that of fewer than 512
    different values most have a token of their own, and show how often each is there.

    Source: "Choosing a beacon length", AWS Database Encryption SDK developer guide: of `different` values p and b bits,
    2 <= p * 2^-b < sqrt(p), the shorter where it can be. Only from 2^16 to 2^17 values is a byte shorter than that.
    """
    return LONGEST if unique else max(1, (floor(log2(max(different, 1))) - 1) // 8)


def prepare(tools: Tools, column: Column, record: Record, run: RunId, tell: Progress) -> int:
    """Give every value of a column its token under the current index key; return how many were made.

    Called before the first value is sealed, and again whenever the column is looked after: then a rotation of the index
    key is carried out, or gone on with. Both token columns are written, and unique, until the new one holds every row;
    then the old one goes. Raises InterlockError when values of a unique column are alike once normalised (how many,
    never which), and when it has values that get no token.
    """
    work = Work(tools, column, record, run, tell)
    found = _records(work)
    if other := [each.normaliser for each in found if each.normaliser != column.index]:
        raise InterlockError(
            f'{column.at} is searched by index = "{other[0]}", but the catalog says "{column.index}"',
            hint="decrypt the column before its index changes",
        )
    if any(each.stage is Filling.READY for each in found):
        return _kept(work)
    _sweep_out(work)
    index = found[0] if found else _new(work, tools.keyring.ensure(purpose(column)))
    made = _fill(work, index, ())
    _keep(tools, replace(index, stage=Filling.READY))
    faults.point("fields.index.ready")
    tools.clock.sleep(SEEN)
    return made


def remove(tools: Tools, column: Column, record: Record) -> None:
    """Take a column's index away: the triggers, what state knows, and once nobody writes them any more the tokens."""
    work = Work(tools, column, record, RunId(""), silent)
    if found := _records(work):
        alter.unguard(tools.shop, work.table, column.name)
        faults.point("fields.index.unguarded")
        for each in found:
            _forget(tools, each)
        tools.clock.sleep(SEEN)
    _sweep_out(work)


def _kept(work: Work) -> int:
    """Look after an index that stands: rotate it where its key is another now, and close what gaps there are."""
    made = 0
    _leave(work)
    while (old := _ready(work)).key_id != (key := work.tools.keyring.current(purpose(work.column))).id:
        new = next((each for each in _records(work) if each.stage is Filling.FILLING), None) or _new(work, key)
        made += _fill(work, new, (old,))
        _keep(work.tools, replace(new, stage=Filling.READY), replace(old, stage=Filling.LEAVING))
        faults.point("fields.index.flipped")
        work.tools.clock.sleep(SEEN)
        _leave(work)
    _sweep_out(work)
    _close(work, _records(work))
    return made + sum(_complete(work, each) for each in _records(work))


def _new(work: Work, key: Key) -> IndexRecord:
    column = work.column
    unique = any(index.unique and index.is_on(column.name) for index in work.table.indexes)
    name = token_column(column.name, key.version)
    made = IndexRecord(column.id, key.version, name, key.id, str(column.index), LONGEST, unique, Filling.FILLING)
    return made if unique else replace(made, size=size_of(distinct(work.tools, work.record, made), unique=False))


def _fill(work: Work, index: IndexRecord, beside: Sequence[IndexRecord]) -> int:
    """Add a token column, let writers fill it, fill in the rest, build its index, and close the last gap."""
    shop, names = work.tools.shop, [*(each.name for each in beside), index.name]
    alter.add_token(shop, work.table, index.name)
    faults.point("fields.index.added")
    alter.follow(shop, work.table, work.column.name, names)
    faults.point("fields.index.following")
    _keep(work.tools, index)
    faults.point("fields.index.told")
    work.tools.clock.sleep(SEEN)
    if beside:  # nothing but what makes tokens writes values here any more, and it makes both of them now
        _close(work, (*beside, index))
    filled = _filled(work, index).rows
    faults.point("fields.index.filled")
    alter.index_token(shop, work.table, index.name, unique=index.is_unique)
    faults.point("fields.index.built")
    _close(work, (*beside, index))
    return filled + _complete(work, index)


def _close(work: Work, indexes: Sequence[IndexRecord]) -> None:
    """Let both triggers stand on the token columns that are written now. The fence is for unique columns."""
    shop, table, name = work.tools.shop, work.table, work.column.name
    names = [each.name for each in indexes]
    alter.follow(shop, table, name, names)
    if all(each.is_unique for each in indexes):
        alter.fence(shop, table, name, names, plain=not work.record.stage.seals)
    faults.point("fields.index.closed")


def _complete(work: Work, index: IndexRecord) -> int:
    """Fill in what was written without a token meanwhile. Raises InterlockError when that leaves a gap that matters."""
    outcome = _filled(work, index)
    done = outcome.rows
    for _ in range(_PASSES):
        if not outcome.left or not (outcome.rows or index.is_unique):
            break
        outcome = _filled(work, index)
        done += outcome.rows
    if index.is_unique and outcome.left:
        raise InterlockError(
            f"{work.column.at}: {outcome.left} values have no token, so nothing would keep them unique",
            hint=f'they hold nothing that index = "{index.normaliser}" reads: correct them in the shop',
        )
    return done


def _filled(work: Work, index: IndexRecord) -> Outcome:
    try:
        return fill_tokens(work.tools, work.record, index, work.run, work.tell)
    except InterlockError:
        raise
    except GuardError as error:
        if not isinstance(error.__cause__, IntegrityError):
            raise
        raise InterlockError(
            f"{work.column.at}: values that the shop wrote meanwhile are the same as others once normalised",
            hint=f'the column is unique: make them differ as index = "{index.normaliser}" reads them, and run it again',
        ) from None


def _leave(work: Work) -> None:
    """Stop writing the token columns that another has taken the place of, and drop them."""
    leaving = [each for each in _records(work) if each.stage is Filling.LEAVING]
    if not leaving:
        return
    _close(work, [each for each in _records(work) if each not in leaving])
    for each in leaving:
        _forget(work.tools, each)
    work.tools.clock.sleep(SEEN)
    _sweep_out(work)


def _sweep_out(work: Work) -> None:
    """Drop the column's token columns that state does not know: an interrupted run left them."""
    found, name = _records(work), work.column.name
    known = {each.name for each in found}
    unknown = [
        token
        for token in work.table.tokens
        if token not in known and token == token_column(name, int(token.rpartition("__guard")[2]))
    ]
    if unknown and found:
        _close(work, found)
    elif unknown:
        alter.unguard(work.tools.shop, work.table, name)
    for token in unknown:
        alter.drop_token(work.tools.shop, work.table, token)
        faults.point("fields.index.dropped")


def _ready(work: Work) -> IndexRecord:
    found = next((each for each in _records(work) if each.stage is Filling.READY), None)
    if found is None:
        raise InterlockError(f"{work.column.at} has no finished index", hint="guard fields encrypt finishes it")
    return found


def _records(work: Work) -> tuple[IndexRecord, ...]:
    with work.tools.state.read() as tx:
        return store.indexes(tx, work.column.id)


def _keep(tools: Tools, *indexes: IndexRecord) -> None:
    def work(tx: Tx) -> None:
        for each in indexes:
            store.keep_index(tx, each)

    tools.state.write(work)


def _forget(tools: Tools, index: IndexRecord) -> None:
    tools.state.write(lambda tx: store.drop_index(tx, index))
    faults.point("fields.index.forgotten")
