"""What guard adds to a table, on all three databases: token columns, their indexes, triggers that keep them honest."""

import pytest

from guard.errors import GuardError, InterlockError
from guard.shop import Shop, alter, names
from guard.shop._sql import quoted, ticked
from guard.shop.brought import assigned

TABLE = 'Ord"er `Ünïts` %s :x 100%'
COLUMN = 'E-Mail "group" `x`'
SEALED, OTHER = "g1.AAAA", "g1.BBBB"
TOKEN, TWO = "0102030405060708090a0b0c0d0e0f10", "ff02030405060708090a0b0c0d0e0f10"


class Odd:
    """A table whose names are as odd as names get, and statements on it."""

    def __init__(self, shop: Shop, sql, column: str = COLUMN, kind: str = "VARCHAR(60)") -> None:
        self.shop, self._sql, self.column = shop, sql, column
        self.q = ticked if shop.dialect == "mysql" else quoted
        key = self.q("the key")
        self.run(f"CREATE TABLE {self.q(TABLE)} ({key} INTEGER PRIMARY KEY, {self.q(column)} {kind}, note VARCHAR(20))")
        self.token = names.token_column(column, 1)

    @property
    def table(self):
        return self.shop.table(TABLE)

    def run(self, statement: str) -> list[tuple[object, ...]]:
        return self._sql(self.shop, statement)

    def bytes(self, value: str) -> str:
        return f"'\\x{value}'::bytea" if self.shop.dialect == "postgresql" else f"x'{value}'"

    def add(self, number: int, value: str | None, token: str | None = None) -> None:
        value, token = "NULL" if value is None else f"'{value}'", "NULL" if token is None else self.bytes(token)
        columns = ", ".join(map(self.q, ("the key", self.column, self.token)))
        self.run(f"INSERT INTO {self.q(TABLE)} ({columns}) VALUES ({number}, {value}, {token})")

    def set(self, what: str, number: int = 1) -> None:
        self.run(f"UPDATE {self.q(TABLE)} SET {what} WHERE {self.q('the key')} = {number}")

    def value(self, value: str | None, token: str | None = "keep") -> None:
        sets = [f"{self.q(self.column)} = " + ("NULL" if value is None else f"'{value}'")]
        if token != "keep":
            sets.append(f"{self.q(self.token)} = {self.given(token)}")
        self.set(", ".join(sets))

    def given(self, token: str | None) -> str:
        """Return a token as those write it who know of tokens."""
        sql = "NULL" if token is None else self.bytes(token)
        return assigned(self.token, sql) if self.shop.dialect == "mysql" else sql

    def row(self, number: int = 1) -> tuple[object, object]:
        columns = ", ".join(map(self.q, (self.column, self.token)))
        [row] = self.run(f"SELECT {columns} FROM {self.q(TABLE)} WHERE {self.q('the key')} = {number}")
        return row[0], row[1].hex() if row[1] is not None else None


@pytest.fixture
def odd(empty: Shop, sql) -> Odd:
    made = Odd(empty, sql)
    alter.add_token(empty, made.table, made.token)
    return made


def test_what_guard_adds_is_hidden_and_told_apart(odd: Odd) -> None:
    before = odd.table
    alter.add_token(odd.shop, odd.table, odd.token)
    alter.index_token(odd.shop, odd.table, odd.token, unique=True)
    alter.follow(odd.shop, odd.table, COLUMN, [odd.token])
    alter.fence(odd.shop, odd.table, COLUMN, [odd.token])
    table = odd.shop.tables(fresh=True)[TABLE]
    assert table.tokens == (odd.token,)
    assert [column.name for column in table.columns] == ["the key", COLUMN, "note"]
    assert (table.indexes, table.triggers) == ((), ())
    assert table == before
    assert odd.shop.clause(table).c[odd.token] is not None
    assert alter.guards(odd.shop, table, COLUMN) == {"follow", "fence"}


