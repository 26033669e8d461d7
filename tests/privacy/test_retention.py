import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from guard.clock import SteppedClock
from guard.config import Catalog, Column
from guard.errors import ConfigError, InterlockError, UnavailableError
from guard.events import RunId
from guard.privacy import Retention, RetentionPlan, Ruling, Seals
from guard.privacy import plan as plan_module
from guard.privacy.retention import Retained
from guard.shop import Shop
from guard.shop.progress import Resolution, resolve
from guard.state import State
from tests.privacy.conftest import MakeShop, keyed

SHOP = """
CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT NOT NULL, email TEXT UNIQUE, phone TEXT, city TEXT,
  created TEXT);
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER NOT NULL REFERENCES customers, placed TEXT, total NUMERIC,
  ship_name TEXT, status TEXT DEFAULT 'closed');
CREATE TABLE items (order_id INTEGER REFERENCES orders, pos INTEGER, price NUMERIC, PRIMARY KEY (order_id, pos));
CREATE TABLE notes (id INTEGER PRIMARY KEY, customer INTEGER REFERENCES customers, body TEXT, written TEXT);
INSERT INTO customers VALUES
  (1, 'Anna', 'anna@example.org', '030 1', 'Berlin', '2010-01-01'),
  (2, 'Ben', 'ben@example.org', NULL, 'Bonn', '2010-01-01'),
  (3, 'Cem', NULL, '030 3', 'Ulm', '2012-01-01'), (4, 'Dana', 'dana@example.org', '030 4', 'Kiel', '2025-06-01'),
  (5, 'Eve', 'eve@example.org', '030 5', 'Köln', NULL);
INSERT INTO orders VALUES
  (10, 1, '2012-05-01', 10.5, 'Anna', 'closed'), (11, 1, '2025-11-01', 7, 'Anna', 'closed'),
  (12, 2, '2015-12-31', 8, 'Ben', 'closed'), (13, 2, '2016-01-01', 9, 'Ben', 'open');
INSERT INTO items VALUES (10, 1, 5), (10, 2, 5.5), (11, 1, 7), (12, 1, 8), (13, 1, 9);
INSERT INTO notes VALUES (1, 1, 'called', '2020-01-01'), (2, 2, 'wrote', '2025-12-01'), (3, 3, 'asked', 'unknown');
"""

CATALOG = Catalog(
    column=(
        Column(at="customers.name", id=1, category="name", anonymize="pseudonym"),
        Column(at="customers.email", id=2, category="email", anonymize="pseudonym"),
        Column(at="customers.phone", id=3, category="phone", anonymize="null"),
        Column(at="customers.city", id=4, category="city"),
        Column(at="orders.ship_name", id=5, category="name", anonymize="null", class_="tax"),
        Column(at="orders.total", id=6, category="number", class_="tax"),
        Column(at="notes.body", id=7, category="note", anonymize="null"),
    )
)

CLASSES = """
[class.account]
keep = "3 years"
basis = "x"
[class.tax]
keep = "10 years"
count = "year end"
least = true
basis = "x"
"""

CUSTOMERS = """
[[rule]]
name = "customers"
table = "customers"
since = "orders.placed"
otherwise = "customers.created"
method = "anonymize"
basis = "x"
reason = "x"
"""
ORDERS = """
[[rule]]
name = "orders"
table = "orders"
since = "orders.placed"
class = "tax"
method = "anonymize"
basis = "x"
reason = "x"
"""
NOTES = """
[[rule]]
name = "notes"
table = "notes"
since = "notes.written"
keep = "2 years"
method = "delete"
basis = "x"
reason = "x"
"""
PLAIN = Seals(lambda _: lambda _key, value: value, lambda _: lambda _key, value: value, lambda _: ("id",))


class House:
    """A shop, a policy and the retention on them."""

    def __init__(self, shop: Shop, folder: Path, state: State, clock: SteppedClock) -> None:
        self.shop, self.folder, self.state, self.clock = shop, folder, state, clock
        self.catalog, self.seals, self.runs = CATALOG, PLAIN, 0
        self.rules()

    def rules(self, *rules: str, limit: str = "", classes: str = CLASSES) -> "House":
        (self.folder / "retention.toml").write_text("\n".join((classes, limit, *rules)))
        return self

    @property
    def retention(self) -> Retention:
        ruling = lambda: Ruling.read(self.folder, self.catalog)  # noqa: E731  # as the app hands it over
        return Retention(self.shop, ruling, self.seals, self.state, self.clock, keyed)

    def run(self, plan: RetentionPlan) -> Retained:
        self.runs += 1
        run = RunId(f"{self.runs:032x}")
        retention = self.retention
        done = retention.run(plan, run)
        self.state.write(retention.remember(plan, run, done))
        return done

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with self.shop.read() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(query)]


