"""The shape of `policies/retention.toml`: how long rows are kept, and what happens to them then."""

from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec

from guard.config.catalog import At
from guard.config.span import Span

CountFrom = Literal["date", "year end"]
"""Where a term begins: at the date itself, or at the end of its calendar year (AO § 147 (4), HGB § 257 (5))."""

RuleName = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,49}$")]


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Term(_Part, frozen=True, kw_only=True):
    """How long data of one class is kept. `least`: a law demands it, so no rule may end sooner."""

    keep: Span
    count: CountFrom = "date"
    least: bool = False
    basis: str


class Limit(_Part, frozen=True, kw_only=True):
    """When a plan waits for a person although a standing approval covers its policy."""

    share: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.01
    """Of a table's rows, in one run."""
    times: Annotated[float, msgspec.Meta(ge=1)] = 3.0
    """Of the median of the last 30 days."""
    floor: Annotated[int, msgspec.Meta(ge=0)] = 20
    """Rows that may always go."""


class Rule(_Part, frozen=True, kw_only=True):
    """Keep the rows of `table` for `keep` after `since`, then treat them by `method`.

    `since` may be a column of a table that refers to `table`: then the newest of a row's dates counts, and `otherwise`
    stands in for rows nothing refers to. Without `keep` the class's term is taken.
    """

    name: RuleName
    table: str
    since: At
    otherwise: At | None = None
    keep: Span | None = None
    class_: str = msgspec.field(default="account", name="class")
    count: CountFrom | None = None
    method: Literal["anonymize", "delete"]
    where: dict[str, str | int | bool] = {}  # msgspec copies an empty default
    cascade: tuple[str, ...] = ()
    """Tables whose rows go with the row they refer to, in the same transaction (delete only)."""
    basis: Annotated[str, msgspec.Meta(min_length=1)]
    reason: Annotated[str, msgspec.Meta(min_length=1)]

    def __post_init__(self) -> None:
        if self.cascade and self.method != "delete":
            raise ValueError('`cascade` goes with method = "delete"')
        if self.otherwise and self.otherwise.split(".")[0] != self.table:
            raise ValueError("`otherwise` is a column of the rule's own table")


class RetentionPolicy(_Part, frozen=True, kw_only=True):
    """The whole of `policies/retention.toml`."""

    class_: dict[str, Term] = msgspec.field(name="class")
    limit: Limit = Limit()
    rule: tuple[Rule, ...] = ()

    def __post_init__(self) -> None:
        names = [rule.name for rule in self.rule]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"rule named twice: {', '.join(twice)}")
        for rule in self.rule:
            if rule.class_ not in self.class_:
                raise ValueError(
                    f"rule {rule.name}: no class {rule.class_!r}; there are {', '.join(sorted(self.class_))}"
                )

    def term(self, rule: Rule) -> tuple[Span, CountFrom]:
        """Return how long `rule` keeps, and from where it counts."""
        given = self.class_[rule.class_]
        return rule.keep or given.keep, rule.count or given.count

    def covers(self, rule: Rule, name: str) -> bool:
        """Tell whether `rule` keeps at least as long as the law behind the class `name` demands."""
        term = self.class_.get(name)
        if term is None or not term.least:
            return True
        keep, count = self.term(rule)
        anyday = datetime(2001, 1, 1, tzinfo=UTC)
        long_enough = keep.after(anyday) >= term.keep.after(anyday)
        return long_enough and (term.count == "date" or count == "year end")
