"""`access view`: a row as a role sees it; what is clear takes a code and stays in the ledger."""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from guard.actions.backup import INIT, RUN
from guard.actions.fields import ENCRYPT
from guard.actions.reveal import FIND
from guard.actions.view import LOOK, VIEW
from guard.app import App
from guard.cli.main import call
from guard.clock import SteppedClock
from guard.errors import ConfigError, DeniedError, InterlockError
from guard.events import Role
from tests.access.seeing import Office, forms, open_office, values
from tests.telling.shop import VAULT

CATALOG = """
[subject.customer]
table = "Customer"
key = "CustomerId"
"""
COLUMNS = {
    "Customer.CustomerId": ("key", "internal", "none"),
    "Customer.Email": ("email", "contact", "encrypt"),
    "Customer.LastName": ("name", "contact", "none"),
    "Customer.Phone": ("phone", "identity", "encrypt"),
    "Invoice.InvoiceId": ("key", "internal", "none"),
    "Invoice.CustomerId": ("key", "internal", "none"),
    "Invoice.BillingAddress": ("address", "contact", "none"),
    "Invoice.Total": ("number", "internal", "none"),
    "PlaylistTrack.PlaylistId": ("key", "internal", "none"),
    "PlaylistTrack.TrackId": ("key", "internal", "none"),
}


@pytest.fixture
def office(tmp_path: Path, chinook_file: Path, clock: SteppedClock) -> Iterator[Office]:
    made = open_office(tmp_path / "guard", f"sqlite:///{chinook_file}", clock)
    parts = (
        f'[[column]]\nat = "{at}"\ncategory = "{category}"\ntier = "{tier}"\nprotect = "{protect}"\n'
        for at, (category, tier, protect) in COLUMNS.items()
    )
    made.take(CATALOG + "\n".join(parts))
    made.take_in(Role.SUPPORT, Role.AUDITOR, Role.OPS)
    yield made
    made.app.close()


def test_support_sees_contacts_clear_and_the_rest_as_its_tiers_say(office: Office) -> None:
    seen = office.look("Customer", "1", role=Role.SUPPORT)
    assert values(seen)["LastName"] == "Gonçalves"
    assert values(seen)["Email"] == "luisg@embraer.com.br"
    assert values(seen)["Phone"] == "+***"
    assert values(seen)["Company"] is None
    assert forms(seen)["Company"] == "hidden"


def test_what_is_clear_takes_a_code_and_is_an_entry_with_its_columns(office: Office) -> None:
    office.look("Customer", "1", role=Role.SUPPORT)
    begun, done = sorted(office.entries("access.view"), key=lambda each: each.n)
    assert begun.facts["gate"] == "code"
    assert done.outcome == "done"
    assert set(done.objects) == {"Customer.Email", "Customer.LastName"}
    assert done.facts == {"as": "support", "purpose": "none"}
    assert "Gonçalves" not in str(done)
    assert "  clear: Customer.CustomerId, Customer.LastName, Customer.Email" in office.shown


def test_nothing_clear_takes_no_code_and_is_recorded_as_a_look(office: Office) -> None:
    seen = office.only_look("Customer", "1", role=Role.AUDITOR)
    assert str(values(seen)["Email"]).startswith("v-")
    assert values(seen)["Email"] != values(office.only_look("Customer", "2", role=Role.AUDITOR))["Email"]
    assert [each.facts["gate"] for each in office.entries("access.look") if each.outcome == "begun"] == ["role"] * 2
    assert office.entries("access.view") == []


def test_an_order_without_contacts_is_looked_at_without_a_code_by_support(office: Office) -> None:
    office.policy('support = "clear"                   # writes to them', 'support = "masked"')
    seen = office.only_look("Invoice", "1", role=Role.SUPPORT)
    assert values(seen)["Total"] == 1.98
    assert values(seen)["BillingAddress"] == "T***"


def test_a_look_never_shows_what_takes_a_code(office: Office) -> None:
    with pytest.raises(InterlockError, match="more than a look"):
        office.only_look("Customer", "1", role=Role.SUPPORT)


def test_only_an_owner_looks_as_another_role_and_that_takes_a_code(office: Office) -> None:
    seen = office.look("Customer", "1", role=Role.OWNER, as_=Role.SUPPORT)
    assert values(seen)["LastName"] == "Gonçalves"
    assert values(office.look("Customer", "1", role=Role.OWNER))["LastName"] == "G***"
    assert {each.facts.get("as") for each in office.entries("access.view-as")} == {None, "support"}
    with pytest.raises(DeniedError):
        office.look("Customer", "1", role=Role.AUDITOR, as_=Role.SUPPORT)
    assert office.entries("access.view-as")[-1].outcome == "denied"


