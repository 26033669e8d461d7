"""The main job from end to end on the sample shop, each step shown with what to look at.

Runs on a clock of its own that starts yesterday and is stepped; codes come from a phone in memory. Every step goes
through the same door as a person's command.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from guard import demo
from guard.access import code_at
from guard.actions import audit, backup, breach, data, fields, report, retention
from guard.actions._perform import Action, Caller, perform
from guard.actions.setup import Answers, Made, set_up
from guard.clock import SteppedClock, SystemClock
from guard.errors import GuardError

if TYPE_CHECKING:
    from guard.access import Enrolment
    from guard.app import App
    from guard.canon import Json
    from guard.events import Progress

R = TypeVar("R")
PHONE = "demo-phone.txt"


class NotEqualError(GuardError):
    """A step of the tour did not show what it promises."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step that was taken: what it did, what to look at, how many seconds of real time it took."""

    name: str
    did: str
    look_at: str
    seconds: float


@dataclass(slots=True)
class Tour:
    """Takes the steps one by one. `folder` is new or empty; `os_user` becomes the administrator."""

    folder: Path
    os_user: str
    progress: Progress
    size: demo.Size = field(default_factory=demo.Size)
    clock: SteppedClock = field(default_factory=lambda: SteppedClock(_start()))
    report: Path | None = None
    _secret: str = ""
    _made: Made | None = None
    _planted: list[str] = field(default_factory=list)

    def steps(self) -> Iterator[Step]:
        """Take every step and yield it when it is done. Raises NotEqualError when one does not show its promise."""
        watch = SystemClock()
        for name, step in self._plan().items():
            began = watch.now()
            did, look_at = step()
            yield Step(name, did, look_at, round((watch.now() - began).total_seconds(), 2))

    def _plan(self) -> dict[str, Callable[[], tuple[str, str]]]:
        return {
            "shop": self._shop,
            "init": self._init,
            "scan": self._scan,
            "back up": self._first_backup,
            "encrypt": self._encrypt,
            "verify": self._verify,
            "search": self._search,
            "finalize": self._finalize,
            "retention": self._retention,
            "next night": self._second_backup,
            "check": self._check_backup,
            "restore": self._restore,
            "breach": self._breach,
            "audit": self._audit,
            "report": self._report,
        }

    # What every step needs -------------------------------------------------------------------------------------------

    @property
    def app(self) -> App:
        """The demo's app."""
        assert self._made is not None, "init comes before"  # noqa: S101
        return self._made.app

    @property
    def shop(self) -> Path:
        """The sample shop's database."""
        return self.folder / "shop.db"

    def _code(self, _: str = "") -> str:
        """Wait for the phone's next code and return it."""
        self.clock.step(timedelta(seconds=30))
        return code_at(self._secret, self.clock.now())

    def _do(self, action: Action[R], **args: Json) -> R:
        self.clock.step(timedelta(minutes=1))
        caller = Caller(self.app.access.person_of(self.os_user), self._code, progress=self.progress)
        return perform(self.app, caller, action, **args)

    # The steps -------------------------------------------------------------------------------------------------------

    def _shop(self) -> tuple[str, str]:
        self.folder.mkdir(parents=True, exist_ok=True)
        counts = demo.make_shop(self.shop, self.clock.now(), size=self.size)
        told = f"made a shop of {counts['customer']:,} customers and {counts['orders']:,} orders"
        return told, str(self.shop)

    def _init(self) -> tuple[str, str]:
        answers = Answers("Lantern & Leaf (demo)", f"sqlite:///{self.shop.name}", "Demo Admin", self.os_user, demo=True)
        self._made = set_up(self.folder, answers, self.clock, self._enrol)
        demo.write_policies(self.folder / "policies")
        phone = self.folder / PHONE
        phone.touch(mode=0o600)
        phone.write_text(f"The demo administrator's TOTP secret: {self._secret}\n")
        return "set guard up: keys, recovery kit, administrator, entry 0 of the ledger", f"{self.folder}/guard.toml"

    def _enrol(self, enrolment: Enrolment) -> tuple[str, str]:
        self._secret = enrolment.secret_text
        return self._code(), self._code()

    def _scan(self) -> tuple[str, str]:
        self.app.discovery.scan(self.progress)
        self._do(data.ACCEPT)
        sealed = [column.at for column in self.app.catalog.encrypted()]
        self._planted = demo.values_only_in(self.shop, sealed)
        total = len(self.app.catalog.column)
        return f"found {len(sealed)} columns to seal among {total}; the catalog is accepted", "policies/catalog.toml"

    def _first_backup(self) -> tuple[str, str]:
        self._do(backup.INIT)
        done = self._do(backup.RUN).done["local"]
        return f"backed up {_mib(done.bytes)} into {_mib(done.stored)}, sealed", "guard backup list"

    def _encrypt(self) -> tuple[str, str]:
        before = len({found.value for found in demo.find_values([self.shop], self._planted)})
        if before < len(self._planted):
            raise NotEqualError(f"the search finds only {before} of {len(self._planted)} values in the unsealed shop")
        done = self._do(fields.ENCRYPT, columns=[])
        values = sum(each.rows for each in done)
        return f"sealed {values:,} values in {len(done)} columns, in place", "guard fields status"

    def _verify(self) -> tuple[str, str]:
        done = self._do(fields.VERIFY, columns=[])
        return f"opened all {sum(each.opened for each in done):,} values and compared digests", "guard audit list"

    def _search(self) -> tuple[str, str]:
        email = next(value for value in self._planted if "@" in value and " " not in value)
        found = self._do(fields.SEARCH, column="customer.email", value=email.upper())
        if len(found.rows) != 1:
            raise NotEqualError(f"{len(found.rows)} customers are found by one sealed e-mail address")
        return "found a customer by a sealed e-mail address, in other letters", "guard fields search customer.email -"

    def _finalize(self) -> tuple[str, str]:
        self._do(fields.FINALIZE, columns=[])
        files = sorted(self.folder.glob("shop.db*"))
        left = list(demo.find_values(files, self._planted))
        if left:
            raise NotEqualError(f"{len(left)} sealed values are still in clear in {left[0].path}")
        return f"searched for {len(self._planted)} sealed values: all found before, none now", f"{self.shop}"

    def _retention(self) -> tuple[str, str]:
        plan = self.app.retention.plan()
        done = self._do(retention.RUN, plan=plan.digest)
        return f"treated {done.total:,} rows past their date", "policies/retention.toml; guard retention plan"

    def _second_backup(self) -> tuple[str, str]:
        self.clock.step(timedelta(days=1))
        done = self._do(backup.RUN).done["local"]
        return f"backed up the next night: {_mib(done.stored)} new of {_mib(done.bytes)}", "guard backup list"

    def _check_backup(self) -> tuple[str, str]:
        done = self._do(backup.VERIFY, store="local", data=True)
        return f"read every byte of {done.snapshots} snapshots in the store: sound", "guard backup verify --data"

    def _restore(self) -> tuple[str, str]:
        scratch = self.folder / "restored"
        newest = self.app.backups.newest("local")
        assert newest is not None, "the night before was backed up"  # noqa: S101
        self._do(backup.RESTORE, store="local", snapshot=newest.id, to=str(scratch))
        found = next(scratch.rglob(self.shop.name))
        compared = demo.compare(self.shop, found, ignore=())
        if compared.differences:
            raise NotEqualError(f"{compared.differences} rows of the restored shop differ")
        return f"restored the night's backup: all {compared.rows:,} rows are equal", f"{found}"

    def _breach(self) -> tuple[str, str]:
        now = self.clock.now()
        self._do(
            breach.OPEN,
            title="Laptop with a support export lost on a train",
            detected=_text(now - timedelta(hours=3)),
            aware=_text(now - timedelta(hours=2)),
            reason="The owner reported the loss",
            occurred=None,
        )
        due = min(deadline.due for deadline in self.app.breaches.status()[0].deadlines)
        return f"opened an incident: the authority is told by {due:%Y-%m-%d %H:%M} UTC", "guard breach status"

    def _audit(self) -> tuple[str, str]:
        self._do(audit.ANCHOR)
        verdict = self.app.ledger.verify(self.progress)
        return f"verified all {verdict.size} entries of the ledger, anchored", "guard audit verify"

    def _report(self) -> tuple[str, str]:
        built = self._do(report.BUILD, **{"from": None, "to": None, "out": None})
        self.report = Path(built.path)
        return "wrote the report: every claim names its entries", str(self.report)


def _start() -> datetime:
    """A day and an hour before now: the demo ends in the recent past, so the real clock goes on where it stopped."""
    return SystemClock().now().replace(microsecond=0) - timedelta(hours=25)


def _text(at: datetime) -> str:
    return at.isoformat(timespec="minutes")


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"
