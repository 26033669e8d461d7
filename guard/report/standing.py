"""Which entries a report needs however old they are: those that say how things stand, not what was done in a period."""

from collections.abc import Callable, Iterable, Sequence

from guard.report.controls import ENROLMENTS
from guard.report.evidence import CHECKS, OPENS, REKEY, SEALS, Act, EntryView, Evidence, acts, matches

_NAMES = (*SEALS, *OPENS, *CHECKS, "data.accept", *ENROLMENTS, "breach.*")


def standing(entries: Callable[[str], Iterable[EntryView]]) -> frozenset[int]:
    """Return the numbers of the entries by which a report knows what is sealed, who is enrolled, and the breaches.

    `entries` gives those of an action, oldest first; "breach.*" stands for all whose names begin with "breach.".
    """
    found = tuple(sorted((entry for name in _NAMES for entry in entries(name)), key=lambda entry: entry.n))
    if not found:
        return frozenset()
    evidence = Evidence(found, found[-1].at)
    accepted = evidence.last("data.accept", ever=True, done=True)
    kept = [*_of_columns(evidence), *([accepted] if accepted else [])]
    kept += [act for act in evidence.acts(*ENROLMENTS, "breach.*", ever=True) if act.done]
    return frozenset(number for act in kept for number in act.numbers)


def counted(entries: Sequence[EntryView], minimum: int) -> list[EntryView]:
    """Return the entries from `minimum` on, and of older ones those that say how things stand.

    What else is left of those stays only because it lies beside an entry that does; an act may have lost its end.
    """
    older = [entry for entry in entries if entry.n < minimum]
    needed = standing(lambda name: [entry for entry in older if matches(entry.what, (name,))])
    return [entry for entry in entries if entry.n >= minimum or entry.n in needed or entry.what == REKEY]


def _of_columns(evidence: Evidence) -> list[Act]:
    told = acts(entry for entry in evidence.entries if entry.what in {*SEALS, *OPENS, *CHECKS})
    columns = {name for act in told for entry in act.entries for name in entry.objects}
    states = [evidence.column(at) for at in columns]
    return [act for state in states for act in (state.changed, state.checked, state.unclear) if act is not None]
