"""The field keys of a process: fresh within a second, leased while in use, anew in a forked child."""

import os
import threading
import traceback
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from guard.actions.setup import Answers, set_up
from guard.clock import SteppedClock
from guard.crypto.budget import Budget
from guard.errors import ConfigError, DeniedError, InterlockError, UnavailableError
from guard.fields import lease, store
from guard.fields.column import FieldKeys, protect
from guard.fields.keys import Given
from guard.fields.lease import TERM
from guard.fields.store import Filling, Stage
from guard.fields.value import purpose
from tests.conftest import Phone
from tests.fields.shopcode.conftest import Kiosk
from tests.fields.shopcode.models import Models, customers

SECOND = timedelta(seconds=1)


def open_shop(kiosk: Kiosk, stage: Stage = Stage.SEALED) -> Models:
    models = customers()
    kiosk.protect(models.customer, "email", index="email")
    kiosk.create(models.base)
    if stage is not Stage.PLAIN:
        kiosk.stage(stage)
    return models


def live(kiosk: Kiosk, key_id: int | None = None) -> tuple[lease.Lease, ...]:
    with kiosk.state.read() as tx:
        return lease.live(tx, kiosk.clock.now(), key_id)


def rotate(kiosk: Kiosk, what: str) -> int:
    key = kiosk.keyring.rotate(what)
    kiosk.state.write(lambda tx: kiosk.keyring.activate(tx, key.id, kiosk.clock.now()))
    return key.id


def test_nothing_is_leased_before_anything_is_sealed(lite: Kiosk) -> None:
    open_shop(lite, Stage.PLAIN)
    lite.keys.check("customer.email")
    assert live(lite) == ()
    assert lite.told == []


def test_a_lease_names_the_keys_that_seal_and_is_recorded(lite: Kiosk) -> None:
    open_shop(lite)
    lite.keys.check()
    [held] = live(lite)
    assert held.keys == {lite.keyring.current(name).id for name in (purpose(1), "index/1/email")}
    assert (held.who, held.until - held.since) == ("s-shop", TERM)
    [told] = lite.told
    assert (told.what, told.who, told.objects, told.counts) == (
        "fields.lease",
        "s-shop",
        ("customer.email",),
        {"keys": 2},
    )


def test_a_lease_is_renewed_while_it_is_used_and_runs_out_when_not(lite: Kiosk) -> None:
    open_shop(lite)
    lite.keys.check()
    [first] = live(lite)
    lite.clock.step(TERM / 2 - SECOND)
    lite.keys.check()
    assert live(lite) == (first,)
    lite.clock.step(2 * SECOND)
    lite.keys.check()
    [renewed] = live(lite)
    assert (renewed.id, renewed.until) == (first.id, lite.clock.now() + TERM)
    lite.clock.step(TERM)
    assert live(lite) == ()
    lite.keys.check()
    assert live(lite)[0].id != first.id


def test_a_lease_that_ran_out_is_not_called_back(lite: Kiosk) -> None:
    open_shop(lite)
    lite.keys.check()
    [held] = live(lite)
    lite.clock.step(TERM)
    assert lite.state.write(lambda tx: lease.renew(tx, held, lite.clock.now())) is None
    lite.clock.step(timedelta(days=2))
    lite.keys.check()
    with lite.state.read() as tx:
        assert len(tx.execute(sa.select(lease.LEASE)).all()) == 1  # old ones are forgotten


@pytest.mark.parametrize("what", ["column/1", "index/1/email"])
def test_a_rotation_is_seen_within_a_second_and_the_old_lease_runs_out(lite: Kiosk, what: str) -> None:
    open_shop(lite)
    lite.keys.check()
    [old] = live(lite)
    new = rotate(lite, what)
    assert lite.keys.view().lease == old  # not looked yet
    lite.clock.step(SECOND)
    if what.startswith("index"):  # guard adds a second token column; from then on both are made
        before = lite.columns["customer.email"]
        lite.token(before, 2, Filling.FILLING)
    lite.keys.check()
    fresh = lite.keys.view().lease
    assert fresh is not None
    assert new in fresh.keys or what.startswith("index")
    assert fresh.id != old.id
    assert old in live(lite)  # never extended with other keys, never taken away
    lite.clock.step(TERM)
    assert old not in live(lite)


