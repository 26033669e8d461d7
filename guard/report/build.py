"""Build a report from what the wiring hands in, and write it where it was asked for."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from guard.config import Catalog
from guard.config.breach import BreachRule
from guard.crypto.sign import Verifier
from guard.errors import ConfigError, InterlockError, TamperedError, UnavailableError
from guard.report.controls import Promises, Result, Verdict, judge
from guard.report.evidence import EPOCH, EntryView, Evidence
from guard.report.html import MARK, Page, Signed, render
from guard.report.standing import counted


@dataclass(frozen=True, slots=True)
class Sources:
    """Where a report takes its facts from; each function is called once a report."""

    entries: Callable[[], Iterable[EntryView]]
    """All entries of the ledger that are at hand, oldest first."""
    minimum: Callable[[], int]
    """From which number on every entry is at hand; of older ones, retention has left some."""
    checkpoint: Callable[[], str]
    """The newest signed checkpoint; entries above its size are left out."""
    vkey: Callable[[], str]
    """The verifier key of the ledger."""
    inspect: Callable[[], object]
    """Recompute the ledger; raises TamperedError when it is not what was written."""
    catalog: Callable[[], Catalog]
    breach_rules: Callable[[], tuple[BreachRule, ...]]
    shop: str
    """The shop's name."""
    demo: Callable[[], bool]
    """Whether the store is marked as a demo."""


@dataclass(frozen=True)
class Report:
    """A report that was built: its bytes, and what it is about."""

    html: bytes
    size: int
    """How many entries the ledger had."""
    since: datetime | None
    at: datetime
    """The time it speaks for."""
    verdicts: tuple[Verdict, ...]

    @cached_property
    def sha256(self) -> str:
        """The digest of the file, hex; anybody can compare it with `sha256sum`."""
        return sha256(self.html).hexdigest()

    @property
    def name(self) -> str:
        """The name it has unless another is asked for."""
        period = f"{self.since:%Y%m%d}-" if self.since else ""
        return f"report-{period}{self.at:%Y%m%dT%H%M%SZ}-{self.size}.html"

    @property
    def tally(self) -> dict[str, int]:
        """How many claims stand how: not_satisfied, not_evaluated, satisfied."""
        return {result.name.lower(): sum(verdict.result is result for verdict in self.verdicts) for result in Result}


class Reports:
    """Builds the reports of one shop."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def build(self, since: datetime | None = None, until: datetime | None = None) -> Report:
        """Return the report about `since` up to, and without, `until`; about everything by default.

        Raises TamperedError when the ledger does not verify: over a changed ledger there is no report. Raises
        ConfigError when the period is empty or the ledger has no entry in it.
        """
        if since and until and since >= until:
            raise ConfigError("the period is empty: it ends before it begins")
        self._sources.inspect()
        signed = self._signed()
        minimum = self._sources.minimum()
        entries = [entry for entry in self._sources.entries() if entry.n < signed.size]
        if (count := sum(entry.n >= minimum for entry in entries)) != signed.size - minimum:
            raise TamperedError(f"the ledger has {minimum + count} entries, but its checkpoint signs {signed.size}")
        entries = counted(entries, minimum)
        told = tuple(entry for entry in entries if until is None or entry.at < until)
        if not told or (since and told[-1].at < since):
            raise ConfigError("the ledger has no entry in this period")
        evidence = Evidence(told, until or told[-1].at, since or EPOCH, minimum)
        promises = Promises(self._sources.catalog(), self._sources.breach_rules())
        verdicts = judge(evidence, promises)
        page = Page(self._sources.shop, self._sources.demo(), since, until, evidence, promises, verdicts, signed)
        return Report(render(page), signed.size, since, evidence.at, verdicts)

    def _signed(self) -> Signed:
        note, vkey = self._sources.checkpoint(), self._sources.vkey()
        origin, size, root = Verifier.from_vkey(vkey).open_note(note).split("\n")[:3]
        return Signed(note, vkey, origin, int(size), root)

    def write(self, report: Report, path: Path, *, folder: bool = False) -> Path:
        """Write `report` to a file, or under its own name into a folder, in one step; returns the file.

        What is a folder already counts as one, and with `folder` everything does. Raises InterlockError when the file
        exists and is no report of guard's, UnavailableError when it cannot be written.
        """
        target = path / report.name if folder or path.is_dir() else path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists() and not _is_report(target):
                raise InterlockError(f"{target} is there and is no report of guard's", hint="name another file")
            _replace(target, report.html)
        except OSError as error:
            raise UnavailableError(f"cannot write {target}: {error.strerror}") from error
        return target


def _replace(target: Path, content: bytes) -> None:
    fresh = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        fresh.write_bytes(content)
        fresh.replace(target)
    finally:
        fresh.unlink(missing_ok=True)


def _is_report(path: Path) -> bool:
    with path.open("rb") as file:
        return MARK in file.read(len(MARK) + 200)
