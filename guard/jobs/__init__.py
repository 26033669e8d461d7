"""Which jobs are due, who runs them, and how each run ended. Nothing that was due is ever dropped without a word.

A run may be worked at more than once (its process can die after the work and before the word), but one result is
accepted: each claim carries a fence number, and only the newest counts. What a job does is said in `actions.jobs`.
"""

from guard.jobs.ledger import Jobs
from guard.jobs.run import Claim, Result, Run, RunState

__all__ = ["Claim", "Jobs", "Result", "Run", "RunState"]
