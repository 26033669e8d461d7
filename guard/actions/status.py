"""How the shop stands, worst first: one line for each thing that may need a person. Reads only.

What cannot be looked at is red, never left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from guard.errors import GuardError
from guard.events import Ending

if TYPE_CHECKING:
    from guard.app import App

STALE_BACKUP = timedelta(hours=26)
"""A nightly backup is late when the newest snapshot is older than a day and two hours of running time."""


class Light(StrEnum):
    """How urgent a line is, the most urgent first."""

    RED = "red"
    YELLOW = "yellow"
    GREEN = "green"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the screen. `remedy` is a command or a deed."""

    light: Light
    what: str
    text: str
    remedy: str = ""


def overview(app: App) -> tuple[Line, ...]:
    """Return every line, red ones first."""
    lines: list[Line] = []
    for what, look in _LOOKS.items():
        try:
            lines += look(app)
        except GuardError as error:
            lines.append(Line(Light.RED, what, f"could not be looked at: {error}", error.hint or ""))
    return tuple(sorted(lines, key=lambda line: list(Light).index(line.light)))


def _breaches(app: App) -> Iterator[Line]:
    standing = app.breaches.status()
    for each in standing:
        due = min(each.deadlines, key=lambda deadline: deadline.due)
        light = Light.RED if each.pressing else Light.YELLOW
        text = f"incident {each.incident.id}: {due.rule} by {due.due:%Y-%m-%d %H:%M} UTC"
        yield Line(light, "breach", text, "guard breach status; runbooks/breach.md")
    if not standing:
        yield Line(Light.GREEN, "breach", "no incident")


def _ledger(app: App) -> Iterator[Line]:
    verdict = app.ledger.inspect()
    if verdict.unanchored is not None:
        yield Line(
            Light.RED, "ledger", f"{verdict.size} entries, not anchored: {verdict.unanchored}", "guard audit anchor"
        )
    else:
        yield Line(Light.GREEN, "ledger", f"{verdict.size} entries verified, {verdict.tail} above the newest anchor")
    for run in app.state.stale_runs():
        text = f"{run.what} of {run.since:%Y-%m-%d %H:%M} UTC was killed"
        yield Line(Light.YELLOW, "run", text, "run it again: it goes on where it stopped")


def _keys(app: App) -> Iterator[Line]:
    if missing := app.not_ready():
        for each in missing:
            text, _, remedy = each.partition(": ")
            yield Line(Light.RED, "keys", f"missing: {text}", remedy)
    else:
        yield Line(Light.GREEN, "keys", f"{len(app.keyring.list())} keys, all in the recovery kit and backed up")
    if any((app.home / "recovery-kit").glob("guard-share-*")):
        yield Line(Light.YELLOW, "keys", "the recovery shares still lie on this machine", "give them to three people")


def _backups(app: App) -> Iterator[Line]:
    now = app.clock.now()
    if not app.settings.backup.store:
        yield Line(Light.RED, "backup", "guard.toml names no store", "add a [[backup.store]]")
    for store in app.settings.backup.store:
        newest = app.backups.newest(store.name)
        if newest is None:
            yield Line(Light.RED, "backup", f"no snapshot in store {store.name}", "guard backup init, guard backup run")
        elif now - newest.at > STALE_BACKUP:
            text = f"store {store.name}: newest snapshot of {newest.at:%Y-%m-%d %H:%M} UTC"
            yield Line(Light.RED, "backup", text, "guard backup run")
        else:
            yield Line(Light.GREEN, "backup", f"store {store.name}: snapshot of {newest.at:%Y-%m-%d %H:%M} UTC")


def _catalog(app: App) -> Iterator[Line]:
    if not app.catalog.column:
        yield Line(Light.RED, "catalog", "none accepted yet", "guard data scan, then guard data accept")
        return
    unknown = [each.at for each in app.discovery.catalog() if each.is_finding]
    if unknown:
        yield Line(Light.RED, "catalog", f"unclassified or gone: {_some(unknown)}", "guard data catalog")
    else:
        yield Line(Light.GREEN, "catalog", f"{len(app.catalog.column)} columns classified")


def _fields(app: App) -> Iterator[Line]:
    columns = app.fields.status()
    plain = [each.at for each in columns if each.state == "plain"]
    half = [each.at for each in columns if each.state in {"sealing", "opening"}]
    loose = [each.at for each in columns if each.state == "sealed"]
    if plain:
        yield Line(Light.RED, "fields", f"{len(plain)} columns in clear: {_some(plain)}", "guard fields encrypt")
    if half:
        yield Line(Light.RED, "fields", f"{len(half)} columns half-way: {_some(half)}", "guard fields encrypt")
    if loose:
        yield Line(Light.YELLOW, "fields", f"{len(loose)} columns sealed, old values remain", "guard fields finalize")
    if columns and not plain and not half and not loose:
        yield Line(Light.GREEN, "fields", f"{len(columns)} columns sealed and strict")


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _jobs(app: App) -> Iterator[Line]:
    latest = {run.job: run for run in reversed(app.jobs.runs(limit=200)) if run.state.value not in {"due", "running"}}
    for job, run in sorted(latest.items()):
        if run.state.value == "ok":
            yield Line(Light.GREEN, "job", f"{job}: ok for {run.slot:%Y-%m-%d %H:%M} UTC")
        else:
            text = f"{job}: {run.state.value} for {run.slot:%Y-%m-%d %H:%M} UTC: {run.reason or 'no reason recorded'}"
            yield Line(Light.RED, "job", text, f"guard run {job}")
    if not latest:
        yield Line(Light.YELLOW, "job", "no job has run yet", "guard daemon, or guard run --due from cron")


def _access(app: App) -> Iterator[Line]:
    for each in app.access.requests():
        if each.kind != "standing":
            text = f"{each.action} was asked for by {each.by}: {each.kind} until {each.until:%Y-%m-%d %H:%M} UTC"
            yield Line(Light.YELLOW, "access", text, f"guard access refuse {each.id} cancels it")
    latest = app.ledger.list(limit=200)
    denied = sum(entry.outcome is Ending.DENIED and entry.facts.get("reason") != "waits" for entry in latest)
    if denied:
        yield Line(
            Light.YELLOW, "access", f"{denied} of the last 200 entries are denials", "guard audit list --outcome denied"
        )


_LOOKS: dict[str, Callable[[App], Iterator[Line]]] = {
    "breach": _breaches,
    "ledger": _ledger,
    "keys": _keys,
    "backup": _backups,
    "catalog": _catalog,
    "fields": _fields,
    "job": _jobs,
    "access": _access,
}
