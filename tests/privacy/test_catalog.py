from pathlib import Path

import pytest

from guard.clock import SteppedClock
from guard.config import Catalog, Column, Protect
from guard.config.load import load_file
from guard.config.retention import RetentionPolicy
from guard.config.taxonomy import Taxonomy
from guard.errors import ConfigError, InterlockError, UnavailableError
from guard.privacy import CatalogFile, Discovery
from guard.privacy.proposal import to_toml
from guard.shop import Shop
from guard.state import State
from tests.privacy.conftest import MakeShop, keyed, own_only


@pytest.fixture
def discovery(
    chinook: Shop, state: State, policies: Path, taxonomy: Taxonomy, shipped_retention: RetentionPolicy
) -> Discovery:
    tiers = frozenset({"contact", "internal", "public", "identity", "payment", "special", "secret"})
    return Discovery(chinook, CatalogFile(policies, state, keyed), taxonomy, shipped_retention, tiers, own_only)


def _accept(discovery: Discovery, source: Path | None = None) -> Catalog:
    acceptance = discovery.prepare(source)
    discovery.file.state.write(discovery.accept(acceptance))
    return acceptance.catalog


def test_there_is_no_catalog_at_first(discovery: Discovery) -> None:
    assert discovery.accepted_catalog() == Catalog()
    assert all(each.standing == "unclassified" for each in discovery.catalog())


def test_an_accepted_proposal_is_the_catalog(discovery: Discovery) -> None:
    proposal = discovery.scan()
    accepted = _accept(discovery)
    assert discovery.accepted_catalog() == accepted
    assert [column.at for column in accepted.column] == [column.at for column in proposal.catalog.column]
    assert [column.id for column in accepted.column] == list(range(1, len(accepted.column) + 1))
    assert not any(each.is_finding for each in discovery.catalog())


def test_ids_are_stable_over_scans_and_acceptances(discovery: Discovery) -> None:
    discovery.scan()
    first = _accept(discovery)
    discovery.scan()
    assert _accept(discovery) == first


def test_a_column_that_comes_back_gets_its_own_id_and_no_other_gets_it(discovery: Discovery, policies: Path) -> None:
    discovery.scan()
    first = _accept(discovery)
    source = policies / "hand.toml"
    source.write_text(to_toml(Catalog(column=first.column[:-1]), {}))
    _accept(discovery, source)
    source.write_text(to_toml(Catalog(column=(Column(at=first.column[-1].at), *first.column[:-1])), {}))
    again = _accept(discovery, source)
    assert again.column[0].id == first.column[-1].id


def test_an_edited_catalog_is_refused_until_it_is_accepted(discovery: Discovery) -> None:
    discovery.scan()
    accepted = _accept(discovery)
    path = discovery.file.path
    path.write_text(path.read_text().replace('tier = "contact"', 'tier = "public"', 1))
    with pytest.raises(InterlockError, match="not the catalog that was accepted") as refused:
        discovery.accepted_catalog()
    assert "guard data accept --from" in str(refused.value.hint)
    _accept(discovery, path)
    assert discovery.accepted_catalog() != accepted


def test_a_catalog_nobody_accepted_is_refused(discovery: Discovery) -> None:
    discovery.file.path.write_text(to_toml(Catalog(column=(Column(at="Customer.Email"),)), {}))
    with pytest.raises(InterlockError, match="not the catalog"):
        discovery.accepted_catalog()


def test_a_lost_catalog_is_refused(discovery: Discovery) -> None:
    discovery.scan()
    _accept(discovery)
    discovery.file.path.unlink()
    with pytest.raises(InterlockError, match="is gone"):
        discovery.accepted_catalog()


def test_interrupted_between_file_and_state_it_is_accepted_again_with_the_same_ids(discovery: Discovery) -> None:
    discovery.scan()
    acceptance = discovery.prepare()
    discovery.accept(acceptance)  # the file is written, state never hears of it
    with pytest.raises(InterlockError):
        discovery.accepted_catalog()
    assert _accept(discovery, discovery.file.path) == acceptance.catalog


def test_ids_written_by_hand_are_refused(discovery: Discovery, policies: Path) -> None:
    discovery.scan()
    accepted = _accept(discovery)
    one, two, *rest = accepted.column
    source = policies / "hand.toml"
    swapped = (Column(at=one.at, id=two.id), Column(at=two.at, id=one.id), *rest)
    source.write_text(to_toml(Catalog(column=swapped), {}))
    with pytest.raises(ConfigError) as refused:
        discovery.prepare(source)
    assert f"its id is {one.id}, not {two.id}" in str(refused.value)
    assert f"its id is {two.id}, not {one.id}" in str(refused.value)


