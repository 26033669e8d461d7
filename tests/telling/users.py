"""guard beside people who are other OS users: an agent of its own user, and their terminals."""

import atexit
import fcntl
import os
import pwd
import re
import select
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from guard.access import Enrolment, code_at
from guard.actions.setup import Answers, set_up
from guard.app import App
from guard.clock import SystemClock
from guard.events import Role
from tests.telling.shop import House, as_user

AGENT, PERSON, STRANGER = "games", "www-data", "bin"
"""OS users that a Debian has."""

_REPOSITORY = Path(__file__).parents[2]
_path = [str(_REPOSITORY), *(path for path in sys.path if path.endswith("site-packages"))]


def python() -> str | None:
    """Return a Python like this one that other OS users may run too; None where there is none."""
    if os.geteuid() != 0:
        return None
    return _reached() or (_lay_open() and _reached())


def _reached() -> str | None:
    for each in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):

        def tries(each: str = each) -> int:
            done = subprocess.run([each, "-c", "import guard.app, sqlalchemy"], env=environment(), capture_output=True)
            return done.returncode

        if as_user(PERSON, tries).get("ok") == 0:
            return each
    return None


def _lay_open() -> bool:
    """Copy guard and what it needs to where every OS user may read it, for a checkout where others may not enter."""
    folder = Path(tempfile.mkdtemp(prefix="guard-others-"))
    folder.chmod(0o755)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    shutil.copytree(_REPOSITORY / "guard", folder / "guard", ignore=shutil.ignore_patterns("__pycache__"))
    known, waiting = set(), ["guard-toolkit"]
    while waiting:
        name = waiting.pop()
        if name in known:
            continue
        known.add(name)
        with suppress(PackageNotFoundError):
            found = distribution(name)
            wanted = [each for each in found.requires or () if "extra ==" not in each]
            waiting += [re.split(r"[^\w.-]", each)[0].lower() for each in wanted]
            for file in found.files or ():
                if ".." not in file.parts and (lies := Path(str(found.locate_file(file)))).is_file():
                    (folder / file).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(lies, folder / file)
    _path[:] = [str(folder)]
    return True


def environment(**more: str) -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(_path), **more}


class Phone:
    """The authenticator of somebody; each code is of another step than the one before."""

    def __init__(self) -> None:
        self.secret = ""
        self.recovery_codes: list[str] = []
        self.now = SystemClock().now() - timedelta(minutes=1)

    def enrol(self, enrolment: Enrolment) -> tuple[str, str]:
        self.secret = enrolment.secret_text
        return code_at(self.secret, self.now), code_at(self.secret, self.now + timedelta(seconds=30))

    def code(self) -> str:
        """A code that was not used before; of now the first time."""
        if self.secret:
            secret, self.secret = self.secret, ""
            return code_at(secret, SystemClock().now())
        return self.recovery_codes.pop()


def take_in(app: App, name: str, os_user: str, role: Role) -> Phone:
    """Take a person in whose codes are those of now."""
    phone = Phone()
    room = app.access
    enrolment = room.begin_enrolment(name, os_user, role)
    member = room.confirm(enrolment, *phone.enrol(enrolment))
    app.state.write(lambda tx: room.admit(tx, member))
    phone.recovery_codes = list(member.recovery_codes)
    return phone


def give(house: House, os_user: str) -> None:
    """Give all of guard's folder, and the shop, to an OS user."""
    who = pwd.getpwnam(os_user)
    for path in [house.home.parent, *house.home.parent.rglob("*")]:
        os.chown(path, who.pw_uid, who.pw_gid, follow_symlinks=False)


