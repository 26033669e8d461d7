"""The harness: medians of interleaved rounds, one table, one JSON file, exit 3 when a bar is missed."""

import io
import json

import pytest

from bench.demo import rows as demo_rows
from bench.harness import MISSED, Bar, Pace, Row, cpu, finish, race, table

FAST = Bar("ratio", "<=", 0.5)


def test_rounds_are_interleaved_after_a_warm_up():
    order = []
    race(Pace(rounds=3), lambda: order.append("ours"), lambda: order.append("peer"))
    assert order == ["ours", "peer"] * 4


def test_the_median_is_taken_and_scaled():
    times = iter([0, 1, 1, 4, 4, 9])  # differences 1, 3, 5
    (median,) = race(Pace(rounds=3, timer=lambda: next(times), scale=1000, warm_up=False), lambda: None)
    assert median == 3000


def test_cpu_time_counts_children():
    import subprocess
    import sys

    begun = cpu()
    subprocess.run([sys.executable, "-c", "sum(range(10**6))"], check=True)
    assert cpu() > begun


@pytest.mark.parametrize(
    ("bar", "met"),
    [
        (Bar("ratio", "<=", 0.5), True),
        (Bar("ratio", "<=", 0.49), False),
        (Bar("ratio", ">=", 0.5), True),
        (Bar("ours", "<=", 1), True),
        (Bar("ours", ">=", 1.1), False),
        (None, None),
    ],
)
def test_a_bar_is_met_or_missed(bar, met):
    assert Row("x", 1, 2, "s", bar).met is met


def test_a_ratio_without_a_peer_is_never_met():
    assert Row("x", 1, None, "s", FAST).met is False


@pytest.mark.parametrize(("ours", "code"), [(1.0, 0), (1.5, MISSED)])
def test_it_writes_what_it_printed_and_exits_3_when_a_bar_is_missed(tmp_path, ours, code):
    rows = [Row("sealing, against tink 1.16", ours, 2.0, "s", FAST), Row("a step", 3.0, None, "s")]
    printed = io.StringIO()
    assert finish("example", rows, out=tmp_path / "out", to=printed) == code
    told = json.loads((tmp_path / "out" / "example.json").read_text())
    assert list(told) == ["name", "machine", "rows"]
    assert told["name"] == "example"
    assert told["rows"][0] == {
        "what": "sealing, against tink 1.16",
        "ours": ours,
        "peer": 2.0,
        "unit": "s",
        "ratio": ours / 2,
        "bar": "ratio <= 0.5",
        "met": code == 0,
    }
    assert (told["rows"][1]["ratio"], told["rows"][1]["bar"], told["rows"][1]["met"]) == (None, None, None)
    assert ("MISSED" in printed.getvalue()) is (code == MISSED)
    assert told["machine"] in printed.getvalue()


def test_the_table_lines_up():
    lines = table([Row("a long name", 123456.0, None, "B"), Row("b", 0.5, 1.0, "s", FAST)]).splitlines()
    assert len({line.index(word) for line, word in zip(lines, ("unit", "B", "s "), strict=True)}) == 1
    assert lines[2].endswith("yes")


@pytest.mark.parametrize(("taken", "met"), [(59.9, True), (60.1, False)])
def test_the_demo_has_a_row_for_each_step_and_a_minute_for_all(taken, met):
    told = {"steps": [{"name": "make the shop", "seconds": 3.1}, {"name": "seal", "seconds": 12}], "report": "x.html"}
    *steps, whole = demo_rows(told, taken)
    assert [(row.what, row.ours, row.met) for row in steps] == [("make the shop", 3.1, None), ("seal", 12.0, None)]
    assert (whole.ours, whole.met) == (taken, met)