def test_everything_may_be_done_twice_and_undone_twice(odd: Odd) -> None:
    for _ in range(2):
        alter.index_token(odd.shop, odd.table, odd.token, unique=False)
        alter.follow(odd.shop, odd.table, COLUMN, [odd.token])
        alter.fence(odd.shop, odd.table, COLUMN, [odd.token])
    alter.index_token(odd.shop, odd.table, odd.token, unique=True)
    odd.add(1, SEALED, TOKEN)
    with pytest.raises(GuardError):
        odd.add(2, OTHER, TOKEN)
    with pytest.raises(InterlockError, match="still writes"):
        alter.drop_token(odd.shop, odd.table, odd.token)
    for _ in range(2):
        alter.unguard(odd.shop, odd.table, COLUMN)
    assert alter.guards(odd.shop, odd.table, COLUMN) == frozenset()
    for _ in range(2):
        alter.drop_token(odd.shop, odd.table, odd.token)
    assert odd.shop.tables(fresh=True)[TABLE].tokens == ()
    left = {
        "sqlite": "SELECT name FROM sqlite_master WHERE name LIKE '%guard%'",
        "postgresql": "SELECT proname FROM pg_proc WHERE proname LIKE '%guard%'"
        " UNION SELECT relname FROM pg_class WHERE relname LIKE '%guard%'",
        "mysql": "SELECT trigger_name FROM information_schema.triggers WHERE trigger_schema = DATABASE()",
    }
    assert odd.run(left[odd.shop.dialect]) == []


def test_a_legacy_writer_cannot_leave_a_lying_token(odd: Odd) -> None:
    alter.follow(odd.shop, odd.table, COLUMN, [odd.token])
    odd.add(1, "anna@example.org", TOKEN)
    odd.set("note = 'x'")
    assert odd.row() == ("anna@example.org", TOKEN)
    odd.value("bert@example.org", TWO)
    assert odd.row() == ("bert@example.org", TWO)
    odd.value("Bert@example.org")
    assert odd.row() == ("Bert@example.org", None)
    odd.value("carl@example.org", TOKEN)
    odd.value(None)
    assert odd.row() == (None, None)


def test_two_tokens_are_followed_each_by_itself(odd: Odd) -> None:
    second = names.token_column(COLUMN, 2)
    alter.add_token(odd.shop, odd.table, second)
    alter.follow(odd.shop, odd.table, COLUMN, [odd.token])
    alter.follow(odd.shop, odd.table, COLUMN, [odd.token, second])
    odd.add(1, "anna@example.org", TOKEN)
    odd.set(f"{odd.q(second)} = {odd.bytes(TOKEN)}")
    odd.value("bert@example.org", TWO)
    assert odd.row() == ("bert@example.org", TWO)
    assert odd.run(f"SELECT {odd.q(second)} FROM {odd.q(TABLE)}") == [(None,)]


def test_sealing_and_rekeying_keep_the_token(odd: Odd) -> None:
    alter.follow(odd.shop, odd.table, COLUMN, [odd.token])
    alter.fence(odd.shop, odd.table, COLUMN, [odd.token])
    alter.unguard(odd.shop, odd.table, COLUMN)
    alter.follow(odd.shop, odd.table, COLUMN, [odd.token])
    odd.add(1, "anna@example.org", TOKEN)
    alter.fence(odd.shop, odd.table, COLUMN, [odd.token])
    odd.set("note = 'not sealed yet'")
    odd.value(SEALED, TOKEN)
    assert odd.row() == (SEALED, TOKEN)
    odd.value(OTHER, TOKEN)
    assert odd.row() == (OTHER, TOKEN)
    odd.set("note = 'sealed'")
    odd.value(None, None)
    assert odd.row() == (None, None)


# A sealed value that is copied by SQL which knows nothing of tokens ---------------------------------------------------

THREE = "00ff80"
"""A token of a column that is not unique is short: other values have it as well."""


