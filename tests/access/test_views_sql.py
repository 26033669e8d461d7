"""Masking views with real accounts: staff see what their tier says, as `access view` does, and nothing around it."""

import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import exc
from sqlalchemy.engine import make_url

from guard.access.tiers import KEY_DOMAIN
from guard.access.views import STAFF as ROLES
from guard.actions.backup import INIT, RUN
from guard.actions.fields import ENCRYPT
from guard.actions.view import as_seen
from guard.actions.views import VIEWS, place_of, views_of, written
from guard.cli.main import call
from guard.clock import SteppedClock
from guard.demo.shop import Size, make_shop
from guard.errors import GuardError, InterlockError
from guard.events import Role
from guard.shop import Shop
from guard.shop.views import name
from tests.access.seeing import Office, open_office, values

GRANTS = Path(__file__).parents[2] / "docs" / "GRANTS.md"
ODD = "od\"d `ta'ble"
KINDS = {"INTEGER": "bigint", "TEXT": "varchar(190)", "DATETIME": "timestamp", "REAL": "numeric(12,2)"}


@dataclass
class Bench:
    """A shop on a server, guard beside it, and staff with accounts of their own."""

    office: Office
    owner: Shop
    staff: dict[Role, Shop]

    @property
    def dialect(self) -> str:
        return self.owner.dialect

    def sql(self, *statements: str) -> None:
        for statement in statements:
            with self.owner.begin() as connection:
                connection.exec_driver_sql(statement, execution_options={"no_parameters": True})

    def apply(self) -> None:
        self.office.do(VIEWS, what="apply", roles=None)

    def view(self, role: Role, table: str) -> str:
        return name(self.dialect, place_of(self.office.app).space(role.value), table)

    def ask(self, role: Role, statement: str) -> list[Any]:
        """Return what somebody of staff reads, with an account of their own."""
        with self.staff[role].engine.connect() as connection:
            found = connection.exec_driver_sql(statement, execution_options={"no_parameters": True})
            return list(found) if found.returns_rows else []

    def told(self, role: Role, statement: str) -> str:
        """Return all that somebody of staff gets for a statement: rows, error, warnings."""
        out = []
        with self.staff[role].engine.connect() as connection:
            for each in (statement, *(["SHOW WARNINGS"] if self.dialect == "mysql" else [])):
                try:
                    found = connection.exec_driver_sql(each, execution_options={"no_parameters": True})
                    out.append(str([tuple(row) for row in found] if found.returns_rows else found.rowcount))
                except exc.DBAPIError as error:
                    out.append(str(error.orig))
        return "\n".join(out)


def account(office: Office, owner: Shop, role: Role) -> Shop:
    """Make an account of a role's own in the shop's database, and open it."""
    group, user = place_of(office.app).group(role), f"staff_{role.value}_{owner.engine.url.database}"[:60]
    quoted = [name(owner.dialect, each) for each in (group, user)]
    with owner.begin() as connection:
        if owner.dialect == "postgresql":
            connection.exec_driver_sql(f"CREATE ROLE {quoted[1]} LOGIN IN ROLE {quoted[0]}")
        else:
            connection.exec_driver_sql(f"CREATE USER {quoted[1]}@'%%'")
            connection.exec_driver_sql(f"GRANT {quoted[0]} TO {quoted[1]}@'%%'")
            connection.exec_driver_sql(f"SET DEFAULT ROLE {quoted[0]} FOR {quoted[1]}@'%%'")
    url = make_url(owner.engine.url).set(username=user)
    if owner.dialect == "mysql":  # the shop's own database is not theirs to be in
        url = url.set(database=place_of(office.app).space(role.value))
    return Shop.connect(url.render_as_string(hide_password=False))


