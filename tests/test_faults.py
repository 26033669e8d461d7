"""The hook of fault points: nothing without one, its names with one."""

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
