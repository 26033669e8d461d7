"""`guard access` as typed: in this process where nobody can answer, and on a real pseudo-terminal in real time."""

import json
import os
import pty
import re
import select
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from guard.access import Enrolment, code_at
from guard.actions import Action, Caller, Outcome, perform
from guard.actions.setup import Answers, set_up
from guard.app import App
from guard.audit import Query
from guard.cli._door import os_user
from guard.cli._qr import qr_lines
from guard.cli.main import call
from guard.clock import SystemClock
from guard.errors import WaitingError
from guard.events import Activity, Level

STEP = timedelta(seconds=30)
CLOCK = SystemClock()


@dataclass(frozen=True, slots=True)
class Folder:
    """A guard folder of the user who runs the tests."""

    config: Path
    secret: str
    recovery: tuple[str, ...]

    def guard(self, *words: str) -> int:
        return call(["--config", str(self.config), *words])

    def outcomes(self, what: str) -> list[str]:
        app = App.open(self.config)
        try:
            return [" ".join([each.outcome, *each.facts.values()]) for each in app.ledger.list(Query(what=what), 100)]
        finally:
            app.close()


@pytest.fixture
def folder(tmp_path: Path, shop_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folder]:
    secrets = []

    def enrol(enrolment: Enrolment) -> tuple[str, str]:
        """Read two codes off at once: the step before this one, and this one."""
        secrets.append(enrolment.secret_text)
        now = CLOCK.now()
        return code_at(enrolment.secret_text, now - STEP), code_at(enrolment.secret_text, now)

    home = tmp_path / "guard"
    made = set_up(home, Answers("Music", shop_url, "Ada", os_user()), CLOCK, enrol)
    made.app.close()
    with Path(os.devnull).open() as nobody:
        monkeypatch.setattr(sys, "stdin", nobody)
        yield Folder(made.config, secrets[0], made.recovery_codes)


def wipe(folder: Folder) -> str:
    """Ask for a dual action and return the id of what waits."""
    app = App.open(folder.config)
    dual = Action("test.wipe", Level.DUAL, Activity.API_DELETE, lambda app, task: Outcome(None))
    try:
        with pytest.raises(WaitingError):
            perform(app, Caller(app.access.person_of(os_user()), lambda _: folder.recovery[-1]), dual)
        return app.access.requests()[0].id
    finally:
        app.close()


def test_the_list_shows_people_and_services(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    assert folder.guard("--json", "access", "list") == 0
    ada, daemon, shop = json.loads(capsys.readouterr().out)
    assert (ada["name"], ada["os_user"], ada["role"], ada["recovery_codes"]) == ("Ada", os_user(), "owner", 10)
    assert (daemon["id"], shop["id"]) == ("s-daemon", "s-shop")


def test_what_waits_is_listed_and_refused(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    waiting = wipe(folder)
    assert folder.guard("access", "requests") == 0
    assert waiting in capsys.readouterr().out
    assert folder.guard("--yes", "access", "refuse", waiting) == 0
    assert folder.guard("--json", "access", "requests") == 0
    assert json.loads(capsys.readouterr().out) == []
    assert folder.guard("--yes", "access", "refuse", waiting) == 2


def test_refusing_asks_first(folder: Folder) -> None:
    waiting = wipe(folder)
    assert folder.guard("access", "refuse", waiting) == 2, "there is nobody to ask"
    assert folder.outcomes("access.refuse") == []
    assert folder.guard("access", "refuse", waiting, "--yes") == 0, "it still waited"


@pytest.mark.parametrize(
    ("words", "what"),
    [(("add", "Bob", "--os-user", "bob", "--role", "ops"), "access.add"), (("grant", "retention.run"), "access.grant")],
)
def test_without_a_terminal_nobody_is_added_and_nothing_approved(
    folder: Folder, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], what: str
) -> None:
    assert folder.guard("access", *words) == 10
    assert "no terminal" in capsys.readouterr().err


def test_a_service_is_no_role_to_give(folder: Folder) -> None:
    assert folder.guard("access", "add", "Bob", "--os-user", "bob", "--role", "service") == 2


@pytest.mark.parametrize("words", [("list",), ("requests",), ("refuse", "r-aaaaaaaaaa"), ("grant", "retention.run")])
def test_an_os_user_that_is_nobody_gets_nothing_and_is_recorded(
    folder: Folder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 4242)
    assert folder.guard("--yes", "access", *words) == 10
    assert "nobody guard knows" in capsys.readouterr().err
    assert folder.outcomes("access.enter") == ["denied unknown principal"]


def test_the_environment_does_not_say_who_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    before = os_user()
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "somebody-else")
    assert os_user() == before
    monkeypatch.setattr(os, "getuid", lambda: 987654)
    assert os_user() == "uid 987654"


