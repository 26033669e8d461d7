"""The grants of docs/GRANTS.md suffice for each group of commands, and one that is missing is named."""

import os
import re
import shutil
import sqlite3
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from guard.errors import ConfigError, UnavailableError
from guard.shop import Shop, alter
from guard.shop.connect import Patience
from guard.shop.remains import Kind

TEXT = Path(__file__).parents[2] / "docs" / "GRANTS.md"
BLOCK = re.compile(r"<!-- (\w+): (\w+) -->\n```sql\n(.*?)```", re.DOTALL)
ALL = ("once", "read", "write", "shape", "rewrite", "around", "retain")


@dataclass
class Account:
    """guard's account on a server, and the owner's connection that gives it grants."""

    owner: Shop
    url: str
    dialect: str
    user: str = "guard"

    def give(self, *groups: str) -> None:
        for group in groups:
            self.sql(self.scripts()[group])

    def scripts(self) -> dict[str, str]:
        found = {group: text for dialect, group, text in BLOCK.findall(TEXT.read_text()) if dialect == self.dialect}
        assert tuple(found) == ALL
        if self.dialect == "postgresql":
            return found
        name = str(self.owner.engine.url.database)
        texts = {group: text.replace("guard@localhost", self.user) for group, text in found.items()}
        return {group: re.sub(r"\bshop\.", f"{name}.", text) for group, text in texts.items()}

    def sql(self, script: str) -> None:
        bare = re.sub(r"--[^\n]*", "", script)
        for statement in filter(str.strip, bare.split(";")):
            with self.owner.begin() as connection:
                connection.exec_driver_sql(statement, execution_options={"no_parameters": True})

    def open(self) -> Shop:
        shop = Shop.connect(self.url)
        shop.patience = Patience(timedelta(seconds=1), 2, timedelta(0))
        return shop


@pytest.fixture
def on_postgres(chinook_postgres: str) -> Iterator[Account]:
    """The media shop, whose tables belong to a role of the shop, with customers' birthdays."""
    owner = Shop.connect(chinook_postgres)
    account = Account(owner, chinook_postgres.replace("shop@", "guard@"), "postgresql")
    account.sql("CREATE ROLE shop_owner; ALTER TABLE customer ADD COLUMN born date, ADD COLUMN note text")
    account.sql("UPDATE customer SET born = '1980-01-01', note = last_name; ALTER TABLE customer OWNER TO shop_owner")
    yield account
    account.sql("DROP OWNED BY guard; DROP ROLE guard; DROP OWNED BY shop_owner CASCADE; DROP ROLE shop_owner")
    owner.close()


@pytest.fixture
def on_mariadb(mariadb_url: str) -> Iterator[Account]:
    """A table of customers."""
    owner = Shop.connect(mariadb_url)
    name = f"guard{os.getpid()}"  # others test on this server too
    url = owner.engine.url.set(username=name).render_as_string(hide_password=False)
    account = Account(owner, url, "mariadb", f"{name}@'%'")
    account.sql(
        "CREATE TABLE customer (customer_id INT PRIMARY KEY, email VARCHAR(60), born DATE, KEY (email),"
        " note LONGTEXT COLLATE utf8mb4_bin);"
        "INSERT INTO customer SELECT seq, CONCAT('a', seq, '@example.org'), '1980-01-01', 'n' FROM seq_1_to_50"
    )
    yield account
    account.sql(f"DROP USER {account.user}")
    owner.close()


@pytest.fixture(params=["on_postgres", "on_mariadb"])
def account(request: pytest.FixtureRequest) -> Account:
    found: Account = request.getfixturevalue(request.param)
    return found


def refused(work: Callable[[], object]) -> str:
    """Return what an account is told that lacks a grant: what was refused, and what to do."""
    with pytest.raises(UnavailableError, match="does not let guard's account do this") as caught:
        work()
    assert "docs/GRANTS.md" in str(caught.value.hint)
    return f"{caught.value} | {caught.value.hint}"


