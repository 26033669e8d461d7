"""Batches against a shop on PostgreSQL and MariaDB: what drivers give as texts is sealed as what the column holds."""

import os
from base64 import b64decode
from collections.abc import Callable
from dataclasses import replace

import pytest

from guard.clock import SteppedClock
from guard.daemon.socket import Listener
from tests.leasing.counter import Counter


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["postgres", "mariadb"])
def test_a_row_written_with_what_the_agent_gives_is_as_the_sweep_writes_it(
    request: pytest.FixtureRequest,
    make: Callable[..., Counter],
    clock: SteppedClock,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    if os.geteuid() == 0:
        monkeypatch.setattr(Listener, "_make_room", lambda *_: None)
    counter = make(clock, request.getfixturevalue(f"{kind}_url"))
    counter.seal()
    counter.serve()
    agent = counter.agent(5)
    told = {"email": "new@example.org", "name": "Neu", "born": "2001-02-03", "visits": "18", "token": "t", "pin": "1"}
    row: dict[str, object] = {"id": 7}
    for name, value in told.items():
        sealed = agent.ask("seal", {"column": f"customer.{name}", "keys": [["7"]], "values": [value]})
        row[name] = sealed["values"][0]
        row |= {each: b64decode(tokens[0]) for each, tokens in sealed["tokens"].items()}
    counter.write(
        f"INSERT INTO customer ({', '.join(row)}) VALUES ({', '.join(f':p{n}' for n in range(len(row)))})",
        *row.values(),
    )
    fields = replace(counter.app.fields, lacks=tuple)
    assert fields.search("customer.visits", "18").rows == ((7,),)
    assert fields.search("customer.email", "NEW@example.org").rows == ((7,),)
    assert fields.opener("customer.visits")((7,), row["visits"]) == 18
    opened = agent.ask("open", {"column": "customer.visits", "keys": [[7]], "values": [row["visits"]]})
    assert opened == {"values": [18]}
    opened = agent.ask("open", {"column": "customer.born", "keys": [[7]], "values": [row["born"]]})
    assert opened == {"values": [{"date": "2001-02-03"}]}
    found = agent.ask("token", {"column": "customer.visits", "values": ["18", 18, {"int": "18"}]})
    assert len(set(found["tokens"][found["ready"]])) == 1
    assert not [check for check in fields.verify() if check.plain or check.untold]


@pytest.mark.slow
def test_an_update_on_mariadb_says_that_its_token_comes_along(
    mariadb_url: str, make: Callable[..., Counter], clock: SteppedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As docs/FORMATS.md tells shops in other languages to write it."""
    if os.geteuid() == 0:
        monkeypatch.setattr(Listener, "_make_room", lambda *_: None)
    counter = make(clock, mariadb_url)
    counter.seal("customer.email")
    counter.serve()
    sealed = counter.agent(5).ask(
        "seal",
        {"column": "customer.email", "keys": [[1]], "values": ["ADA@example.org"]},  # the same token as before
    )
    ((name, (token,)),) = sealed["tokens"].items()
    counter.write(
        f"UPDATE customer SET email = :p0, {name} = (@`{name}` := :p1) WHERE id = 1",
        sealed["values"][0],
        b64decode(token),
    )
    assert counter.app.fields.search("customer.email", "ada@example.org").rows == ((1,),)
    assert counter.stored(f"SELECT count(*) FROM customer WHERE {name} IS NULL") == [(0,)]
