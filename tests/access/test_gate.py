"""Who passes at which level, and what a person is shown before a code is asked for."""

from datetime import timedelta

import pytest

from guard.access import Terms
from guard.errors import DeniedError
from guard.events import GUARD, Ending, Level, Principal, PrincipalId, Role
from tests.access.conftest import At, House, Phone, Words, one_is_enough

DAEMON = Principal(PrincipalId("s-daemon"), Role.SERVICE, "daemon")


def test_everybody_known_may_look(house: House) -> None:
    for role in (Role.AUDITOR, Role.SUPPORT, Role.FINANCE, Role.OPS):
        assert house.why(At(house.phone(role.value, role).who), "audit.list", Level.OPEN) == ""
    assert house.why(At(DAEMON), "audit.list", Level.OPEN) == ""


@pytest.mark.parametrize(
    "who",
    [
        Principal(PrincipalId("p-aaaaaaaaaa"), Role.OWNER, "Eve"),
        Principal(PrincipalId("s-other"), Role.SERVICE, "other"),
        Principal(PrincipalId("daemon"), Role.SERVICE, "daemon"),
        Principal(GUARD, Role.OWNER, "guard"),
    ],
)
@pytest.mark.parametrize("level", list(Level))
def test_nobody_unknown_may_do_anything(house: House, who: Principal, level: Level) -> None:
    assert house.why(At(who, lambda _: "000000"), "audit.list", level) == "unknown principal"


def test_a_role_that_is_not_the_persons_is_nobody(house: House) -> None:
    bob = house.phone("bob", Role.AUDITOR)
    assert house.why(At(Principal(bob.who.id, Role.OWNER, "Bob")), "audit.list", Level.OPEN) == "unknown principal"


def test_routine_asks_for_the_role_alone(house: House) -> None:
    ops, auditor = house.phone("ops", Role.OPS), house.phone("auditor", Role.AUDITOR)
    assert house.why(At(ops.who), "backup.run", Level.ROUTINE) == ""
    assert house.why(At(auditor.who), "backup.run", Level.ROUTINE) == "role"


def test_a_code_does_not_replace_the_role(house: House) -> None:
    ops = house.phone("ops", Role.OPS)
    at = ops.at_door()
    at.ask = lambda _: pytest.fail("a code was asked for")
    assert house.why(at, "fields.decrypt", Level.DUAL) == "role"
    assert house.why(at, "access.add", Level.PRIVILEGED) == "role"


def test_without_a_terminal_the_way_out_is_named(house: House, ada: Phone) -> None:
    with pytest.raises(DeniedError, match="no terminal to ask for a code") as caught:
        house.allow(At(ada.who))
    assert caught.value.reason == "no code"
    assert "run it on a terminal" in str(caught.value.hint)
    assert caught.value.exit_code == 10


def test_the_plan_is_shown_before_the_code_is_asked_for(house: House, ada: Phone) -> None:
    at = ada.at_door()
    shown: list[str] = []

    def ask(question: str) -> str:
        shown.extend([*at.seen, question])
        return ada.code()

    at.ask = ask
    house.allow(at)
    assert shown == ["fields.encrypt needs a code. It will:", "  delete 12 rows of Customer", "Code"]


def test_before_a_dual_action_it_says_that_it_waits(house: House, ada: Phone) -> None:
    at = ada.at_door()
    assert house.why(at, "keys.export", Level.DUAL, terms=Terms(lasting=True)) == "waits"
    assert at.seen[-2:] == [
        "  It is done once another person approved it within 1 hour.",
        "  This cannot be undone: it waits 1 day and can be cancelled till then.",
    ]


def test_where_one_person_is_enough_it_says_that_all_of_it_waits(house: House, ada: Phone) -> None:
    at = ada.at_door()
    assert one_is_enough(house).why(at, "fields.decrypt", Level.DUAL) == "waits"
    assert at.seen[-1] == "  It waits 1 day and can be cancelled till then."


