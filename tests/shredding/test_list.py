"""`guard audit list`: about whom, by whom in the shop, and what was said; each look at a person is on the record."""

import json
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import delete, update

from guard.actions import Caller, perform
from guard.actions.reveal import FIND, REVEAL
from guard.actions.shred import SHRED
from guard.audit import Query
from guard.audit.persons import CLASS
from guard.audit.store import PAYLOAD, PERSON
from guard.canon import key_bytes
from guard.cli.main import main
from guard.crypto.subjects import Person
from guard.errors import ConfigError, DeniedError, GuardError, InterlockError, TamperedError
from guard.events import GUARD, About, Ending, Event, PrincipalId
from tests.shredding.conftest import ACTOR, PLANTED


def say(house: Any, *customers: int, who: PrincipalId = GUARD, **details: Any) -> None:
    """Record an event about each of these people, as the shop tells them."""
    events = [
        Event("shop.read", Ending.DONE, who, house.app.new_run(), about=About("customer", key_bytes((each,)), details))
        for each in customers
    ]
    house.app.record(lambda tx: None, *events)


@pytest.fixture
def told(house: Any) -> Any:
    """The ledger says something of Ada twice, by one of the shop's staff, and of Bob once."""
    anna = PrincipalId(house.app.persons.actor(ACTOR))
    say(house, 1, who=anna, name=PLANTED, why="she called")
    say(house, 2, name="Bob")
    say(house, 1, name=PLANTED)
    return house


def entries(house: Any, what: str) -> list[Any]:
    return list(house.app.ledger.list(Query(what=what), 1000))


def run(house: Any, *words: str) -> Any:
    return CliRunner().invoke(main, ["--yes", *words], obj=house.app)


def listed(house: Any, *words: str) -> list[Any]:
    done = run(house, "--json", "audit", "list", *words)
    assert done.exception is None or isinstance(done.exception, SystemExit), repr(done.exception)
    return list(json.loads(done.stdout))


def said(house: Any, *words: str) -> GuardError:
    error = run(house, "audit", "list", *words).exception
    assert isinstance(error, GuardError), repr(error)
    return error


# Filters --------------------------------------------------------------------------------------------------------------


def test_by_pseudonym_and_by_key_the_same_entries(told: Any) -> None:
    subject = entries(told, "shop.read")[0].subject
    by_pseudonym = listed(told, "--subject", subject)
    assert [(each["what"], each["subject"]) for each in by_pseudonym] == [("shop.read", subject)] * 2
    by_key = listed(told, "--subject", "customer:1", "--what", "shop.*")
    assert by_key == by_pseudonym
    shown = run(told, "audit", "list", "--subject", subject).stdout
    assert f"about {subject}" in shown


def test_a_person_that_is_looked_up_is_on_the_record(told: Any) -> None:
    subject = entries(told, "shop.read")[0].subject
    listed(told, "--subject", "customer:1")
    begun, done = entries(told, "audit.find")
    assert (begun.subject, done.subject, done.outcome) == (subject, subject, Ending.DONE)
    assert (done.who, done.facts, begun.facts) == (
        told.caller().who.id, {"kind": "customer", "found": "yes"}, {"gate": "role"}
    )  # fmt: skip
    listed(told, "--subject", subject)
    assert len(entries(told, "audit.find")) == 2  # a pseudonym tells nobody's key


def test_of_whom_nothing_is_said_and_whom_it_forgot(told: Any) -> None:
    done = run(told, "audit", "list", "--subject", "customer:3")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "the ledger says nothing of this customer" in done.stderr
    assert entries(told, "audit.find")[-1].facts["found"] == "no"
    assert told.app.subjects.classes(Person("customer", key_bytes((3,)))) == ("account",)
    told.do(SHRED, kind="customer", keys=["1"], classes=[CLASS])
    done = run(told, "audit", "list", "--subject", "customer:1")
    assert "what the ledger held about this customer was shredded at 2026-01-05T" in done.stderr
    found = entries(told, "audit.find")[-1]
    assert (found.subject, found.facts["found"]) == (None, "forgotten")
    assert listed(told, "--subject", "customer:1") == []


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("custmer:1", "the catalog has no subject custmer", "did you mean customer?"),
        ("supplier:1", "the catalog has no subject supplier", "there are: customer"),
        ("customer:one", "what was given is no INTEGER", None),
        ("customer:99", "no customer of the shop has this key, and the ledger names nobody by it", "customer.id"),
        ("customer", "a subject is a pseudonym of 32 hex characters, or KIND:KEY", "customer:4711"),
        ("ab" * 15, "a subject is a pseudonym of 32 hex characters, or KIND:KEY", "customer:4711"),
        (":1", "a subject is a pseudonym", "customer:4711"),
        ("customer:", "a subject is a pseudonym", "customer:4711"),
    ],
)
def test_a_wrong_subject_is_said_with_the_way_out(told: Any, text: str, message: str, hint: str | None) -> None:
    error = said(told, "--subject", text)
    assert isinstance(error, ConfigError)
    assert message in str(error)
    assert hint is None or hint in str(error.hint).replace("what id of", "customer.id of")
    assert not {"99", "one"} & set(str(error).split())


def test_by_who_it_was_in_the_shop(told: Any) -> None:
    found = listed(told, "--who", ACTOR)
    assert [each["who"] for each in found] == [told.app.persons.actor(ACTOR)]
    assert listed(told, "--who", found[0]["who"]) == found
    assert listed(told, "--who", "anna") == []
    assert {each["who"] for each in listed(told, "--who", "guard")} == {"guard"}
    mine = told.caller().who.id
    assert {each["who"] for each in listed(told, "--who", mine)} == {mine}
    assert ACTOR not in json.dumps(listed(told, "--limit", "1000"))


