"""The people guard knows, by the user the operating system says they are."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from guard.access.store import PERSON, Digest, Row, Sealed
from guard.clock import parse, stamp
from guard.errors import ConfigError
from guard.events import Principal, PrincipalId, Role
from guard.state import Tx


@dataclass(frozen=True, slots=True)
class Person:
    """Someone who may come through the door. Name and OS user stay in state; the ledger holds the id alone."""

    id: PrincipalId
    name: str
    os_user: str
    role: Role
    enabled: bool
    since: datetime

    @property
    def principal(self) -> Principal:
        """The person as events and actions know them."""
        return Principal(self.id, self.role, self.name)


class People:
    """The list of people, in state."""

    def __init__(self, digest: Digest) -> None:
        self._rows = Sealed(PERSON, digest)

    def add(self, tx: Tx, person: Person) -> None:
        """Take a person in. Raises ConfigError when the OS user is somebody already."""
        self.require_free(tx, person.os_user)
        self._rows.add(
            tx,
            id=person.id,
            name=person.name,
            os_user=person.os_user,
            role=person.role.value,
            enabled=person.enabled,
            since=stamp(person.since),
        )

    def require_free(self, tx: Tx, os_user: str) -> None:
        """Raise ConfigError when the OS user is somebody already: two people on one user could not be told apart."""
        if found := self._rows.find(tx, os_user=os_user):
            raise ConfigError(
                f"this OS user is {found[0]['id']} already", hint="give each person an OS user of their own"
            )

    def of_os_user(self, tx: Tx, os_user: str) -> Person | None:
        """Return who the OS user is; None when nobody is, or no longer may come in."""
        return _enabled(self._rows.find(tx, os_user=os_user))

    def of_id(self, tx: Tx, person: str) -> Person | None:
        """Return the person with this id; None when there is none, or they no longer may come in."""
        return _enabled(self._rows.find(tx, id=person))

    def named(self, tx: Tx, text: str) -> Person:
        """Return the person with this id or OS user, also a disabled one. Raises ConfigError when there is none."""
        found = self._rows.find(tx, id=text) or self._rows.find(tx, os_user=text)
        if not found:
            raise ConfigError("nobody has this id or OS user", hint="`guard access list` shows who is there")
        return _person(found[0])

    def enable(self, tx: Tx, person: str, *, enabled: bool) -> None:
        """Let a person in again, or no longer."""
        for row in self._rows.find(tx, id=person):
            self._rows.change(tx, row, enabled=enabled)

    def list(self, tx: Tx) -> tuple[Person, ...]:
        """Return everybody, those who may no longer come in included."""
        return tuple(map(_person, self._rows.find(tx)))


def _enabled(rows: list[Row]) -> Person | None:
    return next((person for person in map(_person, rows) if person.enabled), None)


def _person(row: Row) -> Person:
    return Person(
        PrincipalId(row["id"]), row["name"], row["os_user"], Role(row["role"]), row["enabled"], parse(row["since"])
    )