@pytest.fixture
def house(make_shop: MakeShop, tmp_path: Path, state: State, clock: SteppedClock) -> House:
    return House(make_shop(SHOP), tmp_path, state, clock)


def test_the_right_rows_are_treated_and_all_others_left_alone(house: House) -> None:
    before = house.rows("SELECT * FROM customers WHERE id IN (1, 4, 5) ORDER BY id")
    totals = house.rows("SELECT sum(total), count(*) FROM orders")
    plan = house.rules(CUSTOMERS).retention.plan()
    (rule,) = plan.rules
    # 1 ordered last year, 4 is new, 5 has no date at all; 2 ordered last in 2016, 3 never ordered
    assert (rule.due, rule.treated, rule.undated, rule.rows) == (2, 0, 1, 5)
    done = house.run(plan)
    assert done.rows == {"customers": 2}
    assert house.rows("SELECT * FROM customers WHERE id IN (1, 4, 5) ORDER BY id") == before
    assert house.rows("SELECT sum(total), count(*) FROM orders") == totals
    (ben, cem) = house.rows("SELECT name, email, phone, city FROM customers WHERE id IN (2, 3) ORDER BY id")
    assert str(ben[0]).startswith("anon-")
    assert str(ben[1]).endswith("@anon.invalid")
    assert ben[2:] == (None, "Bonn")
    assert str(cem[0]).startswith("anon-")
    assert cem[1:] == (None, None, "Ulm")


def test_a_plan_changes_nothing(house: House) -> None:
    assert house.shop.path is not None
    before = house.shop.path.read_bytes()
    house.rules(CUSTOMERS, ORDERS, NOTES).retention.plan()
    assert house.shop.path.read_bytes() == before


def test_the_second_run_has_nothing_to_do(house: House) -> None:
    house.rules(CUSTOMERS, ORDERS)
    house.run(house.retention.plan())
    again = house.retention.plan()
    assert again.rows == 0
    assert [rule.treated for rule in again.rules] == [2, 2]
    assert house.run(again).total == 0


def test_tax_terms_end_with_their_calendar_year(house: House) -> None:
    house.rules(ORDERS)
    # the clock stands at 2026-01-05: 2015-12-31 + 10 years from the year's end is over since 2026-01-01
    house.run(house.retention.plan())
    assert house.rows("SELECT id, ship_name FROM orders ORDER BY id") == [
        (10, None),
        (11, "Anna"),
        (12, None),
        (13, "Ben"),
    ]
    assert house.rows("SELECT id, total FROM orders WHERE id = 10") == [(10, 10.5)]


def test_a_rule_leaves_what_a_law_keeps_longer(house: House) -> None:
    short = ORDERS.replace('class = "tax"', 'keep = "1 year"')
    with pytest.raises(ConfigError, match=r"the law keeps orders\.ship_name longer"):
        house.rules(short).retention.plan()
    house.catalog = Catalog(
        column=(*CATALOG.column, Column(at="orders.status", id=9, category="note", anonymize="constant"))
    )
    (rule,) = house.retention.plan().rules
    assert (rule.columns, rule.left) == (("status",), ("orders.ship_name",))


def test_deleting_business_records_before_the_law_allows_it_is_refused(house: House) -> None:
    rule = ORDERS.replace('class = "tax"', 'keep = "10 years"').replace('"anonymize"', '"delete"')
    with pytest.raises(ConfigError, match="anonymize instead"):
        house.rules(rule).retention.plan()


def test_rows_others_refer_to_are_held(house: House) -> None:
    delete = CUSTOMERS.replace('"anonymize"', '"delete"')
    (rule,) = house.rules(delete).retention.plan().rules
    assert (rule.due, rule.held) == (0, 2)  # 2 has orders and a note, 3 a note without a date


