"""An anchor in time: an authority (RFC 3161) signs since when a checkpoint exists; its tokens are kept in a folder.

A token proves that a checkpoint existed at its time: no history that is made up later has one. That nothing was cut it
proves only as long as it is kept, so its folder counts like any other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Final

from cryptography.x509 import Certificate, load_pem_x509_certificates
from rfc3161_client import (
    HashAlgorithm,
    TimestampRequestBuilder,
    TimeStampResponse,
    VerificationError,
    VerifierBuilder,
    decode_timestamp_response,
)

from guard import faults
from guard.audit.anchors import FIRST, NOTHING, Known
from guard.audit.anchors.folder import FolderAnchor, write_over
from guard.audit.anchors.web import Web
from guard.audit.checkpoint import log_of, parse
from guard.audit.walk import tampered
from guard.crypto.sign import split_note
from guard.errors import ConfigError, UnavailableError

MOST_ANSWER: Final = 64 * 1024
"""Bytes of a token with its certificates; usual ones have 2 to 8 KiB."""

_SHA256: Final = "2.16.840.1.101.3.4.2.1"


@dataclass(frozen=True)
class TimestampAnchor:
    """Keeps `<size as 20 digits>.checkpoint`, as `FolderAnchor` does, and its token beside it as `.tsr`."""

    folder: FolderAnchor
    web: Web
    authority: Path
    """The certificates (PEM) of the authority: at least its root."""

    witness = None

    @property
    def name(self) -> str:
        """Its name in guard.toml."""
        return self.folder.name

    @property
    def where(self) -> str:
        """The authority's URL and the folder."""
        return f"{self.web.url}, kept in {self.folder.where}"

    @property
    def weak(self) -> bool:
        """Whether the tokens lie on the ledger's own file system."""
        return self.folder.weak

    def create(self) -> None:
        """Make the folder."""
        self.folder.create()

    def put(self, size: int, note: str, log: str = FIRST, known: Known = NOTHING) -> None:
        """Get a token for the checkpoint and keep both; the checkpoint is named last, and without it nothing counts.

        Raises UnavailableError when there is no token that verifies, and as `FolderAnchor.put` does.
        """
        path = self.folder.path(size, log)
        if not path.exists():
            token = self._token(note.encode())
            try:
                write_over(self.folder.make_room(size, log).with_suffix(".tsr"), token)
            except OSError as error:
                raise self.folder.away(error) from error
            faults.point("audit.anchor.token")
        self.folder.put(size, note, log, known)

    def newest(self, known: Known = NOTHING) -> Mapping[str, str]:
        """Return the notes of the largest sizes, each with a token that verifies.

        Raises TamperedError when a token is gone or is not this note's.
        """
        found = self.folder.newest(known)
        for note in found.values():
            self.time_of(note)
        return found

    def time_of(self, note: str) -> datetime:
        """Return since when a kept note exists, by its token. Raises TamperedError when there is none that verifies."""
        signed = parse(split_note(note)[0])
        path = self.folder.path(signed.size, log_of(signed.origin)).with_suffix(".tsr")
        try:
            response = self._verified(path.read_bytes(), note.encode(), None)
        except FileNotFoundError:
            raise tampered(
                f"anchor {self.name}: the token of the checkpoint of {signed.size} entries is gone"
            ) from None
        except OSError as error:
            raise self.folder.away(error) from error
        except ValueError as error:
            raise tampered(
                f"anchor {self.name}: {path.name} is no token of the checkpoint beside it: {error}"
            ) from None
        return response.tst_info.gen_time.astimezone(UTC)

    def check(self, known: Known = NOTHING) -> Sequence[str]:
        """Look at the folder, and have the authority sign the time over a text that is not kept."""
        wrong = self.folder.check(known)
        self._token(b"guard doctor")
        return wrong

    def _token(self, data: bytes) -> bytes:
        request = TimestampRequestBuilder().data(data).hash_algorithm(HashAlgorithm.SHA256).build()
        answer = self.web.post("", request.as_bytes(), "application/timestamp-query", MOST_ANSWER)
        if answer.status != 200:
            raise UnavailableError(f"{self.web.what} at {self.web.url} answers {answer.status}", hint="try again later")
        try:
            self._verified(answer.body, data, request.nonce)
        except ValueError as error:
            said = f"{self.web.what} at {self.web.url} sends no token that is good: {error}"
            raise UnavailableError(said, hint=f"does {self.authority} hold the root of this authority?") from None
        return answer.body

    def _verified(self, raw: bytes, data: bytes, nonce: int | None) -> TimeStampResponse:
        """Return the response in `raw`. Raises ValueError unless it is a token of the authority over `data`."""
        response = decode_timestamp_response(raw)
        try:
            VerifierBuilder(roots=self._certificates, nonce=nonce).build().verify(response, sha256(data).digest())
        except VerificationError as error:
            raise ValueError(str(error)) from None
        if response.tst_info.message_imprint.hash_algorithm.dotted_string != _SHA256:
            raise ValueError("it is not over a SHA-256")
        return response

    @cached_property
    def _certificates(self) -> list[Certificate]:
        try:
            return load_pem_x509_certificates(self.authority.read_bytes())
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "it holds no certificate"
            raise ConfigError(f"anchor {self.name}: cannot read {self.authority}: {why}", hint="a PEM file") from None
