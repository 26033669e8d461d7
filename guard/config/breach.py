"""The shape of `policies/breach.toml`: who must be told of a breach, and by when."""

from typing import Annotated, Literal

import msgspec

from guard.config.span import Span

RuleId = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,40}$")]


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class BreachRule(_Part, frozen=True, kw_only=True):
    """One duty to tell someone within a time that runs from `trigger`. Lengths are elapsed time: hours or days."""

    id: RuleId
    jurisdiction: str
    trigger: Literal["aware", "detected"]
    within: Span
    to: str
    source: str
    """Where the duty is written down."""
    remind: tuple[Span, ...] = ()
    """After how long each reminder falls due."""
    soon: Span
    """From how long before the end on the deadline counts as near."""

    def __post_init__(self) -> None:
        if any(span.months for span in (self.within, self.soon, *self.remind)):
            raise ValueError("a deadline runs in hours or days; months differ in length")
        if late := [str(span) for span in self.remind if span.rest > self.within.rest]:
            raise ValueError(f"reminders after the deadline: {', '.join(late)}")


class BreachPolicy(_Part, frozen=True, kw_only=True):
    """The whole of `policies/breach.toml`."""

    rule: tuple[BreachRule, ...]

    def __post_init__(self) -> None:
        ids = [rule.id for rule in self.rule]
        if not ids:
            raise ValueError("no rule: without one no deadline would ever be shown")
        if twice := sorted({name for name in ids if ids.count(name) > 1}):
            raise ValueError(f"listed twice: {', '.join(twice)}")