@pytest.mark.parametrize("action", [LOOK, VIEW])
def test_the_role_of_the_person_decides_and_not_the_argument(office: Office, action: object) -> None:
    args = {"table": "Customer", "key": ["1"], "role": "ops", "purpose": None}
    with pytest.raises(DeniedError):
        office.do(action, Role.SUPPORT, **args)
    assert office.entries(action.name)[-1].outcome == "failed"


def test_a_purpose_makes_clear_what_is_bound_to_it_and_is_kept(office: Office) -> None:
    office.policy("[tier.contact] ", '[tier.contact]\npurpose.support = ["delivery", "complaint"]\n#')
    assert values(office.only_look("Customer", "1", role=Role.SUPPORT))["LastName"] == "G***"
    seen = office.look("Customer", "1", role=Role.SUPPORT, purpose="delivery")
    assert values(seen)["LastName"] == "Gonçalves"
    assert "delivery" in {each.facts.get("purpose") for each in office.entries("access.view")}
    with pytest.raises(ConfigError, match="no such purpose") as caught:
        office.look("Customer", "1", role=Role.SUPPORT, purpose="curiosity")
    assert "complaint, delivery" in str(caught.value.hint)


def test_sealed_values_are_opened_for_who_may_see_them_and_not_where_hidden(office: Office, chinook_file: Path) -> None:
    office.do(INIT)
    office.do(RUN)
    office.do(ENCRYPT, columns=["Customer.Email", "Customer.Phone"])
    with sqlite3.connect(chinook_file) as shop:
        assert shop.execute("SELECT Email FROM Customer WHERE CustomerId = 1").fetchone()[0].startswith("g1.")
        shop.execute("UPDATE Customer SET Phone = Email WHERE CustomerId = 1")  # moved: it opens nowhere else
    shop.close()
    seen = office.look("Customer", "2", role=Role.SUPPORT)
    assert values(seen)["Email"] == "leonekohler@surfeu.de"
    assert values(seen)["Phone"] == "+***"
    assert values(office.only_look("Customer", "1", role=Role.OPS))["Phone"] is None  # hidden: nothing is opened


def test_the_entry_of_a_clear_read_carries_the_pseudonym_of_whose_row_it_is(office: Office, tmp_path: Path) -> None:
    office.app.close()
    for name in ("vault-one", "vault-two"):
        (tmp_path / name).mkdir(mode=0o700)
    config = tmp_path / "guard/guard.toml"
    config.write_text(config.read_text() + VAULT)
    office.app = App.open(config, office.clock)
    office.look("Customer", "2", role=Role.SUPPORT)
    office.look("Invoice", "1", role=Role.SUPPORT)  # of customer 2
    office.look("Customer", "3", role=Role.SUPPORT)
    found = office.do(FIND, kind="customer", key="2")
    subjects = [each.subject for each in office.entries("access.view")]
    assert subjects[:4] == [found.subject] * 4
    assert subjects[4] == subjects[5] not in {None, found.subject}


def test_what_a_customer_typed_commands_no_terminal(
    office: Office, chinook_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with sqlite3.connect(chinook_file) as shop:
        shop.execute("UPDATE Customer SET LastName = '\x1b[2Jé' WHERE CustomerId = 1")
    shop.close()
    monkeypatch.setattr("guard.cli._door.os_user", lambda: "support")
    office.app.ask_secret = lambda _: office.code("support")
    office.caller()
    capsys.readouterr()
    assert call(["access", "view", "Customer", "1"], office.app) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "\\u001b[2Jé" in shown


def test_parts_of_a_key_are_given_in_order(office: Office) -> None:
    assert values(office.only_look("PlaylistTrack", "1", "3402", role=Role.SUPPORT))["TrackId"] == 3402
    with pytest.raises(ConfigError, match="has 2 parts, not 1"):
        office.only_look("PlaylistTrack", "1", role=Role.SUPPORT)


@pytest.mark.parametrize(
    ("table", "key", "told"),
    [("Custumer", "1", "no table"), ("Customer", "x1", "no INTEGER"), ("Customer", "4711", "no row with this key")],
)
def test_what_is_not_there_is_said(office: Office, table: str, key: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        office.look(table, key, role=Role.SUPPORT)
    assert "x1" not in str(caught.value)


def test_the_command_shows_a_row(
    tmp_path: Path, office: Office, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("guard.cli._door.os_user", lambda: "auditor")
    capsys.readouterr()
    assert call(["--json", "access", "view", "Customer", "1"], office.app) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["role"] == "auditor"
    assert {each["form"] for each in told["columns"]} == {"pseudonym", "hidden"}
    assert call(["access", "view", "Customer", "1"], office.app) == 0
    assert "pseudonym" in capsys.readouterr().out


def test_masking_views_are_not_for_sqlite(
    office: Office, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("guard.cli._door.os_user", lambda: "owner")
    assert call(["access", "views"], office.app) == 2
    assert "SQLite has no accounts" in capsys.readouterr().err
