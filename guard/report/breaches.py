"""Breaches and their deadlines, as far as the ledger tells: ids and times, never what happened."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from guard.clock import parse
from guard.config.breach import BreachRule
from guard.report.evidence import Act, Evidence

TOLD = ("breach.notify",)
ENDED = ("breach.close",)
CLOCKS = ("breach.open", "breach.aware")


@dataclass(frozen=True, slots=True)
class Duty:
    """One rule that ran for one breach, as it stood at the report's time."""

    rule: BreachRule
    due: datetime
    left: timedelta
    """Until `due`; negative when it has passed."""
    answered: Act | None
    """The act that told somebody or closed the breach, if there is one."""

    @property
    def overdue(self) -> bool:
        """Whether the time ran out and no entry answers the duty, or answered it only then."""
        return self.left < timedelta() if self.answered is None else self.answered.last.at > self.due


@dataclass(frozen=True, slots=True)
class Breach:
    """One breach: its id, the acts that name it, and its duties."""

    id: str
    acts: tuple[Act, ...]
    duties: tuple[Duty, ...]

    @property
    def overdue(self) -> bool:
        """Whether one of its duties is overdue."""
        return any(duty.overdue for duty in self.duties)


def breaches(evidence: Evidence, rules: Sequence[BreachRule]) -> tuple[Breach, ...]:
    """Return the breaches that were opened up to the report's time, each with the duties its times set off."""
    found: dict[str, list[Act]] = {}
    for act in evidence.acts("breach.*", ever=True):
        for name in act.last.objects if act.done else ():
            found.setdefault(name, []).append(act)
    return tuple(
        Breach(name, tuple(acts), tuple(_duties(acts, rules, evidence.at)))
        for name, acts in found.items()
        if acts[0].what == "breach.open"
    )


def _duties(acts: list[Act], rules: Sequence[BreachRule], at: datetime) -> Iterator[Duty]:
    facts: dict[str, str] = {}
    for act in acts:
        if act.what in CLOCKS:
            facts.update(act.last.facts)  # a correction replaces the time before it
    answered = next((act for act in acts if act.what in (*TOLD, *ENDED)), None)
    for rule in rules:
        if rule.trigger in facts:
            due = parse(facts[rule.trigger]) + rule.within.rest
            yield Duty(rule, due, due - at, answered)
