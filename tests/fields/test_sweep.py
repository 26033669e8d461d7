"""Sealing and opening whole columns of real shops: nothing is lost, whatever interrupts or writes meanwhile."""

import hmac
import sqlite3
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from hashlib import blake2b

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guard.clock import SteppedClock
from guard.errors import BusyError, GuardError, InterlockError
from guard.fields import Pace, Stage
from guard.fields.batch import Direction
from guard.fields.sweep import work_of
from guard.shop import progress
from guard.shop.progress import Resolution


class Stop:
    """Progress that presses Ctrl-C after `after` batches."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self, what: str, done: int, total: int | None = None) -> None:
        self.left -= done > 0
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.fixture
def words(shop) -> Mapping[str, str]:
    """The table, its key and its columns as this shop writes them, by their names without "_" and capitals."""
    table = shop.names[0].partition(".")[0]
    columns = [name.partition(".")[2] for name in shop.names]
    return {
        **{name.replace("_", "").lower(): name for name in columns},
        "table": table,
        "key": "CustomerId" if table == "Customer" else "customer_id",
    }


def test_every_row_and_type_is_the_original_after_decrypting(shop) -> None:
    before, schema = shop.rows(), dict(shop.fields.shop.tables(fresh=True))
    shop.seal()
    assert shop.stages() == {"sealed"}
    assert all(status.plain == 0 for status in shop.fields.status())
    assert all(check.clean and check.same for check in shop.fields.verify())
    opened = shop.unseal()
    assert sum(each.rows for each in opened) == 59 * 5 - 1 + 12
    assert shop.rows() == before
    assert dict(shop.fields.shop.tables(fresh=True)) == schema
    assert shop.stages() == {"plain"}


def test_a_shop_with_text_keys_and_blanks_in_names_comes_back_whole(northwind) -> None:
    before = northwind.rows()
    swept = northwind.seal()
    assert {each.at: each.rows for each in swept}["Orders.ShipAddress"] == 830
    sealed = northwind.rows()
    assert sealed["Order Details"] == before["Order Details"]
    assert sealed["Customers"] != before["Customers"]
    assert all(check.same for check in northwind.fields.verify())
    northwind.unseal()
    assert northwind.rows() == before


def test_sealed_columns_hold_nothing_that_was_there(shop, words) -> None:
    before = {str(email) for email in shop.ask(f"SELECT {words['email']} FROM {words['table']}")}
    shop.seal()
    after = [str(email) for email in shop.ask(f"SELECT {words['email']} FROM {words['table']}")]
    assert len(after) == len(before) == 59
    assert all(email.startswith("g1.") for email in after)
    assert len(set(after)) == 59
    assert not any(old in new for old in before for new in after)


def test_null_stays_null_and_empty_text_is_sealed(shop, words) -> None:
    shop.sql(f"UPDATE {words['table']} SET {words['phone']} = '' WHERE {words['key']} < 4")
    before = shop.rows()
    shop.seal()
    query = f"SELECT {words['phone']} FROM {words['table']} WHERE {words['key']} < 4"
    assert all(str(phone).startswith("g1.") for phone in shop.ask(query))
    assert len([fax for fax in shop.ask(f"SELECT {words['fax']} FROM {words['table']}") if fax is None]) == 47
    shop.unseal()
    assert shop.rows() == before


@pytest.mark.parametrize("after", [1, 2, 3, 4, 8])
def test_an_interrupted_run_is_gone_on_with(chinook, after: int) -> None:
    before = chinook.rows()
    with pytest.raises(KeyboardInterrupt):
        chinook.seal("Customer.Email", "Customer.Address", "Customer.Phone", tell=Stop(after))
    assert "sealing" in chinook.stages()
    [opened, *_] = chinook.fields.verify(["Customer.Email"])
    assert opened.opened == min(after * 20, 59)
    chinook.seal("Customer.Email", "Customer.Address", "Customer.Phone")
    assert {check.same for check in chinook.fields.verify()} == {True}
    with pytest.raises(KeyboardInterrupt):
        chinook.unseal("Customer.Email", "Customer.Address", "Customer.Phone", tell=Stop(after))
    assert "opening" in chinook.stages()
    chinook.unseal("Customer.Email", "Customer.Address", "Customer.Phone")
    assert chinook.rows() == before


def test_an_interrupted_run_is_gone_on_with_in_postgresql(chinook_pg) -> None:
    before = chinook_pg.rows()
    for after in (1, 2, 4, 2):
        with pytest.raises(KeyboardInterrupt):
            chinook_pg.seal(tell=Stop(after))
    chinook_pg.seal()
    assert {check.same for check in chinook_pg.fields.verify()} == {True}
    for after in (3, 1):
        with pytest.raises(KeyboardInterrupt):
            chinook_pg.unseal(tell=Stop(after))
    chinook_pg.unseal()
    assert chinook_pg.rows() == before


def test_the_shop_says_what_became_of_a_run(shop) -> None:
    fields = shop.fields
    plan = fields.plan()
    with pytest.raises(KeyboardInterrupt):
        fields.encrypt(plan, "1" * 32, Stop(2))
    assert progress.resolve(fields.shop, "1" * 32) == progress.Resolved(Resolution.PARTLY, 40)
    fields.state.write(fields.remember(fields.encrypt(fields.plan(), "2" * 32)))
    assert progress.resolve(fields.shop, "2" * 32) == progress.Resolved(Resolution.DONE, 59 * 5 - 1 + 12 - 40)
    assert progress.resolve(fields.shop, "3" * 32).state is Resolution.ROLLED_BACK


def test_decrypting_must_be_finished_before_sealing_again(chinook) -> None:
    chinook.seal()
    with pytest.raises(KeyboardInterrupt):
        chinook.unseal("Customer.Email", tell=Stop(1))
    with pytest.raises(InterlockError, match="decrypting it was interrupted"):
        chinook.seal("Customer.Email")


def test_sealing_can_be_given_up_halfway(shop) -> None:
    before = shop.rows()
    with pytest.raises(KeyboardInterrupt):
        shop.seal(tell=Stop(2))
    shop.unseal(shop.names[0])
    assert shop.rows() == before


def test_what_the_shop_writes_meanwhile_is_kept_and_sealed(shop, words) -> None:
    """A row behind the sweep, one before it, a new one, a deleted one: written between batches."""
    table, key, email = words["table"], words["key"], words["email"]
    name, last = words["firstname"], words["lastname"]

    def write(what: str, done: int, total: int | None = None) -> None:
        if done == 20:
            shop.sql(
                f"UPDATE {table} SET {email} = 'behind@new.example' WHERE {key} = 3",
                f"UPDATE {table} SET {email} = 'before@new.example' WHERE {key} = 50",
                f"INSERT INTO {table} ({key}, {name}, {last}, {email}) VALUES (0, 'a', 'b', 'new@new.example')",
                f"DELETE FROM {'InvoiceLine' if table == 'Customer' else 'invoice_line'}",
                f"DELETE FROM {'Invoice' if table == 'Customer' else 'invoice'}",
                f"DELETE FROM {table} WHERE {key} = 59",
            )

    at = f"{table}.{email}"
    shop.seal(at, tell=write)
    [check] = shop.fields.verify([at])
    assert (check.rows, check.opened, check.plain) == (59, 59, 0)
    assert check.same is False, "row 3 was sealed twice and row 59 deleted or never sealed"
    shop.unseal(at)
    assert shop.ask(f"SELECT {email} FROM {table} WHERE {key} IN (0, 3, 50) ORDER BY {key}") == [
        "new@new.example", "behind@new.example", "before@new.example",
    ]  # fmt: skip


def test_a_shop_that_never_stops_writing_plain_text_is_left_and_said(chinook) -> None:
    def write(what: str, done: int, total: int | None = None) -> None:
        chinook.sql("UPDATE Customer SET Email = 'again@new.example' WHERE CustomerId = 1")

    [swept] = chinook.seal("Customer.Email", tell=write)
    assert swept.left == 1
    assert swept.record.stage is Stage.SEALING
    [swept] = chinook.seal("Customer.Email")
    assert swept.left == 0
    assert swept.record.stage is Stage.SEALED


def test_a_writer_in_another_thread_loses_no_update(chinook_pg, chinook_postgres: str) -> None:
    """The writer counts up in each row's phone number; afterwards each row holds the last number written."""
    last: dict[int, str] = {}
    stop = threading.Event()

    def write() -> None:
        with psycopg.connect(chinook_postgres, autocommit=True) as connection:
            number = 0
            while not stop.is_set() or number < 60:
                row = number % 59 + 1
                connection.execute("UPDATE customer SET phone = %s WHERE customer_id = %s", (f"+{number}", row))
                last[row] = f"+{number}"
                number += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(8):
            chinook_pg.seal("customer.phone")
    finally:
        stop.set()
        thread.join()
    chinook_pg.seal("customer.phone")
    assert chinook_pg.fields.verify(["customer.phone"])[0].plain == 0
    chinook_pg.unseal("customer.phone")
    found = chinook_pg.ask("SELECT phone FROM customer ORDER BY customer_id")
    assert found == [last[row] for row in sorted(last)]


