"""What a scan proposes: one finding for each column of the schema, and the catalog they make. Pure.

Written as TOML with the reasons as comments; neither holds a value of anybody.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from guard.config import Catalog, Column, Protect, Subject
from guard.config.taxonomy import UNCLASSIFIED, Category, Taxonomy
from guard.privacy.detect.evidence import Evidence
from guard.privacy.judge import Verdict
from guard.shop import ShopColumn, Table, alter
from guard.shop.catalog import Sort, mentions
from guard.shop.rows import key_trouble

UNDECIDED_TIER = "special"
"""Nobody sees a column's values until somebody has decided what they are."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a scan found out about one column."""

    at: str
    category: str
    tier: str
    protect: str
    confidence: float
    why: tuple[str, ...]
    sample: int
    """Distinct values that were looked at."""

    @property
    def decided(self) -> bool:
        """Whether the column has a category."""
        return self.category != UNCLASSIFIED


@dataclass(frozen=True, slots=True)
class Looked:
    """Who looked at the values, and who could not."""

    by: str
    outcome: str
    """"looked" or "not looked"."""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Proposal:
    """The outcome of a scan."""

    findings: tuple[Finding, ...]
    catalog: Catalog
    looked: tuple[Looked, ...]

    @property
    def undecided(self) -> tuple[str, ...]:
        """The columns a person has to decide on."""
        return tuple(finding.at for finding in self.findings if not finding.decided)


@dataclass(frozen=True, slots=True)
class Context:
    """What the treatment of a column depends on besides its category."""

    taxonomy: Taxonomy
    table: Table
    column: ShopColumn
    class_: str
    dialect: str


def propose(context: Context, verdict: Verdict, evidence: Evidence) -> tuple[Finding, Column]:
    """Return the finding and the catalog entry for a verdict on one column."""
    at = f"{context.table.name}.{context.column.name}"
    category = context.taxonomy.category.get(verdict.category)
    if category is None:
        finding = Finding(at, UNCLASSIFIED, UNDECIDED_TIER, "none", 0.0, verdict.why, evidence.looked)
        return finding, Column(at=at, tier=UNDECIDED_TIER, class_=context.class_)
    index = category.index if _is_unique(context.table, context.column.name) else None
    against = _against(context, index) if category.protect is Protect.ENCRYPT else None
    protect = Protect.NONE if against else category.protect
    why = verdict.why
    if against:
        why = (*why, f"not sealed: {against}")
    elif category.reason:
        why = (*why, f"not sealed: {category.reason}")
    noted = [index.name for index in context.table.indexes if context.column.name in index.columns and not index.unique]
    if protect is Protect.ENCRYPT and noted:
        why = (*why, f"the index {noted[0]} finds nothing once it is sealed")
    if protect is Protect.ENCRYPT and index:
        why = (*why, f'it is unique: by index = "{index}" it stays so once it is sealed, and can be searched')
    entry = Column(
        at=at,
        category=verdict.category,
        tier=category.tier,
        protect=protect,
        index=index if protect is Protect.ENCRYPT else None,
        anonymize=_anonymize(category, context),
        class_=context.class_,
    )
    finding = Finding(at, entry.category, entry.tier, protect.value, verdict.confidence, why, evidence.looked)
    return finding, entry


def kept(entry: Column, evidence: Evidence) -> Finding:
    """Return the finding for a column whose entry was accepted before: what people decided stays."""
    confidence = 0.0 if entry.category == UNCLASSIFIED else 1.0
    return Finding(
        entry.at, entry.category, entry.tier, entry.protect.value, confidence, ("in catalog.toml",), evidence.looked
    )


def obstacle(table: Table, column: ShopColumn, dialect: str, index: str | None = None) -> str | None:
    """Say why a column cannot be sealed as the schema is; None when it can. `index`: what it would be searched by."""
    return (
        table.trouble
        or key_trouble(table)
        or _as_reference(table, column.name)
        or alter.why_not(dialect, table, column.name)
        or _as_tested(table, column.name, index)
    )