def copy(path: Path, shop: Shop) -> None:
    """Copy the tables of an SQLite shop to a server's."""
    source, lite = Shop.connect(f"sqlite:///{path}"), sqlite3.connect(path)
    moment = "datetime" if shop.dialect == "mysql" else "timestamp"
    with shop.begin() as connection:
        for table in source.tables().values():
            columns = [
                f"{name(shop.dialect, each.name)} {_kind(each.type, moment)}{'' if each.nullable else ' NOT NULL'}"
                for each in table.columns
            ]
            key = ", ".join(name(shop.dialect, each) for each in table.key)
            where = name(shop.dialect, table.name)
            connection.exec_driver_sql(f"CREATE TABLE {where} ({', '.join(columns)}, PRIMARY KEY ({key}))")
            rows = lite.execute(f'SELECT * FROM "{table.name}" LIMIT 40').fetchall()
            marks = ", ".join(["%s"] * len(table.columns))
            for row in rows:
                connection.exec_driver_sql(f"INSERT INTO {where} VALUES ({marks})", tuple(row))
    source.close()
    lite.close()


def _kind(declared: str, moment: str) -> str:
    found = KINDS.get(re.sub(r"\(.*", "", declared.upper()).strip())
    if declared.upper().startswith("NUMERIC"):
        return "numeric(12,2)"
    return moment if found == "timestamp" else found or "varchar(190)"


@pytest.fixture
def on_postgres(chinook_postgres: str) -> str:
    return chinook_postgres


@pytest.fixture
def on_mariadb(mariadb_url: str, chinook_file: Path) -> str:
    shop = Shop.connect(mariadb_url)
    copy(chinook_file, shop)
    shop.close()
    return mariadb_url


def add_odd(shop: Shop) -> None:
    """Add a table with odd names, a key of two parts, NULLs, and each kind of value."""
    pg = shop.dialect == "postgresql"
    moment, blob, odd = ("timestamp", "bytea", "timestamptz") if pg else ("datetime(6)", "blob", "timestamp NULL")
    columns = {
        'k"1': "integer NOT NULL", "k`2": "varchar(20) NOT NULL", "na'me %s": "varchar(60)", "born": "date",
        "at": moment, "zone": odd, "card": "varchar(30)", "sum": "numeric(10,2)", "many": "bigint",
        "rate": "double precision", "raw": blob, "yes": "boolean", "fixed": "char(8)",
    }  # fmt: skip
    if not pg:
        columns["k`2"] += " COLLATE utf8mb4_bin"
    defined = ", ".join(f"{name(shop.dialect, each)} {kind}" for each, kind in columns.items())
    key = ", ".join(name(shop.dialect, each) for each in ('k"1', "k`2"))
    table = name(shop.dialect, ODD)
    full = (
        "1, 'a', 'Ada %% Lovelace', '1980-02-03', '1990-05-06 04:05:06.789', '2001-01-01 00:30:00', '4111111111111234',"
        " -12.50, 42, 0.1, {raw}, true, 'ab'"
    ).replace("{raw}", "'\\x6162'::bytea" if pg else "x'6162'")
    with shop.begin() as connection:
        connection.exec_driver_sql(f"CREATE TABLE {table} ({defined}, PRIMARY KEY ({key}))".replace("%", "%%"))
        connection.exec_driver_sql(f"INSERT INTO {table} VALUES ({full})")
        connection.exec_driver_sql(f"INSERT INTO {table} VALUES (2, 'b'{', NULL' * 11})")


ODD_CATEGORIES = {
    'k"1': "key", "k`2": "key", "na'me %s": "name", "born": "birth_date", "at": "date", "zone": "date", "card": "card",
    "sum": "number", "many": "number", "rate": "number", "raw": "file", "yes": "flag", "fixed": "name",
}  # fmt: skip


