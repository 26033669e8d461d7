"""Retention on a real shop: plan what is due, and carry the plan out in batches that can stop anywhere.

The rows themselves say what was treated, so a plan that was interrupted is simply made again for its own day.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from guard.canon import Json, json_bytes, key_bytes
from guard.clock import Clock, stamp
from guard.config import Catalog
from guard.config.load import load_bytes
from guard.config.retention import RetentionPolicy
from guard.errors import ConfigError, InterlockError
from guard.events import Progress, RunId, silent
from guard.privacy import store
from guard.privacy.anonymize import Digest
from guard.privacy.plan import Key, RulePlan, RuleRows, Seals, chunks
from guard.privacy.rules import Ground, Treatment, fit
from guard.privacy.store import ShopConnection
from guard.shop import Shop, progress
from guard.state import State, Tx

_MEDIAN_OVER = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class RetentionPlan:
    """What is due on one day. `digest` binds policy, catalog, rows and counts."""

    as_of: datetime
    digest: str
    basis: str
    """Digest of the policy and the catalog."""
    rules: tuple[RulePlan, ...]
    keys: Mapping[str, tuple[Key, ...]] = field(repr=False)
    """The rows of each rule."""
    resumed: bool = False
    """Whether it is the rest of a plan that was begun before."""

    @property
    def rows(self) -> int:
        """Rows to treat, over all rules."""
        return sum(rule.due for rule in self.rules)

    @property
    def over(self) -> tuple[str, ...]:
        """Why it waits for a person; empty when a standing approval is enough."""
        return tuple(f"{rule.rule}: {rule.over}" for rule in self.rules if rule.over)

    @property
    def lines(self) -> tuple[str, ...]:
        """The plan in words, one rule a line, then why it waits for a person."""
        return (*(rule.line for rule in self.rules), *(f"waits for a person: {why}" for why in self.over))


@dataclass(frozen=True, slots=True)
class Retained:
    """What carrying out a plan did."""

    rows: Mapping[str, int]
    """Rows treated, by rule."""
    children: Mapping[str, int]
    """Rows deleted with the row they refer to, by table."""
    passed: int
    """Planned rows that were left alone, because they were no longer due."""

    @property
    def total(self) -> int:
        """Rows treated, over all rules."""
        return sum(self.rows.values())


@dataclass(frozen=True, slots=True)
class Ruling:
    """What plans rest on: the accepted catalog, and the policy with the bytes it was read from."""

    catalog: Catalog
    policy: RetentionPolicy
    policy_bytes: bytes

    @classmethod
    def read(cls, folder: Path, catalog: Catalog) -> "Ruling":
        """Read `folder/retention.toml`. Raises ConfigError naming every mistake in it."""
        path = folder / "retention.toml"
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise ConfigError(
                f"cannot read {path}: {error.strerror}",
                hint="`guard init` in a new folder writes a default retention.toml",
            ) from error
        return cls(catalog, load_bytes(raw, str(path), RetentionPolicy), raw)


@dataclass(slots=True)
class Retention:
    """The retention policy on one shop.

    `ruling` is asked anew for each plan, so a changed policy counts at once. `digest` takes a domain and bytes to a
    keyed digest in hex.
    """

    shop: Shop
    ruling: Callable[[], Ruling]
    seals: Seals
    state: State
    clock: Clock
    digest: Digest
    _latest: RetentionPlan | None = field(default=None, init=False, repr=False)

    def plan(self, as_of: datetime | None = None) -> RetentionPlan:
        """Return what is due at the start of this UTC day (or of that of `as_of`). Changes nothing.

        Raises ConfigError naming every rule that does not fit the schema or the catalog.
        """
        day = (as_of or self.clock.now()).astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        ruling = self.ruling()
        with self.state.read() as tx:
            before = store.history(tx, day - _MEDIAN_OVER)
        plans: list[RulePlan] = []
        keys: dict[str, tuple[Key, ...]] = {}
        gone: dict[str, set[Key]] = {}
        with self.shop.read() as connection:
            for treatment in self._treatments(ruling):
                rule = treatment.rule
                found, due = self._rows(treatment, day).plan(
                    connection, gone, ruling.policy.limit, before.get(rule.name, ())
                )
                plans.append(found)
                keys[rule.name] = due
                if rule.method == "delete":
                    gone.setdefault(rule.table, set()).update(due)
        basis = self._basis(ruling)
        facts: Json = [stamp(day), basis, *(self._facts(found, keys[found.rule]) for found in plans)]
        digest = self.digest("retention plan", json_bytes(facts))[:32]  # 128 bits, short enough to copy
        self._latest = RetentionPlan(day, digest, basis, tuple(plans), keys)
        return self._latest

    def planned(self, digest: str) -> RetentionPlan:
        """Return the plan with `digest`: what is due now, or the rest of a plan that was begun and interrupted.

        Raises InterlockError when what is due has changed since the plan was made.
        """
        if self._latest is not None and self._latest.digest == digest:
            return self._latest
        now = self.plan()
        if now.digest == digest:
            return now
        with self.state.read() as tx:
            begun = store.begun_plan(tx, digest)
        if begun is None or begun.done or begun.basis != now.basis:
            was_done = begun is not None and begun.done
            raise InterlockError(
                f"the plan {digest} {'was carried out already' if was_done else 'is not what is due now'}",
                hint="guard retention plan shows what is due, and the digest to run",
            )
        self._latest = replace(self.plan(begun.as_of), digest=digest, resumed=True)
        return self._latest

    def policy_bytes(self) -> bytes:
        """Return the policy as it is now: what a standing approval covers."""
        return self.ruling().policy_bytes

    def run(self, plan: RetentionPlan, run: RunId, tell: Progress = silent) -> Retained:
        """Carry out `plan` rule by rule, each batch of rows in one transaction of the shop with its mark.

        A row that is no longer due when its batch comes (somebody ordered again) is left alone. What it returns goes to
        `remember` in the transaction that records the end. Raises InterlockError when policy or catalog changed since.
        """
        self._latest = None
        ruling = self.ruling()
        if self._basis(ruling) != plan.basis:
            raise InterlockError("the policy or the catalog changed since the plan", hint="guard retention plan")
        self.state.write(lambda tx: store.begin_plan(tx, plan.digest, plan.as_of, plan.basis))
        treated: dict[str, int] = {}
        children: dict[str, int] = {}
        with self.shop.begin() as connection:
            progress.announce(self.shop, connection, run, [retaining(name) for name, keys in plan.keys.items() if keys])
        for treatment in self._treatments(ruling):
            name = treatment.rule.name
            work = _Work(self._rows(treatment, plan.as_of), progress.Bracket(run, retaining(name)), tell)
            treated[name] = work.run(plan.keys.get(name, ()))
            for table, count in work.children.items():
                children[table] = children.get(table, 0) + count
        return Retained(treated, children, plan.rows - sum(treated.values()))

    def remember(self, plan: RetentionPlan, run: RunId, done: Retained) -> Callable[[Tx], None]:
        """Return the work that notes in state that the plan was carried out, and how many rows each rule treated."""
        now = self.clock.now()
        return lambda tx: store.end_plan(tx, plan.digest, store.Treated(run, now, done.rows))

    def _basis(self, ruling: Ruling) -> str:
        columns = [[column.at, column.category, column.anonymize, column.class_] for column in ruling.catalog.column]
        return self.digest("retention basis", json_bytes([ruling.policy_bytes.hex(), columns]))

    def _treatments(self, ruling: Ruling) -> tuple[Treatment, ...]:
        tables = self.seals.declared(self.shop.tables(fresh=True))
        return fit(Ground(ruling.policy, ruling.catalog, tables, self.shop.dialect == "sqlite"))

    def _rows(self, treatment: Treatment, as_of: datetime) -> RuleRows:
        return RuleRows(self.shop, treatment, self.seals, self.digest, as_of)

    def _facts(self, plan: RulePlan, keys: Sequence[Key]) -> Json:
        return {
            "rule": plan.rule,
            "method": plan.method,
            "rows": plan.due,
            "columns": list(plan.columns),
            "children": dict(plan.children),
            "keys": self.digest("retention keys", b"".join(key_bytes(key) for key in keys)),
        }


def retaining(rule: str) -> str:
    """Return the name of the work "treat what this rule says" in the shop's table of progress."""
    return f"retain {rule}"


