import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.privacy.detect import words
from guard.privacy.detect.names import Setting, named, people_table, taxed_table, tokens

NOBODY = Setting()
PEOPLE = Setting(people=True, about=True, addressed=True)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("HomePhone2", ("home", "phone", "2")),
        ("USt_IdNr", ("u", "st", "id", "nr")),
        ("IPAddress", ("ip", "address")),
        ("Straße", ("strasse",)),
        ("收货人", ("收货人",)),
        ("", ()),
    ],
)
def test_a_name_is_split_into_its_words(name: str, expected: tuple[str, ...]) -> None:
    assert tokens(name) == expected


@pytest.mark.parametrize(
    ("column", "category"),
    [
        ("Email", "email"),
        ("E-Mail-Adresse", "email"),
        ("eMail", "email"),
        ("email_normalized", "email"),
        ("邮箱", "email"),
        ("dianziyoujian", "email"),
        ("HomePhone", "phone"),
        ("phone2", "phone"),
        ("Telefonnummer", "phone"),
        ("shoujihao", "phone"),
        ("手机号", "phone"),
        ("Fax", "phone"),
        ("FirstName", "name"),
        ("ShipName", "name"),
        ("Nachname", "name"),
        ("Kundenname", "name"),
        ("收货人", "name"),
        ("xingming", "name"),
        ("BillingAddress", "address"),
        ("street", "address"),
        ("Lieferadresse", "address"),
        ("Straße", "address"),
        ("Hausnummer", "address"),
        ("shouhuo_dizhi", "address"),
        ("详细地址", "address"),
        ("PLZ", "postcode"),
        ("PostalCode", "postcode"),
        ("ShipCity", "city"),
        ("国家", "country"),
        ("BirthDate", "birth_date"),
        ("Geburtsdatum", "birth_date"),
        ("shengri", "birth_date"),
        ("ip_address", "ip_address"),
        ("IP地址", "ip_address"),
        ("IBAN", "bank_account"),
        ("card_number", "card"),
        ("card_last4", "payment"),
        ("cvv", "card_secret"),
        ("password_hash", "secret"),
        ("USt_IdNr", "tax_id"),
        ("vat_id", "tax_id"),
        ("身份证号", "national_id"),
        ("TitleOfCourtesy", "gender"),
        ("QQ号", "social"),
    ],
)
def test_words_at_the_end_of_a_name_are_recognized_in_three_languages(column: str, category: str) -> None:
    found = named(column, NOBODY)
    assert found is not None
    assert found.category == category


@pytest.mark.parametrize(
    "column",
    [
        "SCN-125", "email_verified", "email_sent_at", "phone_type", "address_id", "year", "model_year", "is_male",
        "created_at", "vat_rate", "city_count", "name_length", "mailbox_quota", "telephone_enabled", "zip_file",
        "nothing", "emailed", "ipsum", "faxes_sent",
    ],
)  # fmt: skip
def test_personal_words_elsewhere_in_a_name_mean_nothing_personal(column: str) -> None:
    for setting in (NOBODY, PEOPLE):
        found = named(column, setting)
        assert found is None or found.category in {"code", "text"}


@pytest.mark.parametrize(
    ("column", "category"),
    [("name", "name"), ("Title", "job"), ("Extension", "phone"), ("customer_name", "name"), ("Notes", "note"),
     ("PhotoPath", "photo"), ("state", "region"), ("age", "birth_date")],
)  # fmt: skip
def test_some_words_mean_a_person_only_in_a_table_of_people(column: str, category: str) -> None:
    inside, outside = named(column, PEOPLE), named(column, NOBODY)
    assert inside is not None
    assert inside.category == category
    if column != "customer_name":
        assert outside is None or outside.category in {"code", "text"}


@pytest.mark.parametrize(
    "table",
    ["Customer", "Customers", "users", "Kunden", "customer_addresses", "会员", "Employees", "people", "t_用户表"],
)
def test_tables_of_people_are_known_by_their_name(table: str) -> None:
    assert people_table(table)


@pytest.mark.parametrize(
    "table", ["CustomerDemographics", "CustomerCustomerDemo", "Order Details", "Track", "companies"]
)
def test_other_tables_are_not(table: str) -> None:
    assert not people_table(table)


def test_business_records_are_known_by_their_name() -> None:
    assert all(map(taxed_table, ["Invoice", "InvoiceLine", "Order Details", "Rechnungen", "dingdan", "订单"]))
    assert not any(map(taxed_table, ["Customer", "Track", "reorder", "borders"]))


@given(st.text(max_size=60))
def test_any_name_gets_an_answer(name: str) -> None:
    for setting in (NOBODY, PEOPLE):
        found = named(name, setting)
        assert found is None or 0 < found.weight <= 1
    assert people_table(name) in {True, False}


def test_every_category_of_the_words_is_in_the_taxonomy(taxonomy) -> None:
    assert set(words.WORDS) | set(words.HAN) <= set(taxonomy.category)
