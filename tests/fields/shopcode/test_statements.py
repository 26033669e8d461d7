"""Statements without a Session's objects: what `seal` marks is sealed, and every other way is refused by name."""

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from guard.errors import ConfigError, TamperedError
from guard.fields.column import Encrypted, SealedColumnError, protect, seal
from guard.fields.store import Stage
from tests.fields.shopcode.conftest import Kiosk
from tests.fields.shopcode.models import Models, customers


def open_shop(kiosk: Kiosk, stage: Stage = Stage.SEALED) -> Models:
    models = customers()
    kiosk.protect(models.customer, "email", index="email")
    kiosk.protect(models.customer, "name")
    kiosk.create(models.base)
    if stage is not Stage.PLAIN:
        kiosk.stage(stage)
    return models


def rows_of(kiosk: Kiosk, models: Models) -> list[tuple[int, str, str | None]]:
    with kiosk.session() as session:
        found = session.scalars(sa.select(models.customer).order_by(models.customer.id))
        return [(each.id, each.email, each.name) for each in found]


ROWS = [{"id": n, "email": f"c{n}@example.org", "name": f"N{n}" if n != 2 else None, "visits": 0} for n in (1, 2, 3)]
WANTED = [(row["id"], row["email"], row["name"]) for row in ROWS]


@pytest.mark.parametrize("stage", [Stage.PLAIN, Stage.INDEXING, Stage.SEALED])
@pytest.mark.parametrize("way", ["core rows", "core one", "core values", "orm rows", "bulk mappings"])
def test_inserts(kiosk: Kiosk, stage: Stage, way: str) -> None:
    models = open_shop(kiosk, stage)
    table = models.customer.__table__
    with kiosk.session() as session:
        if way == "core rows":
            session.connection().execute(sa.insert(table), seal(table, ROWS))
        elif way == "core one":
            for row in ROWS:
                session.connection().execute(sa.insert(table), seal(table, row))
        elif way == "core values":
            for row in ROWS:
                session.connection().execute(sa.insert(table).values(seal(table, row)))
        elif way == "orm rows":
            session.execute(sa.insert(models.customer), seal(models.customer, ROWS))
        else:
            session.bulk_insert_mappings(sa.inspect(models.customer), seal(models.customer, ROWS))
        session.commit()
    assert rows_of(kiosk, models) == WANTED
    stored = kiosk.ask("SELECT email FROM customer")
    assert all(value.startswith("g1.") == stage.seals for (value,) in stored)
    if stage is not Stage.PLAIN:
        assert len({row[0] for row in kiosk.ask("SELECT email__guard1 FROM customer")}) == 3


@pytest.mark.parametrize("way", ["core", "orm by key", "orm where", "bulk mappings", "values with null"])
def test_updates(kiosk: Kiosk, way: str) -> None:
    models = open_shop(kiosk)
    table, class_ = models.customer.__table__, models.customer
    with kiosk.session() as session:
        session.execute(sa.insert(class_), seal(class_, ROWS))
        session.commit()
        kept = session.get(class_, 1)
        assert kept.name == "N1"
        new = {"id": 1, "email": "new@example.org", "name": "New"}
        if way == "core":
            session.connection().execute(sa.update(table).where(table.c.id == 1).values(seal(table, new)))
            session.expire(kept)
        elif way == "orm by key":
            session.execute(sa.update(class_), seal(class_, [new]))
            session.expire(kept)
        elif way == "bulk mappings":
            session.bulk_update_mappings(sa.inspect(class_), seal(class_, [new]))
            session.expire(kept)
        elif way == "values with null":
            session.execute(sa.update(class_).where(class_.id == 1).values(name=None))
        else:
            row = seal(class_, new)
            changed = {"email": row["email"], "name": row["name"]}
            session.execute(sa.update(class_).where(class_.email == "C1@example.org").values(changed))
        wanted = (1, "c1@example.org", None) if way == "values with null" else (1, "new@example.org", "New")
        assert (kept.id, kept.email, kept.name) == wanted
        session.commit()
    assert rows_of(kiosk, models) == [wanted, *WANTED[1:]]
    if way != "values with null":
        with kiosk.session() as session:
            assert session.scalars(sa.select(class_).where(class_.email == "NEW@example.org")).one().id == 1
            assert session.scalars(sa.select(class_).where(class_.email == "c1@example.org")).all() == []