def test_a_copy_of_a_sealed_value_does_not_keep_the_token_of_the_row_it_comes_into(odd: Odd) -> None:
    alter.follow(odd.shop, odd.table, COLUMN, [odd.token])
    odd.add(1, SEALED, TOKEN)
    odd.add(2, OTHER, TWO)
    table, value, key = odd.q(TABLE), odd.q(COLUMN), odd.q("the key")
    source = f"(SELECT v FROM (SELECT {value} AS v FROM {table} WHERE {key} = 1) AS s)"
    odd.set(f"{value} = {source}", 2)
    assert odd.row(2) == (SEALED, None)
    assert odd.row(1) == (SEALED, TOKEN)
    odd.set(f"{value} = {source}, {odd.q(odd.token)} = {odd.given(TOKEN)}", 2)
    assert odd.row(2) == (SEALED, TOKEN)


def test_a_sealed_value_put_in_place_of_a_plain_one_does_not_keep_its_token(odd: Odd) -> None:
    alter.follow(odd.shop, odd.table, COLUMN, [odd.token])
    odd.add(1, "anna@example.org", TOKEN)
    odd.value(SEALED)
    assert odd.row() == (SEALED, None)


def test_a_token_that_is_named_stays_in_every_row_of_a_statement(odd: Odd) -> None:
    """Two values may share a short token, and a value may be sealed anew."""
    alter.follow(odd.shop, odd.table, COLUMN, [odd.token])
    for number in (1, 2, 3):
        odd.add(number, SEALED, THREE)
    odd.run(f"UPDATE {odd.q(TABLE)} SET {odd.q(COLUMN)} = '{OTHER}', {odd.q(odd.token)} = {odd.given(THREE)}")
    assert [odd.row(number) for number in (1, 2, 3)] == [(OTHER, THREE)] * 3
    odd.set(f"note = 'x', {odd.q(odd.token)} = {odd.given(THREE)}", 2)
    assert odd.row(2) == (OTHER, THREE)
    odd.value(SEALED)
    assert [odd.row(number) for number in (1, 2)] == [(SEALED, None), (OTHER, THREE)]


def test_of_two_tokens_the_one_that_is_not_named_is_emptied(odd: Odd) -> None:
    second = names.token_column(COLUMN, 2)
    alter.add_token(odd.shop, odd.table, second)
    alter.follow(odd.shop, odd.table, COLUMN, [odd.token, second])
    odd.add(1, SEALED, TOKEN)
    odd.set(f"{odd.q(second)} = {odd.bytes(TOKEN)}")
    odd.value(OTHER, TOKEN)
    assert odd.row() == (OTHER, TOKEN)
    assert odd.run(f"SELECT {odd.q(second)} FROM {odd.q(TABLE)}") == [(None,)]
    alter.follow(odd.shop, odd.table, COLUMN, [second])
    alter.drop_token(odd.shop, odd.table, odd.token)
    odd.set(f"{odd.q(second)} = {odd.bytes(TWO)}, note = 'one is enough'")
    odd.set(f"{odd.q(COLUMN)} = '{SEALED}'")
    assert odd.run(f"SELECT {odd.q(second)} FROM {odd.q(TABLE)}") == [(None,)]


def test_a_unique_column_refuses_a_copy_and_lets_those_through_who_know_of_tokens(odd: Odd) -> None:
    for again in (False, True):
        alter.follow(odd.shop, odd.table, COLUMN, [odd.token])
        alter.fence(odd.shop, odd.table, COLUMN, [odd.token])
        odd.run(f"DELETE FROM {odd.q(TABLE)}")
        odd.add(1, SEALED, TOKEN)
        refused(lambda: odd.value(OTHER))
        assert odd.row() == (SEALED, TOKEN)
        odd.value(OTHER, TOKEN)
        assert odd.row() == (OTHER, TOKEN)
        if not again:  # whichever was made last
            alter.unguard(odd.shop, odd.table, COLUMN)
            alter.fence(odd.shop, odd.table, COLUMN, [odd.token])