def classified(office: Office, tier: Callable[[str], str] = lambda _: "contact") -> str:
    """Return a catalog in which every column of the shop is classified; nothing is sealed."""
    lines = []
    for table in office.app.shop.tables(fresh=True).values():
        for column in table.columns:
            at = f"{table.name}.{column.name}"
            category = ODD_CATEGORIES.get(column.name, _category(column.name)) if table.name == ODD else None
            found = category or _category(column.name)
            lines.append(f"[[column]]\nat = {_toml(at)}\ncategory = '{found}'\ntier = '{_tier(found, tier)}'\n")
    return "\n".join(lines)


def _toml(at: str) -> str:
    return '"' + at.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _tier(category: str, tier: Callable[[str], str]) -> str:
    fixed = {"key": "internal", "number": "internal", "flag": "internal", "text": "public", "card": "payment",
             "payment": "payment", "birth_date": "identity", "secret": "secret"}  # fmt: skip
    return fixed.get(category) or tier(category)


def _category(column: str) -> str:
    low = column.lower()
    for word, category in {
        "email": "email", "birth": "birth_date", "hire": "employment", "last4": "payment", "token": "secret",
        "_id": "key", "id": "key", "phone": "phone", "fax": "phone", "street": "address", "address": "address",
        "date": "date", "_at": "date", "total": "number", "price": "number", "cents": "number", "last": "name",
        "first": "name", "title": "text", "unit": "number", "milli": "number", "bytes": "number",
    }.items():  # fmt: skip
        if word in low:
            return category
    return "name"


@contextmanager
def opened(url: str, home: Path, clock: SteppedClock, *roles: Role) -> Iterator[Bench]:
    """Give a bench with views for all roles, and accounts for some."""
    owner = Shop.connect(url)
    add_odd(owner)
    office = open_office(home, url, clock)
    office.take(classified(office))
    made = Bench(office, owner, {})
    try:
        made.apply()
        made.staff |= {role: account(office, owner, role) for role in roles}
        yield made
    finally:
        _clean(made)


@pytest.fixture(params=["on_postgres", "on_mariadb"])
def whole(request: pytest.FixtureRequest, tmp_path: Path, clock: SteppedClock) -> Iterator[Bench]:
    """Chinook, the demo shop's tables and an odd one, all in clear; every role has an account."""
    url: str = request.getfixturevalue(request.param)
    demo = tmp_path / "demo.db"
    make_shop(demo, clock.now(), size=Size(customers=12, orders=30))
    lite = sqlite3.connect(demo)
    for table in ("customer", "address", "product", "orders", "order_item", "payment", "support_note"):
        lite.execute(f"ALTER TABLE {table} RENAME TO demo_{table}")
    lite.close()
    shop = Shop.connect(url)
    copy(demo, shop)
    with shop.begin() as connection:
        for table, column in (("playlist_track", "track_id"), ("invoice_line", "track_id"), ("track", "track_id")):
            if table in shop.tables():
                connection.exec_driver_sql(f"DELETE FROM {table} WHERE {column} > 60")
    shop.close()
    with opened(url, tmp_path / "guard", clock, *ROLES) as made:
        yield made


@pytest.fixture(params=["postgres_url", "mariadb_url"])
def bench(request: pytest.FixtureRequest, tmp_path: Path, clock: SteppedClock) -> Iterator[Bench]:
    """The odd table alone."""
    url: str = request.getfixturevalue(request.param)
    with opened(url, tmp_path / "guard", clock, Role.SUPPORT, Role.OPS, Role.AUDITOR) as made:
        yield made


def _clean(made: Bench) -> None:
    for shop in made.staff.values():
        shop.close()
    place = place_of(made.office.app)
    made.office.app.close()
    for role in ROLES:
        for each in (str(made.staff[role].engine.url.username) if role in made.staff else None, place.group(role)):
            if each is None:
                continue
            quoted = name(made.dialect, each)
            if made.dialect == "postgresql":
                made.sql(f"DROP OWNED BY {quoted}", f"DROP ROLE {quoted}")
            else:
                made.sql(f"DROP USER {quoted}@'%'" if "staff" in each else f"DROP ROLE {quoted}")
        if made.dialect == "mysql":
            made.sql(f"DROP DATABASE IF EXISTS {name('mysql', place.space(role.value))}")
    if made.dialect == "mysql":
        made.sql(f"DROP DATABASE IF EXISTS {name('mysql', place.space('views'))}")
    made.owner.close()


