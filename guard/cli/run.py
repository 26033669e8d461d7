"""guard run: one job now, or all that are due."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from guard.cli._door import Door, pass_unchecked_door
from guard.cli._output import say, show_json
from guard.clock import stamp
from guard.errors import Exit

if TYPE_CHECKING:
    from guard.actions.jobs import Ran


@click.command()
@click.argument("job", required=False)
@click.option("--due", is_flag=True, help="Run every job that is due, as the daemon would; for cron.")
@pass_unchecked_door
def run(door: Door, /, job: str | None, due: bool) -> Exit:
    """Run JOB now as yourself, or with --due every job whose time has come.

    JOB is backup, prune, verify, retention, epoch, ledger or heartbeat. A person's run may need a second factor; the
    runs of --due are the service's, under standing approvals, and what was missed is caught up once.

    \b
    Example: guard run backup
             guard run --due
    """
    from guard.actions.jobs import Watch, run_job, tick  # noqa: PLC0415  # keeps --help light

    if (job is None) is not due:
        raise click.UsageError("name a job, or give --due")
    if job is None:
        done = tick(door.app, door.app.clock.now(), Watch(tell=told))
    else:
        with door.caller() as caller:
            done = (run_job(door.app, caller, job),)
        told(done[0])
    if door.as_json:
        show_json(done)
    elif not done:
        say("nothing is due")
    return _code(done)


def told(ran: Ran) -> None:
    """Say in one line how a run went."""
    state, again = (f"{ran.state}", "") if ran.again_at is None else ("not done", f"; next try {stamp(ran.again_at)}")
    why = f": {ran.reason}" if ran.reason else ""
    say(f"{ran.job} for {stamp(ran.slot)}: {state}{why}{again}", error=ran.code is not Exit.DONE)


def _code(done: Sequence[Ran]) -> Exit:
    """Return the code of one run; of several, done when all are, failed when none is, else partly."""
    codes = {ran.code for ran in done} or {Exit.DONE}
    if len(codes) == 1:
        return codes.pop()
    return Exit.PARTLY if Exit.DONE in codes or Exit.PARTLY in codes else Exit.FAILED
