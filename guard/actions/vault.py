"""How the vault stands, for `guard doctor` and `guard status`: mirrors, epochs, receipts. Reads only."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from guard.actions.epoch import epochs, late
from guard.crypto.mirrors import FolderMirror
from guard.crypto.vault import LEAST

if TYPE_CHECKING:
    from guard.app import App
    from guard.crypto.vault import Seen


def is_wanted(app: App) -> bool:
    """Tell whether this store has a vault, or columns whose values are to be sealed under people's keys."""
    bound = any(column.bind == "subject" for column in app.catalog.encrypted())
    return bool(app.settings.vault) or bound or epochs(app).current is not None


def mirrors(app: App) -> Iterator[tuple[Seen, tuple[str, ...]]]:
    """Yield each mirror as it is found now, and what is wrong with it, in words."""
    for seen in app.vault.look():
        wrong = [str(seen.trouble)] if seen.trouble else []
        wrong += [f"the key of epoch {each.name} is not there" for each in seen.lacking]
        wrong += [f"the key of epoch {each.name} was deleted there, and is there again" for each in seen.risen]
        wrong += [f"{len(seen.unknown)} keys are there that state does not know"] if seen.unknown else []
        yield seen, tuple(wrong)


def on_one_disk(app: App) -> tuple[str, ...]:
    """Return the names of mirrors that share a disk with another one: both would be lost together."""
    folders = {each.name: each.root for each in app.vault.mirrors if isinstance(each, FolderMirror)}
    disks = {name: root.stat().st_dev for name, root in folders.items() if root.is_dir()}
    return tuple(name for name, disk in disks.items() if list(disks.values()).count(disk) > 1)


def too_few(app: App) -> str | None:
    """Say that mirrors are missing; None when there are enough."""
    found = len(app.vault.mirrors)
    return None if found >= LEAST else f"{found} of {LEAST} mirrors: people's keys need {LEAST} to be safe in"


def standing(app: App) -> Iterator[tuple[bool, str, str]]:
    """Yield what stands out about epochs and receipts: (whether it is wrong, in words, what to do)."""
    for each in late(app):
        yield True, f"the key of epoch {each.name} should have been deleted by now", "guard run epoch says what fails"
    if left := app.shredder.unfinished():
        yield True, f"{len(left)} receipts of shredding have steps left", "guard run epoch"
    known = {epoch.id: epoch for epoch in app.vault.epochs()}
    pending = [fate.until for each in app.shredder.receipts() if (fate := app.shredder.fate(each, known)).until]
    if pending:
        yield False, f"{len(pending)} shredded keys are pending in backups until {_day(max(pending))}", ""
    if app.subjects.unsaved(None)[1]:
        newer, total = app.subjects.unsaved(app.backups.state_saved_at())
        if newer:
            text = (
                f"{newer} of {total} keys of people are in no backup of state yet: if state is lost, so is their data"
            )
            yield False, text, "guard state backup; the nightly guard backup run includes it"


def _day(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