def rows(bench: Bench, role: Role, table: str) -> list[Mapping[str, object]]:
    key = bench.office.app.shop.table(table).key
    order = ", ".join(name(bench.dialect, each) for each in key)
    found = bench.ask(role, f"SELECT * FROM {bench.view(role, table)} ORDER BY {order}")
    return [dict(row._mapping) for row in found]


def test_access_view_and_the_view_agree_on_every_column_for_every_role(whole: Bench) -> None:
    app, checked = whole.office.app, set()
    key = bytes.fromhex(app.digest(KEY_DOMAIN, b""))
    for role, views in views_of(app, ROLES).items():
        for view in views:
            if view.is_hidden:
                continue
            table = app.shop.table(view.table)
            where = name(whole.dialect, view.table)
            order = ", ".join(name(whole.dialect, each) for each in table.key)
            with whole.owner.read() as connection:
                query = f"SELECT * FROM {where} ORDER BY {order}"
                base = connection.exec_driver_sql(query, execution_options={"no_parameters": True}).all()
            there = whole.ask(role, f"SELECT * FROM {whole.view(role, view.table)}")
            expected = [
                tuple(as_seen(app.shop.dialect, each, row._mapping[each.column.name], key) for each in view.columns)
                for row in base
            ]
            assert sorted(map(repr, map(plain, there))) == sorted(map(repr, map(plain, expected))), (role, view.table)
            checked |= {(view.table, each.form.value) for each in view.columns}
    assert {form for _, form in checked} == {"clear", "masked", "pseudonym", "hidden"}
    assert len({table for table, _ in checked}) >= 11 + 7 + 1


def plain(row: Any) -> tuple[object, ...]:
    return tuple(bytes(each) if isinstance(each, memoryview) else each for each in row)


def test_what_a_person_is_shown_is_what_their_view_shows(whole: Bench) -> None:
    customer = next(each for each in whole.office.app.shop.tables() if each.lower() == "customer")
    for role in (Role.SUPPORT, Role.AUDITOR, Role.FINANCE):
        whole.office.take_in(role)
        for table, key in ((ODD, ("1", "a")), (ODD, ("2", "b")), (customer, ("1",))):
            seen = values(whole.office.look(table, *key, role=role))
            assert plain(seen.values()) in [plain(row.values()) for row in rows(whole, role, table)]


def test_a_support_account_sees_what_its_tier_says(bench: Bench) -> None:
    [full, empty] = rows(bench, Role.SUPPORT, ODD)
    assert full["na'me %s"] == "Ada % Lovelace"
    assert full["born"] == "1980"
    assert full["card"] == "***1234"
    assert full["sum"] == Decimal("-12.50")
    assert {each for column, each in empty.items() if not column.startswith("k")} == {None}
    [full] = (row for row in rows(bench, Role.AUDITOR, ODD) if row["na'me %s"])
    assert re.fullmatch("v-[0-9a-f]{16}", str(full["na'me %s"]))
    assert full["card"] is None
    assert full["raw"] == "***"


