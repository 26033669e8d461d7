"""How the shop stands, worst first: one line for each thing that may need a person. Reads only.

What cannot be looked at is red, never left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from guard.access import Stage
from guard.actions import agent, vault
from guard.actions.access import four_eyes
from guard.audit.anchors.enough import late, what_helps
from guard.config import POLICIES, load_policy
from guard.crypto import kit
from guard.errors import GuardError
from guard.events import Ending

if TYPE_CHECKING:
    from guard.app import App
    from guard.backup import Snapshot
    from guard.jobs import Run

STALE_BACKUP = timedelta(hours=26)
"""A nightly backup is late when the newest snapshot is older than a day and two hours of running time."""

KIT_TEST = timedelta(days=365)
"""How often the recovery kit is tested: people move, paper fades, and nobody looks before it burns."""


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
            Light.RED,
            "ledger",
            f"{verdict.size} entries, not anchored: {verdict.unanchored}",
            what_helps(verdict.anchors),
        )
    else:
        weak = "; weak: all anchors lie on its own disk" if all(each.weak for each in verdict.anchors) else ""
        text = f"{verdict.size} entries verified, {verdict.tail} above the newest anchor{weak}"
        yield Line(Light.GREEN, "ledger", text, "runbooks/anchors.md" if weak else "")
        for why in late(verdict.anchors, app.ledger.policy, app.clock.now()):
            yield Line(Light.YELLOW, "ledger", why, "guard audit anchor")
    for run in app.state.stale_runs():
        text = f"{run.what} of {run.since:%Y-%m-%d %H:%M} UTC was killed"
        yield Line(Light.YELLOW, "run", text, "run it again: it goes on where it stopped")


def _keys(app: App) -> Iterator[Line]:
    if missing := app.lacks():
        for each in missing:
            yield Line(Light.RED, "keys", f"missing: {each.what}", each.remedy)
    else:
        count = sum(key.opens for key in app.keyring.list())
        yield Line(Light.GREEN, "keys", f"{count} keys, all in the recovery kit and backed up")


def _waiting(app: App) -> Iterator[Line]:
    for key in app.keyring.list():
        if key.state == "waiting":
            text = f"version {key.version} of {key.purpose} waits for a backup of state, unused"
            yield Line(Light.YELLOW, "keys", text, f"guard keys rotate {key.purpose}")
    for name, why in app.roots.away.items():
        yield Line(Light.YELLOW, "keys", f"{name} did not answer: {why}", why.hint or "guard doctor looks at each root")


def _kit(app: App) -> Iterator[Line]:
    if any((app.home / "recovery-kit").glob("guard-share-*")):
        yield Line(Light.YELLOW, "keys", "the recovery shares still lie on this machine", "give them to three people")
    dates = kit.dates(app.keyring.ring)
    last = dates.tested_at or dates.made_at
    if last is not None and app.clock.now() - last > KIT_TEST:
        how = f"tested {dates.tested_at:%Y-%m-%d}" if dates.tested_at else "never tested"
        text = f"the recovery kit was made {dates.made_at:%Y-%m-%d} and {how}"
        yield Line(Light.YELLOW, "keys", text, "guard keys recovery test, with two of its shares")


def _vault(app: App) -> Iterator[Line]:
    if not vault.is_wanted(app):
        return
    if lack := vault.too_few(app):
        yield Line(Light.RED, "vault", lack, "add a [[vault]] for each to guard.toml")
    sound = 0
    for seen, wrong in vault.mirrors(app):
        sound += not wrong
        if wrong:
            yield Line(Light.RED, "vault", f"mirror {seen.name}: {'; '.join(wrong)}", "guard doctor; guard run epoch")
    for is_wrong, text, remedy in vault.standing(app):
        yield Line(Light.RED if is_wrong else Light.YELLOW if remedy else Light.GREEN, "vault", text, remedy)
    if sound:
        yield Line(Light.GREEN, "vault", f"{sound} mirrors hold the keys of epochs")


def _backups(app: App) -> Iterator[Line]:
    now = app.clock.now()
    if not app.settings.backup.store:
        yield Line(Light.RED, "backup", "guard.toml names no store", "add a [[backup.store]]")
    for store in app.settings.backup.store:
        try:
            yield _snapshot(store.name, app.backups.newest(store.name), now)
        except GuardError as error:  # of one store; the others are looked at all the same
            yield Line(Light.RED, "backup", f"store {store.name} could not be looked at: {error}", error.hint or "")


def _snapshot(store: str, newest: Snapshot | None, now: datetime) -> Line:
    """Tell of a store's newest snapshot. One that lacks a whole source is no backup of the shop, however fresh."""
    if newest is None:
        return Line(Light.RED, "backup", f"no snapshot in store {store}", "guard backup init, guard backup run")
    lacks_one = not all(source.covered for source in newest.manifest.sources)
    is_red = lacks_one or now - newest.at > STALE_BACKUP
    gaps = "".join(f"; {gap}" for gap in newest.manifest.gaps)
    return Line(
        Light.RED if is_red else Light.YELLOW if gaps else Light.GREEN,
        "backup",
        f"store {store}: newest snapshot of {newest.at:%Y-%m-%d %H:%M} UTC{gaps}",
        "mend what is missing, then guard backup run" if gaps else "guard backup run",
    )


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
    half = [each.at for each in columns if each.state in {"indexing", "sealing", "opening"}]
    loose = [each.at for each in columns if each.state == "sealed"]
    leaks = [each.at for each in columns if each.state in {"sealed", "strict"} and (each.plain or each.trouble)]
    if leaks:
        text = f"{len(leaks)} columns that should be sealed hold plain text, or are in trouble: {_some(leaks)}"
        yield Line(Light.RED, "fields", text, "guard fields status")
    if plain:
        yield Line(Light.RED, "fields", f"{len(plain)} columns in clear: {_some(plain)}", "guard fields encrypt")
    if half:
        yield Line(Light.RED, "fields", f"{len(half)} columns half-way: {_some(half)}", "guard fields encrypt")
    if loose:
        yield Line(Light.YELLOW, "fields", f"{len(loose)} columns sealed, old values remain", "guard fields finalize")
    if columns and not any((plain, half, loose, leaks)):
        yield Line(Light.GREEN, "fields", f"{len(columns)} columns sealed and strict")


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _jobs(app: App) -> Iterator[Line]:
    latest = {run.job: run for run in reversed(app.jobs.runs(limit=200)) if run.ended or run.outcome}
    for _, run in sorted(latest.items()):
        yield _job(run)
    if not latest:
        yield Line(Light.YELLOW, "job", "no job has run yet", "guard daemon, or guard run --due from cron")


