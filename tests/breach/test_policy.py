"""The policy of deadlines: what it may say."""

import pytest

from guard.config.breach import BreachPolicy
from guard.config.load import decode
from guard.errors import ConfigError

RULE = {
    "id": "gdpr-33-1",
    "jurisdiction": "EU",
    "trigger": "aware",
    "within": "72 hours",
    "to": "authority",
    "source": "GDPR",
    "soon": "24 hours",
}


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ([], "without one no deadline would ever be shown"),
        ([RULE, RULE], "listed twice: gdpr-33-1"),
        ([{**RULE, "within": "1 month"}], "months differ in length"),
        ([{**RULE, "remind": ["96 hours"]}], "reminders after the deadline: 4 days"),
        ([{**RULE, "trigger": "someday"}], "rule[1].trigger"),
    ],
)
def test_a_mistake_is_named(rules: list[dict[str, object]], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        decode({"rule": rules}, BreachPolicy, "breach.toml")
    assert said in str(caught.value)
