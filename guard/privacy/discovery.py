"""The facade of discovery: scan, compare, accept."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from guard.config import Catalog
from guard.config.retention import RetentionPolicy
from guard.config.taxonomy import Taxonomy
from guard.events import Progress, silent
from guard.privacy.catalog import (
    PROPOSED,
    PROPOSED_HEAD,
    Acceptance,
    CatalogFile,
    Standard,
    Standing,
    compare,
    write_atomically,
)
from guard.privacy.detect.evidence import Detector
from guard.privacy.discover import Scanner, detectors
from guard.privacy.proposal import Proposal, to_toml
from guard.privacy.rename import NOTHING_SEALED, Known, RenamePlan, by_hand, follow, missing
from guard.shop import Shop
from guard.shop.rename import Rename
from guard.state import Tx


@dataclass(frozen=True, slots=True)
class Discovery:
    """Finds personal data in `shop` and keeps the catalog. `tiers` are those of policies/access.toml."""

    shop: Shop
    file: CatalogFile
    taxonomy: Taxonomy
    retention: RetentionPolicy
    tiers: frozenset[str] = frozenset()
    look: Callable[[], tuple[Detector, ...]] = detectors
    """Who looks at values; opened when a scan begins, because Presidio takes a second to load."""

    @property
    def proposed(self) -> Path:
        """Where a scan writes its proposal."""
        return self.file.folder / PROPOSED

    def scan(self, progress: Progress = silent) -> Proposal:
        """Look at every column of the schema and write the proposal beside the catalog.

        What catalog.toml has decided already is kept. The shop is only read, at most 200 distinct values a column.
        """
        proposal = Scanner(self.shop, self.taxonomy, self.file.written(), self.look()).scan(progress)
        notes = {each.at: (f"confidence {each.confidence:.2f}, {each.sample} values looked at", *each.why)
                 for each in proposal.findings}  # fmt: skip
        head = [*PROPOSED_HEAD, *(f"{each.by}: {each.outcome} {each.why}" for each in proposal.looked)]
        write_atomically(self.proposed, to_toml(proposal.catalog, notes, head))
        return proposal

    def catalog(self) -> tuple[Standing, ...]:
        """Return how every column of schema and catalog stands. Raises InterlockError for a catalog nobody accepted."""
        return compare(self.file.accepted(), self.shop.tables(fresh=True))

    def accepted_catalog(self) -> Catalog:
        """Return the accepted catalog. Raises InterlockError when the file is not the one that was accepted."""
        return self.file.accepted()

    def prepare(self, source: Path | None = None) -> Acceptance:
        """Check `source` (the proposal when None) and give ids to new columns. Changes nothing.

        Raises ConfigError naming every mistake.
        """
        tables = self.shop.tables(fresh=True)
        standard = Standard(tables, self.taxonomy, self.retention, self.shop.dialect, self.tiers)
        return self.file.prepare(source or self.proposed, standard)

    def accept(self, acceptance: Acceptance) -> Callable[[Tx], None]:
        """Write catalog.toml and return the work that notes its digest and ids with the record of the action."""
        self.file.write(acceptance)
        return self.file.remember(acceptance)

    def plan_rename(self, old: str, new: str, sealed: Mapping[int, Collection[str]] = NOTHING_SEALED) -> RenamePlan:
        """Work out what following a rename changes: two tables, or two columns "Table.Column" of one table.

        `sealed`: by the id of each sealed column the columns that name its rows. Raises InterlockError while the shop
        has the old name, ConfigError when it lacks the new one or guard never knew the old one.
        """
        rename = Rename.parse(old, new)
        tables = self.shop.tables(fresh=True)
        known = Known(self.file.accepted(), self.file.ids(), tables, sealed)
        found = follow(known, rename)
        return RenamePlan(
            rename,
            self.file.acceptance(found.catalog),
            found.moved,
            found.given_up,
            tuple(by_hand(self.retention, rename)),
            missing(found.catalog, tables),
        )

    def rename(self, plan: RenamePlan) -> Callable[[Tx], None]:
        """Lay the new catalog beside the old; return the work that makes it the one that counts."""
        self.file.lay_beside(plan.acceptance)
        return self.file.renamed(plan.acceptance, plan.moved, plan.given_up)
