"""What sealing a column does, what stops working by it, and what else there is to know: pure, in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from guard.fields.facts import Facts
from guard.fields.measure import about, amount, rewriting
from guard.fields.refusals import touches
from guard.shop.catalog import Sort, mentions

_MOVING = ("CASCADE", "SET NULL", "SET DEFAULT")
"""What a foreign key may do that changes the row that refers."""
_EMPTY = {None, "NULL", "NULL::character varying", "NULL::text", "null"}
_ALG = {False: "XAES-256-GCM", True: "AES-256-GCM"}


def does(facts: Facts) -> tuple[str, ...]:
    """Return what sealing the column does."""
    return tuple(line for say in _DOES for line in say(facts))


def stops(facts: Facts) -> tuple[str, ...]:
    """Return what stops working."""
    return tuple(line for say in _STOPS for line in say(facts))


def notes(facts: Facts) -> tuple[str, ...]:
    """Return what else somebody should know before."""
    return tuple(line for say in _NOTES for line in say(facts))


def unseen(facts: Facts) -> tuple[str, ...]:
    """Return what could not be looked at, each with the grant."""
    return facts.programs.unseen


def reads(facts: Facts) -> tuple[str, ...]:
    """Return the names of the views that read the column; where a view shows all columns it is among them."""
    name = facts.column.name
    if facts.dialect == "postgresql":
        return tuple(view.name for view in facts.table.views if name in view.columns)
    return tuple(view.name for view in facts.table.views if not view.sql or mentions(view.sql, name) or "*" in view.sql)


def _sealed(facts: Facts) -> Iterator[str]:
    alg, table = _ALG[facts.column.tight], facts.table
    match facts.column.bind:
        case "row":
            yield f"{alg}, each value bound to its row ({', '.join(table.key)}): in another row it does not open"
        case "subject":
            whose = facts.person.kind if facts.person else "person"
            yield f"{alg} under the key of its {whose} and the class {facts.column.class_}: shredding it ends the value"
        case _:
            yield f"{alg}, bound to the column alone: within it values can be exchanged unseen"
    yield f"NULL stays NULL, {facts.counts.nulls} now" if facts.shop.nullable else "NOT NULL stays"


def _typed(facts: Facts) -> Iterator[str]:
    change, shop = facts.change, facts.shop
    if change is not None:
        yield f"its type {shop.type} becomes {change.becomes}: {_lock(facts)}; decrypting gives it back"
    elif facts.dialect == "mysql" and shop.length:
        yield f"its {shop.type} takes sealed values as it is"
    elif facts.dialect == "sqlite" and shop.sort is not Sort.TEXT:
        yield f"it is declared {shop.type or 'without a type'}; each value keeps its own type within the seal"
    if facts.dialect == "sqlite" and "(" in shop.type:
        yield f"its length {shop.type} is not enforced by SQLite, and longer sealed texts fit"


def _lock(facts: Facts) -> str:
    if facts.change is None or not facts.change.copies:
        return "the schema alone, under an exclusive lock for a moment"
    size = facts.size.total if facts.size else None
    how = f"the whole table ({amount(size)}) is written anew" if size is not None else "the whole table is written anew"
    span = f", {about(rewriting(facts.dialect, size))}" if size is not None else ""
    who = "nobody reads or writes it" if facts.dialect == "postgresql" else "nobody writes it"
    return f"{how}{span}, in which {who}"


def _searchable(facts: Facts) -> Iterator[str]:
    if facts.column.index is None:
        return
    unique = any(index.unique and index.is_on(facts.column.name) for index in facts.table.indexes)
    kind = "a unique index" if unique else "an index"
    yield (
        f'a token column with {kind} is added and filled first: found by guard fields search as "{facts.column.index}" '
        "reads it"
    )
    yield "a trigger empties the tokens of a value that is changed past guard" + (
        "; one refuses values without seal or token from then on" if unique else ""
    )


def _searching(facts: Facts) -> Iterator[str]:
    name = facts.column.name
    for index in facts.table.indexes:
        if touches(index, name) and not index.unique:
            yield f"the index {index.name} finds nothing any more; drop it"
    if facts.column.index:
        yield "LIKE, ORDER BY and ranges by it find nothing any more; what is equal is found by its token"
    else:
        yield "LIKE, ORDER BY, comparisons and joins by it find nothing any more"
    if facts.shop.sort in {Sort.INTEGER, Sort.NUMBER, Sort.TIME, Sort.BOOLEAN}:
        yield "the database does not calculate with it any more: no sums, no dates compared"


def _readers(facts: Facts) -> Iterator[str]:
    stored = {view.name for view in facts.table.views if view.stored}
    for view in reads(facts):
        if view in stored:
            yield f"the materialized view {view} keeps its own copy in clear until it is refreshed; then it shows seals"
        else:
            yield f"the view {view} may show sealed values, and so do reports that read it"
    for trigger in facts.table.triggers:
        if not trigger.on_update and mentions(trigger.sql, facts.column.name):
            yield f"the trigger {trigger.name} works with it and will see sealed values"
    for program in facts.programs.naming(facts.table, facts.column.name):
        yield f"the {program} names it and will see sealed values"


def _whole_rows(facts: Facts) -> Iterator[str]:
    """Yield what counts the table's columns: on MariaDB the token column is invisible to it."""
    if facts.column.index is None or facts.dialect == "mysql":
        return
    table = facts.table.name
    yield f"SELECT * of {table} gives a token column more, at its end"
    if facts.dialect == "sqlite":
        yield f"INSERT without the names of the columns of {table} fails from then on: name them"
        for program in facts.programs.positional(facts.table):
            yield f"the {program} inserts into {table} so, and will fail with whatever fires it; name the columns there"
    for program in facts.programs.copying(facts.table):
        yield f"the {program} inserts whole rows of {table} elsewhere, and will fail: name the columns there"


