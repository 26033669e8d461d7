"""What surrounds a MariaDB database and keeps what was written: binlogs, replicas, logs, undo and redo."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from sqlalchemy.engine import Connection

from guard.shop._mysql_rights import rights
from guard.shop.remains import Kind, Look, Remains, unseen

_OPEN = """
SELECT t.trx_mysql_thread_id, p.user, t.trx_started FROM information_schema.innodb_trx t
JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id
WHERE p.id <> CONNECTION_ID() AND t.trx_started < NOW() - INTERVAL 5 MINUTE ORDER BY t.trx_started
"""
_MAGIC = b"\xfebin"


def _binlogs(connection: Connection, since: str | None) -> Iterator[Remains]:
    """Yield the binlogs; with `since` only those before the one of that name."""
    if _setting(connection, "log_bin") != "ON":
        return
    seconds = int(float(_setting(connection, "binlog_expire_logs_seconds") or 0))
    until = _now(connection) + timedelta(seconds=seconds) if seconds else None
    folder = Path(_setting(connection, "log_bin_basename")).parent
    sealed = ", encrypted (encrypt_binlog)" if _setting(connection, "encrypt_binlog") == "ON" else ""
    rows = [tuple(row) for row in connection.exec_driver_sql("SHOW BINARY LOGS")]
    names = [str(row[0]) for row in rows]
    end = names.index(since) if since in names else len(rows)
    for (name, size, *_), following in zip(rows[:end], [*rows[1:], None], strict=False):
        began = _began(folder / str(name))
        since = f", from {began:%Y-%m-%d %H:%M} UTC" if began else ""
        purge = f"PURGE BINARY LOGS TO '{following[0]}' once every replica has read it" if following else (
            "FLUSH BINARY LOGS, then purge it once every replica has read it"
        )  # fmt: skip
        yield Remains(Kind.BINLOG, f"{name} ({size} bytes{since}{sealed})", until, purge)


def _began(file: Path) -> datetime | None:
    """Return when a binlog was begun, by its first event; None where the file is not on this host or not readable."""
    try:
        with file.open("rb") as stream:
            head = stream.read(8)
    except OSError:
        return None
    if len(head) < len(_MAGIC) + 4 or not head.startswith(_MAGIC):  # encrypted ones begin otherwise
        return None
    return datetime.fromtimestamp(int.from_bytes(head[4:8], "little"), UTC)


def _relay_logs(connection: Connection) -> Iterator[Remains]:
    for row in connection.exec_driver_sql("SHOW ALL SLAVES STATUS").mappings():
        yield Remains(
            Kind.BINLOG, f"relay log {row['Relay_Log_File']} of this server, a replica of {row['Master_Host']}", None,
            "seal on the primary; a relay log goes once it is replayed",
        )  # fmt: skip


def _replicas(connection: Connection) -> Iterator[Remains]:
    if not rights(connection).may("PROCESS"):  # without it the list is short and looks whole
        yield unseen("replicas", "PROCESS ON *.*")
        return
    rows = connection.exec_driver_sql(
        "SELECT user, host FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%%' ORDER BY host"
    )
    for user, host in rows:
        yield Remains(
            Kind.REPLICA, f"{user} at {host}", None,
            "its own binlogs, relay logs and free pages keep old values too: look there, or build it anew",
        )  # fmt: skip
    nodes = _status(connection, "wsrep_cluster_size")
    if _setting(connection, "wsrep_on") == "ON":
        yield Remains(
            Kind.REPLICA, f"Galera cluster of {nodes} nodes", None,
            "each keeps write sets in galera.cache, and its own free pages: finalize on every node",
        )  # fmt: skip


def _statements(connection: Connection) -> Iterator[Remains]:
    output = _setting(connection, "log_output")
    for switch, file, table in (
        ("general_log", "general_log_file", "mysql.general_log"),
        ("slow_query_log", "slow_query_log_file", "mysql.slow_log"),
    ):
        if _setting(connection, switch) != "ON":
            continue
        if "FILE" in output:
            name = _setting(connection, file)
            yield Remains(Kind.STATEMENTS, f"{switch}: {name}", None, "delete what was written before now")
        if "TABLE" in output:
            yield Remains(Kind.STATEMENTS, f"{switch}: {table}", None, f"TRUNCATE {table}")
    if _setting(connection, "server_audit_logging") == "ON":
        name = _setting(connection, "server_audit_file_path")
        yield Remains(Kind.STATEMENTS, f"server_audit: {name}", None, "delete what was written before now")


def _engine(connection: Connection) -> Iterator[Remains]:
    size = int(_setting(connection, "innodb_log_file_size") or 0) >> 20
    yield Remains(Kind.FILE, "ib_logfile0 (redo log)", None, f"overwritten once the server has written {size} MiB more")
    undo = int(_setting(connection, "innodb_undo_tablespaces") or 0)
    where = "undo tablespaces, ibdata1 (doublewrite buffer)" if undo else "ibdata1 (undo log, doublewrite buffer)"
    scrubbed = _setting(connection, "innodb_immediate_scrub_data_uncompressed") == "ON"
    yield Remains(
        Kind.FILE, where, None,
        "freed pages are zeroed, what was freed before is not"
        if scrubbed
        else "old versions of rows stay in freed pages until these are used again;"
        " innodb_immediate_scrub_data_uncompressed = ON zeroes what is freed from now on",
    )  # fmt: skip


def _sessions(connection: Connection) -> Iterator[Remains]:
    for number, user, since in connection.exec_driver_sql(_OPEN):
        yield Remains(
            Kind.SESSION, f"connection {number} of {user}, in a transaction since {since:%Y-%m-%d %H:%M}", None,
            f"old rows are kept for it: KILL {number}",
        )  # fmt: skip


def _now(connection: Connection) -> datetime:
    stamp = connection.exec_driver_sql("SELECT UNIX_TIMESTAMP()").scalar_one()
    return datetime.fromtimestamp(int(stamp), UTC)


def _setting(connection: Connection, name: str) -> str:
    """Return a variable of the server; empty when it has none of that name."""
    row = connection.exec_driver_sql("SHOW GLOBAL VARIABLES LIKE %s", (name,)).first()
    return str(tuple(row)[1]) if row is not None else ""


def _status(connection: Connection, name: str) -> str:
    row = connection.exec_driver_sql("SHOW GLOBAL STATUS LIKE %s", (name,)).first()
    return str(tuple(row)[1]) if row is not None else ""


def looks(since: str | None) -> tuple[Look, ...]:
    """Return every place to look at; `since`: the binlog from which on nothing old was written."""
    return (
        Look(partial(_binlogs, since=since), "binlogs", "BINLOG MONITOR ON *.*"),
        Look(_relay_logs, "relay logs", "REPLICA MONITOR ON *.*"),
        Look(_replicas, "replicas", "PROCESS ON *.*"),
        Look(_statements, "the general and the slow log", "nothing more"),
        Look(_engine, "the engine's logs", "nothing more"),
        Look(_sessions, "open transactions", "PROCESS ON *.*"),
    )