def test_rows_go_once_a_rule_before_has_deleted_what_refers_to_them(house: House) -> None:
    with house.shop.begin() as connection:
        connection.exec_driver_sql("UPDATE notes SET written = '2013-01-01' WHERE id = 3")
    notes, customers = house.rules(NOTES, CUSTOMERS.replace('"anonymize"', '"delete"')).retention.plan().rules
    assert (notes.due, customers.due, customers.held) == (2, 1, 1)
    done = house.run(house.retention.plan())
    assert done.rows == {"notes": 2, "customers": 1}
    assert house.rows("SELECT id FROM customers ORDER BY id") == [(1,), (2,), (4,), (5,)]
    reverse = house.rules(CUSTOMERS.replace('"anonymize"', '"delete"'), NOTES).retention.plan()
    assert reverse.rules[0].held == 1


def test_children_named_in_cascade_go_with_their_row(house: House) -> None:
    rule = ORDERS.replace('"anonymize"', '"delete"\ncascade = ["items"]')
    plan = house.rules(rule).retention.plan()
    assert dict(plan.rules[0].children) == {"items": 3}
    assert "3 rows of items with them" in plan.lines[0]
    done = house.run(plan)
    assert (done.rows, done.children) == ({"orders": 2}, {"items": 3})
    assert house.rows("SELECT order_id FROM items ORDER BY 1") == [(11,), (13,)]
    assert house.rows("SELECT id FROM orders ORDER BY 1") == [(11,), (13,)]
    assert house.rows("PRAGMA foreign_key_check") == []


def test_children_that_go_along_count_against_the_limit(house: House) -> None:
    rule = ORDERS.replace('"anonymize"', '"delete"\ncascade = ["items"]')
    plan = house.rules(rule, limit="[limit]\nfloor = 2").retention.plan()
    assert plan.rules[0].due == 2  # within the floor; their items are not
    assert plan.over == ("orders: of items, 3 rows are more than 1.0% of the table's 5",)


def test_only_rows_that_equal_where(house: House) -> None:
    house.rules(ORDERS.replace('class = "tax"', 'class = "tax"\nwhere = { status = "open" }'))
    house.clock.step(timedelta(days=366))
    house.run(house.retention.plan())
    assert house.rows("SELECT id FROM orders WHERE ship_name IS NULL") == [(13,)]


def test_whoever_orders_again_between_plan_and_run_stays(house: House) -> None:
    plan = house.rules(CUSTOMERS).retention.plan()
    with house.shop.begin() as connection:
        connection.exec_driver_sql("INSERT INTO orders VALUES (99, 2, '2026-01-05', 1, 'Ben', 'open')")
    done = house.run(plan)
    assert (done.rows, done.passed) == ({"customers": 1}, 1)
    assert house.rows("SELECT name FROM customers WHERE id = 2") == [("Ben",)]


def test_a_plan_stands_for_its_day_and_its_rows(house: House) -> None:
    house.rules(CUSTOMERS)
    plan = house.retention.plan()
    house.clock.step(timedelta(hours=14))
    assert house.retention.planned(plan.digest).digest == plan.digest
    with house.shop.begin() as connection:
        connection.exec_driver_sql("UPDATE customers SET created = '2025-01-01' WHERE id = 3")
    with pytest.raises(InterlockError, match="is not what is due now"):
        house.retention.planned(plan.digest)


def test_a_plan_is_carried_out_once(house: House) -> None:
    plan = house.rules(CUSTOMERS).retention.plan()
    house.run(plan)
    with pytest.raises(InterlockError, match="was carried out already"):
        house.retention.planned(plan.digest)


def test_a_policy_that_changed_since_the_plan_is_refused(house: House) -> None:
    plan = house.rules(CUSTOMERS).retention.plan()
    house.rules(CUSTOMERS.replace('reason = "x"', 'reason = "y"'))
    with pytest.raises(InterlockError, match="changed since the plan"):
        house.retention.run(plan, RunId("0" * 32))


@pytest.fixture
def many(make_shop: MakeShop, tmp_path: Path, state: State, clock: SteppedClock) -> House:
    """2,000 customers whose account has ended, and nobody else."""
    return House(
        make_shop(
            SHOP.split("INSERT", maxsplit=1)[0]
            + "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) INSERT INTO customers"
            " SELECT i, 'Name' || i, 'p' || i || '@example.org', '0' || i, 'Ulm', '2015-01-01' FROM n;"
        ),
        tmp_path,
        state,
        clock,
    )