def test_what_was_told_of_one_row_is_not_believed_of_the_next(odd: Odd) -> None:
    """One connection, as a program has it that writes by guard's type here and by SQL of its own there."""
    alter.follow(odd.shop, odd.table, COLUMN, [odd.token])
    for number in (1, 2):
        odd.add(number, SEALED, THREE)
    value, key = odd.q(COLUMN), odd.q("the key")
    with odd.shop.begin() as connection:
        for statement in (
            f"UPDATE {odd.q(TABLE)} SET {value} = 'g1.CCCC', {odd.q(odd.token)} = {odd.given(THREE)} WHERE {key} = 1",
            f"UPDATE {odd.q(TABLE)} SET {value} = 'g1.CCCC' WHERE {key} = 2",
        ):
            connection.exec_driver_sql(statement, execution_options={"no_parameters": True})
    assert [odd.row(number) for number in (1, 2)] == [("g1.CCCC", THREE), ("g1.CCCC", None)]


def test_a_note_of_sqlite_is_gone_when_its_statement_is(empty_sqlite: Shop, sql) -> None:
    sql(empty_sqlite, "CREATE TABLE t (id INTEGER PRIMARY KEY, email TEXT, n INTEGER UNIQUE, email__guard1 BLOB)")
    table = empty_sqlite.table("t")
    alter.follow(empty_sqlite, table, "email", ["email__guard1"])
    assert set(empty_sqlite.tables()) == {"t"}
    sql(empty_sqlite, "INSERT INTO t VALUES (1, 'g1.A', 1, x'01'), (2, 'g1.B', 2, x'01')")
    sql(empty_sqlite, "UPDATE t SET email = email || 'x', email__guard1 = x'01'")
    with pytest.raises(GuardError):
        sql(empty_sqlite, "UPDATE t SET email = email || 'y', email__guard1 = x'01', n = 3")
    sql(empty_sqlite, "INSERT INTO t VALUES (1, 'g1.C', 1, x'01') ON CONFLICT (id) DO UPDATE SET email = 'g1.C'")
    assert sql(empty_sqlite, "SELECT email, email__guard1 FROM t ORDER BY id") == [("g1.C", None), ("g1.Bx", b"\x01")]
    assert sql(empty_sqlite, f"SELECT * FROM {names.BROUGHT}") == []
    alter.unguard(empty_sqlite, table, "email")
    assert sql(empty_sqlite, "SELECT name FROM sqlite_master WHERE name LIKE 'guard%'") == []


def refused(work) -> None:
    with pytest.raises(GuardError) as caught:
        work()
    said = str(caught.value.__cause__.orig)
    assert "only sealed values with their tokens" in said
    assert "example.org" not in said


def test_the_fence_refuses_what_is_plain_or_without_token(odd: Odd) -> None:
    odd.add(1, "anna@example.org", TOKEN)
    alter.follow(odd.shop, odd.table, COLUMN, [odd.token])
    alter.fence(odd.shop, odd.table, COLUMN, [odd.token])
    refused(lambda: odd.add(2, "bert@example.org", TWO))
    refused(lambda: odd.add(2, SEALED))
    refused(lambda: odd.value("bert@example.org", TWO))
    refused(lambda: odd.value("ANNA@example.org", TOKEN))
    refused(lambda: odd.value("anna@example.org", None))
    assert odd.row() == ("anna@example.org", TOKEN)
    odd.set("note = 'may change'")
    refused(lambda: odd.value(SEALED))
    odd.value(SEALED, TOKEN)
    refused(lambda: odd.value("anna@example.org"))
    refused(lambda: odd.value(OTHER, None))
    odd.add(2, SEALED, TWO)
    odd.add(3, None)