def test_a_qr_code_is_a_square_that_fits_a_terminal() -> None:
    lines = qr_lines("otpauth://totp/guard:Ada%20Lovelace?secret=" + "A" * 32 + "&issuer=guard")
    assert len({len(line) for line in lines}) == 1
    assert len(lines[0]) <= 60
    assert (len(lines[0]) + 1) // 2 == len(lines) <= 30
    assert set("".join(lines)) <= set(" ▀▄█")


# On a terminal -------------------------------------------------------------------------------------------------------


class Terminal:
    """A real pseudo-terminal with `guard` on it. Answers each question once it is there."""

    def __init__(self, folder: Folder, *words: str) -> None:
        self.said = ""
        self._pid, self._file = pty.fork()
        if self._pid == 0:
            os.execv(sys.executable, [sys.executable, "-m", "guard", "--config", str(folder.config), *words])

    def answer(self, question: str, reply: Callable[[], str]) -> None:
        at = len(self.said)
        while question not in self.said[at:]:
            assert self._read(), self.said
        os.write(self._file, f"{reply()}\n".encode())

    def end(self) -> int:
        while self._read():
            pass
        os.close(self._file)
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])

    def _read(self) -> bool:
        assert select.select([self._file], [], [], 60)[0], self.said
        try:
            found = os.read(self._file, 10_000)
        except OSError:  # Linux says so when the other side is closed
            return False
        self.said += found.decode(errors="replace")
        return bool(found)


def test_a_person_is_added_on_a_terminal_and_no_code_is_echoed(folder: Folder) -> None:
    terminal = Terminal(folder, "access", "add", "Bob", "--os-user", "bob", "--role", "ops")

    def secret() -> str:
        found = re.search(r"secret: ([A-Z2-7]{32})", terminal.said)
        assert found is not None
        return found[1]

    terminal.answer("The code it shows now: ", lambda: code_at(secret(), CLOCK.now() - STEP))
    terminal.answer("The next code", lambda: code_at(secret(), CLOCK.now()))
    terminal.answer("Code: ", lambda: folder.recovery[0])
    assert terminal.end() == 0
    assert "█" in terminal.said
    assert "take in Bob, OS user bob, as ops" in terminal.said
    assert len(re.findall(r"^  [A-Z2-7]{4}(?:-[A-Z2-7]{4}){3}\r?$", terminal.said, re.MULTILINE)) == 10
    assert folder.recovery[0] not in terminal.said
    assert folder.outcomes("access.add") == ["begun recovery code", "done ops"]


def test_a_wrong_code_on_a_terminal_ends_with_10_and_is_recorded(folder: Folder) -> None:
    terminal = Terminal(folder, "access", "grant", "retention.run")
    terminal.answer("Code: ", lambda: "AAAA-BBBB-CCCC-DDDD")
    assert terminal.end() == 10
    assert "the code was not accepted" in terminal.said
    assert folder.outcomes("access.grant") == ["denied wrong code"]


def test_a_code_in_real_time_approves_a_night_job(folder: Folder) -> None:
    terminal = Terminal(folder, "access", "grant", "retention.run")
    terminal.answer("Code: ", lambda: code_at(folder.secret, CLOCK.now() + STEP))  # this step went with the enrolment
    assert terminal.end() == 0
    assert "SHA-256" in terminal.said
    assert folder.outcomes("access.grant") == ["begun code", "done"]


def test_ctrl_d_where_a_code_is_asked_for_is_an_interrupt(folder: Folder) -> None:
    terminal = Terminal(folder, "access", "add", "Bob", "--os-user", "bob", "--role", "ops")
    terminal.answer("The code it shows now: ", lambda: "\x04")
    assert terminal.end() == 130
    assert "unexpected" not in terminal.said