def around(bench: Bench, role: Role) -> Iterator[str]:
    """Yield what somebody may try who wants more than their views show."""
    place = place_of(bench.office.app)
    base = name(bench.dialect, place.schema if bench.dialect == "postgresql" else place.database, ODD)
    view, key = bench.view(role, ODD), name(bench.dialect, place.space("views"), "key")
    finance, born = bench.view(Role.FINANCE, ODD), name(bench.dialect, "card")
    yield from (f"SELECT * FROM {base}", f"SELECT * FROM {key}", f"SELECT * FROM {finance}")
    yield f"SELECT v.*, b.* FROM {view} v JOIN {base} b ON true"
    yield f"UPDATE {view} SET {born} = 'x'"
    yield f"DELETE FROM {view}"
    yield f"SELECT CAST({born} AS {'integer' if bench.dialect == 'postgresql' else 'SIGNED'}) FROM {view}"
    if bench.dialect == "postgresql":
        literal = view.replace("'", "''")
        yield f"SELECT pg_get_viewdef('{literal}'::regclass, true)"
        yield f"EXPLAIN (VERBOSE, ANALYZE) SELECT * FROM {view} WHERE {born} LIKE '4%'"
        yield from ("SELECT * FROM pg_stats", "SELECT * FROM pg_statistic", "SELECT * FROM pg_stats_ext")
        yield from (
            f"SELECT * FROM {where}" for where in ("pg_stat_activity", "information_schema.columns", "pg_views")
        )
        yield "SELECT * FROM information_schema.views"
        yield f"SELECT query_to_xml($q$SELECT * FROM {base}$q$, true, true, '')"
        yield "SELECT database_to_xml(true, true, '')"
        yield f"SELECT {born}::int FROM {view}"
        yield f"SELECT 1/(CASE WHEN t::text LIKE '%4111%' THEN 0 ELSE 1 END) FROM {view} t"
        yield f"SELECT t::text, to_json(t) FROM {view} t"
        yield "SELECT guard_brought FROM public.guard_progress"
        yield f"CREATE VIEW guard_ops.mine AS SELECT * FROM {base}"
        leak = "LANGUAGE plpgsql COST 0.0001 AS $$BEGIN RAISE EXCEPTION 'got %', $1; END$$"
        yield (
            f"CREATE FUNCTION pg_temp.leak(text) RETURNS bool {leak};"
            f"SELECT * FROM {view} t WHERE pg_temp.leak(t::text) OR pg_temp.leak({born}::text)"
        )
        yield f"COPY {base} TO STDOUT"
        yield "SELECT pg_read_file('PG_VERSION')"
    else:
        yield f"SHOW CREATE VIEW {view}"
        yield f"EXPLAIN EXTENDED SELECT * FROM {view}"
        yield f"ANALYZE FORMAT=JSON SELECT * FROM {view}"
        yield from ("SELECT * FROM information_schema.views", "SELECT * FROM information_schema.columns")
        yield from ("SELECT * FROM mysql.column_stats", "SELECT * FROM information_schema.processlist")
        yield "SELECT * FROM information_schema.statistics"
        yield f"SELECT EXTRACTVALUE(1, CONCAT('~', {born})) FROM {view}"
        yield "SET sql_mode = ''; "
        yield "SET default_regex_flags = 'MULTILINE,EXTENDED'"


def test_a_staff_account_reads_no_value_around_its_view(bench: Bench) -> None:
    secrets = ("4111111111111234", "Ada % Lovelace", "1980-02-03", bench.office.app.digest(KEY_DOMAIN, b""))
    with bench.owner.read() as connection:
        place = place_of(bench.office.app)
        key = name(bench.dialect, place.space("views"), "key")
        pads = connection.exec_driver_sql(f"SELECT * FROM {key}").one()
    table, columns = name(bench.dialect, ODD), ", ".join(name(bench.dialect, each) for each in ('k"1', "k`2", "card"))
    for number in range(10, 40):  # often enough for the servers' statistics
        bench.sql(f"INSERT INTO {table} ({columns}) VALUES ({number}, 'x', '{secrets[0]}')")
    hidden = (*secrets, *(bytes(each).hex() for each in pads))
    pg = bench.dialect == "postgresql"
    bench.sql("ANALYZE" if pg else f"ANALYZE TABLE {table} PERSISTENT FOR ALL")
    with bench.owner.read() as connection:
        statistics = "SELECT * FROM pg_stats" if pg else "SELECT * FROM mysql.column_stats"
        assert secrets[0] in str(connection.exec_driver_sql(statistics).all())  # who may, finds it there
    assert "Ada % Lovelace" in str(rows(bench, Role.SUPPORT, ODD))
    for role in (Role.OPS, Role.AUDITOR):
        for statement in around(bench, role):
            told = bench.told(role, statement)
            assert told
            assert not [each for each in hidden if each in told], statement


