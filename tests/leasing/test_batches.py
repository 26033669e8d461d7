"""Batches at the agent's socket: sealed, opened and searched as the sweep has it, all or none, for whoever may."""

import threading
from base64 import b64decode
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest

from guard.actions.openings import Openings
from guard.client import Agent
from guard.errors import ConfigError, DeniedError, TamperedError, UnavailableError
from guard.events import PrincipalId
from tests.leasing.counter import ALL, Counter


def test_what_is_sealed_in_a_batch_opens_for_guard_and_back(counter: Counter) -> None:
    agent = counter.agent()
    sealed = agent.ask(
        "seal", {"column": "customer.email", "keys": [[7], ["8"]], "values": ["Cy@Example.org", "dee@example.org"]}
    )
    assert sealed["stage"] == "sealed"
    assert all(value.startswith("g1.") for value in sealed["values"])
    read = counter.app.fields.opener("customer.email")
    assert [read((7 + i,), value) for i, value in enumerate(sealed["values"])] == ["Cy@Example.org", "dee@example.org"]
    opened = agent.ask("open", {"column": "customer.email", "keys": [[7], [8]], "values": sealed["values"]})
    assert opened == {"values": ["Cy@Example.org", "dee@example.org"]}
    stored = counter.stored("SELECT id, email FROM customer ORDER BY id")
    opened = agent.ask(
        "open", {"column": "customer.email", "keys": [[n] for n, _ in stored], "values": [e for _, e in stored]}
    )
    assert opened == {"values": ["ada@example.org", "bob@example.org"]}


def test_a_value_is_found_by_its_token(counter: Counter) -> None:
    found = counter.agent().ask("token", {"column": "customer.email", "values": ["ADA@example.org", None]})
    assert (found["stage"], found["exact"]) == ("sealed", True)
    token, nothing = found["tokens"][found["ready"]]
    assert nothing is None
    rows = counter.stored(f"SELECT id FROM customer WHERE {found['ready']} = x'{b64decode(token).hex()}'")
    assert rows == [(1,)]


def test_values_come_with_their_types(counter: Counter) -> None:
    agent = counter.agent()
    (born,) = counter.stored("SELECT born FROM customer WHERE id = 1")[0]
    (visits,) = counter.stored("SELECT visits FROM customer WHERE id = 1")[0]
    assert agent.ask("open", {"column": "customer.born", "keys": [[1]], "values": [born]}) == {"values": ["1990-12-31"]}
    assert agent.ask("open", {"column": "customer.visits", "keys": [[1]], "values": [visits]}) == {"values": [17]}
    told: list[Any] = [
        "text", "", "Zoë ✓", 0, -5, 2**53 - 1, {"int": str(2**70)}, True, False, {"decimal": "12.50"}, {"float": "1.0"},
        {"date": "2026-01-05"}, {"datetime": "2026-01-05T09:00:00.000001"}, {"datetime": "2026-01-05T09:00:00.000000Z"},
        {"bytes": "AAEC"}, None,
    ]  # fmt: skip
    keys = [[number] for number in range(len(told))]
    sealed = agent.ask("seal", {"column": "customer.born", "keys": keys, "values": told})["values"]
    assert sealed[-1] is None
    assert list(sealed[-2]) == ["bytes"]  # SQLite keeps bytes as bytes
    assert agent.ask("open", {"column": "customer.born", "keys": keys, "values": sealed}) == {"values": told}


def test_a_column_that_is_not_sealed_yet_is_written_as_before(unsealed: Counter) -> None:
    unsealed.serve()
    agent = unsealed.agent()
    args = {"column": "customer.email", "keys": [[1]], "values": ["ada@example.org"]}
    assert agent.ask("seal", args) == {"stage": "plain", "values": ["ada@example.org"], "tokens": {}}
    assert agent.ask("open", args) == {"values": ["ada@example.org"]}
    with pytest.raises(ConfigError, match="a list of 1 keys"):
        agent.ask("seal", args | {"keys": None})  # what will be needed is asked for from the first day
    unsealed.seal("customer.email")
    assert agent.ask("seal", args)["values"][0].startswith("g1.")
    assert unsealed.entries("fields.open") == []


