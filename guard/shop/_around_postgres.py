"""What surrounds a PostgreSQL database and keeps what was written: WAL, slots, archive, replicas, logs."""

import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from guard.shop.remains import Kind, Look, Remains

_MONITOR = "pg_monitor TO guard's account"
_SECRET = re.compile(r"(?i)(\w*(?:pass|secret|token|key|credential)\w*(?:=|:\s*|\s+))(\S+)|(://[^:/@\s]+:)[^@\s]+(?=@)")
_LOGGING = """
SELECT name, setting FROM pg_settings WHERE name IN ('log_statement', 'log_min_duration_statement',
  'log_min_duration_sample', 'log_transaction_sample_rate', 'log_min_error_statement', 'log_parameter_max_length',
  'log_destination', 'log_directory', 'logging_collector', 'shared_preload_libraries', 'session_preload_libraries',
  'pgaudit.log')
"""
_SLOTS = """
SELECT slot_name, slot_type, plugin, active, restart_lsn::text AS lsn, pg_walfile_name(restart_lsn) AS segment
FROM pg_replication_slots WHERE restart_lsn IS NOT NULL ORDER BY slot_name
"""
_TEMPORARY = """
SELECT f.name, f.size FROM pg_tablespace t, pg_ls_tmpdir(t.oid) f WHERE t.spcname <> 'pg_global'
  AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE f.name LIKE 'pgsql_tmp' || a.pid || '.%') ORDER BY 1
"""
_FILES = """
SELECT name, size FROM pg_ls_waldir() WHERE length(name) = 24
  AND (CAST(:since AS timestamptz) IS NULL OR modification < CAST(:since AS timestamptz)) ORDER BY name
"""
_PREPARED = "SELECT gid, prepared FROM pg_prepared_xacts WHERE database = current_database() ORDER BY prepared"
_OPEN = """
SELECT pid, usename, xact_start FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start < now() - interval '5 minutes'
ORDER BY xact_start
"""


def _log(connection: Connection, since: str | None) -> Iterator[Remains]:
    """Yield the files of WAL; with `since` only those that were not written since then."""
    now = str(connection.exec_driver_sql("SELECT pg_walfile_name(pg_current_wal_insert_lsn())").scalar_one())
    rows = connection.execute(sa.text(_FILES), {"since": since}).all()
    written = [row for row in rows if row[0] <= now]
    reused = [row for row in rows if row[0] > now]
    if written:
        yield Remains(
            Kind.LOG, f"pg_wal: {_span(written)}", None,
            "a checkpoint gives up what no slot, archive or wal_keep_size holds; given up files may be used again",
        )  # fmt: skip
    if reused:
        yield Remains(
            Kind.LOG, f"pg_wal, kept to be used again: {_span(reused)}", None,
            f"overwritten one by one as the shop writes; at once by {len(reused) + 1} times SELECT pg_switch_wal()"
            " with a small change before each",
        )  # fmt: skip


def _span(rows: list[Any]) -> str:
    first, last = rows[0][0], rows[-1][0]
    size = sum(row[1] for row in rows) >> 20
    return f"{first} ({size} MiB)" if len(rows) == 1 else f"{first} to {last} ({len(rows)} files, {size} MiB)"


def _slots(connection: Connection) -> Iterator[Remains]:
    for row in connection.exec_driver_sql(_SLOTS.replace("%", "%%")):
        kind = f"{row.slot_type}, {row.plugin}" if row.plugin else row.slot_type
        drop = f"SELECT pg_drop_replication_slot('{row.slot_name}')"
        yield Remains(
            Kind.SLOT, f"{row.slot_name} ({kind}) holds WAL from {row.lsn}, file {row.segment}", None,
            "until its reader has read on" if row.active else f"nobody reads it now; if nobody will: {drop}",
        )  # fmt: skip


def _archive(connection: Connection) -> Iterator[Remains]:
    settings = _settings(
        connection,
        "SELECT name, setting FROM pg_settings WHERE name IN ('archive_mode', 'archive_command', 'archive_library')",
    )
    if settings.get("archive_mode", "off") == "off":
        return
    row = connection.exec_driver_sql("SELECT last_archived_wal, last_archived_time FROM pg_stat_archiver").one()
    target = settings.get("archive_library") or settings.get("archive_command") or "no command set"
    last = f", last archived {row[0]} at {row[1]:%Y-%m-%d %H:%M %Z}" if row[0] else ", nothing archived yet"
    how = f"take a new base backup, then delete the archive up to {row[0]}" if row[0] else "delete what it archives"
    yield Remains(Kind.ARCHIVE, f"{masked(target)}{last}", None, how)


