"""What sealing does besides sealing: other keys, tight columns, tokens, what a rotation left."""

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace as changed

from guard.crypto.budget import Budget
from guard.errors import TamperedError
from guard.fields import Fields, Stage, store
from guard.fields.count import heads
from guard.fields.store import Filling
from guard.shop import Shop

ROWS = 70


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A shop with 70 customers on each database; each has a mail address of their own, some a photo."""
    if request.param == "sqlite":
        sqlite3.connect(tmp_path / "shop.db").close()
        url = f"sqlite:///{tmp_path}/shop.db"
    else:
        url = request.getfixturevalue(f"{request.param}_url")
    exact = " CHARACTER SET utf8mb4 COLLATE utf8mb4_bin" if request.param == "mariadb" else ""
    photo = {"sqlite": "blob", "postgres": "bytea", "mariadb": "varbinary(300)"}[request.param]
    shop = Shop.connect(url)
    with shop.begin() as connection:
        connection.exec_driver_sql(
            f"CREATE TABLE customer (id integer PRIMARY KEY, mail varchar(300){exact}, photo {photo}, UNIQUE (mail))"
        )
        for number in range(1, ROWS + 1):
            image = "NULL" if number % 7 == 0 else f"'photo {number}'"
            connection.exec_driver_sql(f"INSERT INTO customer VALUES ({number}, 'Anna{number}@Example.org', {image})")
    shop.close()
    return url


def column_of(fields: Fields, **facts: Any) -> Fields:
    """Return the fields with other facts about their first column in the catalog."""
    first, *others = fields.catalog.column
    return replace(fields, catalog=changed(fields.catalog, column=(changed(first, **facts), *others)))


def seal(fields: Fields, run: str = "1" * 32, workers: int = 1) -> Any:
    swept = fields.encrypt(fields.plan(), run, workers=workers)
    fields.state.write(fields.remember(swept))
    return swept[0]


def keys_of(fields: Fields, name: str = "mail") -> dict[int, int]:
    shop = fields.shop
    with shop.read() as connection:
        return heads(shop, connection, shop.table("customer"), name)


@pytest.mark.parametrize("name", ["mail", "photo"])
@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_tight_column_is_sealed_within_its_budget(
    make: Callable[..., Any], url: str, name: str, workers: int
) -> None:
    bench = make(url, f"customer.{name}")
    before = bench.rows()
    budget = Budget(bench.fields.state)
    fields = column_of(replace(bench.fields, budget=budget), tight=True, index="exact" if name == "mail" else None)
    swept = seal(fields, workers=workers)
    tight = fields.keyring.current("column/1/tight")
    assert swept.record.key_id == tight.id
    assert set(keys_of(fields, name)) == {tight.id}
    assert budget.reserved(tight.id) == 1 << 20
    assert fields.verify()[0].same
    [opened] = fields.decrypt([f"customer.{name}"], "2" * 32, workers=workers)
    assert opened.rows == swept.rows
    assert bench.rows() == before


def test_sealing_finishes_an_interrupted_rotation(make: Callable[..., Any], url: str, rotate: Any) -> None:
    bench = make(url, "customer.photo")
    seal(bench.fields)
    old, fresh = bench.fields.keyring.current("column/1").id, rotate("column/1")
    assert keys_of(bench.fields, "photo") == {old: ROWS - 10}
    bench.sql("UPDATE customer SET photo = NULL WHERE id = 1")
    with bench.fields.shop.begin() as connection:
        connection.exec_driver_sql("UPDATE customer SET photo = 'new' WHERE id = 2")
    swept = seal(bench.fields, "2" * 32)
    assert keys_of(bench.fields, "photo") == {fresh: ROWS - 11}
    assert (swept.left, swept.record.key_id) == (0, fresh)


def test_a_column_becomes_tight_by_another_key(make: Callable[..., Any], url: str) -> None:
    bench = make(url, "customer.photo")
    before = bench.rows()
    seal(bench.fields)
    fields = column_of(bench.fields, tight=True)
    seal(fields, "2" * 32)
    assert set(keys_of(fields, "photo")) == {fields.keyring.current("column/1/tight").id}
    assert fields.verify()[0].same
    fields.decrypt(["customer.photo"], "3" * 32)
    assert bench.rows() == before


def test_a_retired_key_is_refused_when_read_and_when_swept(make: Callable[..., Any], url: str, rotate: Any) -> None:
    bench = make(url, "customer.photo")
    fields, keyring = bench.fields, bench.fields.keyring
    seal(fields)
    old = keyring.current("column/1").id
    rotate("column/1")
    [stored] = bench.ask("SELECT photo FROM customer WHERE id = 1")
    read = fields.opener("customer.photo")
    assert read((1,), stored) == (b"photo 1" if fields.shop.dialect != "sqlite" else "photo 1")
    fields.state.write(lambda tx: keyring.retire(tx, old, lambda _: ()))
    with pytest.raises(TamperedError, match=f"key {old:010x}"):
        fields.opener("customer.photo")((1,), stored)
    with pytest.raises(TamperedError, match="60 of 70 values were changed or moved"):
        fields.verify()
    with pytest.raises(TamperedError, match=f"key {old:010x}"):
        fields.rekey("customer.photo", "2" * 32)


def test_rows_name_their_keys_in_every_form(make: Callable[..., Any], url: str, rotate: Any) -> None:
    """Half of the values under one key, half under another; text and bytes."""
    bench = make(url, "customer.photo")
    seal(bench.fields)
    old = bench.fields.keyring.current("column/1").id
    fresh = rotate("column/1")
    write = bench.fields.sealer("customer.photo")
    mark = "?" if bench.fields.shop.dialect == "sqlite" else "%s"
    with bench.fields.shop.begin() as connection:
        for number in range(1, 31):
            new = write((number,), "a text" if bench.fields.shop.dialect == "sqlite" else b"bytes")
            connection.exec_driver_sql(f"UPDATE customer SET photo = {mark} WHERE id = {number}", (new,))
    assert keys_of(bench.fields, "photo") == {old: ROWS - 10 - 26, fresh: 30}
    swept = bench.fields.rekey("customer.photo", "2" * 32)
    assert swept.rows == ROWS - 10 - 26, "what the new key sealed is left as it is"
    assert keys_of(bench.fields, "photo") == {fresh: ROWS - 10 + 4}


# Tokens ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def searchable(make: Callable[..., Any], url: str) -> Any:
    """The shop with its unique mail addresses sealed, and searchable."""
    bench = make(url, "customer.mail")
    fields = column_of(bench.fields, index="email")
    return replace(bench, fields=fields)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_tokens_are_made_before_sealing_and_go_with_decrypting(searchable: Any, workers: int) -> None:
    before, schema = searchable.rows(), searchable.fields.shop.table("customer")
    swept = seal(searchable.fields, workers=workers)
    assert (swept.rows, swept.left, swept.record.stage) == (ROWS, 0, Stage.SEALED)
    with searchable.fields.state.read() as tx:
        [index] = store.indexes(tx)
    assert (index.stage, index.is_unique, index.normaliser) == (Filling.READY, True, "email")
    tokens = searchable.ask(f"SELECT {index.name} FROM customer")
    assert len({bytes(token) for token in tokens}) == ROWS
    [check] = searchable.fields.verify()
    assert (check.opened, check.untold, check.clean) == (ROWS, 0, True)
    searchable.fields.decrypt(["customer.mail"], "2" * 32, workers=workers)
    assert searchable.rows() == before
    assert searchable.fields.shop.tables(fresh=True)["customer"] == schema
    with searchable.fields.state.read() as tx:
        assert store.indexes(tx) == ()


def test_a_token_that_is_not_its_values_is_told(searchable: Any) -> None:
    seal(searchable.fields)
    with searchable.fields.state.read() as tx:
        [index] = store.indexes(tx)
    other = "x'00112233445566778899aabbccddeeff'"
    if searchable.fields.shop.dialect == "postgresql":
        other = "'\\x00112233445566778899aabbccddeeff'"
    searchable.sql(f"UPDATE customer SET {index.name} = {other} WHERE id = 3")
    [check] = searchable.fields.verify()
    assert (check.untold, check.clean) == (1, False)


def test_what_other_rooms_write_has_its_tokens(searchable: Any) -> None:
    fields = searchable.fields
    assert fields.tokens("customer.mail").names == ()
    seal(fields)
    names, make = fields.tokens("customer.mail")
    with fields.state.read() as tx:
        assert names == (store.indexes(tx)[0].name,)
    [token] = searchable.ask(f"SELECT {names[0]} FROM customer WHERE id = 9")
    assert list(make("ANNA9@example.org ")) == [bytes(token)]
    assert list(make(None)) == [None]


@pytest.mark.parametrize("url", ["mariadb"], indirect=True)
def test_a_column_is_widened_once(make: Callable[..., Any], url: str) -> None:
    """Its own length is what counts, not the one guard gave it."""
    bench = make(url, "customer.photo")
    bench.sql("ALTER TABLE customer MODIFY photo varbinary(40)")
    seal(bench.fields)
    wide = bench.fields.shop.tables(fresh=True)["customer"].column("photo").type
    [column] = bench.fields.plan().columns
    assert column.widen is None, "its type was changed before"
    assert not any("its type" in line for line in column.does)
    bench.sql("UPDATE customer SET photo = 'again in plain' WHERE id < 9")
    seal(bench.fields, "2" * 32)
    assert bench.fields.shop.tables(fresh=True)["customer"].column("photo").type == wide != "varbinary(40)"
