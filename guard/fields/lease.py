"""Who seals with which keys just now: leases of the shop's processes, in guard's state.

A process takes a lease before it seals, for the keys it seals with, and renews it while it works. A lease is never
extended with other keys: who sees a rotation takes a new one and lets the old run out. So a key that no live lease
names, and no value, may be retired.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import Column, Table, Text, delete, insert, select, update

from guard.clock import parse, stamp
from guard.crypto.random import hex_token
from guard.events import PrincipalId
from guard.state import METADATA, Tx

TERM = timedelta(minutes=5)
"""How long a lease lasts unless it is renewed. DESIGN 1."""
STALE = timedelta(seconds=1)
"""How old a process's look at state may be when it uses a key."""
SEEN = 2 * STALE
"""After so long every process of the shop has looked at state again: whoever relies on that waits."""

_KEPT = timedelta(days=1)
"""How long a lease that ran out stays to be looked at."""

LEASE = Table(
    "fields_lease",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("who", Text, nullable=False),
    Column("keys", Text, nullable=False),
    Column("since", Text, nullable=False),
    Column("until", Text, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Lease:
    """One process may seal with `keys` until `until`."""

    id: str
    who: PrincipalId
    keys: frozenset[int]
    since: datetime
    until: datetime


def take(tx: Tx, who: PrincipalId, keys: Iterable[int], now: datetime) -> Lease:
    """Write a new lease on `keys`, and forget those that ran out long ago."""
    lease = Lease(hex_token(16), who, frozenset(keys), now, now + TERM)
    tx.execute(delete(LEASE).where(LEASE.c.until < stamp(now - _KEPT)))
    tx.execute(
        insert(LEASE).values(
            id=lease.id,
            who=lease.who,
            keys=json.dumps(sorted(lease.keys)),
            since=stamp(lease.since),
            until=stamp(lease.until),
        )
    )
    return lease


def renew(tx: Tx, lease: Lease, now: datetime) -> Lease | None:
    """Return the lease, valid for another term; None when it ran out or is gone: then its keys may be retired."""
    until = now + TERM
    mine = update(LEASE).where(LEASE.c.id == lease.id, LEASE.c.until > stamp(now))
    return replace(lease, until=until) if tx.execute(mine.values(until=stamp(until))).rowcount else None


def live(tx: Tx, now: datetime, key_id: int | None = None) -> tuple[Lease, ...]:
    """Return the leases that have not run out at `now`, those that name `key_id` when it is given; oldest first."""
    rows = tx.execute(select(LEASE).where(LEASE.c.until > stamp(now)).order_by(LEASE.c.since, LEASE.c.id))
    found = (
        Lease(row.id, PrincipalId(row.who), frozenset(json.loads(row.keys)), parse(row.since), parse(row.until))
        for row in rows
    )
    return tuple(lease for lease in found if key_id is None or key_id in lease.keys)