def test_an_interrupted_run_goes_on_under_the_same_digest(many: House) -> None:
    plan = many.rules(CUSTOMERS).retention.plan()
    assert plan.rows == 2000

    def stop(_: str, done: int, __: int | None = None) -> None:
        if done >= 2 * plan_module.BATCH:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        many.retention.run(plan, RunId("f" * 32), stop)
    assert many.rows("SELECT count(*) FROM customers WHERE name LIKE 'anon-%'") == [(2 * plan_module.BATCH,)]
    resolved = resolve(many.shop, "f" * 32)
    assert (resolved.state, resolved.rows) == (Resolution.PARTLY, 2 * plan_module.BATCH)

    many.clock.step(timedelta(days=3))
    rest = many.retention.planned(plan.digest)
    assert (rest.resumed, rest.rows, rest.as_of) == (True, 2000 - 2 * plan_module.BATCH, plan.as_of)
    assert many.run(rest).total == rest.rows
    assert many.rows("SELECT count(*) FROM customers WHERE name NOT LIKE 'anon-%'") == [(0,)]
    assert many.rows("SELECT count(DISTINCT email) FROM customers") == [(2000,)]
    with pytest.raises(InterlockError, match="carried out already"):
        many.retention.planned(plan.digest)


def test_an_interrupted_run_does_not_go_on_under_another_policy(many: House) -> None:
    plan = many.rules(CUSTOMERS).retention.plan()

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        many.retention.run(plan, RunId("f" * 32), stop)
    many.rules(CUSTOMERS.replace('otherwise = "customers.created"', ""))
    with pytest.raises(InterlockError, match="is not what is due now"):
        many.retention.planned(plan.digest)


def test_a_batch_stands_or_falls_as_a_whole(many: House) -> None:
    plan = many.rules(CUSTOMERS).retention.plan()
    with many.shop.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER no BEFORE UPDATE ON customers WHEN NEW.id = 700 BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    with pytest.raises(Exception, match="refused"):
        many.retention.run(plan, RunId("f" * 32))
    assert many.rows("SELECT count(*) FROM customers WHERE name LIKE 'anon-%'") == [(plan_module.BATCH,)]
    with many.shop.begin() as connection:
        connection.exec_driver_sql("DROP TRIGGER no")
    assert many.run(many.retention.planned(plan.digest)).total == 2000 - plan_module.BATCH


def test_large_plans_name_why_they_wait_for_a_person(many: House) -> None:
    plan = many.rules(CUSTOMERS).retention.plan()
    assert plan.over == ("customers: 2000 rows are more than 1.0% of the table's 2000",)
    assert plan.lines[-1].startswith("waits for a person: customers")
    assert many.rules(CUSTOMERS, limit="[limit]\nshare = 1.0").retention.plan().over == ()


def test_the_median_of_earlier_nights_counts(many: House) -> None:
    with many.shop.begin() as connection:
        connection.exec_driver_sql("UPDATE customers SET created = date('2022-12-30', '+' || (id / 10) || ' days')")
    many.rules(CUSTOMERS, limit="[limit]\nshare = 1.0\nfloor = 5")
    for _ in range(8):
        plan = many.retention.plan()
        many.run(plan)
        many.clock.step(timedelta(days=1))
    with many.shop.begin() as connection:
        connection.exec_driver_sql("UPDATE customers SET created = '2020-01-01' WHERE id > 1000")
    assert "times the median of the last 30 days, 10" in many.retention.plan().over[0]