def test_plain_text_in_a_finished_column_is_refused(counter: Counter) -> None:
    fields = replace(counter.app.fields, lacks=tuple)
    counter.app.state.write(fields.finished(fields.finalize(["customer.email"])))
    with pytest.raises(TamperedError, match=r"value 2: customer\.email is finished"):
        counter.agent().ask("open", {"column": "customer.email", "keys": [[1], [2]], "values": [None, "x@example.org"]})


def test_values_of_people_are_sealed_for_them_and_shredded_ones_are_told_apart(counter: Counter) -> None:
    agent = counter.agent()
    made = agent.ask("seal", {"column": "purchase.street", "keys": [[1], [2], [1]], "values": ["A 1", "B 2", None]})
    sealed = made["values"]
    assert agent.ask("open", {"column": "purchase.street", "keys": [[1], [2]], "values": sealed[:2]}) == {
        "values": ["A 1", "B 2"]
    }
    with pytest.raises(TamperedError, match=r"value 1: .*not its person's"):
        agent.ask("open", {"column": "purchase.street", "keys": [[2]], "values": sealed[:1]})
    counter.shred(1)
    counter.later(61)  # what was opened is kept for a minute
    assert agent.ask("open", {"column": "purchase.street", "keys": [[1], [2]], "values": sealed[:2]}) == {
        "values": [{"shredded": True}, "B 2"]
    }


SEAL = {"column": "customer.email", "keys": [[1], [2]], "values": ["a@example.org", "b@example.org"]}
SECRET = "hush-hush"


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"column": 7}, "names its"),
    ({"values": "x"}, "a list of 1 to 10000 values"),
    ({"values": []}, "a list of 1 to 10000 values"),
    ({"values": ["x"] * 10_001}, "a list of 1 to 10000 values"),
    ({"keys": None}, "a list of 2 keys"),
    ({"keys": [[1]]}, "a list of 2 keys"),
    ({"keys": [[1], 2]}, "key 2 is not a list"),
    ({"keys": [[1], [2, 3]]}, "key 2 is not a list of what lies in the row's id"),
    ({"keys": [[1], []]}, "key 2 is not a list"),
    ({"keys": [[1], [True]]}, "key 2: each part"),
    ({"keys": [[1], [None]]}, "key 2: each part"),
    ({"keys": [[1], [SECRET]]}, "key 2 holds what cannot lie"),
    ({"keys": [[1], ["٣"]]}, "key 2 holds what cannot lie"),
    ({"values": ["a@example.org", 1.5]}, "value 2 of customer.email: a number with a fraction"),
    ({"values": ["a@example.org", [SECRET]]}, "value 2 of customer.email: it is a text"),
    ({"values": ["a@example.org", {"date": SECRET}]}, "value 2 of customer.email: that is no date"),
    ({"values": ["a@example.org", {"date": "2026-02-30"}]}, "value 2 of customer.email: that is no date"),
    ({"values": ["a@example.org", {"decimal": "1e999999999"}]}, "value 2 .* no decimal"),
    ({"values": ["a@example.org", {"decimal": "NaN"}]}, "value 2 .* no decimal"),
    ({"values": ["a@example.org", {"int": "9" * 5000}]}, "value 2 .* no int"),
    ({"values": ["a@example.org", {"bytes": "%%"}]}, "value 2 .* no bytes"),
    ({"values": ["a@example.org", {"datetime": "0001-01-01T00:00:00+12:00"}]}, "value 2 .* no datetime"),
    ({"values": ["a@example.org", {"text": SECRET}]}, "value 2 .* the one member"),
    ({"values": ["a@example.org", {"int": "1", "date": "x"}]}, "value 2 .* one member"),
    ({"values": ["a@example.org", {"shredded": True}]}, "value 2 .* was shredded"),
    ({"values": ["a@example.org", {"date": "2026-01-05"}]}, "value 2: a date cannot be sealed or searched"),
]


