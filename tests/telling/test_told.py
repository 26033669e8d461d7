"""What the shop may tell: each mistake is named with the way to put it right, and nothing of a person gets public."""

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.audit.told import DETAILS, LINE, Known, NotToldError, Teller, Told, events, happened, problems, read, shaped
from guard.canon import key_bytes
from guard.errors import ConfigError
from guard.events import Activity, Ending, PrincipalId, RunId

NOW = datetime(2026, 1, 5, 9, tzinfo=UTC)
RUN = RunId("ab" * 16)


def key_of(key: int | str) -> bytes:
    try:
        return key_bytes((int(key),))
    except ValueError:
        raise ConfigError("what was given is no INTEGER") from None


KNOWN = Known(frozenset({"Customer", "Customer.Email", "Order.Street"}), {"customer": key_of}, ("support", "order"))
BY = Teller(PrincipalId("s-shop"), lambda name: f"x-{len(name)}")


def line(**members: Any) -> dict[str, Any]:
    made = {"what": "order.read", "at": "2026-01-05T08:59:00Z", "class": "read", **members}
    return {name: value for name, value in made.items() if value is not None}


def said(value: Any) -> list[str]:
    """What is wrong with an event, by shape or by what it says."""
    try:
        told = read(json.dumps(value).encode()) if not isinstance(value, bytes) else read(value)
    except NotToldError as error:
        return [str(each) for each in error.problems]
    return [str(each) for each in problems(told, KNOWN, NOW)]


def test_an_event_becomes_one_of_the_ledger() -> None:
    told = read(
        json.dumps(
            line(
                actor="anna@shop.example",
                subject={"kind": "customer", "key": 17},
                objects=["Customer.Email"],
                outcome="denied",
                purpose="support",
                counts={"rows": 3},
                details={"note": "called"},
                at="2026-01-05T10:00:00.5+01:00",
                id="r-1",
            )
        ).encode()
    )
    assert not problems(told, KNOWN, NOW)
    (event,) = events(told, KNOWN, BY, RUN)
    assert (event.what, event.ending, event.who, event.run) == ("shop.order.read", Ending.DENIED, "x-17", RUN)
    assert (event.activity, event.objects, event.counts) == (Activity.DATA_READ, ("Customer.Email",), {"rows": 3})
    assert event.facts == {"via": "s-shop", "happened": "2026-01-05T09:00:00.500000Z", "purpose": "support"}
    assert event.about is not None
    assert (event.about.kind, event.about.key, event.about.details) == (
        "customer",
        key_bytes((17,)),
        {"note": "called"},
    )


def test_an_event_about_several_people_is_an_entry_for_each() -> None:
    people = [{"kind": "customer", "key": 1}, {"kind": "customer", "key": 2}, {"kind": "customer", "key": "1"}]
    made = events(read(json.dumps(line(subject=people, details={"x": 1})).encode()), KNOWN, BY, RUN)
    assert [each.about.key for each in made if each.about] == [key_bytes((1,)), key_bytes((2,))]
    assert {each.run for each in made} == {RUN}


def test_without_an_actor_the_service_itself_did_it() -> None:
    (event,) = events(shaped(line()), KNOWN, BY, RUN)
    assert (event.who, event.about) == ("s-shop", None)


@pytest.mark.parametrize(
    ("class_", "activity"),
    [("read", "6005.1"), ("update", "6005.2"), ("create", "6005.6"), ("delete", "6005.7"), ("export", "6005.4")],
)
def test_each_class_has_its_activity(class_: str, activity: str) -> None:
    (event,) = events(shaped(line(**{"class": class_})), KNOWN, BY, RUN)
    assert event.activity == activity


