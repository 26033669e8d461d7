"""guard access add, list, disable, enable, reset, enrol: people and their second factor."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from guard.cli._door import Door, pass_door
from guard.cli._output import say, show_json, show_rows
from guard.errors import DeniedError
from guard.events import Role

if TYPE_CHECKING:
    from collections.abc import Sequence

    from guard.access import Enrolment, Member

_ROLES = [role.value for role in Role if role is not Role.SERVICE]
_COLUMNS = ("id", "name", "os_user", "role", "enabled", "factor", "recovery_codes", "enrol_until", "locked_until")


@click.command("list")
@pass_door
def list_(door: Door) -> None:
    """List who may come through the door: people by their OS user, and services.

    Tells of each person whether they have an authenticator, how many recovery codes are left, until when they may enrol
    an authenticator themselves, and until when no code of theirs is taken.

    \b
    Example: guard access list --json
    """
    show_rows(door.app.access.people(), columns=_COLUMNS)


@click.command()
@click.argument("name")
@click.option("--os-user", "user", required=True, help="Their user on this machine; one for each person.")
@click.option("--role", required=True, type=click.Choice(_ROLES), help="What they may do: policies/access.toml.")
@click.option("--later", is_flag=True, help="They are not here: they run `guard access enrol` within 24 hours.")
@pass_door
def add(door: Door, name: str, user: str, role: str, later: bool) -> None:
    """Take in NAME: enrols their authenticator on the spot. Needs a second factor of yours.

    They scan the QR code and type two codes, one after the other; then you type yours. Their recovery codes are shown
    once, at the end. With --later they do their part themselves, on a terminal of their own.

    \b
    Example: guard access add "Grace H." --os-user grace --role ops
             guard access add "Grace H." --os-user grace --role ops --later
    """
    from guard.actions.people import ADD  # noqa: PLC0415  # keeps --help light

    room = door.app.access
    if later:
        member = room.expect(name, user, Role(role))
        door.perform(ADD, person=member.person.id)
        if door.as_json:
            show_json({"id": member.person.id, "recovery_codes": []})
        else:
            say(f"{name} is {member.person.id}; as {user} they run `guard access enrol` within 24 hours")
        return
    _require_terminal()
    enrolment = room.begin_enrolment(name, user, Role(role))
    say(f"For {name}:")
    member = _confirmed(door, enrolment)
    say("For you:")
    codes = door.perform(ADD, person=member.person.id)
    _show_codes(door, member.person.id, f"{name} is {member.person.id}.", codes)


@click.command()
@click.option("--recovery-codes-only", "only_codes", is_flag=True, help="Keep the authenticator; new recovery codes.")
@pass_door
def enrol(door: Door, only_codes: bool) -> None:
    """Enrol your own authenticator: the first, one after a reset, or a new phone.

    After a reset, and when you were taken in with --later, no code is asked for, within 24 hours. Else you type a code
    of the old authenticator first, or a recovery code. Then you scan the QR code and type two codes of the new one, one
    after the other. New recovery codes are shown once, at the end; the old ones end.

    \b
    Example: guard access enrol
             guard access enrol --recovery-codes-only
    """
    from guard.actions.people import ENROL, RENEW  # noqa: PLC0415  # keeps --help light

    room, who = door.app.access, door.known().id
    _require_terminal()
    is_open = room.may_enrol(who)
    if only_codes:
        fresh = door.perform(RENEW, what="recovery codes")
        _show_codes(door, who, "The old ones end.", fresh)
        return
    if not is_open:
        door.perform(RENEW, what="authenticator")
    say("For the new authenticator:")
    _confirmed(door, room.begin_renewal(who))
    codes = door.perform(ENROL, person=who)
    _show_codes(door, who, "Codes are taken from the new authenticator alone from now on.", codes)


@click.command()
@click.argument("person")
@pass_door
def disable(door: Door, person: str) -> None:
    """Turn PERSON away from now on: an id or an OS user. Needs a second factor.

    What they asked for and what they approved ends with it. Their entries in the ledger stay.

    \b
    Example: guard access disable grace
    """
    from guard.actions.people import DISABLE  # noqa: PLC0415  # keeps --help light

    who = door.app.access.somebody(person).id
    door.perform(DISABLE, person=who)
    _tell(door, who, "disabled", f"{who} is turned away from now on; `guard access enable {who}` lets them in again")


@click.command()
@click.argument("person")
@pass_door
def enable(door: Door, person: str) -> None:
    """Let PERSON in again: an id or an OS user. Needs a second factor.

    They come back with the role and the second factor they had. Whether they have one, `guard access list` tells. Who
    was taken in with --later and let the 24 hours pass may enrol within another 24.

    \b
    Example: guard access enable grace
    """
    from guard.actions.people import ENABLE  # noqa: PLC0415  # keeps --help light

    who = door.app.access.somebody(person).id
    door.perform(ENABLE, person=who)
    _tell(door, who, "enabled", f"{who} may come in again")


@click.command()
@click.argument("person")
@pass_door
def reset(door: Door, person: str) -> None:
    """Take the second factor of PERSON away, an id or an OS user, so that they enrol another. Needs two people.

    For a phone that is lost together with the recovery codes. PERSON neither asks for it nor approves it. When it is
    done, they run `guard access enrol` as their own OS user within 24 hours.

    \b
    Example: guard access reset grace
    """
    from guard.actions.people import RESET  # noqa: PLC0415  # keeps --help light

    found = door.app.access.somebody(person)
    door.perform(RESET, person=found.id)
    _tell(door, found.id, "reset", f"as {found.os_user} they run `guard access enrol` within 24 hours")


def _require_terminal() -> None:
    if not sys.stdin.isatty():
        raise DeniedError("no terminal to show a secret on and ask for codes", hint="run it on a terminal")


def _confirmed(door: Door, enrolment: Enrolment) -> Member:
    """Ask for two codes of the new authenticator, up to three times: a slip costs no code of the old one."""
    from guard.cli.init import enrol as ask_two  # noqa: PLC0415  # keeps --help light

    for _ in range(2):
        try:
            return door.app.access.confirm(enrolment, *ask_two(enrolment))
        except DeniedError as error:
            say(f"{error}; {error.hint}")
    return door.app.access.confirm(enrolment, *ask_two(enrolment))


def _show_codes(door: Door, who: str, first: str, codes: Sequence[str]) -> None:
    if door.as_json:
        show_json({"id": who, "recovery_codes": codes})
        return
    say(f"{first} Recovery codes, each good once in place of a code; they are not shown again:")
    for code in codes:
        click.echo(f"  {code}")


def _tell(door: Door, who: str, what: str, words: str) -> None:
    if door.as_json:
        show_json({"id": who, "done": what})
    else:
        say(words)


COMMANDS = (add, list_, disable, enable, reset, enrol)
