"""The table of the breach room: records, only ever added."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Column, Integer, String, Table, Text, func, insert, select

from guard.breach.incident import Kind, Record
from guard.canon import json_bytes
from guard.clock import parse
from guard.events import PrincipalId
from guard.state import METADATA, Tx

RECORD = Table(
    "breach_record",
    METADATA,
    Column("incident", String(20), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("body", Text, nullable=False),
)

_TIMES = ("at", "aware", "detected", "occurred")


def add(tx: Tx, record: Record) -> None:
    """Write a record behind the others of its incident."""
    count = select(func.count()).where(RECORD.c.incident == record.incident).scalar_subquery()
    body = json_bytes(record.as_json()).decode()
    tx.execute(insert(RECORD).values(incident=record.incident, number=count, body=body))


def records(tx: Tx, incident: str | None = None) -> tuple[Record, ...]:
    """Return the records of one incident or of all, each incident's in the order they were written."""
    query = select(RECORD.c.body).order_by(RECORD.c.incident, RECORD.c.number)
    if incident is not None:
        query = query.where(RECORD.c.incident == incident)
    return tuple(_record(json.loads(body)) for body in tx.scalars(query))


def _record(body: dict[str, Any]) -> Record:
    times = {name: parse(body[name]) if body[name] else None for name in _TIMES}
    return Record(**{**body, **times, "kind": Kind(body["kind"]), "who": PrincipalId(body["who"])})
