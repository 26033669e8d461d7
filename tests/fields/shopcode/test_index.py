"""The life of a blind index on each database: prepared, used, rotated, taken away, resumed wherever it was killed."""

import os
import signal
import traceback
from collections.abc import Callable

import msgspec
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DatabaseError

from guard import faults
from guard.crypto.random import hex_token
from guard.errors import InterlockError
from guard.events import RunId, silent
from guard.fields import Pace, Swept, index, store
from guard.fields.distinct import distinct
from guard.fields.index import size_of
from guard.fields.lease import SEEN
from guard.fields.store import Filling, IndexRecord, Stage
from guard.shop import alter
from tests.fields.shopcode.conftest import Kiosk
from tests.fields.shopcode.models import Models, customers

EMAILS = [f"c{n}@example.org" for n in range(50)]
PURPOSE = "index/1/email"


def shop_with(kiosk: Kiosk, emails: list[str | None], *, unique: bool = True, normaliser: str = "email") -> Models:
    models = customers()
    table = models.customer.__table__
    table.c.email.nullable = True
    if not unique:
        table.constraints -= {each for each in table.constraints if isinstance(each, sa.UniqueConstraint)}
    kiosk.protect(models.customer, "email", index=normaliser)
    kiosk.create(models.base)
    with kiosk.engine.begin() as connection:
        for number, email in enumerate(emails, 1):
            row = {"id": number, "email": email}
            connection.execute(sa.text("INSERT INTO customer (id, email, visits) VALUES (:id, :email, 0)"), row)
    return models


def records(kiosk: Kiosk) -> tuple[IndexRecord, ...]:
    with kiosk.state.read() as tx:
        return store.indexes(tx)


def encrypt(kiosk: Kiosk) -> tuple[Swept, ...]:
    guard = kiosk.fields(Pace(start=20, least=20, most=20))
    swept = guard.encrypt(guard.plan(), RunId(hex_token(16)))
    guard.state.write(guard.remember(swept))
    kiosk.close()
    return swept


def decrypt(kiosk: Kiosk) -> None:
    guard = kiosk.fields(Pace(start=20, least=20, most=20))
    guard.state.write(guard.remember(guard.decrypt(["customer.email"], RunId(hex_token(16)))))
    kiosk.close()


def new_key(kiosk: Kiosk) -> None:
    """Rotate the index key, as `keys rotate` does."""
    key = kiosk.keyring.rotate(PURPOSE)
    kiosk.state.write(lambda tx: kiosk.keyring.activate(tx, key.id, kiosk.clock.now()))


def tokens_of(kiosk: Kiosk) -> list[str]:
    shop = kiosk.shop
    return list(shop.table("customer").tokens)


def whole(kiosk: Kiosk, models: Models, rows: int = 50) -> None:
    """Assert that every row is found by its token, and nothing of an older index is left."""
    [made] = records(kiosk)
    assert made.stage is Filling.READY
    assert tokens_of(kiosk) == [made.name]
    assert kiosk.ask(f"SELECT COUNT(DISTINCT {made.name}) FROM customer") == [(rows,)]
    kiosk.clock.step(SEEN)
    with kiosk.session() as session:
        for each in session.scalars(
            sa.select(models.customer).where(models.customer.email.is_not(None)).limit(5)
        ).all():
            query = sa.select(models.customer).where(models.customer.email == each.email.upper())
            assert session.scalars(query).all() == [each]
    shop = kiosk.shop
    assert alter.guards(shop, shop.table("customer"), "email") == {"follow", "fence"}


def test_a_column_is_indexed_before_it_is_sealed(kiosk: Kiosk) -> None:
    models = shop_with(kiosk, [*EMAILS, None])
    order: list[str] = []
    faults.install(order.append)
    encrypt(kiosk)
    faults.install(None)
    assert order.index("fields.index.ready") < order.index("fields.column.sealing")
    whole(kiosk, models)
    assert kiosk.ask("SELECT COUNT(*) FROM customer WHERE email LIKE 'g1.%%'") == [(50,)]
    encrypt(kiosk)
    whole(kiosk, models)


