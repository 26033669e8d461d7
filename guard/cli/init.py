"""guard init: set guard up for a shop."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from guard.cli._door import ask_code, os_user
from guard.cli._output import say, show_json
from guard.errors import ConfigError, DeniedError

if TYPE_CHECKING:
    from guard.access import Enrolment
    from guard.actions.setup import Made


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=Path())
@click.option("--name", help="The shop's name, as reports show it.")
@click.option("--shop-url", help="SQLAlchemy URL of the shop's database, e.g. sqlite:///shop.db.")
@click.option("--admin", help="Your name: you become the first administrator.")
@click.option(
    "--root",
    type=click.Choice(["file", "passphrase", "kms", "credential"]),
    default="file",
    show_default=True,
    help="What opens the keys: a key file, a passphrase, a key in AWS KMS, a systemd credential.",
)
@click.option("--kms-key", help="With --root kms: the key's ARN, id or alias.")
@click.option("--kms-region", help="With --root kms: its region, where the ARN does not say it.")
@click.option("--backups", default="backups", show_default=True, help="Folder for backups; best on another disk.")
@click.option("--later", is_flag=True, help="Do not look whether the shop's database answers now.")
def init(folder: Path, root: str, backups: str, later: bool, **told: str | None) -> None:
    """Set guard up for a shop: keys, recovery kit, you as first administrator, ledger, policies.

    Run it in a new folder. You need a phone with an authenticator app.

    \b
    Example: guard init --name "Music shop" --shop-url sqlite:///shop.db --admin "Ada L."
    """
    from guard.actions.setup import Answers, set_up  # noqa: PLC0415  # keeps --help light
    from guard.clock import SystemClock  # noqa: PLC0415

    if not sys.stdin.isatty():
        raise DeniedError(
            "guard init enrols the first administrator and needs a terminal", hint="run it by hand, once for each shop"
        )
    answers = Answers(
        shop_name=told["name"] or _prompt("The shop's name"),
        shop_url=told["shop_url"] or _prompt("URL of the shop's database, e.g. sqlite:///shop.db"),
        admin_name=told["admin"] or _prompt("Your name"),
        os_user=os_user(),
        root=root,
        passphrase=_new_passphrase() if root == "passphrase" else None,
        kms_key=(told["kms_key"] or _prompt("ARN of the KMS key")) if root == "kms" else "",
        kms_region=told["kms_region"],
        backup_folder=backups,
        look=not later,
    )
    made = set_up(folder.absolute(), answers, SystemClock(), enrol)
    if click.get_current_context().find_root().params["as_json"]:
        show_json({"folder": made.config.parent, "verifier": made.vkey,
                   "recovery_codes": made.recovery_codes, "shares": made.shares})  # fmt: skip
    else:
        _tell(made)


def _prompt(question: str) -> str:
    return str(click.prompt(question, err=True))


def _new_passphrase() -> str:
    first = ask_code("New passphrase (at least 12 characters)")
    if len(first) < 12:  # NIST SP 800-63B-4 asks for 15 alone, 8 beside a second factor
        raise ConfigError("the passphrase has fewer than 12 characters")
    if ask_code("Once more") != first:
        raise ConfigError("the two passphrases differ")
    return first


def enrol(enrolment: Enrolment) -> tuple[str, str]:
    """Show the secret as QR code and text, and ask for two consecutive codes."""
    from guard.cli._qr import show_qr  # noqa: PLC0415  # keeps --help light

    show_qr(enrolment.uri)
    say(f"Scan this with your authenticator app, or type the secret: {enrolment.secret_text}")
    first = ask_code("The code it shows now")
    return first, ask_code("The next code (wait until it changes)")


def _tell(made: Made) -> None:
    say(f"guard is set up in {made.config.parent}")
    say(f"  verifier key of the ledger, for auditors: {made.vkey}")
    say("  recovery codes, each usable once instead of a code; print them, they are not shown again:")
    for code in made.recovery_codes:
        click.echo(f"    {code}")
    say("  recovery kit: give each file to another person, then delete it here; two of three open every key:")
    for share in made.shares:
        say(f"    {share}")
    say("Next: guard doctor, then guard data scan")
