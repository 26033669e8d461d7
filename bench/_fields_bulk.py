"""A column of a million e-mail addresses sealed in place, on each database: ours, and how a shop would do it otherwise.

Ours is `Fields.encrypt` as the command line calls it: read, sealed for its row, digested, compared and set, noted in
`guard_progress`, looked through again. The peer is SQLAlchemy-Utils' AesGcmEngine in an ORM loop that commits every
thousand rows (on MariaDB pymysql's executemany with compare-and-set). Its rate does not depend on where in a table it
works, so it gets part of an equal table, before and after ours, and the mean of both rates counts.
"""

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy_utils.types.encrypted.encrypted_type import AesGcmEngine, StringEncryptedType

from bench.harness import Bar, Row
from guard.canon import all_key_bytes
from guard.clock import SystemClock
from guard.config import Catalog, Column, Protect
from guard.crypto import random
from guard.crypto.envelope import Binding, Place, Sealer, to_text
from guard.crypto.keyring import Keyring
from guard.crypto.wrap import Key
from guard.events import RunId
from guard.fields import Fields, Times
from guard.shop import Shop
from guard.state import State

ROWS = int(os.environ.get("GUARD_BENCH_ROWS", "1000000"))
ORM_ROWS = min(ROWS // 2, 40_000)
"""What the ORM loop gets each time; it does some 6,000 a second."""
MANY_ROWS = min(ROWS // 2, 10_000)
"""What executemany gets each time; it does some 2,000 a second."""
POSTGRES = os.environ.get("GUARD_POSTGRES_URL", "postgresql://postgres@127.0.0.1:5432/postgres")
MARIADB = os.environ.get("GUARD_MARIADB_URL", "mysql://root@127.0.0.1:3306")
NAME = "guard_bench"


class Base(orm.DeclarativeBase):
    """The peer's mapped classes."""


class Peer(Base):
    """A customer whose e-mail moves from a plain column into an encrypted one."""

    __tablename__ = "peer"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str]
    email: orm.Mapped[str | None] = orm.mapped_column(sa.String(255))
    address: orm.Mapped[str]
    email_enc: orm.Mapped[str | None] = orm.mapped_column(StringEncryptedType(sa.Unicode, "k" * 32, AesGcmEngine))


@dataclass(frozen=True, slots=True)
class Shape:
    """One way to seal a million rows: where, what makes the tables, whom it is compared with, and the bar."""

    name: str
    url: str
    tables: tuple[str, ...]
    peer: Callable[[str], float]
    bar: float
    workers: int = 1


def rows() -> Iterator[Row]:
    """Measure each shape in turn, its peer before and after it, and yield the lines of the table."""
    with _databases() as (sqlite, postgres, mariadb):
        for shape in (
            Shape("SQLite", sqlite, _sqlite(), orm_loop, 10),
            Shape("SQLite, 2 workers", sqlite, _sqlite(), orm_loop, 10, 2),
            Shape("PostgreSQL text", postgres, _postgres("text"), orm_loop, 3.5),
            Shape("PostgreSQL text, 2 workers", postgres, _postgres("text"), orm_loop, 6, 2),
            Shape("PostgreSQL bytea", postgres, _postgres("bytea"), orm_loop, 5),
            Shape("PostgreSQL bytea, 2 workers", postgres, _postgres("bytea"), orm_loop, 8, 2),
            Shape("MariaDB", mariadb, _mariadb(), executemany, 4),
        ):
            yield from _measure(shape)


def _measure(shape: Shape) -> Iterator[Row]:
    _build(shape)
    before = shape.peer(shape.url)
    rate, times = ours(shape)
    peer = statistics.mean((before, shape.peer(shape.url)))
    yield Row(
        f"{shape.name}: seal {ROWS:,} rows, against {shape.peer.__name__}", rate, peer, "rows/s",
        Bar("ratio", ">=", shape.bar),
    )  # fmt: skip
    yield Row(f"{shape.name}: median transaction", times.median.total_seconds() * 1000, None, "ms", _at_most(100))
    yield Row(f"{shape.name}: p99 transaction", times.p99.total_seconds() * 1000, None, "ms", _at_most(250))


def _at_most(milliseconds: float) -> Bar:
    return Bar("ours", "<=", milliseconds)


def ours(shape: Shape) -> tuple[float, Times]:
    """Return rows a second of sealing the whole column, everything from the first read to the last look included."""
    catalog = Catalog(column=(Column(at="customer.email", id=1, protect=Protect.ENCRYPT),))
    clock = SystemClock()
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory())
        shop = stack.enter_context(closing(Shop.connect(shape.url)))
        state = stack.enter_context(closing(State.create(f"sqlite:///{folder}/state.db", clock)))
        keyring = Keyring.create(state, random.token(32), None)
        fields = Fields(shop, catalog, keyring, state, clock, lambda: ())
        plan = fields.plan()
        begun = time.perf_counter()
        (swept,) = fields.encrypt(plan, RunId(random.hex_token(16)), workers=shape.workers)
        took = time.perf_counter() - begun
        if swept.rows != ROWS or swept.left:
            raise RuntimeError(f"{shape.name}: {swept.rows} rows sealed, {swept.left} left")
    return ROWS / took, swept.times


