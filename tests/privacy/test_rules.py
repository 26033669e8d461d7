from pathlib import Path

import pytest

from guard.config import Catalog, Column, Protect, load_policy
from guard.config.retention import RetentionPolicy
from guard.config.taxonomy import Taxonomy
from guard.errors import ConfigError
from guard.privacy.rules import Ground, fit
from guard.shop import Shop
from tests.privacy.conftest import POLICIES, MakeShop

CATALOG = Catalog(
    column=(
        Column(at="customers.name", id=1, category="name", anonymize="pseudonym"),
        Column(at="customers.email", id=2, category="email", anonymize="null", protect=Protect.ENCRYPT),
        Column(at="notes.body", id=3, category="note", anonymize="shred"),
    )
)


@pytest.fixture
def shop(make_shop: MakeShop) -> Shop:
    return make_shop(
        "CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT, email TEXT NOT NULL, created TEXT, photo BLOB);"
        "CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT, written TEXT);"
        "CREATE TABLE log (line TEXT, at TEXT);"
    )


def _rule(**keys: str) -> str:
    lines = {"method": '"anonymize"', "basis": '"x"', "reason": '"x"'} | keys
    return "[[rule]]\n" + "\n".join(f"{key} = {value}" for key, value in lines.items())


def _policy(folder: Path, *rules: str) -> RetentionPolicy:
    shipped = (POLICIES / "retention.toml").read_text()
    (folder / "retention.toml").write_text("\n".join((shipped, *rules)))
    return load_policy(folder, "retention", RetentionPolicy)


def test_every_rule_that_does_not_fit_is_named_at_once(shop: Shop, tmp_path: Path) -> None:
    policy = _policy(
        tmp_path,
        _rule(name='"a"', table='"costumers"', since='"customers.created"'),
        _rule(name='"b"', table='"customers"', since='"customers.made"', otherwise='"customers.photo"'),
        _rule(name='"c"', table='"log"', since='"log.at"'),
        _rule(name='"d"', table='"customers"', since='"notes.written"'),
        _rule(name='"e"', table='"notes"', since='"notes.written"'),
        _rule(name='"f"', table='"customers"', since='"customers.created"', where='{ email = "x", nope = 1 }'),
        _rule(
            name='"g"', table='"customers"', since='"customers.created"', method='"delete"', cascade='["notes", "gone"]'
        ),
        _rule(name='"h"', table='"customers"', since='"customers.created"'),
        _rule(name='"i"', table='"customers"', since='"customers.created"', method='"delete"', cascade='["notes"]'),
        _rule(name='"j"', table='"customers"', since='"customers.email"'),
    )
    with pytest.raises(ConfigError) as refused:
        fit(Ground(policy, CATALOG, shop.tables(), text_dates=True))
    text = str(refused.value)
    for part in (
        "rule[1] (a): table: the shop has no table costumers",
        "rule[2] (b): since: the shop has no column customers.made",
        "rule[2] (b): otherwise: customers.photo is BLOB, not a date",
        "rule[3] (c): table: it has no primary key",
        "rule[4] (d): since: nothing leads from notes to customers",
        'rule[5] (e): anonymize: notes.body: anonymize = "shred" is not one of',
        "rule[6] (f): where: customers.email is sealed",
        "rule[6] (f): where: the shop has no column customers.nope",
        "rule[7] (g): cascade: the shop has no table gone",
        "rule[8] (h): anonymize: customers.email: it must not be NULL",
        "rule[9] (i): cascade: notes does not refer to customers",
        "rule[10] (j): since: customers.email is sealed",
    ):
        assert part in text, part


def test_mistakes_in_the_file_are_named_with_their_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        _policy(
            tmp_path,
            _rule(name='"a"', table='"t"', since='"nodot"', keep='"ten years"', metod='"delete"'),
            _rule(name='"b"', table='"t"', since='"t.c"', method='"burn"'),
        )
    text = str(refused.value)
    assert "rule[1].since" in text
    assert "rule[1].keep" in text
    assert "ten years" in text
    assert 'did you mean "method"?' in text
    assert "rule[2].method" in text


