"""Keys that are drawn before a row is inserted, and rows whose key only the INSERT gives."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from guard.fields import sequences
from guard.fields.store import Stage
from tests.fields.shopcode.conftest import Kiosk

Columns = dict[str, Callable[[], Any]]

POSTGRES: Columns = {
    "serial": lambda: mapped_column(sa.Integer, primary_key=True),
    "identity": lambda: mapped_column(sa.Integer, sa.Identity(start=7), primary_key=True),
    "identity always": lambda: mapped_column(sa.Integer, sa.Identity(always=True), primary_key=True),
    "sequence": lambda: mapped_column(sa.Integer, sa.Sequence("numbers"), primary_key=True),
    "function": lambda: mapped_column(sa.Uuid, primary_key=True, server_default=sa.text("gen_random_uuid()")),
    "text": lambda: mapped_column(sa.String(40), primary_key=True, server_default=sa.text("'a:b' || now()::text")),
}
MARIADB: Columns = {
    "auto_increment": lambda: mapped_column(sa.Integer, primary_key=True),
    "sequence": lambda: mapped_column(sa.Integer, sa.Sequence("numbers"), primary_key=True),
}
SQLITE: Columns = {
    "rowid": lambda: mapped_column(sa.Integer, primary_key=True),
    "sequence": lambda: mapped_column(sa.Integer, sa.Sequence("numbers"), primary_key=True),
    "python": lambda: mapped_column(sa.Integer, primary_key=True, default=lambda: 41),
}
CASES = [
    *(("postgresql", name, each) for name, each in POSTGRES.items()),
    *(("mysql", name, each) for name, each in MARIADB.items()),
    *(("sqlite", name, each) for name, each in SQLITE.items()),
]
LATE = {"identity always", "auto_increment", "rowid", ("sqlite", "sequence")}


@pytest.mark.parametrize(("kind", "name", "column"), CASES, ids=lambda each: each if isinstance(each, str) else "")
def test_rows_get_their_keys(make: Callable[[str], Kiosk], kind: str, name: str, column: Callable[[], Any]) -> None:
    class Base(DeclarativeBase):
        pass

    class Note(Base):
        __tablename__ = "Note of mine"
        id: Mapped[Any] = column()
        words: Mapped[str] = mapped_column("Some words", sa.String(60))

    kiosk = make(kind)
    if kiosk.dialect == "mysql":  # MariaDB by its own name, so that SQLAlchemy knows of its sequences
        kiosk.engine.dispose()
        kiosk.engine = sa.create_engine(kiosk.engine.url.set(drivername="mariadb+pymysql"))
    kiosk.column("Note of mine.Some words")
    from guard.fields.column import protect

    protect(Note, kiosk.keys, "words")
    kiosk.create(Base)
    kiosk.stage(Stage.SEALED)
    seen: list[str] = []
    sa.event.listen(kiosk.engine, "before_cursor_execute", lambda *args: seen.append(args[2]))
    count = 1 if name in {"python", "text"} else 5
    with kiosk.session() as session:
        session.add_all([Note(words=f"words {n}") for n in range(count)])
        session.commit()
        found = session.scalars(sa.select(Note)).all()
        assert {each.words for each in found} == {f"words {n}" for n in range(count)}
    late = name in LATE or (kind, name) in LATE
    assert bool([each for each in seen if each.startswith("UPDATE")]) == late
    if name == "function":
        assert all(isinstance(each.id, UUID) for each in found)
    kiosk.engine.dispose()


def test_numbers_are_drawn_together(make: Callable[[str], Kiosk]) -> None:
    kiosk = make("postgresql")
    table = sa.Table("t", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True))
    table.create(kiosk.engine)
    with kiosk.engine.begin() as connection:
        assert sequences.next_values(connection, table.c.id, 3) == [1, 2, 3]
        assert sequences.next_values(connection, table.c.id, 0) == [4]
        assert len(sequences.next_values(connection, table.c.id, 10**9)) == 1000
