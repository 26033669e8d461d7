"""The sample shop: the same each time, whole, in three languages, with some rows due and not too many."""

import re
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from guard.config import load_policy
from guard.config.retention import RetentionPolicy
from guard.demo import RETENTION, Size, make_shop, write_policies
from guard.errors import InterlockError

NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
SMALL = Size(customers=500, orders=1500)


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("shop") / "shop.db"
    make_shop(path, NOW, size=SMALL)
    return path


@pytest.fixture
def ask(shop):
    with closing(sqlite3.connect(shop)) as file:
        yield lambda query: file.execute(query).fetchall()


def dump(path):
    with closing(sqlite3.connect(path)) as file:
        return list(file.iterdump())


def test_the_same_seed_gives_the_same_shop(shop, tmp_path):
    make_shop(tmp_path / "again.db", NOW, size=SMALL)
    assert dump(tmp_path / "again.db") == dump(shop)


def test_another_seed_gives_other_people(shop, tmp_path):
    make_shop(tmp_path / "other.db", NOW, size=SMALL, seed=7)
    assert dump(tmp_path / "other.db") != dump(shop)


def test_it_has_the_size_that_was_asked_for(tmp_path):
    rows = make_shop(tmp_path / "shop.db", NOW, size=Size(customers=50, orders=120))
    assert (rows["customer"], rows["orders"], rows["support_note"]) == (50, 120, 20)
    assert rows["address"] >= 50
    assert rows["order_item"] >= 120


def test_the_smallest_shop_can_be_made(tmp_path):
    assert make_shop(tmp_path / "shop.db", NOW, size=Size(customers=1, orders=1))["orders"] == 1
    with pytest.raises(ValueError, match="at least one"):
        Size(customers=0)


def test_a_file_that_is_there_is_not_touched(tmp_path):
    path = tmp_path / "shop.db"
    path.write_text("mine")
    with pytest.raises(InterlockError):
        make_shop(path, NOW, size=SMALL)
    assert path.read_text() == "mine"


def test_every_reference_holds(ask):
    assert ask("PRAGMA foreign_key_check") == []
    assert ask("PRAGMA integrity_check") == [("ok",)]


def test_three_languages_live_in_it(ask):
    found = dict(ask("SELECT language, count(*) FROM customer GROUP BY 1"))
    assert set(found) == {"en", "de", "zh"}
    assert min(found.values()) > 50
    assert dict(ask("SELECT DISTINCT language, country FROM customer WHERE language <> 'en'")) == {
        "de": "DE",
        "zh": "CN",
    }
    assert any(re.search("[äöüß]", name) for (name,) in ask("SELECT last_name FROM customer WHERE language = 'de'"))
    chinese = ask("SELECT recipient FROM address JOIN customer USING (customer_id) WHERE language = 'zh'")
    assert all(re.fullmatch("[\u4e00-\u9fff]{2,4}", name) for (name,) in chinese)


def test_mail_goes_nowhere(ask):
    addresses = [address for (address,) in ask("SELECT email FROM customer")]
    assert len({address.lower() for address in addresses}) == len(addresses)
    assert all(re.fullmatch(r"[a-z.]+\d*@(example\.(com|org|net)|[a-z]+\.example)", each) for each in addresses)


def test_phone_numbers_are_valid(ask):
    phonenumbers = pytest.importorskip("phonenumbers", reason="the extra `detect` is not installed")
    numbers = ask("SELECT phone, country FROM customer WHERE phone IS NOT NULL")
    assert len(numbers) > 400
    assert [number for number in numbers if not phonenumbers.is_valid_number(phonenumbers.parse(*number))] == []


def test_birth_dates_are_days_of_adults(ask):
    born = [day for (day,) in ask("SELECT birth_date FROM customer WHERE birth_date IS NOT NULL")]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d", day) for day in born)
    assert max(born) < "2008-11-22"


def test_no_whole_card_number_is_in_it(ask):
    for last4, token in ask("SELECT card_last4, provider_token FROM payment"):
        assert last4 is None or re.fullmatch(r"\d{4}", last4)
        assert re.fullmatch(r"tok_[0-9a-f]{24}", token)


def test_some_support_notes_name_people(ask):
    notes = [body for (body,) in ask("SELECT body FROM support_note")]
    assert any("@" in body for body in notes)
    names = {
        f"{first} {last}" for first, last in ask("SELECT first_name, last_name FROM customer WHERE language = 'en'")
    }
    assert any(name in body for body in notes for name in names)


def test_nobody_orders_before_being_a_customer(ask):
    assert ask("SELECT count(*) FROM orders JOIN customer USING (customer_id) WHERE placed_at < created_at") == [(0,)]
    assert ask("SELECT max(placed_at) <= '2026-11-22 09:30:00' FROM orders") == [(1,)]


def test_totals_are_those_of_the_lines(ask):
    wrong = """SELECT order_id FROM orders JOIN order_item USING (order_id)
               GROUP BY order_id HAVING total_cents <> sum(quantity * unit_cents)"""
    assert ask(wrong) == []
    assert ask("SELECT sum(total_cents) FROM monthly_total") == ask(
        "SELECT sum(total_cents) FROM orders WHERE status <> 'cancelled'"
    )


@pytest.mark.parametrize("now", [datetime(2026, 1, 5, 9, tzinfo=UTC), datetime(2024, 2, 29, 23, tzinfo=UTC), NOW])
def test_what_is_due_is_something_and_below_the_limit_of_a_night(tmp_path, now):
    size = Size(customers=2000, orders=6000)
    make_shop(tmp_path / "shop.db", now, size=size)
    with closing(sqlite3.connect(tmp_path / "shop.db")) as file:
        tax = f"{now.year - 10}-01-01"
        (orders,) = file.execute("SELECT count(*) FROM orders WHERE placed_at < ?", [tax]).fetchone()
        notes_end = f"{now.replace(year=now.year - 3, day=min(now.day, 28)):%Y-%m-%d}"
        (notes,) = file.execute("SELECT count(*) FROM support_note WHERE written_at < ?", [notes_end]).fetchone()
    assert 0 < orders <= size.orders // 100
    assert 0 < notes <= size.notes // 100


def test_its_policy_is_one_that_guard_reads(tmp_path):
    assert [path.name for path in write_policies(tmp_path)] == ["retention.toml"]
    policy = load_policy(tmp_path, "retention", RetentionPolicy)
    assert [(rule.table, rule.method) for rule in policy.rule] == [("support_note", "delete"), ("orders", "anonymize")]
    assert RETENTION.startswith("#")
