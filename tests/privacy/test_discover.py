from contextlib import closing
from pathlib import Path

import pytest

from guard.config import Catalog, Protect
from guard.config.load import load_file
from guard.config.taxonomy import UNCLASSIFIED, Taxonomy
from guard.privacy.detect.evidence import Detector
from guard.privacy.discover import SAMPLE, Scanner, detectors
from guard.privacy.proposal import Proposal, to_toml
from guard.shop import Shop
from tests.privacy.conftest import MakeShop, own_only


def _scan(shop: Shop, taxonomy: Taxonomy, known: Catalog | None = None) -> Proposal:
    return Scanner(shop, taxonomy, known or Catalog(), own_only()).scan()


def _of(proposal: Proposal, *categories: str) -> set[str]:
    return {finding.at for finding in proposal.findings if finding.category in categories}


def _sealed(proposal: Proposal) -> set[str]:
    return {column.at for column in proposal.catalog.encrypted()}


def test_chinook_every_personal_column_is_found_and_no_other(chinook: Shop, taxonomy: Taxonomy) -> None:
    found = _scan(chinook, taxonomy)
    people = {f"{table}.{column}" for table in ("Customer", "Employee") for column in ("FirstName", "LastName")}
    assert _of(found, "name") == people
    assert _of(found, "email") == {"Customer.Email", "Employee.Email"}
    assert _of(found, "phone") == {
        f"{table}.{column}" for table in ("Customer", "Employee") for column in ("Phone", "Fax")
    }
    assert _of(found, "address") == {"Customer.Address", "Employee.Address", "Invoice.BillingAddress"}
    assert _of(found, "birth_date") == {"Employee.BirthDate"}
    assert _of(found, "author") == {"Track.Composer"}
    assert found.undecided == ()
    assert _sealed(found) == _of(found, "name", "email", "phone", "address")


def test_chinook_says_whose_data_it_is(chinook: Shop, taxonomy: Taxonomy) -> None:
    subjects = _scan(chinook, taxonomy).catalog.subject
    assert set(subjects) == {"customer", "employee"}
    assert (subjects["customer"].table, subjects["customer"].key) == ("Customer", "CustomerId")
    assert (subjects["customer"].email, subjects["customer"].language) == ("Customer.Email", "Customer.Country")


def test_chinook_invoices_are_kept_for_the_tax_office(chinook: Shop, taxonomy: Taxonomy) -> None:
    classes = {column.at: column.class_ for column in _scan(chinook, taxonomy).catalog.column}
    assert classes["Invoice.BillingAddress"] == classes["InvoiceLine.UnitPrice"] == "tax"
    assert classes["Customer.Email"] == "account"


def test_northwind_every_personal_column_is_found_and_no_false_mail(northwind: Shop, taxonomy: Taxonomy) -> None:
    found = _scan(northwind, taxonomy)
    assert _of(found, "email", "card", "bank_account", "ip_address", "national_id") == set()
    assert _of(found, "name") == {
        "Customers.ContactName", "Suppliers.ContactName", "Employees.FirstName", "Employees.LastName",
        "Orders.ShipName",
    }  # fmt: skip
    assert _of(found, "phone") == {
        "Customers.Phone", "Customers.Fax", "Suppliers.Phone", "Suppliers.Fax", "Shippers.Phone", "Employees.HomePhone",
        "Employees.Extension",
    }  # fmt: skip
    assert _of(found, "address") == {
        "Customers.Address",
        "Suppliers.Address",
        "Employees.Address",
        "Orders.ShipAddress",
    }
    assert _of(found, "note", "photo") == {"Employees.Notes", "Employees.Photo", "Employees.PhotoPath"}
    assert found.undecided == ()
    assert {subject.table for subject in found.catalog.subject.values()} == {"Customers", "Employees", "Suppliers"}


def test_every_column_of_the_schema_is_listed(northwind: Shop, taxonomy: Taxonomy) -> None:
    schema = {f"{table.name}.{column.name}" for table in northwind.tables().values() for column in table.columns}
    found = _scan(northwind, taxonomy)
    assert {finding.at for finding in found.findings} == {column.at for column in found.catalog.column} == schema


def test_the_sample_is_shown_and_never_larger_than_said(northwind: Shop, taxonomy: Taxonomy) -> None:
    samples = {finding.at: finding.sample for finding in _scan(northwind, taxonomy).findings}
    assert samples["Customers.Phone"] == 91
    assert samples["Orders.OrderID"] == 0
    assert max(samples.values()) <= SAMPLE


