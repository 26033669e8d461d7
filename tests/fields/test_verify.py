"""Every way to change a sealed shop is found, and the words about it hold no value."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from guard.errors import InterlockError, TamperedError

SWAP = "UPDATE Customer SET Email = (SELECT Email FROM Customer WHERE CustomerId = 2) WHERE CustomerId = 1"
COLUMN = "UPDATE Customer SET Phone = Email WHERE CustomerId = 5"
BIT = (
    "UPDATE Customer SET Email = substr(Email, 1, 60) || CASE substr(Email, 61, 1) WHEN 'A' THEN 'B' ELSE 'A' END"
    " || substr(Email, 62) WHERE CustomerId = 7"
)
CUT = "UPDATE Customer SET Email = substr(Email, 1, 40) WHERE CustomerId = 7"
EMPTY = "UPDATE Customer SET Email = 'g1.' WHERE CustomerId = 7"
KEY = "UPDATE Customer SET CustomerId = 1000 WHERE CustomerId = 59"


@pytest.fixture
def sealed(chinook):
    chinook.seal()
    return chinook


@pytest.mark.parametrize(
    ("change", "at", "row"),
    [
        (SWAP, "Customer.Email", 1),
        (COLUMN, "Customer.Phone", 5),
        (BIT, "Customer.Email", 7),
        (CUT, "Customer.Email", 7),
        (EMPTY, "Customer.Email", 7),
        (KEY, "Customer.FirstName", 59),
    ],
)
def test_a_changed_or_moved_value_is_found_and_named(sealed, change: str, at: str, row: int) -> None:
    sealed.sql("UPDATE Customer SET Email = replace(Email, 'x', 'x')", change)
    with pytest.raises(TamperedError) as caught:
        sealed.fields.verify()
    assert str(caught.value) == f"{at}: 1 of 59 values were changed or moved: row {row} in the order of CustomerId"
    assert "g1." not in str(caught.value)


def test_a_moved_value_is_found_in_postgresql(chinook_pg) -> None:
    chinook_pg.seal("customer.email")
    chinook_pg.sql(
        "UPDATE customer SET email = (SELECT email FROM customer WHERE customer_id = 9) WHERE customer_id > 40"
    )
    with pytest.raises(TamperedError, match=r"19 of 59 values were changed or moved: row 41, 42, .* and more"):
        chinook_pg.fields.verify()


def test_an_old_value_put_back_is_told_by_the_digest(sealed) -> None:
    [old] = sealed.ask("SELECT Email FROM Customer WHERE CustomerId = 3")
    write = sealed.fields.sealer("Customer.Email")
    sealed.sql(f"UPDATE Customer SET Email = '{write((3,), 'new@new.example')}' WHERE CustomerId = 3")
    [check] = sealed.fields.verify(["Customer.Email"])
    assert check.opened == 59
    assert check.same is False
    assert not check.clean
    sealed.sql(f"UPDATE Customer SET Email = '{old}' WHERE CustomerId = 3")
    assert sealed.fields.verify(["Customer.Email"])[0].same


def test_a_deleted_row_and_a_null_are_told(sealed) -> None:
    sealed.sql("DELETE FROM InvoiceLine", "DELETE FROM Invoice", "DELETE FROM Customer WHERE CustomerId = 3")
    sealed.sql("UPDATE Customer SET Phone = NULL WHERE CustomerId = 4")
    same = {check.at: check.same for check in sealed.fields.verify()}
    assert same.pop("Customer.Fax") is True, "the deleted row had none"
    assert set(same.values()) == {False}


def test_once_verified_a_living_shop_may_change_its_rows(sealed, clock) -> None:
    checks = sealed.fields.verify()
    assert all(check.clean for check in checks)
    sealed.fields.state.write(sealed.fields.verified(checks))
    sealed.sql("UPDATE Customer SET Phone = NULL WHERE CustomerId = 4")
    [check] = sealed.fields.verify(["Customer.Phone"])
    assert (check.same, check.proven, check.clean) == (False, True, True)
    assert all(status.verified_at == clock.now() for status in sealed.fields.status())


def test_plain_text_is_a_finding_until_the_column_is_finished(sealed) -> None:
    sealed.sql("UPDATE Customer SET Phone = '+49 30 1234' WHERE CustomerId = 4")
    [check] = sealed.fields.verify(["Customer.Phone"])
    assert (check.plain, check.clean) == (1, False)
    assert [status.plain for status in sealed.fields.status() if status.at == "Customer.Phone"] == [1]
    sealed.seal("Customer.Phone")
    sealed.finish()
    sealed.sql("UPDATE Customer SET Phone = '+49 30 1234' WHERE CustomerId = 4")
    with pytest.raises(TamperedError, match=r"Customer\.Phone is finished, but holds 1 values in plain text"):
        sealed.fields.verify()
    sealed.seal("Customer.Phone")
    assert sealed.stages() == {"strict"}
    assert sealed.fields.verify(["Customer.Phone"])[0].plain == 0


def test_a_column_whose_decrypting_meets_a_broken_value_keeps_it(sealed) -> None:
    sealed.sql(BIT)
    with pytest.raises(TamperedError, match=r"Customer\.Email: a sealed value of column 6 was changed, moved or cut"):
        sealed.unseal("Customer.Email")
    assert sealed.stages() == {"sealed", "opening"}
    assert sealed.ask("SELECT count(*) FROM Customer WHERE Email LIKE 'g1.%'") == [59]


def test_a_key_of_another_column_opens_nothing(sealed, keyring) -> None:
    """The value is authentic, but names a key that is not this column's."""
    sealed.sql("UPDATE Customer SET Fax = Address WHERE CustomerId = 1")
    with pytest.raises(TamperedError, match=r"which this column does not have"):
        sealed.fields.opener("Customer.Fax")((1,), sealed.ask("SELECT Fax FROM Customer WHERE CustomerId = 1")[0])