def test_values_in_sealed_columns_are_opened_and_sealed_again(house: House) -> None:
    """A stand-in for sealing that binds a value to its row and column, as the real one does."""
    sealed = {"customers.name", "customers.email"}

    def opener(at: str) -> Callable[[object, object], object]:
        def read(key: object, stored: object) -> object:
            if at not in sealed or stored is None:
                return stored
            head, text = str(stored).split("|")
            assert head == f"g1.{at}.{key}"
            return text[::-1]

        return read

    def sealer(at: str) -> Callable[[object, object], object]:
        return lambda key, value: f"g1.{at}.{key}|{str(value)[::-1]}" if at in sealed and value is not None else value

    house.seals = Seals(opener, sealer, lambda _: ("id",))
    with house.shop.begin() as connection:
        for number, name, mail in connection.exec_driver_sql("SELECT id, name, email FROM customers").all():
            values = (sealer("customers.name")((number,), name), sealer("customers.email")((number,), mail), number)
            connection.exec_driver_sql("UPDATE customers SET name = ?, email = ? WHERE id = ?", values)
    untouched = house.rows("SELECT * FROM customers WHERE id IN (1, 4, 5)")
    plan = house.rules(CUSTOMERS).retention.plan()
    assert house.run(plan).total == 2
    assert house.rows("SELECT * FROM customers WHERE id IN (1, 4, 5)") == untouched
    (name, mail) = house.rows("SELECT name, email FROM customers WHERE id = 2")[0]
    assert str(opener("customers.name")((2,), name)).startswith("anon-")
    assert str(opener("customers.email")((2,), mail)).endswith("@anon.invalid")
    assert house.retention.plan().rows == 0


def test_what_a_value_was_searched_by_goes_with_it(house: House) -> None:
    """The old token would still find the row by the address it no longer holds; a value that stays keeps its own."""
    with house.shop.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE customers ADD COLUMN email__guard1 BLOB")
        connection.exec_driver_sql("UPDATE customers SET email__guard1 = 'token of ' || email")
        connection.exec_driver_sql(
            "UPDATE customers SET email = 'anon-00000000@anon.invalid', email__guard1 = 'kept' WHERE id = 3"
        )
    house.shop.forget()

    def tokens(at: str) -> plan_module.Beside:
        if at != "customers.email":
            return (), lambda _: ()
        return ("email__guard1",), lambda value: (None if value is None else f"token of {value}",)

    house.seals = replace(PLAIN, tokens=tokens)
    before = dict(house.rows("SELECT id, email__guard1 FROM customers"))
    house.run(house.rules(CUSTOMERS).retention.plan())
    after = {row[0]: row[1:] for row in house.rows("SELECT id, email, email__guard1 FROM customers")}
    assert after[2][0].endswith("@anon.invalid")
    assert after[2][1] == f"token of {after[2][0]}"
    del before[2], after[2]
    assert {number: token for number, (_, token) in after.items()} == before


def test_key_parts_come_in_the_order_the_column_was_bound_in(
    make_shop: MakeShop, tmp_path: Path, state: State, clock: SteppedClock
) -> None:
    shop = make_shop(
        "CREATE TABLE t (a INTEGER, b TEXT, name TEXT, at TEXT, PRIMARY KEY (a, b));"
        "INSERT INTO t VALUES (1, 'x', 'Anna', '2010-01-01'), (1, 'y', 'Ben', '2025-01-01'),"
        " (2, 'x', 'Cem', '2010-01-01');"
    )
    house = House(shop, tmp_path, state, clock)
    seen: list[object] = []

    def opener(_: str) -> Callable[[object, object], object]:
        return lambda key, value: (seen.append(key), value)[1]

    house.seals = Seals(opener, PLAIN.sealer, lambda _: ("b", "a"))
    house.catalog = Catalog(column=(Column(at="t.name", id=1, category="name", anonymize="pseudonym"),))
    rule = NOTES.replace('"notes"', '"t"').replace("notes.written", "t.at").replace("delete", "anonymize")
    plan = house.rules(rule).retention.plan()
    assert seen == [("x", 1), ("x", 2)]
    house.run(plan)
    assert [str(name)[:5] for (name,) in house.rows("SELECT name FROM t ORDER BY a, b")] == ["anon-", "Ben", "anon-"]


def test_dates_may_be_texts_or_numbers_of_any_kind(
    make_shop: MakeShop, tmp_path: Path, state: State, clock: SteppedClock
) -> None:
    old, new = int(datetime(2010, 1, 1, tzinfo=UTC).timestamp()), int(datetime(2025, 12, 1, tzinfo=UTC).timestamp())
    shop = make_shop(
        "CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT, written);"
        f"INSERT INTO notes VALUES (1, 'a', {old}), (2, 'b', {new}), (3, 'c', {old}000), (4, 'd', 20100101),"
        " (5, 'e', '2010-01-01T00:00:00Z'), (6, 'f', '2010-01-01 00:00:00'), (7, 'g', '01.01.2010'), (8, 'h', NULL),"
        " (9, 'i', '2025-12-01'), (10, 'j', 2010);"
    )
    plan = House(shop, tmp_path, state, clock).rules(NOTES).retention.plan()
    assert plan.keys["notes"] == ((1,), (3,), (4,), (5,), (6,))
    assert plan.rules[0].undated == 3


