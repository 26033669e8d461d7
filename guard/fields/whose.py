"""Whose a row is: the key of the person it is about, looked up one row at a time."""

from __future__ import annotations

from collections.abc import Sequence

from guard.canon import KeyPart, key_bytes
from guard.fields.batch import Job
from guard.fields.read import WhosePerson
from guard.shop import Shop
from guard.shop.bulk import person_query
from guard.shop.rows import typed_key


def person_of(shop: Shop, job: Job) -> WhosePerson:
    """Return the function that gives the canonical key of a row's person, as the shop has it at that moment."""
    look = job.look()

    def whose(key: Sequence[KeyPart]) -> bytes | None:
        with shop.read() as connection:
            row = connection.execute(person_query(shop, look, tuple(key))).first()
        return None if row is None or None in row else key_bytes(typed_key(job.table, tuple(row)))

    return whose
