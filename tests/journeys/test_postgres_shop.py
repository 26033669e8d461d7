"""Chinook in PostgreSQL: sealed in place, read back, opened again. Its backup comes later, and guard says so."""

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg

TABLES = ("customer", "employee", "invoice", "invoice_line", "track", "artist", "album")


def load(url: str, script: Path) -> None:
    """Load the script of another tool: without its own database, its \\c, and its psql comments."""
    text = re.sub(r"(?im)^(drop database|create database|\\c).*?$", "", script.read_text(encoding="utf-8-sig"))
    with psycopg.connect(url, autocommit=True) as shop:
        shop.execute(text)  # type: ignore[arg-type]


def rows(url: str) -> dict[str, list[tuple[Any, ...]]]:
    with psycopg.connect(url) as shop:
        return {table: shop.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall() for table in TABLES}


def test_the_main_job_on_postgresql(shared: Path, postgres_url: str, make_desk: Callable[..., Any]) -> None:
    load(postgres_url, shared / "data/chinook/chinook_postgresql.sql")
    before = rows(postgres_url)
    desk = make_desk(postgres_url)
    desk.run("data", "scan")
    desk.guard("data accept --yes")
    sealed = {column.at for column in desk.app().catalog.encrypted()}
    assert {"customer.email", "customer.phone", "customer.last_name"} <= sealed

    desk.guard("backup init")
    desk.guard("backup run", expect=4)
    assert "postgresql is not covered" in desk.err + desk.out

    desk.guard("fields encrypt")
    desk.guard("fields verify")
    after = rows(postgres_url)
    assert [len(after[table]) for table in TABLES] == [len(before[table]) for table in TABLES]
    assert all(row[11].startswith("g1.") for row in after["customer"])
    assert after["invoice_line"] == before["invoice_line"]
    flat = {str(value) for row in after["customer"] for value in row}
    assert not {row[11] for row in before["customer"]} & flat

    desk.one_is_enough()
    desk.guard("fields decrypt " + " ".join(sorted(sealed)), expect=14)
    desk.clock.step(timedelta(hours=24))
    desk.guard("fields decrypt " + " ".join(sorted(sealed)))
    assert rows(postgres_url) == before
    desk.guard("audit anchor")
    desk.guard("audit verify")


def test_an_unreachable_database_is_said_in_words(make_desk: Callable[..., Any]) -> None:
    desk = make_desk("postgresql://shop@127.0.0.1:1/shop")
    desk.guard("data scan", expect=13)
    assert "127.0.0.1:1/shop" in desk.err
    assert "Traceback" not in desk.err