# People and their second factor --------------------------------------------------------------------------------------


def test_the_list_says_how_each_second_factor_stands(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    assert folder.guard("--json", "access", "list") == 0
    ada, daemon, _ = json.loads(capsys.readouterr().out)
    assert (ada["enabled"], ada["factor"], ada["enrol_until"], ada["locked_until"]) == (True, "active", None, None)
    assert daemon["factor"] is None
    assert folder.guard("access", "list") == 0
    assert {"factor", "recovery_codes", "enrol_until", "locked_until"} <= set(capsys.readouterr().out.split())


@pytest.mark.parametrize("words", [("enrol",), ("enrol", "--recovery-codes-only")])
def test_without_a_terminal_nobody_enrols(
    folder: Folder, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert folder.guard("access", *words) == 10
    assert "no terminal" in capsys.readouterr().err
    assert folder.outcomes("access.renew") == folder.outcomes("access.enrol") == []


@pytest.mark.parametrize("command", ["disable", "reset"])
def test_the_last_owner_stays_and_the_way_out_is_said(
    folder: Folder, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert folder.guard("access", command, os_user()) == 14
    assert "guard access add" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["disable", "enable", "reset"])
def test_nobody_of_this_name_is_said(folder: Folder, capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert folder.guard("access", command, "nobody-here") == 2
    assert "`guard access list`" in capsys.readouterr().err


def _enrol(terminal: Terminal) -> None:
    """Scan what is shown and type two codes, read off at once: of the step before this one, and of this one."""

    def secret() -> str:
        found = re.search(r"secret: ([A-Z2-7]{32})", terminal.said)
        assert found is not None
        return found[1]

    terminal.answer("The code it shows now: ", lambda: code_at(secret(), CLOCK.now() - STEP))
    terminal.answer("The next code", lambda: code_at(secret(), CLOCK.now()))


_PRINTED = re.compile(r"^  ([A-Z2-7]{4}(?:-[A-Z2-7]{4}){3})\r?$", re.MULTILINE)


def test_a_new_phone_is_enrolled_on_a_terminal_after_a_recovery_code(folder: Folder) -> None:
    terminal = Terminal(folder, "access", "enrol")
    terminal.answer("Code: ", lambda: folder.recovery[0])
    for question in ("The code it shows now: ", "The next code"):  # a slip of the finger costs no other recovery code
        terminal.answer(question, lambda: "12345")
    _enrol(terminal)
    assert "not two consecutive codes" in terminal.said
    assert terminal.end() == 0
    new = _PRINTED.findall(terminal.said)
    assert len(set(new)) == 10
    assert not set(new) & set(folder.recovery)
    assert folder.outcomes("access.renew") == ["begun recovery code", "done authenticator"]
    assert folder.outcomes("access.enrol") == ["begun role", "done"]
    again = Terminal(folder, "access", "enrol")
    again.answer("Code: ", lambda: folder.recovery[1])
    assert again.end() == 10, "the old recovery codes have ended"


def test_new_recovery_codes_are_given_on_a_terminal(folder: Folder) -> None:
    terminal = Terminal(folder, "access", "enrol", "--recovery-codes-only")
    terminal.answer("Code: ", lambda: folder.recovery[0])
    assert terminal.end() == 0
    assert len(set(_PRINTED.findall(terminal.said)) - set(folder.recovery)) == 10
    assert "█" not in terminal.said, "the authenticator stays"
    assert folder.outcomes("access.renew") == ["begun recovery code", "done recovery codes"]


def test_somebody_is_taken_in_who_is_not_there(folder: Folder) -> None:
    terminal = Terminal(folder, "access", "add", "Bob", "--os-user", "bob", "--role", "ops", "--later")
    terminal.answer("Code: ", lambda: folder.recovery[0])
    assert terminal.end() == 0
    assert "`guard access enrol` within 24 hours" in terminal.said
    assert "secret" not in terminal.said
    assert folder.outcomes("access.add") == ["begun recovery code", "done none yet ops"]
