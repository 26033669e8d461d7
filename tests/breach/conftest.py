"""A breach room on a real state in SQLite, with a ledger that only remembers its events."""

import pytest

from guard.breach import Breaches
from guard.clock import SteppedClock
from guard.config import Span
from guard.config.breach import BreachPolicy, BreachRule
from guard.state import State

GDPR = BreachRule(
    id="gdpr-33-1",
    jurisdiction="EU",
    trigger="aware",
    within=Span.parse("72 hours"),
    to="authority",
    source="GDPR article 33(1)",
    remind=tuple(Span.parse(f"{hours} hours") for hours in (24, 48, 60, 66, 70, 72)),
    soon=Span.parse("24 hours"),
)


@pytest.fixture
def rule() -> BreachRule:
    return GDPR


@pytest.fixture
def breaches(state: State, clock: SteppedClock) -> Breaches:
    return Breaches(state, BreachPolicy(rule=(GDPR,)), clock)
