"""A shop whose columns are sealed in every way there is, and processes of it that may not read guard's folder."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from guard import wire
from guard.app import App
from guard.audit import Entry
from guard.canon import key_bytes
from guard.client import Agent
from guard.clock import Clock
from guard.crypto.receipts import Death
from guard.crypto.subjects import Person
from guard.daemon.current import Current
from guard.daemon.operations import listener
from guard.daemon.socket import Listener
from guard.events import PrincipalId
from guard.fields.column import FieldKeys
from guard.fields.keys import given_by
from guard.fields.leased import Leased

SHOP = """
CREATE TABLE customer (
    id INTEGER PRIMARY KEY, email VARCHAR(60) NOT NULL UNIQUE, name VARCHAR(60), born DATE, visits INTEGER,
    token VARCHAR(60), pin VARCHAR(20)
);
CREATE TABLE purchase (id INTEGER PRIMARY KEY, customer_id INTEGER REFERENCES customer (id), street VARCHAR(80));
CREATE TABLE secret (id INTEGER PRIMARY KEY, text VARCHAR(60));
INSERT INTO customer VALUES (1, 'ada@example.org', 'Ada', '1990-12-31', 17, 'a-token', '4711');
INSERT INTO customer VALUES (2, 'bob@example.org', 'Bob', NULL, NULL, NULL, NULL);
INSERT INTO purchase VALUES (10, 1, 'Hauptstr. 1'), (20, 2, 'Nebenstr. 2'), (30, 2, 'Platz 3');
INSERT INTO secret VALUES (1, 'of another service');
"""
CATALOG = """
[subject.customer]
table = "customer"
key = "id"
""" + "".join(
    f'\n[[column]]\nid = {number}\nat = "{at}"\nprotect = "encrypt"\n{more}\n'
    for number, (at, more) in enumerate(
        (
            ("customer.email", 'index = "email"'),
            ("customer.name", 'index = "name"'),
            ("customer.born", ""),
            ("customer.visits", 'index = "exact"'),
            ("customer.token", 'bind = "column"'),
            ("customer.pin", "tight = true"),
            ("purchase.street", 'bind = "subject"'),
            ("secret.text", ""),
        ),
        1,
    )
)
VAULT = '\n[[vault]]\nname = "one"\npath = "../vault-one"\n\n[[vault]]\nname = "two"\npath = "../vault-two"\n'
ALL = ("customer.email", "customer.name", "customer.born", "customer.visits", "customer.token", "customer.pin",
       "purchase.street")  # fmt: skip
"""What the shop's code is given: all but `secret.text`."""

GIVEN = f"""
[service.shop]
routine = ["audit.emit", "fields.lease", "fields.seal", "fields.open", "fields.token"]
columns = {json.dumps(ALL)}
"""


@dataclass
class Counter:
    """guard's folder and its agent on one side, the shop's database and code on the other."""

    app: App
    clock: Clock
    url: str
    listening: list[tuple[Listener, Current]] = field(default_factory=list)
    agents: list[Agent] = field(default_factory=list)
    frames: list[bytes] = field(default_factory=list)
    """What the agent has sent, where `record` was called."""

    @property
    def home(self) -> Path:
        return self.app.home

    @property
    def config(self) -> Path:
        return self.home / "guard.toml"

    # guard's side -------------------------------------------------------------------------------------------------

    def policy(self, old: str, new: str) -> None:
        path = self.home / "policies/access.toml"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    def seal(self, *names: str) -> None:
        """Seal columns as `guard fields encrypt` does."""
        fields = replace(self.app.fields, lacks=tuple)
        fields.prepare()
        swept = fields.encrypt(fields.plan(names), self.app.new_run())
        self.app.state.write(fields.remember(swept))
        self.later(2)

    def rotate(self, purpose: str) -> tuple[int, int]:
        """Let the next version of a key seal; return the old one's id and the new one's."""
        keyring = self.app.keyring
        old, new = keyring.current(purpose), keyring.rotate(purpose)
        self.app.state.write(lambda tx: keyring.activate(tx, new.id, self.clock.now()))
        return old.id, new.id

    def destroy(self, key_id: int) -> None:
        """Retire and destroy a key, in another process than the agent's."""
        other = App.open(self.config, self.clock)
        other.state.write(lambda tx: other.keyring.retire(tx, key_id, lambda _: ()))
        other.state.write(lambda tx: other.keyring.destroy(tx, key_id, lambda _: ()))
        other.close()

    def shred(self, number: int) -> None:
        """Shred the key of a customer, in another process than the agent's."""
        other = App.open(self.config, self.clock)
        death = Death(Person("customer", key_bytes((number,))), "account", other.new_run(), ())
        assert other.shredder.shred(death) is not None
        other.close()

    def entries(self, what: str) -> list[Entry]:
        return [entry for entry in self.app.ledger.entries() if entry.what == what]

    def later(self, seconds: float) -> None:
        self.clock.step(timedelta(seconds=seconds))  # type: ignore[attr-defined]  # of the tests that have a stepped one

    def serve(self) -> Listener:
        """Begin to listen, as `guard daemon` does."""
        current = Current(self.app)
        made = listener(current)
        made.start()
        self.listening.append((made, current))
        return made

    def stop(self) -> None:
        for agent in self.agents:
            agent.close()
        while self.listening:
            made, current = self.listening.pop()
            made.stop()
            current.close()

    # The shop's side ----------------------------------------------------------------------------------------------

    def agent(self, patience: float = 2.0) -> Agent:
        self.agents.append(Agent(self.app.agent_socket, "shop", patience))
        return self.agents[-1]

    def keys(self, clock: Clock | None = None) -> FieldKeys:
        """The field keys of a process that may read nothing of guard's."""
        return FieldKeys(lambda: Leased(self.agent(), clock or self.clock))

    def embedded(self) -> FieldKeys:
        """The field keys of a process that may read all of it."""
        return FieldKeys(lambda: given_by(self.app, PrincipalId("s-shop")))

    def engine(self) -> Engine:
        url = self.url.replace("postgresql:", "postgresql+psycopg:").replace("mysql:", "mysql+pymysql:")
        return sa.create_engine(url)

    def stored(self, query: str) -> list[Any]:
        """Ask the database past guard."""
        engine = self.engine()
        with engine.connect() as connection:
            found = [tuple(row) for row in connection.exec_driver_sql(query)]
        engine.dispose()
        return found

    def write(self, query: str, *values: object) -> None:
        """Write into the database past guard."""
        engine = self.engine()
        with engine.begin() as connection:
            connection.execute(sa.text(query), {f"p{number}": value for number, value in enumerate(values)})
        engine.dispose()

    @contextmanager
    def recorded(self, monkeypatch: Any) -> Iterator[list[bytes]]:
        """Keep every frame that the agent packs."""
        pack: Callable[..., bytes] = wire.pack

        def kept(message: Any) -> bytes:
            self.frames.append(pack(message))
            return self.frames[-1]

        with monkeypatch.context() as patched:
            patched.setattr(wire, "pack", kept)
            yield self.frames