def test_collisions_are_counted_and_never_shown(odd: Odd) -> None:
    for number, token in enumerate([TOKEN, TOKEN, TOKEN, TWO, TWO, None, None], 1):
        odd.add(number, "anna@example.org", token)
    with pytest.raises(InterlockError, match="5 rows share 2 values") as caught:
        alter.index_token(odd.shop, odd.table, odd.token, unique=True)
    assert "anna" not in f"{caught.value}{caught.value.hint}"
    alter.index_token(odd.shop, odd.table, odd.token, unique=False)
    odd.run(f"DELETE FROM {odd.q(TABLE)} WHERE {odd.q('the key')} IN (1, 2, 4)")
    alter.index_token(odd.shop, odd.table, odd.token, unique=True)


def test_names_at_the_limit_are_cut_and_stay_apart(empty: Shop, sql) -> None:
    one, two = "x" * 62 + "1", "x" * 62 + "2"
    made = Odd(empty, sql, one)
    made.run(f"ALTER TABLE {made.q(TABLE)} ADD COLUMN {made.q(two)} VARCHAR(60)")
    empty.forget()
    for column in (one, two):
        token = names.token_column(column, 12)
        alter.add_token(empty, made.table, token)
        alter.index_token(empty, made.table, token, unique=True)
        alter.follow(empty, made.table, column, [token])
        alter.fence(empty, made.table, column, [token])
    table = empty.tables(fresh=True)[TABLE]
    assert table.tokens == tuple(names.token_column(column, 12) for column in (one, two))
    assert len({len(token) for token in table.tokens}) == 1
    assert (table.indexes, table.triggers) == ((), ())
    for column in (one, two):
        assert alter.guards(empty, table, column) == {"follow", "fence"}


def test_binary_columns_are_told_by_their_own_beginning(empty: Shop, sql) -> None:
    kind = {"sqlite": "BLOB", "postgresql": "BYTEA", "mysql": "VARBINARY(90)"}[empty.dialect]
    made = Odd(empty, sql, kind=kind)
    alter.add_token(empty, made.table, made.token)
    alter.follow(empty, made.table, COLUMN, [made.token])
    alter.fence(empty, made.table, COLUMN, [made.token])
    place = f"{made.q(TABLE)} ({made.q('the key')}, {made.q(COLUMN)}, {made.q(made.token)})"
    made.run(f"INSERT INTO {place} VALUES (1, {made.bytes('673100')}, {made.bytes(TOKEN)})")
    for wrong in ("673200", "67", ""):
        refused(lambda w=wrong: made.run(f"INSERT INTO {place} VALUES (2, {made.bytes(w)}, {made.bytes(TWO)})"))
    made.set(f"{made.q(COLUMN)} = {made.bytes('673101')}, {made.q(made.token)} = {made.given(TOKEN)}")
    assert made.row() == (bytes.fromhex("673101"), TOKEN)


def test_every_point_between_two_steps_may_be_the_last(odd: Odd, fault_points) -> None:
    """Whatever a kill leaves, the same step done again ends where it should."""
    shop, table = odd.shop, odd.table

    def work() -> None:
        alter.index_token(shop, table, odd.token, unique=True)
        alter.index_token(shop, table, odd.token, unique=False)
        alter.follow(shop, table, COLUMN, [odd.token])
        alter.fence(shop, table, COLUMN, [odd.token])
        alter.unguard(shop, table, COLUMN)

    shop.close()
    count = len(fault_points.passed(work))
    assert count >= 5
    for nth in range(1, count + 1):
        shop.close()
        assert fault_points.killed(work, nth)
        shop.tables(fresh=True)
        work()
        assert alter.guards(shop, table, COLUMN) == frozenset()
        assert shop.tables(fresh=True)[TABLE] == table