def test_a_column_that_is_not_unique_has_short_tokens(kiosk: Kiosk) -> None:
    models = shop_with(kiosk, EMAILS + EMAILS, unique=False)
    encrypt(kiosk)
    [made] = records(kiosk)
    assert (made.size, made.is_unique) == (1, False)
    assert kiosk.ask("SELECT COUNT(*) FROM customer WHERE email__guard1 IS NULL") == [(0,)]
    with kiosk.session() as session:
        found = session.scalars(sa.select(models.customer).where(models.customer.email == "C7@example.org")).all()
        assert {8, 58} <= {each.id for each in found if each.email == "c7@example.org"}
    shop = kiosk.shop
    assert alter.guards(shop, shop.table("customer"), "email") == {"follow"}


@pytest.mark.parametrize(
    ("different", "size"),
    [(0, 1), (1, 1), (511, 1), (2**17 - 1, 1), (2**17, 2), (2**20, 2), (2**25 - 1, 2), (2**25, 3), (2**33, 4)],
)
def test_token_sizes(different: int, size: int) -> None:
    """Two values or more share a token, fewer than the square root of all but where the least byte is too short."""
    assert size_of(different, unique=False) == size
    assert different < 512 or different >> 8 * size >= 2
    assert different < 2**16 or 2**16 <= different < 2**17 or (different >> 8 * size) ** 2 < different
    assert size_of(different, unique=True) == 16


def test_tokens_are_as_short_as_the_values_are_few(make: Callable[[str], Kiosk]) -> None:
    """200,000 rows of 1,000 values: by the number of rows a token had two bytes, and nearly each value its own."""
    kiosk = make("sqlite")
    shop_with(kiosk, [], unique=False)
    kiosk.sql(
        "INSERT INTO customer (id, email, visits) WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s"
        " WHERE n < 200000) SELECT n, 'c' || n % 1000 || '@example.org', 0 FROM s"
    )
    prepare(kiosk)
    [made] = records(kiosk)
    assert made.size == 1
    assert kiosk.ask("SELECT COUNT(*) FROM customer WHERE length(email__guard1) = 1") == [(200_000,)]


def test_values_are_told_apart_by_their_normal_forms_sealed_or_not(kiosk: Kiosk) -> None:
    shop_with(kiosk, [*EMAILS[:20], EMAILS[0].upper(), None], unique=False)
    encrypt(kiosk)
    kiosk.sql("INSERT INTO customer (id, email, visits) VALUES (98, 'C3@example.org', 0), (99, 'new@example.org', 0)")
    guard = kiosk.fields()
    [made] = records(kiosk)
    with kiosk.state.read() as tx:
        record = store.find(tx, 1)
    assert distinct(guard._tools(), record, made) == 21


def prepare(kiosk: Kiosk, **change: object) -> None:
    """Prepare the index alone, past the plan, which refuses before that what is seen here."""
    guard = kiosk.fields()
    guard.prepare()
    column = msgspec.structs.replace(kiosk.columns["customer.email"], **change)
    record = store.Record(1, column.at, Stage.INDEXING, "row", ("id",), None, 0, kiosk.clock.now())
    guard.state.write(lambda tx: store.keep(tx, record))
    index.prepare(guard._tools(), column, record, RunId("0" * 32), silent)


def test_values_that_collide_are_counted_and_refused(kiosk: Kiosk) -> None:
    shop_with(kiosk, ["anna@example.org", " Anna@Example.org"])
    with pytest.raises(InterlockError, match="2 rows share 1 values") as caught:
        prepare(kiosk)
    assert "anna" not in f"{caught.value} {caught.value.hint}".lower()
    kiosk.sql("DELETE FROM customer WHERE id = 2")
    prepare(kiosk)


def test_a_unique_column_with_a_value_that_has_no_token_is_refused(kiosk: Kiosk) -> None:
    shop_with(kiosk, ["+49 30 123456", "none"], normaliser="phone")
    with pytest.raises(InterlockError, match="1 values have no token"):
        prepare(kiosk)


