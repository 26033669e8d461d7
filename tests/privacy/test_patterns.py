import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.privacy.detect import patterns
from guard.privacy.detect.patterns import find

_FLOORS = {
    # entity: our category, precision, recall on the 1,500 labelled texts (research/privacy.md section 3)
    "EMAIL_ADDRESS": ("email", 0.99, 0.99),
    "IBAN_CODE": ("bank_account", 0.99, 0.99),
    "CREDIT_CARD": ("card", 0.99, 0.98),  # Presidio without a model: recall 0.77
    "IP_ADDRESS": ("ip_address", 0.99, 0.99),
    "PHONE_NUMBER": ("phone", 0.50, 0.75),  # Presidio without a model: recall 0.59
}


def _overlap(one: tuple[int, int], other: tuple[int, int]) -> float:
    shared = max(0, min(one[1], other[1]) - max(one[0], other[0]))
    return shared / (max(one[1], other[1]) - min(one[0], other[0]))


def test_precision_and_recall_on_labelled_texts(shared: Path) -> None:
    texts = json.loads((shared / "data/presidio-research/synth_dataset_v2.json").read_text())
    right, found, missed = Counter[str](), Counter[str](), Counter[str]()
    for text in texts:
        hits = find(text["full_text"])
        for entity, (category, _, _) in _FLOORS.items():
            gold = [(s["start_position"], s["end_position"]) for s in text["spans"] if s["entity_type"] == entity]
            mine = [(hit.start, hit.end) for hit in hits if hit.category == category]
            found[entity] += len(mine)
            right[entity] += sum(any(_overlap(each, other) > 0.5 for other in gold) for each in mine)
            missed[entity] += sum(not any(_overlap(each, other) > 0.5 for other in mine) for each in gold)
    for entity, (_, precision, recall) in _FLOORS.items():
        assert right[entity] / found[entity] >= precision, entity
        assert right[entity] / (right[entity] + missed[entity]) >= recall, entity


@pytest.mark.parametrize(
    ("text", "category", "part"),
    [
        ("卡号4111111111111111请退款", "card", "4111111111111111"),
        ("邮箱li@qq.com已确认", "email", "li@qq.com"),
        ("身份证11010519491231002X手机13800138000", "national_id", "11010519491231002X"),
        ("身份证11010519491231002X手机13800138000", "phone", "13800138000"),
        ("北京市朝阳区建国路88号", "address", "北京市朝阳区建国路88号"),
        ("USt-IdNr. DE136695976", "tax_id", "DE136695976"),
        ("Konto DE89 3704 0044 0532 0130 00 danke", "bank_account", "DE89 3704 0044 0532 0130 00"),
        ("Tel. +49 (0)711 2842222", "phone", "+49 (0)711 2842222"),
        ("call (206) 555-9857", "phone", "(206) 555-9857"),
        ("from fe80::1 today", "ip_address", "fe80::1"),
        ("amex 3782 822463 10005", "card", "3782 822463 10005"),
    ],
)
def test_numbers_are_found_between_any_characters(text: str, category: str, part: str) -> None:
    assert (category, part) in [(hit.category, text[hit.start : hit.end]) for hit in find(text)]


@pytest.mark.parametrize(
    "text",
    [
        "SCN-125", "2009-01-01 00:00:00", "1996-07-04 00:00:00.000", "1997", "12:30:45", "4111111111111112",
        "0000000000000",
        "DE136695977", "110105194912310021", "256.1.1.1", "user@localhost", "v1.2.3.4.5", "10 boxes x 20 bags",
        "ORD-2026-100001",
        "GB56HXDO88167774656118", "AB4111111111111111",
    ],
)  # fmt: skip
def test_numbers_that_only_look_so_are_not_found(text: str) -> None:
    assert find(text) == []


@given(st.text(max_size=200))
def test_hits_never_overlap_and_lie_inside(text: str) -> None:
    hits = find(text)
    assert all(0 <= hit.start < hit.end <= len(text) and 0 < hit.score <= 1 for hit in hits)
    assert all(one.end <= other.start for one, other in pairwise(hits))


@given(st.text(alphabet="a.@-1 ", max_size=2000))
def test_repeated_characters_do_not_stall_it(text: str) -> None:
    find(text)


def test_nothing_is_missing_where_the_extra_is_installed() -> None:
    assert patterns.missing() == ()
