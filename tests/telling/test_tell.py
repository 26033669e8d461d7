"""Events of the shop in the ledger: who may tell them, recorded once, whole or not at all, nobody named in public."""

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from guard.actions.tell import Desk
from guard.app import App
from guard.audit import Query
from guard.canon import key_bytes
from guard.cli.main import call
from guard.clock import SteppedClock
from guard.crypto.receipts import Death
from guard.crypto.subjects import Person
from guard.errors import BusyError, ConfigError, DeniedError, InterlockError
from guard.events import Principal, PrincipalId, Role, RunId
from tests.telling.shop import SHOP_SERVICE, House, line

ADA = {"kind": "customer", "key": 1}
BOB = {"kind": "customer", "key": "2"}


@pytest.fixture
def desk(house: House) -> Desk:
    return Desk(house.app)


def test_an_event_is_an_entry_with_its_number(house: House, desk: Desk) -> None:
    numbers = desk.tell(SHOP_SERVICE, [line(), line(what="order.export", **{"class": "export"}, objects=["purchase"])])
    first, second = house.told()
    assert numbers == [first.n, second.n]
    assert (first.what, first.who, first.facts["via"]) == ("shop.order.read", "s-shop", "s-shop")
    assert (second.objects, second.activity) == (("purchase",), "6005.4")


def test_a_person_is_found_by_pseudonym_and_their_details_open(house: House, desk: Desk) -> None:
    (number,) = desk.tell(
        SHOP_SERVICE, [line(subject=[ADA, BOB], details={"note": "asked for a refund"}, actor="anna")]
    )
    ada, bob = house.told()
    assert (number, ada.run) == (ada.n, bob.run)
    assert ada.subject == house.pseudonym("customer", 1)
    assert bob.subject == house.pseudonym("customer", 2)
    assert house.details(bob) == {"note": "asked for a refund"}
    assert ada.who.startswith("x-")
    assert ada.who == Desk(house.app).actor("anna") != Desk(house.app).actor("Anna")


def test_a_key_is_typed_as_the_shops_column_is(house: House, desk: Desk) -> None:
    desk.tell(
        SHOP_SERVICE, [line(subject={"kind": "member", "key": 17}), line(subject={"kind": "member", "key": "17"})]
    )
    one, other = house.told()
    assert one.subject == other.subject == house.pseudonym("member", "17")
    with pytest.raises(ConfigError, match=r"event 1: subject\.key: what was given is no INTEGER"):
        desk.tell(SHOP_SERVICE, [line(subject={"kind": "customer", "key": "one"})])


@pytest.mark.parametrize("key", [10**26, "9" * 26, -(1 << 63) - 1])
def test_a_key_no_integer_column_can_hold_is_named_beside_other_problems(desk: Desk, key: int | str) -> None:
    with pytest.raises(ConfigError) as raised:
        desk.tell(SHOP_SERVICE, [line(at="now"), line(subject={"kind": "customer", "key": key})])
    first, second = str(raised.value).splitlines()
    assert first.startswith("event 1: at: ")
    assert second.startswith("event 2: subject.key: what was given is no INTEGER")


def test_one_wrong_event_keeps_all_out(house: House, desk: Desk) -> None:
    with pytest.raises(ConfigError) as raised:
        desk.tell(SHOP_SERVICE, [line(), line(objects=["customer.emial"]), 5, line(at="now")])
    assert str(raised.value).splitlines() == [
        'event 2: objects[1]: not in the accepted catalog; did you mean "customer.email"?',
        'event 3: not a JSON object; write one, e.g. {"what": "order.read", …}',
        'event 4: at: not a time with an offset; when it happened, as RFC 3339 with an offset, e.g. '
        '"2026-11-22T17:30:00+01:00"',
    ]  # fmt: skip
    assert not house.told()


def test_of_many_problems_some_are_named_and_the_rest_counted(desk: Desk) -> None:
    with pytest.raises(ConfigError, match=r"event 20: .*\nand 30 more$"):
        desk.tell(SHOP_SERVICE, [line(at="now")] * 50)


def test_told_twice_it_is_recorded_once(house: House, desk: Desk) -> None:
    first = desk.tell(SHOP_SERVICE, [line(id="a", subject=[ADA, BOB])])
    again = desk.tell(SHOP_SERVICE, [line(id="b"), line(id="a", subject=[ADA, BOB]), line(id="b")])
    assert again[1] == first[0]
    assert again[0] == again[2]
    assert len(house.told()) == 3
    assert Desk(house.app).tell(SHOP_SERVICE, [line(id="a")]) == first
    desk.tell(SHOP_SERVICE, [line(id="a", what="order.sent")])  # another event
    assert len(house.told()) == 4
    assert "a" not in {entry.run for entry in house.told()}