def test_reading_takes_read(make, account: Account) -> None:
    account.give("once")
    plan = make(account.url, "customer.note").fields.plan
    if account.dialect == "postgresql":
        assert "GRANT SELECT" in refused(plan)
    else:
        with pytest.raises(ConfigError, match="has no table customer") as caught:
            plan()
        assert "only tables it holds a grant for: GRANT SELECT" in str(caught.value.hint)
    account.give("read")
    bench = make(account.url, "customer.note")
    [column] = bench.fields.plan().columns
    assert (column.refusals, column.unseen) == ((), ())
    assert not bench.fields.shop.table("customer").unseen


def test_sealing_a_text_takes_write(make, account: Account) -> None:
    account.give("once", "read")
    bench = make(account.url, "customer.note")
    assert "UPDATE" in refused(bench.seal)
    if account.dialect == "postgresql":  # only the columns of the example
        account.sql("GRANT UPDATE (note) ON customer TO guard")
    else:
        account.give("write")
    before = account.owner.sizes(["customer"])
    bench.seal()
    assert bench.fields.verify()[0].same
    bench.unseal()
    assert account.owner.sizes(["customer"]).keys() == before.keys()


def test_changing_types_takes_shape(make, account: Account) -> None:
    account.give("once", "read", "write")
    names = ("customer.email", "customer.born")
    bench = make(account.url, *names)
    before = bench.ask("SELECT concat(email, born) FROM customer ORDER BY customer_id")
    told = refused(bench.seal)
    assert ("GRANT the role that owns" in told) or ("ALTER" in told)
    account.give("shape")
    bench.seal()
    assert {check.same for check in bench.fields.verify()} == {True}
    bench.unseal()
    assert bench.ask("SELECT concat(email, born) FROM customer ORDER BY customer_id") == before
    assert account.owner.tables(fresh=True)["customer"].column("born").type == "date"


def test_tokens_and_triggers_take_shape(account: Account) -> None:
    account.give("once", "read", "write")
    shop = account.open()
    table = shop.table("customer")

    def work() -> None:
        alter.add_token(shop, table, "email__guard1")
        alter.index_token(shop, table, "email__guard1", unique=True)
        alter.follow(shop, table, "email", ["email__guard1"])
        alter.fence(shop, table, "email", ["email__guard1"])
        with shop.begin() as connection:
            connection.exec_driver_sql("UPDATE customer SET born = NULL")
        alter.unguard(shop, table, "email")
        alter.drop_token(shop, table, "email__guard1")

    refused(work)
    account.give("shape")
    if account.dialect == "postgresql":
        account.sql("REVOKE CREATE ON SCHEMA public FROM guard")
        assert "CREATE" in refused(work)
        account.give("shape")
    work()
    shop.close()


def test_finishing_takes_rewrite_and_looks_with_around(make, account: Account) -> None:
    account.give("once", "read", "write", "shape")
    bench = make(account.url, "customer.email")
    bench.seal()
    if account.dialect == "postgresql":
        account.sql("REVOKE shop_owner FROM guard")
    else:
        account.sql(account.scripts()["shape"].replace("GRANT ", "REVOKE ").replace(" TO ", " FROM "))
    told = refused(bench.finish)
    assert ("GRANT MAINTAIN" in told) or ("GRANT ALTER, INSERT" in told)
    assert bench.stages() == {"sealed"}
    account.give("rewrite")
    remains = bench.finish()
    assert bench.stages() == {"strict"}
    unseen = [each for each in remains if each.unseen or "GRANT" in each.how]
    assert len(unseen) >= 3
    assert all("GRANT" in each.how for each in unseen)
    account.give("around")
    bench.fields.shop.close()
    remains = bench.finish()
    assert [each for each in remains if each.unseen or "GRANT" in each.how] == []
    assert Kind.DISK in {each.kind for each in remains}
    if account.dialect == "postgresql":
        account.sql("REVOKE EXECUTE ON FUNCTION pg_catalog.pg_switch_wal() FROM guard")


