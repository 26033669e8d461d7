"""A code is counted before it is looked at, and taken once: over restarts, in parallel, with the clock set back."""

import random
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import delete, select, update

from guard.access import totp
from guard.access.factor import locked_for
from guard.access.store import FACTOR
from guard.config import Span
from guard.config.access import CodeRule
from guard.crypto.envelope import Binding, Opener, Place
from guard.errors import ClockError, DeniedError, TamperedError
from guard.events import Level, Principal, Role
from guard.state import Tx
from tests.access.conftest import House, Phone, Words, wrong

RULE = CodeRule()


def test_a_right_code_lets_through(house: House, ada: Phone) -> None:
    assert house.why(ada.at_door()) == ""


def test_spaces_in_a_code_do_not_count(house: House, ada: Phone) -> None:
    code = ada.code()
    assert house.why(ada.at_door(f" {code[:3]} {code[3:]} ")) == ""


def test_no_code_wrong_code_and_used_code_are_told_apart_only_in_the_ledger(house: House, ada: Phone) -> None:
    code = ada.code()
    house.allow(ada.at_door(code))
    told = {}
    for typed in ("000000" if code != "000000" else "111111", code, "no idea", "", "   "):
        with pytest.raises(DeniedError) as caught:
            house.allow(ada.at_door(typed))
        told[typed] = (caught.value.reason, str(caught.value), caught.value.hint)
    assert [reason for reason, _, _ in told.values()] == ["wrong code", "used code", "wrong code", "no code", "no code"]
    assert len({texts[1:] for texts in told.values() if texts[0] != "no code"}) == 1


def test_a_code_of_an_earlier_step_is_used_once_a_later_one_was_taken(house: House, ada: Phone) -> None:
    early = ada.code(-1)
    house.allow(ada.at_door(ada.code()))
    assert house.why(ada.at_door(early)) == "used code"


def test_the_codes_of_the_enrolment_are_used(house: House, ada: Phone) -> None:
    assert house.why(ada.at_door(ada.code(-1))) == "used code"


def test_a_code_of_another_person_is_wrong(house: House, ada: Phone) -> None:
    bob = house.phone("bob")
    assert house.why(bob.at_door(ada.code())) == "wrong code"


def test_a_clock_set_back_stops_codes(house: House, ada: Phone) -> None:
    house.allow(ada.at_door())
    house.clock.step(-timedelta(minutes=10))
    with pytest.raises(ClockError):
        house.allow(ada.at_door())


def test_a_code_that_was_used_is_used_after_a_small_step_back_of_the_clock(house: House, ada: Phone) -> None:
    code = ada.code()
    house.allow(ada.at_door(code))
    house.clock.step(-timedelta(seconds=4))
    assert house.why(ada.at_door(code)) == "used code"


# A clock that is off -------------------------------------------------------------------------------------------------


def drift_of(house: House, phone: Phone) -> int:
    with house.state.read() as tx:
        return int(tx.scalar(select(FACTOR.c.drift).where(FACTOR.c.person == phone.who.id)))  # type: ignore[arg-type]


@pytest.mark.parametrize("way", [1, -1])
def test_a_clock_that_comes_to_be_two_steps_off_is_followed(house: House, ada: Phone, way: int) -> None:
    assert house.why(ada.at_door(ada.code(2 * way))) == "wrong code"
    for off, drift in [(0, 0), (way, way), (2 * way, way), (2 * way, way)]:
        house.clock.step(timedelta(minutes=5))
        assert house.why(ada.at_door(ada.code(off))) == ""
        assert drift_of(house, ada) == drift
    house.clock.step(timedelta(minutes=5))
    assert house.why(ada.at_door(ada.code(3 * way))) == "wrong code", "two steps are the most"
    assert house.why(ada.at_door(ada.code(-way))) == "wrong code", "three codes are good at a time, not more"


def test_a_clock_that_was_set_right_is_followed_back(house: House, ada: Phone) -> None:
    for off, drift in [(1, 1), (0, 0), (-1, -1), (0, 0)]:
        house.clock.step(timedelta(minutes=5))
        assert house.why(ada.at_door(ada.code(off))) == ""
        assert drift_of(house, ada) == drift