def test_without_an_id_two_are_two(house: House, desk: Desk) -> None:
    assert len(set(desk.tell(SHOP_SERVICE, [line(), line()]))) == 2
    assert len(house.told()) == 2


def test_a_service_that_may_not_is_denied_and_recorded_once_an_hour(house: House, clock: SteppedClock) -> None:
    house.edit('["audit.emit", ', "[", "policies/access.toml")
    desk = Desk(house.reopen())
    for _ in range(3):
        with pytest.raises(DeniedError, match=r"may not do audit\.emit") as raised:
            desk.tell(SHOP_SERVICE, [line()])
    assert raised.value.hint == 'add routine = ["audit.emit"] below [service.shop] in policies/access.toml'

    def denied() -> int:
        return len(house.app.ledger.list(Query(what="audit.emit", outcome="denied")))

    assert denied() == 1
    clock.step(timedelta(hours=1))
    with pytest.raises(DeniedError):
        desk.tell(SHOP_SERVICE, [line()])
    assert denied() == 2
    assert not house.told()


def test_a_refusal_that_could_not_be_recorded_is_recorded_the_next_time(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.edit('["audit.emit", ', "[", "policies/access.toml")
    desk = Desk(house.reopen())

    def fail(*_: object) -> None:
        raise BusyError("somebody else writes")

    with monkeypatch.context() as broken:
        broken.setattr(desk.app, "record", fail)
        with pytest.raises(BusyError):
            desk.tell(SHOP_SERVICE, [line()])
    for _ in range(2):
        with pytest.raises(DeniedError):
            desk.tell(SHOP_SERVICE, [line()])
    assert len(house.app.ledger.list(Query(what="audit.emit", outcome="denied"))) == 1


@pytest.mark.parametrize(
    "who",
    [
        Principal(PrincipalId("s-nobody"), Role.SERVICE, "nobody"),
        Principal(PrincipalId("p-abcdefghij"), Role.OWNER, "Ada"),
    ],
    ids=["a service nobody lists", "a person"],
)
def test_nobody_else_may_tell(house: House, desk: Desk, who: Principal) -> None:
    with pytest.raises(DeniedError):
        desk.tell(who, [line()])
    assert not house.told()


def test_without_a_vault_nobody_is_named(make_house: Callable[..., House], clock: SteppedClock) -> None:
    house = make_house(clock, vault="")
    desk = Desk(house.app)
    with pytest.raises(InterlockError) as raised:
        desk.tell(SHOP_SERVICE, [line(), line(subject=ADA)])
    assert "runbooks/shredding.md" in (raised.value.hint or "")
    assert not house.told()
    desk.tell(SHOP_SERVICE, [line(actor="anna")])  # actors are stand-ins without a vault too
    assert house.told()[0].who.startswith("x-")


def test_a_catalog_that_is_being_edited_stays_what_was_accepted(house: House, desk: Desk, clock: SteppedClock) -> None:
    desk.tell(SHOP_SERVICE, [line(objects=["customer.email"])])
    house.edit("id = 4", "id = 4\nnothing =", "policies/catalog.toml")
    clock.step(timedelta(seconds=2))
    desk.tell(SHOP_SERVICE, [line(objects=["customer.email"])])
    with pytest.raises(InterlockError, match="not the catalog that was accepted"):
        Desk(house.app).tell(SHOP_SERVICE, [line()])


def test_a_changed_policy_counts_within_a_second(house: House, desk: Desk, clock: SteppedClock) -> None:
    with pytest.raises(ConfigError, match="purpose"):
        desk.tell(SHOP_SERVICE, [line(purpose="raffle")])
    path = house.home / "policies/audit.toml"
    path.write_text(path.read_text().replace('"support"', '"raffle", "support"'))
    clock.step(timedelta(seconds=1))
    desk.tell(SHOP_SERVICE, [line(purpose="raffle")])
    assert house.told()[0].facts["purpose"] == "raffle"


def test_a_person_shredded_between_two_events_gets_another_pseudonym(house: House, desk: Desk) -> None:
    desk.tell(SHOP_SERVICE, [line(subject=ADA, details={"x": 1})])
    before = house.told()[0].subject
    person = Person("customer", key_bytes((1,)))
    house.app.shredder.shred(Death(person, "ledger", RunId("cd" * 16), (), house.clock.now()))
    assert house.pseudonym("customer", 1) is None
    desk.tell(SHOP_SERVICE, [line(subject=ADA, details={"x": 2})])
    first, second = house.told()
    assert first.subject == before != second.subject
    assert house.details(second) == {"x": 2}


PLANTED = ("ada.lovelace@example.org", "Ada Lovelace", "4111111111111111", "Baker Street 221b")


def test_what_is_told_of_people_is_nowhere_in_the_public_part(house: House, desk: Desk) -> None:
    email, name, card, street = PLANTED
    desk.tell(
        SHOP_SERVICE,
        [line(actor=email, subject=ADA, details={"name": name, "card": card, "street": street}, id=f"order of {name}")],
    )
    house.app.state.scrub("ledger_entry", "ledger_payload")
    entry = house.told()[0]
    assert house.details(entry)["street"] == street
    assert house.app.state.path is not None
    raw = b"".join(path.read_bytes() for path in house.app.state.path.parent.glob("state.db*"))
    assert b"shop.order.read" in raw  # the search finds what is there
    for planted in PLANTED:
        for form in {planted, planted.lower(), planted.upper()}:
            assert form.encode() not in raw
            for digest in (hashlib.sha256, hashlib.md5, hashlib.sha1, hashlib.blake2b):
                found = digest(form.encode())
                assert found.digest() not in raw
                assert found.hexdigest().encode() not in raw


def test_many_that_tell_the_same_at_once_record_it_once(house: House, clock: SteppedClock) -> None:
    """Each finds the other's entry within its own transaction, whatever it saw before; also from another app."""
    Desk(house.app).tell(SHOP_SERVICE, [line(subject=[ADA, BOB])])  # from here on they have keys and names
    other = App.open(house.config, clock)
    desks = [Desk(house.app), Desk(house.app), Desk(other), Desk(other)]
    start = threading.Barrier(len(desks))

    def tell_all(which: int) -> list[list[int]]:
        start.wait()
        return [desks[which].tell(SHOP_SERVICE, [line(id=f"{number}", subject=[ADA, BOB])]) for number in range(25)]

    with ThreadPoolExecutor(len(desks)) as threads:
        said = list(threads.map(tell_all, range(len(desks))))
    other.close()
    assert all(numbers == said[0] for numbers in said)
    assert len(house.told()) == 52
    house.app.ledger.inspect()


def digest(key: bytes, domain: str, data: bytes) -> str:
    """A keyed digest, from the words of docs/FORMATS.md alone."""
    joined = b"".join(len(part).to_bytes(4, "big") + part for part in (b"guard/digest1", domain.encode(), data))
    return hmac.digest(key, joined, "sha256").hex()


def joined(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def test_runs_sources_and_actors_are_what_the_formats_say(house: House, desk: Desk, tmp_path: Path) -> None:
    keys = {name: house.app.keyring.current(name).material for name in ("digest", "pseudonym")}
    desk.tell(SHOP_SERVICE, [line(id="r-1", actor="anna@shop.example")])
    raw = json.dumps(line(id="r-2")).encode() + b"\n\n" + json.dumps(line()).encode()
    (tmp_path / "log").write_bytes(raw)
    assert call(["audit", "ingest", str(tmp_path / "log")], house.app) == 0
    told, with_id, without = house.told()
    source = digest(keys["digest"], "audit.ingest", hashlib.sha256(raw).digest())
    assert with_id.facts["source"] == without.facts["source"] == source
    assert told.run == digest(keys["digest"], "audit.told", joined(b"order.read", b"r-1"))[:32]
    assert with_id.run == digest(keys["digest"], "audit.told", joined(b"order.read", b"r-2"))[:32]
    place = joined(bytes.fromhex(source), (3).to_bytes(8, "big"))
    assert without.run == digest(keys["digest"], "audit.line", place)[:32]
    mac = hmac.digest(keys["pseudonym"], joined(b"guard/actor1", b"anna@shop.example"), "sha256")
    assert told.who == f"x-{base64.b32encode(mac).decode()[:16].lower()}"
    with house.app.state.read() as tx:
        row = tx.exec_driver_sql("SELECT source, lines, taken FROM ledger_taken").one()
    assert tuple(row) == (source, 3, 3)


def test_told_twice_within_one_commit_it_is_recorded_once(house: House, desk: Desk) -> None:
    entered, released = threading.Event(), threading.Event()

    def block(_: object) -> None:
        entered.set()
        released.wait()

    first = threading.Thread(target=house.app.state.write, args=(block,))
    first.start()
    entered.wait()
    with ThreadPoolExecutor(4) as pool:
        told = [pool.submit(desk.tell, SHOP_SERVICE, [line(id="same")]) for _ in range(4)]
        for _ in range(100):  # both wait for the commit that is under way, to be committed together
            if house.app.state.waiting > 1:
                break
            released.wait(0.01)
        released.set()
        numbers = {number for each in told for number in each.result()}
    first.join()
    assert len(house.told()) == len(numbers) == 1
