"""policies/access.toml: what is shipped, and what is refused."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.config import load_policy
from guard.config.access import AccessPolicy, RoleRule, Roles, matches
from guard.errors import ConfigError
from guard.events import Level, Role
from tests.access.conftest import POLICIES

SHIPPED = load_policy(POLICIES, "access", AccessPolicy)


def read(folder: Path, text: str) -> AccessPolicy:
    (folder / "access.toml").write_text(text)
    return load_policy(folder, "access", AccessPolicy)


def test_the_owner_may_ask_for_all_and_services_are_no_role() -> None:
    owner = SHIPPED.role.of(Role.OWNER)
    assert all(owner.may("fields.decrypt", level) for level in Level)
    assert not any(
        SHIPPED.role.of(Role.SERVICE).may("fields.decrypt", level) for level in Level if level is not Level.OPEN
    )


@pytest.mark.parametrize("role", [role for role in Role if role not in {Role.OWNER, Role.SERVICE}])
def test_only_owners_choose_people_and_everybody_may_stop_what_waits(role: Role) -> None:
    rule = SHIPPED.role.of(role)
    assert not any(rule.may(f"access.{name}", Level.PRIVILEGED) for name in ("add", "grant", "disable", "enable"))
    assert rule.may("access.refuse", Level.ROUTINE)
    assert rule.may("breach.open", Level.ROUTINE)
    assert rule.may("access.enrol", Level.ROUTINE)
    assert rule.may("access.renew", Level.PRIVILEGED)


def test_nobody_sees_special_and_secret_tiers_by_default() -> None:
    for tier in ("special", "secret"):
        assert {getattr(SHIPPED.tier[tier], role.value) for role in Role if role is not Role.SERVICE} == {"hidden"}


def test_a_role_that_is_not_listed_may_look_and_no_more() -> None:
    assert RoleRule().may("backup.run", Level.OPEN)
    assert not RoleRule().may("backup.run", Level.ROUTINE)
    assert Roles().of(Role.OPS) == RoleRule()


@given(st.from_regex(r"[a-z]{1,9}\.[a-z]{1,9}", fullmatch=True))
def test_patterns_match_an_action_its_group_or_all(action: str) -> None:
    group = action.split(".", maxsplit=1)[0]
    assert matches(action, (action,))
    assert matches(action, (f"{group}.*",))
    assert matches(action, ("*",))
    assert not matches(action, (f"{group}x.*", f"{action}x", f"x{action}"))
    assert not matches(f"{group}x.{action}", (f"{group}.*",))


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read(
            tmp_path,
            '[role.ownr]\n[role.ops]\nroutine = ["Backup.*"]\n[code]\ntries = 11\n[tier.contact]\nops = "blurred"',
        )
    told = str(caught.value)
    assert 'role.ownr: unknown key; did you mean "owner"?' in told
    assert "role.ops.routine[1]" in told
    assert "code.tries" in told
    assert "tier.contact.ops" in told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[role]\n[code]\nlock = '1 month'", "lock takes minutes, hours or days"),
        ("[role]\n[code]\ntries = 6\ngive_up = 5", "give_up"),
        ("[role]\n[code]\ngive_up = 101", "give_up"),
        ("[role]\n[dual]\nwait = '1 year'", "wait takes"),
        ("[role]\n[dual]\nwait = '0 hours'", "length of zero"),
    ],
)
def test_numbers_that_would_weaken_a_code_are_refused(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        read(tmp_path, text)