def _job(run: Run) -> Line:
    """Tell how the newest run of a job ended, or how its last try did while others follow."""
    state = run.state if run.ended else run.outcome
    text = f"{run.job}: {state} for {run.slot:%Y-%m-%d %H:%M} UTC"
    if state == "ok":
        return Line(Light.GREEN, "job", text)
    text += f": {run.reason or 'no reason recorded'}"
    if run.not_before:
        text += f"; next try {run.not_before:%Y-%m-%d %H:%M} UTC"
    return Line(Light.RED, "job", text, f"guard run {run.job}")


def _policies(app: App) -> Iterator[Line]:
    for name, shape in POLICIES.items():
        if (app.policies / f"{name}.toml").exists() or name != "catalog":
            try:
                load_policy(app.policies, name, shape)
            except GuardError as error:
                yield Line(Light.RED, "policy", str(error).splitlines()[0], "guard config check names every mistake")


def _access(app: App) -> Iterator[Line]:
    for each in app.access.requests():
        if each.until is None and each.kind != "standing":
            text = f"the standing approval of {each.action} by {each.by} no longer counts: they may give none today"
            yield Line(Light.YELLOW, "access", text, f"guard access grant {each.action}, by somebody who may")
        elif each.until is not None:
            text = f"{each.action} was asked for by {each.by}: {each.kind} until {each.until:%Y-%m-%d %H:%M} UTC"
            approve = f"guard access approve {each.id}, by another person; " if each.kind == Stage.ASKS else ""
            yield Line(Light.YELLOW, "access", text, f"{approve}guard access refuse {each.id} cancels it")
    if lack := four_eyes(app):
        yield Line(Light.YELLOW, "access", *lack)
    latest = app.ledger.list(limit=200)
    denied = sum(entry.outcome is Ending.DENIED and entry.facts.get("reason") != "waits" for entry in latest)
    if denied:
        yield Line(
            Light.YELLOW, "access", f"{denied} of the last 200 entries are denials", "guard audit list --outcome denied"
        )


def _agent(app: App) -> Iterator[Line]:
    found = agent.standing(app)
    yield Line(Light.RED if found.is_well is False else Light.GREEN, "agent", found.text, found.remedy)


_LOOKS: dict[str, Callable[[App], Iterator[Line]]] = {
    "breach": _breaches,
    "ledger": _ledger,
    "keys": _keys,
    "waiting keys": _waiting,
    "recovery kit": _kit,
    "vault": _vault,
    "backup": _backups,
    "catalog": _catalog,
    "fields": _fields,
    "job": _jobs,
    "policy": _policies,
    "access": _access,
    "agent": _agent,
}