@pytest.mark.parametrize(
    ("name", "level", "policy", "way_out"),
    [
        ("fields.decrypt", Level.DUAL, None, "guard access approve"),
        ("retention.run", Level.PRIVILEGED, b"policy", "guard access grant retention.run"),
        ("backup.prune", Level.PRIVILEGED, None, "the service daemon, which may do it within its policy"),
        ("fields.encrypt", Level.PRIVILEGED, None, "no option and no variable takes a code"),
    ],
)
def test_the_way_out_without_a_terminal_fits_the_action(
    house: House, ada: Phone, name: str, level: Level, policy: bytes | None, way_out: str
) -> None:
    with pytest.raises(DeniedError) as caught:
        house.access.allow(At(ada.who), name, level, "d" * 64, Words(), policy)
    assert (caught.value.reason, caught.value.exit_code) == ("no code", 10)
    assert way_out in str(caught.value.hint)


def test_the_last_code_is_shown_before_the_next_is_asked_for(house: House, ada: Phone) -> None:
    """Who sees an action there that they did not do knows that a code of theirs was spent on it."""
    at, started = ada.at_door(), house.clock.now()
    house.allow(at)
    assert not any("last code" in line for line in at.seen)
    house.state.write(lambda tx: house.access.ended(tx, "d" * 64, ada.who.id, Ending.PARTLY))
    for digest, ending in (("e" * 64, "partly"), ("f" * 64, "without an end")):
        house.clock.step(timedelta(days=3))
        at = ada.at_door()
        house.allow(at, digest=digest)
        assert at.seen[0] == f"last code: {started:%Y-%m-%d %H:%M} UTC fields.encrypt {ending}"
        started = house.clock.now()


def test_a_code_that_only_asked_is_shown_as_that(house: House, ada: Phone) -> None:
    house.why(ada.at_door(), "fields.decrypt", Level.DUAL)
    house.clock.step(timedelta(minutes=1))
    at = ada.at_door()
    house.allow(at)
    assert at.seen[0].endswith("fields.decrypt waits")


def test_a_code_to_read_holds_for_the_same_reading_for_five_minutes(house: House, ada: Phone) -> None:
    reads, at = Terms(reads=True), ada.at_door()
    assert house.allow(at, "audit.reveal", terms=reads) == "code"
    at.ask = None
    house.clock.step(timedelta(minutes=4))
    assert house.allow(at, "audit.reveal", terms=reads) == "grant"
    assert "still holds for this" in at.seen[-1]
    bob = house.phone("bob")
    assert house.why(At(bob.who), "audit.reveal", terms=reads) == "no code"
    assert house.why(at, "audit.reveal", digest="e" * 64, terms=reads) == "no code"
    house.clock.step(timedelta(minutes=1))
    assert house.why(at, "audit.reveal", terms=reads) == "no code"


def test_a_code_that_changes_something_is_never_used_again(house: House, ada: Phone) -> None:
    house.allow(ada.at_door())
    assert house.why(At(ada.who)) == "no code"
    assert house.why(At(ada.who), terms=Terms(reads=True)) == "no code"


def test_a_closed_terminal_is_no_code(house: House, ada: Phone) -> None:
    def closed(_: str) -> str:
        raise EOFError

    assert house.why(At(ada.who, closed)) == "no code"


def test_a_code_asked_for_long_ago_is_one_of_then(house: House, ada: Phone) -> None:
    """The time counts at which the code was typed, not when it was asked for."""
    at = ada.at_door()

    def slow(_: str) -> str:
        house.clock.step(timedelta(hours=1))
        return ada.code()

    at.ask = slow
    assert house.why(at) == ""


def test_it_says_what_let_somebody_through(house: House, ada: Phone) -> None:
    assert house.allow(At(ada.who), "audit.list", Level.OPEN) == "open"
    assert house.allow(At(ada.who), "backup.run", Level.ROUTINE) == "role"
    assert house.allow(At(DAEMON), "backup.run", Level.ROUTINE) == "role"
    assert house.allow(ada.at_door()) == "code"
    assert house.allow(ada.at_door(ada.recovery[0].lower().replace("-", " "))) == "recovery code"


@pytest.mark.parametrize(
    ("name", "level", "reason"),
    [
        ("backup.run", Level.ROUTINE, ""),
        ("access.refuse", Level.ROUTINE, "role"),
        ("fields.encrypt", Level.PRIVILEGED, "role"),
        ("retention.run", Level.PRIVILEGED, "no approval"),
        ("retention.run", Level.DUAL, "role"),
    ],
)
def test_services_do_what_is_listed_and_are_never_asked(house: House, name: str, level: Level, reason: str) -> None:
    assert house.why(At(DAEMON, lambda _: pytest.fail("asked")), name, level) == reason
