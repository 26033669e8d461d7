"""The wiring: the only package that knows every room. A room is imported when it is first needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from guard.app._ground import AskSecret, declare_tables
from guard.app._saved import Saved
from guard.config import Catalog, load_policy
from guard.events import RunId

if TYPE_CHECKING:
    from guard.audit.pruning import Pruning
    from guard.breach import Breaches
    from guard.canon import KeyPart
    from guard.config.retention import RetentionPolicy
    from guard.config.span import Span
    from guard.fields import Fields
    from guard.jobs import Jobs
    from guard.privacy import CatalogFile, Discovery, Retention
    from guard.report import Reports
    from guard.shop import Shop

__all__ = ["App", "AskSecret", "declare_tables"]


class App(Saved):
    """One shop under guard: its folder, its settings, and every room, opened when first needed."""

    @cached_property
    def shop(self) -> Shop:
        """The shop's own database."""
        from guard.shop import Shop

        settings = self.settings.shop
        return Shop.connect(self.url(settings.url), settings.schema, settings.tls)

    def fate_in_shop(self, run: RunId) -> tuple[str, int]:
        """Return what became of a killed run by what the shop says, and how many rows it had changed."""
        from guard.shop import progress

        found = progress.resolve(self.shop, run)
        return found.state.value, found.rows

    @property
    def fields(self) -> Fields:
        """The sealed columns, as the accepted catalog has them now."""
        from guard.fields import Fields
        from guard.fields.facts import Outside

        outside = Outside(
            vault=lambda: self.vault.missing(),  # noqa: PLW0108  # opened when it is asked
            backup=self.shop_saved_at,
            copies=self.old_backups,
        )
        keys = self.subjects if self.settings.vault else None
        shop, catalog, state = self.shop, self.catalog, self.state
        return Fields(
            shop,
            catalog,
            self.keyring,
            state,
            self.clock,
            self.lacks,
            outside=outside,
            subjects=keys,
            budget=self.budget,
        )

    # Where personal data lies, and how long it is kept ---------------------------------------------------------------

    @cached_property
    def discovery(self) -> Discovery:
        """Where personal data lies, and the catalog that says so."""
        from guard.config.taxonomy import Taxonomy
        from guard.privacy import CatalogFile, Discovery

        return Discovery(
            self.shop,
            self._catalog_file(CatalogFile),
            load_policy(self.policies, "taxonomy", Taxonomy),
            self._retention_policy,
            frozenset(self._access_policy.tier),
        )

    @property
    def catalog(self) -> Catalog:
        """The catalog that was accepted; an empty one before. Raises InterlockError when the file differs from it."""
        from guard.privacy import CatalogFile

        return self._catalog_file(CatalogFile).accepted()

    def _catalog_file(self, of: type[CatalogFile]) -> CatalogFile:
        return of(self.policies, self.state, self.digest)

    @cached_property
    def retention(self) -> Retention:
        """The retention policy on this shop; each plan reads policy and catalog as they are then."""
        from guard.privacy import Retention, Ruling, Seals

        return Retention(
            self.shop,
            lambda: Ruling.read(self.policies, self.catalog),
            Seals(
                lambda at: self.fields.opener(at),  # noqa: PLW0108  # the fields of that moment
                lambda at: self.fields.sealer(at),  # noqa: PLW0108  # the fields of that moment
                lambda at: self.fields.key_columns(at),  # noqa: PLW0108  # the fields of that moment
                lambda at: self.fields.tokens(at),  # noqa: PLW0108  # the fields of that moment
                lambda tables: self.fields.declared(tables),  # noqa: PLW0108  # the fields of that moment
            ),
            self.state,
            self.clock,
            self.digest,
        )

    @cached_property
    def _retention_policy(self) -> RetentionPolicy:
        from guard.config.retention import RetentionPolicy

        return load_policy(self.policies, "retention", RetentionPolicy)

    def reasons_to_keep(self, class_: str, rows: Mapping[str, Sequence[tuple[KeyPart, ...]]]) -> tuple[str, ...]:
        """Return, in words, why data of a class in a person's rows (keys by table) must not be shredded now."""
        from guard.privacy import Ruling, basis

        return basis.running(self.shop, Ruling.read(self.policies, self.catalog), class_, rows, self.clock.now())

    # Incidents, jobs, reports ----------------------------------------------------------------------------------------

    @cached_property
    def breaches(self) -> Breaches:
        """Incidents and their deadlines."""
        from guard.breach import Breaches
        from guard.config.breach import BreachPolicy

        return Breaches(self.state, load_policy(self.policies, "breach", BreachPolicy), self.clock)

    @cached_property
    def jobs(self) -> Jobs:
        """What is due and what was done."""
        from guard.config.schedule import Schedule
        from guard.jobs import Jobs

        _ = self.ledger  # what was missed is recorded
        return Jobs(self.state, load_policy(self.policies, "schedule", Schedule), self.clock)

    def pruning(self, late: Span | None = None) -> Pruning | None:
        """Return what retention removes of the ledger now; entries that a report still needs stay."""
        from guard.audit import Query
        from guard.report import standing

        entries = self.ledger.entries
        return self.ledger.pruning(lambda: standing(lambda name: entries(Query(what=name))), late=late)

    def incidents(self) -> tuple[str, ...]:
        """Return the ids of the incidents on record, for which evidence has to stay."""
        return tuple(each.incident.id for each in self.breaches.status())

    @cached_property
    def reports(self) -> Reports:
        """Reports on the ledger and the catalog."""
        from guard.report import Reports, Sources

        return Reports(
            Sources(
                entries=self.ledger.entries,
                minimum=self.ledger.minimum,
                checkpoint=self.ledger.checkpoint,
                vkey=lambda: self.ledger.vkey,
                inspect=self.ledger.inspect,
                catalog=lambda: self.catalog,
                breach_rules=lambda: self.breaches.policy.rule,
                shop=self.settings.name,
                demo=lambda: self.demo,
            )
        )
