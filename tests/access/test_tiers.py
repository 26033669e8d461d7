"""Who sees what of a value: hidden shows nothing, masked no more than the rule, a pseudonym only which are the same."""

import hashlib
import hmac
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.access.tiers import Form, Mask, Tiers, form_of, is_open, mask, mask_of, pads, text_of
from guard.config import Column, load_policy
from guard.config.access import AccessPolicy, TierRule
from guard.config.load import load_bytes
from guard.config.taxonomy import Taxonomy
from guard.errors import ConfigError
from guard.events import Role

POLICIES = Path(__file__).parents[2] / "policies"
KEY = bytes(range(32))
PEOPLE = [role for role in Role if role is not Role.SERVICE]
CATEGORIES = sorted(load_policy(POLICIES, "taxonomy", Taxonomy).category)
VALUES = st.one_of(
    st.text(),
    st.integers(),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.dates(),
    st.datetimes(),
    st.floats(),
    st.binary(),
    st.booleans(),
    st.uuids(),
    st.lists(st.integers()),
)


@pytest.fixture(scope="module")
def policy() -> AccessPolicy:
    return load_policy(POLICIES, "access", AccessPolicy)


@given(VALUES, st.sampled_from(CATEGORIES))
def test_hidden_shows_nothing(value: object, category: str) -> None:
    assert mask(value, Form.HIDDEN, category, KEY) is None


@given(VALUES, st.sampled_from(CATEGORIES))
def test_masked_shows_at_most_what_the_rule_says(value: object, category: str) -> None:
    shown = mask(value, Form.MASKED, category, KEY)
    if shown is None:  # it begins as a sealed value
        assert isinstance(value, str | bytes)
        assert value[:2] in {"g1", b"g1"}
        return
    text = text_of(value)
    assert isinstance(shown, str)
    if text is None:
        assert shown == "***"
    elif isinstance(value, date):
        assert shown == text[:4]
    else:
        left = {
            Mask.FIRST: text[:1] + "***",
            Mask.LAST: "***" + text[-4:],
            Mask.LAST_OF_LONG: "***" + text[-4:],
            Mask.YEAR: text[:4],
            Mask.NOTHING: "***",
        }
        assert shown in {"***", left[mask_of(category)]}


@given(st.text(min_size=2, max_size=40), st.sampled_from(CATEGORIES))
def test_a_masked_text_of_two_or_more_characters_is_never_whole(value: str, category: str) -> None:
    if category != "payment":  # of which the last four may be all there is
        shown = str(mask(value, Form.MASKED, category) or "")
        assert shown == "***" or value not in shown or set(value) <= {"*"} or len(shown) < len(value)


@given(st.text(max_size=7), st.sampled_from(["card", "bank_account"]))
def test_of_a_short_account_number_nothing_is_shown(value: str, category: str) -> None:
    assert mask(value, Form.MASKED, category) in {"***", None}


@given(VALUES, VALUES, st.sampled_from(CATEGORIES))
def test_a_pseudonym_tells_only_whether_two_texts_are_the_same(one: object, other: object, category: str) -> None:
    seen = [mask(each, Form.PSEUDONYM, category, KEY) for each in (one, other)]
    assert all(each is None or each == "***" or (len(str(each)) == 18 and str(each)[:2] == "v-") for each in seen)
    texts = [text_of(each) for each in (one, other)]
    if None not in (*texts, *seen):
        assert (seen[0] == seen[1]) == (texts[0] == texts[1])


def test_a_pseudonym_is_an_hmac_of_category_and_text_under_its_own_key() -> None:
    expected = hmac.new(KEY, b"email:ada@example.org", hashlib.sha256).hexdigest()[:16]
    assert mask("ada@example.org", Form.PSEUDONYM, "email", KEY) == f"v-{expected}"
    assert mask("ada@example.org", Form.PSEUDONYM, "name", KEY) != f"v-{expected}"
    assert mask("ada@example.org", Form.PSEUDONYM, "email", b"x" * 32) != f"v-{expected}"
    inner, outer = pads(KEY)
    by_hand = hashlib.sha256(outer + hashlib.sha256(inner + b"email:ada@example.org").digest()).hexdigest()
    assert by_hand[:16] == expected


def test_without_the_key_a_pseudonym_is_hidden() -> None:
    assert mask("ada@example.org", Form.PSEUDONYM, "email") is None