def test_by_action_group_and_outcome(told: Any) -> None:
    assert {each["what"] for each in listed(told, "--what", "backup.*")} == {"backup.init"}
    assert {each["what"] for each in listed(told, "--what", "shop.read")} == {"shop.read"}
    assert listed(told, "--what", "shop") == []
    assert {each["outcome"] for each in listed(told, "--outcome", "begun")} == {"begun"}
    wrong = run(told, "audit", "list", "--outcome", "dnied")
    assert wrong.exit_code == 2
    assert "'dnied' is not one of" in str(wrong.exception) + wrong.stderr


# What is said ---------------------------------------------------------------------------------------------------------


def test_what_is_said_is_shown_with_a_code_and_recorded(told: Any) -> None:
    found = listed(told, "--what", "shop.*", "--payloads")
    assert [each["said"] for each in found] == [
        {"name": PLANTED, "why": "she called"}, {"name": "Bob"}, {"name": PLANTED}
    ]  # fmt: skip
    assert [each["erased"] for each in found] == [False] * 3
    begun, done = entries(told, "audit.reveal")
    assert done.counts == {"entries": 3, "people": 2, "erased": 0}
    assert (begun.facts, done.outcome, done.activity, done.subject) == ({"gate": "code"}, Ending.DONE, "6005.1", None)
    shown = run(told, "audit", "list", "--what", "shop.*", "--payloads")
    assert f'says {{"name": "{PLANTED}", "why": "she called"}}' in shown.stdout
    with told.app.state.read() as tx:
        raw = b"".join(tx.exec_driver_sql("SELECT leaf FROM ledger_entry").scalars())
    assert PLANTED.encode() not in raw


def test_the_plan_says_how_much_of_how_many(told: Any) -> None:
    lines: list[str] = []
    asked = told.caller()
    perform(told.app, Caller(asked.who, asked.ask, lines.append), REVEAL, what="shop.*", limit=100)
    assert "open what 3 entries say in clear of 2 people: entries " in "\n".join(lines)
    perform(told.app, Caller(asked.who, asked.ask, lines.append), REVEAL, what="shop.*", limit=1)
    assert "open what 1 entry says in clear of 1 person: entries " in "\n".join(lines)


def test_of_one_person_the_record_names_them(told: Any) -> None:
    subject = entries(told, "shop.read")[0].subject
    found = listed(told, "--subject", "customer:1", "--what", "shop.*", "--payloads")
    assert [each["said"]["name"] for each in found] == [PLANTED] * 2
    assert [each.subject for each in entries(told, "audit.reveal")] == [subject] * 2


def test_what_was_erased_is_shown_as_erased(told: Any) -> None:
    told.do(SHRED, kind="customer", keys=["1"], classes=[CLASS])
    found = listed(told, "--what", "shop.*", "--payloads")
    assert [(each["said"], each["erased"]) for each in found] == [(None, True), ({"name": "Bob"}, False), (None, True)]
    assert entries(told, "audit.reveal")[-1].counts == {"entries": 1, "people": 1, "erased": 2}
    shown = run(told, "audit", "list", "--what", "shop.*", "--payloads").stdout
    assert shown.count("what it said is erased") == 2


def test_without_a_code_nothing_is_shown(told: Any) -> None:
    told.app.ask_secret = lambda _: "000000"
    done = run(told, "audit", "list", "--payloads")
    assert isinstance(done.exception, DeniedError)
    assert PLANTED not in done.stdout
    assert [each.outcome for each in entries(told, "audit.reveal")] == [Ending.DENIED]


def test_where_nothing_is_said_no_code_is_asked_for(told: Any) -> None:
    before = told.clock.now()
    error = said(told, "--what", "backup.*", "--payloads")
    assert "no entry that fits says anything of a person" in str(error)
    assert told.clock.now() == before


def test_a_later_process_finds_everybody_again(told: Any) -> None:
    told.reopen()
    assert len(listed(told, "--what", "shop.*", "--payloads")) == 3
    told.reopen()
    assert listed(told, "--subject", "customer:2", "--what", "shop.*", "--payloads")[0]["said"] == {"name": "Bob"}


@pytest.mark.parametrize(
    "change",
    [
        update(PAYLOAD).values(sealed=b"gp\x01" + bytes(40)),
        delete(PAYLOAD),
        delete(PERSON),
    ],
    ids=["changed", "removed", "nobody's"],
)
def test_what_was_tampered_with_is_not_shown(told: Any, change: Any) -> None:
    with told.app.state.database.writer.begin() as tx:
        tx.execute(change)
    told.reopen()
    first = entries(told, "shop.read")[0].n
    error = said(told, "--what", "shop.*", "--payloads")
    assert isinstance(error, TamperedError)
    assert f"ledger entry {first}: what it says of a person is not what was sealed" in str(error)


def test_without_a_vault_nobody_is_looked_up(make_house: Any) -> None:
    house = make_house("")
    for action, args in ((FIND, {"kind": "customer", "key": "1"}), (REVEAL, {"limit": 10})):
        with pytest.raises(InterlockError, match="the ledger names nobody: there is no vault") as told:
            house.do(action, **args)
        assert "runbooks/shredding.md" in str(told.value.hint)
    assert listed(house, "--who", "guard") != []
