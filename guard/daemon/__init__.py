"""Runs the jobs by the clock until it is told to stop, and meanwhile serves the agent's socket.

What a job does is in `actions.jobs`, what the shop tells is recorded by `actions.tell`. A night it slept through is
caught up when it wakes; a second daemon on the same folder is refused.
"""

from guard.daemon.loop import Stop, on_signals, serve
from guard.daemon.notify import Notifier
from guard.daemon.operations import listener

__all__ = ["Notifier", "Stop", "listener", "on_signals", "serve"]