def test_new_values_take_the_new_key_at_once(lite: Kiosk) -> None:
    models = open_shop(lite)
    with lite.session() as session:
        session.add(models.customer(id=1, email="one@example.org"))
        session.commit()
        new = rotate(lite, "column/1")
        lite.clock.step(SECOND)
        session.add(models.customer(id=2, email="two@example.org"))
        session.commit()
        assert [each.email for each in session.scalars(sa.select(models.customer))] == [
            "one@example.org",
            "two@example.org",
        ]
    from guard.crypto.envelope import key_id_of
    from guard.crypto.stored import from_text

    ids = [key_id_of(from_text(str(value))) for (value,) in lite.ask("SELECT email FROM customer ORDER BY id")]
    assert (ids[0] < new, ids[1]) == (True, new)


def test_a_key_is_not_retired_while_somebody_may_seal_with_it(lite: Kiosk) -> None:
    open_shop(lite)
    lite.keys.check()
    old = lite.keyring.current("column/1").id
    rotate(lite, "column/1")

    def retire(tx: Any) -> None:
        lite.keyring.retire(
            tx,
            old,
            lambda tx: (
                [f"{len(lease.live(tx, lite.clock.now(), old))} leases"]
                if lease.live(tx, lite.clock.now(), old)
                else []
            ),
        )

    with pytest.raises(InterlockError, match="1 leases"):
        lite.state.write(retire)
    lite.clock.step(TERM)
    lite.state.write(retire)
    assert live(lite, old) == ()


def test_state_that_moves_on_between_look_and_lease_is_looked_at_again(lite: Kiosk) -> None:
    open_shop(lite)
    given = lite.given()
    moves = [True]

    def record(work: Any, *events: Any) -> Any:
        if moves.pop() if moves else False:
            rotate(lite, "column/1")
        return lite.state.write(work, *events)

    keys = FieldKeys(lambda: replace(given, record=record))
    keys.check()
    held = keys.view().lease
    assert held is not None
    assert lite.keyring.current("column/1").id in held.keys
    assert len(live(lite)) == 1


class Flaky:
    """A state that can be made to answer no more."""

    def __init__(self, kiosk: Kiosk) -> None:
        self._state = kiosk.state
        self.down = False

    def __getattr__(self, name: str) -> Any:
        if self.down and name in {"read", "write"}:
            raise UnavailableError("the state does not answer")
        return getattr(self._state, name)


def test_the_shop_goes_on_until_its_lease_runs_out_when_state_does_not_answer(
    lite: Kiosk, caplog: pytest.LogCaptureFixture
) -> None:
    models = open_shop(lite)
    flaky: Any = Flaky(lite)

    def record(*args: Any) -> Any:
        return flaky.write(*args)

    lite.keys._open = lambda: replace(lite.given(), state=flaky, record=record)
    with lite.session() as session:
        session.add(models.customer(email="one@example.org"))
        session.commit()
        flaky.down = True
        lite.clock.step(2 * SECOND)
        session.add(models.customer(email="two@example.org"))
        session.commit()
        assert "guard's state does not answer" in caplog.text
        lite.clock.step(TERM)
        session.add(models.customer(email="three@example.org"))
        with pytest.raises(UnavailableError):
            session.commit()
        session.rollback()
        flaky.down = False
        session.add(models.customer(email="three@example.org"))
        session.commit()


def test_before_the_first_look_nothing_is_done_without_state(lite: Kiosk) -> None:
    open_shop(lite)
    flaky: Any = Flaky(lite)
    flaky.down = True
    keys = FieldKeys(lambda: replace(lite.given(), state=flaky))
    with pytest.raises(UnavailableError):
        keys.check()


def test_a_catalog_that_is_being_edited_does_not_stop_the_shop(lite: Kiosk, caplog: pytest.LogCaptureFixture) -> None:
    open_shop(lite)
    given = lite.given()
    edited: list[bool] = []

    def catalog() -> Any:
        if edited:
            raise InterlockError("catalog.toml is not what was accepted")
        return given.catalog()

    keys = FieldKeys(lambda: replace(given, catalog=catalog))
    keys.check("customer.email")
    edited.append(True)
    rotate(lite, "column/1")
    lite.clock.step(SECOND)
    keys.check("customer.email")
    assert "going on with what was" in caplog.text
    fresh = FieldKeys(lambda: replace(given, catalog=catalog))
    with pytest.raises(InterlockError):
        fresh.check()


def test_a_column_guard_does_not_know_is_said(lite: Kiosk) -> None:
    open_shop(lite)
    with pytest.raises(ConfigError, match=r"customer\.emial is not in the accepted catalog"):
        lite.keys.check("customer.emial")