def test_null_takes_the_token_away(kiosk: Kiosk) -> None:
    models = customers()
    models.customer.__table__.c.email.nullable = True
    kiosk.protect(models.customer, "email", index="email")
    kiosk.create(models.base)
    kiosk.stage(Stage.SEALED)
    with kiosk.session() as session:
        session.add_all([models.customer(email="a@example.org"), models.customer(email="b@example.org")])
        session.commit()
        first, second = session.scalars(sa.select(models.customer).order_by(models.customer.id))
        first.email = None
        session.commit()
        session.execute(sa.update(models.customer).where(models.customer.id == second.id).values(email=sa.null()))
        session.commit()
    assert kiosk.ask("SELECT email, email__guard1 FROM customer") == [(None, None), (None, None)]


def test_a_unique_value_is_refused_from_the_first_statement(kiosk: Kiosk) -> None:
    models = open_shop(kiosk)
    table = models.customer.__table__
    with kiosk.engine.begin() as connection:
        connection.execute(sa.insert(table), seal(table, ROWS))
    twice = [{"id": 9, "email": "C1@EXAMPLE.ORG", "visits": 0}]
    with pytest.raises(IntegrityError) as caught, kiosk.engine.begin() as connection:
        connection.execute(sa.insert(table), seal(table, twice))
    assert "example" not in str(caught.value).lower()


def test_a_delete_finds_by_token(kiosk: Kiosk) -> None:
    models = open_shop(kiosk)
    table, class_ = models.customer.__table__, models.customer
    with kiosk.session() as session:
        session.execute(sa.insert(class_), seal(class_, ROWS))
        session.execute(sa.delete(class_).where(class_.email.in_(["C1@example.org", "c3@example.org"])))
        session.connection().execute(sa.delete(table).where(table.c.email == "nobody@example.org"))
        session.commit()
    assert rows_of(kiosk, models) == [WANTED[1]]


Bad = Callable[[Session, Any], object]
BAD: dict[str, Bad] = {
    "bare insert": lambda s, c: s.execute(sa.insert(c), [{"id": 5, "email": "x@example.org"}]),
    "bare values": lambda s, c: s.execute(sa.insert(c).values(id=5, email="x@example.org")),
    "bare update": lambda s, c: s.execute(sa.update(c).where(c.id == 1).values(name="x")),
    "bulk objects": lambda s, c: s.bulk_save_objects([c(id=5, email="x@example.org")]),
    "rows in values": lambda s, c: s.execute(sa.insert(c).values(seal(c, ROWS))),
    "an expression": lambda s, c: s.execute(sa.update(c).values(name=c.email)),
    "a function": lambda s, c: s.execute(sa.update(c).values(name=sa.func.upper("x"))),
    "insert from select": lambda s, c: s.execute(sa.insert(c).from_select(["id", "email"], sa.select(c.id, c.email))),
    "LIKE": lambda s, c: s.execute(sa.select(c).where(c.email.like("a%"))),
    "contains": lambda s, c: s.execute(sa.select(c).where(c.email.contains("a"))),
    "ILIKE": lambda s, c: s.execute(sa.select(c).where(c.email.ilike("a%"))),
    "startswith": lambda s, c: s.execute(sa.select(c).where(c.email.startswith("a"))),
    "ORDER BY": lambda s, c: s.execute(sa.select(c).order_by(c.email)),
    "desc": lambda s, c: s.execute(sa.select(c).order_by(c.email.desc())),
    "nulls last": lambda s, c: s.execute(sa.select(c).order_by(sa.nulls_last(c.email))),
    "GROUP BY": lambda s, c: s.execute(sa.select(sa.func.count()).select_from(c).group_by(c.email)),
    "DISTINCT": lambda s, c: s.execute(sa.select(c.email).distinct()),
    "less": lambda s, c: s.execute(sa.select(c).where(c.email < "b")),
    "between": lambda s, c: s.execute(sa.select(c).where(c.email.between("a", "b"))),
    "a sum": lambda s, c: s.execute(sa.select(c.email + "x")),
    "sum on the right": lambda s, c: s.execute(sa.select("x" + c.email)),
    "sum before a table's column": lambda s, c: s.execute(sa.select("x" + c.__table__.c.email)),
    "lower": lambda s, c: s.execute(sa.select(c).where(sa.func.lower(c.email) == "x")),
    "max": lambda s, c: s.execute(sa.select(sa.func.max(c.email))),
    "cast": lambda s, c: s.execute(sa.select(sa.cast(c.email, sa.Integer))),
    "two columns": lambda s, c: s.execute(sa.select(c).where(c.email == c.name)),
    "a literal": lambda s, c: s.execute(sa.select(sa.literal("x", c.__table__.c.email.type))),
    "not searchable": lambda s, c: s.execute(sa.select(c).where(c.name == "x")),
    "not searchable in": lambda s, c: s.execute(sa.select(c).where(c.name.in_(["x"]))),
    "a parameter": lambda s, c: s.execute(sa.select(c).where(c.email == sa.bindparam("e")), {"e": "x"}),
    "a subquery": lambda s, c: s.execute(sa.select(c).where(c.email.in_(sa.select(c.email)))),
    "outside its table": lambda s, c: s.execute(sa.select(sa.select(c.email).subquery().c.email == "x")),
    "stored elsewhere": lambda s, c: s.execute(sa.update(c).values(name=s.scalars(sa.select(c.email)).first())),
}


