"""Runs the jobs by the clock until it is told to stop. Only the clock lives here: what a job does is in `actions.jobs`.

A night it slept through is caught up when it wakes; a second daemon on the same folder is refused.
"""

from guard.daemon.loop import Stop, on_signals, serve
from guard.daemon.notify import Notifier

__all__ = ["Notifier", "Stop", "on_signals", "serve"]
