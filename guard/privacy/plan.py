"""What is due by one rule: which rows, what else refers to them, what their values become. Reads; changes nothing."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from guard.canon import KeyPart
from guard.config.retention import Limit
from guard.errors import InterlockError
from guard.privacy import anonymize, retain, store
from guard.privacy.anonymize import Digest
from guard.privacy.rules import Path, Treatment
from guard.privacy.store import ShopConnection
from guard.shop import Shop, Table, rows

Key = store.Key
Change = Callable[[Sequence[KeyPart], object], object]
"""Key parts and a value in, what is read or what is to be stored out."""

BATCH = 500
"""Rows that are read, changed and marked together."""


Beside = tuple[tuple[str, ...], Callable[[object], Sequence[object]]]
"""The columns that are written with a value, by which it is searched, and what goes into them."""


def _nothing_beside(_: str) -> Beside:
    return (), lambda _: ()


@dataclass(frozen=True, slots=True)
class Seals:
    """How sealed columns are read and written: functions of "Table.Column", handed in by the app."""

    opener: Callable[[str], Change]
    sealer: Callable[[str], Change]
    key_columns: Callable[[str], Sequence[str]]
    tokens: Callable[[str], Beside] = _nothing_beside
    declared: Callable[[Mapping[str, Table]], Mapping[str, Table]] = lambda tables: tables
    """Gives tables the types their sealed columns have for the shop."""


@dataclass(frozen=True, slots=True)
class RulePlan:
    """What one rule is about to do."""

    rule: str
    table: str
    method: str
    due: int
    """Rows to treat now."""
    treated: int
    """Rows that are due and were treated before."""
    held: int
    """Rows that are due, but other rows still refer to them."""
    undated: int
    """Rows without a date that can be relied on; they are kept."""
    rows: int
    """Rows of the table."""
    columns: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    """Columns a law keeps longer than this rule."""
    children: Mapping[str, int] = field(default_factory=dict)
    """Rows of other tables that go with them."""
    over: str | None = None
    """Why it waits for a person although a standing approval covers the policy."""

    @property
    def line(self) -> str:
        """The plan in one line of words."""
        done = "delete" if self.method == "delete" else f"anonymize {', '.join(self.columns)} in"
        more = [f"{count} rows of {name} with them" for name, count in self.children.items() if count]
        more += [f"{self.held} held by rows that refer to them"] if self.held else []
        more += [f"{self.undated} without a date, kept"] if self.undated else []
        more += [f"left for a law: {', '.join(self.left)}"] if self.left else []
        return "; ".join([f"{self.rule}: {done} {self.due} of {self.rows} rows of {self.table}", *more])


class RuleRows:
    """Which rows of a rule are due at a time, and what their values become. Shared by plan and work."""

    def __init__(self, shop: Shop, treatment: Treatment, seals: Seals, digest: Digest, as_of: datetime) -> None:
        self.shop = shop
        self.treatment = treatment
        self._digest = digest
        self._as_of = as_of
        self._places = [_Place.of(treatment, seals, each.at) for each in treatment.treated]

    def is_due(self, row: store.Candidate) -> bool | None:
        """Tell whether a row's term is over; None when it has no date that can be relied on."""
        since = retain.moment(row.since if row.since is not None else row.otherwise)
        if since is None:
            return None
        return retain.due(since, self.treatment.keep, self.treatment.count, self._as_of)

    def new_values(self, row: store.Candidate) -> dict[str, object]:
        """Return what is to be stored in a row, by column; nothing when all of it was treated before."""
        found: dict[str, object] = {}
        for each, old, place in zip(self.treatment.treated, row.values, self._places, strict=True):
            key = tuple(row.key[at] for at in place.order)
            value = place.opener(key, old)
            new = anonymize.treat(each.way, value, self._digest)
            if not anonymize.same(value, new):
                names, make = place.tokens
                found.update({each.name: place.sealer(key, new), **dict(zip(names, make(new), strict=True))})
        return found

    def held(self, connection: ShopConnection, keys: Sequence[Key], gone: Mapping[str, set[Key]]) -> set[Key]:
        """Return those of `keys` that rows refer to which neither go with them nor are among `gone`."""
        found: set[Key] = set()
        for path in self.treatment.holders:
            leaving = gone.get(path.tables[0].name, set())
            found.update(key for key, child in self._children(connection, path, keys) if child not in leaving)
        return found

    def plan(
        self, connection: ShopConnection, gone: Mapping[str, set[Key]], limit: Limit, before: Sequence[int]
    ) -> tuple[RulePlan, tuple[Key, ...]]:
        """Return what is due, and the keys of the rows. `gone`: keys of rows that rules before this one delete."""
        bound = retain.latest(self.treatment.keep, self._as_of)
        due: list[Key] = []
        treated = undated = 0
        for row in store.candidates(self.shop, connection, self.treatment, None, bound):
            match self.is_due(row):
                case None:
                    undated += 1
                case True if self._is_open(row):
                    due.append(row.key)
                case True:
                    treated += 1
        held = self.held(connection, due, gone) if self.treatment.holders else set()
        keys = tuple(key for key in due if key not in held)
        total = rows.count(self.shop, connection, self.treatment.table)
        rule = self.treatment.rule
        children = {
            path.tables[0]: sum(1 for _ in self._children(connection, path, keys)) for path in self.treatment.cascade
        }
        plan = RulePlan(
            rule=rule.name,
            table=rule.table,
            method=rule.method,
            due=len(keys),
            treated=treated,
            held=len(held),
            undated=undated,
            rows=total,
            columns=tuple(each.name for each in self.treatment.treated),
            left=self.treatment.left,
            children={table.name: count for table, count in children.items()},
            over=retain.over_limit(len(keys), total, before, limit) or self._too_many(connection, children, limit),
        )
        return plan, keys

    def _too_many(self, connection: ShopConnection, children: Mapping[Table, int], limit: Limit) -> str | None:
        """Say which table loses more rows with these than the limit allows; None when none does."""
        reasons = (
            (table.name, retain.over_limit(count, rows.count(self.shop, connection, table), (), limit))
            for table, count in children.items()
        )
        return next((f"of {name}, {why}" for name, why in reasons if why), None)

    def _is_open(self, row: store.Candidate) -> bool:
        return self.treatment.rule.method == "delete" or bool(self.new_values(row))

    def _children(
        self, connection: ShopConnection, path: Path, keys: Sequence[Key]
    ) -> Iterator[tuple[Key, Key | None]]:
        for chunk in chunks(keys):
            yield from store.referring(self.shop, connection, path, chunk)


def chunks(keys: Sequence[Key]) -> Iterator[Sequence[Key]]:
    """Cut keys into batches."""
    return (keys[at : at + BATCH] for at in range(0, len(keys), BATCH))


@dataclass(frozen=True, slots=True)
class _Place:
    opener: Change
    sealer: Change
    order: tuple[int, ...]
    """Where in the table's key the parts stand that the column is bound to."""
    tokens: Beside

    @classmethod
    def of(cls, treatment: Treatment, seals: Seals, at: str) -> "_Place":
        bound, key = seals.key_columns(at), treatment.table.key
        if set(bound) != set(key):
            raise InterlockError(
                f"{at} was sealed for rows with the key {', '.join(bound)}, which {treatment.table.name} no longer has",
                hint="decrypt the column before its table gets another key",
            )
        order = tuple(key.index(name) for name in bound)
        return cls(seals.opener(at), seals.sealer(at), order, seals.tokens(at))
