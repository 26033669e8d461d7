"""What a unique column gets proposed, and that a catalog survives being written."""

import tomllib
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from guard.config import Catalog, Column, Protect, load_policy
from guard.config.load import load_bytes
from guard.config.taxonomy import Category, Taxonomy
from guard.privacy.detect.evidence import Evidence
from guard.privacy.judge import Verdict
from guard.privacy.proposal import Context, obstacle, propose, to_toml
from guard.shop import Index, ShopColumn, Table
from guard.shop.catalog import Sort

POLICIES = Path(__file__).parents[2] / "policies"

Make = Callable[..., tuple[Table, ShopColumn]]


def table_with(*indexes: Index, sort: Sort = Sort.TEXT) -> tuple[Table, ShopColumn]:
    column = ShopColumn("v", sort.value, sort)
    return Table("t", (ShopColumn("id", "integer", Sort.INTEGER), column), ("id",), indexes=indexes), column


def proposed(category: str, *indexes: Index, sort: Sort = Sort.TEXT) -> tuple[Column, tuple[str, ...]]:
    table, column = table_with(*indexes, sort=sort)
    taxonomy = load_policy(POLICIES, "taxonomy", Taxonomy)
    context = Context(taxonomy, table, column, "account", "sqlite")
    finding, entry = propose(context, Verdict(category, 1.0, ()), Evidence())
    return entry, finding.why


UNIQUE = Index("u", ("v",), unique=True, definition="u")


@pytest.mark.parametrize(("category", "index"), [("email", "email"), ("phone", "phone")])
def test_a_unique_column_is_sealed_and_stays_unique(category: str, index: str) -> None:
    entry, why = proposed(category, UNIQUE)
    assert (entry.protect, entry.index) == (Protect.ENCRYPT, index)
    assert any(f'it is unique: by index = "{index}"' in each for each in why)


def test_what_is_not_unique_gets_no_index_unasked() -> None:
    entry, why = proposed("email", Index("i", ("v",), unique=False, definition="i"))
    assert (entry.protect, entry.index) == (Protect.ENCRYPT, None)
    assert any("the index i finds nothing once it is sealed" in each for each in why)


def test_a_unique_column_without_a_fitting_normaliser_is_left() -> None:
    entry, why = proposed("name", UNIQUE)
    assert (entry.protect, entry.index) == (Protect.NONE, None)
    assert any('needs a blind index beside it, e.g. index = "exact"' in each for each in why)


@pytest.mark.parametrize(
    "index",
    [
        Index("u", ("v", "id"), unique=True, definition="u"),
        Index("u", ("v",), unique=True, definition="u", condition="v <> ''"),
        Index("u", (), unique=True, definition="CREATE UNIQUE INDEX u ON t (lower(v))", derived=True),
    ],
)
def test_what_is_unique_otherwise_cannot_be_kept_so(index: Index) -> None:
    entry, why = proposed("email", index)
    assert (entry.protect, entry.index) == (Protect.NONE, None)
    assert any("the unique index u is not on it alone" in each for each in why)


def test_a_person_may_seal_what_is_unique_by_any_normaliser() -> None:
    table, column = table_with(UNIQUE)
    assert "blind index" in str(obstacle(table, column, "sqlite"))
    assert obstacle(table, column, "sqlite", "exact") is None


def test_other_types_are_sealed_only_when_asked_for() -> None:
    entry, why = proposed("birth_date", sort=Sort.TIME)
    assert entry.protect is Protect.NONE
    assert any("only texts are sealed unless you say so" in each for each in why)
    assert obstacle(*table_with(sort=Sort.TIME), "sqlite") is None


def test_every_setting_of_a_column_survives_being_written() -> None:
    column = Column(at="t.v", id=7, protect=Protect.ENCRYPT, bind="subject", tight=True, index="prefix:3", class_="tax")
    text = to_toml(Catalog(column=(column, Column(at="t.w", id=8))), {})
    assert load_bytes(text.encode(), "catalog.toml", Catalog).column == (column, Column(at="t.w", id=8))
    assert [each.get("tight") for each in tomllib.loads(text)["column"]] == [True, None]


def test_an_index_is_for_what_is_sealed() -> None:
    with pytest.raises(ValueError, match="`index` is for what is sealed"):
        Category(what="x", personal=False, tier="internal", index="exact")
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(
            {"what": "x", "personal": True, "tier": "t", "protect": "encrypt", "index": "soundex"}, Category
        )
