"""Who may do what: people, their second factor, what waits, what stands approved.

It decides and keeps count; it never does the work. It knows no action but by name and level, and no terminal: whoever
calls brings a way to show and to ask.
"""

from guard.access.access import Access, Open
from guard.access.dual import Approves, Terms
from guard.access.enrolment import Enrolment, Member
from guard.access.leave import Held
from guard.access.members import Listed
from guard.access.pending import Stage
from guard.access.refusals import Refusal
from guard.access.totp import code_at
from guard.access.void import Voided, void

__all__ = [
    "Access",
    "Approves",
    "Enrolment",
    "Held",
    "Listed",
    "Member",
    "Open",
    "Refusal",
    "Stage",
    "Terms",
    "Voided",
    "code_at",
    "void",
]
