"""A checkpoint: size and root of the ledger as a C2SP tlog-checkpoint; `guard.crypto.sign` makes it a signed note."""

import re
from base64 import b64decode, b64encode
from dataclasses import dataclass
from uuid import UUID

from guard.crypto.sign import Verifier, split_note
from guard.errors import TamperedError

_TEXT = re.compile(
    r"(?P<origin>[^\n]+)\n(?P<size>0|[1-9][0-9]{0,18})\n(?P<root>[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=)\n"
)
"""The 43rd character of a root holds four bits: only 16 characters can stand there."""

_LATER = re.compile(r"guard-ledger/[0-9a-f-]{36}/([0-9a-f]{16})")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What the signer of a ledger vouches for: its first `size` entries have the root hash `root`."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """Return the text that is signed: origin, size, root, a line each."""
        return f"{self.origin}\n{self.size}\n{b64encode(self.root).decode()}\n"


FIRST = "first"
"""What a ledger's first log is called; later ones by the 16 hex digits at the end of their origin."""


def origin_of(store_id: UUID) -> str:
    """Return the origin, and the key name, of the first log of a store's ledger."""
    return f"guard-ledger/{store_id}"


def log_of(origin: str) -> str:
    """Return what the log with this origin is called."""
    found = _LATER.fullmatch(origin)
    return found[1] if found else FIRST


def open_any(note: str, first: Verifier) -> Checkpoint:
    """Return the checkpoint in a signed note of any log of a ledger; `first` verifies its first log.

    Raises TamperedError as `open_signed` does.
    """
    origin = parse(split_note(note)[0]).origin
    later = origin == f"{first.name}/{log_of(origin)}"
    return open_signed(note, first.named(origin) if later else first)


def parse(text: str) -> Checkpoint:
    """Read the text of a checkpoint; extension lines are passed over. Raises TamperedError when it is not one."""
    found = _TEXT.match(text)
    if not found:
        raise TamperedError("this is not a checkpoint of a ledger")
    return Checkpoint(found["origin"], int(found["size"]), b64decode(found["root"]))


def open_signed(note: str, verifier: Verifier) -> Checkpoint:
    """Return the checkpoint in a signed note of the ledger whose key is `verifier`.

    Raises TamperedError when the signature is wrong or missing, or the checkpoint is another ledger's.
    """
    found = parse(verifier.open_note(note))
    if found.origin != verifier.name:
        raise TamperedError(f"this is a checkpoint of {found.origin}, not of {verifier.name}")
    return found