def _against(context: Context, index: str | None) -> str | None:
    """Say why sealing a column is not proposed. Its type may speak against it, though a person may still want it."""
    column = context.column
    if found := obstacle(context.table, column, context.dialect, index):
        return found
    if column.sort is not Sort.TEXT:
        return f"only texts are sealed unless you say so, and it is {column.type or 'without a type'}"
    return None


def _is_unique(table: Table, name: str) -> bool:
    return any(index.unique and index.is_on(name) for index in table.indexes)


def _as_reference(table: Table, name: str) -> str | None:
    if name in table.key:
        return "it is part of the primary key"
    inside = any(name in key.columns for key in table.foreign_keys)
    return "it is part of a foreign key" if inside or any(name in key.to_columns for _, key in table.referred) else None


def _as_tested(table: Table, name: str, by: str | None) -> str | None:
    for index in table.indexes:
        if not index.unique or not (name in index.columns or mentions(index.definition, name)):
            continue
        if not index.is_on(name):
            return f"the unique index {index.name} is not on it alone, and could not keep it unique once it is sealed"
        if by is None:
            return f'the unique index {index.name} needs a blind index beside it, e.g. index = "exact"'
    return "a CHECK constraint tests it" if any(mentions(check.sql, name) for check in table.checks) else None


def _anonymize(category: Category, context: Context) -> str:
    """Return the category's method, fitted to what the column takes."""
    column, method = context.column, category.anonymize
    if column.name in context.table.key or any(column.name in key.columns for key in context.table.foreign_keys):
        return "keep"
    if method == "keep" or column.generated:
        return "keep"
    unique = any(index.unique and index.columns == (column.name,) for index in context.table.indexes)
    if method in {"null", "pseudonym", "postcode", "mask"} and column.sort is not Sort.TEXT:
        return "null" if column.nullable else "constant"
    if method in {"year", "month"} and column.sort not in {Sort.TIME, Sort.TEXT}:
        return "null" if column.nullable else "constant"
    if method == "null" and not column.nullable:
        return "pseudonym" if unique else "constant"
    return method


def to_toml(catalog: Catalog, notes: Mapping[str, Sequence[str]], head: Sequence[str] = ()) -> str:
    """Return a catalog as TOML. `notes` are comments by "Table.Column", `head` those on top."""
    return "\n".join([*(f"# {line}".rstrip() for line in head), *_lines(catalog, notes)]) + "\n"


def _lines(catalog: Catalog, notes: Mapping[str, Sequence[str]]) -> Iterator[str]:
    for name, subject in catalog.subject.items():
        yield from ("", f"[subject.{_key(name)}]", *_pairs(_subject(subject)))
    for link in catalog.link:
        yield from ("", "[[link]]", *_pairs({"from": link.from_, "to": link.to}))
    for column in catalog.column:
        yield from ("", "[[column]]", *(f"# {_comment(note)}" for note in notes.get(column.at, ())))
        yield from _pairs(_column(column))


def _subject(subject: Subject) -> dict[str, object]:
    return {"table": subject.table, "key": subject.key, "email": subject.email, "language": subject.language}


def _column(column: Column) -> dict[str, object]:
    return {
        "id": column.id or None,
        "at": column.at,
        "category": column.category,
        "tier": column.tier,
        "protect": column.protect.value,
        "bind": column.bind,
        "tight": column.tight or None,
        "index": column.index,
        "anonymize": column.anonymize,
        "class": column.class_,
    }


def _pairs(values: Mapping[str, object]) -> Iterable[str]:
    # A JSON string without \u escapes for printable text is a TOML basic string; DEL is the one exception. Numbers and
    # booleans are written alike in both.
    return (
        f"{name} = {json.dumps(value, ensure_ascii=False).replace(chr(127), '?')}"
        for name, value in values.items()
        if value is not None
    )


def _key(name: str) -> str:
    return name if name.replace("-", "").replace("_", "").isalnum() and name.isascii() else json.dumps(name)


def _comment(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)
