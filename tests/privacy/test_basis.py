"""What a law wants kept is not shredded; what cannot be told counts as wanted."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from guard.config import Catalog, Column, Protect, load_policy
from guard.config.retention import RetentionPolicy
from guard.errors import ConfigError
from guard.privacy import Ruling
from guard.privacy.basis import running
from guard.shop import Shop

CLASSES = """
[class.account]
keep = "3 years"
basis = "GDPR Art. 5"

[class.tax]
keep = "10 years"
count = "year end"
least = true
basis = "AO § 147"
"""
RULE = """
[[rule]]
name = "invoices"
table = "invoice"
since = "invoice.issued"
class = "tax"
method = "anonymize"
where = { kind = "final" }
basis = "AO § 147"
reason = "the tax period is over"
"""
CATALOG = Catalog(
    column=(Column(at="invoice.street", id=1, protect=Protect.ENCRYPT, anonymize="null", bind="subject", class_="tax"),)
)
NOW = datetime(2026, 1, 5, tzinfo=UTC)
ROWS = {"invoice": [(number,) for number in (1, 2)]}


@pytest.fixture(params=["sqlite", "postgresql"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    if request.param == "sqlite":
        (tmp_path / "shop.db").touch()
        opened = Shop.connect(f"sqlite:///{tmp_path}/shop.db")
    else:
        opened = Shop.connect(request.getfixturevalue("postgres_url"))
    with opened.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TABLE invoice (id INTEGER PRIMARY KEY, street VARCHAR(50), issued DATE, kind VARCHAR(9))"
        )
        connection.exec_driver_sql(
            "INSERT INTO invoice VALUES (1, 'a', '2015-12-31', 'final'), (2, 'b', '2016-01-01', 'final'), "
            "(3, 'c', '2015-12-31', 'draft'), (4, 'd', NULL, 'final')"
        )
    yield opened
    opened.close()


def ruling(tmp_path: Path, text: str) -> Ruling:
    (tmp_path / "retention.toml").write_text(text)
    return Ruling(CATALOG, load_policy(tmp_path, "retention", RetentionPolicy), text.encode())


def test_a_class_no_law_is_behind_may_go(shop: Shop, tmp_path: Path) -> None:
    assert running(shop, ruling(tmp_path, CLASSES), "account", ROWS, NOW) == ()


def test_a_term_that_runs_is_named_with_its_law(shop: Shop, tmp_path: Path) -> None:
    """2015 ended ten years ago on 2026-01-01; 2016 has not."""
    found = running(shop, ruling(tmp_path, CLASSES + RULE), "tax", ROWS, NOW)
    assert found == ("AO § 147: 10 years are not known to be over for 1 of 2 rows of invoice",)
    assert running(shop, ruling(tmp_path, CLASSES + RULE), "tax", {"invoice": [(1,)]}, NOW) == ()
    assert running(shop, ruling(tmp_path, CLASSES + RULE), "tax", ROWS, datetime(2027, 1, 1, tzinfo=UTC)) == ()
    before = datetime(2025, 12, 31, 23, 59, tzinfo=UTC)
    assert running(shop, ruling(tmp_path, CLASSES + RULE), "tax", {"invoice": [(1,)]}, before) != ()


def test_rows_without_a_date_or_outside_every_rule_are_kept(shop: Shop, tmp_path: Path) -> None:
    for number in (3, 4):
        assert running(shop, ruling(tmp_path, CLASSES + RULE), "tax", {"invoice": [(number,)]}, NOW) != ()


def test_without_a_rule_or_a_class_it_is_not_known(shop: Shop, tmp_path: Path) -> None:
    (found,) = running(shop, ruling(tmp_path, CLASSES), "tax", ROWS, NOW)
    assert found == "AO § 147: no rule of class tax says since when 10 years run for rows of invoice"
    (found,) = running(shop, ruling(tmp_path, CLASSES), "ledger", ROWS, NOW)
    assert "retention.toml has no class ledger (it has account, tax)" in found


def test_nobodys_rows_are_nothing_to_keep(shop: Shop, tmp_path: Path) -> None:
    assert running(shop, ruling(tmp_path, CLASSES), "tax", {}, NOW) == ()


def test_rules_that_do_not_fit_the_shop_are_an_error(shop: Shop, tmp_path: Path) -> None:
    wrong = RULE.replace("invoice.issued", "invoice.gone")
    with pytest.raises(ConfigError, match=r"the shop has no column invoice\.gone"):
        running(shop, ruling(tmp_path, CLASSES + wrong), "tax", ROWS, NOW)