def test_the_drift_is_learned_at_enrolment(house: House) -> None:
    enrolment = house.access.begin_enrolment("Eve", "eve", Role.OPS)
    eve = Phone(Principal(enrolment.id, Role.OPS, "Eve"), enrolment.secret_text, (), house.clock)
    house.access.finish(enrolment, (eve.code(0), eve.code(1)))
    assert drift_of(house, eve) == 1
    house.clock.step(timedelta(minutes=1))
    assert house.why(eve.at_door(eve.code(2))) == ""


def test_neither_a_wrong_nor_a_used_nor_a_recovery_code_moves_the_drift(house: House, ada: Phone) -> None:
    code = ada.code(1)
    assert house.why(ada.at_door(code)) == ""
    assert [house.why(ada.at_door(each)) for each in (code, wrong(ada), ada.recovery[0])] == [
        "used code",
        "wrong code",
        "",
    ]
    assert drift_of(house, ada) == 1


@pytest.mark.parametrize("seed", range(3))
def test_no_code_passes_twice_and_no_step_goes_back_while_the_clock_wanders(
    house: House, ada: Phone, seed: int
) -> None:
    chance, passed = random.Random(seed), [0]
    for _ in range(40):
        off = chance.randint(-2, 2)
        step = totp.step_at(house.clock.now()) + off
        if house.why(ada.at_door(ada.code(off))) == "":
            assert step > max(passed)
            passed.append(step)
        house.clock.step(timedelta(seconds=chance.choice([5, 30, 300])))
    assert len(passed) > 5


# Lockout -------------------------------------------------------------------------------------------------------------


def test_the_right_code_after_too_many_wrong_ones_is_not_taken_until_the_lock_is_over(house: House, ada: Phone) -> None:
    assert [house.why(ada.at_door(wrong(ada))) for _ in range(RULE.tries + 1)] == ["wrong code"] * RULE.tries + [
        "locked"
    ]
    assert house.why(ada.at_door()) == "locked"
    house.clock.step(timedelta(seconds=59))
    assert house.why(ada.at_door()) == "locked"
    house.clock.step(timedelta(seconds=1))
    assert house.why(ada.at_door()) == ""


def test_a_right_code_lifts_the_count(house: House, ada: Phone) -> None:
    for _ in range(3):
        for _ in range(RULE.tries - 1):
            assert house.why(ada.at_door(wrong(ada))) == "wrong code"
        assert house.why(ada.at_door()) == ""
        house.clock.step(timedelta(seconds=30))


def test_one_person_locked_locks_nobody_else(house: House, ada: Phone) -> None:
    bob = house.phone("bob")
    for _ in range(RULE.tries):
        house.why(ada.at_door(wrong(ada)))
    assert house.why(ada.at_door()) == "locked"
    assert house.why(bob.at_door()) == ""


def test_each_further_wrong_code_doubles_the_lock_over_restarts_up_to_a_day(house: House, ada: Phone) -> None:
    """Every try comes from a new process, and the client tries every three hours for a week."""
    compared = 0
    for _ in range(7 * 8):
        with pytest.raises(DeniedError) as caught:
            house.again().allow(ada.at_door(wrong(ada)), "fields.encrypt", Level.PRIVILEGED, "d" * 64, Words(), None)
        compared += caught.value.reason == "wrong code"
        house.clock.step(timedelta(hours=3))
    assert compared == 20  # 15 until the lock reaches a day, then one a day


def test_after_a_hundred_wrong_ones_only_a_recovery_code_counts(house: House, ada: Phone) -> None:
    for _ in range(RULE.give_up):
        assert house.why(ada.at_door(wrong(ada))) == "wrong code"
        house.clock.step(timedelta(days=1))
    assert house.why(ada.at_door()) == "wrong code"
    house.clock.step(timedelta(days=1))
    assert house.why(ada.at_door(ada.recovery[0])) == ""
    assert house.why(ada.at_door()) == ""


@given(tries=st.integers(0, 10**6), most=st.integers(1, 10), lock=st.integers(1, 90), longest=st.integers(1, 3000))
def test_locks_never_get_shorter_and_end(tries: int, most: int, lock: int, longest: int) -> None:
    rule = CodeRule(tries=most, lock=Span.parse(f"{lock} minutes"), longest_lock=Span.parse(f"{longest} minutes"))
    assert bool(locked_for(tries, rule)) == (tries >= most)
    assert locked_for(tries, rule) <= locked_for(tries + 1, rule) <= timedelta(minutes=longest)