def masked(command: str) -> str:
    """Return a command of the server's configuration without passwords, tokens and keys."""
    return _SECRET.sub(lambda found: f"{found[1] or found[3]}***", command)


def _replicas(connection: Connection) -> Iterator[Remains]:
    rows = connection.exec_driver_sql(
        "SELECT pid, application_name, client_addr::text AS address, client_hostname, replay_lsn::text AS lsn, state"
        " FROM pg_stat_replication ORDER BY pid"
    )
    for row in rows:
        if row.state is None:  # the row is shown to everybody, what is in it is not
            yield Remains(Kind.UNSEEN, f"replica of process {row.pid}", None, f"who it is: GRANT {_MONITOR}")
            continue
        name = f"{row.application_name or 'unnamed'} at {row.client_hostname or row.address or 'this host'}"
        yield Remains(
            Kind.REPLICA, f"{name}, replayed up to {row.lsn}", None,
            "its own WAL and free pages keep old values too: look there, or build it anew from a base backup",
        )  # fmt: skip


def _statements(connection: Connection) -> Iterator[Remains]:
    settings = _settings(connection, _LOGGING)
    if why := logged(settings):
        where = settings.get("log_destination", "stderr")
        if settings.get("logging_collector") == "on" and settings.get("log_directory"):
            where += f", in {settings['log_directory']}"
        values = "" if settings.get("log_parameter_max_length") == "0" else ", parameters included"
        yield Remains(
            Kind.STATEMENTS, f"the server's log ({where})", None,
            f"{', '.join(why)}{values}: delete what was written before now",
        )  # fmt: skip
    if connection.exec_driver_sql("SELECT count(*) FROM pg_extension WHERE extname = 'pg_stat_statements'").scalar():
        yield Remains(
            Kind.STATEMENTS, "pg_stat_statements", None,
            "it keeps texts of statements, some with their values: SELECT pg_stat_statements_reset()",
        )  # fmt: skip


def logged(settings: dict[str, str]) -> list[str]:
    """Return which settings make the server write statements into its log."""
    libraries = settings.get("shared_preload_libraries", "") + settings.get("session_preload_libraries", "")
    why = [
        f"{name} = {settings[name]}"
        for name, off in (
            ("log_statement", {"none", "ddl"}),
            ("log_min_duration_statement", {"-1"}),
            ("log_min_duration_sample", {"-1"}),
            ("log_transaction_sample_rate", {"0"}),
            ("log_min_error_statement", {"log", "fatal", "panic"}),
            ("pgaudit.log", {"none", ""}),
        )
        if name in settings and settings[name] not in off
    ]
    return why + (["auto_explain"] if "auto_explain" in libraries else [])


def _temporary(connection: Connection) -> Iterator[Remains]:
    for name, size in connection.exec_driver_sql(_TEMPORARY.replace("%", "%%")):
        yield Remains(
            Kind.FILE, f"temporary file {name} ({size} bytes), which no process uses", None, "a restart deletes it"
        )


def _sessions(connection: Connection) -> Iterator[Remains]:
    for gid, since in connection.exec_driver_sql(_PREPARED):
        yield Remains(
            Kind.SESSION, f"prepared transaction {gid}, since {since:%Y-%m-%d %H:%M %Z}", None,
            "old rows are kept for it: COMMIT PREPARED or ROLLBACK PREPARED",
        )  # fmt: skip
    for pid, user, since in connection.exec_driver_sql(_OPEN):
        yield Remains(
            Kind.SESSION, f"process {pid} of {user}, in a transaction since {since:%Y-%m-%d %H:%M %Z}", None,
            f"old rows are kept for it: SELECT pg_terminate_backend({pid})",
        )  # fmt: skip


def _copies(connection: Connection) -> Iterator[Remains]:
    for (pid,) in connection.exec_driver_sql("SELECT pid FROM pg_stat_progress_basebackup"):
        yield Remains(
            Kind.COPY, f"a base backup that process {pid} takes now", None, "delete it, and take one after finalizing"
        )


def _settings(connection: Connection, query: str) -> dict[str, str]:
    return {str(row.name): str(row.setting or "") for row in connection.execute(sa.text(query))}


def looks(since: str | None) -> tuple[Look, ...]:
    """Return every place to look at; `since`: a time of the server from when on nothing old was written."""
    return (
        Look(partial(_log, since=since), "pg_wal", _MONITOR),
        Look(_slots, "pg_replication_slots", _MONITOR),
        Look(_archive, "the archive of WAL", _MONITOR),
        Look(_replicas, "pg_stat_replication", _MONITOR),
        Look(_statements, "the server's log", _MONITOR),
        Look(_temporary, "temporary files of the server", _MONITOR),
        Look(_sessions, "open transactions", _MONITOR),
        Look(_copies, "running base backups", _MONITOR),
    )
