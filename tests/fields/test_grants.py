"""The grants of docs/GRANTS.md suffice, and what they do not allow is refused in words."""

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from guard.errors import UnavailableError

TEXT = Path(__file__).parents[2] / "docs" / "GRANTS.md"


@pytest.fixture
def least(chinook_postgres: str) -> Iterator[str]:
    """The shop's URL for an account with just these grants."""
    [script] = re.findall(r"```sql\n(.*?)```", TEXT.read_text(), re.DOTALL)
    with psycopg.connect(chinook_postgres, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS guard")
        connection.execute(script)
        connection.execute("ALTER TABLE customer ALTER COLUMN email TYPE text")
        connection.execute(
            "GRANT SELECT, UPDATE (email, phone) ON customer TO guard; GRANT MAINTAIN ON customer TO guard"
        )
        yield chinook_postgres.replace("shop@", "guard@")
        connection.execute("DROP OWNED BY guard; DROP ROLE guard")


def test_the_least_grants_seal_verify_finish_and_open_a_text_column(make, least: str) -> None:
    bench = make(least, "customer.email")
    before = bench.ask("SELECT email FROM customer ORDER BY customer_id")
    bench.seal()
    assert bench.fields.verify()[0].same
    bench.finish()
    bench.unseal()
    assert bench.ask("SELECT email FROM customer ORDER BY customer_id") == before
    bench.fields.shop.close()


def test_what_needs_the_owner_is_refused_in_words(make, least: str) -> None:
    bench = make(least, "customer.phone")
    before = bench.ask("SELECT phone FROM customer ORDER BY customer_id")
    with pytest.raises(UnavailableError, match="does not let guard's account do this") as caught:
        bench.seal()
    assert caught.value.hint == "docs/GRANTS.md lists the grants"
    assert bench.ask("SELECT phone FROM customer ORDER BY customer_id") == before
    bench.fields.shop.close()


def test_a_table_that_was_not_rewritten_is_not_finished(make, least: str) -> None:
    """PostgreSQL only warns where an account may not VACUUM, and ends well."""
    with psycopg.connect(least.replace("guard@", "shop@"), autocommit=True) as connection:
        connection.execute("REVOKE MAINTAIN ON customer FROM guard")
    bench = make(least, "customer.email")
    bench.seal()
    with pytest.raises(UnavailableError, match="did not rewrite customer") as caught:
        bench.finish()
    assert caught.value.hint == "docs/GRANTS.md lists the grants"
    assert bench.stages() == {"sealed"}
    bench.fields.shop.close()