def test_threads_share_one_look(lite: Kiosk) -> None:
    open_shop(lite)
    found: list[int] = []

    def use() -> None:
        for _ in range(50):
            found.append(id(lite.keys.view()))

    threads = [threading.Thread(target=use) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(set(found)) == 1
    assert len(live(lite)) == 1


def test_a_forked_child_begins_anew(kiosk: Kiosk) -> None:
    """As gunicorn with preload does: the parent has opened keys, the child must not use its connections."""
    models = open_shop(kiosk)
    with kiosk.session() as session:
        session.add(models.customer(email="parent@example.org"))
        session.commit()
    kiosk.engine.dispose()
    child = os.fork()
    if child == 0:
        try:
            engine = sa.create_engine(kiosk.url)
            with sa.orm.Session(engine) as session:
                assert session.scalars(sa.select(models.customer)).one().email == "parent@example.org"
                session.add(models.customer(email="child@example.org"))
                session.commit()
        except BaseException:  # noqa: BLE001  # the child must end here
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    with kiosk.session() as session:
        assert {each.email for each in session.scalars(sa.select(models.customer))} == {
            "parent@example.org",
            "child@example.org",
        }
    assert len(live(kiosk)) == 2  # each process its own


def test_closed_keys_open_again(lite: Kiosk) -> None:
    models = open_shop(lite)
    lite.keys.check()
    lite.keys.close()
    with lite.session() as session:
        session.add(models.customer(email="one@example.org"))
        session.commit()
    assert len(live(lite)) == 2


def test_persons_are_asked_for_when_values_are_bound_to_them(lite: Kiosk) -> None:
    models = customers()
    lite.column("purchase.ship_to", bind="subject")
    protect(models.order, lite.keys, "ship_to")
    lite.create(models.base)
    record = store.Record(1, "purchase.ship_to", Stage.SEALED, "subject", ("customer_id", "number"), None, 0,
                          lite.clock.now(), subject="customer", class_="account")  # fmt: skip
    lite.state.write(lambda tx: store.keep(tx, record))
    asked: list[str] = []

    def person(at: str) -> tuple[str, ...]:
        asked.append(at)
        return ("customer_id",)

    keys = FieldKeys(lambda: replace(lite.given(), person=person))
    with pytest.raises(LookupError, match="keys of persons, which are not at hand"):
        keys.check()  # this store has no vault
    assert asked == ["purchase.ship_to"]


# The embedded door ----------------------------------------------------------------------------------------------------


@pytest.fixture
def house(tmp_path: Path, clock: SteppedClock, phone: Phone) -> Path:
    """A folder that `guard init` has set up, beside an empty shop."""
    (tmp_path / "shop.db").touch()
    answers = Answers("Shop", f"sqlite:///{tmp_path}/shop.db", "Ann", "ann")
    made = set_up(tmp_path, answers, clock, phone.enrol)
    made.app.close()
    return tmp_path


def test_the_embedded_keys_open_guards_own_app(house: Path) -> None:
    keys = FieldKeys.open(house / "guard.toml")
    with pytest.raises(ConfigError, match="not in the accepted catalog"):
        keys.check("customer.email")
    given: Given = keys._given  # type: ignore[assignment]  # it was just opened
    assert given.who == "s-shop"
    assert given.state.path == house / "var/state.db"
    given.state.close()


def test_the_budget_is_one_for_the_process_and_given_back_at_its_end(
    house: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_exit: list[Callable[[], None]] = []
    monkeypatch.setattr("atexit.register", lambda work, *args: at_exit.append(lambda: work(*args)))
    keys = FieldKeys.open(house / "guard.toml")
    keys.check()
    given: Given = keys._given  # type: ignore[assignment]  # it was just opened
    budget: Budget = given.cells().budget  # type: ignore[assignment]  # the embedded door has one
    for _ in range(3):  # as often as what the columns are is looked up anew
        assert given.cells().budget is budget
        budget.take(8, 1)
    assert budget.reserved(8) == 1 << 20
    for work in at_exit:
        work()
    assert budget.reserved(8) == 3
    given.state.close()


def test_a_service_that_is_not_listed_gets_no_keys(house: Path) -> None:
    with pytest.raises(DeniedError, match="nobody guard knows"):
        FieldKeys.open(house / "guard.toml", service="webshop").check()


def test_a_missing_folder_is_said_at_first_use(tmp_path: Path) -> None:
    keys = FieldKeys.open(tmp_path / "guard.toml")
    with pytest.raises(ConfigError, match=r"guard\.toml"):
        keys.check()
