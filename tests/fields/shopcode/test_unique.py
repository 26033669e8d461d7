"""Uniqueness under way: two of the same e-mail address never get in, whoever writes, whatever guard does meanwhile.

Writers of two kinds, each a process of its own, insert and change addresses of one small pool as fast as they can:
the shop's code with `protect`, and an old program that knows nothing of guard. Meanwhile the column is indexed, sealed,
and its index key rotated, on a real clock.
"""

import os
import random
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import StaleDataError

from guard.clock import SystemClock
from guard.crypto.keyring import Keyring
from guard.crypto.random import hex_token
from guard.events import RunId
from guard.fields import store
from guard.fields.column import seal
from guard.fields.store import Stage
from guard.state import State
from tests.fields.shopcode.conftest import ALL, Kiosk
from tests.fields.shopcode.models import Models, customers

POOL = [f"u{n}@example.org" for n in range(60)]
FENCED = "only sealed values with their tokens"


class Writers:
    """Processes that write until they are told to stop, each counting what became of its statements."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.children: dict[int, Path] = {}

    def start(self, name: str, write: Callable[[random.Random], str]) -> None:
        """Fork a writer; `write` does one thing and says what became of it."""
        told = self.folder / f"{name}.{len(self.children)}"
        child = os.fork()
        if child == 0:
            seen: Counter[str] = Counter()
            rng = random.Random(os.getpid())
            try:
                while not (self.folder / "stop").exists():
                    seen[write(rng)] += 1
                told.write_text("\n".join(f"{word} {count}" for word, count in seen.items()))
            except BaseException:  # noqa: BLE001  # the child must end here, whatever it was
                traceback.print_exc()
                sys.stderr.flush()
                os._exit(1)
            os._exit(0)
        self.children[child] = told

    def stop(self) -> dict[str, Counter[str]]:
        """End all writers and return what each kind counted."""
        (self.folder / "stop").touch()
        out: dict[str, Counter[str]] = {}
        for child, told in self.children.items():
            _, status = os.waitpid(child, 0)
            assert status == 0, "a writer failed; its traceback is above"
            counts = (line.split() for line in told.read_text().splitlines())
            out.setdefault(told.stem, Counter()).update({word: int(count) for word, count in counts})
        return out


@pytest.fixture
def real(
    engines: Callable[[str], Engine], tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[[str], Kiosk]]:
    """Make a shop on a real clock."""
    made: list[Kiosk] = []

    def kiosk(kind: str) -> Kiosk:
        state = State.create(f"sqlite:///{tmp_path}/real.db", SystemClock())
        engine = engines(kind)
        url = engine.url.render_as_string(hide_password=False)
        clock: SystemClock = SystemClock()
        made.append(Kiosk(url, engine, state, Keyring.create(state, bytes(range(32)), None), clock))
        return made[-1]

    yield kiosk
    for each in made:
        each.close()
        each.state.close()


def judged(write: Callable[[], str]) -> str:
    """Return what became of one write; errors that no shop should see are raised."""
    try:
        return write()
    except StaleDataError:  # another one deleted the row
        return "busy"
    except (IntegrityError, OperationalError, DBAPIError) as error:
        said = str(error.orig)
        if FENCED in said:
            return "fenced"
        if isinstance(error, IntegrityError):
            return "refused"
        if any(
            word in said.lower() for word in ("locked", "deadlock", "lock wait", "try restarting", "record has changed")
        ):
            return "busy"
        raise


def new_program(kiosk: Kiosk, models: Models, engine: Engine) -> Callable[[random.Random], str]:
    """The shop's own code: it looks, inserts, changes and finds again."""

    def write(rng: random.Random) -> str:
        email = rng.choice(POOL)

        def once() -> str:
            with Session(engine) as session:
                way = rng.random()
                if way < 0.6:
                    if way < 0.2:  # past the mapper, by seal()
                        row = {"id": rng.randrange(10**6, 2 * 10**9), "email": email, "visits": 0}
                        session.execute(sa.insert(models.customer), seal(models.customer, [row]))
                    else:
                        session.add(models.customer(email=email))
                    session.commit()
                    query = sa.select(models.customer).where(models.customer.email == email)
                    assert [each.email for each in session.scalars(query)] in ([email], [])
                    return "inserted"
                some = sa.select(models.customer).order_by(models.customer.id.desc()).limit(1).offset(rng.randrange(40))
                one = session.scalars(some).first()
                if one is None:
                    return "none"
                if rng.random() < 0.5:
                    session.execute(sa.delete(models.customer).where(models.customer.id == one.id))
                else:
                    one.email = email
                session.commit()
                return "changed"

        return judged(once)

    return write


