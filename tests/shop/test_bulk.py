"""Rewriting a column loses no update, whatever another writer or a trigger does meanwhile."""

import sqlite3
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from guard.errors import ConfigError, GuardError, InterlockError
from guard.shop import Shop
from guard.shop.bulk import Rewrite, rewrite_batch
from guard.shop.rows import Key


def shout(key: Key, old: str) -> str:
    return f"!{key[0]}{old}"


def job_of(shop: Shop, name: str = "customer", column: str = "email") -> Rewrite:
    table = shop.table(name)
    return Rewrite(table, column, table.key, "!", begins=False, change=shout)


def emails(shop: Shop, sql: str = "SELECT email FROM customer ORDER BY 1") -> list[str | None]:
    with shop.read() as connection:
        return list(connection.exec_driver_sql(sql).scalars())


@pytest.fixture(params=["chinook", "chinook_pg"])
def shop(request: pytest.FixtureRequest) -> Shop:
    """The media shop in each database; SQLite does not mind the case of names, guard does."""
    found: Shop = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def job(shop: Shop) -> Rewrite:
    return job_of(shop) if shop.dialect == "postgresql" else job_of(shop, "Customer", "Email")


def test_batches_rewrite_each_text_once(shop: Shop, job: Rewrite) -> None:
    before = emails(shop)
    after: Key | None = None
    sizes = []
    while True:
        with shop.begin() as connection:
            changed = rewrite_batch(shop, connection, job, after, 25)
        if changed is None:
            break
        sizes.append(changed.rows)
        after = changed.keys[-1]
    assert sizes == [25, 25, 9]
    got = [email for email in emails(shop) if email]
    assert sorted(email.lstrip("!0123456789") for email in got) == sorted(str(email) for email in before)
    with shop.begin() as connection:
        assert rewrite_batch(shop, connection, job, None, 25) is None


def test_nulls_and_empty_texts(shop: Shop, job: Rewrite) -> None:
    column = "fax" if shop.dialect == "postgresql" else "Fax"
    with shop.begin() as connection:
        connection.exec_driver_sql("UPDATE customer SET fax = '' WHERE fax IS NOT NULL")
        changed = rewrite_batch(shop, connection, replace(job, column=column), None, 100)
    assert changed is not None
    assert changed.rows == 12
    assert emails(shop, "SELECT count(*) FROM customer WHERE fax IS NULL") == [47]
    assert emails(shop, "SELECT count(*) FROM customer WHERE fax LIKE '!%%'") == [12]


def test_an_error_while_changing_changes_nothing(shop: Shop, job: Rewrite) -> None:
    before = emails(shop)

    def change(key: Key, old: str) -> str:
        if key[0] == 7:
            raise KeyboardInterrupt
        return shout(key, old)

    with pytest.raises(KeyboardInterrupt), shop.begin() as connection:
        rewrite_batch(shop, connection, replace(job, change=change), None, 100)
    assert emails(shop) == before


def test_a_faster_writer_wins_in_postgresql(chinook_pg: Shop, chinook_postgres: str) -> None:
    def change(key: Key, old: str) -> str:
        if key == (7,):
            with psycopg.connect(chinook_postgres) as other:
                other.execute("UPDATE customer SET email = upper(email) WHERE customer_id = 7")
                other.execute(
                    "DELETE FROM invoice_line; DELETE FROM invoice; DELETE FROM customer WHERE customer_id = 9"
                )
        return shout(key, old)

    with chinook_pg.begin() as connection:
        changed = rewrite_batch(chinook_pg, connection, replace(job_of(chinook_pg), change=change), None, 100)
    assert changed is not None
    assert changed.missed == {(7,), (9,)}
    assert changed.rows == 57
    [seventh] = emails(chinook_pg, "SELECT email FROM customer WHERE customer_id = 7")
    assert seventh == str(seventh).upper()
    assert not str(seventh).startswith("!")


def test_a_trigger_that_spoils_the_text_is_found_out(chinook_pg: Shop, chinook: Shop) -> None:
    with chinook_pg.begin() as connection:
        connection.exec_driver_sql(
            "CREATE FUNCTION low() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN NEW := jsonb_populate_record(NEW, lower(to_jsonb(NEW)::text)::jsonb); RETURN NEW; END'"
        )
        connection.exec_driver_sql(
            "CREATE TRIGGER lowering BEFORE UPDATE ON customer FOR EACH ROW EXECUTE FUNCTION low()"
        )
    with chinook.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER lowering AFTER UPDATE ON Customer BEGIN"
            " UPDATE Customer SET Email = lower(Email) WHERE CustomerId = NEW.CustomerId; END"
        )
    for shop, job in ((chinook_pg, job_of), (chinook, lambda shop: job_of(shop, "Customer", "Email"))):
        shop.tables(fresh=True)
        before = emails(shop)
        spoiled = replace(job(shop), change=lambda key, old: f"!{key[0]}{old.upper()}")
        with pytest.raises(InterlockError, match="a trigger of the shop changes"), shop.begin() as connection:
            rewrite_batch(shop, connection, spoiled, None, 100)
        assert emails(shop) == before


def test_text_that_is_not_utf8_is_told(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "shop.db")
    connection.executescript(
        "CREATE TABLE customer (id INTEGER PRIMARY KEY, email TEXT);"
        "INSERT INTO customer VALUES (1, CAST(x'ff4142' AS TEXT));"
    )
    connection.close()
    shop = Shop.connect(f"sqlite:///{tmp_path}/shop.db")
    with (
        pytest.raises(GuardError, match=r"customer\.email holds a text that is not UTF-8"),
        shop.begin() as connection_,
    ):
        rewrite_batch(shop, connection_, job_of(shop), None, 10)
    shop.close()


def test_mysql_is_refused_in_words(chinook: Shop) -> None:
    other = Shop(chinook.engine, "mysql", None, "here")
    with pytest.raises(ConfigError, match="cannot rewrite columns of mysql yet"), chinook.begin() as connection:
        rewrite_batch(other, connection, job_of(chinook, "Customer", "Email"), None, 10)
