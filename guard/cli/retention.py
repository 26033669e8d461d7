"""guard retention: what must go, and when."""

from __future__ import annotations

import click

from guard.cli._door import Door, pass_door
from guard.cli._output import say, show_json, show_rows

_COLUMNS = ("rule", "table", "method", "due", "treated", "held", "undated", "rows", "children")


@click.group()
def retention() -> None:
    """Anonymize or delete what has outlived its purpose.

    \b
    Example: guard retention plan
    """


@retention.command()
@pass_door
def plan(door: Door) -> None:
    """Show what is due today under policies/retention.toml. Changes nothing.

    \b
    Example: guard retention plan --json
    """
    found = door.app.retention.plan()
    if door.as_json:
        show_json({"as_of": found.as_of, "digest": found.digest, "rules": found.rules, "over": found.over})
        return
    show_rows(found.rules, columns=_COLUMNS, empty="policies/retention.toml has no rules yet: nothing is ever due")
    for line in found.lines:
        say(line)
    if found.rows:
        say(f"To carry it out: guard retention run {found.digest}")
    elif found.rules:
        say("nothing is due today")


@retention.command()
@click.argument("digest")
@pass_door
def run(door: Door, digest: str) -> None:
    """Carry out the plan with DIGEST. Needs a second factor. Run it again after an interruption.

    \b
    Example: guard retention run 8f2a6c1e0b7d49d3a5f08e6c2b914d77
    """
    from guard.actions.retention import RUN  # noqa: PLC0415  # keeps --help light

    done = door.perform(RUN, plan=digest)
    if door.as_json:
        show_json(done)
        return
    for rule, count in done.rows.items():
        say(f"{rule}: {count} rows treated")
    for table, count in done.children.items():
        say(f"{count} rows of {table} deleted with them")
    if done.passed:
        say(f"{done.passed} planned rows were no longer due and left alone")
