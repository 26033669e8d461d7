"""A breach against the clock: what happened when, since when we knew, and by when whom we must tell.

Records are only ever added; what an incident is now follows from them. Titles and reasons are an operator's own words
and stay in state: the ledger gets the incident's id, its times and a keyed digest.
"""

from guard.breach.deadlines import Deadline, Urgency
from guard.breach.incident import Incident, Kind, Opening, Record
from guard.breach.room import Breaches, Standing

__all__ = ["Breaches", "Deadline", "Incident", "Kind", "Opening", "Record", "Standing", "Urgency"]
