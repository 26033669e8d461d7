"""What other rooms are handed: functions that open and seal single values."""

import pytest

from guard.errors import TamperedError


def test_a_value_is_read_in_its_own_row_only(shop) -> None:
    at = next(name for name in shop.names if name.lower().endswith("email"))
    table, column = at.split(".")
    key = "CustomerId" if table == "Customer" else "customer_id"
    query = f"SELECT {column} FROM {table} WHERE {key} = 1"
    [plain] = shop.ask(query)
    assert shop.fields.opener(at)((1,), plain) == plain
    shop.seal(at)
    [stored] = shop.ask(query)
    assert shop.fields.opener(at)((1,), stored) == plain
    with pytest.raises(TamperedError, match="was changed, moved or cut"):
        shop.fields.opener(at)((2,), stored)
    with pytest.raises(TamperedError, match=f"^{at}"):
        shop.fields.opener(at)((1,), "g1.")


def test_what_is_sealed_for_a_row_reads_back_and_verifies(chinook) -> None:
    chinook.seal()
    write = chinook.fields.sealer("Customer.Email")
    stored = write((1,), "pseudonym-17")
    assert str(stored).startswith("g1.")
    assert write((1,), None) is None
    chinook.sql(f"UPDATE Customer SET Email = '{stored}' WHERE CustomerId = 1")
    assert chinook.fields.opener("Customer.Email")((1,), stored) == "pseudonym-17"
    assert chinook.fields.verify(["Customer.Email"])[0].opened == 59


def test_columns_in_plain_text_are_left_as_they_are(chinook) -> None:
    for at in ("Customer.Email", "Customer.City"):
        assert chinook.fields.sealer(at)((1,), "x") == "x"
        assert chinook.fields.opener(at)((1,), "x") == "x"
    assert chinook.fields.key_columns("Customer.City") == ("CustomerId",)
    chinook.seal()
    assert chinook.fields.key_columns("Customer.Email") == ("CustomerId",)
    chinook.unseal()
    assert chinook.fields.sealer("Customer.Email")((1,), "x") == "x"


def test_status_counts_what_is_there_and_says_what_it_cannot_see(chinook, make, chinook_file) -> None:
    chinook.seal("Customer.Fax")
    by_name = {status.at: status for status in chinook.fields.status()}
    fax, email = by_name["Customer.Fax"], by_name["Customer.Email"]
    assert (fax.state, fax.rows, fax.sealed, fax.plain, fax.nulls, fax.done) == ("sealed", 59, 12, 0, 47, True)
    assert (email.state, email.plain, email.key, email.done) == ("plain", 59, None, False)
    gone = make(f"sqlite:///{chinook_file}", "Client.Email").fields.status()[-1]
    assert gone.at == "Client.Email"
    assert "has no table Client" in str(gone.trouble)
    assert not gone.done
