"""The shop's own code on SQLAlchemy, in a process that may read nothing of guard's: keys on lease from the agent."""

import os
import pwd
from base64 import b64encode, urlsafe_b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from guard.actions.shopcode import ShopCode
from guard.audit import Entry
from guard.canon import key_bytes
from guard.client import Agent
from guard.errors import DeniedError, TamperedError, UnavailableError
from guard.fields import lease
from guard.fields.column import Encrypted, FieldKeys, protect
from guard.fields.lease import TERM
from guard.fields.leased import Leased, elsewhere
from tests.leasing.counter import ALL, Counter
from tests.telling.shop import as_user, needs_root


def models(keys: FieldKeys) -> tuple[type[Any], type[Any]]:
    class Base(DeclarativeBase):
        pass

    class Customer(Base):
        __tablename__ = "customer"
        id: Mapped[int] = mapped_column(primary_key=True)
        email: Mapped[str] = mapped_column(sa.String(60), unique=True)
        name: Mapped[str | None] = mapped_column(sa.String(60))
        born: Mapped[date | None]
        visits: Mapped[int | None]
        token: Mapped[str | None] = mapped_column(Encrypted("customer.token", keys, sa.String(60)))
        pin: Mapped[str | None] = mapped_column(sa.String(20))

    class Purchase(Base):
        __tablename__ = "purchase"
        id: Mapped[int] = mapped_column(primary_key=True)
        customer_id: Mapped[int | None] = mapped_column(sa.ForeignKey("customer.id"))
        street: Mapped[str | None] = mapped_column(sa.String(80))

    protect(Customer, keys, "email", "name", "born", "visits", "pin")
    protect(Purchase, keys, "street")
    return Customer, Purchase


@contextmanager
def shop(counter: Counter, keys: FieldKeys) -> Iterator[tuple[Session, type[Any], type[Any]]]:
    engine = counter.engine()
    with Session(engine) as session:
        yield (session, *models(keys))
    engine.dispose()


def serve_customers(counter: Counter, keys: FieldKeys) -> None:
    """What a shop does, in all ways of binding."""
    with shop(counter, keys) as (session, customer, purchase):
        ada = session.scalars(sa.select(customer).where(customer.email == "ADA@example.org")).one()
        assert (ada.name, ada.visits, ada.token, ada.pin) == ("Ada", 17, "a-token", "4711")
        assert ada.born == date(1990, 12, 31)
        assert session.get(purchase, 10).street == "Hauptstr. 1"
        new = customer(id=9, email="new@example.org", name="Neu", born=date(2000, 2, 29), visits=1, token="t", pin="12")
        session.add_all([new, purchase(id=90, customer_id=9, street="Gasse 9")])
        session.commit()
    with shop(counter, counter.embedded()) as (session, customer, purchase):  # one that reads guard's folder agrees
        new = session.scalars(sa.select(customer).where(customer.email == "new@example.org")).one()
        found = (new.name, new.born, new.visits, new.token, new.pin)
        assert found == ("Neu", date(2000, 2, 29), 1, "t", "12")
        assert session.get(purchase, 90).street == "Gasse 9"
    stored = counter.stored("SELECT email, name, born, visits, token, pin FROM customer WHERE id = 9")[0]
    assert all(value.startswith("g1.") for value in stored)


def live(counter: Counter) -> tuple[lease.Lease, ...]:
    with counter.app.state.read() as tx:
        return lease.live(tx, counter.clock.now())


def test_everything_works_as_with_keys_of_its_own(counter: Counter) -> None:
    serve_customers(counter, counter.keys())


def test_a_lease_is_recorded_once_and_not_at_each_renewal(counter: Counter) -> None:
    keys = [counter.keys(), counter.keys()]
    for _ in range(4):
        for each in keys:
            each.check(*ALL)
        counter.later(100)

    def about(entry: Entry) -> tuple[Any, ...]:
        return entry.who, entry.outcome, entry.objects

    (taken,) = counter.entries("fields.lease")
    assert about(taken) == ("s-shop", "done", tuple(sorted(ALL)))
    assert taken.counts["keys"] == len(keys[0].view().columns) - 2 + 3  # not those of pin and street; three indexes
    (held,) = live(counter)
    assert (held.who, held.until > counter.clock.now()) == ("guard", True)
    counter.later(TERM.total_seconds())
    keys[0].check()
    assert len(counter.entries("fields.lease")) == 2  # the one before had run out


def test_a_look_that_finds_nothing_new_brings_no_keys(counter: Counter) -> None:
    agent = counter.agent()
    first = agent.ask("lease", {})
    assert len(first["keys"]) == 8
    again = agent.ask("lease", {"mark": first["mark"]})
    assert set(again) == {"mark", "until"}
    assert "keys" in agent.ask("lease", {"mark": "another"})
    one = agent.ask("lease", {"columns": ["customer.born"]})
    assert [list(one["columns"]), len(one["keys"])] == [["customer.born"], 1]
    assert len(counter.entries("fields.lease")) == 1  # it had that key already


