"""Open incidents, correct since when we know, and show the clocks that run."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING

from guard.breach import store
from guard.breach.deadlines import Deadline, Urgency, deadline
from guard.breach.incident import Incident, Opening, Record, check, corrected, fold, moment, opened
from guard.clock import Clock
from guard.config.breach import BreachPolicy
from guard.crypto.random import token
from guard.errors import ConfigError
from guard.events import PrincipalId

if TYPE_CHECKING:
    from guard.state import State, Tx


@dataclass(frozen=True, slots=True)
class Standing:
    """One incident and its deadlines at one moment."""

    incident: Incident
    deadlines: tuple[Deadline, ...]

    @property
    def pressing(self) -> bool:
        """Whether a deadline is near or has passed."""
        return any(each.urgency is not Urgency.OK for each in self.deadlines)


class Breaches:
    """The incidents of one shop. What changes them is a record that an action writes together with its ledger entry."""

    def __init__(self, state: State, policy: BreachPolicy, clock: Clock) -> None:
        self.policy = policy
        self._state = state
        self._clock = clock

    def opening(self, texts: Mapping[str, object]) -> Opening:
        """Read title, detected, aware, reason and occurred (or None). Raises ConfigError for what cannot be."""
        opening = Opening.read(texts)
        check(opening, self._clock.now())
        return opening

    def open(self, opening: Opening, who: PrincipalId) -> Record:
        """Return the first record of a new incident, for `remember`. Raises ConfigError for what cannot be."""
        identity = "b-" + base64.b32encode(token(5)).decode().lower()
        return opened(identity, opening, who, self._clock.now())

    def correct(self, identity: str, aware: str, reason: str, who: PrincipalId) -> Record:
        """Return the record that sets another moment of awareness, for `remember`.

        Raises ConfigError for an unknown incident, a time that cannot be, or no reason.
        """
        return corrected(self.find(identity), moment("aware", aware), reason, who, self._clock.now())

    def remember(self, tx: Tx, record: Record) -> None:
        """Write a record, in the transaction that also writes its ledger entry."""
        store.add(tx, record)

    def find(self, identity: str) -> Incident:
        """Return an incident. Raises ConfigError when there is none with this id."""
        records = self.file(identity)
        if not records:
            raise ConfigError(f"no incident {identity}", hint="guard breach status lists them")
        return fold(records)

    def file(self, identity: str) -> tuple[Record, ...]:
        """Return the records of one incident, oldest first."""
        with self._state.read() as tx:
            return store.records(tx, identity)

    def status(self, now: datetime | None = None) -> tuple[Standing, ...]:
        """Return each incident with its deadlines at `now`, the most pressing first."""
        at = now or self._clock.now()
        with self._state.read() as tx:
            records = store.records(tx)
        incidents = [fold(list(group)) for _, group in groupby(records, key=lambda record: record.incident)]
        standing = [Standing(incident, self._deadlines(incident, at)) for incident in incidents]
        return tuple(sorted(standing, key=lambda each: min(clock.due for clock in each.deadlines)))

    def _deadlines(self, incident: Incident, now: datetime) -> tuple[Deadline, ...]:
        start = {"aware": incident.aware, "detected": incident.detected}
        return tuple(deadline(rule, start[rule.trigger], now) for rule in self.policy.rule)