def test_the_first_that_is_wrong_is_named_and_never_quoted(counter: Counter) -> None:
    agent = counter.agent()
    for args, said in WRONG:
        with pytest.raises(ConfigError, match=said) as caught:
            agent.ask("seal", SEAL | args)
        assert SECRET not in f"{caught.value} {caught.value.hint}"


def test_one_value_that_does_not_open_fails_its_batch_and_is_named(counter: Counter) -> None:
    agent = counter.agent()
    values = agent.ask("seal", SEAL)["values"]
    for wrong in (values[0], values[1][:-8], "g1.AAAA", "g1."):
        with pytest.raises(TamperedError, match=r"value 2: customer\.email: "):
            agent.ask("open", SEAL | {"values": [values[0], wrong]})
    assert counter.entries("fields.open") == []


def test_a_value_of_another_column_or_row_does_not_open(counter: Counter) -> None:
    agent = counter.agent()
    values = agent.ask("seal", SEAL)["values"]
    with pytest.raises(TamperedError, match="value 1"):
        agent.ask("open", {"column": "customer.name", "keys": [[1], [2]], "values": values})
    with pytest.raises(TamperedError, match="value 1"):
        agent.ask("open", SEAL | {"keys": [[2], [1]], "values": values})


OPS = ("seal", "open", "token", "lease")


def test_columns_of_others_are_refused_like_those_there_are_not(counter: Counter) -> None:
    agent = counter.agent()
    for op in OPS:
        for at in ("secret.text", "secret.nothing", "customer.nothing"):
            args = {"columns": [at]} if op == "lease" else {"column": at, "keys": [[1]], "values": ["x"]}
            with pytest.raises(DeniedError, match=f"the service shop has no column {at}"):
                agent.ask(op, args)
        (denied,) = counter.entries(f"fields.{op}")  # once an hour
        assert (denied.outcome, denied.who, denied.facts["reason"]) == ("denied", "s-shop", "role")


def test_an_operation_that_the_policy_does_not_list_is_refused(unsealed: Counter) -> None:
    unsealed.policy('"fields.lease", "fields.seal", "fields.open", "fields.token"', '"fields.lend"')
    unsealed.serve()
    agent = unsealed.agent()
    for op in OPS:
        with pytest.raises(DeniedError) as caught:
            agent.ask(op, {"column": "customer.email", "keys": [[1]], "values": ["x"]})
        assert f'"fields.{op}" to routine' in str(caught.value.hint)


def test_a_person_gets_none_of_it(counter: Counter) -> None:
    person = Agent(counter.app.agent_socket, None, 0.3)
    counter.agents.append(person)
    for op in ("seal", "open", "token", "lease"):
        with pytest.raises(DeniedError, match="for services"):
            person.ask(op, {"column": "customer.email"})


def test_openings_are_recorded_at_once_and_then_once_a_minute(counter: Counter) -> None:
    agent = counter.agent()
    values = agent.ask("seal", SEAL)["values"]
    for _ in range(5):
        agent.ask("open", SEAL | {"values": values})
    (first,) = counter.entries("fields.open")
    assert (first.who, first.outcome, first.objects, first.counts) == (
        "s-shop", "done", ("customer.email",), {"values": 2, "batches": 1},
    )  # fmt: skip
    counter.later(61)
    agent.ask("open", SEAL | {"values": values})
    counts = [entry.counts for entry in counter.entries("fields.open")]
    assert counts[1:] == [{"values": 10, "batches": 5}]
    agent.ask("open", SEAL | {"values": [None, None]})  # nothing was opened
    agent.ask("open", SEAL | {"values": values})
    counter.stop()
    assert sum(entry.counts["values"] for entry in counter.entries("fields.open")) == 14