def test_a_rotated_key_is_out_within_a_second_and_a_destroyed_one_too(counter: Counter) -> None:
    keys = counter.keys()
    (old_value,) = counter.stored("SELECT born FROM customer WHERE id = 1")[0]
    live_ = keys.column("customer.born")
    assert live_.cell is not None
    old, new = counter.rotate("column/3")
    assert live_.cell.spec.key is not None
    assert live_.cell.spec.key.id == old
    counter.later(1)
    fresh = keys.column("customer.born")
    assert fresh.cell is not None
    assert fresh.cell.spec.key is not None
    assert fresh.cell.spec.key.id == new
    bound = key_bytes((1,))
    assert fresh.open(bound, old_value) == "1990-12-31"  # it still opens what it sealed
    counter.destroy(old)
    counter.later(1)
    with pytest.raises(TamperedError, match="does not give"):
        keys.column("customer.born").open(bound, old_value)
    with pytest.raises(TamperedError, match="value 1"):
        counter.agent().ask("open", {"column": "customer.born", "keys": [[1]], "values": [old_value]})
    material = b64encode(counter_material(counter, new)).decode()
    told = counter.agent().ask("lease", {})
    assert material in str(told)
    assert f"{old:010x}" not in told["keys"]


def counter_material(counter: Counter, key_id: int) -> bytes:
    return counter.app.keyring.by_id(key_id).material


def test_a_key_that_was_made_since_the_last_look_opens_at_once(counter: Counter) -> None:
    keys = counter.keys()
    column = keys.column("customer.born")
    counter.rotate("column/3")
    other = counter.keys()  # another process of the shop, which looks later
    bound = key_bytes((5,))
    (sealed,) = other.column("customer.born").seal([bound], ["2001-01-01"])
    assert column.open(bound, sealed) == "2001-01-01"


def test_a_shredded_person_is_out_within_a_minute(counter: Counter) -> None:
    keys = counter.keys()
    with shop(counter, keys) as (session, _, purchase):
        assert session.get(purchase, 10).street == "Hauptstr. 1"
        counter.shred(1)
        session.expire_all()
        counter.later(61)
        assert session.get(purchase, 10).street is None
        assert session.get(purchase, 20).street == "Nebenstr. 2"


def test_without_an_agent_the_last_view_serves_until_its_lease_runs_out(
    counter: Counter, caplog: pytest.LogCaptureFixture
) -> None:
    keys = counter.keys()
    with shop(counter, keys) as (session, customer, purchase):

        def email() -> str:
            number, stored = session.execute(sa.select(customer.id, customer.email).where(customer.id == 1)).one()
            return str(stored.open(number))

        assert email() == "ada@example.org"
        counter.stop()
        counter.later(TERM.total_seconds() - 1)
        assert email() == "ada@example.org"
        assert "going on with the keys of" in caplog.text
        with pytest.raises(UnavailableError):  # this one's key never left the agent
            session.get(purchase, 10)
        counter.later(1)
        with pytest.raises(UnavailableError, match="no agent answers"):
            email()
        assert keys._view is None  # and the keys are gone
        counter.serve()
        assert email() == "ada@example.org"


def test_a_policy_that_is_taken_back_ends_a_lease_within_a_second(counter: Counter) -> None:
    keys = counter.keys()
    keys.check("customer.email")
    _, current = counter.listening[0]
    counter.policy('"customer.email", ', "")
    current.exchange(type(counter.app).open(counter.config, counter.clock))
    counter.later(1)
    with pytest.raises(DeniedError, match=r"the service shop has no column customer\.email"):
        keys.column("customer.email")
    assert keys.column("customer.name").cell is not None
    counter.policy('"fields.lease", ', "")
    current.exchange(type(counter.app).open(counter.config, counter.clock))
    counter.later(1)
    with pytest.raises(DeniedError, match=r"fields\.lease"):
        keys.column("customer.name")
    assert keys._view is None