def orm_loop(url: str) -> float:
    """Return rows a second of the ORM loop over the next rows of its table that are still plain."""
    engine = sa.create_engine(_with_driver(url))
    with orm.Session(engine) as session:
        after = session.scalar(sa.select(sa.func.max(Peer.id)).where(Peer.email.is_(None))) or 0
        begun, upto = time.perf_counter(), after + ORM_ROWS
        while after < upto:
            found = session.scalars(sa.select(Peer).where(Peer.id > after).order_by(Peer.id).limit(1000)).all()
            for each in found:
                each.email_enc, each.email = each.email, None
            after = found[-1].id
            session.commit()
        took = time.perf_counter() - begun
    engine.dispose()
    return ORM_ROWS / took


def executemany(url: str) -> float:
    """Return rows a second of pymysql's executemany with compare-and-set; its values are sealed as ours are."""
    key = Key(1, "column/1", 1, bytes(32))
    sealer = Sealer(Place(UUID(int=1), 1, Binding.ROW), key)
    engine = sa.create_engine(_with_driver(url))
    with closing(engine.raw_connection()) as connection, closing(connection.cursor()) as cursor:
        cursor.execute("SELECT COALESCE(MAX(id), 0) FROM peer WHERE email_enc IS NOT NULL")
        after = cursor.fetchone()[0]
        begun, upto = time.perf_counter(), after + MANY_ROWS
        while after < upto:
            cursor.execute("SELECT id, email FROM peer WHERE id > %s ORDER BY id LIMIT 1000", (after,))
            keys, old = zip(*cursor.fetchall(), strict=True)
            new = map(to_text, sealer.seal_all(old, all_key_bytes([(each,) for each in keys])))
            cursor.executemany(
                "UPDATE peer SET email_enc = %s, email = NULL WHERE id = %s AND BINARY email = %s",
                list(zip(new, keys, old, strict=True)),
            )
            connection.commit()
            after = keys[-1]
        took = time.perf_counter() - begun
    engine.dispose()
    return MANY_ROWS / took


_WORDS = "{n} || ' Long Harbour Street, Apartment 12, 10234 Springfield, County of Somewhere'"


def _sqlite() -> tuple[str, ...]:
    columns = "id INTEGER PRIMARY KEY, name TEXT, email TEXT, address TEXT"
    fill = f"""INSERT INTO {{}} WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {{}})
        SELECT n, 'User ' || n, printf('user%07d.s@example.com', n), {_WORDS.format(n="n")}{{}} FROM s"""
    return (
        "DROP TABLE IF EXISTS guard_progress", "DROP TABLE IF EXISTS customer", "DROP TABLE IF EXISTS peer",
        f"CREATE TABLE customer ({columns})", f"CREATE TABLE peer ({columns}, email_enc TEXT)",
        fill.format("customer", ROWS, ""), fill.format("peer", 2 * ORM_ROWS, ", NULL"),
    )  # fmt: skip


def _postgres(kind: str) -> tuple[str, ...]:
    columns = "id bigint PRIMARY KEY, name text, email {}, address text"
    fill = f"""INSERT INTO {{}} SELECT n, 'User ' || n, ('user' || lpad(n::text, 7, '0') || '.s@example.com')::{{}},
        {_WORDS.format(n="n")} FROM generate_series(1, {{}}) n"""
    return (
        "DROP TABLE IF EXISTS guard_progress, customer, peer",
        f"CREATE TABLE customer ({columns.format(kind)})",
        f"CREATE TABLE peer ({columns.format('text')}, email_enc text)",
        fill.format("customer", kind, ROWS), fill.format("peer", "text", 2 * ORM_ROWS),
        "VACUUM ANALYZE customer", "VACUUM ANALYZE peer", "CHECKPOINT",
    )  # fmt: skip


def _mariadb() -> tuple[str, ...]:
    columns = "id bigint PRIMARY KEY, name varchar(80), email varchar(255), address text"
    fill = """INSERT INTO {} SELECT seq, concat('User ', seq), concat('user', lpad(seq, 7, '0'), '.s@example.com'),
        concat(seq, ' Long Harbour Street, Apartment 12, 10234 Springfield, County of Somewhere'){} FROM seq_1_to_{}"""
    return (
        "DROP TABLE IF EXISTS guard_progress, customer, peer",
        f"CREATE TABLE customer ({columns})", f"CREATE TABLE peer ({columns}, email_enc varchar(700))",
        fill.format("customer", "", ROWS), fill.format("peer", ", NULL", 2 * MANY_ROWS),
    )  # fmt: skip


def _build(shape: Shape) -> None:
    engine = sa.create_engine(_with_driver(shape.url), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")
        for statement in shape.tables:
            connection.exec_driver_sql(statement)
    engine.dispose()


@contextmanager
def _databases() -> Iterator[tuple[str, str, str]]:
    """Give an SQLite file, and a database of this run's own on the servers that GUARD_*_URL name."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        yield (
            f"sqlite:///{folder}/shop.db",
            stack.enter_context(_database(POSTGRES)),
            stack.enter_context(_database(MARIADB)),
        )


@contextmanager
def _database(server: str) -> Iterator[str]:
    engine = sa.create_engine(_with_driver(server), isolation_level="AUTOCOMMIT")

    def call(statement: str) -> None:
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)

    call(f"DROP DATABASE IF EXISTS {NAME}")
    call(f"CREATE DATABASE {NAME}")
    try:
        yield sa.make_url(server).set(database=NAME).render_as_string(hide_password=False)
    finally:
        call(f"DROP DATABASE {NAME}")
        engine.dispose()


def _with_driver(url: str) -> Any:
    parsed = sa.make_url(url)
    drivers = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql", "mariadb": "mysql+pymysql"}
    return parsed.set(drivername=drivers.get(parsed.drivername, parsed.drivername))