def test_a_try_counts_although_the_process_died_before_the_answer(house: House, ada: Phone) -> None:
    """The count is committed before the code is compared: here the process dies in between, as often as it likes."""

    class Killed(BaseException):
        pass

    def die(_: Tx) -> None:
        raise Killed

    factors = house.access._books.factors
    for _ in range(RULE.tries):
        with pytest.raises(Killed):
            factors.take(ada.who.id, ada.code(), die)
    assert house.why(ada.at_door()) == "locked"


# Recovery codes ------------------------------------------------------------------------------------------------------


def test_there_are_ten_recovery_codes_and_each_is_good_once(house: House, ada: Phone) -> None:
    assert len(set(ada.recovery)) == 10
    for code in ada.recovery:
        assert house.why(ada.at_door(code)) == ""
        assert house.why(ada.at_door(code)) == "used code"
    assert house.access.people()[0].recovery_codes == 0


def test_a_recovery_code_may_be_typed_small_and_without_hyphens(house: House, ada: Phone) -> None:
    assert house.why(ada.at_door(ada.recovery[0].replace("-", "").lower())) == ""


def test_a_recovery_code_of_another_person_or_of_nobody_is_wrong(house: House, ada: Phone) -> None:
    bob = house.phone("bob")
    assert house.why(bob.at_door(ada.recovery[0])) == "wrong code"
    assert house.why(bob.at_door("AAAA-BBBB-CCCC-DDDD")) == "wrong code"


def test_recovery_codes_are_locked_like_codes(house: House, ada: Phone) -> None:
    for _ in range(RULE.tries):
        house.why(ada.at_door("AAAA-BBBB-CCCC-DDDD"))
    assert house.why(ada.at_door(ada.recovery[0])) == "locked"


def test_state_holds_neither_secret_nor_recovery_code(house: House, ada: Phone) -> None:
    house.state.close()
    stored = b"".join(path.read_bytes() for path in house.state.path.parent.iterdir())  # type: ignore[union-attr]
    for secret in (ada.secret, *ada.recovery, *(code.replace("-", "") for code in ada.recovery)):
        assert secret.encode() not in stored
    assert b"Ada" in stored  # the search does find what is there


# Whoever writes to state's database ----------------------------------------------------------------------------------


def test_a_secret_opens_only_for_its_person(house: House, ada: Phone) -> None:
    """FORMATS 8: column 0, bound to the person's id."""
    bob = house.phone("bob")
    with house.state.read() as tx:
        secrets = {row.person: row.secret for row in tx.execute(FACTOR.select())}
    opener = Opener(Place(house.state.store_id, 0, Binding.SUBJECT), house.keyring.by_id)
    bound = {who.id: b"\x01s" + len(who.id).to_bytes(4, "big") + who.id.encode() for who in (ada.who, bob.who)}
    assert opener.open(secrets[ada.who.id], bound[ada.who.id]) == ada.secret
    with pytest.raises(TamperedError):
        opener.open(secrets[ada.who.id], bound[bob.who.id])


def test_a_secret_under_a_key_for_something_else_is_not_opened(house: House) -> None:
    factors = house.access._books.factors
    with pytest.raises(LookupError):
        factors._key(house.keyring.current("digest").id)


@pytest.mark.parametrize(
    "change",
    [
        {"tries": 0},
        {"last_step": 0},
        {"drift": 1},
        {"locked_until": None},
        {"secret": b"x"},
        {"secret": None},
        {"open_until": "2099-01-01T00:00:00.000000Z"},
    ],
)
def test_a_changed_row_of_a_factor_is_noticed(house: House, ada: Phone, change: dict[str, object]) -> None:
    for _ in range(RULE.tries):
        house.why(ada.at_door(wrong(ada)))
    house.state.write(lambda tx: tx.execute(update(FACTOR).values(**change)))
    with pytest.raises(TamperedError, match=f"access_factor {ada.who.id}"):
        house.allow(ada.at_door())


def test_a_person_whose_factor_is_gone_is_not_let_through(house: House, ada: Phone) -> None:
    house.state.write(lambda tx: tx.execute(delete(FACTOR)))
    with pytest.raises(TamperedError, match="is gone"):
        house.allow(ada.at_door())
