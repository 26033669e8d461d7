"""Names of what guard adds: short enough for every database, told apart from the shop's, and never the same for two."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.shop import names

NAME = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=64)


@given(NAME, NAME, st.integers(1, 10**6))
def test_names_fit_and_are_known_again(table: str, column: str, version: int) -> None:
    token = names.token_column(column, version)
    made = [
        token,
        names.token_index(table, token),
        *(names.trigger(kind, table, column) for kind in ("follow", "fence")),
    ]
    assert all(len(name.encode()) <= 60 for name in made)
    assert names.is_token(token)
    assert all(names.is_guards(name) for name in made[1:])
    assert token.endswith(f"__guard{version}")


@given(st.lists(st.tuples(NAME, NAME), min_size=2, max_size=2, unique=True))
def test_two_columns_never_share_a_name(pair: list[tuple[str, str]]) -> None:
    one, two = (
        {
            names.trigger("follow", *place),
            names.trigger("fence", *place),
            names.token_index(place[0], names.token_column(place[1], 1)),
        }
        for place in pair
    )
    assert one.isdisjoint(two)


@pytest.mark.parametrize(
    ("one", "two"),
    [(("a_b", "c"), ("a", "b_c")), (("a", "b__guard"), ("a__b", "guard")), (("x" * 60, "y"), ("x" * 61, "y"))],
)
def test_names_that_join_to_the_same_text_stay_apart(one: tuple[str, str], two: tuple[str, str]) -> None:
    assert names.trigger("follow", *one) != names.trigger("follow", *two)


def test_the_plain_case_is_as_the_formats_say() -> None:
    assert names.token_column("Email", 3) == "Email__guard3"
    assert names.token_index("Customer", "Email__guard3") == "guard__Customer_Email_3"
    assert names.trigger("follow", "Customer", "Email") == "guard__Customer_Email_follow"
    assert not names.is_token("Email__guard")
    assert not names.is_guards("guard_progress")
    with pytest.raises(ValueError, match="not the name of a token column"):
        names.token_index("Customer", "Email")