def test_an_empty_policy_is_valid_and_does_nothing(house: House) -> None:
    plan = house.retention.plan()
    assert (plan.rows, plan.rules, plan.lines) == (0, (), ())
    assert house.run(plan).total == 0


def test_a_missing_policy_is_named(house: House) -> None:
    (house.folder / "retention.toml").unlink()
    with pytest.raises(ConfigError, match=r"cannot read .*retention\.toml"):
        house.retention.plan()


def _of_chinook(names: Callable[[str], str]) -> tuple[Catalog, tuple[str, ...]]:
    """A catalog and rules for Chinook; PostgreSQL's edition writes its names in another way."""

    def column(number: int, at: str, category: str, anonymize: str, class_: str = "account") -> Column:
        return Column(at=names(at), id=number, category=category, anonymize=anonymize, class_=class_)

    catalog = Catalog(
        column=(
            column(1, "Invoice.BillingAddress", "address", "null", "tax"),
            column(2, "Invoice.BillingPostalCode", "postcode", "postcode", "tax"),
            column(3, "Customer.FirstName", "name", "pseudonym"),
            column(4, "Customer.Email", "email", "pseudonym"),
            column(5, "Employee.BirthDate", "birth_date", "year"),
        )
    )

    def rule(name: str, table: str, since: str, class_: str = "account") -> str:
        return (
            f'[[rule]]\nname = "{name}"\ntable = "{names(table)}"\nsince = "{names(since)}"\nclass = "{class_}"\n'
            'method = "anonymize"\nbasis = "x"\nreason = "x"\n'
        )

    return catalog, (
        rule("invoices", "Invoice", "Invoice.InvoiceDate", "tax"),
        rule("customers", "Customer", "Invoice.InvoiceDate"),
        rule("employees", "Employee", "Employee.HireDate"),
    )


def _on_chinook(house: House, names: Callable[[str], str]) -> None:
    def quoted(at: str) -> str:
        return f'"{names(at)}"'

    catalog, rules = _of_chinook(names)
    house.catalog = catalog
    house.seals = replace(PLAIN, key_columns=lambda at: house.shop.table(at.partition(".")[0]).key)
    house.clock.step(datetime(2034, 6, 1, tzinfo=UTC) - house.clock.now())
    total = (
        f"SELECT {quoted('InvoiceId')}, {quoted('CustomerId')}, {quoted('Total')} FROM {quoted('Invoice')} ORDER BY 1"
    )
    before = house.rows(total)
    plan = house.rules(*rules).retention.plan()
    # invoices of 2021, 2022 and 2023: ten years after their year's end; all customers: three years after their last one
    assert [rule.due for rule in plan.rules] == [249, 59, 8]
    assert house.run(plan).total == plan.rows
    assert house.rows(total) == before
    address = f"SELECT count(*) FROM {quoted('Invoice')} WHERE {quoted('BillingAddress')} IS"
    assert house.rows(f"{address} NULL") == [(249,)]
    assert house.rows(f"{address} NOT NULL") == [(163,)]
    mail = quoted("Email")
    assert house.rows(
        f"SELECT count(DISTINCT {mail}), sum(CASE WHEN substr({mail}, 1, 5) = 'anon-' THEN 1 ELSE 0 END)"
        f" FROM {quoted('Customer')}"
    ) == [(59, 59)]
    assert all(
        str(born).startswith(str(born)[:4] + "-01-01")
        for (born,) in house.rows(f"SELECT {quoted('BirthDate')} FROM {quoted('Employee')}")
    )
    again = house.retention.plan()
    assert (again.rows, [rule.treated for rule in again.rules]) == (0, [249, 59, 8])


def test_chinook_invoices_lose_the_person_and_keep_their_totals(
    chinook: Shop, tmp_path: Path, state: State, clock: SteppedClock
) -> None:
    _on_chinook(House(chinook, tmp_path, state, clock), lambda name: name)


def _in_postgres(name: str) -> str:
    """CustomerId is customer_id there."""
    return ".".join(re.sub(r"(?<!^)([A-Z])", r"_\1", part).lower() for part in name.split("."))