def test_an_update_trigger_that_leaves_values_alone_is_no_obstacle(shop, words) -> None:
    table, city = words["table"], "City" if words["table"] == "Customer" else "city"
    if shop.fields.shop.dialect == "sqlite":
        shop.sql(f"CREATE TRIGGER seen AFTER UPDATE ON {table} BEGIN UPDATE {table} SET {city} = '-' WHERE 1; END")
    else:
        shop.sql(
            "CREATE FUNCTION seen() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.city := $$-$$; RETURN NEW; END'",
            f"CREATE TRIGGER seen BEFORE UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION seen()",
        )
    at = f"{table}.{words['email']}"
    assert any("the trigger seen runs for each row" in note for note in shop.fields.plan([at]).columns[0].notes)
    shop.seal(at)
    assert shop.fields.verify([at])[0].same


def test_a_column_binding_needs_no_row(make, chinook_file) -> None:
    bench = make(f"sqlite:///{chinook_file}", "Customer.Email", "Customer.Phone", bind="column")
    before = bench.rows()
    bench.seal()
    bench.sql("UPDATE Customer SET Email = (SELECT Email FROM Customer WHERE CustomerId = 2) WHERE CustomerId = 1")
    [email, _] = bench.fields.verify()
    assert email.opened == 59
    assert email.same is False
    bench.unseal()
    assert bench.rows()["Customer"][1:] == before["Customer"][1:]