def test_a_staff_account_may_read_its_views_and_nothing_else(bench: Bench) -> None:
    place = place_of(bench.office.app)
    others = [bench.view(Role.FINANCE, ODD), name(bench.dialect, place.space("views"), "key")]
    base = place.schema if bench.dialect == "postgresql" else place.database
    others += [name(bench.dialect, base, table) for table in bench.office.app.shop.tables()]
    for each in others:
        with pytest.raises(exc.DBAPIError, match=r"(?i)denied|does not exist|doesn't exist"):
            bench.ask(Role.SUPPORT, f"SELECT 1 FROM {each}")
    assert bench.ask(Role.SUPPORT, f"SELECT count(*) FROM {bench.view(Role.SUPPORT, ODD)}") == [(2,)]


def test_views_are_made_anew_with_what_policies_say_then(bench: Bench) -> None:
    bench.office.policy('support = "clear"                   # writes to them', 'support = "masked"')
    bench.apply()
    assert rows(bench, Role.SUPPORT, ODD)[0]["na'me %s"] == "A***"
    bench.office.policy(
        "[tier.contact] ", "[tier.somewhere]\n[tier.contact]\nsupport = 'clear'\npurpose.support = ['a']\n#"
    )
    with pytest.raises(GuardError):
        bench.apply()  # the role is there twice: the policy is refused, and the views stay
    assert rows(bench, Role.SUPPORT, ODD)[0]["na'me %s"] == "A***"


def test_a_column_that_is_to_be_sealed_is_null_and_no_view_reads_it(bench: Bench) -> None:
    catalog = classified(bench.office).replace("category = 'card'", "category = 'card'\nprotect = 'encrypt'")
    bench.office.take(catalog)
    bench.apply()
    assert rows(bench, Role.SUPPORT, ODD)[0]["card"] is None
    assert not any("card" in each.split(" AS ")[0] for each in written(bench.office.app, [Role.FINANCE]) if ODD in each)


def test_what_was_sealed_after_the_view_was_made_is_null(bench: Bench) -> None:
    table, column = name(bench.dialect, ODD), name(bench.dialect, "na'me %s")
    bench.sql(f"UPDATE {table} SET {column} = 'g1.AAAA'")
    assert {row["na'me %s"] for role in (Role.SUPPORT, Role.AUDITOR) for row in rows(bench, role, ODD)} == {None}


def test_rights_beside_the_views_are_refused(bench: Bench) -> None:
    place = place_of(bench.office.app)
    base = name(bench.dialect, place.schema if bench.dialect == "postgresql" else place.database, ODD)
    bench.sql(f"GRANT SELECT ON {base} TO {name(bench.dialect, place.group(Role.SUPPORT))}")
    with pytest.raises(InterlockError, match=r"support holds rights beside its views: .*ta'ble"):
        bench.apply()
    assert rows(bench, Role.SUPPORT, ODD)
    if bench.dialect == "postgresql":
        bench.sql(f"REVOKE ALL ON {base} FROM {name(bench.dialect, place.group(Role.SUPPORT))}")
        bench.sql(f"GRANT SELECT (born) ON {base} TO PUBLIC")
        with pytest.raises(InterlockError, match=r"beside its views: .*ta'ble"):
            bench.apply()