@pytest.fixture
def postgres(postgres_url: str) -> Iterator[Shop]:
    shop = Shop.connect(postgres_url)
    yield shop
    shop.close()


def test_chinook_in_postgres_the_same(
    chinook_postgres: str, postgres: Shop, tmp_path: Path, state: State, clock: SteppedClock
) -> None:
    _on_chinook(House(postgres, tmp_path, state, clock), _in_postgres)


def test_deleting_with_children_in_postgres(postgres: Shop, tmp_path: Path, state: State, clock: SteppedClock) -> None:
    script = SHOP.replace("created TEXT", "created DATE").replace("placed TEXT", "placed TIMESTAMPTZ")
    with postgres.begin() as connection:
        for statement in script.split(";")[:-1]:
            connection.exec_driver_sql(statement)
    house = House(postgres, tmp_path, state, clock)
    house.rules(ORDERS.replace('"anonymize"', '"delete"\ncascade = ["items"]'), NOTES, CUSTOMERS)
    done = house.run(house.retention.plan())
    assert (done.rows, done.children) == ({"orders": 2, "notes": 1, "customers": 2}, {"items": 3})
    assert house.rows("SELECT id FROM orders ORDER BY 1") == [(11,), (13,)]
    assert house.rows("SELECT id FROM customers WHERE substr(name, 1, 5) = 'anon-' ORDER BY 1") == [(2,), (3,)]


def test_a_shop_that_is_down_says_so(house: House) -> None:
    house.rules(CUSTOMERS)
    assert house.shop.path is not None
    house.shop.close()
    house.shop.path.unlink()
    with pytest.raises(UnavailableError):
        house.retention.plan()


def test_memory_of_a_plan_is_dropped_when_it_runs(house: House) -> None:
    retention = house.rules(CUSTOMERS).retention
    plan = retention.plan()
    assert retention.planned(plan.digest) is plan
    retention.run(plan, RunId("1" * 32))
    with pytest.raises(InterlockError):
        retention.planned("0" * 32)
    assert replace(plan, resumed=True).rows == plan.rows


def test_an_order_that_was_waited_for_keeps_its_customer(
    postgres: Shop, postgres_url: str, tmp_path: Path, state: State, clock: SteppedClock
) -> None:
    """The batch waits for the lock of somebody's order that is not committed yet, and sees it then."""
    house = House(postgres, tmp_path, state, clock).rules(CUSTOMERS)
    with psycopg.connect(postgres_url) as connection:
        connection.execute(
            "CREATE TABLE customers (id integer PRIMARY KEY, name text, email text, phone text, created date);"
            "CREATE TABLE orders (id integer, customer integer REFERENCES customers, placed date);"
            "INSERT INTO customers VALUES (1, 'Anna', '', '', '2010-01-01'), (2, 'Ben', '', '', '2010-01-01');"
        )
    plan = house.retention.plan()
    assert plan.rows == 2
    done: list[Retained] = []
    with psycopg.connect(postgres_url) as ordering, psycopg.connect(postgres_url, autocommit=True) as watch:
        ordering.execute("INSERT INTO orders VALUES (1, 1, '2026-01-04')")
        work = threading.Thread(target=lambda: done.append(house.run(plan)))
        work.start()
        waiting = "SELECT count(*), pg_sleep(0.01) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        assert any(watch.execute(waiting).fetchone()[0] for _ in range(2000))
        ordering.commit()
        work.join()
        assert done[0].passed == 1
        assert watch.execute("SELECT name FROM customers WHERE id = 1").fetchone() == ("Anna",)


def test_rows_that_another_schema_refers_to_are_not_deleted(
    postgres: Shop, postgres_url: str, tmp_path: Path, state: State, clock: SteppedClock
) -> None:
    with psycopg.connect(postgres_url) as connection:
        connection.execute(
            "CREATE TABLE notes (id integer PRIMARY KEY, body text, written date); CREATE SCHEMA other;"
            "CREATE TABLE other.files (note integer REFERENCES public.notes ON DELETE CASCADE)"
        )
    house = House(postgres, tmp_path, state, clock).rules(NOTES)
    with pytest.raises(ConfigError, match=r"other\.files in another schema refers to its rows"):
        house.retention.plan()
