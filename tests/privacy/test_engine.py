import socket

import pytest

from guard.privacy.detect.engine import presidio
from guard.privacy.detect.patterns import Hit

pytest.importorskip("presidio_analyzer")


@pytest.fixture(scope="module")
def find():
    return presidio()


def test_it_finds_what_our_own_patterns_do_not(find) -> None:
    hits = find(["my ssn is 489-36-8350", "PESEL 44051401359", "RSSMRA85T10A562S"], ["note"])
    assert [{hit.category for hit in found} for found in hits] == [{"national_id"}] * 3
    assert hits[0][0] == Hit("national_id", 10, 21, hits[0][0].score, "Presidio US_SSN")


def test_plain_numbers_and_words_are_nothing(find) -> None:
    assert find(["SCN-125", "1997", "Kundenname", "12345", "", "2009-01-01 00:00:00"], []) == [[]] * 6


def test_it_asks_no_network(find, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise AssertionError("a scan of personal data opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    assert find(["write to maria@example.com or www.example.com 1"], ["email"]) == [[]]


def test_words_of_the_column_count_as_context(find) -> None:
    bare, spoken = find(["489368350"], []), find(["489368350"], ["social", "security", "ssn"])
    assert not bare[0] or bare[0][0].score < 1
    assert len(spoken[0]) >= len(bare[0])