@pytest.mark.parametrize(
    ("value", "category", "shown"),
    [
        ("ada@example.org", "email", "a***"),
        ("A", "name", "***"),
        ("", "name", "***"),
        ("𝕬da", "name", "𝕬***"),
        ("4111 1111 1111 1234", "card", "***1234"),
        ("1234", "payment", "***1234"),
        ("737", "card_secret", "***"),
        ("1980-02-03", "birth_date", "1980"),
        ("1980-02-03 10:00", "date", "1980"),
        ("3.2.1980", "birth_date", "***"),
        ("１９８０-02-03", "birth_date", "***"),
        (date(1980, 2, 3), "birth_date", "1980"),
        (date(33, 2, 3), "name", "0033"),
        (datetime(1980, 2, 3, 4), "name", "1980"),
        (datetime(1980, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=1))), "date", "1979"),
        (-12, "number", "-***"),
        (Decimal("12.50"), "number", "1***"),
        (True, "flag", "***"),
        (1.5, "number", "***"),
        (b"abc", "file", "***"),
        (None, "name", None),
        ("g1.AAAA", "name", None),
        (b"g1\x02", "file", None),
    ],
)
def test_examples_of_masks(value: object, category: str, shown: object) -> None:
    assert mask(value, Form.MASKED, category) == shown


def test_texts_of_values_have_one_spelling() -> None:
    assert text_of(Decimal("1E+3")) == "1000"
    assert text_of(datetime(2026, 1, 5, 9, tzinfo=UTC)) == "2026-01-05T09:00:00.000000"
    assert text_of(UUID(int=1)) == "00000000-0000-0000-0000-000000000001"


def test_clear_is_the_value_itself_but_never_a_sealed_one() -> None:
    assert mask([1, 2], Form.CLEAR) == [1, 2]
    assert mask("g1.AAAA", Form.CLEAR) is None


@pytest.mark.parametrize("role", PEOPLE)
def test_what_nobody_decided_on_is_hidden(policy: AccessPolicy, role: Role) -> None:
    assert form_of(policy, None, role) is Form.HIDDEN
    assert form_of(policy, Column(at="a.b"), role) is Form.HIDDEN
    assert form_of(policy, Column(at="a.b", category="name", tier="no such tier"), role) is Form.HIDDEN
    assert form_of(policy, Column(at="a.b", category="o'name", tier="public"), role) is Form.HIDDEN
    assert form_of(policy, Column(at="a.b", category="secret", tier="secret"), role) is Form.HIDDEN


def test_a_service_sees_nothing(policy: AccessPolicy) -> None:
    assert {form_of(policy, Column(at="a.b", category="text", tier=tier), Role.SERVICE) for tier in policy.tier} == {
        Form.HIDDEN
    }


def test_only_what_every_role_sees_clear_is_open(policy: AccessPolicy) -> None:
    assert is_open(policy, Column(at="a.b", category="text", tier="public"))
    assert not is_open(policy, Column(at="a.b", category="text", tier="internal"))


def bound(text: str) -> TierRule:
    found: TierRule = load_bytes(text.encode(), "tier.toml", TierRule)
    return found


def test_a_tier_that_is_bound_to_purposes_is_clear_for_these_alone() -> None:
    rule = bound('support = "clear"\nfinance = "clear"\npurpose.support = ["delivery", "complaint"]')
    assert rule.form(Role.SUPPORT, "delivery") == "clear"
    assert rule.form(Role.SUPPORT, "curiosity") == "masked"
    assert rule.form(Role.SUPPORT) == "masked"
    assert rule.form(Role.FINANCE) == "clear"
    assert rule.form(Role.OPS, "delivery") == "hidden"


@pytest.mark.parametrize("text", ['purpose.boss = ["a"]', 'purpose.support = ["Mrs. Smith"]', 'purpose = "delivery"'])
def test_a_purpose_is_a_short_word_of_a_known_role(text: str) -> None:
    with pytest.raises(ConfigError, match="purpose"):
        bound(text)


def test_the_shops_own_code_masks_by_the_same_policies(tmp_path: Path) -> None:
    (tmp_path / "access.toml").write_bytes((POLICIES / "access.toml").read_bytes())
    (tmp_path / "catalog.toml").write_text(
        '[[column]]\nat = "customer.email"\nid = 1\ncategory = "email"\ntier = "contact"\n'
    )
    tiers = Tiers.read(tmp_path, KEY)
    email = "ada@example.org"
    assert tiers.mask("customer.email", email, Role.SUPPORT) == email
    assert tiers.mask("customer.email", email, Role.OWNER) == "a***"
    assert str(tiers.mask("customer.email", email, Role.AUDITOR)).startswith("v-")
    assert tiers.mask("customer.email", email, Role.OPS) is None
    assert tiers.mask("customer.phone", "030 1234", Role.SUPPORT) is None
    assert tiers.form("customer.email", Role.SECURITY) is Form.PSEUDONYM