WRONG = [
    (line(what="Order.Read"), "what: not the name of an event"),
    (line(what="order.read\n"), "what: not the name of an event"),
    (line(what="order..read"), "what: not the name of an event"),
    (line(what="a" * 81), "what: not the name of an event"),
    (line(what=None), "what: is missing"),
    (line(what=5), "what: Expected `str`, got `int`"),
    (line(at="2026-01-05T08:59:00"), "at: not a time with an offset"),
    (line(at="2026-W02-1T08:59:00Z"), "at: not a time with an offset"),
    (line(at="2026-13-05T08:59:00Z"), "at: not a time with an offset"),
    (line(at="0001-01-01T00:00:00+14:00"), "at: not a time with an offset"),
    (line(at="2026-01-05T09:05:01Z"), "at: in the future"),
    (line(**{"class": "peek"}), "class: a word that is not known here; one of read, update"),
    (line(**{"class": None}), "class: is missing"),
    (line(outcome="maybe"), "outcome: a word that is not known here"),
    (line(actor=""), "actor: 1 to 200 characters"),
    (line(actor="x" * 201), "actor: 1 to 200 characters"),
    (line(actor={"name": "x"}), "actor: "),
    (line(id=""), "id: 1 to 200 characters"),
    (line(subject={"kind": "customer"}), "subject.key: is missing; whom it is about"),
    (line(subject={"kind": "customer", "key": 1.5}), "subject"),
    (line(subject={"kind": "customer", "key": True}), "subject"),
    (line(subject={"kind": "customer", "key": 1, "name": "Ada"}), "subject"),
    (line(subject={"kind": "custmer", "key": 1}), "subject.kind: the catalog has no such [subject]; did you mean"),
    (line(subject={"kind": "customer", "key": "x"}), "subject.key: what was given is no INTEGER"),
    (line(subject=[{"kind": "customer", "key": 1}, {"kind": "x", "key": 1}]), "subject[2].kind: "),
    (line(subject=[{"kind": "customer", "key": each} for each in range(1001)]), "subject: more than 1000 people"),
    (line(objects=["Customer.Emial"]), 'objects[1]: not in the accepted catalog; did you mean "Customer.Email"?'),
    (line(objects=["Customer", "zzz"]), "objects[2]: not in the accepted catalog; guard data catalog"),
    (line(objects="Customer"), "objects: Expected `array`, got `str`"),
    (line(objects=["Customer"] * 101), "objects: more than 100"),
    (line(purpose="suport"), 'purpose: not in policies/audit.toml; did you mean "support"?'),
    (line(counts={"rows": -1}), "counts.rows: not between 0 and 1000000000"),
    (line(counts={"rows": 4111111111111111}), "counts.rows: not between"),
    (line(counts={"ada": 1}), "counts: of something else than rows, people or files"),
    (line(counts={"rows": 1.5}), "counts.rows: Expected `int`, got `float`"),
    (line(details={"x": 1}), "details: nobody is named whose key could seal them"),
    (line(details=[1], subject={"kind": "customer", "key": 1}), "details: Expected `object | null`"),
    (line(details={"x": "y" * DETAILS}, subject={"kind": "customer", "key": 1}), f"details: {DETAILS + 8} bytes"),
    (line(details={"x": 2**60}, subject={"kind": "customer", "key": 1}), "details: cannot be written as canonical"),
    (line(whom=1), "whom: unknown key"),
    ([1], "not a JSON object"),
    (b"", "no JSON that can be read"),
    (b"{", "no JSON that can be read"),
    (b'{"what": "a", "what": "b"}', "no JSON that can be read: a name stands twice in one object"),
    (b'{"x": "\xff"}', "no JSON that can be read: it is not UTF-8"),
    (b"[" * 3000, "no JSON that can be read: it is nested too deeply"),
    (b'"' + b"x" * LINE + b'"', f"the line has {LINE + 2} bytes"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "expected"), WRONG, ids=[f"{number}" for number in range(len(WRONG))])
def test_a_mistake_is_named(value: Any, expected: str) -> None:
    found = said(value)
    assert any(each.startswith(expected) for each in found), found


def test_all_mistakes_are_named_together() -> None:
    found = said(line(what="X", at="x", objects=["y"], purpose="z", details={}))
    assert [each.split(":")[0] for each in found] == ["what", "at", "objects[1]", "purpose", "details"]


def test_no_message_repeats_what_was_told() -> None:
    """An address that stands in the wrong place must not reach a log by the message about it."""
    for member in ("what", "at", "class", "outcome", "actor", "purpose", "id"):
        assert "ada@example.org" not in " ".join(said(line(**{member: "ada@example.org" * 20})))
    assert "ada@example.org" not in " ".join(said(line(objects=["ada@example.org"])))
    assert "ada@example.org" not in " ".join(said(line(subject={"kind": "ada@example.org", "key": "ada@example.org"})))


def test_five_minutes_ahead_are_taken() -> None:
    assert not said(line(at=(NOW + timedelta(minutes=5)).isoformat()))


@given(at=st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 1, 1)), minutes=st.integers(-1439, 1439))
def test_every_time_with_an_offset_is_read(at: datetime, minutes: int) -> None:
    there = at.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    assert happened(there.isoformat()) == there


def test_every_member_of_the_schema_is_explained() -> None:
    from guard.audit.emitter import Members
    from guard.audit.told import _HOW

    names = set(_HOW)
    assert {each.rstrip("_") for each in Members.__annotations__} | {"what"} == names
    assert {field.rstrip("_") for field in Told.__struct_fields__} == names
    text = (Path(__file__).parents[2] / "docs/FORMATS.md").read_text()
    assert all(f"`{name}`" in text or f'"{name}"' in text for name in names)
