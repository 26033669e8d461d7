"""`guard`: the command table, the global options, and the one place that turns errors into exit codes."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from guard import __version__
from guard.cli._lazy import LazyGroup
from guard.errors import Exit, GuardError

if TYPE_CHECKING:
    from guard.app import App

COMMANDS = {
    "init": ("guard.cli.init", "Set guard up for a shop: keys, first administrator, ledger, policies."),
    "demo": ("guard.cli.demo", "Make a sample shop and run the whole main job on it."),
    "doctor": ("guard.cli.doctor", "Check everything guard needs, with the remedy for what is missing."),
    "status": ("guard.cli.status", "Show one screen: what needs you first."),
    "run": ("guard.cli.run", "Run one job now, or all that are due."),
    "daemon": ("guard.cli.daemon", "Run the jobs by the clock until told to stop."),
    "config": ("guard.cli.config", "Check, show and document the configuration."),
    "data": ("guard.cli.data", "Find personal data and keep the catalog."),
    "fields": ("guard.cli.fields", "Seal, verify and open columns of the shop's database."),
    "keys": ("guard.cli.keys", "Rotate, end and export keys; keep the recovery kit."),
    "access": ("guard.cli.access", "People, roles, second factors, approvals."),
    "audit": ("guard.cli.audit", "Read and verify the ledger."),
    "retention": ("guard.cli.retention", "Anonymize or delete what has outlived its purpose."),
    "breach": ("guard.cli.breach", "Handle a personal data breach against the 72-hour clock."),
    "backup": ("guard.cli.backup", "Back up, list, restore, verify, prune."),
    "state": ("guard.cli.state", "Back up, restore and migrate guard's own state."),
    "uninstall": ("guard.cli.uninstall", "Take guard out of the shop's database, everything in plain text."),
    "report": ("guard.cli.report", "Build the report an auditor can check."),
}


@click.group(cls=LazyGroup, table=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    "config",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="GUARD_CONFIG",
    help="guard.toml to use  [default: ./guard.toml]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
@click.option("--verbose", is_flag=True, help="Log what happens on stderr.")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", help="How --verbose logs.")
@click.option("--wait", type=click.FloatRange(0), default=0, metavar="SECONDS", help="Wait for what is busy.")
@click.option("--yes", is_flag=True, help="Do not ask whether to go on. Never replaces a code.")
@click.version_option(__version__, prog_name="guard")
def main(verbose: bool, log_format: str, **_: object) -> None:
    """Protect an online shop's customer data and keep the shop recoverable, with proof.

    Start with `guard demo`, or `guard init` in a new folder. These options may stand anywhere on the line. Exit codes
    are in the README.
    """
    if verbose:
        from guard.cli._logs import start_logging  # noqa: PLC0415  # only when asked for

        start_logging(log_format)


def run() -> None:
    """Run the command line and exit with its code."""
    sys.exit(call(sys.argv[1:]))


def call(arguments: list[str], app: App | None = None, first: Callable[[], None] = lambda: None) -> int:
    """Run `guard ARGUMENTS` and return the exit code. No error leaves it as a traceback.

    `app`: an opened one to work on instead of the folder's own. `first` is called before, its errors are told alike.
    """
    try:
        first()
        code = main.main(arguments, prog_name="guard", standalone_mode=False, obj=app, color=_color())
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  # the last border: an operator never sees a traceback
        return _failed(error)
    return code if isinstance(code, int) else Exit.DONE


def _color() -> bool | None:
    """Return False where NO_COLOR asks for none (no-color.org), else None: colors on a terminal only."""
    return False if os.environ.get("NO_COLOR") else None


def _failed(error: Exception | KeyboardInterrupt) -> int:
    """Say what went wrong, and return the exit code of it."""
    match error:
        case GuardError():
            code = _explain(str(error), error.hint, error.exit_code)
        case KeyboardInterrupt() | click.exceptions.Abort() | EOFError():  # EOFError: Ctrl-D where a code was asked for
            code = _explain("interrupted", "run the same command again to go on", Exit.INTERRUPTED)
        case click.ClickException():
            error.show()
            code = Exit.USAGE
        case BrokenPipeError():
            sys.stderr.close()
            code = Exit.FAILED
        case _:
            logging.getLogger("guard").debug("unexpected", exc_info=error)
            code = _explain(f"unexpected {type(error).__name__}", "run it again with --verbose", Exit.FAILED)
    return code


def _explain(message: str, hint: str | None, code: Exit) -> Exit:
    for line in message.splitlines():
        click.secho(f"guard: {line}", err=True, fg="red", color=_color())
    if hint:
        click.echo(f"  {hint}", err=True)
    return code
