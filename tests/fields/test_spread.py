"""Counting normal forms: what falls together, what is too regular to be searched."""

from collections import Counter
from math import isclose, log2

from hypothesis import given
from hypothesis import strategies as st

from guard.fields.spread import Tally


def spread_of(forms: list[bytes | None]):
    tally = Tally()
    tally.add(forms)
    return tally.spread()


@given(st.lists(st.one_of(st.none(), st.binary(max_size=3)), max_size=300))
def test_it_counts_what_a_counter_counts(forms: list[bytes | None]) -> None:
    counted = Counter(form for form in forms if form is not None)
    total = sum(counted.values())
    found = spread_of(forms)
    assert (found.values, found.distinct, found.formless) == (total, len(counted), len(forms) - total)
    assert found.falling == sum(count - 1 for count in counted.values())
    bits = -sum(count / total * log2(count / total) for count in counted.values())
    assert isclose(found.bits, bits, abs_tol=1e-9)


def test_few_forms_in_many_rows_are_low_and_different_ones_never_are() -> None:
    assert spread_of([b"DE", b"FR", b"US", b"BR"] * 25).low
    assert spread_of([b"%d" % (number % 24) for number in range(59)]).low
    assert not spread_of([b"%d" % number for number in range(59)]).low
    assert not spread_of([b"%d" % min(number, 55) for number in range(59)]).low, "some first names are the same"
    assert not spread_of([b"%04d" % (number % 10_000) for number in range(40_000)]).low, "last4 is made for that"
    assert not spread_of([b"same"] * 10).low, "too few rows to say"
    assert not spread_of([]).low


def test_a_count_holds_nothing_that_can_be_compared_with_another() -> None:
    one, other = Tally(), Tally()
    one.add([b"ada@example.org"])
    other.add([b"ada@example.org"])
    assert [list(bucket) for bucket in one._seen] != [list(bucket) for bucket in other._seen]
