"""The table of the values' benchmark: which figure is held against which, and who does not do what is timed."""

import pytest

from bench._fields_values import PEERS, Runner, lines

VERSIONS = dict.fromkeys(PEERS, "1.0")
US = {
    "ours": 1.5,
    "ours, with keys": 1.9,
    "tight": 1.5,
    "bare": 0.9,
    "bare, with AAD": 1.0,
    "utils": 17,
    "utils, engine alone": 11,
    "fernet": 12.1,
    "tink": 2.4,
    "exact": 0.8,
    "email": 0.9,
    "phone": 2.8,
    "name": 3.9,
    "pbkdf2": 10_000,
}


def missed(us):
    return [row.what.split("against ")[-1] for row in lines(us, VERSIONS) if row.met is False]


def test_every_bar_of_the_issue_is_there_and_met():
    rows = lines(US, VERSIONS)
    assert missed(US) == []
    assert [str(row.bar) for row in rows if row.bar] == [
        "ratio <= 0.1",
        "ratio <= 0.125",
        "ratio <= 0.833333",
        "ratio <= 2.2",
        "ratio <= 2.2",
        "ours <= 1.2",
        "ours <= 1.2",
    ]


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("utils", 14.9, "AesGcmEngine"),
        ("fernet", 11.9, "Fernet"),
        ("tink", 1.79, "tink"),
        ("bare", 0.68, "bare AESGCM"),
        ("tight", 1.99, "tight"),
        ("exact", 1.21, "PBKDF2"),
        ("email", 1.21, "PBKDF2"),
    ],
)
def test_a_bar_that_is_not_met_is_missed(name, value, what):
    assert any(what in line for line in missed(US | {name: value}))


def test_a_runner_that_opens_something_else_is_not_timed():
    Runner("right", lambda: [["a"], ["b"]], ["a", "b"], 2).passes()
    Runner("a token", lambda: [[b"1", b"2"]], values=2).passes()
    for parts in ([["a"]], [["a"], ["c"]], [["a", "b", "b"]]):
        with pytest.raises(RuntimeError, match="wrong does not give back what it was given"):
            Runner("wrong", lambda parts=parts: parts, ["a", "b"], 2).passes()