MIXED = """
CREATE TABLE kunden (kundennr INTEGER PRIMARY KEY, vorname TEXT NOT NULL, nachname TEXT NOT NULL, email TEXT UNIQUE,
  email_verified INTEGER, geburtsdatum TEXT, strasse TEXT, plz TEXT, ort TEXT, telefon TEXT NOT NULL, baujahr TEXT,
  punkte INTEGER, kennwort_hash TEXT, passwort_hash TEXT NOT NULL, artikelcode TEXT, anrufname TEXT);
CREATE UNIQUE INDEX einmal ON kunden (nachname, strasse);
CREATE TABLE 收货地址 (id INTEGER PRIMARY KEY, kunde INTEGER REFERENCES kunden, 收货人 TEXT,
  手机号 TEXT, 详细地址 TEXT);
CREATE TABLE bestellungen (nr INTEGER PRIMARY KEY, kunde INTEGER REFERENCES kunden, datum TEXT, summe NUMERIC,
  freitext TEXT, status TEXT);
CREATE TABLE protokoll (zeit TEXT, mail TEXT);
CREATE TABLE artikel (id INTEGER PRIMARY KEY, name TEXT, beschreibung TEXT, year TEXT, code TEXT, "with.dot" TEXT);
INSERT INTO kunden VALUES (1, 'Anna', 'Muster', 'anna@example.de', 1, '1980-02-03', 'Hauptstraße 5', '10115', 'Berlin',
  '030 123456', '1999', 7, 'x', 'y', 'SCN-125', 'Anni');
INSERT INTO 收货地址 VALUES (1, 1, '王伟', '13800138000', '北京市朝阳区建国路88号');
INSERT INTO bestellungen VALUES (1, 1, '2020-01-01', 10,
  'Bitte beim Nachbarn abgeben, sonst eine Mail an anna@example.de schreiben, danke', 'neu');
INSERT INTO protokoll VALUES ('2020', 'anna@example.de');
INSERT INTO artikel VALUES (1, 'Tasse', 'aus Ton', '2020', 'SCN-125', 'x'),
  (2, 'Krug', 'aus Glas', '2021', 'SCN-126', 'y');
"""


def test_german_and_chinese_schemas(make_shop: MakeShop, taxonomy: Taxonomy) -> None:
    found = _scan(make_shop(MIXED), taxonomy)
    assert _of(found, "name") == {"kunden.vorname", "kunden.nachname", "收货地址.收货人"}
    assert _of(found, "phone") == {"kunden.telefon", "收货地址.手机号"}
    assert _of(found, "address") == {"kunden.strasse", "收货地址.详细地址"}
    assert _of(found, "email") == {"kunden.email", "protokoll.mail"}
    assert _of(found, "note") == {"bestellungen.freitext"}
    assert _of(found, "birth_date") == {"kunden.geburtsdatum"}
    assert not {"kunden.email_verified", "kunden.artikelcode", "artikel.year", "artikel.code"} & _sealed(found)
    assert next(iter(found.catalog.subject.values())).table == "kunden"


def test_undecided_columns_are_findings_of_their_own(make_shop: MakeShop, taxonomy: Taxonomy) -> None:
    found = _scan(make_shop(MIXED), taxonomy)
    assert "kunden.baujahr" in found.undecided
    assert "artikel.with.dot" in found.undecided
    assert next(each for each in found.findings if each.at == "artikel.with.dot").why == (
        "its name holds a dot, so the catalog cannot name it",
    )


def test_columns_that_cannot_be_sealed_say_why(make_shop: MakeShop, taxonomy: Taxonomy) -> None:
    found = {finding.at: finding for finding in _scan(make_shop(MIXED), taxonomy).findings}
    assert found["kunden.strasse"].protect == "none"
    assert any("the unique index einmal is not on it alone" in why for why in found["kunden.strasse"].why)
    assert any("no primary key" in why for why in found["protokoll.mail"].why)
    assert any("shared by many people" in why for why in found["kunden.plz"].why)


def test_methods_fit_what_a_column_takes(make_shop: MakeShop, taxonomy: Taxonomy) -> None:
    methods = {column.at: column.anonymize for column in _scan(make_shop(MIXED), taxonomy).catalog.column}
    assert methods["kunden.strasse"] == "null"
    assert methods["kunden.telefon"] == "constant"  # NOT NULL
    assert methods["kunden.vorname"] == "pseudonym"
    assert methods["kunden.geburtsdatum"] == "year"
    assert methods["kunden.plz"] == "postcode"
    assert methods["kunden.kundennr"] == methods["bestellungen.kunde"] == "keep"


