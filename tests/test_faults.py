"""The hook of fault points: nothing without one, its names with one."""

from pathlib import Path
from typing import Any

import pytest

from guard import faults


def test_a_point_without_a_hook_is_nothing() -> None:
    faults.point("fields.batch.written")


def test_a_hook_hears_each_point_until_it_is_removed() -> None:
    heard: list[str] = []
    faults.install(heard.append)
    try:
        faults.point("fields.batch.written")
        faults.point("fields.batch.committed")
    finally:
        faults.install(None)
    faults.point("fields.batch.written")
    assert heard == ["fields.batch.written", "fields.batch.committed"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fork beside other tests' threads
def test_a_work_is_killed_at_the_point_that_was_asked_for(fault_points: Any, tmp_path: Path) -> None:
    def work() -> None:
        for name in ("a", "b", "c"):
            faults.point(name)
            with (tmp_path / "log").open("a") as log:
                log.write(name)

    assert fault_points.passed(work) == ["a", "b", "c"]
    assert fault_points.killed(work, 2)
    assert (tmp_path / "log").read_text() == "abca"
    assert not fault_points.killed(work, 4)