@pytest.mark.parametrize("again", ["follow", "fence"])
def test_while_writers_change_over_a_plain_value_needs_its_own_token(odd: Odd, again: str) -> None:
    """Whichever trigger was installed last: a legacy writer's value, whose token would be emptied, is refused."""
    second = names.token_column(COLUMN, 2)
    alter.add_token(odd.shop, odd.table, second)
    alter.follow(odd.shop, odd.table, COLUMN, [odd.token])
    alter.fence(odd.shop, odd.table, COLUMN, [odd.token], plain=True)
    odd.add(1, "anna@example.org", TOKEN)
    refused(lambda: odd.value("bert@example.org"))
    if again == "follow":
        odd.shop.forget()
        alter.follow(odd.shop, odd.table, COLUMN, [odd.token, second])
    else:
        alter.unguard(odd.shop, odd.table, COLUMN)
        alter.fence(odd.shop, odd.table, COLUMN, [odd.token], plain=True)
        alter.follow(odd.shop, odd.table, COLUMN, [odd.token])
    refused(lambda: odd.value("bert@example.org"))
    odd.value("bert@example.org", TWO)
    assert odd.row() == ("bert@example.org", TWO)
    refused(lambda: odd.value(SEALED))
    odd.value(SEALED, TWO)
    assert odd.row() == (SEALED, TWO)
    refused(lambda: odd.value("carl@example.org", None))
    odd.value(None, None)


LIKE_A_LOADER = {
    "sqlite": ("INSERT OR REPLACE INTO t VALUES (1, 'bert', x'02')",
               "INSERT OR IGNORE INTO t VALUES (2, 'bert', x'02')",
               "UPDATE OR IGNORE t SET email = 'bert'", "UPDATE OR REPLACE t SET email = 'bert'",
               "INSERT INTO t VALUES (1, 'g1.B', x'02') ON CONFLICT (id) DO UPDATE SET email = 'bert'"),
    "postgresql": ("INSERT INTO t VALUES (1, 'g1.B', '\\x02') ON CONFLICT (id) DO UPDATE SET email = 'bert'",
                   "SET LOCAL session_replication_role = replica; UPDATE t SET email = 'bert'"),
    "mysql": ("REPLACE INTO t (id, email) VALUES (1, 'g1.B')", "INSERT IGNORE INTO t VALUES (2, 'bert', x'02')",
              "UPDATE IGNORE t SET email = 'bert'",
              "INSERT INTO t VALUES (1, 'g1.B', x'02') ON DUPLICATE KEY UPDATE email = 'bert'"),
}  # fmt: skip


def test_no_statement_of_a_loader_passes_the_fence_by(empty: Shop, sql) -> None:
    kind = {"sqlite": "BLOB", "postgresql": "BYTEA", "mysql": "VARBINARY(16)"}[empty.dialect]
    sql(empty, f"CREATE TABLE t (id INTEGER PRIMARY KEY, email VARCHAR(90), email__guard1 {kind})")
    sql(empty, "INSERT INTO t (id, email, email__guard1) VALUES (1, 'g1.A', 'a')")
    alter.follow(empty, empty.table("t"), "email", ["email__guard1"])
    alter.fence(empty, empty.table("t"), "email", ["email__guard1"])
    before = sql(empty, "SELECT * FROM t")
    for statement in LIKE_A_LOADER[empty.dialect]:
        refused(lambda statement=statement: sql(empty, statement))
        assert sql(empty, "SELECT * FROM t") == before


def test_sessions_in_the_role_of_a_replica_leave_no_lying_token(empty_pg: Shop, sql) -> None:
    sql(empty_pg, "CREATE TABLE t (id integer PRIMARY KEY, email text, email__guard1 bytea)")
    for broken in (
        "",
        "ALTER TABLE t ENABLE TRIGGER ALL",
        "ALTER TABLE t DISABLE TRIGGER ALL",
    ):  # as pg_restore leaves it
        if broken:
            sql(empty_pg, broken)
        alter.follow(empty_pg, empty_pg.table("t"), "email", ["email__guard1"])
        sql(empty_pg, "DELETE FROM t; INSERT INTO t VALUES (1, 'anna', 'a')")
        sql(empty_pg, "SET LOCAL session_replication_role = replica; UPDATE t SET email = 'bert'")
        assert sql(empty_pg, "SELECT email, email__guard1 FROM t") == [("bert", None)]


