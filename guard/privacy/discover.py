"""Scan the shop: which columns hold whose personal data. Reads a sample; writes a proposal, never a decision."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import msgspec

from guard.config import Catalog, Column
from guard.config.taxonomy import UNCLASSIFIED, Taxonomy
from guard.crypto.envelope import looks_sealed
from guard.events import Progress, silent
from guard.privacy import store
from guard.privacy.detect import patterns
from guard.privacy.detect.engine import Find, presidio
from guard.privacy.detect.evidence import Detector, Evidence, Sample, own_patterns, weigh
from guard.privacy.detect.names import Setting, named, tokens
from guard.privacy.judge import Place, judge
from guard.privacy.proposal import UNDECIDED_TIER, Context, Finding, Looked, Proposal, kept, propose
from guard.privacy.subjects import settings, subjects, taxed
from guard.shop import Shop, ShopColumn, Table
from guard.shop.catalog import Sort

SAMPLE = 200
"""Distinct values of a column that are looked at, at most."""

_HINT = "pip install 'guard-toolkit[detect]'"


def detectors(own: Find = own_patterns, other: Callable[[], Find] = presidio) -> tuple[Detector, ...]:
    """Return who can look here: our own patterns, and Presidio where the extra `detect` is installed."""
    missing = patterns.missing()
    mine = [Detector("own patterns", own)]
    mine += [Detector(f"own patterns that need {name}", None, f"{name} is not installed: {_HINT}") for name in missing]
    try:
        found = other() if find_spec("presidio_analyzer") else None
    except ImportError:
        found = None
    return (*mine, Detector("Presidio", found, "" if found else f"it is not installed: {_HINT}"))


@dataclass(frozen=True, slots=True)
class Scanner:
    """Looks at one shop. `known` is the catalog there is already: what it says is kept."""

    shop: Shop
    taxonomy: Taxonomy
    known: Catalog
    detectors: tuple[Detector, ...]

    def scan(self, progress: Progress = silent) -> Proposal:
        """Return a finding for every column of the schema, and the catalog they make."""
        tables = self.shop.tables(fresh=True)
        found = settings(tables)
        findings: list[Finding] = []
        columns: list[Column] = []
        with self.shop.read() as connection:
            for number, (name, table) in enumerate(tables.items(), 1):
                looked_at = [column.name for column in table.columns if column.sort in {Sort.TEXT, Sort.OTHER}]
                size = store.SampleSize(looks_sealed, SAMPLE)
                values = store.samples(self.shop, connection, table, looked_at, size)
                for column in table.columns:
                    finding, entry = self._look(table, column, found[name], values.get(column.name, Sample()))
                    findings.append(finding)
                    columns += [entry] if entry is not None else []
                progress("tables", number, len(tables))
        categories = {column.at: column.category for column in columns}
        whose = dict(self.known.subject) or subjects(tables, found, categories)
        catalog = Catalog(subject=whose, column=tuple(columns), link=self.known.link)
        return Proposal(tuple(findings), catalog, self.looked())

    def looked(self) -> tuple[Looked, ...]:
        """Return who looks and who cannot."""
        return tuple(Looked(each.name, "looked" if each.find else "not looked", each.why) for each in self.detectors)

    def _look(
        self, table: Table, column: ShopColumn, setting: Setting, sample: Sample
    ) -> tuple[Finding, Column | None]:
        at = f"{table.name}.{column.name}"
        if at.count(".") != 1:
            why = ("its name holds a dot, so the catalog cannot name it",)
            return Finding(at, UNCLASSIFIED, UNDECIDED_TIER, "none", 0.0, why, 0), None
        evidence = self._evidence(column, setting, sample)
        if (entry := self.known.find(at)) is not None and entry.category != UNCLASSIFIED:
            return kept(entry, evidence), entry
        verdict = judge(_place(table, column, setting), evidence)
        class_ = "tax" if taxed(table, setting) else "account"
        finding, fresh = propose(Context(self.taxonomy, table, column, class_, self.shop.dialect), verdict, evidence)
        return finding, fresh if entry is None else msgspec.structs.replace(fresh, id=entry.id)

    def _evidence(self, column: ShopColumn, setting: Setting, sample: Sample) -> Evidence:
        said = named(column.name, setting)
        return weigh(sample, self.detectors, tokens(column.name), said.category if said else None)


def _place(table: Table, column: ShopColumn, setting: Setting) -> Place:
    referring = any(column.name in key.columns for key in table.foreign_keys)
    referred = any(column.name in key.to_columns for _, key in table.referred)
    return Place(column, setting, column.name in table.key, referring or referred)
