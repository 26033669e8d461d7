"""`guard data` and `guard retention` as an operator meets them, on a copy of a real shop."""

import getpass
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from guard.access import Enrolment, code_at
from guard.actions import Caller, perform
from guard.actions.jobs import run_job
from guard.actions.retention import RUN
from guard.actions.setup import Answers, set_up
from guard.app import App
from guard.audit import Query
from guard.cli.main import call
from guard.clock import SteppedClock
from guard.errors import DeniedError

RULE = """
[[rule]]
name = "customers"
table = "Customer"
since = "Invoice.InvoiceDate"
method = "anonymize"
basis = "GDPR Art. 5(1)(e)"
reason = "the account has ended"
"""


@dataclass
class Desk:
    """A guard folder on Chinook, its owner, and her authenticator."""

    home: Path
    clock: SteppedClock
    capsys: pytest.CaptureFixture[str]
    secret: str = ""
    err: str = ""

    def enrol(self, enrolment: Enrolment) -> tuple[str, str]:
        self.secret = enrolment.secret_text
        return self.code(), self.code()

    def code(self, _: str = "") -> str:
        self.clock.step(timedelta(seconds=30))
        return code_at(self.secret, self.clock.now())

    def app(self, ask: Callable[[str], str] | None = None) -> App:
        return App.open(self.home / "guard.toml", self.clock, ask)

    def guard(self, line: str, expect: int = 0, *, coded: bool = False) -> str:
        """Run a line; `coded`: with the authenticator at hand."""
        opened = self.app(self.code if coded else None)
        self.capsys.readouterr()
        try:
            code = call(line.split(), opened)
        finally:
            opened.close()
        out, self.err = self.capsys.readouterr()
        assert code == expect, self.err + out
        return out

    def accept(self) -> None:
        self.guard("--yes data accept", coded=True)

    @property
    def policies(self) -> Path:
        return self.home / "policies"


