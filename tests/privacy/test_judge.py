from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.config.taxonomy import UNCLASSIFIED
from guard.privacy.detect.evidence import Detector, Evidence, Sample, own_patterns, weigh
from guard.privacy.detect.names import Setting, named, tokens
from guard.privacy.judge import Place, Verdict, judge
from guard.shop import ShopColumn
from guard.shop.catalog import Sort

PEOPLE = Setting(people=True, about=True)
LINKED = Setting(about=True)
THINGS = Setting()


def _verdict(name: str, values: list[str], setting: Setting = THINGS, sort: Sort = Sort.TEXT, rows: int = 0) -> Verdict:
    said = named(name, setting)
    expected = said.category if said else None
    evidence = weigh(
        Sample(tuple(dict.fromkeys(values)), rows or len(values)),
        [Detector("own", own_patterns)],
        tokens(name),
        expected,
    )
    return judge(Place(ShopColumn(name, sort.value.upper(), sort), setting), evidence)


MAILS = [f"p{number}@example.org" for number in range(10)]


def test_name_and_values_together_are_nearly_certain() -> None:
    found = _verdict("Email", MAILS)
    assert (found.category, found.confidence) == ("email", 0.99)
    assert "10 of 10" in " ".join(found.why)


def test_values_are_believed_without_a_name() -> None:
    assert _verdict("c17", MAILS).category == "email"


def test_values_are_believed_against_a_name() -> None:
    found = _verdict("Phone", MAILS)
    assert found.category == "email"
    assert any("values say otherwise" in why for why in found.why)


def test_a_name_is_not_believed_against_the_values() -> None:
    found = _verdict("email", ["yes", "no", "perhaps", "later", "never"], PEOPLE)
    assert found.category == UNCLASSIFIED
    assert "none of 5 values" in " ".join(found.why)


def test_a_name_is_believed_when_there_is_nothing_to_look_at() -> None:
    found = _verdict("email", [])
    assert found.category == "email"
    assert "no values to look at" in found.why


@pytest.mark.parametrize("name", ["email_verified", "Email", "phone"])
def test_a_yes_or_no_is_never_personal(name: str) -> None:
    assert _verdict(name, [], PEOPLE, Sort.BOOLEAN).category == "flag"


@pytest.mark.parametrize(
    ("name", "category"),
    [("year", "number"), ("email_verified", "number"), ("phone", "phone"), ("card_year", "number"),
     ("salary", "employment")],
)  # fmt: skip
def test_numbers_are_personal_only_by_a_name_that_numbers_may_have(name: str, category: str) -> None:
    assert _verdict(name, [], PEOPLE, Sort.INTEGER).category == category


def test_dates_are_judged_by_their_name() -> None:
    assert _verdict("BirthDate", [], PEOPLE, Sort.TIME).category == "birth_date"
    assert _verdict("created_at", [], PEOPLE, Sort.TIME).category == "date"


def test_one_card_number_among_product_texts_makes_them_a_note() -> None:
    found = _verdict("description", ["a mug", "a cup", "paid by 4111111111111111, refund"])
    assert found.category == "note"


@pytest.mark.parametrize(
    ("name", "setting", "category"),
    [
        ("placed_at", PEOPLE, "date"),
        ("angelegt", PEOPLE, "date"),
        ("foo", THINGS, "date"),
        ("foo", PEOPLE, UNCLASSIFIED),
    ],
)
def test_dates_kept_as_texts_may_be_birthdays_where_nothing_else_is_said(
    name: str, setting: Setting, category: str
) -> None:
    values = [f"20{year:02}-05-0{day} 10:00:00" for year in range(10) for day in range(1, 3)]
    assert _verdict(name, values, setting, rows=500).category == category


def test_few_words_in_many_rows_are_the_shops_own() -> None:
    assert _verdict("foo", ["a", "b", "c"], PEOPLE, rows=5000).category == "code"


def test_what_says_nothing_in_a_table_of_people_is_left_to_a_person() -> None:
    assert _verdict("foo", [f"x y {n}" for n in range(20)], PEOPLE).category == UNCLASSIFIED
    assert _verdict("foo", [f"x y {n}" for n in range(20)], THINGS).category == "text"


def test_long_texts_that_belong_to_people_are_left_to_a_person() -> None:
    prose = [
        f"we have looked into the matter number {n} and found that nothing could be done about it" for n in range(5)
    ]
    assert _verdict("foo", prose, LINKED).category == UNCLASSIFIED


def test_nothing_to_look_at_and_no_name_is_no_answer() -> None:
    assert _verdict("foo", []).category == UNCLASSIFIED


def test_sealed_values_are_not_looked_at_and_said_so() -> None:
    evidence = Evidence(rows=50, sealed=50)
    column = ShopColumn("Email", "TEXT", Sort.TEXT)
    found = judge(Place(column, THINGS), evidence)
    assert found.category == "email"
    assert "sealed" in " ".join(found.why)
    assert judge(Place(replace(column, name="foo"), THINGS), evidence).category == UNCLASSIFIED


def test_keys_and_references_are_keys_unless_they_are_plainly_something_else() -> None:
    column = ShopColumn("CustomerId", "INTEGER", Sort.INTEGER)
    assert judge(Place(column, PEOPLE, is_key=True), Evidence()).category == "key"
    mail = weigh(Sample(tuple(MAILS), 10), [Detector("own", own_patterns)], ["email"], "email")
    key = Place(ShopColumn("email", "TEXT", Sort.TEXT), PEOPLE, is_key=True)
    assert judge(key, mail).category == "email"


def test_pictures_in_a_table_of_people_are_never_passed_over() -> None:
    assert _verdict("Photo", [], PEOPLE, Sort.BINARY).category == "photo"
    assert _verdict("blob", [], PEOPLE, Sort.BINARY).category == UNCLASSIFIED
    assert _verdict("Picture", [], THINGS, Sort.BINARY).category == "file"


@given(st.text(max_size=30), st.lists(st.text(max_size=40), max_size=8), st.sampled_from(Sort), st.booleans())
def test_every_column_gets_a_verdict_with_reasons(name: str, values: list[str], sort: Sort, people: bool) -> None:
    found = _verdict(name, values, PEOPLE if people else THINGS, sort)
    assert found.why
    assert 0 <= found.confidence <= 1
    assert (found.category == UNCLASSIFIED) == (found.confidence == 0)
