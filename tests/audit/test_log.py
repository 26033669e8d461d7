"""The ledger records in the transaction of what it records, signs each commit, and lists what it holds."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import delete, insert, text, update

from guard import canon
from guard.audit import Entry, FolderAnchor, Ledger, Query, entry, heartbeat, merkle, open_signed, store
from guard.audit.store import CHECKPOINT, ENTRY, NODE
from guard.clock import SteppedClock
from guard.crypto.sign import Verifier
from guard.errors import ClockError, TamperedError
from guard.events import GUARD, Activity, Ending, Event, RunId
from guard.state import State, Tx

Make = Callable[[int], Event]


def test_an_event_comes_back_as_an_entry(house, make_event: Make) -> None:
    house.add(make_event(35))
    (found,) = house.ledger.list()
    assert found == Entry(
        n=0,
        at=house.clock.now(),
        who="p-abcdefghij",
        what="test.work-3",
        run=RunId(f"{34:032x}"),
        outcome=Ending.DENIED,
        activity="6005.9",
        objects=("Customer.Email",),
        counts={"rows": 35},
        digests={"action": "ab" * 32},
        facts={"reason": "ü"},
        subject="cd" * 16,
    )


def test_the_leaf_is_the_canonical_json_of_the_format(house, make_event: Make) -> None:
    house.add(make_event(0))
    with house.state.read() as tx:
        row = tx.execute(ENTRY.select()).one()
    assert row.leaf.decode() == (
        '{"at":"2026-01-05T09:00:00.000000Z","class":"6005.9","counts":{"rows":0},"digests":{"action":"'
        + "ab" * 32
        + '"},'
        '"facts":{"reason":"ü"},"n":0,"objects":[],"outcome":"begun","payload":null,'
        f'"run":"{1:032x}","subject":"{"cd" * 16}","v":1,"what":"test.work-0","who":"guard"}}'
    )
    assert row.hash == merkle.leaf_hash(row.leaf)


def test_each_commit_has_one_checkpoint_signed_by_the_ledger(house, make_event: Make) -> None:
    verifier = Verifier.from_vkey(house.ledger.vkey)
    tree = merkle.Range()
    for size in (1, 3, 6):
        house.add(*[make_event(number) for number in range(tree.size, size)])
        with house.state.read() as tx:
            for _, raw in store.leaves(tx, Query(since=house.clock.now())):
                tree.push(merkle.leaf_hash(raw))
        found = open_signed(house.ledger.checkpoint(), verifier)
        assert (found.origin, found.size, found.root) == (f"guard-ledger/{house.state.store_id}", size, tree.root())
        house.clock.step(timedelta(minutes=1))
    with house.state.read() as tx:
        assert [(size, kind) for size, kind, _ in store.checkpoints(tx)] == [(6, "latest")]


def test_the_last_checkpoint_of_each_hour_is_kept(house, make_event: Make) -> None:
    for number in range(7):
        house.add(make_event(number))
        house.clock.step(timedelta(minutes=25))
    with house.state.read() as tx:
        assert [(size, kind) for size, kind, _ in store.checkpoints(tx)] == [
            (3, "hourly"),
            (5, "hourly"),
            (7, "latest"),
        ]


def test_a_work_that_fails_leaves_no_entry_and_the_next_one_goes_on(house, make_event: Make) -> None:
    house.add(make_event(0))

    def fail(tx: Tx) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        house.state.write(fail, make_event(1))
    house.add(make_event(3))
    assert [found.n for found in house.ledger.list()] == [0, 1]
    house.ledger.anchor()
    assert house.ledger.verify().size == 2


def test_a_commit_rolled_back_after_the_checkpoint_does_not_confuse_the_next(house, make_event: Make) -> None:
    house.add(make_event(0))

    def append_and_fail(tx: Tx, events: list[Event]) -> None:
        house.ledger.append(tx, events)
        raise ZeroDivisionError

    house.state.attach(append_and_fail)
    with pytest.raises(ZeroDivisionError):
        house.add(make_event(1))
    house.state.attach(house.ledger.append)
    house.add(make_event(1))
    assert house.ledger.inspect().size == 2


def test_two_ledgers_on_one_state_take_turns(house, make_event: Make) -> None:
    other = State.open(f"sqlite:///{house.folder}/state.db", house.clock)
    second = Ledger(other, bytes(range(32)))
    other.attach(second.append)
    for number in range(6):
        (house.state if number % 2 else other).write(lambda tx: None, make_event(number))
    other.close()
    assert [found.counts["rows"] for found in house.ledger.list()] == list(range(6))
    assert house.ledger.inspect().size == 6


def test_a_reopened_ledger_goes_on(house, make_event: Make) -> None:
    for number in range(5):
        house.add(make_event(number))
        house = house.reopened()
    assert house.ledger.inspect().size == 5
    house.close()


def test_an_entry_is_never_earlier_than_the_one_before(house, make_event: Make) -> None:
    house.add(make_event(0))
    house.clock.step(timedelta(seconds=-5))
    house.add(make_event(1))
    assert len({found.at for found in house.ledger.list()}) == 1
    house.clock.step(timedelta(seconds=-1))
    with pytest.raises(ClockError):
        house.add(make_event(3))
    assert len(house.ledger.list()) == 2


def test_the_ledger_stops_a_clock_set_back_by_itself(house, make_event: Make) -> None:
    house.add(make_event(0))
    with house.state.database.writer.begin() as tx:
        house.clock.step(timedelta(hours=-1))
        with pytest.raises(ClockError):
            house.ledger.append(tx, [make_event(1)])


@pytest.mark.parametrize(
    "wrong",
    [
        Event("a.b", Ending.DONE, GUARD, RunId("x")),
        Event("a.b", Ending.DONE, GUARD, RunId("0" * 32), subject="Ada Lovelace"),
        Event("a.b", Ending.DONE, GUARD, RunId("0" * 32), digests={"email": "ada@example.com"}),
        Event("a.b", Ending.DONE, GUARD, RunId("0" * 32), counts={"rows": 2**53}),
    ],
)
def test_what_the_format_cannot_hold_is_refused(house, wrong: Event) -> None:
    with pytest.raises(ValueError, match=r"hex|2\^53|[0-9]"):
        house.add(wrong)
    assert house.ledger.list() == ()


TAMPERING = {
    "the newest checkpoint removed": delete(CHECKPOINT),
    "its note changed": update(CHECKPOINT).values(note="x"),
    "a node of the right edge changed": update(NODE).where(NODE.c.level == 2).values(hash=b"x" * 32),
    "a node of the right edge removed": delete(NODE).where(NODE.c.level == 2),
    "the last entry removed": delete(ENTRY).where(ENTRY.c.n == 4),
    "all entries removed": delete(ENTRY),
    "the last leaf's hash changed": update(ENTRY).where(ENTRY.c.n == 4).values(hash=b"x" * 32),
    "an entry added": insert(ENTRY).values(n=5, leaf=b"", hash=b"", at="", who="", what="", outcome="", run=""),
}


@pytest.mark.parametrize("name", TAMPERING)
@pytest.mark.parametrize("again", [True, False], ids=["reopened", "still open"])
def test_nothing_is_recorded_on_an_end_that_was_not_signed(house, make_event: Make, name: str, again: bool) -> None:
    for number in range(5):
        house.add(make_event(number))
    with house.state.database.writer.begin() as tx:
        tx.execute(TAMPERING[name])
    if again:
        house = house.reopened()
    unseen_until_verified = {
        "a node of the right edge changed",
        "a node of the right edge removed",
        "the last entry removed",
        "all entries removed",
        "the last leaf's hash changed",
    }
    if not again and name in unseen_until_verified:
        house.add(make_event(5))  # the process knows the true end: it goes on from there, and verify names the rest
    else:
        with pytest.raises(TamperedError):
            house.add(make_event(5))
    with pytest.raises(TamperedError):
        house.ledger.inspect()
    house.close()


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (Query(), list(range(12))),
        (Query(who="guard"), [0, 2, 4, 6, 8, 10]),
        (Query(what="test.work-1"), [1, 5, 9]),
        (Query(outcome="denied"), [2, 5, 8, 11]),
        (Query(what="test.work-1", outcome="done"), [1]),
        (Query(run=f"{2:032x}"), [2]),
        (Query(since=timedelta(minutes=10)), [10, 11]),
        (Query(until=timedelta(minutes=2)), [0, 1]),
        (Query(since=timedelta(minutes=3), until=timedelta(minutes=5)), [3, 4]),
        (Query(who="nobody"), []),
    ],
)
def test_entries_are_listed_by_what_they_say(house, make_event: Make, query: Query, expected: list[int]) -> None:
    start = house.clock.now()
    for number in range(12):
        house.add(make_event(number))
        house.clock.step(timedelta(minutes=1))
    times = {name: start + span for name in ("since", "until") if (span := getattr(query, name)) is not None}
    fits = Query(**{"who": query.who, "what": query.what, "outcome": query.outcome, "run": query.run, **times})
    assert [found.n for found in house.ledger.list(fits)] == expected
    assert [found.n for found in house.ledger.entries(fits)] == expected
    assert [found.n for found in house.ledger.list(fits, limit=2)] == expected[-2:]


def test_what_is_listed_is_read_from_the_bytes_not_the_columns(house, make_event: Make) -> None:
    house.add(make_event(0))
    with house.state.database.writer.begin() as tx:
        tx.execute(update(ENTRY).values(who="somebody else"))
    assert [found.who for found in house.ledger.list()] == ["guard"]


@pytest.mark.parametrize("raw", [b"{}", b"\xff", b'{"v":2}'])
def test_bytes_that_are_no_entry_are_not_listed(house, make_event: Make, raw: bytes) -> None:
    house.add(make_event(0))
    with house.state.database.writer.begin() as tx:
        tx.execute(update(ENTRY).values(leaf=raw))
    with pytest.raises(TamperedError, match="ledger entry 0 is not an entry"):
        house.ledger.list()


def test_bytes_of_another_entry_are_not_listed(house, make_event: Make) -> None:
    house.add(make_event(0), make_event(1))
    with house.state.database.writer.begin() as tx:
        tx.execute(text("UPDATE ledger_entry SET leaf = (SELECT leaf FROM ledger_entry WHERE n = 1) WHERE n = 0"))
    with pytest.raises(TamperedError, match="ledger entry 0 holds the bytes of entry 1"):
        house.ledger.list()


def test_a_ledger_without_entries_has_no_checkpoint(house) -> None:
    for call in (house.ledger.checkpoint, house.ledger.anchor):
        with pytest.raises(TamperedError, match="no checkpoint"):
            call()


def test_a_heartbeat_is_an_entry_like_any_other(house) -> None:
    house.add(heartbeat(GUARD, RunId("0" * 32)))
    (found,) = house.ledger.list(Query(what="audit.heartbeat"))
    assert (found.outcome, found.activity) == (Ending.DONE, Activity.COMPLIANCE.value)


def test_leaves_read_back_as_written(make_event: Make, clock: SteppedClock) -> None:
    for number in range(40):
        raw = entry.leaf(number, clock.now(), make_event(number))
        found = entry.decode(raw)
        assert canon.json_bytes({**_members(found), "class": found.class_}) == raw


def _members(found: entry.Leaf) -> dict[str, object]:
    return {name: getattr(found, name) for name in found.__struct_fields__ if name != "class_"}


def test_the_ledger_lives_in_postgresql_too(postgres_url: str, clock: SteppedClock, make_event: Make, tmp_path) -> None:
    anchor = FolderAnchor("here", tmp_path / "anchor")
    anchor.create()
    state = State.create(postgres_url, clock)
    ledger = Ledger(state, bytes(32), [anchor])
    state.attach(ledger.append)
    for number in range(20):
        state.write(lambda tx: None, make_event(number))
        clock.step(timedelta(minutes=20))
    ledger.anchor()
    assert ledger.verify().size == 20
    assert [found.n for found in ledger.list(Query(outcome="denied"))] == [2, 5, 8, 11, 14, 17]
    with state.database.writer.begin() as tx:
        tx.execute(update(ENTRY).where(ENTRY.c.n == 7).values(who="x"))
    with pytest.raises(TamperedError, match="ledger entry 7: its bytes do not say what the column who says"):
        ledger.verify()
    state.close()


def test_a_group_of_actions_is_listed_by_its_name(house) -> None:
    names = ["fields.encrypt", "fields", "fields.verify", "fields-x", "field.a", "fieldsx.a", "fields.é"]
    house.add(*[Event(name, Ending.DONE, GUARD, RunId(f"{at:032x}")) for at, name in enumerate(names)])
    found = [entry.what for entry in house.ledger.list(Query(what="fields.*"))]
    assert found == ["fields.encrypt", "fields.verify", "fields.é"]
    assert [entry.what for entry in house.ledger.entries(Query(what="fields"))] == ["fields"]