def test_the_fence_lets_over_who_brings_tokens_and_nobody_else(kiosk: Kiosk) -> None:
    """Between the index and the first sealed value writers bring plain values with tokens; others are refused."""
    shop_with(kiosk, EMAILS)
    shop, token = kiosk.shop, "email__guard1"
    table = shop.table("customer")
    alter.add_token(shop, table, token)
    made = {"sqlite": "x'00'", "mysql": "x'00'", "postgresql": "'\\x00'::bytea"}[kiosk.dialect]
    other = made.replace("00", "11")
    alter.follow(shop, table, "email", [token])
    alter.fence(shop, table, "email", [token], plain=True)
    insert = "INSERT INTO customer (id, email, visits, email__guard1) VALUES "
    for wrong in (
        insert + "(100, 'x@example.org', 0, NULL)",
        "INSERT INTO customer (id, email, visits) VALUES (100, 'x@example.org', 0)",
        insert + "(100, 'g1.AAAA', 0, NULL)",
        "UPDATE customer SET email = 'x@example.org' WHERE id = 1",
    ):
        with pytest.raises(DatabaseError, match="only sealed values with their tokens"):
            kiosk.sql(wrong)
    kiosk.sql(insert + f"(100, 'x@example.org', 0, {made})")
    kiosk.sql("UPDATE customer SET visits = 1")
    kiosk.sql(f"UPDATE customer SET email = 'y@example.org', email__guard1 = {other} WHERE id = 100")
    with pytest.raises(DatabaseError, match="only sealed values with their tokens"):
        kiosk.sql("UPDATE customer SET email = 'z@example.org' WHERE id = 100")  # its token would lie
    assert kiosk.ask("SELECT email FROM customer WHERE id = 100") == [("y@example.org",)]
    kiosk.sql("UPDATE customer SET email = NULL WHERE id = 100")
    assert kiosk.ask("SELECT email__guard1 FROM customer WHERE id = 100") == [(None,)]
    alter.fence(shop, table, "email", [token])
    with pytest.raises(DatabaseError, match="only sealed values with their tokens"):
        kiosk.sql(insert + f"(101, 'w@example.org', 0, {made})")


def test_an_index_key_is_rotated(kiosk: Kiosk) -> None:
    models = shop_with(kiosk, EMAILS)
    encrypt(kiosk)
    before = records(kiosk)
    new_key(kiosk)
    encrypt(kiosk)
    [after] = records(kiosk)
    assert (after.version, after.name) == (2, "email__guard2")
    assert after.key_id != before[0].key_id
    whole(kiosk, models)
    new_key(kiosk)
    new_key(kiosk)
    encrypt(kiosk)
    assert records(kiosk)[0].version == 4
    whole(kiosk, models)


def test_an_index_may_come_after_the_seal(kiosk: Kiosk) -> None:
    models = customers()
    table = models.customer.__table__
    table.constraints -= {each for each in table.constraints if isinstance(each, sa.UniqueConstraint)}
    kiosk.protect(models.customer, "email")
    kiosk.create(models.base)
    with kiosk.session() as session:
        session.add_all([models.customer(email=each) for each in EMAILS])
        session.commit()
    encrypt(kiosk)
    kiosk.columns["customer.email"] = msgspec.structs.replace(kiosk.columns["customer.email"], index="exact")
    encrypt(kiosk)
    assert kiosk.ask("SELECT COUNT(*) FROM customer WHERE email__guard1 IS NULL") == [(0,)]


def test_another_normaliser_needs_the_way_back_first(kiosk: Kiosk) -> None:
    shop_with(kiosk, EMAILS)
    encrypt(kiosk)
    with pytest.raises(InterlockError, match='searched by index = "email", but the catalog says "exact"'):
        prepare(kiosk, index="exact")


def test_decrypting_takes_the_index_away(kiosk: Kiosk) -> None:
    shop_with(kiosk, EMAILS)
    encrypt(kiosk)
    decrypt(kiosk)
    assert records(kiosk) == ()
    assert tokens_of(kiosk) == []
    assert sorted(row[0] for row in kiosk.ask("SELECT email FROM customer")) == sorted(EMAILS)
    kiosk.sql("UPDATE customer SET email = 'plain@example.org' WHERE id = 1")