def test_sealing_goes_on_beside_views_and_only_guard_opens_what_is_sealed(bench: Bench) -> None:
    office, sealed = bench.office, ("fixed", "born")
    catalog = classified(office)
    for each in sealed:
        at = f"at = {_toml(f'{ODD}.{each}')}"
        assert at in catalog
        catalog = catalog.replace(at, f"{at}\nprotect = 'encrypt'")
    office.take(catalog)
    bench.apply()
    office.do(INIT)
    office.do(RUN)
    office.do(ENCRYPT, columns=[f"{ODD}.{each}" for each in sealed])
    with bench.owner.read() as connection:
        query = f"SELECT * FROM {name(bench.dialect, ODD)}"
        raw = [dict(row._mapping) for row in connection.exec_driver_sql(query.replace("%", "%%"))]
    assert sum(str(row[each]).startswith("g1.") for row in raw for each in sealed) == 2
    office.take_in(Role.SUPPORT)
    seen = values(office.look(ODD, "1", "a", role=Role.SUPPORT))
    assert [str(seen[each]).strip() for each in sealed] == ["ab", "1980"]
    [full, _] = rows(bench, Role.SUPPORT, ODD)
    assert {column: value for column, value in full.items() if column not in sealed} == {
        column: value for column, value in seen.items() if column not in sealed
    }
    assert {full[each] for each in sealed} == {None}
    stored = [str(row[each]) for row in raw for each in sealed if row[each]]
    for statement in around(bench, Role.SUPPORT):
        told = bench.told(Role.SUPPORT, statement)
        assert not [each for each in (*stored, "1980-02-03") if each in told], statement
    bench.apply()
    assert {rows(bench, Role.SUPPORT, ODD)[0][each] for each in sealed} == {None}


def test_the_grants_of_the_documents_suffice(bench: Bench) -> None:
    """guard's own account, with no more than docs/GRANTS.md gives it, makes the views and drops them."""
    office, pg, user = bench.office, bench.dialect == "postgresql", f"guard_{bench.owner.engine.url.database}"
    office.do(VIEWS, what="drop", roles=None)
    place = place_of(office.app)
    for role in ROLES:
        group = name(bench.dialect, place.group(role))
        bench.sql(*([f"DROP OWNED BY {group}"] if pg else []), f"DROP ROLE {group}")
    who = name(bench.dialect, user) + ("" if pg else "@'%'")
    table = name(bench.dialect, "public" if pg else place.database, ODD)
    bench.sql(f"CREATE ROLE {who} LOGIN" if pg else f"CREATE USER {who}", f"GRANT SELECT ON {table} TO {who}")
    bench.sql(*_documented(bench.dialect, place.database, who))
    shop = office.app.shop
    office.app.shop = Shop.connect(shop.engine.url.set(username=user).render_as_string(hide_password=False))
    try:
        if pg:  # somebody who waits for the key
            bench.sql(f"CREATE SCHEMA guard_views AUTHORIZATION {_account(bench, Role.SUPPORT)}")
            with pytest.raises(GuardError, match="does not let guard's account"):
                bench.apply()
            bench.sql("DROP SCHEMA guard_views")
        bench.apply()
        bench.apply()
        if pg:
            bench.sql(f"GRANT {name('postgresql', place.group(Role.SUPPORT))} TO {_account(bench, Role.SUPPORT)}")
        else:
            group = name("mysql", place.group(Role.SUPPORT))
            bench.sql(f"GRANT {group} TO {_account(bench, Role.SUPPORT)}@'%'")
            bench.sql(f"SET DEFAULT ROLE {group} FOR {_account(bench, Role.SUPPORT)}@'%'")
        bench.staff[Role.SUPPORT].engine.dispose()
        assert rows(bench, Role.SUPPORT, ODD)[0]["card"] == "***1234"
        bench.office.do(VIEWS, what="drop", roles=None)
    finally:
        office.app.shop.close()
        office.app.shop = shop
        bench.sql(*([f"DROP OWNED BY {who}", f"DROP ROLE {who}"] if pg else [f"DROP USER {who}"]))


def _account(bench: Bench, role: Role) -> str:
    return name(bench.dialect, str(bench.staff[role].engine.url.username))