@pytest.mark.parametrize(
    ("rules", "part"),
    [
        ([{"name": '"a"', "table": '"t"', "since": '"t.c"'}] * 2, "rule named twice: a"),
        ([{"name": '"a"', "table": '"t"', "since": '"t.c"', "class": '"eternal"'}], "no class 'eternal'"),
        ([{"name": '"a"', "table": '"t"', "since": '"t.c"', "cascade": '["x"]'}], "goes with method"),
        ([{"name": '"a"', "table": '"t"', "since": '"t.c"', "otherwise": '"u.c"'}], "rule's own table"),
    ],
)
def test_rules_that_contradict_themselves_are_refused(tmp_path: Path, rules: list[dict[str, str]], part: str) -> None:
    with pytest.raises(ConfigError) as refused:
        _policy(tmp_path, *(_rule(**rule) for rule in rules))
    assert part in str(refused.value)


def test_the_shipped_policy_has_no_rules_and_fits_every_shop(shop: Shop, shipped_retention: RetentionPolicy) -> None:
    assert shipped_retention.rule == ()
    assert set(shipped_retention.class_) == {"account", "tax", "ledger"}
    assert fit(Ground(shipped_retention, Catalog(), shop.tables(), text_dates=True)) == ()


def test_the_examples_of_the_shipped_policy_are_valid(tmp_path: Path) -> None:
    lines = (POLICIES / "retention.toml").read_text().splitlines()
    first = next(number for number, line in enumerate(lines) if line == "# [[rule]]")
    (tmp_path / "retention.toml").write_text("\n".join(lines[:first] + [line[2:] for line in lines[first:]]))
    policy = load_policy(tmp_path, "retention", RetentionPolicy)
    assert [rule.name for rule in policy.rule] == ["support-notes", "customers", "orders", "old-carts"]


def test_declared_links_lead_to_dates_too(make_shop: MakeShop, tmp_path: Path) -> None:
    shop = make_shop(
        "CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT);"
        "CREATE TABLE visits (id INTEGER PRIMARY KEY, who INTEGER, at TEXT);"
    )
    policy = _policy(tmp_path, _rule(name='"a"', table='"customers"', since='"visits.at"'))
    (tmp_path / "catalog.toml").write_text(
        '[[link]]\nfrom = "visits.who"\nto = "customers.id"\n[[column]]\nat = "customers.name"\nanonymize = "null"\n'
    )
    from guard.config import load_catalog

    (found,) = fit(Ground(policy, load_catalog(tmp_path), shop.tables(), text_dates=True))
    assert [step.table for step in found.since[0].steps] == ["visits"]


def test_every_category_says_how_it_is_treated(taxonomy: Taxonomy) -> None:
    sealed = {name for name, category in taxonomy.category.items() if category.protect is Protect.ENCRYPT}
    assert {"name", "email", "phone", "address", "note", "birth_date", "card", "national_id"} <= sealed
    assert not {"key", "number", "date", "city", "country", "postcode"} & sealed
    assert taxonomy.personal("email")
    assert taxonomy.personal("unheard of")
    assert not taxonomy.personal("number")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ('[category.x]\nwhat = "x"\npersonal = true\ntier = "t"', "say why in `reason`"),
        ('[category.x]\nwhat = "x"\npersonal = false\ntier = "t"\nprotect = "encrypt"', "what is not personal"),
        ('[category.unclassified]\nwhat = "x"\npersonal = false\ntier = "t"', "cannot be described"),
        ('[category.x]\nwhat = "x"\npersonal = false\ntier = "t"\nanonymize = "burn"', "category.x.anonymize"),
    ],
)
def test_a_taxonomy_that_contradicts_itself_is_refused(tmp_path: Path, text: str, part: str) -> None:
    (tmp_path / "taxonomy.toml").write_text(text)
    with pytest.raises(ConfigError) as refused:
        load_policy(tmp_path, "taxonomy", Taxonomy)
    assert part in str(refused.value)