class _Work:
    """Carries out one rule."""

    def __init__(self, rule_rows: RuleRows, bracket: progress.Bracket, tell: Progress) -> None:
        self._rows = rule_rows
        self._shop = rule_rows.shop
        self._treatment = rule_rows.treatment
        self._bracket = bracket
        self._tell = tell
        self.children: dict[str, int] = {}

    def run(self, keys: Sequence[Key]) -> int:
        """Treat the rows `keys` as far as they are still due; return how many."""
        if not keys:
            return 0
        with self._shop.begin() as connection:
            progress.take_over(self._shop, connection, self._bracket.work)
            progress.begin(self._shop, connection, self._bracket)
        total = 0
        for number, chunk in enumerate(chunks(keys), 1):
            with self._shop.begin() as connection:
                done = self._batch(connection, chunk)
                mark = progress.Batch(key_bytes(chunk[0]), key_bytes(chunk[-1]), done)
                progress.note(self._shop, connection, self._bracket, number, mark)
            total += done
            self._tell(self._treatment.rule.name, total, len(keys))
        with self._shop.begin() as connection:
            progress.end(self._shop, connection, self._bracket, forget=[self._bracket.work])
        return total

    def _batch(self, connection: ShopConnection, chunk: Sequence[Key]) -> int:
        found = list(store.candidates(self._shop, connection, self._treatment, chunk))
        due = [row for row in found if self._rows.is_due(row)]
        if self._treatment.rule.method == "delete":
            return self._delete(connection, [row.key for row in due])
        changes: dict[tuple[str, ...], list[tuple[Key, Sequence[object]]]] = {}
        for row in due:
            if new := self._rows.new_values(row):
                changes.setdefault(tuple(new), []).append((row.key, tuple(new.values())))
        for columns, rows in changes.items():
            store.update_rows(self._shop, connection, self._treatment.table, columns, rows)
        return sum(map(len, changes.values()))

    def _delete(self, connection: ShopConnection, due: Sequence[Key]) -> int:
        held = self._rows.held(connection, due, {}) if due else set()
        keys = [key for key in due if key not in held]
        if not keys:
            return 0
        for path in self._treatment.cascade:
            name = path.tables[0].name
            gone = store.delete_referring(self._shop, connection, path, keys)
            self.children[name] = self.children.get(name, 0) + gone
        deleted = store.delete_rows(self._shop, connection, self._treatment.table, keys)
        if deleted != len(keys):
            raise InterlockError(
                f"{self._treatment.table.name}: {len(keys)} rows to delete, but the database deleted {deleted}",
                hint="nothing of this batch was kept; look for triggers on the table",
            )
        return deleted
