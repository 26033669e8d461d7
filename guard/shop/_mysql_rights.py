"""What guard's account may do on MariaDB or MySQL. What it may not see looks there as if it did not exist."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy.engine import Connection

_PART = r"(`(?:[^`]|``)+`|\*)"
_GRANT = re.compile(rf"GRANT (.+?) ON {_PART}\.{_PART} TO ")


@dataclass(frozen=True, slots=True)
class Rights:
    """The privileges of an account, each with the place it holds at: (privilege, database or *, table or *)."""

    held: frozenset[tuple[str, str, str]]

    def may(self, privilege: str, schema: str = "*", table: str = "*") -> bool:
        """Say whether the account holds `privilege` at a table, a whole database, or everywhere."""
        return any(
            name in {privilege, "ALL PRIVILEGES"} and _covers(place, schema) and part in {"*", table}
            for name, place, part in self.held
        )


def rights(connection: Connection) -> Rights:
    """Return what the account of this connection may do, by its own grants and its active role's."""
    return parse(str(line) for line in connection.exec_driver_sql("SHOW GRANTS").scalars())


def parse(lines: Iterable[str]) -> Rights:
    """Return the rights that lines of SHOW GRANTS tell."""
    held = set()
    for line in lines:
        if (found := _GRANT.match(line)) is None:
            continue
        for privilege in re.sub(r"\([^)]*\)", "", found[1]).split(","):  # column lists
            held.add((privilege.strip().upper(), _name(found[2]), _name(found[3])))
    return Rights(frozenset(held))


def _name(quoted: str) -> str:
    return quoted if quoted == "*" else quoted[1:-1].replace("``", "`")


def _covers(pattern: str, schema: str) -> bool:
    """Say whether the database of a grant, in which % and _ are wildcards unless escaped, covers `schema`."""
    if pattern == "*":
        return True
    parts = re.findall(r"\\.|.", pattern, re.DOTALL)
    wild = {"%": ".*", "_": "."}
    return re.fullmatch("".join(wild.get(part) or re.escape(part[-1]) for part in parts), schema) is not None