def test_every_column_of_the_service_passes(counter: Counter) -> None:
    agent = counter.agent()
    for at in ALL:
        args = {"column": at, "keys": [[1], [2]], "values": ["one", "two"]}
        sealed = agent.ask("seal", args)
        assert agent.ask("open", args | {"values": sealed["values"]}) == {"values": ["one", "two"]}


def test_without_a_record_nothing_is_given(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = counter.agent()
    values = agent.ask("seal", SEAL)["values"]
    with monkeypatch.context() as broken:
        broken.setattr(counter.app, "record", fail)
        for op, args in (("open", SEAL | {"values": values}), ("lease", {})):
            with pytest.raises(UnavailableError, match="the ledger is away"):
                agent.ask(op, args)
    agent.ask("open", SEAL | {"values": values})
    assert [entry.counts for entry in counter.entries("fields.open")] == [{"values": 4, "batches": 2}]


def test_a_refusal_that_could_not_be_recorded_is_recorded_the_next_time(
    counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, args = counter.agent(20), SEAL | {"column": "secret.text"}
    with monkeypatch.context() as broken:
        broken.setattr(counter.app, "record", fail)
        with pytest.raises(UnavailableError, match="the ledger is away"):
            agent.ask("seal", args)
    for _ in range(2):
        with pytest.raises(DeniedError):
            agent.ask("seal", args)
    assert len(counter.entries("fields.seal")) == 1


def test_whoever_is_sent_away_while_the_ledger_is_away_is_recorded_the_next_time(
    counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = Agent(counter.app.agent_socket, "nobody", 20)
    counter.agents.append(stranger)
    with monkeypatch.context() as broken:
        broken.setattr(counter.app, "record", fail)
        with pytest.raises(UnavailableError, match="the ledger is away"):
            stranger.ask("ping", {})
    for _ in range(2):
        with pytest.raises(DeniedError):
            stranger.ask("ping", {})
    assert len(counter.entries("access.enter")) == 1


def test_what_could_not_be_recorded_is_tried_again(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    openings = Openings(lambda: nullcontext(counter.app))
    who = PrincipalId("s-shop")
    openings.count(counter.app, who, "customer.email", 1)
    openings.count(counter.app, who, "customer.email", 2)
    with monkeypatch.context() as broken:
        broken.setattr(counter.app, "record", fail)
        openings.flush()
    assert openings._timer is not None
    openings.close()
    assert openings._timer is None
    assert [entry.counts["values"] for entry in counter.entries("fields.open")] == [1, 2]


def fail(*_: object) -> None:
    raise UnavailableError("the ledger is away")


def test_a_lease_of_nonsense_is_refused(counter: Counter) -> None:
    agent = counter.agent()
    for columns in (7, "customer.email", {"customer.email": 1}, [7], [["customer.email"]], [None], [""]):
        with pytest.raises((ConfigError, DeniedError)):
            agent.ask("lease", {"columns": columns})
    assert [entry.outcome for entry in counter.entries("fields.lease")] == ["denied"]


def test_an_answer_that_would_be_too_long_is_said(counter: Counter) -> None:
    keys = [[number] for number in range(10_000)]
    with pytest.raises(ConfigError, match="too long for the agent"):
        counter.agent(10).ask("seal", {"column": "customer.email", "keys": keys, "values": ["x" * 40] * 10_000})


def test_many_at_once_are_counted_each(counter: Counter) -> None:
    values = counter.agent().ask("seal", SEAL)["values"]
    agents = [counter.agent(10) for _ in range(12)]
    threads = [threading.Thread(target=each.ask, args=("open", SEAL | {"values": values})) for each in agents]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    counter.stop()
    found = [entry.counts for entry in counter.entries("fields.open")]
    assert (sum(each["values"] for each in found), sum(each["batches"] for each in found)) == (24, 12)
    assert len(found) == 2
