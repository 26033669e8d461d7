"""guard access: people, roles, second factors, approvals."""

from __future__ import annotations

import sys

import click

from guard.cli._door import Door, pass_door
from guard.cli._output import say, show_json, show_rows
from guard.errors import DeniedError
from guard.events import Role

_ROLES = [role.value for role in Role if role is not Role.SERVICE]


@click.group()
def access() -> None:
    """People, roles, second factors, approvals.

    \b
    Example: guard access list
    """


@access.command("list")
@pass_door
def list_(door: Door) -> None:
    """List who may come through the door: people by their OS user, and services.

    \b
    Example: guard access list --json
    """
    show_rows(door.app.access.people())


@access.command()
@click.argument("name")
@click.option("--os-user", "user", required=True, help="Their user on this machine; one for each person.")
@click.option("--role", required=True, type=click.Choice(_ROLES), help="What they may do: policies/access.toml.")
@pass_door
def add(door: Door, name: str, user: str, role: str) -> None:
    """Take in NAME: enrols their authenticator on the spot. Needs a second factor of yours.

    They scan the QR code and type two codes, one after the other; then you type yours. Their recovery codes are shown
    once, at the end.

    \b
    Example: guard access add "Grace H." --os-user grace --role ops
    """
    from guard.actions.access import ADD  # noqa: PLC0415  # keeps --help light
    from guard.cli.init import enrol  # noqa: PLC0415

    room = door.app.access
    if not sys.stdin.isatty():
        raise DeniedError("no terminal to show a secret on and ask for codes", hint="run it on a terminal")
    enrolment = room.begin_enrolment(name, user, Role(role))
    say(f"For {name}:")
    member = room.confirm(enrolment, *enrol(enrolment))
    say("For you:")
    codes = door.perform(ADD, person=member.person.id)
    if door.as_json:
        show_json({"id": member.person.id, "recovery_codes": codes})
        return
    say(f"{name} is {member.person.id}. Recovery codes, each good once in place of a code; they are not shown again:")
    for code in codes:
        click.echo(f"  {code}")


@access.command()
@click.argument("action")
@pass_door
def grant(door: Door, action: str) -> None:
    """Let night jobs do ACTION alone, as long as its policy stays as it is. Needs a second factor.

    \b
    Example: guard access grant retention.run
    """
    from guard.actions.access import GRANT  # noqa: PLC0415  # keeps --help light

    digest = door.perform(GRANT, what=action)
    if door.as_json:
        show_json({"action": action, "policy": digest})
        return
    say("approved; `guard access requests` lists it, `guard access refuse ID` ends it")


@access.command()
@pass_door
def requests(door: Door) -> None:
    """List what waits for its time, and the standing approvals.

    \b
    Example: guard access requests
    """
    empty = "nothing waits, and no standing approval is in force"
    show_rows(door.app.access.requests(), columns=("id", "kind", "action", "by", "at", "until"), empty=empty)


@access.command()
@click.argument("id_", metavar="ID")
@pass_door
def refuse(door: Door, id_: str) -> None:
    """Cancel what waits, or end a standing approval. Everybody may; no code is asked for.

    \b
    Example: guard access refuse r-4k2m7q3xwa
    """
    from guard.actions.access import REFUSE  # noqa: PLC0415  # keeps --help light

    door.confirm(f"End {id_}?")
    door.perform(REFUSE, request=id_)
    if door.as_json:
        show_json({"ended": id_})
    else:
        say(f"{id_} has ended")
