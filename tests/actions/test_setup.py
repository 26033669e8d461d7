"""`set_up`: what fails half-way leaves the folder as it was, whoever else works in it meanwhile."""

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from guard.access import Enrolment, code_at
from guard.actions.setup import Answers, Made, set_up
from guard.clock import SteppedClock
from guard.errors import ConfigError, DeniedError, GuardError
from tests.access.conftest import STEP

ANSWERS = Answers("Music", "sqlite:///shop.db", "Ada", "ada")


def enroller(clock: SteppedClock, meanwhile: Callable[[], None] = lambda: None) -> Callable[..., tuple[str, str]]:
    def enrol(enrolment: Enrolment) -> tuple[str, str]:
        meanwhile()
        first = code_at(enrolment.secret_text, clock.now())
        clock.step(STEP)
        return first, code_at(enrolment.secret_text, clock.now())

    return enrol


def wrong(meanwhile: Callable[[], None] = lambda: None) -> Callable[..., tuple[str, str]]:
    def enrol(_: Enrolment) -> tuple[str, str]:
        meanwhile()
        return "000000", "000001"

    return enrol


@pytest.fixture
def made(tmp_path: Path, clock: SteppedClock) -> Iterator[Made]:
    done = set_up(tmp_path / "guard", ANSWERS, clock, enroller(clock))
    yield done
    done.app.close()


def test_wrong_codes_leave_what_others_put_there_meanwhile(tmp_path: Path, clock: SteppedClock) -> None:
    """The shop goes on while somebody looks for their phone: its write-ahead log is not guard's to delete."""
    (tmp_path / "shop.db").write_bytes(b"shop")

    def shop_goes_on() -> None:
        (tmp_path / "shop.db-wal").write_bytes(b"orders of this minute")
        (tmp_path / "uploads").mkdir()

    with pytest.raises(DeniedError):
        set_up(tmp_path, ANSWERS, clock, wrong(shop_goes_on))
    assert sorted(each.name for each in tmp_path.iterdir()) == ["shop.db", "shop.db-wal", "uploads"]


def test_a_new_folder_that_failed_goes_again_with_those_above_it(tmp_path: Path, clock: SteppedClock) -> None:
    with pytest.raises(DeniedError):
        set_up(tmp_path / "srv" / "guard", ANSWERS, clock, wrong())
    assert list(tmp_path.iterdir()) == []


def test_a_new_folder_that_failed_stays_when_others_use_it(tmp_path: Path, clock: SteppedClock) -> None:
    home = tmp_path / "srv" / "guard"
    with pytest.raises(DeniedError):
        set_up(home, ANSWERS, clock, wrong((home / "note.txt").touch))
    assert [each.name for each in home.iterdir()] == ["note.txt"]


def test_a_second_set_up_at_the_same_time_takes_nothing_of_the_first(tmp_path: Path, clock: SteppedClock) -> None:
    home = tmp_path / "guard"

    def second() -> None:
        (home / "guard.toml").rename(tmp_path / "aside")  # the other process looked before it was written
        with pytest.raises(ConfigError, match="exists already"):
            set_up(home, ANSWERS, clock, wrong())
        (tmp_path / "aside").rename(home / "guard.toml")

    done = set_up(home, ANSWERS, clock, enroller(clock, second))
    assert done.app.access.person_of("ada").name == "Ada"
    done.app.ledger.verify()
    done.app.close()


@pytest.mark.parametrize("name", [".gitignore", "keys", "anchors", "recovery-kit", "policies"])
def test_what_lies_there_already_is_neither_overwritten_nor_removed(
    tmp_path: Path, clock: SteppedClock, name: str
) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(GuardError):
        set_up(tmp_path, ANSWERS, clock, enroller(clock))
    assert [each.name for each in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), EOFError()])
def test_an_interrupt_while_codes_are_asked_for_leaves_nothing(
    tmp_path: Path, clock: SteppedClock, error: BaseException
) -> None:
    def enrol(_: Enrolment) -> tuple[str, str]:
        raise error

    with pytest.raises(type(error)):
        set_up(tmp_path / "guard", ANSWERS, clock, enrol)
    assert list(tmp_path.iterdir()) == []


def test_a_link_that_appears_is_not_followed(tmp_path: Path, clock: SteppedClock) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").touch()
    home = tmp_path / "guard"

    def swap() -> None:
        shutil.rmtree(home / "runbooks")
        (home / "runbooks").symlink_to(elsewhere)

    with pytest.raises(DeniedError):
        set_up(home, ANSWERS, clock, wrong(swap))
    assert (elsewhere / "file").exists()


def test_nobody_else_can_write_what_guard_obeys(tmp_path: Path, clock: SteppedClock) -> None:
    before = os.umask(0)
    try:
        made = set_up(tmp_path / "guard", ANSWERS, clock, enroller(clock))
        made.app.close()
    finally:
        os.umask(before)
    home = made.config.parent
    loose = [path for path in (home, *home.rglob("*")) if not path.is_symlink() and path.stat().st_mode & 0o022]
    assert loose == []
    for name in ("keys", "var", "recovery-kit"):
        assert stat.S_IMODE((home / name).stat().st_mode) == 0o700


def test_names_of_the_shop_come_back_as_they_were_typed(tmp_path: Path, clock: SteppedClock) -> None:
    name = 'Bäckerei "Süß" \\ 面包 \x7f'
    done = set_up(tmp_path, Answers(name, "sqlite:///shop.db", "Ada", "ada"), clock, enroller(clock))
    assert done.app.settings.name == name
    done.app.close()


def test_recovery_codes_and_passphrase_do_not_show_in_a_repr(made: Made) -> None:
    assert made.recovery_codes[0] not in repr(made)
    assert "hunter2 hunter2" not in repr(Answers("M", "sqlite:///x", "Ada", "ada", passphrase="hunter2 hunter2"))