def test_nothing_but_the_named_keys_ever_leaves_the_agent(
    counter: Counter, monkeypatch: pytest.MonkeyPatch, phone: Any
) -> None:
    """Every byte that is sent over a run of all operations, against every key there is, in all spellings."""
    counter.rotate("column/4")
    counter.later(2)
    with counter.recorded(monkeypatch) as frames:
        serve_customers(counter, counter.keys())
        agent = counter.agent()
        for at in ALL:
            args = {"column": at, "keys": [[1]], "values": ["x"]}
            sealed = agent.ask("seal", args)
            agent.ask("open", args | {"values": sealed["values"]})
        agent.ask("token", {"column": "customer.email", "values": ["x"]})
        agent.ask("ping", {})
        for op in ("seal", "open", "token", "lease"):
            with pytest.raises(DeniedError):
                agent.ask(op, {"column": "secret.text", "columns": ["secret.text"], "keys": [[1]], "values": ["x"]})
    sent = b"".join(frames)
    given = {
        f"column/{number}" for number in (1, 2, 3, 4, 5)
    } | {"index/1/email", "index/2/name", "index/4/exact"}  # fmt: skip
    left = {key.purpose for key in counter.app.keyring.list() if is_in(counter_material(counter, key.id), sent)}
    assert left == given
    people = [key for batch in counter.app.subjects.each("account") for _, key in batch]
    epoch = counter.app.vault.ensure()
    root = (counter.home / "keys/root.key").read_bytes().strip().partition(b":")[2]
    others = {
        "people": [key.material for key in people],
        "epoch": [counter.app.vault.key(epoch.id).material],
        "root": [root, urlsafe_b64decode(root + b"=")],
        "totp": [phone.secret.encode()],
        "kek": [counter.app.keyring.ring.kek.material],
    }
    assert len(people) >= 3
    assert {name for name, secrets in others.items() for each in secrets if is_in(each, sent)} == set()


def is_in(secret: bytes, sent: bytes) -> bool:
    """Whether a secret stands in what was sent: as it is, in base64 at any offset, or in hex."""
    assert len(secret) >= 16
    spelled = [secret, secret.hex().encode(), secret.hex().upper().encode()]
    for offset in range(3):
        whole = b64encode(b"\0" * offset + secret)
        part = whole[4 if offset else 0 : -4]  # without what the neighbours decide
        spelled += [part, part.replace(b"+", b"-").replace(b"/", b"_")]
    return any(each in sent for each in spelled)


def test_asking_for_ever_other_columns_takes_no_more_room(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[int] = []
    telling = ShopCode._telling

    def seen(self: ShopCode, *args: Any) -> Any:
        found = telling(self, *args)
        kept.append(len(self._told[1]) if self._told else 0)
        return found

    monkeypatch.setattr(ShopCode, "_telling", seen)
    agent = counter.agent()
    for count in range(1, 4):
        for names in combinations(ALL, count):
            assert set(agent.ask("lease", {"columns": list(names)})["columns"]) == set(names)
    assert len(kept) == 63
    assert max(kept) <= 32


def test_digests_cannot_be_made_with_what_is_on_lease(counter: Counter) -> None:
    cell: Any = counter.keys().column("customer.email").cell
    with pytest.raises(LookupError, match="not on lease"):
        cell.digest(b"", "x")


def test_an_answer_that_is_no_lease_is_said(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = counter.keys()
    for told in ({}, {"until": "x", "mark": "m"}, [], {"mark": "m", "until": "2026-01-05T09:00:00.000000Z"}):
        monkeypatch.setattr(Agent, "ask", lambda *_, told=told, **__: told)
        with pytest.raises(UnavailableError, match="no lease"):
            keys.check()


def test_a_long_batch_is_asked_for_in_portions(counter: Counter) -> None:
    column = counter.keys().column("customer.pin")
    values = [f"{number:05}" + "x" * 300 for number in range(2300)]
    bounds = [key_bytes((number,)) for number in range(2300)]
    sealed = column.seal(bounds, values)
    assert [column.open(bounds[i], sealed[i]) for i in (0, 999, 1000, 2299)] == [
        values[i] for i in (0, 999, 1000, 2299)
    ]


@needs_root
def test_another_users_folder_leads_to_the_agent_by_itself(counter: Counter, open_folder: Path) -> None:
    where = counter.app.agent_socket
    assert not elsewhere(where)
    assert not elsewhere(open_folder / "nothing/guard.sock")
    os.chown(where.parent, pwd.getpwnam("games").pw_uid, -1)
    assert elsewhere(where)
    keys = FieldKeys.open(counter.config)
    keys.check("customer.email")
    given = keys._given
    assert isinstance(given, Leased)
    given.agent.close()
    os.chown(where.parent, 0, -1)
    found = as_user("www-data", lambda: [elsewhere(where), elsewhere(Path("/root/x/guard.sock"))])
    assert found == {"ok": [True, True]}


def test_the_lease_of_a_clock_that_runs_ahead_is_no_longer_than_five_minutes(counter: Counter) -> None:
    behind = type(counter.clock)(counter.clock.now() - timedelta(hours=1))  # type: ignore[call-arg]  # a stepped one
    view = counter.keys(behind).view()
    assert view.lease is not None
    assert view.lease.until == behind.now() + TERM
