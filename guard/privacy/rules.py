"""Fit the rules of `policies/retention.toml` to schema and catalog. Pure; names every mistake at once."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from guard.config import Catalog, Protect, Span
from guard.config.retention import CountFrom, RetentionPolicy, Rule
from guard.errors import ConfigError
from guard.privacy.anonymize import Way
from guard.shop import Table
from guard.shop.catalog import Sort
from guard.shop.graph import Link, Step, steps, subject_path
from guard.shop.rows import key_trouble


@dataclass(frozen=True, slots=True)
class Path:
    """A chain of references: `steps` lead from `tables[0]` to `tables[-1]`."""

    tables: tuple[Table, ...]
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class Treated:
    """A column whose values are anonymized."""

    at: str
    name: str
    way: Way


@dataclass(frozen=True, slots=True)
class Treatment:
    """A rule that fits the schema: where its dates come from, what it treats, what goes with a row, what holds it."""

    rule: Rule
    table: Table
    keep: Span
    count: CountFrom
    since: tuple[Path, str]
    """From the table with the date to the rule's own, and the date's column."""
    since_sort: Sort
    otherwise: str | None = None
    treated: tuple[Treated, ...] = ()
    left: tuple[str, ...] = ()
    """Columns that a law keeps longer than this rule."""
    cascade: tuple[Path, ...] = ()
    """Whose rows are deleted with the row they refer to, those that refer to others first."""
    holders: tuple[Path, ...] = ()
    """Whose rows keep a row from being deleted."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What rules are fitted to."""

    policy: RetentionPolicy
    catalog: Catalog
    tables: Mapping[str, Table]
    text_dates: bool
    """Whether the database stores dates as texts."""

    @property
    def links(self) -> tuple[Link, ...]:
        """The references the catalog declares."""
        return tuple(Link(*link.from_.split(".", 1), *link.to.split(".", 1)) for link in self.catalog.link)


class _Wrong(Exception):  # noqa: N818  # carries a mistake to the list of mistakes, never leaves this module
    pass


def fit(ground: Ground) -> tuple[Treatment, ...]:
    """Return the treatment of every rule, in their order. Raises ConfigError naming every mistake in them."""
    out: list[Treatment] = []
    mistakes: list[str] = []
    for number, rule in enumerate(ground.policy.rule, 1):
        where = f"retention.toml: rule[{number}] ({rule.name})"
        try:
            found = list(_mistakes(ground, rule))
            mistakes += [f"{where}: {text}" for text in found]
            if not found:
                out.append(_treatment(ground, rule))
        except _Wrong as wrong:
            mistakes.append(f"{where}: {wrong}")
    if mistakes:
        raise ConfigError("\n".join(mistakes), hint="`guard data catalog` lists tables, columns and classes")
    return tuple(out)


def _mistakes(ground: Ground, rule: Rule) -> Iterator[str]:
    """Yield what can be said about a rule without fitting it."""
    table = ground.tables.get(rule.table)
    if table is None:
        yield f"table: the shop has no table {rule.table}"
        return
    if trouble := table.trouble or key_trouble(table):
        yield f"table: {trouble}; its rows cannot be named"
    for key, at in (("since", rule.since), ("otherwise", rule.otherwise)):
        if at is not None and (problem := _no_date(ground, at)):
            yield f"{key}: {problem}"
    for name in rule.where:
        if problem := _incomparable(ground, table, name):
            yield f"where: {problem}"
    yield from (f"cascade: the shop has no table {name}" for name in rule.cascade if name not in ground.tables)


def _incomparable(ground: Ground, table: Table, name: str) -> str | None:
    at = f"{table.name}.{name}"
    if table.find(name) is None:
        return f"the shop has no column {at}"
    return f"{at} is sealed; its values cannot be compared" if _is_sealed(ground, at) else None


def _no_date(ground: Ground, at: str) -> str | None:
    name, _, column = at.partition(".")
    table = ground.tables.get(name)
    found = table.find(column) if table else None
    if found is None:
        return f"the shop has no column {at}"
    if found.sort in {Sort.BOOLEAN, Sort.BINARY}:
        return f"{at} is {found.type}, not a date"
    return f"{at} is sealed; its dates cannot be read" if _is_sealed(ground, at) else None


def _is_sealed(ground: Ground, at: str) -> bool:
    known = ground.catalog.find(at)
    return known is not None and known.protect is not Protect.NONE