def test_rows_of_sqlite_whose_key_is_null_are_followed(empty_sqlite: Shop, sql) -> None:
    sql(empty_sqlite, "CREATE TABLE t (id TEXT PRIMARY KEY, email TEXT, email__guard1 BLOB)")
    alter.follow(empty_sqlite, empty_sqlite.table("t"), "email", ["email__guard1"])
    sql(empty_sqlite, "INSERT INTO t VALUES (NULL, 'anna', x'01')")
    sql(empty_sqlite, "UPDATE t SET email = 'bert'")
    assert sql(empty_sqlite, "SELECT email, email__guard1 FROM t") == [("bert", None)]


@pytest.mark.parametrize("last", ["guard", "shop"])
def test_what_a_trigger_of_the_shop_makes_of_a_value_does_not_keep_its_token(
    empty_sqlite: Shop, sql, last: str
) -> None:
    sql(empty_sqlite, "CREATE TABLE t (id INTEGER PRIMARY KEY, email TEXT, email__guard1 BLOB)")
    table = empty_sqlite.table("t")
    steps = [
        lambda: alter.follow(empty_sqlite, table, "email", ["email__guard1"]),
        lambda: sql(
            empty_sqlite,
            "CREATE TRIGGER low AFTER UPDATE OF email ON t WHEN NEW.email <> lower(NEW.email)"
            " BEGIN UPDATE t SET email = lower(email) WHERE id = NEW.id; END",
        ),
    ]
    for step in steps if last == "shop" else steps[::-1]:
        step()
    sql(empty_sqlite, "INSERT INTO t VALUES (1, 'anna', x'01')")
    sql(empty_sqlite, "UPDATE t SET email = 'BERT', email__guard1 = x'02'")
    assert sql(empty_sqlite, "SELECT email, email__guard1 FROM t") == [("bert", None)]


def test_who_may_use_a_column_by_name_may_use_its_tokens(empty_pg: Shop, postgres_url: str, sql) -> None:
    sql(empty_pg, "CREATE TABLE t (id integer PRIMARY KEY, email text, note text)")
    sql(empty_pg, "CREATE ROLE teller LOGIN; CREATE ROLE porter LOGIN")
    roles = {role: Shop.connect(postgres_url.replace("shop@", f"{role}@")) for role in ("teller", "porter")}
    try:
        sql(empty_pg, "GRANT SELECT (id, email, note), UPDATE (email, note) ON t TO teller")
        sql(empty_pg, "GRANT SELECT (note), UPDATE (note) ON t TO porter")
        alter.add_token(empty_pg, empty_pg.table("t"), "email__guard1")
        sql(roles["teller"], "SELECT * FROM t")
        sql(roles["teller"], "UPDATE t SET email = 'x', email__guard1 = 'a'")
        for statement in ("SELECT email__guard1 FROM t", "UPDATE t SET email__guard1 = 'a'"):
            with pytest.raises(GuardError, match="permission denied"):
                sql(roles["porter"], statement)
    finally:
        for role, shop in roles.items():
            shop.close()
            sql(empty_pg, f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_the_time_a_statement_may_take_does_not_end_an_index(empty_pg: Shop, sql) -> None:
    sql(empty_pg, "CREATE TABLE t (id integer PRIMARY KEY, email text, email__guard1 bytea)")
    sql(empty_pg, "INSERT INTO t SELECT n, 'x', decode(md5(n::text), 'hex') FROM generate_series(1, 200000) n")
    [(name,)] = sql(empty_pg, "SELECT current_database()")
    sql(empty_pg, f"ALTER DATABASE {name} SET statement_timeout = '40ms'")
    empty_pg.close()
    with pytest.raises(GuardError):
        sql(empty_pg, "CREATE INDEX too_slow ON t (email__guard1)")
    alter.index_token(empty_pg, empty_pg.table("t"), "email__guard1", unique=False)
    assert sql(empty_pg, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'guard__t_email_1'::regclass") == [(True,)]
