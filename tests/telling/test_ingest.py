"""A file of events: read whole before any of it is taken, taken once, finished after a kill."""

import getpass
import io
import json
import os
import signal
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from guard.actions import Caller, perform
from guard.actions.ingest import checked, ingest_with, looked_at
from guard.audit import Query, ingest, told_store
from guard.audit.ingest import LINES, ONE, SHOWN, opened
from guard.audit.told import LINE
from guard.errors import BusyError, InterlockError
from tests.conftest import Faults
from tests.telling.shop import House, jsonl, line

Run = Callable[..., int]
ADA = {"kind": "customer", "key": 1}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A file of three events, with an empty line and no end of line at its end."""
    path = tmp_path / "access.jsonl"
    events = [line(actor="anna"), line(subject=ADA, details={"x": 1}), line(what="order.export", **{"class": "export"})]
    path.write_bytes(jsonl(*events[:2]) + b"\n" + jsonl(events[2]).rstrip())
    return path


def many(path: Path, count: int, **members: Any) -> Path:
    path.write_bytes(jsonl(*(line(counts={"rows": number}, **members) for number in range(count))))
    return path


def take(house: House, path: Path, **caller: Any) -> Any:
    """Do as `guard audit ingest` does."""
    with opened(path, sys.stdin.buffer, house.home / "var/scratch") as given:
        file = looked_at(house.app, given)
        found = checked(house.app, file)
        assert not found.wrong
        who = Caller(house.app.access.person_of(getpass.getuser()), **caller)
        return perform(house.app, who, ingest_with(file, found), source=file.source, lines=given.lines)


def test_a_file_is_taken_and_bracketed(house: House, run: Run, log: Path) -> None:
    assert run("--json", "audit", "ingest", str(log)) == 0
    taken = json.loads(house.out)
    told = house.told()
    assert (taken["lines"], taken["events"], taken["known"], taken["first"]) == (4, 3, 0, told[0].n)
    assert [entry.what for entry in told] == ["shop.order.read", "shop.order.read", "shop.order.export"]
    assert {entry.facts["source"] for entry in told} == {taken["source"]}
    assert {entry.facts["via"][:2] for entry in told} == {"p-"}
    assert house.details(told[1]) == {"x": 1}
    begun, done = house.app.ledger.list(Query(what="audit.ingest"))
    assert (begun.outcome, done.outcome, done.digests["source"]) == ("begun", "done", taken["source"])
    assert done.counts == {"lines": 4, "before": 0, "events": 3, "known": 0}


def test_a_file_given_again_is_not_taken_again(house: House, run: Run, log: Path, tmp_path: Path) -> None:
    assert run("audit", "ingest", str(log)) == 0
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(log.read_bytes())
    assert run("audit", "ingest", str(copy)) == 0
    assert "nothing that was not taken before" in house.err
    assert len(house.told()) == 3
    assert run("--json", "audit", "ingest", str(log)) == 0
    assert json.loads(house.out)["before"] == 4
    copy.write_bytes(log.read_bytes() + b"\n" + jsonl(line()))  # another file, which holds the same lines
    assert run("audit", "ingest", str(copy)) == 0
    assert len(house.told()) == 7


def test_events_with_an_id_are_taken_once_from_whatever_file(house: House, run: Run, tmp_path: Path) -> None:
    events = [line(id="a"), line(id="b"), line(id="a")]
    (tmp_path / "one").write_bytes(jsonl(*events))
    (tmp_path / "two").write_bytes(jsonl(line(id="b"), line(id="c")))
    assert run("audit", "ingest", str(tmp_path / "one")) == 0
    assert "2 events taken" in house.err
    assert "1 were recorded before" in house.err
    assert run("audit", "ingest", str(tmp_path / "two")) == 0
    assert len(house.told()) == 3


def test_a_wrong_line_keeps_all_out_and_is_named(house: House, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(jsonl(line(), line(objects=["customer.emial"])) + b"{\n" + jsonl(line(at="now")))
    before = sum(1 for _ in house.app.ledger.entries())
    assert run("audit", "ingest", str(path)) == 2
    assert 'line 2: objects[1]: not in the accepted catalog; did you mean "customer.email"?' in house.err
    assert "line 3: no JSON that can be read" in house.err
    assert "line 4: at: not a time with an offset; when it happened, as RFC 3339" in house.err
    assert "nothing was taken" in house.err
    assert sum(1 for _ in house.app.ledger.entries()) == before
    assert run("--json", "audit", "ingest", str(path)) == 2
    assert [each["line"] for each in json.loads(house.out)["problems"]] == [2, 3, 4]


def test_of_many_wrong_lines_some_are_named_and_the_rest_counted(house: House, run: Run, tmp_path: Path) -> None:
    path = many(tmp_path / "log", 100, purpose="raffle")
    assert run("audit", "ingest", str(path)) == 2
    assert sum("purpose" in each for each in house.err.splitlines()) == SHOWN
    assert "and 80 more" in house.err


def test_a_dry_run_takes_nothing(house: House, run: Run, log: Path) -> None:
    assert run("audit", "ingest", "--dry-run", str(log)) == 0
    assert "3 events are right; none was taken" in house.err
    assert not house.told()
    assert not house.app.ledger.list(Query(what="audit.ingest"))


@pytest.mark.parametrize("content", [b"", b"\n\n  \n"])
def test_a_file_without_events_is_no_mistake(house: House, run: Run, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "log").write_bytes(content)
    assert run("audit", "ingest", str(tmp_path / "log")) == 0
    assert not house.told()


def test_a_file_that_is_not_there(run: Run, house: House, tmp_path: Path) -> None:
    assert run("audit", "ingest", str(tmp_path / "nothing")) == 2
    assert "cannot read" in house.err


def test_standard_input_is_copied_to_a_private_file_without_a_name(house: House, tmp_path: Path) -> None:
    folder = tmp_path / "scratch"
    with opened(Path("-"), io.BytesIO(jsonl(line(), line())), folder) as given:
        assert given.lines == 2
        assert stat.S_IMODE(os.fstat(given.file.fileno()).st_mode) == 0o600
        assert os.fstat(given.file.fileno()).st_nlink == 0
        assert not list(folder.iterdir())
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert looked_at(house.app, given).taken == 0


def test_a_pipe_is_read_once(house: House, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(jsonl(line(), line())))
    writer.start()
    assert take(house, pipe).events == 2
    writer.join()
    assert len(house.told()) == 2


def test_a_line_that_is_too_long_is_named_and_not_kept_in_memory(house: House, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(jsonl(line()) + b"x" * (3 * LINE) + b"\n" + jsonl(line(what="X")))
    assert run("audit", "ingest", str(path)) == 2
    assert "line 2: the line has" in house.err
    assert "line 3: what: not the name of an event" in house.err


def test_what_is_not_as_it_was_checked_is_not_taken(house: House, tmp_path: Path) -> None:
    path = many(tmp_path / "log", 10)
    raw = path.read_bytes()
    with opened(path, sys.stdin.buffer, tmp_path) as given:
        file = looked_at(house.app, given)
        path.write_bytes(raw.replace(b'"rows": 7', b'"rows": 8'))
        with pytest.raises(InterlockError, match="changed while it was read"):
            checked(house.app, file)
        path.write_bytes(raw)
        found = checked(house.app, file)
        path.write_bytes(raw.replace(b'"rows": 7', b'"rows": 8'))
        action, who = ingest_with(file, found), Caller(house.app.access.person_of(getpass.getuser()))
        with pytest.raises(InterlockError, match="changed while it was read"):
            perform(house.app, who, action, source=file.source, lines=given.lines)
    assert not house.told()


def test_lines_that_are_added_meanwhile_change_the_file(house: House, tmp_path: Path) -> None:
    path = many(tmp_path / "log", 10)
    with opened(path, sys.stdin.buffer, tmp_path) as given, path.open("ab") as more:
        more.write(jsonl(line()))
        more.flush()
        with pytest.raises(InterlockError):
            checked(house.app, looked_at(house.app, given))


def test_two_that_take_one_file(house: House, tmp_path: Path) -> None:
    path = many(tmp_path / "log", 10)
    with opened(path, sys.stdin.buffer, tmp_path) as given:
        file = looked_at(house.app, given)
        found = checked(house.app, file)
        take(house, path)
        who = Caller(house.app.access.person_of(getpass.getuser()))
        with pytest.raises(BusyError, match="another run"):
            perform(house.app, who, ingest_with(file, found), source=file.source, lines=given.lines)
    assert len(house.told()) == 10


def test_up_to_ten_thousand_lines_are_one_transaction(tmp_path: Path) -> None:
    for count, portions in ((ONE, 1), (ONE + 1, 3), (2 * LINES + LINES // 2, 3)):
        with opened(many(tmp_path / "log", count), sys.stdin.buffer, tmp_path) as given:
            found = ingest.check(given, 0, lambda _: [], lambda _: None)
            assert len(found.portions) == portions
            assert [(each.after, each.upto) for each in found.portions][-1][1] == count
            numbers = [number for each in found.portions for number, _ in ingest.events(given, each)]
            assert numbers == list(range(1, count + 1))
            rest = ingest.check(given, found.portions[0].upto, lambda _: [], lambda _: None)
            assert [number for each in rest.portions for number, _ in ingest.events(given, each)] == numbers[
                found.portions[0].upto :
            ]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Portions of three lines, in files of more than four."""
    monkeypatch.setattr(ingest, "ONE", 4)
    monkeypatch.setattr(ingest, "LINES", 3)


