"""Checkpoints and proofs that somebody kept, to compare the ledger with: what they vouch for cannot be taken back."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from guard.audit import checkpoint, merkle, proof
from guard.audit.proof import Proof
from guard.audit.rekey import Keys, Signed
from guard.audit.walk import tampered
from guard.crypto.sign import split_note
from guard.errors import ConfigError, TamperedError


@dataclass(frozen=True, slots=True)
class Held:
    """What a file says, not believed yet."""

    name: str
    """Of the file, for messages."""
    note: str
    proof: Proof | None = None

    @classmethod
    def read(cls, name: str, content: bytes) -> Self:
        """Read a checkpoint or a `.tlog-proof`. Raises ConfigError for anything else."""
        try:
            text = content.decode()
            found = proof.read(text) if text.startswith("c2sp.org/tlog-proof@") else None
            note = found.note if found else text
            checkpoint.parse(split_note(note)[0])
        except (UnicodeDecodeError, TamperedError):
            raise ConfigError(
                f"{name} is neither a checkpoint nor a proof", hint="`guard audit checkpoint` prints what to keep"
            ) from None
        return cls(name, note, found)

    def opened(self, keys: Keys) -> Signed:
        """Return the checkpoint. Raises ConfigError for one of another ledger, TamperedError for a wrong signature."""
        origin = checkpoint.parse(split_note(self.note)[0]).origin
        if not keys.owns(origin):
            raise ConfigError(f"{self.name} is about {origin}, not about this ledger, {keys.name}")
        try:
            return keys.open(self.note)
        except TamperedError as error:
            raise tampered(f"{self.name}: {error}") from None

    def compare_entry(self, signed: Signed, leaf: Callable[[int], bytes | None]) -> None:
        """Compare the entry that a proof is about with the ledger's. `leaf` gives its hash, None where it was removed.

        Raises TamperedError when it is another one.
        """
        if self.proof is None:
            return
        n = self.proof.n
        digest = leaf(n) if n < signed.size else b""
        if digest is not None and not merkle.verify_inclusion(digest, n, signed.size, self.proof.hashes, signed.root):
            raise tampered(f"ledger entry {n} is not the one that {self.name} is the proof of")
