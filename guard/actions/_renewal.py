"""Make a restored state one that goes on.

What it gave no longer holds, for it may have been spent or taken back since. Key ids that may have been given since are
passed over. Its ledger ends, and a new log begins that says where, and what was lost.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from guard import faults
from guard.access import Voided, void
from guard.access.people import People
from guard.actions import unrecorded
from guard.audit import Ledger, Query, Restart
from guard.crypto import random, store
from guard.errors import TamperedError
from guard.events import Activity, Ending, Event, PrincipalId, RunId
from guard.state import orphan

if TYPE_CHECKING:
    from guard.app import App
    from guard.backup import Snapshot
    from guard.backup.erasures import Newer
    from guard.state import Tx

PASSED_OVER: Final = 1 << 24
"""Key ids that are never given, at the least: more than a shop makes keys of people between two backups of state."""

_SPREAD: Final = 4
"""Bytes of a random number of ids besides: a snapshot that is restored twice must not give the ids of the first time
again. Some 500 restores one after another use up all ids."""


@dataclass(frozen=True, slots=True)
class Came:
    """Where a restored state came from, and who brought it."""

    store: str
    snapshot: Snapshot
    erasures: Newer
    gate: str
    """What opened the repository, and the keys."""
    os_user: str


@dataclass(frozen=True, slots=True)
class Back:
    """State as it came back, and what did not come back with it."""

    store: str
    snapshot: str
    taken: datetime
    """When the snapshot was begun: what state learned after that is lost."""
    restart: Restart
    voided: Voided
    runs: int
    """Runs that were open in the snapshot, the backup's own among them."""
    erasures: int
    """Entries of the erasure register that are newer than the snapshot."""
    told_later: int
    """Entries about what was done while state was lost."""
    known: bool
    """Whether guard knows the OS user who did this."""
    os_users: tuple[str, ...]
    """The OS users guard knows."""
    vkey: str
    """The verifier key of the new log, for auditors."""
    run: RunId
    who: PrincipalId
    """Whoever did it, as the ledger names them."""
    shredded: int = 0
    """Keys of people that were shredded after the snapshot, and were shredded again."""
    policies: bool = False
    """Whether the policies came back too; else there were some."""
    problems: tuple[str, ...] = ()


def renew(app: App, came: Came) -> Back:
    """Renew the state of `app`, which nobody else has open, and return what became of it.

    Raises DeniedError when no root key or share opens its keys, TamperedError when it is not what the backup says.
    """
    if app.state.store_id.hex != came.snapshot.manifest.store:
        raise TamperedError(f"snapshot {came.snapshot.id[:12]} holds the state of another store than it says")
    return _Renewal(app, came).run()


class _Renewal:
    def __init__(self, app: App, came: Came) -> None:
        self._app = app
        self._came = came
        self._state = app.state
        self._digest = app.keyring.digest
        self._passed_over = PASSED_OVER + int.from_bytes(random.token(_SPREAD), "big")
        self._ledger = Ledger(app.state, app.ledger_seeds, app.anchors)
        self._state.attach(self._ledger.append)
        with self._state.read() as tx:
            self._who = unrecorded.Who(self._digest, {each.os_user: each.id for each in People(self._digest).list(tx)})

    def run(self) -> Back:
        waiting = unrecorded.read(self._app.home / "var")
        restart = self._restart()
        voided, runs = self._state.write(self._pass_over)
        faults.point("state.restore.voided")
        later = self._told_later(waiting)
        who, digests = self._who.of(self._came.os_user)
        counts = {
            **asdict(voided),
            "runs": runs,
            "erasures": len(self._came.erasures.entries),
            "key ids passed over": self._passed_over,
            "told later": len(later),
            "unreadable notes": waiting.broken,
        }
        done = Event(
            "state.restore",
            Ending.DONE,
            who,
            self._app.new_run(),
            Activity.ENTITY_UPDATE,
            objects=(f"{self._came.store}/{self._came.snapshot.id}",),
            counts=counts,
            digests=digests | self._register(),
            facts={"gate": self._came.gate, "taken": self._came.snapshot.manifest.at},
        )
        self._state.write(_nothing, restart.event(who, done.run), done, *later)
        faults.point("state.restore.recorded")
        return self._back(done, restart, voided, len(later))

    def _register(self) -> dict[str, str]:
        entries = self._came.erasures.entries
        return {"erasures": entries[-1].position.head.hex()} if entries else {}

    def _pass_over(self, tx: Tx) -> tuple[Voided, int]:
        store.take_id(tx, self._passed_over)
        return void(tx, self._digest, self._state.clock.now()), orphan(tx)

    def _restart(self) -> Restart:
        try:
            return self._ledger.restart()
        except TamperedError as error:
            error.hint = (
                "take another snapshot; or, to bring this one back all the same, take the anchor out of guard.toml "
                "until it is done, and look into it then"
            )
            raise

    def _told_later(self, waiting: unrecorded.Unrecorded) -> list[Event]:
        runs = {RunId(note.run) for note in waiting.notes}
        return list(waiting.events({run for run in runs if self._ledger.list(Query(run=run), 1)}, self._who))

    def _back(self, done: Event, restart: Restart, voided: Voided, told_later: int) -> Back:
        return Back(
            store=self._came.store,
            snapshot=self._came.snapshot.id,
            taken=self._came.snapshot.at,
            restart=restart,
            voided=voided,
            runs=done.counts["runs"],
            erasures=len(self._came.erasures.entries),
            told_later=told_later,
            known=self._came.os_user in self._who.people,
            os_users=tuple(sorted(self._who.people)),
            vkey=self._ledger.vkey,
            run=done.run,
            who=done.who,
            problems=tuple(f"store {name}: its erasures: {why}" for name, why in self._came.erasures.failed.items()),
        )


def _nothing(_: Tx) -> None:
    """Nothing but the events is to be remembered."""