def test_what_an_interrupted_removal_left_is_swept_out(kiosk: Kiosk) -> None:
    models = shop_with(kiosk, EMAILS)
    shop = kiosk.shop
    alter.add_token(shop, shop.table("customer"), "email__guard7")
    encrypt(kiosk)
    whole(kiosk, models)


def test_what_slips_in_before_the_fence_is_refused_in_words(kiosk: Kiosk) -> None:
    """An old program writes the same address in other letters just then: the index is not finished."""
    shop_with(kiosk, EMAILS)

    def slip(point: str) -> None:
        if point == "fields.index.built":
            faults.install(None)
            kiosk.sql("INSERT INTO customer (id, email, visits) VALUES (900, ' C1@example.org', 0)")

    faults.install(slip)
    with pytest.raises(InterlockError, match="the same as others once normalised") as caught:
        prepare(kiosk)
    assert "c1@" not in f"{caught.value} {caught.value.hint}".lower()
    assert records(kiosk)[0].stage is Filling.FILLING
    kiosk.sql("DELETE FROM customer WHERE id = 900")
    prepare(kiosk)
    assert records(kiosk)[0].stage is Filling.READY


def test_a_stray_token_column_beside_a_finished_one_is_swept_out(kiosk: Kiosk) -> None:
    models = shop_with(kiosk, EMAILS)
    encrypt(kiosk)
    shop = kiosk.shop
    alter.add_token(shop, shop.table("customer"), "email__guard7")
    kiosk.close()
    encrypt(kiosk)
    whole(kiosk, models)


FILLING = ("added", "following", "told", "filled", "built", "closed")
POINTS = {
    "first": (*FILLING, "ready"),
    "rotation": (*FILLING, "flipped", "forgotten", "dropped"),
    "removal": ("unguarded", "forgotten", "dropped"),
}
"""The fault points of guard.fields.index that each flow passes."""


def killed_at(point: str, work: Callable[[], object]) -> bool:
    """Kill `work` in a forked child where it first passes `point`; return whether it came there."""
    child = os.fork()
    if child == 0:
        faults.install(lambda name: os.kill(os.getpid(), signal.SIGKILL) if name == point else None)
        try:
            work()
        except BaseException:  # noqa: BLE001  # the child must end here, whatever it was
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status in {0, signal.SIGKILL}, "the work failed in the child; its traceback is above"
    return status == signal.SIGKILL


def check_unique(kiosk: Kiosk) -> None:
    """Wherever it was killed: one of the same is refused, in plain or by its token."""
    rows = kiosk.ask("SELECT COUNT(*) FROM customer")
    with pytest.raises(DatabaseError):
        kiosk.sql("INSERT INTO customer (id, email, visits) VALUES (900, 'c1@example.org', 0)")
    assert kiosk.ask("SELECT COUNT(*) FROM customer") == rows
    kiosk.engine.dispose()


@pytest.mark.slow
@pytest.mark.parametrize("flow", POINTS)
def test_killed_at_every_point_it_is_finished_by_the_next_run(kiosk: Kiosk, flow: str) -> None:
    """Each round kills one more run, at the next point, and lets another finish what it left."""
    models = shop_with(kiosk, EMAILS)
    work = decrypt if flow == "removal" else encrypt
    if flow != "first":
        encrypt(kiosk)
    for point in POINTS[flow]:
        if flow == "rotation":
            new_key(kiosk)
        elif flow == "first" and records(kiosk):
            decrypt(kiosk)
        elif flow == "removal":
            encrypt(kiosk)
        kiosk.engine.dispose()
        assert killed_at(f"fields.index.{point}", lambda: work(kiosk)), point
        check_unique(kiosk)
        work(kiosk)
        if flow == "removal":
            assert tokens_of(kiosk) == []
        else:
            whole(kiosk, models)
        kiosk.close()