@pytest.mark.parametrize("stage", [Stage.PLAIN, Stage.SEALED])
@pytest.mark.parametrize("name", BAD)
def test_what_sealed_columns_cannot_do_is_refused_in_every_stage(lite: Kiosk, name: str, stage: Stage) -> None:
    """Before the first value is sealed, too: so a shop's tests find it."""
    models = open_shop(lite, stage)
    with lite.session() as session:
        session.execute(sa.insert(models.customer), seal(models.customer, ROWS))
        session.commit()
        with pytest.raises(SealedColumnError) as caught:
            BAD[name](session, models.customer)
    said = f"{caught.value} {caught.value.hint}"
    assert "example.org" not in said
    assert "customer.email" in said or "customer.name" in said or "customer, which has sealed columns" in said
    assert caught.value.hint
    assert rows_of(lite, models) == WANTED


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mysql"])
def test_upserts_that_overwrite_sealed_values_are_refused(make: Callable[[str], Kiosk], kind: str) -> None:
    kiosk = make(kind)
    models = open_shop(kiosk)
    table = models.customer.__table__
    rows = seal(table, ROWS)
    if kind == "mysql":
        base = mysql.insert(table)
        bad, good = base.on_duplicate_key_update(email=base.inserted.email), base.on_duplicate_key_update(visits=1)
    else:
        base = (sqlite if kind == "sqlite" else postgresql).insert(table)
        bad = base.on_conflict_do_update(index_elements=["id"], set_={"email": base.excluded.email})
        good = base.on_conflict_do_update(index_elements=["id"], set_={"visits": 1})
    with kiosk.engine.begin() as connection:
        for row in (*rows, *rows):
            connection.execute(good, row)
    assert rows_of(kiosk, models) == WANTED
    assert kiosk.ask("SELECT DISTINCT visits FROM customer") == [(1,)]
    with pytest.raises(SealedColumnError, match="does not open there"), kiosk.engine.begin() as connection:
        connection.execute(bad, rows)


def test_a_row_without_its_key_cannot_be_sealed(lite: Kiosk) -> None:
    models = open_shop(lite)
    for row in ({"email": "x@example.org"}, {"id": None, "email": "x@example.org"}):
        with pytest.raises(SealedColumnError, match="a row without id cannot be sealed"):
            seal(models.customer, row)
    assert seal(models.customer, {"visits": 1}) == {"visits": 1}
    assert seal(models.customer, {"email": None}) == {"email": None}


def test_marked_values_show_nothing(lite: Kiosk) -> None:
    models = open_shop(lite)
    marked = seal(models.customer, {"id": 1, "email": "x@example.org"})["email"]
    assert repr(marked) == "<a value for customer.email>"
    assert "x@" not in str(marked)


@pytest.mark.parametrize("stage", [Stage.PLAIN, Stage.SEALING, Stage.STRICT])
def test_comparisons(kiosk: Kiosk, stage: Stage) -> None:
    models = open_shop(kiosk, stage)
    class_, email = models.customer, models.customer.email
    with kiosk.session() as session:
        session.execute(sa.insert(class_), seal(class_, ROWS))
        session.commit()

        def ids(condition: Any) -> list[int]:
            return sorted(session.scalars(sa.select(class_.id).where(condition)))

        one = "c1@example.org"
        assert ids(email == one) == [1]
        assert ids(sa.literal(1) == 1) == [1, 2, 3]
        assert ids(email != one) == [2, 3]
        assert ids(email.in_([one, "c3@example.org", "nobody@example.org"])) == [1, 3]
        assert ids(email.not_in([one])) == [2, 3]
        assert ids(email.in_([])) == []
        assert ids(email == "nobody@example.org") == []
        assert ids(class_.name == None) == [2]  # noqa: E711  # SQLAlchemy's own way
        assert ids(class_.name.is_not(None)) == [1, 3]
        assert ids(class_.name != None) == [1, 3]  # noqa: E711
        assert session.scalar(sa.select(sa.func.count(email))) == 3
        assert session.scalar(sa.select(sa.func.count()).where(sa.or_(email == one, class_.id == 3))) == 2


