"""What the sampled values of a column say together. From here on no value of a person is carried along, only counts."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from guard.privacy.detect import patterns
from guard.privacy.detect.engine import Find
from guard.privacy.detect.patterns import Hit

LONGEST: Final = 2000
"""Characters of one value that are looked at."""

_WHOLE: Final = 0.9
_SURE: Final = 0.5
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?")


@dataclass(frozen=True, slots=True)
class Detector:
    """Somebody who looks at values: `find`, or None and the reason why they could not look."""

    name: str
    find: Find | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Sample:
    """Values of one column: distinct ones, and of how many rows that were read."""

    values: tuple[str, ...] = ()
    rows: int = 0
    """Rows read whose value was not empty."""
    sealed: int = 0
    """Of those, rows whose value was sealed already; they are not among `values`."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Counts over the distinct values of one column."""

    looked: int = 0
    rows: int = 0
    sealed: int = 0
    whole: Mapping[str, int] = field(default_factory=dict)
    """Category -> values that are nothing else."""
    within: Mapping[str, int] = field(default_factory=dict)
    """Category -> values that hold it among other words."""
    by: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Category -> the recognizers that found it."""
    digits: int = 0
    """Values that hold a digit."""
    prose: int = 0
    """Values that read like sentences."""
    dates: int = 0
    """Values that are an ISO date or time."""

    def share(self, category: str) -> float:
        """Return which part of the values are, or hold, `category`."""
        return (self.whole.get(category, 0) + self.within.get(category, 0)) / self.looked if self.looked else 0.0

    @property
    def repeated(self) -> bool:
        """Whether few words stand in many rows, as with states and types."""
        return self.rows >= 100 and self.looked <= self.rows // 20


def own_patterns(values: Sequence[str], _: Sequence[str]) -> list[list[Hit]]:
    """Our own recognizers as a detector."""
    return [patterns.find(value) for value in values]


def weigh(sample: Sample, detectors: Iterable[Detector], words: Sequence[str], expected: str | None) -> Evidence:
    """Return the counts over a sample. `expected`, the category a name speaks for, may also count when less sure."""
    values = [value.strip()[:LONGEST] for value in sample.values]
    hits: list[list[Hit]] = [[] for _ in values]
    for detector in detectors:
        if detector.find is not None:
            for mine, found in zip(hits, detector.find(values, words), strict=True):
                mine += [hit for hit in found if hit.score >= (_SURE / 2 if hit.category == expected else _SURE)]
    whole: Counter[str] = Counter()
    within: Counter[str] = Counter()
    by: dict[str, set[str]] = {}
    for value, found in zip(values, hits, strict=True):
        all_of_it = {hit.category for hit in found if hit.end - hit.start >= _WHOLE * len(value)}
        whole.update(all_of_it)
        within.update({hit.category for hit in found} - all_of_it if not all_of_it else ())
        for hit in found:
            by.setdefault(hit.category, set()).add(hit.by)
    return Evidence(
        looked=len(values),
        rows=sample.rows,
        sealed=sample.sealed,
        whole=dict(whole),
        within=dict(within),
        by={category: tuple(sorted(names)) for category, names in by.items()},
        digits=sum(any(map(str.isdigit, value)) for value in values),
        prose=sum(_is_prose(value) for value in values),
        dates=sum(_DATE.fullmatch(value) is not None for value in values),
    )


def _is_prose(value: str) -> bool:
    return (len(value) > 40 and value.count(" ") >= 5) or sum("\u3400" <= char <= "\u9fff" for char in value) > 15