@pytest.fixture
def desk(chinook_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    made = Desk(tmp_path / "guard", SteppedClock(datetime(2030, 1, 5, 9, tzinfo=UTC)), capsys)
    answers = Answers("Music", f"sqlite:///{chinook_file}", "Ada", getpass.getuser())
    set_up(made.home, answers, made.clock, made.enrol).app.close()
    return made


def _names(query: Query, app: App) -> list[str]:
    return [f"{entry.what} {entry.outcome}" for entry in app.ledger.list(query, 100)]


def test_scan_shows_every_column_and_writes_a_proposal(desk: Desk) -> None:
    out = desk.guard("data scan")
    (mail,) = [line for line in out.splitlines() if line.startswith("Customer.Email ")]
    assert mail.split()[:6] == ["Customer.Email", "email", "contact", "encrypt", "0.99", "59"]
    assert "own patterns: looked" in desk.err
    assert "Presidio: looked" in desk.err
    assert (desk.policies / "catalog.proposed.toml").read_text().count("[[column]]") == len(out.splitlines()) - 1


def test_scan_prints_one_document_with_json(desk: Desk) -> None:
    found = json.loads(desk.guard("--json data scan"))
    assert {looked["by"]: looked["outcome"] for looked in found["looked"]} == {
        "own patterns": "looked", "Presidio": "looked",
    }  # fmt: skip
    assert {"at", "category", "tier", "protect", "confidence", "why", "sample"} <= set(found["findings"][0])


def test_a_scan_is_recorded_with_counts_and_no_values(desk: Desk) -> None:
    desk.guard("data scan")
    app = desk.app()
    entry = next(entry for entry in app.ledger.list(Query(what="data.scan"), 10) if entry.outcome == "done")
    assert entry.counts["columns"] == 64
    assert entry.counts["encrypt"] == 13
    assert entry.facts == {"own patterns": "looked", "Presidio": "looked"}
    app.close()


def test_catalog_ends_with_findings_until_one_is_accepted(desk: Desk) -> None:
    desk.guard("data catalog", expect=3)
    assert "64 of 64 columns need you" in desk.err
    desk.guard("data scan")
    desk.accept()
    standings = json.loads(desk.guard("--json data catalog"))
    assert {each["standing"] for each in standings} == {"classified"}
    assert [each["id"] for each in standings] == list(range(1, 65))


def test_accepting_needs_a_code(desk: Desk) -> None:
    desk.guard("data scan")
    desk.guard("--yes data accept", expect=10)
    assert not (desk.policies / "catalog.toml").exists()


def test_accepting_makes_the_keys_of_the_columns(desk: Desk) -> None:
    desk.guard("data scan")
    desk.accept()
    app = desk.app()
    made = {key.purpose for key in app.keyring.list() if key.purpose.startswith("column/")}
    assert made == {f"column/{column.id}" for column in app.catalog.encrypted()}
    app.close()


def test_mistakes_are_shown_before_a_code_is_asked_for(desk: Desk) -> None:
    wrong = desk.policies / "wrong.toml"
    wrong.write_text('[[column]]\nat = "Customer.Mail"\n[[column]]\nat = "Customer.Email"\ncategory = "emial"\n')
    desk.guard(f"--yes data accept --from {wrong}", expect=2)
    assert "the shop has no such column" in desk.err
    assert 'taxonomy.toml has no "emial"' in desk.err


def test_work_by_an_edited_catalog_is_refused(desk: Desk) -> None:
    desk.guard("data scan")
    desk.accept()
    path = desk.policies / "catalog.toml"
    path.write_text(path.read_text().replace('protect = "encrypt"', 'protect = "none"', 1))
    desk.guard("retention plan", expect=14)
    assert "not the catalog that was accepted" in desk.err
    desk.guard("fields plan", expect=14)


@pytest.fixture
def ready(desk: Desk) -> Desk:
    desk.guard("data scan")
    desk.accept()
    path = desk.policies / "retention.toml"
    path.write_text(path.read_text() + RULE)
    return desk


def test_retention_without_rules_says_so(desk: Desk) -> None:
    desk.guard("retention plan")
    assert "no rules yet" in desk.err


def test_retention_plan_shows_what_is_due_and_the_digest(ready: Desk) -> None:
    found = json.loads(ready.guard("--json retention plan"))
    assert [rule["due"] for rule in found["rules"]] == [59]
    out = ready.guard("retention plan")
    assert out.splitlines()[1].split()[:4] == ["customers", "Customer", "anonymize", "59"]
    assert f"guard retention run {found['digest']}" in ready.err
    assert "waits for a person" in ready.err


def test_a_person_carries_it_out_with_a_code_and_it_is_recorded(ready: Desk) -> None:
    app = ready.app()
    plan = app.retention.plan()
    ready.guard(f"retention run {plan.digest}", expect=10)
    done = perform(app, Caller(app.access.person_of(getpass.getuser()), ready.code), RUN, plan=plan.digest)
    assert done.rows == {"customers": 59}
    entry = app.ledger.list(Query(what="retention.run"), 10)[-1]
    assert (entry.outcome, entry.counts["customers"]) == ("done", 59)
    assert entry.digests["plan"] == plan.digest
    app.close()
    assert json.loads(ready.guard("--json retention plan"))["rules"][0]["treated"] == 59
    ready.guard(f"retention run {plan.digest}", expect=14)
    assert "carried out already" in ready.err


def test_a_wrong_digest_is_refused(ready: Desk) -> None:
    ready.guard(f"retention run {'0' * 32}", expect=14)
    assert "is not what is due now" in ready.err


def test_a_service_works_under_a_standing_approval_but_not_above_the_limit(ready: Desk) -> None:
    from guard.actions.access import GRANT

    app = ready.app()
    daemon = Caller(app.access.service("daemon"))

    def run() -> Any:
        return perform(app, daemon, RUN, plan=app.retention.plan().digest)

    with pytest.raises(DeniedError):
        run()
    ada = Caller(app.access.person_of(getpass.getuser()), ready.code)
    perform(app, ada, GRANT, what="retention.run")
    with pytest.raises(DeniedError, match="customers: 59 rows are more than") as caught:
        run()  # 59 of 59 customers in one night
    assert caught.value.reason == "over limit"
    assert "above the limit" in str(run_job(app, daemon, "retention").reason)
    path = ready.policies / "retention.toml"
    path.write_text(path.read_text().replace("share = 0.01", "share = 1.0"))
    with pytest.raises(DeniedError):
        run()  # the policy is not the one that was approved
    perform(app, ada, GRANT, what="retention.run")
    assert run().rows == {"customers": 59}
    assert _names(Query(what="retention.run"), app)[-1] == "retention.run done"
    app.close()


def test_really_sealed_columns_are_anonymized_and_stay_sealed(ready: Desk) -> None:
    for line in ("backup init", "backup run", "fields encrypt"):
        ready.guard(line, coded=True)
    app = ready.app()
    with app.shop.begin() as connection:  # one customer orders again
        connection.exec_driver_sql(
            "UPDATE Invoice SET InvoiceDate = '2029-12-01' WHERE InvoiceId = (SELECT max(InvoiceId) FROM Invoice"
            " WHERE CustomerId = 7)"
        )
    ready.guard(f"retention run {app.retention.plan().digest}", coded=True)
    query = "SELECT CustomerId, FirstName, Email, Phone, City FROM Customer ORDER BY 1"
    with app.shop.read() as connection:
        rows = connection.exec_driver_sql(query).all()
    mail, name = app.fields.opener("Customer.Email"), app.fields.opener("Customer.FirstName")
    for number, first, address, phone, city in rows:
        assert first.startswith("g1.")
        assert address.startswith("g1.")
        opened = (str(name((number,), first)), str(mail((number,), address)))
        assert opened[0].startswith("anon-") == (number != 7)
        assert opened[1].endswith("@anon.invalid") == (number != 7)
        assert (phone is None) == (number != 7)
        assert city
    assert len({mail((row[0],), row[2]) for row in rows}) == 59
    assert app.retention.plan().rows == 0
    app.close()
