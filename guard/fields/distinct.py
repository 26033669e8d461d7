"""How many different values a column has under the normaliser of its index, sealed ones and plain ones alike.

Whoever reads the shop sees which tokens are equal: how short they are made depends on how many values there are.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import chain

from guard.crypto.blind import LONGEST
from guard.fields.batch import Changer, Direction
from guard.fields.spread import Tally
from guard.fields.store import IndexRecord, Record
from guard.fields.sweep import Tools, job_of
from guard.fields.value import Cell
from guard.shop.bulk import Reader
from guard.shop.due import Due
from guard.shop.rows import Key

_BATCH = 2000


def distinct(tools: Tools, record: Record, index: IndexRecord) -> int:
    """Return how many different normal forms the values of a column have; each is told by a whole token."""
    job = job_of(tools, record, Direction.TOKENS, (replace(index, size=LONGEST),))
    tokens, tally = Changer(job, Cell(job.spec, tools.keys.means())), Tally()
    reader = Reader(tools.shop, replace(job.look(), due=Due()))
    after: Key | None = None
    while True:
        with tools.shop.read() as connection:
            found = reader.read(connection, after, _BATCH)
        if found is None:
            return tally.spread().distinct
        tally.add(chain.from_iterable(tokens(found).columns))
        after = found.last
