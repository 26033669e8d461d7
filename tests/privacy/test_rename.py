"""Following a renamed table or column: ids stay, every entry follows, and a kill leaves one catalog that counts."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from guard import faults
from guard.config import Catalog, Column, Link, Protect, Subject, load_policy
from guard.config.retention import RetentionPolicy
from guard.config.taxonomy import Taxonomy
from guard.errors import ConfigError, InterlockError
from guard.privacy import CatalogFile, Discovery, store
from guard.privacy.proposal import to_toml
from guard.privacy.rename import NOTHING_SEALED, RenamePlan
from guard.shop import Shop
from guard.state import State
from tests.privacy.conftest import MakeShop, keyed, own_only

SCRIPT = """
CREATE TABLE customer (id INTEGER PRIMARY KEY, email TEXT, name TEXT, land TEXT);
CREATE TABLE orders (id INTEGER PRIMARY KEY, buyer INTEGER, placed TEXT, note TEXT);
"""
CATALOG = Catalog(
    subject={"customer": Subject(table="customer", key="id", email="customer.email", language="customer.land")},
    link=(Link(from_="orders.buyer", to="customer.id"),),
    column=(
        Column(at="customer.email", category="email", tier="contact", protect=Protect.ENCRYPT, index="email"),
        Column(at="customer.name", category="name", tier="contact"),
        Column(at="orders.note", tier="internal"),
    ),
)
RULES = """
[[rule]]
name = "old-orders"
table = "orders"
since = "orders.placed"
where = { note = "" }
method = "delete"
basis = "GDPR Art. 5(1)(e)"
reason = "over"