def old_program(engine: Engine) -> Callable[[random.Random], str]:
    """A program that nobody changed: plain SQL."""
    insert = sa.text("INSERT INTO customer (email, visits) VALUES (:email, 0)")
    change = sa.text("UPDATE customer SET email = :email WHERE id = :id")

    def write(rng: random.Random) -> str:
        def once() -> str:
            with engine.begin() as connection:
                if rng.random() < 0.7:
                    connection.execute(insert, {"email": rng.choice(POOL)})
                    return "inserted"
                connection.execute(change, {"email": rng.choice(POOL), "id": rng.randrange(1, 400)})
                return "changed"

        return judged(once)

    return write


def all_emails(kiosk: Kiosk, models: Models) -> list[str]:
    with Session(kiosk.engine) as session:
        return [each.email for each in session.scalars(sa.select(models.customer))]


def encrypt(kiosk: Kiosk) -> None:
    guard = kiosk.fields()
    for _ in range(20):
        swept = guard.encrypt(guard.plan(), RunId(hex_token(16)))
        guard.state.write(guard.remember(swept))
        if not any(each.left for each in swept):
            break
    kiosk.close()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ALL)
def test_never_two_while_guard_seals_and_rotates(real: Callable[[str], Kiosk], kind: str, tmp_path: Path) -> None:
    kiosk = real(kind)
    models = customers()
    kiosk.protect(models.customer, "email", index="email")
    kiosk.create(models.base)
    with kiosk.engine.begin() as connection:
        for number in range(100, 1100):
            connection.execute(
                sa.text("INSERT INTO customer (email, visits) VALUES (:email, 0)"),
                {"email": f"old{number}@example.org"},
            )
    kiosk.engine.dispose()

    def engine() -> Engine:
        return sa.create_engine(kiosk.url, connect_args={"timeout": 10} if kind == "sqlite" else {})

    for phase in ("first sweep", "rotation"):
        folder = tmp_path / phase
        folder.mkdir()
        writers = Writers(folder)
        for _ in range(2):
            writers.start("new", new_program(kiosk, models, engine()))
        writers.start("old", old_program(engine()))
        time.sleep(1.5)
        if phase == "rotation":
            key = kiosk.keyring.rotate("index/1/email")
            kiosk.state.write(lambda tx, key=key: kiosk.keyring.activate(tx, key.id, SystemClock().now()))
        encrypt(kiosk)
        time.sleep(1.5)
        counts = writers.stop()
        found = Counter(all_emails(kiosk, models))
        assert [email for email, count in found.items() if count > 1] == []
        assert counts["new"]["inserted"] > 20
        assert counts["new"]["refused"] > 20
        assert counts["new"]["fenced"] == 0  # the shop's own code is let through at every moment
        assert counts["old"]["fenced"] > 0
        if phase == "first sweep":
            assert counts["old"]["inserted"] > 0
            assert counts["old"]["refused"] > 0
        kiosk.engine.dispose()
    with kiosk.state.read() as tx:
        assert [each.version for each in store.indexes(tx)] == [2]
        assert store.every(tx)[0].stage is Stage.SEALED
