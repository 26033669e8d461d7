"""What the room answers with."""

import pytest

from guard.backup.results import SourceRun


@pytest.mark.parametrize(
    ("kind", "why", "problems", "expected"),
    [
        ("sqlite", None, 0, False),
        ("sqlite", "it is locked", 0, True),
        ("files", None, 3, True),
        ("uncovered", "a shop in postgresql is not covered by this version", 0, False),
    ],
)
def test_only_what_another_try_could_read_is_tried_again(
    kind: str, why: str | None, problems: int, expected: bool
) -> None:
    assert SourceRun("shop", kind, 0, 0, why, problems, ()).may_do_better is expected