def _moving_keys(facts: Facts) -> Iterator[str]:
    """Yield by what a row's key can change: what is bound to it does not open then."""
    if facts.column.bind != "row":
        return
    key, hint = set(facts.table.key), f"unreadable until guard fields rebind {facts.table.name}"
    for foreign in facts.table.foreign_keys:
        shared = [name for name in foreign.columns if name in key]
        for event, rule in (("UPDATE", foreign.on_update), ("DELETE", foreign.on_delete)):
            if shared and rule in _MOVING and not (event == "DELETE" and rule == "CASCADE"):
                moved = f"its key {', '.join(shared)} follows {foreign.to_table} (ON {event} {rule})"
                yield f"{moved}; a row so moved is {hint}"
    for source, foreign in facts.table.referred:
        if foreign.on_update in _MOVING and key & set(foreign.to_columns):
            yield (
                f"{source} follows its key (ON UPDATE {foreign.on_update}), as if it were meant to change; "
                f"a row whose key does is {hint}"
            )
    if words := [name for name in facts.table.key if facts.table.column(name).sort is Sort.TEXT]:
        yield f"its key {', '.join(words)} is a text; a row where the shop changes it is {hint}"


def _moving_people(facts: Facts) -> Iterator[str]:
    if facts.person is None:
        return
    for step in facts.person.path[:1]:
        for foreign in facts.table.foreign_keys:
            rules = {foreign.on_update, foreign.on_delete} & {"SET NULL", "SET DEFAULT"}
            if foreign.columns == step.columns and rules:
                yield (
                    f"when its {step.to_table} goes, {', '.join(step.columns)} becomes another ({rules.pop()}): "
                    "the value does not open any more"
                )


def _rest(facts: Facts) -> Iterator[str]:
    for trigger in facts.table.triggers:
        if trigger.on_update and not mentions(trigger.sql, facts.column.name):
            yield f"the trigger {trigger.name} runs for each row that is sealed, and can copy the old one"
    if facts.locks_gaps:
        yield (
            "the server's binlog_format = STATEMENT lets guard write at REPEATABLE READ only: the shop may wait for "
            "rows beside those being sealed; MIXED or ROW lets guard lock its own rows alone"
        )
    if facts.shop.default not in _EMPTY:
        yield "it has a default in plain text, which a finished column refuses"
    if facts.spread and facts.spread.formless:
        yield f'{facts.spread.formless} of its values have nothing that index = "{facts.column.index}" reads: not found'
    if facts.column.tight and facts.budget is not None:
        yield f"it is tight: its key may seal {facts.budget} more values, then guard keys rotate"
    if facts.column.index and facts.column.bind == "subject":
        yield "its tokens in old backups stay linkable after shredding, until the index key is rotated"


_Say = Callable[[Facts], Iterator[str]]
_DOES: tuple[_Say, ...] = (_sealed, _typed, _searchable)
_STOPS: tuple[_Say, ...] = (_searching, _readers, _whole_rows, _moving_keys, _moving_people)
_NOTES: tuple[_Say, ...] = (_rest,)