def test_retention_takes_retain(account: Account) -> None:
    account.give("once", "read")
    shop = account.open()

    def work() -> None:
        for statement in ("UPDATE customer SET born = NULL", "DELETE FROM customer WHERE customer_id < 0"):
            with shop.begin() as connection:
                connection.exec_driver_sql(statement)

    assert "UPDATE" in refused(work)
    account.sql(f"GRANT UPDATE ON customer TO {account.user}")
    assert "DELETE" in refused(work)
    account.give("retain")
    work()
    shop.close()


@pytest.mark.slow
def test_triggers_on_a_server_with_a_binlog_take_a_setting_that_is_named(private_mariadb) -> None:
    url, _ = private_mariadb("--log-bin=binlog", "--server-id=1")
    owner = Shop.connect(url)
    account = Account(owner, url.replace("root@", "guard@"), "mariadb", "guard@localhost")
    account.sql("CREATE TABLE customer (id INT PRIMARY KEY, email VARCHAR(60))")
    account.give(*ALL)
    shop = account.open()
    table = shop.table("customer")
    alter.add_token(shop, table, "email__guard1")
    told = refused(lambda: alter.follow(shop, table, "email", ["email__guard1"]))
    assert "log_bin_trust_function_creators" in told
    account.sql("SET GLOBAL log_bin_trust_function_creators = 1")
    alter.follow(shop, table, "email", ["email__guard1"])
    shop.close()
    owner.close()


# SQLite: modes of files -----------------------------------------------------------------------------------------------


def as_nobody(work: Callable[[], object]) -> int:
    """Do `work` in a child that is no superuser, for whom modes count; return its exit code."""
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            work()
        except BaseException:  # noqa: BLE001  # the child must end here, whatever it was
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.fixture
def file() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="guard-grants-", dir="/tmp"))
    path = folder / "shop.db"
    connection = sqlite3.connect(path)
    connection.executescript(
        "CREATE TABLE customer (id INTEGER PRIMARY KEY, email TEXT); INSERT INTO customer VALUES (1, 'a')"
    )
    connection.close()
    yield path
    shutil.rmtree(folder)


def test_a_file_that_may_only_be_read_is_read_and_not_written(file: Path) -> None:
    file.parent.chmod(0o755)
    file.chmod(0o644)

    def work() -> None:
        shop = Shop.connect(f"sqlite:///{file}")
        with shop.read() as connection:
            assert connection.exec_driver_sql("SELECT email FROM customer").scalar() == "a"
        with pytest.raises(UnavailableError, match="cannot be written") as caught, shop.begin() as connection:
            connection.exec_driver_sql("UPDATE customer SET email = 'b'")
        assert caught.value.hint == "check file modes and rights"
        shop.close()

    assert as_nobody(work) == 0


def test_a_file_and_its_folder_that_may_be_written_take_all_commands(file: Path) -> None:
    file.parent.chmod(0o777)
    file.chmod(0o666)

    def work() -> None:
        shop = Shop.connect(f"sqlite:///{file}")
        table = shop.table("customer")
        alter.add_token(shop, table, "email__guard1")
        alter.fence(shop, table, "email", ["email__guard1"])
        alter.unguard(shop, table, "email")
        with shop.bare() as connection:
            connection.exec_driver_sql("VACUUM")
        shop.close()

    assert as_nobody(work) == 0


def test_a_folder_that_may_not_be_written_is_told(file: Path) -> None:
    file.parent.chmod(0o755)
    file.chmod(0o666)

    def work() -> None:
        shop = Shop.connect(f"sqlite:///{file}")
        with pytest.raises(UnavailableError), shop.begin() as connection:
            connection.exec_driver_sql("UPDATE customer SET email = 'b'")
        shop.close()

    assert as_nobody(work) == 0
