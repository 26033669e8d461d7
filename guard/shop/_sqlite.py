"""Read a schema from SQLite's own tables. Expressions it does not tell (CHECK, generated) are read from the SQL."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy.engine import Connection, Row

from guard.shop.catalog import Check, ForeignKey, Index, ShopColumn, Sort, Table, Trigger, View, mentions
from guard.shop.names import is_guards, is_token

_TOKEN = re.compile(
    r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\]|--[^\n]*|/\*.*?\*/|\w+|\s+|.""", re.DOTALL
)
_SORTS = (
    (Sort.INTEGER, ("INT",)),
    (Sort.TEXT, ("CHAR", "CLOB", "TEXT")),
    (Sort.BINARY, ("BLOB", "BINARY")),
    (Sort.BOOLEAN, ("BOOL",)),
    (Sort.TIME, ("DATE", "TIME")),
    (Sort.NUMBER, ("REAL", "FLOA", "DOUB", "NUM", "DEC", "MONEY")),
)


def read_tables(connection: Connection, schema: str | None) -> dict[str, Table]:  # noqa: ARG001  # SQLite has none
    """Return every table of the main database by name; SQLite's own and shadow tables are left out."""
    master = connection.exec_driver_sql("SELECT type, name, tbl_name, sql FROM sqlite_master").all()
    kinds = connection.exec_driver_sql(
        "SELECT name, type, wr, strict FROM pragma_table_list WHERE schema = 'main' AND type IN ('table', 'virtual')"
        " AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    ).all()
    names = {name.lower(): name for name, *_ in kinds}
    sql = {name: text or "" for kind, name, _, text in master if kind == "table"}
    foreign = _foreign_keys(connection, names)
    columns = _columns(connection, sql)
    indexes = _indexes(connection, {name: text for kind, name, _, text in master if kind == "index"})
    triggers = _triggers(row for row in master if row[0] == "trigger")
    views = [View(name, text) for kind, name, _, text in master if kind == "view"]
    return {
        name: Table(
            name,
            columns[name][0],
            columns[name][1],
            tuple(foreign[name]),
            tuple((source, key) for source, keys in foreign.items() for key in keys if key.to_table == name),
            tuple(indexes[name]),
            tuple(Check("", text) for text in expressions(sql[name], "CHECK")),
            tuple(triggers[name.lower()]),
            tuple(view for view in views if mentions(view.sql, name)),
            "it is a virtual table" if kind == "virtual" else None,
            tokens=columns[name][2],
            strict=bool(strict),
            without_rowid=bool(without_rowid),
        )
        for name, kind, without_rowid, strict in kinds
    }


_Columns = tuple[tuple[ShopColumn, ...], tuple[str, ...], tuple[str, ...]]


def _columns(connection: Connection, sql: dict[str, str]) -> dict[str, _Columns]:
    """Return for each table its columns, its primary key and its token columns."""
    rows = connection.exec_driver_sql(
        'SELECT m.name, x.name, x.type, x."notnull", x.dflt_value, x.pk, x.hidden'
        " FROM sqlite_master m, pragma_table_xinfo(m.name) x WHERE m.type = 'table' ORDER BY m.name, x.cid"
    ).all()
    folded = _folded(connection)
    collations = {table: _collations(text) for table, text in sql.items()}
    found: dict[str, list[ShopColumn]] = defaultdict(list)
    keys: dict[str, dict[int, str]] = defaultdict(dict)
    tokens: dict[str, list[str]] = defaultdict(list)
    for table, name, declared, notnull, default, place, hidden in rows:
        if hidden == 1:  # an argument or a rank of a virtual table, no data
            continue
        if is_token(name):
            tokens[table].append(name)
            continue
        if place:
            keys[table][place] = name
        collation = collations[table].get(name.lower())
        found[table].append(
            ShopColumn(
                name,
                declared or "",
                _sort(declared or ""),
                nullable=not notnull,
                default=default,
                generated=" ".join(expressions(sql[table], "AS")) or "unknown" if hidden in {2, 3} else None,
                collation=collation,
                folded=(table, name) in folded or (collation or "BINARY").upper() != "BINARY",
            )
        )
    return {
        table: (
            tuple(found[table]),
            tuple(keys[table][place] for place in sorted(keys[table])),
            tuple(tokens[table]),
        )
        for table in {**dict.fromkeys(sql), **found}
    }


def _folded(connection: Connection) -> set[tuple[str, str]]:
    """Return the indexed columns (keys among them) whose texts do not compare byte by byte."""
    rows = connection.exec_driver_sql(
        "SELECT m.name, x.name FROM sqlite_master m, pragma_index_list(m.name) i, pragma_index_xinfo(i.name) x"
        " WHERE m.type = 'table' AND x.key = 1 AND x.name IS NOT NULL AND upper(x.coll) <> 'BINARY'"
    )
    return {(table, name) for table, name in rows}


def _sort(declared: str) -> Sort:
    upper = declared.upper()
    return next((sort for sort, words in _SORTS if any(word in upper for word in words)), Sort.OTHER)


def _foreign_keys(connection: Connection, names: dict[str, str]) -> dict[str, list[ForeignKey]]:
    rows = connection.exec_driver_sql(
        'SELECT m.name, f.id, f."table", f."from", f."to", f.on_delete, f.on_update'
        " FROM sqlite_master m, pragma_foreign_key_list(m.name) f WHERE m.type = 'table' ORDER BY m.name, f.id, f.seq"
    ).all()
    primary = dict[str, list[str]]()
    for table, name in connection.exec_driver_sql(
        "SELECT m.name, x.name FROM sqlite_master m, pragma_table_info(m.name) x"
        " WHERE m.type = 'table' AND x.pk > 0 ORDER BY m.name, x.pk"
    ):
        primary.setdefault(table, []).append(name)
    grouped: dict[tuple[str, int], list[tuple[Any, ...]]] = defaultdict(list)
    for row in map(tuple, rows):
        grouped[row[0], row[1]].append(row)
    found: dict[str, list[ForeignKey]] = defaultdict(list)
    for (source, _), members in grouped.items():
        target = names.get(members[0][2].lower(), members[0][2])
        ends = [row[4] for row in members if row[4] is not None] or primary.get(target, [])
        starts = tuple(row[3] for row in members)
        found[source].append(ForeignKey(starts, target, tuple(ends), members[0][5], members[0][6]))
    return found


def _indexes(connection: Connection, sql: dict[str, str | None]) -> dict[str, list[Index]]:
    rows = connection.exec_driver_sql(
        'SELECT m.name, i.name, i."unique", i.partial, x.name'
        " FROM sqlite_master m, pragma_index_list(m.name) i, pragma_index_xinfo(i.name) x"
        " WHERE m.type = 'table' AND x.key = 1 AND i.origin <> 'pk' ORDER BY m.name, i.seq, x.seqno"
    ).all()
    grouped: dict[tuple[str, str], list[tuple[Any, ...]]] = defaultdict(list)
    for row in map(tuple, rows):
        if not is_guards(row[1]):
            grouped[row[0], row[1]].append(row)
    found: dict[str, list[Index]] = defaultdict(list)
    for (table, index), members in grouped.items():
        columns = tuple(row[4] for row in members if row[4] is not None)
        definition = sql.get(index) or index
        found[table].append(
            Index(
                index,
                columns,
                bool(members[0][2]),
                definition,
                _condition(definition) if members[0][3] else None,
                derived=len(columns) < len(members),
            )
        )
    return found


def _triggers(rows: Iterable[Row[Any]]) -> dict[str, list[Trigger]]:
    found: dict[str, list[Trigger]] = defaultdict(list)
    for row in rows:
        _, name, table, sql = tuple(row)
        if is_guards(name):
            continue
        head = re.split(r"\bBEGIN\b", sql, maxsplit=1, flags=re.IGNORECASE)[0]
        found[table.lower()].append(Trigger(name, sql, re.search(r"\bUPDATE\b", head, re.IGNORECASE) is not None))
    return found


def _condition(sql: str) -> str:
    """Return what stands behind the outermost WHERE of a CREATE INDEX."""
    words, depth = _tokens(sql), 0
    for at, word in enumerate(words):
        depth += (word == "(") - (word == ")")
        if not depth and word.upper() == "WHERE":
            return " ".join(words[at + 1 :])
    return "unknown"


def _collations(sql: str) -> dict[str, str]:
    """Return the collations columns of a CREATE TABLE are declared with, by the column's name in lower case."""
    words, depth, first = [*_tokens(sql), ""], 0, ""
    found: dict[str, str] = {}
    for at, word in enumerate(words[:-1]):
        depth += (word == "(") - (word == ")")
        if word in {"(", ","} and depth == 1:
            first = words[at + 1]
        elif depth == 1 and word.upper() == "COLLATE":
            found[_bare(first).lower()] = _bare(words[at + 1])
    return found


def _bare(name: str) -> str:
    """Return a quoted name without its quotes."""
    if name[:1] in {'"', "`", "[", "'"}:
        return name[1:-1].replace(name[0] * 2, name[0])
    return name


def _tokens(sql: str) -> list[str]:
    return [token for token in _TOKEN.findall(sql) if not token.startswith(("--", "/*")) and not token.isspace()]


def expressions(sql: str, word: str) -> list[str]:
    """Return what stands in the parentheses behind each `word` of a CREATE statement; strings and comments skipped."""
    tokens = _tokens(sql)
    return [
        " ".join(_balanced(tokens[at + 2 :]))
        for at, token in enumerate(tokens[:-1])
        if token.upper() == word and tokens[at + 1] == "("
    ]


def _balanced(tokens: list[str]) -> Iterator[str]:
    depth = 1
    for word in tokens:
        depth += (word == "(") - (word == ")")
        if not depth:
            return
        yield word
