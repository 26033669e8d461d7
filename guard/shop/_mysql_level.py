"""At which isolation guard writes on MariaDB: rows alone are locked, where the server's binlog allows it.

At REPEATABLE READ, InnoDB's default, an UPDATE also locks the gaps where rows were deleted, and keeps rows locked that
it looked at and left alone: writers of the shop wait for what guard never touches. What guard writes is compared with
what was read, statement by statement, so that READ COMMITTED is enough; on PostgreSQL it always is that.
"""

from sqlalchemy.engine import Connection

_LEVEL = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED"
_BINLOG = "SELECT @@log_bin, @@sql_log_bin, @@session.binlog_format"
_KEY = "guard_locks_gaps"


def lower(connection: Connection) -> None:
    """Let the transaction that begins now lock rows alone, where that is allowed."""
    if not locks_gaps(connection):
        connection.exec_driver_sql(_LEVEL)


def locks_gaps(connection: Connection) -> bool:
    """Say whether this connection has to stay at REPEATABLE READ; asked once for each connection.

    A binlog of statements takes no others: InnoDB refuses each write at READ COMMITTED (error 1665).
    """
    if _KEY not in connection.info:
        on, mine, form = connection.exec_driver_sql(_BINLOG).one()
        connection.info[_KEY] = bool(on and mine) and str(form).upper() == "STATEMENT"
    return bool(connection.info[_KEY])
