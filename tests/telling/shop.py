"""A shop with an accepted catalog and a vault, whose programs and files tell guard what they did; other OS users."""

import json
import os
import pwd
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from guard.app import App
from guard.audit import Entry
from guard.canon import key_bytes
from guard.clock import Clock
from guard.crypto.subjects import Person
from guard.events import Principal, PrincipalId, Role

SHOP = """
CREATE TABLE customer (id INTEGER PRIMARY KEY, email TEXT NOT NULL, name TEXT);
CREATE TABLE purchase (id INTEGER PRIMARY KEY, customer_id INTEGER REFERENCES customer, street TEXT);
CREATE TABLE member (code TEXT PRIMARY KEY, email TEXT);
INSERT INTO customer VALUES (1, 'ada@example.org', 'Ada'), (2, 'bob@example.org', 'Bob');
"""
CATALOG = """
[subject.customer]
table = "customer"
key = "id"

[subject.member]
table = "member"
key = "code"

[[column]]
id = 1
at = "customer.email"
category = "email"

[[column]]
id = 2
at = "customer.name"
category = "name"

[[column]]
id = 3
at = "purchase.street"
category = "address"

[[column]]
id = 4
at = "member.email"
category = "email"
"""
VAULT = """
[[vault]]
name = "one"
path = "../vault-one"

[[vault]]
name = "two"
path = "../vault-two"
"""
SHOP_SERVICE = Principal(PrincipalId("s-shop"), Role.SERVICE, "shop")


def line(**members: Any) -> dict[str, Any]:
    """An event that is right, with other members where they are given; None takes one away."""
    made = {"what": "order.read", "at": "2026-01-05T08:59:00+00:00", "class": "read", **members}
    return {name: value for name, value in made.items() if value is not None}


def jsonl(*events: Any) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in events)


@dataclass
class House:
    """The shop, guard's folder beside it, and the owner at the keyboard."""

    app: App
    clock: Clock
    phone: Any
    out: str = ""
    err: str = ""

    @property
    def home(self) -> Path:
        return self.app.home

    @property
    def config(self) -> Path:
        return self.home / "guard.toml"

    def reopen(self, clock: Clock | None = None) -> App:
        """Open everything anew, as the next command does."""
        self.app.close()
        self.clock = clock or self.clock
        self.app = App.open(self.config, self.clock, self.phone.code)
        return self.app

    def edit(self, old: str, new: str, name: str = "guard.toml") -> None:
        """Change a file of the configuration."""
        path = self.home / name
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    def told(self) -> list[Entry]:
        """The entries of the shop's events."""
        return [entry for entry in self.app.ledger.entries() if entry.what.startswith("shop.")]

    def details(self, entry: Entry) -> Any:
        """What an entry says of its person in clear."""
        from guard.audit import person_store

        persons = self.app.persons
        assert persons is not None
        assert entry.subject is not None
        with self.app.state.read() as tx:
            sealed = person_store.payloads(tx, [entry.n])[entry.n]
        return persons.opened(persons.names([entry.subject])[entry.subject], sealed)

    def pseudonym(self, kind: str, key: int | str) -> str | None:
        assert self.app.persons is not None
        return self.app.persons.pseudonym_of(Person(kind, key_bytes((key,))))


# Other OS users -------------------------------------------------------------------------------------------------------

USERS = ("www-data", "games", "bin")
"""OS users that a Debian has; only root can become one of them."""


def as_user(name: str | None, work: Callable[[], Any]) -> Any:
    """Return what `work` returns in a forked child that is another OS user; as JSON. None: this one."""
    "".encode("utf-16be")  # what a child of another user may not load any more
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if name is not None:
                become(name)
            found = {"ok": work()}
        except BaseException as error:  # noqa: BLE001  # it is told to the parent
            found = {"error": type(error).__name__, "text": str(error), "hint": getattr(error, "hint", None)}
            if os.environ.get("GUARD_TEST_TRACE"):
                traceback.print_exc()
        os.write(into, json.dumps(found).encode())
        os._exit(0)
    os.close(into)
    with os.fdopen(out) as pipe:
        found = json.loads(pipe.read())
    os.waitpid(child, 0)
    return found


def become(name: str) -> None:
    """Be another OS user from now on."""
    who = pwd.getpwnam(name)
    os.setgroups([])
    os.setgid(who.pw_gid)
    os.setuid(who.pw_uid)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another OS user")