def test_a_column_with_its_own_collation_gets_it_back(make, postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        connection.execute(
            'CREATE TABLE p (id int PRIMARY KEY, a varchar(9) COLLATE "C", b char(4) DEFAULT $$d$$, c text COLLATE "C")'
        )
        connection.execute("INSERT INTO p VALUES (1, 'x', 'y', 'z'), (2, '', '', NULL)")
    bench = make(postgres_url, "p.a", "p.b", "p.c")
    before, schema = bench.rows(), dict(bench.fields.shop.tables())
    bench.seal()
    assert [column.type for column in bench.fields.shop.table("p").columns] == ["integer", "text", "text", "text"]
    bench.unseal()
    assert dict(bench.fields.shop.tables()) == schema
    assert bench.rows() == before


def test_a_type_the_shop_has_outgrown_stays_text_and_is_said(chinook_pg) -> None:
    chinook_pg.seal("customer.phone")
    chinook_pg.sql("UPDATE customer SET phone = repeat('1', 30) WHERE customer_id = 1")
    [swept] = chinook_pg.unseal("customer.phone")
    assert swept.note == "customer.phone stays text: it holds texts longer than character varying(24)"
    assert chinook_pg.fields.shop.table("customer").column("phone").type == "text"


def test_a_view_made_meanwhile_keeps_the_column_text_and_is_said(chinook_pg) -> None:
    chinook_pg.seal("customer.phone")
    chinook_pg.sql("CREATE VIEW phones AS SELECT phone FROM customer")
    [swept] = chinook_pg.unseal("customer.phone")
    assert swept.note is not None
    assert swept.note.startswith("customer.phone stays text: a view")
    assert chinook_pg.stages() == {"plain"}


def test_a_writer_in_the_way_is_waited_for_with_smaller_batches(chinook, chinook_file, clock) -> None:
    with chinook.fields.shop.bare() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout = 1")
    other = sqlite3.connect(chinook_file, isolation_level=None)
    sizes: list[int] = []

    class Waiting(SteppedClock):
        def sleep(self, span: timedelta) -> None:
            super().sleep(span)
            if other.in_transaction and self.now() - clock.now() > timedelta(milliseconds=500):  # the third wait
                other.execute("COMMIT")

    def block(what: str, done: int, total: int | None = None) -> None:
        sizes.append(done)
        if done == 20:
            other.execute("BEGIN IMMEDIATE")

    fields = replace(chinook.fields, clock=Waiting(clock.now()))
    fields.encrypt(fields.plan(["Customer.Email"]), "0" * 32, block)
    assert sizes[:4] == [0, 20, 22, 42], "the fourth try took an eighth of a batch, the next was whole again"
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(BusyError, match="locked by somebody else"):
        chinook.seal("Customer.Phone")
    other.close()


def test_the_digest_is_what_the_format_says(chinook, keyring) -> None:
    """Computed by hand from docs/FORMATS.md, sections 1, 3 and 7."""
    rows = chinook.rows()["Customer"]
    digest_key = keyring.current("digest").material
    value_key = hmac.digest(digest_key, joined(b"guard/digest1", b"fields/value", b""), "sha256")
    total = 0
    for row in rows:
        number = row[0]
        key = b"\x01i" + struct.pack(">I", 1) + bytes([number])  # all ids are below 128
        mac = blake2b(struct.pack(">I", 6) + key + b"\x00" + str(row[11]).encode(), key=value_key, digest_size=32)
        total += int.from_bytes(mac.digest(), "big")
    [swept] = chinook.seal("Customer.Email")
    assert swept.record.digest == f"{total % 2**256:064x}"


def test_each_value_has_the_digest_of_its_own_type(small: Callable, keyring) -> None:
    """SQLite holds values of several types in a column; "7", 7 and x'37' are three."""
    rows = {1: "7", 2: 7, 3: b"7", 4: -1.5, 300: "7", -1: ""}
    bench = small("CREATE TABLE t (k INTEGER PRIMARY KEY, v)", "t.v", size=4)
    with bench.fields.shop.begin() as connection:
        for key, value in rows.items():
            connection.exec_driver_sql("INSERT INTO t VALUES (?, ?)", (key, value))
    digest_key = keyring.current("digest").material
    value_key = hmac.digest(digest_key, joined(b"guard/digest1", b"fields/value", b""), "sha256")
    written = [
        (b"\x01", b"\x00" b"7"), (b"\x02", b"\x02\x07"), (b"\x03", b"\x01" b"7"),
        (b"\x04", b"\x07" + struct.pack(">d", -1.5)), (b"\x01\x2c", b"\x00" b"7"), (b"\xff", b"\x00"),
    ]  # fmt: skip
    total = 0
    for number, value in written:
        row = struct.pack(">I", 1) + b"\x01i" + struct.pack(">I", len(number)) + number
        made = blake2b(row + value, key=value_key, digest_size=32)
        total += int.from_bytes(made.digest(), "big")
    [swept] = bench.seal()
    assert (swept.record.rows, swept.record.digest) == (6, f"{total % 2**256:064x}")
    assert bench.fields.verify()[0].same


def joined(*parts: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)


def test_decrypting_forgets_the_batches_but_not_the_runs(shop) -> None:
    run = shop.seal()[0]
    with shop.fields.shop.read() as connection:
        assert progress.total(shop.fields.shop, connection, work_of(Direction.SEAL, run.record.column_id)).rows == 59
    shop.unseal()
    with shop.fields.shop.read() as connection:
        assert progress.total(shop.fields.shop, connection, work_of(Direction.SEAL, run.record.column_id)).batches == 0


TEXTS = st.text(st.characters(blacklist_categories=("Cs",)), max_size=12)


@given(rows=st.dictionaries(TEXTS, st.none() | TEXTS.filter(lambda text: not text.startswith("g1.")), max_size=12))
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_under_any_key_comes_back(small: Callable, rows: dict[str, str | None]) -> None:
    bench = small("DROP TABLE IF EXISTS t; CREATE TABLE t (k TEXT PRIMARY KEY, v TEXT)", "t.v", size=5)
    with bench.fields.shop.begin() as connection:
        for key, value in rows.items():
            connection.exec_driver_sql("INSERT INTO t VALUES (?, ?)", (key, value))
    before = bench.rows()
    bench.seal()
    [check] = bench.fields.verify(["t.v"])
    assert check.clean
    assert check.opened == sum(value is not None for value in rows.values())
    bench.unseal()
    assert bench.rows() == before


def test_the_pace_keeps_transactions_between_its_bounds() -> None:
    pace = Pace()
    assert pace.next(1000, timedelta(milliseconds=20)) == 2000
    assert pace.next(1000, timedelta(milliseconds=45)) == 1000
    assert pace.next(1000, timedelta(milliseconds=170)) == 500
    assert pace.next(8000, timedelta()) == 8000
    assert pace.next(100, timedelta(seconds=9)) == 100
    assert pace.next(1000, timedelta(milliseconds=20), each=2000) == 1048, "2 MiB of values"
    assert pace.next(1000, timedelta(milliseconds=20), each=10 << 20) == 1


def test_processes_are_as_many_as_were_asked_for_and_have_rows_enough() -> None:
    pace = Pace()
    assert [pace.workers(due, 4) for due in (0, 199_999, 200_000, 399_999, 10**9)] == [1, 1, 2, 3, 4]
    assert pace.workers(10**9, 1) == 1


def test_a_column_whose_type_cannot_be_changed_after_all_gets_out_again(chinook_pg) -> None:
    """The function is made after the plan, which would have refused."""
    plan = chinook_pg.fields.plan(["customer.email"])
    chinook_pg.sql("CREATE FUNCTION f() RETURNS text BEGIN ATOMIC SELECT email FROM customer LIMIT 1; END")
    with pytest.raises(GuardError, match="0A000"):
        chinook_pg.fields.encrypt(plan, "0" * 32)
    assert chinook_pg.stages() >= {"indexing"}
    chinook_pg.unseal("customer.email")
    assert chinook_pg.stages() == {"plain"}


def test_all_works_of_a_run_stand_in_the_shop_before_the_first_batch(chinook) -> None:
    heads: list[object] = []

    def look(*_: object) -> None:
        heads[:] = heads or chinook.ask("SELECT work FROM guard_progress WHERE number = 0")

    chinook.seal(tell=look)
    assert len(heads) == len(chinook.names)
    heads.clear()
    chinook.unseal(tell=look)
    assert len([head for head in heads if str(head).startswith("decrypt")]) == len(chinook.names)
