"""guard access: people, roles, second factors, approvals."""

from __future__ import annotations

import click

from guard.cli._access_people import COMMANDS
from guard.cli._access_view import view, views
from guard.cli._door import Door, pass_door
from guard.cli._output import say, show_json, show_rows


@click.group()
def access() -> None:
    """People, roles, second factors, approvals.

    \b
    Example: guard access list
    """


for _command in (*COMMANDS, view, views):
    access.add_command(_command)


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
@click.argument("id_", metavar="ID")
@pass_door
def approve(door: Door, id_: str) -> None:
    """Approve what another person asked for, after you have seen what it does. Needs a second factor of yours.

    Its plan is made anew here, from what was asked for; where it is another by now, nothing is approved.

    \b
    Example: guard access approve r-4k2m7q3xwa
    """
    from guard.actions.access import APPROVE  # noqa: PLC0415  # keeps --help light

    action = door.perform(APPROVE, request=id_)
    if door.as_json:
        show_json({"approved": id_, "action": action})
    else:
        say(f"{id_} is approved; `guard access requests` shows when {action} may be carried out, by whoever asked")


@access.command()
@pass_door
def requests(door: Door) -> None:
    """List what waits for another person or for its time, what is ready, and the standing approvals.

    \b
    Example: guard access requests
    """
    empty = "nothing waits, and no standing approval is in force"
    show_rows(
        door.app.access.requests(), columns=("id", "kind", "action", "by", "at", "until", "approved"), empty=empty
    )


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