def test_every_mistake_is_named_at_once(discovery: Discovery, policies: Path) -> None:
    source = policies / "wrong.toml"
    source.write_text(
        """
        [subject.customer]
        table = "Customer"
        key = "Nope"
        email = "Customer.Mail"
        [[link]]
        from = "Invoice.Nope"
        to = "Customer.CustomerId"
        [[column]]
        at = "Customer.Email"
        category = "emial"
        tier = "secretish"
        class = "forever"
        anonymize = "shred"
        protect = "hash"
        [[column]]
        at = "Customer.CustomerId"
        protect = "encrypt"
        [[column]]
        at = "InvoiceLine.InvoiceId"
        protect = "encrypt"
        [[column]]
        at = "Gone.Away"
        """
    )
    with pytest.raises(ConfigError) as refused:
        discovery.prepare(source)
    text = str(refused.value)
    for part in (
        "subject.customer.key: the shop has no column Customer.Nope",
        "subject.customer.email: the shop has no column Customer.Mail",
        "link[1].from: the shop has no column Invoice.Nope",
        'column[1] (Customer.Email): category: taxonomy.toml has no "emial"',
        'tier: access.toml has no "secretish"',
        'class: retention.toml has no "forever"',
        'anonymize: "shred" is not one of',
        '"hash" is not built yet',
        'column[2] (Customer.CustomerId): protect: "encrypt" is not possible: it is part of the primary key',
        'column[3] (InvoiceLine.InvoiceId): protect: "encrypt" is not possible: it is part of a foreign key',
        "column[4] (Gone.Away): the shop has no such column",
    ):
        assert part in text
    assert all(line.startswith(str(source)) for line in text.splitlines())
    assert not discovery.file.path.exists()


def test_broken_toml_and_missing_files_are_told_apart(discovery: Discovery, policies: Path) -> None:
    source = policies / "wrong.toml"
    with pytest.raises(ConfigError, match="does not exist"):
        discovery.prepare(source)
    source.write_text('[[column]]\nat = "NoDot"\ncatagory = "email"\n')
    with pytest.raises(ConfigError) as refused:
        discovery.prepare(source)
    assert 'did you mean "category"?' in str(refused.value)
    source.write_text("[[column")
    with pytest.raises(ConfigError, match="not valid TOML"):
        discovery.prepare(source)


def test_schema_changes_are_findings(
    make_shop: MakeShop, state: State, policies: Path, taxonomy: Taxonomy, shipped_retention: RetentionPolicy
) -> None:
    shop = make_shop("CREATE TABLE users (id INTEGER PRIMARY KEY, email TEXT, phone TEXT);")
    discovery = Discovery(shop, CatalogFile(policies, state, keyed), taxonomy, shipped_retention, look=own_only)
    discovery.scan()
    _accept(discovery)
    with shop.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE users ADD COLUMN iban TEXT")
        connection.exec_driver_sql("ALTER TABLE users DROP COLUMN phone")
    standing = {each.at: each.standing for each in discovery.catalog()}
    assert standing == {
        "users.id": "classified", "users.email": "classified", "users.iban": "unclassified", "users.phone": "vanished",
    }  # fmt: skip
    proposal = discovery.scan()
    assert {finding.at for finding in proposal.findings} == {"users.id", "users.email", "users.iban"}
    assert _accept(discovery).find("users.iban").id == 4  # type: ignore[union-attr]  # 3 was phone's


def test_a_folder_that_takes_nothing_leaves_everything_as_it_was(discovery: Discovery) -> None:
    discovery.scan()
    acceptance = discovery.prepare()
    missing = CatalogFile(discovery.file.folder / "gone", discovery.file.state, keyed)
    with pytest.raises(UnavailableError, match="cannot write"):
        missing.write(acceptance)
    assert list(discovery.file.folder.glob(".*")) == []


def test_the_written_file_is_ordered_and_readable(discovery: Discovery, clock: SteppedClock) -> None:
    discovery.scan()
    accepted = _accept(discovery)
    text = discovery.file.path.read_text()
    assert text.startswith("# Which columns hold whose data")
    assert '[subject.customer]\ntable = "Customer"\nkey = "CustomerId"\nemail = "Customer.Email"' in text
    assert load_file(discovery.file.path, Catalog) == accepted
    assert [column.at for column in accepted.encrypted()] == [
        column.at for column in accepted.column if column.protect is Protect.ENCRYPT
    ]
