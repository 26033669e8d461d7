"""guard daemon: the jobs by the clock."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from guard.cli._door import Door, opened_app, pass_unchecked_door
from guard.cli._output import plain, say
from guard.cli.run import told

if TYPE_CHECKING:
    from guard.actions.jobs import Ran
    from guard.app import App


@click.command()
@pass_unchecked_door
def daemon(door: Door, /) -> None:
    """Run the jobs of policies/schedule.toml by the clock until told to stop.

    It is also the agent: the shop's programs tell it what they did, at the socket that guard.toml names under [agent].
    Nights that were missed are caught up once. SIGTERM and Ctrl-C end it cleanly: the run under way is given back and
    goes on at the next start. A changed policy is read within a second. Speaks sd_notify to systemd (Type=notify).

    \b
    Example: guard daemon
    """
    from guard.daemon import Stop, listener, on_signals, serve  # noqa: PLC0415  # keeps --help light

    app, stop = door.app, Stop()
    if app.ask_secret is not None:  # a passphrase is typed once; to follow a changed policy nobody is asked again
        app.ask_secret = functools.cache(app.ask_secret)

    def reopen() -> App:
        fresh = opened_app()
        fresh.ask_secret = app.ask_secret
        return fresh

    injected = click.get_current_context().obj is not None
    listen = functools.partial(listener, config=door.options["config"] or (None if injected else Path("guard.toml")))
    say("guard daemon runs; Ctrl-C or SIGTERM ends it")
    with on_signals(stop):
        serve(app, stop, _told_as_json if door.as_json else told, None if injected else reopen, listen)


def _told_as_json(ran: Ran) -> None:
    """Print a run as one line of JSON."""
    click.echo(msgspec.json.encode(plain(ran)).decode())
