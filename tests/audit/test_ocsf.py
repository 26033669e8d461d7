"""Entries become OCSF events by their class alone; nothing of an entry is lost, and no class is unknown."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.audit import ocsf
from guard.audit.entry import Entry
from guard.audit.ocsf import Source
from guard.events import Activity, Ending, PrincipalId, RunId

SOURCE = Source("guard-ledger/00112233-4455-6677-8899-aabbccddeeff", "Shop")


def entry(activity: str = Activity.DATA_READ, outcome: Ending = Ending.DONE, **changes: object) -> Entry:
    fields: dict[str, object] = {
        "n": 17,
        "at": datetime(2026, 1, 5, 9, 0, 0, 123456, tzinfo=UTC),
        "who": PrincipalId("p-abcdefghij"),
        "what": "fields.search",
        "run": RunId("ab" * 16),
        "objects": ("Customer.Email", "Customer.Phone", "Order.Total"),
        "counts": {"rows": 3},
        "digests": {"action": "00ff"},
        "facts": {"gate": "role"},
        "subject": "cd" * 16,
        "payload": "ef" * 32,
    }
    return Entry(**{**fields, "activity": activity, "outcome": outcome, **changes})  # type: ignore[arg-type]


def test_an_entry_is_found_whole_in_its_event() -> None:
    found = ocsf.event(entry(), SOURCE)
    assert (found["class_uid"], found["category_uid"], found["activity_id"], found["type_uid"]) == (6005, 6, 1, 600501)
    assert (found["type_name"], found["status"], found["status_id"]) == ("Datastore Activity: Read", "Success", 1)
    assert found["time"] == 1_767_603_600_123
    assert found["metadata"]["version"] == "1.5.0"
    assert found["metadata"]["uid"] == f"{SOURCE.origin}#17"
    assert found["metadata"]["original_time"] == "2026-01-05T09:00:00.123456Z"
    assert found["actor"] == {"user": {"uid": "p-abcdefghij", "name": "p-abcdefghij", "type_id": 1, "type": "User"}}
    assert found["table"] == {"uid": "Customer", "name": "Customer"}
    assert found["unmapped"] == {
        "n": 17,
        "class": "6005.1",
        "who": "p-abcdefghij",
        "what": "fields.search",
        "outcome": "done",
        "objects": ["Customer.Email", "Customer.Phone", "Order.Total"],
        "counts": {"rows": 3},
        "digests": {"action": "00ff"},
        "facts": {"gate": "role"},
        "subject": "cd" * 16,
        "payload": "ef" * 32,
    }


@pytest.mark.parametrize("activity", list(Activity))
def test_every_class_that_guard_writes_is_known(activity: Activity) -> None:
    found = ocsf.event(entry(activity), SOURCE)
    assert f"{found['class_uid']}.{found['activity_id']}" == activity
    assert found["type_uid"] == found["class_uid"] * 100 + found["activity_id"]
    assert found["category_uid"] == found["class_uid"] // 1000


@pytest.mark.parametrize("activity", ["3007.2", "1.1", "", "nonsense", "x.y", "2003", "6005."])
def test_a_class_that_is_not_known_is_kept_as_a_base_event(activity: str) -> None:
    found = ocsf.event(entry(activity), SOURCE)
    assert found["unmapped"]["class"] == activity
    if activity in {"2003", "6005."}:
        assert (found["class_uid"], found["activity_id"]) == (int(activity.strip(".")), 99)
    else:
        assert (found["class_uid"], found["type_uid"], found["class_name"]) == (0, 99, "Base Event")
    unknown = ocsf.event(entry("6005.77"), SOURCE)
    assert (unknown["activity_id"], unknown["activity_name"], unknown["type_uid"]) == (99, "fields.search", 600599)


@pytest.mark.parametrize(
    ("outcome", "severity", "status"),
    [
        (Ending.DONE, 1, "Success"),
        (Ending.BEGUN, 1, "begun"),
        (Ending.RESOLVED, 1, "resolved"),
        (Ending.PARTLY, 2, "partly"),
        (Ending.INTERRUPTED, 2, "Failure"),
        (Ending.FAILED, 3, "Failure"),
        (Ending.DENIED, 3, "Failure"),
        (Ending.GATE_FAILED, 4, "Failure"),
    ],
)
def test_how_it_ended_is_status_and_severity(outcome: Ending, severity: int, status: str) -> None:
    found = ocsf.event(entry(outcome=outcome), SOURCE)
    assert (found["severity_id"], found["status"]) == (severity, status)
    assert ocsf.event(entry(Activity.INCIDENT, outcome), SOURCE)["severity_id"] == 4


def test_a_breach_is_an_incident_that_is_closed_by_its_end() -> None:
    opened = ocsf.event(entry(Activity.INCIDENT, what="breach.open", objects=("b-1",)), SOURCE)
    assert (opened["status"], opened["finding_info_list"]) == ("In Progress", [{"uid": "b-1", "title": "breach.open"}])
    closed = ocsf.event(entry(Activity.INCIDENT, what="breach.close"), SOURCE)
    assert closed["status"] == "Closed"
    assert ocsf.event(entry(Activity.INCIDENT, Ending.DENIED, what="breach.close"), SOURCE)["status"] == "In Progress"


def test_events_of_the_shop_say_who_told_them() -> None:
    told = entry(
        what="shop.order.read", who=PrincipalId("x-abcdefghijklmnop"), facts={"via": "s-web", "purpose": "order"}
    )
    found = ocsf.event(told, SOURCE)
    assert found["src_endpoint"] == {"name": "s-web"}
    assert found["actor"]["user"]["type_id"] == 99
    assert ocsf.event(entry(who=PrincipalId("s-web")), SOURCE)["actor"]["user"]["type"] == "System"


@given(
    st.sampled_from([*Activity, "3007.1"]), st.sampled_from(list(Ending)), st.lists(st.text(max_size=20), max_size=3)
)
def test_every_event_is_json(activity: str, outcome: Ending, objects: list[str]) -> None:
    found = ocsf.event(entry(activity, outcome, objects=tuple(objects), facts={}), SOURCE)
    assert json.loads(json.dumps(found)) == found
