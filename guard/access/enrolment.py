"""Taking a person in: a secret for their authenticator, two consecutive codes that prove it arrived, recovery codes."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from guard.access import totp
from guard.access.factor import NewFactor
from guard.access.people import Person
from guard.access.refusals import Refusal, refused
from guard.events import PrincipalId, Role

ENROL_WITHIN = timedelta(hours=24)
"""How long somebody who was taken in without an authenticator, or whose was taken away, may enrol one themselves."""

RENEW_WITHIN = timedelta(minutes=10)
"""From a code of the old authenticator to the two of the new one: time to scan, and for a code to change."""


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A person about to be enrolled, and the secret to show them. Nothing of it is stored yet."""

    id: PrincipalId
    name: str
    os_user: str
    role: Role
    uri: str = field(repr=False)
    """For a QR code: otpauth://…"""
    secret_text: str = field(repr=False)
    """The same secret in base32, to type in."""

    def check(self, code1: str, code2: str, at: datetime) -> int:
        """Return the step of `code2`. `at`: when it was typed.

        Raises DeniedError when the two codes are not consecutive ones of this secret, the second within one step of
        `at`: two prove that the authenticator counts time, and that its clock is right.
        """
        step = totp.match_pair(self.secret_text, _digits(code1), _digits(code2), at)
        if step is None:
            raise refused(
                Refusal.WRONG_CODE,
                "these are not two consecutive codes of the secret that was shown",
                "type a code, wait until the authenticator shows the next one, and type that; check the clocks of both",
            )
        return step


@dataclass(frozen=True, slots=True)
class Member:
    """A person ready to be stored, with an authenticator that was proven."""

    person: Person
    factor: NewFactor | None = field(repr=False)
    """None: they will enrol one themselves."""
    recovery_codes: tuple[str, ...] = field(repr=False)
    """Shown once, kept nowhere."""


def _digits(typed: str) -> str:
    return "".join(typed.split())