def test_no_value_of_anybody_is_in_the_proposal(chinook: Shop, taxonomy: Taxonomy) -> None:
    found = _scan(chinook, taxonomy)
    text = to_toml(found.catalog, {finding.at: finding.why for finding in found.findings})
    values = set()
    with chinook.read() as connection:
        for table in ("Customer", "Employee"):
            for row in connection.exec_driver_sql(f"SELECT FirstName, LastName, Email, Phone, Address FROM {table}"):
                values |= {str(value) for value in row if value}
    assert len(values) > 200
    spoken = text.replace('"', " ").replace("'", " ").split()
    assert [value for value in values if (value in text if " " in value or "@" in value else value in spoken)] == []


def test_the_proposal_reads_back_as_the_same_catalog(make_shop: MakeShop, taxonomy: Taxonomy, tmp_path: Path) -> None:
    found = _scan(make_shop(MIXED), taxonomy)
    path = tmp_path / "catalog.proposed.toml"
    notes = {finding.at: (*finding.why, 'odd "quotes"\nand lines\x00') for finding in found.findings}
    path.write_text(to_toml(found.catalog, notes, ("head",)))
    assert load_file(path, Catalog) == found.catalog


def test_what_people_decided_is_kept(chinook: Shop, taxonomy: Taxonomy) -> None:
    first = _scan(chinook, taxonomy).catalog
    import msgspec

    changed = tuple(
        msgspec.structs.replace(column, id=number, category="company", protect=Protect.NONE)
        if column.at == "Customer.Email"
        else msgspec.structs.replace(column, id=number, category=UNCLASSIFIED)
        if column.at == "Customer.Phone"
        else msgspec.structs.replace(column, id=number)
        for number, column in enumerate(first.column, 1)
    )
    again = _scan(chinook, taxonomy, msgspec.structs.replace(first, column=changed))
    mail, phone = again.catalog.find("Customer.Email"), again.catalog.find("Customer.Phone")
    assert mail is not None
    assert phone is not None
    assert (mail.category, mail.protect, mail.id) == (
        "company",
        Protect.NONE,
        changed[first.column.index(first.find("Customer.Email"))].id,
    )
    assert (phone.category, phone.id) == ("phone", changed[first.column.index(first.find("Customer.Phone"))].id)


def test_sealed_columns_are_not_looked_into(make_shop: MakeShop, taxonomy: Taxonomy) -> None:
    shop = make_shop(
        "CREATE TABLE users (id INTEGER PRIMARY KEY, email TEXT);"
        "INSERT INTO users VALUES (1, 'g1.AAAA'), (2, 'g1.BBBB');"
    )
    found = next(finding for finding in _scan(shop, taxonomy).findings if finding.at == "users.email")
    assert (found.category, found.sample) == ("email", 0)
    assert any("sealed" in why for why in found.why)


def test_sparse_columns_of_large_tables_are_searched_for(make_shop: MakeShop, taxonomy: Taxonomy) -> None:
    shop = make_shop(
        "CREATE TABLE log (id INTEGER PRIMARY KEY, extra TEXT);"
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)"
        " INSERT INTO log SELECT i, CASE WHEN i BETWEEN 2500 AND 2510 THEN 'p' || i || '@example.org' END FROM n;"
    )
    found = next(finding for finding in _scan(shop, taxonomy).findings if finding.at == "log.extra")
    assert (found.category, found.sample) == ("email", 11)


def test_large_tables_are_looked_at_from_both_ends(make_shop: MakeShop, taxonomy: Taxonomy) -> None:
    shop = make_shop(
        "CREATE TABLE log (id INTEGER PRIMARY KEY, extra TEXT);"
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)"
        " INSERT INTO log SELECT i, CASE WHEN i < 2500 THEN 'word' || i ELSE 'p' || i || '@example.org' END FROM n;"
    )
    found = next(finding for finding in _scan(shop, taxonomy).findings if finding.at == "log.extra")
    assert found.category in {"note", "email"}
    assert "100 of 200 values are email (by pattern)" in found.why


def test_who_could_not_look_is_said(chinook: Shop, taxonomy: Taxonomy) -> None:
    def absent() -> object:
        raise ImportError("presidio_analyzer")

    looking = detectors(other=absent)  # type: ignore[arg-type]  # it never returns
    found = Scanner(chinook, taxonomy, Catalog(), looking).scan()
    presidio = next(looked for looked in found.looked if looked.by == "Presidio")
    assert presidio.outcome == "not looked"
    assert "guard-toolkit[detect]" in presidio.why
    assert "Customer.Email" in _of(found, "email")


