"""guard audit witness: cosign what others anchor. Needs no guard.toml."""

from __future__ import annotations

import signal
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from guard.cli._output import plain, say
from guard.errors import ConfigError

if TYPE_CHECKING:
    from types import FrameType

    from guard.audit.witness import Decision, Witness
    from guard.audit.witness_server import WitnessServer
    from guard.crypto.sign import Verifier

_file = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.option("--listen", default="127.0.0.1:8443", show_default=True, metavar="HOST:PORT", help="Where to listen.")
@click.option("--store", required=True, type=click.Path(path_type=Path, file_okay=False), help="Its folder.")
@click.option("--log", "vkeys", multiple=True, metavar="VKEY", help="A log to cosign for; may be given more than once.")
@click.option("--logs", type=_file, help="A file with the VKEYs of logs, a line each; # begins a comment.")
@click.option("--name", help="What it is called, the first time: host/purpose.  [default: this host's name]")
@click.option("--tls-cert", type=_file, help="Serve https with this certificate and its chain (PEM).")
@click.option("--tls-key", type=_file, help="The certificate's key (PEM).")
@click.option("--no-tls", is_flag=True, help="Serve plain http to other machines, e.g. behind a proxy that does https.")
@click.pass_context
def witness(
    context: click.Context,
    listen: str,
    store: Path,
    vkeys: tuple[str, ...],
    logs: Path | None,
    name: str | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    no_tls: bool,
) -> None:
    """Cosign the checkpoints of others' ledgers, and never two histories of one (C2SP tlog-witness).

    Run it on a host that the ledger's own administrators do not hold: an auditor's, another team's. The first time it
    makes a key in --store. It prints its vkey, for the other's guard.toml, then a line for each decision. --log is what
    `guard init` or `guard audit checkpoint --vkey` prints over there; after a change of key or a restore a further one
    is given. Two vkeys of one origin are both good.

    Whoever compares reads the newest cosigned checkpoint at /checkpoint?origin=ORIGIN. SIGTERM and Ctrl-C end it.

    \b
    Example: guard audit witness --store /var/lib/witness --log guard-ledger/...+0a1b2c3d+AQ...
    """
    from guard.audit.witness import opened  # noqa: PLC0415  # keeps --help light
    from guard.clock import SystemClock  # noqa: PLC0415

    place, tls = _place(listen), _tls(tls_cert, tls_key)
    if tls is None and place[0] not in {"localhost", "127.0.0.1", "::1"} and not no_tls:
        raise ConfigError(f"{place[0]} is reached from elsewhere", hint="give --tls-cert and --tls-key, or --no-tls")
    with opened(store, name or socket.gethostname(), _known(vkeys, logs), SystemClock()) as made:
        _serve(place, made, tls, as_json=bool(context.find_root().params["as_json"]))


def _serve(place: tuple[str, int], witness: Witness, tls: ssl.SSLContext | None, *, as_json: bool) -> None:
    """Answer until a signal; say what is decided."""
    from guard.audit.witness_server import WitnessServer  # noqa: PLC0415  # keeps --help light
    from guard.clock import SystemClock  # noqa: PLC0415

    def tell(made: Decision) -> None:
        at = f"{SystemClock().now():%Y-%m-%dT%H:%M:%SZ}"
        click.echo(msgspec.json.encode({"at": at, **plain(made)}).decode() if as_json else f"{at} {_line(made)}")

    with WitnessServer(place, witness, tell, tls) as server:
        host, port = server.server_address[:2]
        where = f"{'http' if tls is None else 'https'}://{_shown(str(host))}:{port}"
        click.echo(msgspec.json.encode({"vkey": witness.vkey, "url": where}).decode() if as_json else witness.vkey)
        say(f"witness of {len(witness.logs)} logs at {where}; Ctrl-C or SIGTERM ends it")
        with _stopped_by_signals(server):
            server.serve_forever(poll_interval=0.2)


def _line(made: Decision) -> str:
    """Return a decision as a line; what comes from outside and is not known is not shown."""
    sizes = "" if made.old is None else f" {made.old} -> {made.size}"
    return f"{made.status} {made.origin or '-'}{sizes}: {made.why}"


def _place(listen: str) -> tuple[str, int]:
    host, colon, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (colon and host and port.isascii() and port.isdigit() and int(port) < 1 << 16):
        raise click.UsageError(f"--listen is HOST:PORT, not {listen}")
    return host, int(port)


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _known(vkeys: tuple[str, ...], logs: Path | None) -> list[Verifier]:
    from guard.crypto.sign import Verifier  # noqa: PLC0415  # keeps --help light

    try:
        lines = [] if logs is None else logs.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {logs}: {getattr(error, 'strerror', None) or error}") from error
    wanted = [*vkeys, *(line for line in (each.partition("#")[0].strip() for each in lines) if line)]
    if not wanted:
        raise click.UsageError("name at least one log: --log VKEY or --logs FILE")
    return [Verifier.from_vkey(each) for each in wanted]


def _tls(cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """Return what TLS needs, out of two PEM files; None without. Raises ConfigError when they cannot be used."""
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise click.UsageError("--tls-cert and --tls-key go together")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(cert, key)
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise ConfigError(f"{cert} and {key} are no certificate with its key: {why}") from error
    return context


@contextmanager
def _stopped_by_signals(server: WitnessServer) -> Iterator[None]:
    """Let SIGTERM and SIGINT stop the server while the block runs; `stop` must not run in the thread that serves."""

    def handle(_: int, __: FrameType | None) -> None:
        threading.Thread(target=server.stop).start()

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