def _treatment(ground: Ground, rule: Rule) -> Treatment:
    table = ground.tables[rule.table]
    keep, count = ground.policy.term(rule)
    source, _, column = rule.since.partition(".")
    path = _path(ground, source, rule.table)
    if path is None:
        raise _Wrong(f"since: nothing leads from {source} to {rule.table}; declare a [[link]] in the catalog")
    treatment = Treatment(
        rule,
        table,
        keep,
        count,
        (path, column),
        ground.tables[source].column(column).sort,
        rule.otherwise and rule.otherwise.partition(".")[2],
    )
    return _anonymizing(ground, treatment) if rule.method == "anonymize" else _deleting(ground, treatment)


def _path(ground: Ground, start: str, end: str) -> Path | None:
    if start == end:
        return Path((ground.tables[end],))
    found = subject_path(ground.tables, start, end, ground.links)
    if found is None:
        return None
    return Path((ground.tables[start], *(ground.tables[step.to_table] for step in found)), found)


def _anonymizing(ground: Ground, treatment: Treatment) -> Treatment:
    rule, table = treatment.rule, treatment.table
    known = [(ground.catalog.find(f"{table.name}.{column.name}"), column) for column in table.columns]
    chosen = [(entry, column) for entry, column in known if entry is not None and entry.anonymize != "keep"]
    treated = tuple(
        Treated(entry.at, column.name, Way(entry.anonymize, entry.category, column, ground.text_dates))
        for entry, column in chosen
        if ground.policy.covers(rule, entry.class_)
    )
    left = tuple(entry.at for entry, _ in chosen if not ground.policy.covers(rule, entry.class_))
    if not treated:
        why = f"the law keeps {', '.join(left)} longer" if left else 'the catalog has no column here with "anonymize"'
        raise _Wrong(f"method: nothing in {table.name} to anonymize: {why}")
    if troubles := [f"{each.at}: {trouble}" for each in treated if (trouble := each.way.trouble())]:
        raise _Wrong(f"anonymize: {'; '.join(troubles)} (see catalog.toml)")
    return replace(treatment, treated=treated, left=left)


def _deleting(ground: Ground, treatment: Treatment) -> Treatment:
    rule = treatment.rule
    order = _cascade_order(ground, rule)
    kept = sorted(
        {
            column.at
            for column in ground.catalog.column
            if column.table in {rule.table, *rule.cascade} and not ground.policy.covers(rule, column.class_)
        }
    )
    if kept:
        raise _Wrong(
            f"method: the law keeps {', '.join(kept)} longer than this rule; anonymize instead, or keep longer"
        )
    if outside := sorted(_outside(ground, rule)):
        raise _Wrong(f"method: {', '.join(outside)} in another schema refers to its rows, where guard does not look")
    return replace(treatment, cascade=order, holders=tuple(_holders(ground, rule, order)))


def _outside(ground: Ground, rule: Rule) -> set[str]:
    """Return the tables of other schemas that refer to rows to be deleted: a cascade there would go unseen."""
    found = {source for name in (rule.table, *rule.cascade) for source, _ in ground.tables[name].referred}
    return found - set(ground.tables)


def _cascade_order(ground: Ground, rule: Rule) -> tuple[Path, ...]:
    """Return the ways from the tables of `cascade` to the rule's own, through each other only, longest first."""
    inside = {name: ground.tables[name] for name in (rule.table, *rule.cascade)}
    paths = []
    for name in rule.cascade:
        found = subject_path(inside, name, rule.table, ground.links)
        if found is None:
            raise _Wrong(f"cascade: {name} does not refer to {rule.table}, nor to a table of `cascade` that does")
        paths.append(Path((inside[name], *(inside[step.to_table] for step in found)), found))
    return tuple(sorted(paths, key=lambda path: -len(path.steps)))


def _holders(ground: Ground, rule: Rule, cascade: Sequence[Path]) -> Iterator[Path]:
    """Yield every reference that ends in a row to be deleted and is not deleted with it."""
    ways = {rule.table: Path((ground.tables[rule.table],))} | {path.tables[0].name: path for path in cascade}
    gone = {path.steps[0] for path in cascade}
    for name, found in steps(ground.tables, ground.links).items():
        for step in found:
            if step.to_table in ways and step not in gone:
                on = ways[step.to_table]
                yield Path((ground.tables[name], *on.tables), (step, *on.steps))