class Terminal:
    """A terminal with one command of somebody on it."""

    def __init__(self, words: list[str], user: str, **more: Any) -> None:
        self.master, slave = os.openpty()
        os.chown(os.ttyname(slave), pwd.getpwnam(user).pw_uid, -1)
        self.name = os.ttyname(slave)
        self.screen = self.all = ""
        self.process = subprocess.Popen(
            words, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, user=user, group=user,
            extra_groups=[], preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509  # calls nothing else
            **more,
        )  # fmt: skip
        self.slave = slave

    def until(self, text: str) -> str:
        """Wait until a text stands on the screen."""
        while text not in self.screen:
            ready, _, _ = select.select([self.master], [], [], 60)
            assert ready, self.screen
            self._read()
        before, _, self.screen = self.screen.partition(text)
        return before + text

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    @property
    def echoes(self) -> bool:
        return bool(termios.tcgetattr(self.slave)[3] & termios.ECHO)

    def wait(self) -> int:
        code = self.process.wait(60)
        while select.select([self.master], [], [], 0)[0]:
            self._read()
        return code

    def shows(self, text: str) -> bool:
        """Wait until a text was on the screen, wherever."""
        while text not in self.all:
            self.until(text)
        return True

    def _read(self) -> None:
        said = os.read(self.master, 1 << 16).decode(errors="replace")
        self.screen += said
        self.all += said

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)


class Beside:
    """A shop whose guard belongs to one OS user, and whose people are others."""

    def __init__(self, folder: Path, house: House, program: str) -> None:
        self.folder = folder
        self.house = house
        self.program = program
        self.phone = take_in(house.app, "Grace", PERSON, Role.OWNER)
        house.app.close()
        self.exchange = folder / "exchange"
        self.exchange.mkdir(mode=0o755)
        give(house, AGENT)
        shutil.chown(self.exchange, AGENT)
        self.notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notified.bind(str(self.exchange.parent / "notify"))
        (self.exchange.parent / "notify").chmod(0o666)
        self.notified.settimeout(60)
        self.opened: list[Terminal] = []
        self.daemon: subprocess.Popen[str] | None = None

    @property
    def words(self) -> list[str]:
        return [self.program, "-m", "guard", "--config", str(self.house.config)]

    def start(self) -> None:
        if self.daemon is not None:
            self.daemon.communicate()
        more = environment(NOTIFY_SOCKET=str(self.exchange.parent / "notify"), SHOP_SECRET="of the agent")
        self.daemon = subprocess.Popen(
            [*self.words, "daemon"], env=more, user=AGENT, group=AGENT, extra_groups=[], stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL, text=True, umask=0o027,
        )  # fmt: skip
        while self.notified.recv(100) != b"READY=1":
            pass

    def run(self, *argv: str, user: str = PERSON, given: str | None = None, **more: str) -> Any:
        """What a command of somebody without a terminal ends with: code, output, error."""
        done = subprocess.run(
            [*self.words, *argv], user=user, group=user, extra_groups=[], env=environment(**more), cwd="/",
            capture_output=True, text=True, **({"stdin": subprocess.DEVNULL} if given is None else {"input": given}),
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    def terminal(self, *argv: str, user: str = PERSON, **more: str) -> Terminal:
        self.opened.append(Terminal([*self.words, *argv], user, env=environment(TERM="xterm", **more), cwd="/"))
        return self.opened[-1]

    def close(self) -> None:
        for each in self.opened:
            each.close()
        if self.daemon is not None:
            self.daemon.send_signal(signal.SIGTERM)
            self.daemon.communicate(timeout=60)
        self.notified.close()
        self.house.app.close()


@contextmanager
def beside(folder: Path, program: str) -> Iterator[Beside]:
    """Set guard up and let its agent run."""
    root = folder / "shop"
    own = f'\n[agent]\nsocket = "{folder}/run/guard.sock"\nexchange = "{folder}/exchange"\n'
    (folder / "run").mkdir(mode=0o711)
    (folder / "run").chmod(0o711)
    shutil.chown(folder / "run", AGENT)
    root.mkdir(mode=0o755)
    sqlite3.connect(root / "shop.db").close()
    owner = Phone()
    found = set_up(root / "guard", Answers("Shop", "sqlite:///../shop.db", "Ada", "root"), SystemClock(), owner.enrol)
    found.config.write_text(found.config.read_text() + own)
    made = Beside(folder, House(found.app, SystemClock(), owner), program)
    made.start()
    try:
        yield made
    finally:
        made.close()
