"""guard access view, views: a row as a role sees it, and the views by which staff see all rows so."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from guard.cli._door import Door, pass_door
from guard.cli._output import counted, say, show_json, show_rows
from guard.errors import ConfigError
from guard.events import Role

_ROLES = [role.value for role in Role if role is not Role.SERVICE]


@click.command()
@click.argument("table")
@click.argument("key", nargs=-1, required=True)
@click.option(
    "--as", "role", type=click.Choice(_ROLES), help="See it as this role does; for owners. Default: your own."
)
@click.option("--purpose", help="What for, where policies/access.toml binds a tier to purposes.")
@pass_door
def view(door: Door, table: str, key: tuple[str, ...], role: str | None, purpose: str | None) -> None:
    """Show the row of TABLE with this KEY, each column as your role sees its tier. Recorded.

    KEY is what the primary key's columns hold, in their order. Where something of a person is shown in clear, it takes
    a second factor, and the ledger keeps which columns, what for, and whose they are. What is masked keeps the first
    character; a date its year; a card or account number the last four. A pseudonym is the same for the same value.

    \b
    Example: guard access view Customer 17
             guard access view OrderLine 4711 2 --purpose complaint
    """
    from guard.actions.view import action_for  # noqa: PLC0415  # keeps --help light

    who = door.known()
    args: dict[str, Any] = {"table": table, "key": list(key), "role": role or who.role.value, "purpose": purpose}
    seen = door.perform(action_for(door.app, who, args), **args)
    if door.as_json:
        show_json(seen)
        return
    show_rows([{"column": each.column, "form": each.form, "value": _told(each.value)} for each in seen.columns])


def _told(value: object) -> object:
    """Return a value as a terminal may print it: what the shop's customers typed commands no terminal."""
    if not isinstance(value, str) or value.isprintable():
        return value
    return "".join(each if each.isprintable() else f"\\u{ord(each):04x}" for each in value)


@click.command()
@click.option("--role", "roles", multiple=True, type=click.Choice(_ROLES), help="Only for this role; may be repeated.")
@click.option("--apply", "apply_", is_flag=True, help="Make them in the shop's database. Needs a second factor.")
@click.option("--drop", is_flag=True, help="Take them away again. Needs a second factor.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Write the SQL, with the key, to a new file of yours alone."
)
@pass_door
def views(door: Door, roles: tuple[str, ...], apply_: bool, drop: bool, out: Path | None) -> None:
    """Show the SQL of masking views and grants for PostgreSQL and MariaDB; with --apply make them.

    Each role gets a schema guard_<role> (MariaDB: a database <shop>_guard_<role>) with a view for each table, and a
    database role <shop>_guard_<role> that may read these views and nothing else: make staff's own accounts members of
    it. A column that is sealed, or is to be, is NULL there: a database cannot open it; `guard access view` can. What
    else lies in these schemas is dropped. Run it again when policies, catalog or the shop's tables have changed.

    \b
    Example: guard access views --role support
             guard access views --apply
    """
    from guard.access.views import STAFF  # noqa: PLC0415  # keeps --help light
    from guard.actions.views import VIEWS, written  # noqa: PLC0415  # keeps --help light

    if apply_ + drop + (out is not None) > 1:
        raise ConfigError("--apply, --drop and --out are three different things", hint="give one of them")
    if not (apply_ or drop or out):
        _show(door, written(door.app, [Role(each) for each in roles] or STAFF))
        return
    if out is not None and out.exists():
        raise ConfigError(f"{out} is there already", hint="it would hold a key: name a new file")
    what = "apply" if apply_ else "drop" if drop else "write"
    statements = door.perform(VIEWS, what=what, roles=list(roles) or None)
    if out is not None:
        _write(out, _script(door, statements))
    if door.as_json:
        show_json({"did": what, "statements": len(statements), "file": None if out is None else str(out)})
    else:
        say(f"{counted(len(statements), 'statement')} {'written to ' + str(out) if out else 'carried out'}")


def _show(door: Door, statements: Sequence[str]) -> None:
    if door.as_json:
        show_json({"statements": statements})
    else:
        click.echo(_script(door, statements), nl=False)


def _script(door: Door, statements: Sequence[str]) -> str:
    """Return statements as one script; on PostgreSQL one transaction."""
    lines = [each if each.startswith("--") else f"{each};" for each in statements]
    if door.app.shop.dialect == "postgresql":
        lines = ["BEGIN;", *lines, "COMMIT;"]
    return "\n".join(lines) + "\n"


def _write(path: Path, text: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from error
