"""Values sealed through the agent's socket in batches by one client, and the same values sealed in its own process.

The agent is `guard daemon`, a process of its own; the client is another OS user where this one is root, since the agent
takes no call from root. Each value is an e-mail address of 28 bytes, bound to its row, and comes back sealed with its
token. What is timed is all of it by the clock on the wall: JSON and socket both ways, keys read, cipher, tokens.
"""

import getpass
import json
import os
import pwd
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from sqlite3 import connect

from bench.harness import Bar, Row
from guard.access import Enrolment, code_at
from guard.actions.setup import Answers, set_up
from guard.app import App
from guard.canon import key_bytes
from guard.client import Agent
from guard.clock import SteppedClock, SystemClock
from guard.events import PrincipalId
from guard.fields.keys import FieldKeys, given_by

BATCH, BATCHES, ROUNDS = 1000, 20, 5
AT = "customer.email"
OTHER = "www-data"
"""A user that a Debian has."""

CATALOG = f"""
[[column]]
id = 1
at = "{AT}"
protect = "encrypt"
index = "email"
"""


def rows() -> list[Row]:
    """Return the row of the table."""
    with tempfile.TemporaryDirectory(prefix="guard-bench-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        app = _sealed_shop(folder)
        with _agent(app):
            through = _as_other(lambda: _rate(_asking(app.agent_socket)))
        here = _rate(_in_process(app))
        app.close()
    what = f"e-mails sealed with their tokens through the socket, in batches of {BATCH:,}; peer: in-process"
    return [Row(what, through, here, "values/s", Bar("ours", ">=", 20_000))]


def _values(batch: int) -> tuple[list[list[int]], list[str]]:
    numbers = range(batch * BATCH, (batch + 1) * BATCH)
    return [[number] for number in numbers], [f"anna.muster{number:05}@example.org" for number in numbers]


def _rate(seal: Callable[[int], int]) -> float:
    """Return how many values are sealed in a second: the median of all rounds but the first."""
    rates = []
    for _ in range(ROUNDS + 1):
        begun = time.perf_counter()
        done = sum(seal(batch) for batch in range(BATCHES))
        rates.append(done / (time.perf_counter() - begun))
    return statistics.median(rates[1:])


def _asking(path: Path) -> Callable[[int], int]:
    agent = Agent(path, "shop", 60)

    def seal(batch: int) -> int:
        keys, values = _values(batch)
        told = agent.ask("seal", {"column": AT, "keys": keys, "values": values})
        return _counted(told["values"], next(iter(told["tokens"].values())))

    return seal


def _in_process(app: App) -> Callable[[int], int]:
    keys = FieldKeys(lambda: given_by(app, PrincipalId("s-shop")))

    def seal(batch: int) -> int:
        rows_, values = _values(batch)
        live = keys.column(AT)
        sealed = live.seal([key_bytes(row) for row in rows_], values)
        return _counted(sealed, live.tokens[0].of.tokens(values))

    return seal


def _counted(sealed: list[object], tokens: list[object]) -> int:
    """Return how many values were sealed. Raises RuntimeError when they are not what is to be timed."""
    if len({*sealed}) != BATCH or len({*tokens}) != BATCH or not all(str(each).startswith("g1.") for each in sealed):
        raise RuntimeError("a batch did not come back sealed")
    return len(sealed)


def _sealed_shop(folder: Path) -> App:
    """Set guard up beside a small shop, and seal its one column."""
    with connect(folder / "shop.db") as shop:
        shop.execute("CREATE TABLE customer (id INTEGER PRIMARY KEY, email VARCHAR(60) NOT NULL UNIQUE)")
        shop.execute("INSERT INTO customer VALUES (1, 'ada@example.org')")
    shop.close()
    past = SystemClock().now() - timedelta(hours=2)

    def enrol(enrolment: Enrolment) -> tuple[str, str]:
        return code_at(enrolment.secret_text, past - timedelta(seconds=30)), code_at(enrolment.secret_text, past)

    answers = Answers("Bench", "sqlite:///../shop.db", "Ada", getpass.getuser())
    made = set_up(folder / "guard", answers, SteppedClock(past), enrol)
    made.app.close()
    made.config.write_text(made.config.read_text() + f'\n[agent]\nsocket = "{folder}/run/guard.sock"\n')
    (folder / "guard/policies/catalog.toml").write_text(CATALOG)
    policy = folder / "guard/policies/access.toml"
    who = f'os_user = "{OTHER}"\n' if os.geteuid() == 0 else ""
    policy.write_text(policy.read_text().replace("[service.shop]", f'[service.shop]\n{who}columns = ["{AT}"]', 1))
    app = App.open(made.config)
    digest = app.digest("catalog", CATALOG.encode())
    app.state.write(lambda tx: app.state.meta.set(tx, "privacy.catalog", digest))
    fields = replace(app.fields, lacks=tuple)
    fields.prepare()
    swept = fields.encrypt(fields.plan(), app.new_run())
    app.state.write(fields.remember(swept))
    return app


@contextmanager
def _agent(app: App) -> Iterator[None]:
    """Run `guard daemon` while the block runs."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(app.home / "notify"))
        heard.settimeout(60)
        words = [sys.executable, "-m", "guard", "--config", str(app.home / "guard.toml"), "daemon"]
        environment = os.environ | {"NOTIFY_SOCKET": str(app.home / "notify")}
        daemon = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while heard.recv(100) != b"READY=1":
                pass
            yield
        finally:
            daemon.terminate()
            daemon.wait(60)


def _as_other(work: Callable[[], float]) -> float:
    """Return what `work` returns in a forked child, which is another OS user where this one is root."""
    "".encode("utf-16be")  # a child of another user may not load it any more
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                who = pwd.getpwnam(OTHER)
                os.setgroups([])
                os.setgid(who.pw_gid)
                os.setuid(who.pw_uid)
            found: object = {"rate": work()}
        except BaseException as error:  # noqa: BLE001  # it is told to the parent
            found = {"error": f"{type(error).__name__}: {error}"}
        os.write(into, json.dumps(found).encode())
        os._exit(0)
    os.close(into)
    with os.fdopen(out) as pipe:
        told = json.loads(pipe.read())
    os.waitpid(child, 0)
    if "error" in told:
        raise RuntimeError(told["error"])
    return float(told["rate"])
