"""`guard keys shred`: who may, what is refused, what a reader sees, what the receipt says, and what is left of it."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import CliRunner

from guard.actions.backup import RUN
from guard.actions.receipts import receipts
from guard.actions.shred import SHRED, SHRED_MANY
from guard.actions.state import BACKUP
from guard.audit import Query
from guard.backup.erasures import Effect
from guard.canon import key_bytes
from guard.cli.main import main
from guard.clock import stamp
from guard.crypto.receipts import Death
from guard.crypto.subjects import SHREDDED, SubjectSealer
from guard.errors import ConfigError, DeniedError, InterlockError, ShreddedError, WaitingError

ACCOUNT = {"kind": "customer", "keys": ["1"], "classes": ["account"]}
KEPT = (
    "class tax: AO § 147 (3), (4); HGB § 257 (4), (5): no rule of class tax says since when 10 years run for rows of "
    "invoice"
)
RULES = """
[[rule]]
name = "invoices"
table = "invoice"
since = "invoice.issued"
class = "tax"
method = "anonymize"
basis = "AO § 147"
reason = "the tax period is over"
"""


def add_rules(house: Any) -> None:
    path = house.app.policies / "retention.toml"
    path.write_text(path.read_text() + RULES)


def test_one_persons_class_is_dead_at_once_and_nothing_else(house: Any) -> None:
    at = house.clock.now()
    done = house.do(SHRED, **ACCOUNT)
    (receipt,) = done.receipts
    assert at < receipt.live_at <= house.clock.now()
    assert (receipt.kind, receipt.data_class, receipt.left, done.failed) == ("customer", "account", (), {})
    for column in (1, 2):
        with pytest.raises(ShreddedError):
            house.read(column, 1, 1)
    assert house.read(3, 11, 1) == "Main Street 2"
    assert [house.read(1, 2, 2), house.read(1, 3, 3)] == ["bob@example.org", "cyd@example.org"]
    values = [house.stored(1, row) for row in (1, 2, 3)]
    bounds = [key_bytes((row,)) for row in (1, 2, 3)]
    assert house.opener(1).open_each(values, bounds) == [SHREDDED, "bob@example.org", "cyd@example.org"]


def test_within_the_epoch_the_receipt_says_pending_until(house: Any) -> None:
    (receipt,) = house.do(SHRED, **ACCOUNT).receipts
    assert (receipt.backups_at, receipt.pending_until, receipt.late) == (None, datetime(2026, 2, 1, tzinfo=UTC), False)
    assert "in backups pending until 2026-02-01T00:00:00.000000Z" in receipt.line
    assert receipt.note == "blind tokens in old backups of the shop stay linkable until the index key is rotated"
    assert receipts(house.app) == receipts(house.app, "customer", "1") == (receipt,)
    assert receipts(house.app, "customer", "2") == ()


def test_the_tokens_become_other_bytes_and_only_this_persons(house: Any) -> None:
    before = dict(house.sql("SELECT id, email__guard1 FROM customer"))
    notes = dict(house.sql("SELECT id, note__guard1 FROM customer"))
    (receipt,) = house.do(SHRED, **ACCOUNT).receipts
    after = dict(house.sql("SELECT id, email__guard1 FROM customer"))
    assert receipt.rows == 1
    assert len(after[1]) == 16
    assert after[1] != before[1]
    assert {row: after[row] for row in (2, 3)} == {row: before[row] for row in (2, 3)}
    assert {row: house.sql("SELECT note__guard1 FROM customer WHERE id = ?", row)[0][0] for row in (2, 3)} == {
        row: notes[row] for row in (2, 3)
    }
    marks = house.sql("SELECT work, number, row_count, state FROM guard_progress ORDER BY number")
    assert marks == [(f"shred {receipt.id}", 0, 0, "closed"), (f"shred {receipt.id}", 1, 1, "done")]


def test_the_register_of_every_store_has_the_effect(house: Any) -> None:
    house.do(SHRED, **ACCOUNT)
    ((entry),) = house.app.backups.register("local").read()
    key = key_bytes((1,)).hex()
    columns = ("customer.email", "customer.note")
    assert entry.effects == (Effect(effect="shred", table="customer", key=key, columns=columns),)


def test_the_ledger_tells_what_was_done_and_not_to_whom(house: Any) -> None:
    (receipt,) = house.do(SHRED, **ACCOUNT).receipts
    (_, done) = house.app.ledger.list(Query(what="keys.shred"), 10)
    assert (done.outcome.value, done.objects) == ("done", (receipt.id,))
    assert done.counts == {"keys": 1, "rows": 1}
    assert done.facts == {"kind": "customer"}
    assert key_bytes((1,)).hex() not in str(done)


def test_it_needs_a_code(house: Any) -> None:
    house.phone.code = lambda _="": "000000"
    with pytest.raises(DeniedError):
        house.do(SHRED, **ACCOUNT)
    assert house.read(1, 1, 1) == "ada@example.org"
    assert house.app.shredder.receipts() == []


def test_several_people_need_two_codes_a_day_apart(house: Any) -> None:
    house.one_is_enough()
    args = {"kind": "customer", "keys": ["1", "2"], "classes": ["account"]}
    with pytest.raises(WaitingError):
        house.do(SHRED_MANY, **args)
    assert house.read(1, 1, 1) == "ada@example.org"
    house.clock.step(timedelta(hours=24))
    done = house.do(SHRED_MANY, **args)
    assert [receipt.data_class for receipt in done.receipts] == ["account", "account"]
    for row in (1, 2):
        with pytest.raises(ShreddedError):
            house.read(1, row, row)
    assert house.read(1, 3, 3) == "cyd@example.org"
    (entry,) = house.app.backups.register("local").read()
    assert {effect.key for effect in entry.effects} == {key_bytes((row,)).hex() for row in (1, 2)}


def test_a_running_legal_basis_is_refused_by_name(house: Any) -> None:
    add_rules(house)
    with pytest.raises(InterlockError) as told:
        house.do(SHRED, kind="customer", keys=["1"], classes=["tax"])
    assert "class tax: AO § 147" in str(told.value)
    assert "10 years are not known to be over for 1 of 2 rows of invoice" in str(told.value)
    assert told.value.exit_code == 14
    with pytest.raises(InterlockError, match="class tax"):
        house.do(SHRED, kind="customer", keys=["1"], classes=[])  # every class: nothing goes
    assert house.read(1, 1, 1) == "ada@example.org"
    assert house.app.ledger.list(Query(what="keys.shred"), 10) == ()


def test_a_term_that_is_over_lets_the_class_go(house: Any) -> None:
    add_rules(house)
    done = house.do(SHRED, kind="customer", keys=["2"], classes=["tax"])
    assert [receipt.data_class for receipt in done.receipts] == ["tax"]
    with pytest.raises(ShreddedError):
        house.read(3, 12, 2)
    assert house.read(1, 2, 2) == "bob@example.org"


def test_what_is_not_known_counts_as_running(house: Any) -> None:
    with pytest.raises(InterlockError, match="no rule of class tax says since when 10 years run for rows of invoice"):
        house.do(SHRED, kind="customer", keys=["1"], classes=["tax"])
    add_rules(house)
    house.sql("UPDATE invoice SET issued = NULL WHERE id = 10")
    with pytest.raises(InterlockError, match="for 2 of 2 rows of invoice"):
        house.do(SHRED, kind="customer", keys=["1"], classes=["tax"])
    text = (house.app.policies / "retention.toml").read_text()
    (house.app.policies / "retention.toml").write_text(text.replace("[class.account]", "[class.other]"))
    with pytest.raises(InterlockError, match=r"retention\.toml has no class account"):
        house.do(SHRED, **ACCOUNT)


def test_more_reasons_can_be_added(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The seam the requests and holds of people use."""
    monkeypatch.setattr(house.app, "reasons_to_keep", lambda class_, rows: ("hold h-1: a lawsuit",))
    with pytest.raises(InterlockError, match="class account: hold h-1: a lawsuit"):
        house.do(SHRED, **ACCOUNT)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"kind": "person", "keys": ["1"]}, "the catalog has no subject person"),
        ({"kind": "customer", "keys": ["one"]}, "what was given is no INTEGER, which customer.id holds"),
        ({"kind": "customer", "keys": ["99"]}, "this customer has no key of their own"),
        ({"kind": "customer", "keys": ["3"], "classes": ["tax"]}, "this customer has no key for class tax"),
        ({"kind": "customer", "keys": ["1", "99"]}, "customer 2 of 2 has no key of their own"),
    ],
)
def test_what_cannot_be_meant_is_named_without_the_key(house: Any, args: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as told:
        house.do(SHRED, **args)
    assert said in str(told.value)
    assert not {"one", "99", "3"} & set(str(told.value).split())


def test_shredding_twice_shows_the_first_receipt(house: Any) -> None:
    first = house.do(SHRED, **ACCOUNT)
    house.clock.step(timedelta(days=1))
    assert house.do(SHRED, **ACCOUNT).receipts == first.receipts
    assert len(house.app.backups.register("local").read()) == 1


def test_a_store_that_is_away_is_named_and_done_later(house: Any) -> None:
    away = (house.home / "backups").rename(house.home / "unplugged")
    done = house.do(SHRED, **ACCOUNT)
    assert list(done.failed) == ["register local"]
    assert done.receipts[0].left == ("register local",)
    with pytest.raises(ShreddedError):
        house.read(1, 1, 1)
    assert house.app.ledger.list(Query(what="keys.shred"), 10)[-1].outcome.value == "partly"
    away.rename(house.home / "backups")
    again = house.do(SHRED, **ACCOUNT)
    assert (again.failed, again.receipts[0].left) == ({}, ())
    assert len(house.app.backups.register("local").read()) == 1


def test_state_is_in_a_backup_of_everything_around_it_and_the_vault_is_not(
    house: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    out = tmp_path_factory.mktemp("out")
    text = (house.home / "guard.toml").read_text()
    (house.home / "guard.toml").write_text(text.replace("files = []", f'files = ["{house.home.parent}"]'))
    house.reopen()
    assert any("lies within" in each and "which backups copy" in each for each in house.app.vault.missing())
    house.do(RUN, stores=[])
    (snapshot,) = house.app.backups.list().done["local"]
    wanted = house.app.backups.wanted({"to": str(out / "here")})
    house.app.backups.restore("local", house.app.backups.plan_restore("local", snapshot.id, wanted))
    restored = [path for path in out.rglob("*") if path.is_file()]
    assert any(path.name == "state.db" for path in restored)
    assert not [path for path in restored if path.name.startswith("2026-01-")]
    epoch = house.app.vault.key(house.app.vault.epochs()[0].id).material
    assert not [path for path in restored if epoch in path.read_bytes()]


def run(house: Any, *words: str) -> Any:
    return CliRunner().invoke(main, words, obj=house.app, standalone_mode=False)


def test_the_command(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guard.cli._door.sys.stdin.isatty", lambda: True, raising=False)
    shred = run(house, "--yes", "keys", "shred", "customer", "1", "--class", "account")
    assert shred.exception is None
    assert "customer, class account: dead in live stores since 2026-01-05" in shred.stdout
    assert "in backups pending until 2026-02-01" in shred.stdout
    assert "blind tokens in old backups" in shred.stderr
    (shown,) = json.loads(run(house, "--json", "keys", "shred", "--receipt").stdout)
    assert (shown["data_class"], shown["backups_at"], shown["left"]) == ("account", None, [])
    assert shown["pending_until"] == stamp(datetime(2026, 2, 1, tzinfo=UTC))
    assert json.loads(run(house, "--json", "keys", "shred", "customer", "2", "--receipt").stdout) == []
    assert run(house, "keys", "shred", "customer").exit_code == 2 or isinstance(
        run(house, "keys", "shred", "customer").exception, Exception
    )


def test_another_process_seals_under_a_dead_key_for_a_minute_at_most(house: Any, open_house: Any) -> None:
    """docs/THREAT_MODEL.md, Shredding: what it seals then is dead too; what it seals later is under a new key."""
    other = open_house(house.home.parent)
    sealer = SubjectSealer(other.place(1), other.app.subjects, "customer", "account")
    bound = key_bytes((1,))
    sealer.seal("before", bound)
    house.clock.step(timedelta(seconds=1))
    house.do(SHRED, **ACCOUNT)
    late = sealer.seal("meanwhile", bound)
    assert late[2:7] == house.stored(1, 1)[2:7]
    house.app.subjects.forget()
    assert house.opener(1).open_each([late], [bound]) == [SHREDDED]
    house.clock.step(timedelta(seconds=60))
    assert house.opener(1).open_each([sealer.seal("after", bound)], [bound]) == ["after"]


def test_it_asks_before_it_destroys(house: Any) -> None:
    asked = run(house, "keys", "shred", "customer", "1", "--class", "account")
    assert isinstance(asked.exception, ConfigError)
    assert "nobody answered yes" in str(asked.exception)
    for words, said, hint in (
        (("custmer", "1"), "the catalog has no subject custmer", "did you mean customer?"),
        (("customer", "99"), "this customer has no key of their own", "is it the right key?"),
        (("customer", "1"), KEPT, "nothing was shredded"),
    ):
        wrong = run(house, "keys", "shred", *words).exception
        assert (str(wrong), hint in str(wrong.hint)) == (said, True), "said before anybody is asked"
    assert house.read(1, 1, 1) == "ada@example.org"


def test_status_and_doctor_tell_of_it(house: Any) -> None:
    from guard.actions.doctor import Found, examine
    from guard.actions.status import Light, overview

    def lines(light: Light) -> list[str]:
        return [line.text for line in overview(house.app) if line.what == "vault" and line.light is light]

    def checks() -> dict[str, Found]:
        return {check.what: check.found for check in examine(house.app) if check.what.startswith("vault")}

    assert lines(Light.GREEN) == ["2 mirrors hold the keys of epochs"]
    assert lines(Light.YELLOW) == [
        "5 of 5 keys of people are in no backup of state yet: if state is lost, so is their data"
    ]
    house.do(BACKUP, stores=[])
    assert lines(Light.YELLOW) == []
    house.clock.step(timedelta(minutes=1))
    house.app.subjects.for_writing(house_person(4), "account")
    (line,) = [line for line in overview(house.app) if "in no backup of state yet" in line.text]
    assert (line.light, line.text.partition(" keys")[0]) == (Light.YELLOW, "1 of 6")
    assert line.remedy.startswith("guard state backup")
    assert checks() == {
        "vault one": Found.WELL, "vault two": Found.WELL, "vault disks": Found.WARNING, "vault": Found.WELL
    }  # fmt: skip
    house.do(SHRED, **ACCOUNT)
    assert "1 shredded keys are pending in backups until 2026-02-01 00:00 UTC" in lines(Light.GREEN)
    away = house.mirrors[1].rename(house.mirrors[1].with_name("away"))
    assert any("mirror two" in text and "is not there" in text for text in lines(Light.RED))
    assert checks()["vault two"] is Found.WRONG
    away.rename(house.mirrors[1])
    house.app.shredder.shred(Death(house_person(2), "account", "run", ("log",)))
    assert "1 receipts of shredding have steps left" in lines(Light.RED)
    house.clock.step(timedelta(days=31))
    assert "the key of epoch 2026-01 should have been deleted by now" in lines(Light.RED)


def house_person(customer: int) -> Any:
    from guard.crypto.subjects import Person

    return Person("customer", key_bytes((customer,)))