def _documented(dialect: str, database: str, who: str) -> list[str]:
    kind = "postgresql" if dialect == "postgresql" else "mariadb"
    [script] = re.findall(rf"<!-- views: {kind} -->\n```sql\n(.*?)```", GRANTS.read_text(), re.DOTALL)
    escaped = database.replace("_", "\\_")
    script = script.replace("`shop\\_", f"`{escaped}\\_").replace("guard@localhost", who)
    script = script.replace("shop_guard_", f"{database}_guard_").replace(
        "DATABASE shop TO guard", f"DATABASE {database} TO {who}"
    )
    return [each for each in map(str.strip, script.split(";")) if each]


def test_dropping_takes_all_of_it_away_and_of_one_role_only_its_own(bench: Bench) -> None:
    bench.office.do(VIEWS, what="drop", roles=["ops"])
    assert rows(bench, Role.AUDITOR, ODD)
    with pytest.raises(exc.DBAPIError):
        bench.ask(Role.OPS, f"SELECT 1 FROM {bench.view(Role.OPS, ODD)}")
    bench.office.do(VIEWS, what="drop", roles=None)
    with pytest.raises(exc.DBAPIError):
        bench.ask(Role.SUPPORT, f"SELECT 1 FROM {bench.view(Role.SUPPORT, ODD)}")
    bench.apply()
    assert rows(bench, Role.SUPPORT, ODD)


def test_the_commands_show_write_and_apply(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("guard.cli._door.os_user", lambda: "owner")
    capsys.readouterr()
    assert call(["access", "views", "--role", "support"], bench.office.app) == 0
    shown = capsys.readouterr().out
    assert "the key of pseudonyms goes here" in shown
    assert "INSERT INTO" not in shown
    out = tmp_path / "views.sql"
    assert call(["access", "views", "--out", str(out)], bench.office.app) == 10  # nobody to ask for a code
    assert not out.exists()
    bench.office.app.ask_secret = lambda _: bench.office.code("owner")
    bench.office.caller()
    assert call(["access", "views", "--out", str(out)], bench.office.app) == 0
    assert out.stat().st_mode & 0o777 == 0o600
    assert "INSERT INTO" in out.read_text()
    assert call(["access", "views", "--out", str(out)], bench.office.app) == 2
    bench.office.caller()
    assert call(["access", "views", "--apply", "--role", "support"], bench.office.app) == 0
    if bench.dialect == "postgresql":
        with bench.owner.bare() as connection:
            connection.exec_driver_sql(out.read_text(), execution_options={"no_parameters": True})
    assert rows(bench, Role.AUDITOR, ODD)


TEXTS = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=30)


@pytest.mark.slow
def test_texts_of_all_kinds_look_the_same_in_views_and_in_python(bench: Bench) -> None:
    app = bench.office.app
    bench.staff[Role.OWNER] = account(bench.office, bench.owner, Role.OWNER)
    key = bytes.fromhex(app.digest(KEY_DOMAIN, b""))
    seen = {
        role: next(view for view in views if view.table == ODD)
        for role, views in views_of(app, [Role.OWNER, Role.AUDITOR, Role.SUPPORT]).items()
    }
    table, column = name(bench.dialect, ODD), name(bench.dialect, "na'me %s").replace("%", "%%")

    @settings(max_examples=60, suppress_health_check=list(HealthCheck))
    @given(TEXTS)
    def agree(value: str) -> None:
        with bench.owner.begin() as connection:
            connection.exec_driver_sql(f"UPDATE {table} SET {column} = %s, card = %s", (value, value))
        for role, view in seen.items():
            got = rows(bench, role, ODD)[0]
            for shown in view.columns:
                if shown.column.name in {"na'me %s", "card"}:
                    assert got[shown.column.name] == as_seen(app.shop.dialect, shown, value, key), (role, value)

    agree()
