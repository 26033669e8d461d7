"""Named points at which a program may be killed or made to fail. Tests install a hook; without one a point is nothing.

A point stands where losing the process would hurt most: between two writes that belong together. Its name is
`room.work.moment`, e.g. `fields.batch.written`.
"""

from collections.abc import Callable

_hook: Callable[[str], None] | None = None


def install(hook: Callable[[str], None] | None) -> None:
    """Call `hook` with the name of every point that is passed from now on; None removes it."""
    global _hook  # noqa: PLW0603  # one process, one hook
    _hook = hook


def point(name: str) -> None:
    """Pass the point called `name`."""
    if _hook is not None:
        _hook(name)
