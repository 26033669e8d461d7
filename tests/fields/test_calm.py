"""Letting the collector rest while rows are worked on."""

import gc
import threading

from guard.fields.batch import calm


def test_threads_that_overlap_leave_the_collector_as_it_was() -> None:
    before = gc.get_threshold()
    first_in, first_out, thresholds = threading.Event(), threading.Event(), []

    def first() -> None:
        with calm():
            first_in.set()
            assert first_out.wait(10)

    thread = threading.Thread(target=first)
    thread.start()
    assert first_in.wait(10)
    with calm():
        first_out.set()
        thread.join(10)
        thresholds.append(gc.get_threshold())
    assert thresholds[0] > before  # the last one in still works
    assert gc.get_threshold() == before