@pytest.mark.usefixtures("small")
def test_ctrl_c_between_two_commits_ends_it_and_the_same_file_goes_on(house: House, run: Run, tmp_path: Path) -> None:
    path = many(tmp_path / "log", 10)

    def stop(what: str, done: int, _: int | None = None) -> None:
        if (what, done) == ("lines taken", 6):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        take(house, path, progress=stop)
    assert len(house.told()) == 6
    assert house.app.ledger.list(Query(what="audit.ingest"))[-1].outcome == "interrupted"
    assert run("audit", "ingest", str(path)) == 0
    assert "6 lines were taken by an earlier run" in house.err
    assert [entry.counts["rows"] for entry in house.told()] == list(range(10))


@pytest.mark.usefixtures("small")
def test_sigint_while_the_command_works_exits_130(house: House, run: Run, tmp_path: Path) -> None:
    from guard import faults

    path = many(tmp_path / "log", 10)
    faults.install(lambda name: signal.raise_signal(signal.SIGINT) if name == "audit.ingest.taken" else None)
    try:
        code = run("audit", "ingest", str(path))
    finally:
        faults.install(None)
    assert code == 130
    assert "run the same command again to go on" in house.err
    taken = len(house.told())
    assert 0 < taken < 10
    assert run("audit", "ingest", str(path)) == 0
    assert [entry.counts["rows"] for entry in house.told()] == list(range(10))


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_a_kill_at_any_point_loses_and_doubles_nothing(house: House, tmp_path: Path, fault_points: Faults) -> None:
    """Every point an ingest passes, killed at in turn on one file after another; each is then finished."""

    def work(path: Path) -> None:
        take(House(house.reopen(), house.clock, house.phone), path)

    def file(number: int) -> Path:
        events = [line(counts={"rows": each}, objects=["customer"], purpose="test") for each in range(8)]
        events[3] |= {"subject": [{"kind": "customer", "key": 10 * number + each} for each in range(2)]}
        events[5] |= {"id": f"{number}"}
        path = tmp_path / f"log{number}"
        path.write_bytes(jsonl(*events))
        return path

    work(file(0))  # the first person of all has a key of the epoch made too
    points = fault_points.passed(lambda: work(file(1)))
    assert {"audit.ingest.read", "audit.ingest.taken", "audit.persons.keys"} <= set(points)
    for nth in range(1, len(points) + 1):
        path = file(nth + 1)
        assert fault_points.killed(lambda path=path: work(path), nth)
        house.reopen()
        take(house, path)
        with opened(path, sys.stdin.buffer, tmp_path) as given:
            source = looked_at(house.app, given).source
            mine = [entry for entry in house.told() if entry.facts["source"] == source]
        assert [entry.counts["rows"] for entry in mine] == [0, 1, 2, 3, 3, 4, 5, 6, 7]
        with house.app.state.read() as tx:
            found = told_store.position(tx, source)
        assert found is not None
        assert found.taken == found.lines == 8
    house.app.ledger.inspect()