[[rule]]
name = "customers"
table = "customer"
since = "orders.placed"
otherwise = "customer.land"
cascade = ["orders"]
method = "delete"
basis = "GDPR Art. 5(1)(e)"
reason = "over"
"""


@pytest.fixture
def make(make_shop: MakeShop, state: State, policies: Path, taxonomy: Taxonomy) -> Callable[[], Discovery]:
    path = policies / "retention.toml"
    path.write_text(path.read_text() + RULES)
    shop = make_shop(SCRIPT)

    def discovery() -> Discovery:
        retention = load_policy(policies, "retention", RetentionPolicy)
        return Discovery(shop, CatalogFile(policies, state, keyed), taxonomy, retention, look=own_only)

    return discovery


@pytest.fixture
def discovery(make: Callable[[], Discovery], policies: Path) -> Discovery:
    made = make()
    accept(made, CATALOG)
    return made


def accept(discovery: Discovery, catalog: Catalog) -> Catalog:
    source = discovery.file.folder / "hand.toml"
    source.write_text(to_toml(catalog, {}))
    found = discovery.prepare(source)
    discovery.file.state.write(discovery.accept(found))
    return found.catalog


def rename(
    discovery: Discovery, old: str, new: str, sealed: Mapping[int, tuple[str, ...]] = NOTHING_SEALED
) -> RenamePlan:
    plan = discovery.plan_rename(old, new, sealed)
    discovery.file.state.write(discovery.rename(plan))
    return plan


def sql(shop: Shop, *statements: str) -> None:
    with shop.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def ids(discovery: Discovery) -> dict[str, int]:
    with discovery.file.state.read() as tx:
        return store.column_ids(tx)


def test_a_renamed_column_keeps_its_id_and_all_that_was_decided(discovery: Discovery) -> None:
    before = discovery.accepted_catalog()
    sql(discovery.shop, "ALTER TABLE customer RENAME email TO mail")
    plan = rename(discovery, "customer.email", "customer.mail")
    assert plan.moved == {1: "customer.mail"}
    after = discovery.accepted_catalog()
    assert after.find("customer.email") is None
    assert after.find("customer.mail") == Column(
        at="customer.mail", id=1, category="email", tier="contact", protect=Protect.ENCRYPT, index="email"
    )
    assert after.subject["customer"].email == "customer.mail"
    assert after.link == before.link
    assert ids(discovery) == {"customer.mail": 1, "customer.name": 2, "orders.note": 3}
    assert {each.at: each.standing for each in discovery.catalog()}["customer.mail"] == "classified"
    assert plan.by_hand == ()


def test_a_renamed_table_takes_everything_along(discovery: Discovery) -> None:
    sql(discovery.shop, "ALTER TABLE customer RENAME TO client")
    plan = rename(discovery, "customer", "client")
    after = discovery.accepted_catalog()
    assert [(column.id, column.at) for column in after.column] == [
        (1, "client.email"), (2, "client.name"), (3, "orders.note"),
    ]  # fmt: skip
    assert after.subject["customer"] == Subject(table="client", key="id", email="client.email", language="client.land")
    assert after.link == (Link(from_="orders.buyer", to="client.id"),)
    assert plan.by_hand == ("policies/retention.toml, rule customers: otherwise = client.land, table = client",)
    assert any(line.startswith("change by hand: policies/retention.toml") for line in plan.lines)


def test_what_only_names_rows_follows_too(discovery: Discovery) -> None:
    sql(discovery.shop, "ALTER TABLE customer RENAME id TO number")
    assert rename(discovery, "customer.id", "customer.number").moved == {}
    after = discovery.accepted_catalog()
    assert after.subject["customer"].key == "number"
    assert after.link == (Link(from_="orders.buyer", to="customer.number"),)
    sql(discovery.shop, "ALTER TABLE orders RENAME placed TO ordered", "ALTER TABLE orders RENAME id TO number")
    with pytest.raises(ConfigError, match=r"guard never knew orders\.id") as refused:
        discovery.plan_rename("orders.id", "orders.number")
    assert refused.value.hint == "did you mean orders.note?"
    assert rename(discovery, "orders.id", "orders.number", {3: ("orders.id",)}).moved == {}, (
        "seals in it name rows by it"
    )


@pytest.mark.parametrize(
    ("old", "new", "says", "hint"),
    [
        ("customer.email", "customer.name", "still has customer.email", "rename it in the shop first"),
        ("customer.emial", "customer.mail", "has no customer.mail", "did you mean customer.email?"),
        ("customers", "customer", "guard never knew customers", "did you mean customer?"),
        ("customer.email", "orders.note", "are in different tables", "guard data rename customer orders"),
        ("customer.email", "client", "not two names of one thing", "two tables"),
        ("customer", "customer", "not two names of one thing", "two tables"),
        ("customer.", "customer.x", "not two names of one thing", "two tables"),
    ],
)
def test_what_is_no_rename_is_refused(discovery: Discovery, old: str, new: str, says: str, hint: str) -> None:
    before = discovery.file.path.read_bytes()
    with pytest.raises((ConfigError, InterlockError), match=says) as refused:
        discovery.plan_rename(old, new)
    assert hint in str(refused.value.hint)
    assert discovery.file.path.read_bytes() == before


def test_a_name_that_a_scan_took_for_new_gives_its_id_up(discovery: Discovery) -> None:
    sql(discovery.shop, "ALTER TABLE customer RENAME email TO mail")
    _, *others = discovery.accepted_catalog().column
    scanned = Column(at="customer.mail", category="email", tier="contact", anonymize="mask")
    subject = {"customer": Subject(table="customer", key="id", language="customer.land")}
    accept(discovery, Catalog(subject=subject, link=CATALOG.link, column=(scanned, *others)))
    assert ids(discovery)["customer.mail"] == 4
    with pytest.raises(InterlockError, match=r"customer\.mail is sealed on its own, as column 4"):
        discovery.plan_rename("customer.email", "customer.mail", {4: ("customer.id",)})
    plan = rename(discovery, "customer.email", "customer.mail", {1: ("customer.id",)})
    assert (plan.moved, plan.given_up) == ({1: "customer.mail"}, (4,))
    found = discovery.accepted_catalog().find("customer.mail")
    assert found is not None
    assert (found.id, found.anonymize) == (1, "mask")
    assert ids(discovery) == {"customer.mail": 1, "customer.name": 2, "orders.note": 3, "-4": 4}
    sql(discovery.shop, "ALTER TABLE customer ADD email TEXT")
    catalog = discovery.accepted_catalog()
    again = accept(discovery, Catalog(subject=catalog.subject, column=(*catalog.column, Column(at="customer.email"))))
    assert again.find("customer.email").id == 5, "neither the old id nor the one that was given up"  # type: ignore[union-attr]


def test_both_entries_become_the_one_that_was_decided(discovery: Discovery, state: State) -> None:
    """A catalog accepted while the shop had both, as in a move by two columns."""
    sql(discovery.shop, "ALTER TABLE customer ADD mail TEXT")
    catalog = discovery.accepted_catalog()
    accept(discovery, Catalog(subject=catalog.subject, column=(Column(at="customer.mail"), *catalog.column)))
    sql(discovery.shop, "ALTER TABLE customer DROP COLUMN email")
    rename(discovery, "customer.email", "customer.mail")
    after = discovery.accepted_catalog()
    assert [column.at for column in after.column] == ["customer.mail", "customer.name", "orders.note"]
    assert (after.column[0].id, after.column[0].index) == (1, "email")


def test_what_vanished_besides_is_named(discovery: Discovery) -> None:
    sql(discovery.shop, "ALTER TABLE customer RENAME TO client", "ALTER TABLE client RENAME name TO called")
    assert rename(discovery, "customer", "client").missing == ("client.name",)
    assert rename(discovery, "client.name", "client.called").missing == ()
    assert not any(each.standing == "vanished" for each in discovery.catalog())


class KilledError(Exception):
    pass


@pytest.mark.parametrize("point", ["privacy.rename.written", "privacy.rename.known", None])
def test_whenever_it_is_killed_one_catalog_counts(discovery: Discovery, point: str | None) -> None:
    before = discovery.accepted_catalog()
    sql(discovery.shop, "ALTER TABLE customer RENAME email TO mail")

    def hook(name: str) -> None:
        if name == point:
            raise KilledError

    faults.install(hook)
    try:
        rename(discovery, "customer.email", "customer.mail")
        if point:
            discovery.accepted_catalog()
    except KilledError:
        pass
    finally:
        faults.install(None)
    if point == "privacy.rename.written":
        assert discovery.accepted_catalog() == before, "state never heard of it"
        rename(discovery, "customer.email", "customer.mail")
    assert discovery.accepted_catalog().find("customer.mail").id == 1  # type: ignore[union-attr]
    assert discovery.accepted_catalog() == discovery.file.written()
    assert list(discovery.file.folder.glob(".*")) == []


def test_a_file_laid_beside_that_state_does_not_know_is_never_taken(discovery: Discovery) -> None:
    sql(discovery.shop, "ALTER TABLE customer RENAME email TO mail")
    plan = discovery.plan_rename("customer.email", "customer.mail")
    discovery.file.lay_beside(plan.acceptance)
    discovery.file.path.write_text("# edited\n")
    with pytest.raises(InterlockError, match="not the catalog that was accepted"):
        discovery.accepted_catalog()
    assert discovery.file.path.read_text() == "# edited\n"