def test_a_column_the_catalog_lost_is_still_looked_after(sealed, catalog_without: Callable) -> None:
    fields = catalog_without(sealed.fields, "Customer.Email")
    assert {status.at for status in fields.status()} == set(sealed.names)
    assert fields.verify(["Customer.Email"])[0].same
    swept = fields.decrypt(["Customer.Email"], "0" * 32)
    assert swept[0].rows == 59


@pytest.fixture
def catalog_without() -> Callable:
    """Return fields whose catalog has lost a column."""

    def make(fields, at: str):
        kept = tuple(column for column in fields.catalog.column if column.at != at)
        catalog = type(fields.catalog)(column=kept)
        return type(fields)(fields.shop, catalog, fields.keyring, fields.state, fields.clock, fields.lacks, fields.pace)

    return make


def test_bytes_that_begin_as_sealed_ones_must_open(sealed) -> None:
    sealed.sql("UPDATE Customer SET Phone = x'6731aabb' WHERE CustomerId = 4")
    with pytest.raises(TamperedError, match="1 of 59 values were changed or moved: row 4 "):
        sealed.fields.verify(["Customer.Phone"])


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ("ALTER TABLE Customer RENAME COLUMN Email TO Mail", "Customer.Email"),
        ("ALTER TABLE Customer RENAME COLUMN CustomerId TO Id", "Customer.CustomerId"),
        ("ALTER TABLE Customer RENAME TO Client", "Customer.Email"),
    ],
)
def test_a_renamed_column_key_or_table_is_said_and_can_be_named_back(sealed, change: str, missing: str) -> None:
    sealed.sql(change)
    for work in (sealed.fields.verify, sealed.finish, sealed.unseal):
        with pytest.raises(InterlockError, match=rf"Customer\.Email is sealed, but .* no column {missing}"):
            work("Customer.Email") if work != sealed.fields.verify else work(["Customer.Email"])
    assert sealed.stages() == {"sealed"}, "nothing was begun"


def test_the_shop_can_write_while_a_column_is_verified(sealed, chinook_file: Path) -> None:
    """Without a WAL one reader keeps every writer from committing."""
    writer = sqlite3.connect(chinook_file, timeout=0)
    assert writer.execute("PRAGMA journal_mode").fetchone() == ("delete",)

    def sell(*_: object) -> None:
        with writer:
            writer.execute("UPDATE Invoice SET Total = Total + 1 WHERE InvoiceId = 1")

    assert sealed.fields.verify(["Customer.Email"], sell)[0].same
    writer.close()
