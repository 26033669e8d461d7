"""A forked child and state: no connection goes over to it, it opens its own.

SQLite's locks belong to the process that took them: a child that inherits an open file believes that it holds locks
which it has not, and its parent, closing last, would remove the write-ahead log under it. A PostgreSQL connection would
be spoken on by two. So idle connections are closed before a fork; they open again when they are needed.
"""

import os
from typing import Protocol
from weakref import WeakSet


class Forkable(Protocol):
    """Something that knows what to do when its process is forked."""

    def before_fork(self) -> None:
        """Close what a child must not inherit; runs in the parent."""

    def after_fork(self) -> None:
        """Begin anew; runs in the child, in which no other thread is left."""


_LIVE: "WeakSet[Forkable]" = WeakSet()


def watch(each: Forkable) -> None:
    """Tell `each` of every fork from now on, as long as it lives."""
    _LIVE.add(each)


def _before() -> None:
    for each in list(_LIVE):
        each.before_fork()


def _after() -> None:
    for each in list(_LIVE):
        each.after_fork()


os.register_at_fork(before=_before, after_in_child=_after)
