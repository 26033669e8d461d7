"""Rewriting columns loses no update, on any database, with any key, whatever another writer or a trigger does."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from guard.errors import GuardError, InterlockError
from guard.shop import Shop
from guard.shop._sql import run
from guard.shop.bulk import Changed, Found, Fresh, Look, New, Reader, Rewrite, Rewriter
from guard.shop.due import Beginning, Due, count_due
from guard.shop.graph import Step
from guard.shop.rows import Key, cut

MARK = Beginning(frozenset({"g1."}), frozenset({b"g1"}))
PLAIN, SEALED = Due(unless=MARK), Due(begins=MARK)
ODD = [
    "", " ", "a", "A", "a ", "it's", 'say "yes"', "back\\slash", "{a,b}", "NULL", "null", "line\nbreak", "tab\t",
    "%s %d", ":name", "Zoë Müller", "李小龍", "🙂", "\x1a", "g1", "G1.x", "g1:", "X'41'",
]  # fmt: skip
"""What has been taken for something else by one database or driver."""


@dataclass(frozen=True)
class Here:
    """A shop, and a second connection to it that stands for everybody else."""

    shop: Shop
    other: Shop

    def sql(self, *statements: str, **values: object) -> None:
        """Write past guard."""
        with self.other.begin() as connection:
            for statement in statements:
                connection.execute(text(statement), values)

    def ask(self, query: str) -> list[Any]:
        with self.other.read() as connection:
            return [tuple(row) if len(row) > 1 else row[0] for row in connection.execute(text(query))]

    def type(self, **of: str) -> str:
        return of[self.shop.dialect]


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def here(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Here]:
    """An empty shop on each database."""
    if request.param == "sqlite":
        sqlite3.connect(tmp_path / "shop.db").close()
        url = f"sqlite:///{tmp_path}/shop.db"
    else:
        url = request.getfixturevalue(f"{request.param}_url")
    here = Here(Shop.connect(url), Shop.connect(url))
    yield here
    here.shop.close()
    here.other.close()


def exact(here: Here, length: int = 60) -> str:
    """Return a type of texts that are told apart byte by byte."""
    collated = f"varchar({length}) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
    return here.type(sqlite="TEXT", postgresql="text", mysql=collated)


def binary(here: Here) -> str:
    return here.type(sqlite="BLOB", postgresql="bytea", mysql="varbinary(200)")


@pytest.fixture
def people(here: Here) -> Here:
    """People 1 to 50; every tenth has no mail."""
    here.sql(f"CREATE TABLE people (id integer PRIMARY KEY, mail {exact(here)}, token {binary(here)})")
    for number in range(1, 51):
        mail = None if number % 10 == 0 else f"anna{number}@example.org"
        here.sql("INSERT INTO people (id, mail) VALUES (:id, :mail)", id=number, mail=mail)
    return here


Change = Callable[[Found], list[New | None]]


def sealed(found: Found) -> list[New | None]:
    return [(f"g1.{value}",) for value in found.values]


def job_of(here: Here, due: Due = PLAIN, table: str = "people") -> Rewrite:
    found = here.shop.table(table)
    return Rewrite(found, "mail", ("mail",), found.key, due)


def sweep(here: Here, job: Rewrite, size: int, change: Change = sealed) -> list[Changed]:
    """Rewrite all that is due, each batch in a transaction of its own."""
    rewriter = Rewriter(here.shop, job)
    out: list[Changed] = []
    while True:
        with here.shop.read() as connection:
            found = rewriter.read(connection, out[-1].found.last if out else None, size)
        if found is None:
            return out
        with here.shop.begin() as connection:
            out.append(rewriter.write(connection, found, Fresh.of(change(found))))


def test_batches_rewrite_each_value_once_and_leave_nulls(people: Here) -> None:
    before = people.ask("SELECT mail FROM people ORDER BY id")
    assert [changed.rows for changed in sweep(people, job_of(people), 20)] == [20, 20, 5]
    after = people.ask("SELECT mail FROM people ORDER BY id")
    assert after == [mail and f"g1.{mail}" for mail in before]
    assert sweep(people, job_of(people), 20) == []


def test_names_are_no_part_of_the_statement(here: Here) -> None:
    mark = here.type(sqlite='"', postgresql='"', mysql="`")
    table, column = f"{mark}100%s of{mark}", f"{mark}mail %s %d{mark}"
    with here.other.begin() as connection:
        run(connection, f"CREATE TABLE {table} (id integer PRIMARY KEY, {column} {exact(here)})")
        run(connection, f"INSERT INTO {table} VALUES (1, 'anna@example.org')")
    found = here.shop.table("100%s of")
    job = Rewrite(found, "mail %s %d", ("mail %s %d",), found.key, PLAIN)
    assert [changed.rows for changed in sweep(here, job, 20)] == [1]
    with here.other.read() as connection:
        assert run(connection, f"SELECT {column} FROM {table}").scalar() == "g1.anna@example.org"


@pytest.mark.parametrize("held", ["text", "bytes"])
def test_no_value_is_taken_for_another(here: Here, held: str) -> None:
    """There and back, each change as odd as the value itself, told from all others byte by byte."""
    column = exact(here) if held == "text" else binary(here)
    here.sql(f"CREATE TABLE people (id integer PRIMARY KEY, mail {column})")
    values: list[Any] = list(ODD)
    if held == "bytes":
        values = [value.encode() for value in ODD if not value.startswith("g1")] + [b"\x00\xff'\"\\", b"g", b"g1"]
    if here.shop.dialect != "postgresql" and held == "text":
        values.append("nul\x00inside")
    for number, value in enumerate(values):
        here.sql("INSERT INTO people VALUES (:id, :mail)", id=number, mail=value)
    fresh = {number: (f"g1.{value}" if held == "text" else b"g1" + value) for number, value in enumerate(values)}
    due = [number for number, value in enumerate(values) if value != b"g1"]

    def seal(found: Found) -> list[New | None]:
        assert list(found.values) == [values[key[0]] for key in found.keys]
        return [(fresh[key[0]],) for key in found.keys]

    [changed] = sweep(here, job_of(here), 100, seal)
    assert (changed.found.keys, changed.missed) == (tuple((number,) for number in due), frozenset())
    assert here.ask("SELECT mail FROM people ORDER BY id") == [
        fresh[number] if number in due else b"g1" for number in fresh
    ]
    [changed] = sweep(here, job_of(here, SEALED), 100, lambda found: [(values[key[0]],) for key in found.keys])
    assert (changed.rows, changed.missed) == (len(values), frozenset())
    assert here.ask("SELECT mail FROM people ORDER BY id") == values


KEYS: dict[str, tuple[dict[str, str], list[Any]]] = {
    "whole numbers": (dict.fromkeys(("sqlite", "postgresql", "mysql"), "bigint"), [-(2**62), -1, 0, 7, 300, 2**62]),
    "texts": (
        {"sqlite": "TEXT", "postgresql": "text", "mysql": "varchar(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"},
        ["", "A", "a", "a b", 'q"uote', "ba\\ck", "{1}", "é", "🙂", "it's"],
    ),
    "texts of one byte": (
        {"sqlite": "TEXT", "postgresql": "varchar(9)", "mysql": "varchar(9) CHARACTER SET latin1 COLLATE latin1_bin"},
        ["A", "a", "z", "é", "ü"],
    ),
    "bytes": (
        {"sqlite": "BLOB", "postgresql": "bytea", "mysql": "varbinary(20)"},
        [b"", b"\x00", b"\x00\x01", b"'\"\\", b"\xff" * 9],
    ),
    "UUIDs": (
        {"sqlite": "BLOB", "postgresql": "uuid", "mysql": "uuid"},
        [UUID(int=number * 2**100 + number) for number in range(6)],
    ),
    "decimals": (
        {"sqlite": "TEXT", "postgresql": "numeric(12,4)", "mysql": "decimal(12,4)"},
        [Decimal("-7.2500"), Decimal("0.0000"), Decimal("0.0001"), Decimal("12345678.1234")],
    ),
}


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("double", [False, True], ids=["single", "composite"])
def test_rows_are_named_by_any_key(here: Here, kind: str, double: bool) -> None:
    types, keys = KEYS[kind]
    shown = [_shown(here.shop.dialect, key) for key in keys]
    first = "part integer, " if double else ""
    named = "part, k" if double else "k"
    column = types[here.shop.dialect]
    here.sql(f"CREATE TABLE people ({first}k {column} NOT NULL, mail {exact(here)}, PRIMARY KEY ({named}))")
    rows = [(part, key) for part in ((1, 2) if double else (None,)) for key in shown]
    for part, key in rows:
        values = {"part": part, "k": key, "mail": f"{part} {key!r}"}
        here.sql(
            f"INSERT INTO people ({named}, mail) VALUES ({':part, ' if double else ''}:k, :mail)",
            **{name: value for name, value in values.items() if value is not None},
        )
    done = sweep(here, job_of(here), 4)
    assert sum(changed.rows for changed in done) == len(rows)
    assert not any(changed.missed for changed in done)
    assert len({key for changed in done for key in changed.found.keys}) == len(rows)
    assert all(str(mail).startswith("g1.") for mail in here.ask("SELECT mail FROM people"))


def _shown(dialect: str, key: Any) -> Any:
    if isinstance(key, UUID):
        return key.bytes if dialect == "sqlite" else key if dialect == "postgresql" else str(key)
    return str(key) if dialect == "sqlite" and isinstance(key, Decimal) else key


@pytest.mark.parametrize(
    "meanwhile",
    [
        "UPDATE people SET mail = upper(mail) WHERE id = 7",
        "UPDATE people SET mail = '{mail} ' WHERE id = 7",
        "UPDATE people SET mail = NULL WHERE id = 7",
        "DELETE FROM people WHERE id = 7",
        "UPDATE people SET id = 700 WHERE id = 7",
        "UPDATE people SET mail = 'g1.theirs' WHERE id = 7",
    ],
)
def test_a_faster_writer_wins(people: Here, meanwhile: str) -> None:
    rewriter = Rewriter(people.shop, job_of(people))
    with people.shop.read() as connection:
        found = rewriter.read(connection, None, 100)
    assert found is not None
    people.sql(meanwhile.format(mail="anna7@example.org"))
    theirs = people.ask("SELECT id, mail FROM people WHERE id IN (7, 700)")
    with people.shop.begin() as connection:
        changed = rewriter.write(connection, found, Fresh.of(sealed(found)))
    assert [found.keys[place] for place in changed.missed] == [(7,)]
    assert changed.rows == 44
    assert people.ask("SELECT id, mail FROM people WHERE id IN (7, 700)") == theirs
    assert people.ask("SELECT count(*) FROM people WHERE mail LIKE 'g1.anna%'") == [44]


@pytest.mark.parametrize("here", ["sqlite"], indirect=True)
def test_a_number_is_told_from_one_that_equals_it(people: Here) -> None:
    """SQLite takes 1 and 1.0 for equal; a column without a type keeps both."""
    people.sql("CREATE TABLE loose (id integer PRIMARY KEY, mail)", "INSERT INTO loose VALUES (1, 1), (2, 2.5), (3, 3)")
    rewriter = Rewriter(people.shop, job_of(people, table="loose"))
    with people.shop.read() as connection:
        found = rewriter.read(connection, None, 10)
    assert found is not None
    assert list(found.values) == [1, 2.5, 3]
    people.sql("UPDATE loose SET mail = 1.0 WHERE id = 1")
    with people.shop.begin() as connection:
        changed = rewriter.write(connection, found, Fresh.of(sealed(found)))
    assert changed.missed == {0}
    assert people.ask("SELECT mail FROM loose ORDER BY id") == [1.0, "g1.2.5", "g1.3"]


def test_several_columns_are_set_at_once_and_rows_can_be_left_alone(people: Here) -> None:
    def change(found: Found) -> list[New | None]:
        return [
            None if key[0] % 3 == 0 else (f"g1.{value}", bytes([key[0]]))
            for key, value in zip(found.keys, found.values, strict=True)
        ]

    changed = sweep(people, replace(job_of(people), sets=("mail", "token")), 30, change)
    assert sum(each.rows for each in changed) == 45 - 15
    assert [changed[0].found.keys[place][0] for place in sorted(changed[0].left)][:3] == [3, 6, 9]
    rows = people.ask("SELECT id, mail, token FROM people WHERE id < 8 ORDER BY id")
    assert [(id_, str(mail)[:3], token) for id_, mail, token in rows] == [
        (id_, "ann" if id_ % 3 == 0 else "g1.", None if id_ % 3 == 0 else bytes([id_])) for id_ in range(1, 8)
    ]


def test_what_is_due_is_told_by_how_it_begins(people: Here) -> None:
    people.sql(
        "UPDATE people SET mail = 'g1.AAAAAAAAAA' WHERE id <= 3",
        "UPDATE people SET mail = 'g1.aaaaaaaaaa' WHERE id = 4",
    )
    current = Beginning(frozenset({"g1.AAAAAAAAAA", "g1.AAAAAAAAAB"}), frozenset({b"g1\x02\x00\x00\x00\x00\x00\x01"}))
    table = people.shop.table("people")

    def due(of: Due) -> int:
        with people.shop.read() as connection:
            return count_due(people.shop, connection, table, "mail", of)

    assert (due(PLAIN), due(SEALED), due(Due(begins=MARK, unless=current))) == (41, 4, 1)
    people.sql("UPDATE people SET token = :token WHERE id = 9", token=b"x")
    assert due(Due(lacks="token")) == 44


def test_bytes_are_due_by_their_own_beginning(here: Here) -> None:
    here.sql(f"CREATE TABLE people (id integer PRIMARY KEY, mail {binary(here)})")
    for number, value in enumerate((b"", b"g", b"g1", b"g1.", b"G1", b"plain", b"g1\x02\x00\x00\x00\x00\x00\x01more")):
        here.sql("INSERT INTO people VALUES (:id, :mail)", id=number, mail=value)
    table = here.shop.table("people")
    current = Beginning(frozenset({"g1.AAAAAAAAAA"}), frozenset({b"g1\x02\x00\x00\x00\x00\x00\x01"}))
    with here.shop.read() as connection:
        found = [
            count_due(here.shop, connection, table, "mail", due)
            for due in (PLAIN, SEALED, Due(begins=MARK, unless=current))
        ]
    assert found == [4, 3, 2]


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le", "UTF-16be"])
@pytest.mark.parametrize("declared", ["TEXT", "TEXT COLLATE NOCASE", "NUMERIC", "BLOB", ""])
def test_what_begins_sealed_in_sqlite_is_told_in_every_encoding(tmp_path: Path, encoding: str, declared: str) -> None:
    """In UTF-16le "g1\u012e" sorts between "g1." and "g1/", and is neither."""
    sealed_ones = ["g1.", "g1.AA", "g1.\u012e", b"g1", b"g1\xff\xff"]
    plain = [
        "",
        "g",
        "g1",
        "g1/",
        "g1-",
        "g1\u012e",
        "g1\u2f00",
        "G1.A",
        "h",
        b"",
        b"g",
        b"g0",
        b"g2",
        b"\xff",
        7,
        -1.5,
    ]
    with closing(sqlite3.connect(tmp_path / "shop.db", isolation_level=None)) as raw:
        raw.execute(f"PRAGMA encoding = '{encoding}'")
        raw.execute(f"CREATE TABLE people (id INTEGER PRIMARY KEY, mail {declared})")
        raw.executemany("INSERT INTO people (mail) VALUES (?)", [(value,) for value in [*plain, *sealed_ones, None]])
    shop = Shop.connect(f"sqlite:///{tmp_path}/shop.db")
    table = shop.table("people")
    for due, wanted in ((PLAIN, plain), (SEALED, sealed_ones)):
        with shop.read() as connection:
            found = Reader(shop, Look(table, "mail", ("id",), due)).read(connection, None, 100)
        assert found is not None
        as_stored = [str(value) if isinstance(value, int | float) and "TEXT" in declared else value for value in wanted]
        assert list(found.values) == as_stored
    shop.close()


@pytest.fixture
def orders(people: Here) -> Here:
    """Orders of people, some of nobody, and their positions."""
    people.sql(
        "CREATE TABLE orders (id integer PRIMARY KEY, person integer REFERENCES people (id))",
        f"CREATE TABLE positions (id integer PRIMARY KEY, o integer REFERENCES orders (id), mail {exact(people)})",
    )
    for number in range(1, 9):
        people.sql("INSERT INTO orders VALUES (:id, :person)", id=number, person=number if number % 4 else None)
        people.sql("INSERT INTO positions VALUES (:id, :o, :mail)", id=number * 10, o=number, mail=f"to {number}")
    people.sql("INSERT INTO positions VALUES (99, NULL, 'to nobody')")
    return people


def test_the_person_of_each_row_is_found_along_the_path(orders: Here) -> None:
    path = (Step("positions", ("o",), "orders", ("id",)), Step("orders", ("person",), "people", ("id",)))
    job = replace(job_of(orders, table="positions"), path=path, person=("id",))
    rewriter = Rewriter(orders.shop, job)
    with orders.shop.read() as connection:
        found = rewriter.read(connection, None, 100)
    assert found is not None
    new = [None if person is None else (f"g1.{value}",) for value, person in found.rows]
    persons = {key[0]: person for key, (_, person) in zip(found.keys, found.rows, strict=True)}
    assert persons == {10: 1, 20: 2, 30: 3, 40: None, 50: 5, 60: 6, 70: 7, 80: None, 99: None}
    orders.sql("UPDATE positions SET o = 1 WHERE id = 20")
    with orders.shop.begin() as connection:
        changed = rewriter.write(connection, found, Fresh.of(new))
    assert [found.keys[place][0] for place in sorted(changed.missed)] == [20], "its person became another one"
    assert [found.keys[place][0] for place in sorted(changed.left)] == [40, 80, 99]


def test_a_table_is_cut_into_ranges_that_hold_every_row_once(people: Here) -> None:
    table = people.shop.table("people")
    for parts in (1, 2, 3, 7, 200):
        with people.shop.read() as connection:
            cuts = cut(people.shop, connection, table, ("id",), parts)
        assert len(cuts) == (parts - 1 if parts < 200 else 50)
        seen: list[Key] = []
        for behind, upto in zip((None, *cuts), (*cuts, None), strict=True):
            after = behind
            reader = Reader(people.shop, Look(table, "mail", ("id",), upto=upto))
            with people.shop.read() as connection:
                while (found := reader.read(connection, after, 6)) is not None:
                    seen += found.keys
                    after = found.keys[-1]
        assert seen == [(number,) for number in range(1, 51)]


def test_a_trigger_that_spoils_what_is_written_is_found_out(people: Here) -> None:
    before = people.ask("SELECT mail FROM people ORDER BY id")
    if people.shop.dialect == "postgresql":
        people.sql(
            "CREATE FUNCTION low() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.mail := lower(NEW.mail);"
            " RETURN NEW; END'",
            "CREATE TRIGGER lowering BEFORE UPDATE ON people FOR EACH ROW EXECUTE FUNCTION low()",
        )
    elif people.shop.dialect == "mysql":
        people.sql("CREATE TRIGGER lowering BEFORE UPDATE ON people FOR EACH ROW SET NEW.mail = LOWER(NEW.mail)")
    else:
        people.sql(
            "CREATE TRIGGER lowering AFTER UPDATE ON people BEGIN"
            " UPDATE people SET mail = lower(mail) WHERE id = NEW.id; END"
        )
    people.shop.tables(fresh=True)
    with pytest.raises(InterlockError, match="a trigger of the shop changes"):
        sweep(people, job_of(people), 100, lambda found: [(f"g1.{value.upper()}",) for value in found.values])
    assert people.ask("SELECT mail FROM people ORDER BY id") == before
    assert [changed.rows for changed in sweep(people, job_of(people), 100)] == [45], "this one it leaves as it is"


def test_text_that_is_not_utf8_is_told(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "shop.db")
    connection.executescript(
        "CREATE TABLE people (id INTEGER PRIMARY KEY, mail TEXT);"
        "INSERT INTO people VALUES (1, CAST(x'ff4142' AS TEXT));"
    )
    connection.close()
    shop = Shop.connect(f"sqlite:///{tmp_path}/shop.db")
    job = job_of(Here(shop, shop))
    with (
        pytest.raises(GuardError, match=r"people\.mail holds a text that is not UTF-8") as caught,
        shop.read() as reader,
    ):
        Rewriter(shop, job).read(reader, None, 10)
    assert "AB" not in f"{caught.value} {caught.value.hint}"
    shop.close()


@pytest.fixture
def scattered(postgres_url: str) -> Iterator[Here]:
    """People whose keys lie in another order than their rows: PostgreSQL likes to read all of such a table."""
    here = Here(Shop.connect(postgres_url), Shop.connect(postgres_url))
    here.sql(
        "CREATE TABLE people (id uuid PRIMARY KEY, mail text)",
        "INSERT INTO people SELECT md5(n::text)::uuid, 'anna' || n || '@example.org' FROM generate_series(1, 20000) n",
        "ANALYZE people",
    )
    yield here
    here.shop.close()
    here.other.close()


def test_postgres_finds_the_rows_of_a_batch_by_their_keys(scattered: Here) -> None:
    seen = "SELECT seq_scan, idx_scan FROM pg_stat_xact_user_tables WHERE relname = 'people'"
    rewriter = Rewriter(scattered.shop, job_of(scattered))
    with scattered.shop.read() as connection:
        found = rewriter.read(connection, None, 1000)
    assert found is not None
    with scattered.shop.begin() as connection:
        before = connection.execute(text(seen)).one()
        assert rewriter.write(connection, found, Fresh.of(sealed(found))).rows == 1000
        after = connection.execute(text(seen)).one()
    assert (after.seq_scan - before.seq_scan, after.idx_scan - before.idx_scan) == (0, 1000)


def test_what_a_trigger_asks_is_planned_as_ever(scattered: Here) -> None:
    ways = ("enable_seqscan", "enable_hashjoin", "enable_mergejoin")
    told = " || ".join(f"current_setting('{way}')" for way in ways)
    scattered.sql(
        "CREATE TABLE told (ways text)",
        f"CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO told VALUES ({told});"
        " RETURN NEW; END$$",
        "CREATE TRIGGER telling BEFORE UPDATE ON people FOR EACH ROW EXECUTE FUNCTION tell()",
    )
    scattered.shop.tables(fresh=True)
    rewriter = Rewriter(scattered.shop, job_of(scattered))
    with scattered.shop.read() as connection:
        found = rewriter.read(connection, None, 10)
    assert found is not None
    with scattered.shop.begin() as connection:
        assert rewriter.write(connection, found, Fresh.of(sealed(found))).rows == 10
    assert scattered.ask("SELECT DISTINCT ways FROM told") == ["ononon"]