def test_the_detector_is_a_parameter(chinook: Shop, taxonomy: Taxonomy) -> None:
    asked: list[tuple[str, ...]] = []

    def nothing(values: object, words: object) -> list[list[object]]:
        asked.append(tuple(words))  # type: ignore[arg-type]  # words of a name
        return [[] for _ in values]  # type: ignore[attr-defined]  # values of a column

    Scanner(chinook, taxonomy, Catalog(), (Detector("nobody", nothing),)).scan()  # type: ignore[arg-type]  # as above
    assert ("billing", "address") in asked


def test_presidio_looks_where_it_is_installed(chinook: Shop, taxonomy: Taxonomy) -> None:
    pytest.importorskip("presidio_analyzer")
    found = Scanner(chinook, taxonomy, Catalog(), detectors()).scan()
    assert [looked.outcome for looked in found.looked] == ["looked", "looked"]
    assert _of(found, "email") == {"Customer.Email", "Employee.Email"}


def test_types_of_postgres_are_looked_at_too(postgres_url: str, taxonomy: Taxonomy) -> None:
    with closing(Shop.connect(postgres_url)) as shop:
        with shop.begin() as connection:
            connection.exec_driver_sql(
                "CREATE TABLE visits (id UUID PRIMARY KEY, address INET, contact JSONB, email VARCHAR(80),"
                " seen TIMESTAMPTZ, kind CHAR(1), tags TEXT[])"
            )
            connection.exec_driver_sql(
                "INSERT INTO visits SELECT gen_random_uuid(), ('10.0.0.' || i)::inet,"
                " json_build_object('mail', 'p' || i || '@example.org'), 'p' || i || '@example.org', now(), 'x', '{a}'"
                " FROM generate_series(1, 30) i"
            )
        found = {finding.at: finding for finding in _scan(shop, taxonomy).findings}
    categories = {at.partition(".")[2]: finding.category for at, finding in found.items()}
    assert categories["id"] == "key"
    assert categories["email"] == "email"
    assert categories["address"] == "ip_address"
    assert categories["contact"] == "note"
    assert categories["seen"] == "date"
    assert found["visits.email"].protect == "encrypt"
    assert found["visits.address"].protect == found["visits.contact"].protect == "none"
    assert any("only texts are sealed unless you say so" in why for why in found["visits.contact"].why)


def test_only_the_beginning_of_a_long_text_is_read(make_shop: MakeShop, taxonomy: Taxonomy) -> None:
    shop = make_shop(
        "CREATE TABLE books (id INTEGER PRIMARY KEY, words TEXT, raw TEXT);"
        "INSERT INTO books VALUES (1, printf('%.*c', 1000000, 'x') || ' anna@example.org',"
        " CAST('anna@example.org' AS BLOB));"
    )
    found = {finding.at: finding.category for finding in _scan(shop, taxonomy).findings}
    assert found["books.words"] == "text"
    assert found["books.raw"] == "email"  # bytes in a text column, as SQLite allows


def test_nobody_sees_what_nobody_has_decided(make_shop: MakeShop, taxonomy: Taxonomy) -> None:
    found = _scan(make_shop(MIXED), taxonomy).catalog.find("kunden.baujahr")
    assert found is not None
    assert (found.category, found.tier) == (UNCLASSIFIED, "special")


def test_one_text_that_is_not_utf8_does_not_stop_the_scan(make_shop: MakeShop, taxonomy: Taxonomy) -> None:
    shop = make_shop(
        "CREATE TABLE customers (id INTEGER PRIMARY KEY, mail TEXT, name TEXT); INSERT INTO customers VALUES"
        " (1, 'anna@example.org', CAST(x'4dfc6c6c6572' AS TEXT)), (2, 'ben@example.org', 'Ben')"
    )
    found = _scan(shop, taxonomy)
    assert _of(found, "email") == {"customers.mail"}
    assert _of(found, "name") == {"customers.name"}
    assert "ller" not in str(found)


def test_arguments_of_virtual_tables_are_no_columns(make_shop: MakeShop, taxonomy: Taxonomy) -> None:
    shop = make_shop("CREATE VIRTUAL TABLE found USING fts5(name, body); INSERT INTO found VALUES ('Anna', 'x')")
    assert {finding.at for finding in _scan(shop, taxonomy).findings} == {"found.name", "found.body"}


@pytest.mark.parametrize("script", ["", "CREATE VIEW v AS SELECT 1 AS email"])
def test_a_shop_without_tables_has_no_findings(make_shop: MakeShop, taxonomy: Taxonomy, script: str) -> None:
    assert _scan(make_shop(script), taxonomy).findings == ()
