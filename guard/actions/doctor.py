"""Look at everything guard needs: reached, not reached, or not looked at, each with its remedy. Changes nothing.

A check that cannot be made is a finding, never silence.
"""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from guard.actions import agent, vault
from guard.actions.access import four_eyes
from guard.audit.anchors.enough import counting
from guard.config import POLICIES, load_policy
from guard.config.audit import AuditPolicy
from guard.crypto import rewrap
from guard.crypto.roots import AwayError
from guard.errors import GuardError, UnavailableError

if TYPE_CHECKING:
    from guard.app import App
    from guard.audit import Anchor

LEAST_SPACE = 1 << 30
"""A GiB: below it a backup or a VACUUM of a small shop may not fit."""

EXTRAS = ("detect", "postgres", "mysql", "tsa")
_ELSEWHERE = "put it on another machine, or add an anchor of another kind: runbooks/anchors.md"
_REQUIREMENT = re.compile(r"""([\w.-]+).*?(?:extra == ['"]([\w-]+)['"])?$""")


class Found(StrEnum):
    """How a check ended."""

    WELL = "ok"
    WARNING = "warning"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. `remedy` says what to do when it is not well."""

    what: str
    found: Found
    detail: str
    remedy: str = ""


def examine(app: App) -> Iterator[Check]:
    """Yield every check, in the order in which to mend them."""
    yield from _packages()
    yield from _policies(app)
    for what, look in _LOOKS.items():
        try:
            yield from look(app)
        except GuardError as error:
            yield Check(what, Found.WRONG, str(error), error.hint or "")
        except OSError as error:  # e.g. a folder that this account may not enter
            detail = f"could not be looked at: {error.filename}: {error.strerror}"
            yield Check(what, Found.WRONG, detail, "run it as the account that guard belongs to")


def _packages() -> Iterator[Check]:
    yield Check("Python", Found.WELL, sys.version.split()[0])
    for extra in ("", *EXTRAS):
        names = [name for name, its in _required() if its == extra]
        absent = [name for name in names if _version(name) is None]
        what = f"extra {extra}" if extra else "dependencies"
        if absent:
            remedy = f"pip install 'guard-toolkit[{extra}]'" if extra else "pip install guard-toolkit"
            yield Check(what, Found.WARNING if extra else Found.WRONG, f"missing: {', '.join(absent)}", remedy)
        else:
            yield Check(what, Found.WELL, ", ".join(f"{name} {_version(name)}" for name in names))


def _required() -> list[tuple[str, str]]:
    """Return (distribution, extra or "") for everything guard was packaged to need."""
    lines = importlib.metadata.requires("guard-toolkit") or []
    return [(found[1], found[2] or "") for line in lines if (found := _REQUIREMENT.match(line))]


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _policies(app: App) -> Iterator[Check]:
    read = 0
    for name, shape in POLICIES.items():
        if name == "catalog" and not (app.policies / "catalog.toml").exists():
            yield Check("policy catalog", Found.WARNING, "not there yet", "guard data scan, then guard data accept")
            continue
        try:
            load_policy(app.policies, name, shape)
            read += 1
        except GuardError as error:
            yield Check(f"policy {name}", Found.WRONG, str(error), error.hint or "correct the file")
    yield Check("policies", Found.WELL, f"{read} of {len(POLICIES)} read in {app.policies}")


def _modes(app: App) -> Iterator[Check]:
    roots = [each for each in (app.settings.root, app.settings.root.second) if each is not None]
    files = [app.home / root.path for root in roots if root.kind == "file"]
    if len(roots) > 1:  # one of two may be away; `_roots` tells
        files = [path for path in files if path.exists()]
    for path, most in (
        *((path, 0o600) for path in files),
        (app.home / "keys", 0o700),
        (app.home / "var", 0o700),
        (app.home / "guard.toml", 0o755),
    ):
        if not path.exists():
            remedy = "restore it from where you keep it"
            yield Check(f"mode of {path.name}", Found.WRONG, f"{path} does not exist", remedy)
            continue
        mode = path.stat().st_mode & 0o777
        yield (
            Check(f"mode of {path.name}", Found.WELL, f"{mode:o}")
            if not mode & ~most
            else Check(f"mode of {path.name}", Found.WRONG, f"{mode:o} lets others in", f"chmod {most:o} {path}")
        )


def _space(app: App) -> Iterator[Check]:
    free = shutil.disk_usage(app.home).free
    text = f"{free / (1 << 30):.1f} GiB free where {app.home} lies"
    enough = free >= LEAST_SPACE
    yield Check("disk", Found.WELL if enough else Found.WARNING, text, "" if enough else "make room before a backup")


def _state(app: App) -> Iterator[Check]:
    yield Check("state", Found.WELL, f"{app.state.where}, store {app.state.store_id}")
    last = app.ledger.list(limit=1)
    if not last:
        yield Check("ledger", Found.WRONG, "it is empty: even its first entry is gone", "guard audit verify")
        return
    ahead = last[-1].at - app.clock.now()
    if ahead > timedelta(seconds=5):
        yield Check("clock", Found.WRONG, f"{ahead} behind the last recorded time", "set the clock right")
    else:
        yield Check("clock", Found.WELL, f"{app.clock.now():%Y-%m-%d %H:%M:%S} UTC, not behind what was recorded")
    for run in app.state.stale_runs():
        yield Check(
            "run", Found.WARNING, f"{run.what} of {run.since:%Y-%m-%d %H:%M} UTC was killed", "run it again: it goes on"
        )


def _keys(app: App) -> Iterator[Check]:
    infos = [info for info in app.keyring.list() if info.opens]
    for info in infos:
        app.keyring.by_id(info.id)
    yield Check("keys", Found.WELL, f"root opens all {len(infos)}, commitments right")
    lost = [info for info in infos if not info.recoverable]
    if lost:
        yield Check("recovery kit", Found.WRONG, f"{len(lost)} keys are not sealed to it", "guard keys recovery make")
    else:
        yield Check("recovery kit", Found.WELL, "every key is sealed to it")
    if any((app.home / "recovery-kit").glob("guard-share-*")):
        remedy = "give each to another person and delete the files"
        yield Check("recovery shares", Found.WARNING, "still lie on this machine", remedy)


def _roots(app: App) -> Iterator[Check]:
    """Open the key of keys with each root: the one that is not needed today is the one that is needed when it burns."""
    for each in rewrap.look(app.keyring.ring):
        if each.error is None:
            yield Check(each.name, Found.WELL, f"{each.what} opens the keys")
        else:
            away = isinstance(each.error, AwayError | UnavailableError)
            yield Check(each.name, Found.WARNING if away else Found.WRONG, str(each.error), each.error.hint or "")
    for text in rewrap.unnamed(app.keyring.ring):
        yield Check("roots", Found.WARNING, text, "guard keys rewrap --root takes it away, or name it in guard.toml")


def _shop(app: App) -> Iterator[Check]:
    tables = app.shop.tables()
    yield Check("shop", Found.WELL, f"{app.shop.dialect} at {app.shop.place}, {len(tables)} tables")


def _stores(app: App) -> Iterator[Check]:
    if not app.settings.backup.store:
        yield Check("stores", Found.WRONG, "no [[backup.store]] in guard.toml", "name a place for backups")
    for store in app.settings.backup.store:
        try:
            found = app.backups.newest(store.name)
            detail = f"newest snapshot {found.at:%Y-%m-%d %H:%M} UTC" if found else "no snapshot yet"
            gaps = found.manifest.gaps if found else ()
            yield Check(
                f"store {store.name}",
                Found.WELL if found and not gaps else Found.WARNING,
                "; ".join((detail, *gaps)),
                "" if found and not gaps else "guard backup run",
            )
        except GuardError as error:
            yield Check(f"store {store.name}", Found.WRONG, str(error), error.hint or "")


def _vault(app: App) -> Iterator[Check]:
    if not vault.is_wanted(app):
        return
    if lack := vault.too_few(app):
        yield Check("vault", Found.WRONG, lack, "add a [[vault]] for each to guard.toml")
    for seen, wrong in vault.mirrors(app):
        hint = (seen.trouble.hint if seen.trouble else None) or "guard run epoch puts mirrors right"
        detail = "; ".join(wrong) or seen.where
        yield Check(f"vault {seen.name}", Found.WRONG if wrong else Found.WELL, detail, hint if wrong else "")
    if same := vault.on_one_disk(app):
        detail = f"{', '.join(same)} lie on one disk: both are lost together"
        yield Check("vault disks", Found.WARNING, detail, "put one of them on another machine, in a bucket or in KMS")
    for is_wrong, text, remedy in vault.standing(app):
        yield Check("vault", Found.WRONG if is_wrong else Found.WELL, text, remedy if is_wrong else "")


def _anchors(app: App) -> Iterator[Check]:
    anchors = app.ledger.anchors
    if not anchors:
        yield Check("anchors", Found.WRONG, "no [[audit.anchor]] in guard.toml", "runbooks/anchors.md")
        return
    for anchor in anchors:
        yield _anchor(app, anchor)
    asked = load_policy(app.policies, "audit", AuditPolicy).anchors
    if (named := counting([anchor.weak for anchor in anchors])) < asked:
        text = f"policies/audit.toml asks for {asked} that vouch, guard.toml names {named} that count"
        yield Check("anchors", Found.WRONG, text, "runbooks/anchors.md")


def _anchor(app: App, anchor: Anchor) -> Check:
    what = f"anchor {anchor.name}"
    try:
        wrong = anchor.check(app.ledger.book)
    except GuardError as error:
        return Check(what, Found.WRONG, str(error), error.hint or "runbooks/anchors.md")
    if wrong:
        return Check(what, Found.WRONG, "; ".join(wrong), "runbooks/anchors.md")
    if anchor.weak:
        return Check(what, Found.WARNING, f"{anchor.where} is on the same disk as the ledger: weak", _ELSEWHERE)
    return Check(what, Found.WELL, anchor.where)


def _agent(app: App) -> Iterator[Check]:
    found = agent.standing(app)
    yield Check("agent", Found.WRONG if found.is_well is False else Found.WELL, found.text, found.remedy)
    for name, folder in agent.shut_out(app).items():
        detail = f"service {name} runs as another OS user, who may not enter {folder}"
        yield Check("agent", Found.WRONG, detail, 'set agent.socket in guard.toml, e.g. to "/run/guard/guard.sock"')


def _people(app: App) -> Iterator[Check]:
    lack = four_eyes(app)
    text, remedy = lack or ("what is dual takes different people, and there are enough", "")
    yield Check("four eyes", Found.WARNING if lack else Found.WELL, text, remedy)


def _mode(app: App) -> Iterator[Check]:
    mode = agent.mode(app)
    yield Check("mode", Found.WELL if mode.is_well else Found.WARNING, mode.text, mode.remedy)
    if mode.exchange:
        yield Check("exchange", Found.WRONG, mode.exchange, "runbooks/several-people.md")


_LOOKS: dict[str, Callable[[App], Iterator[Check]]] = {
    "files": _modes,
    "disk": _space,
    "state": _state,
    "keys": _keys,
    "roots": _roots,
    "shop": _shop,
    "stores": _stores,
    "vault": _vault,
    "anchors": _anchors,
    "agent": _agent,
    "four eyes": _people,
    "mode": _mode,
}