def test_short_tokens_give_candidates(kiosk: Kiosk) -> None:
    models = customers()
    column = kiosk.column("customer.email", index="email")
    protect(models.customer, kiosk.keys, "email")
    kiosk.create(models.base)
    kiosk.stage(Stage.SEALED)
    from guard.fields.store import Filling

    kiosk.sql("DROP INDEX guard__customer_email_1" + (" ON customer" if kiosk.dialect == "mysql" else ""))
    kiosk.token(column, 1, Filling.READY, unique=False, size=1)
    with kiosk.session() as session:
        many = [models.customer(email=f"c{n}@example.org") for n in range(400)]
        session.add_all(many)
        session.commit()
        found = session.scalars(sa.select(models.customer).where(models.customer.email == "C7@example.org")).all()
        assert any(each.email == "c7@example.org" for each in found)
        assert len(found) < 40
        with pytest.raises(SealedColumnError, match="by shortened tokens"):
            sa.select(models.customer).where(models.customer.email != "c7@example.org")


def test_a_statement_that_outlives_its_index_says_so(lite: Kiosk) -> None:
    models = open_shop(lite, Stage.PLAIN)
    email = models.customer.email
    plain = sa.select(models.customer).where(email == "c1@example.org")
    with lite.session() as session:
        session.execute(sa.insert(models.customer), seal(models.customer, ROWS))
        session.commit()
        assert session.scalars(plain).one().id == 1
        lite.stage(Stage.INDEXING)
        assert session.scalars(plain).one().id == 1  # still all there
        lite.stage(Stage.SEALED)
        with pytest.raises(SealedColumnError, match="was built before guard changed the column"):
            session.scalars(plain)
        tokens = sa.select(models.customer).where(email == "c1@example.org")
        session.scalars(tokens)
        from guard.fields import store

        with lite.state.read() as tx:
            [index] = store.indexes(tx)
        lite.state.write(lambda tx: store.drop_index(tx, index))
        lite.clock.step(__import__("datetime").timedelta(seconds=2))
        with pytest.raises(SealedColumnError, match="was built before guard changed the column"):
            session.scalars(tokens)
        with pytest.raises(SealedColumnError, match="not searchable yet"):
            _ = email == "c1@example.org"


def test_values_are_not_written_into_a_statements_text(lite: Kiosk) -> None:
    models = open_shop(lite)
    type_: Any = models.customer.__table__.c.email.type
    statement = sa.select(sa.literal("anna@example.org", type_))
    with pytest.raises((SealedColumnError, sa.exc.CompileError)) as caught:
        statement.compile(lite.engine, compile_kwargs={"literal_binds": True})
    assert caught.value.__class__ is SealedColumnError or isinstance(caught.value.__cause__, SealedColumnError)


def test_a_type_without_a_column_cannot_seal(lite: Kiosk) -> None:
    with pytest.raises(SealedColumnError, match="cannot stand alone"):
        _ = Encrypted("customer.email", lite.keys).table


def test_asynchronous_engines_are_refused(lite: Kiosk) -> None:
    models = open_shop(lite)
    dialect = lite.engine.dialect
    dialect.is_async = True
    type_: Any = models.customer.__table__.c.email.type
    with pytest.raises(ConfigError, match="synchronous engines only"):
        type_.result_processor(dialect, None)


def test_tables_are_created_as_the_shop_declares_them(kiosk: Kiosk) -> None:
    models = open_shop(kiosk)
    made = str(sa.schema.CreateTable(models.customer.__table__).compile(kiosk.engine))
    assert "email VARCHAR(60) NOT NULL" in made
    assert "guard" not in made
    assert isinstance(models.customer.__table__.c.email.type, Encrypted)
    with kiosk.session() as session:
        session.add(models.customer(email="a@example.org"))
        session.commit()
        assert "guard" not in str(sa.schema.CreateTable(models.customer.__table__).compile(kiosk.engine))
        assert session.execute(sa.select(models.customer.__table__)).keys() == ["id", "email", "name", "visits"]


def test_a_moved_row_in_core_is_found_out(lite: Kiosk) -> None:
    models = open_shop(lite)
    table = models.customer.__table__
    with lite.engine.begin() as connection:
        connection.execute(sa.insert(table), seal(table, ROWS))
        rows = connection.execute(sa.select(table.c.id, table.c.name).where(table.c.name.is_not(None))).all()
        (one, first), (_, second) = rows
        assert first.open(one) == "N1"
        with pytest.raises(TamperedError, match=r"customer\.name"):
            second.open(one)
