"""Where a local root key comes from: a key file that only its owner reads, a systemd credential, or a passphrase by
Argon2id. FORMATS 3.
"""

from __future__ import annotations

import os
import unicodedata
from base64 import urlsafe_b64encode
from binascii import a2b_base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISREG
from typing import Final

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from guard.config.secret import group_may_read
from guard.crypto import files, random
from guard.errors import ConfigError, DeniedError, InterlockError

SIZE: Final = 32
_MAGIC = "guard-root-1:"
_MIB = 1024
CREDENTIALS = "CREDENTIALS_DIRECTORY"
"""Where systemd puts a service's credentials. Source: systemd.exec(5)."""


class AwayError(ConfigError):
    """This root is not at hand: its file is not there, the process has no such credential, nobody can be asked."""


@dataclass(frozen=True, slots=True)
class Argon2Params:
    """How a passphrase becomes a root key. `memory` is in KiB. They lie in state, in clear."""

    salt: bytes = field(default_factory=lambda: random.token(16))
    memory: int = 64 * _MIB
    passes: int = 3
    lanes: int = 4

    def check(self) -> None:
        """Raise InterlockError for parameters too weak to trust or too heavy to run.

        The floor is OWASP's least (19 MiB, 2 passes); the ceiling keeps changed parameters from taking the machine.
        """
        within = 19 * _MIB <= self.memory <= 1024 * _MIB and 2 <= self.passes <= 10 and 1 <= self.lanes <= 16
        if not within or len(self.salt) != 16:
            raise InterlockError(
                f"Argon2id parameters out of bounds: {self.memory} KiB, {self.passes} passes, {self.lanes} lanes",
                hint="they lie in guard's state and were changed there; restore it from a backup",
            )


def from_passphrase(text: str, params: Argon2Params) -> bytes:
    """Return the root key of a passphrase.

    Raises InterlockError for parameters out of bounds, ConfigError for an empty passphrase or one that is no UTF-8.
    """
    params.check()
    if not text:
        raise ConfigError("the passphrase is empty")
    try:
        raw = unicodedata.normalize("NFC", text).encode()
    except UnicodeEncodeError:
        raise ConfigError("the passphrase is not UTF-8 text", hint="check the terminal's character set") from None
    kdf = Argon2id(
        salt=params.salt, length=SIZE, iterations=params.passes, lanes=params.lanes, memory_cost=params.memory
    )
    return kdf.derive(raw)


def new_file(path: Path) -> bytes:
    """Write a new root key to `path` with mode 0600 and return it.

    Raises InterlockError when there is a file already, ConfigError when it cannot be written.
    """
    root = random.token(SIZE)
    files.write_new(path, _MAGIC + urlsafe_b64encode(root).decode().rstrip("=") + "\n")
    return root


def read_file(path: Path) -> bytes:
    """Return the root key of a key file.

    Raises AwayError when it is not there, DeniedError when others than its owner may read or write it, ConfigError when
    it is not a key file.
    """
    status, raw = _read(path, "the key file", "runbooks/lost-root-key.md says what to do")
    if not S_ISREG(status.st_mode) or status.st_mode & 0o077:
        raise DeniedError(f"others may read or change the key file {path}", hint=f"chmod 600 {path}")
    return _parsed(path, raw)


def read_credential(name: str, environ: Mapping[str, str] = os.environ) -> bytes:
    """Return the root key of the systemd credential `name`, which has the content of a key file.

    Raises AwayError when this process was not given it, DeniedError when its mode is none that systemd makes: 0400, or
    0440 of root, where the 4 of the group is the mask of an access list that names the service's user.
    """
    folder = environ.get(CREDENTIALS)
    if not folder:
        raise AwayError(
            f"systemd gave this process no credentials ({CREDENTIALS} is not set)",
            hint=f"start it as a service with LoadCredentialEncrypted={name}, or name a second root: [root.second]",
        )
    path = Path(folder) / name
    status, raw = _read(path, "the credential", f"the unit needs LoadCredentialEncrypted={name}")
    allowed = 0o440 if group_may_read(status) else 0o400
    if not S_ISREG(status.st_mode) or status.st_mode & 0o777 & ~allowed or status.st_uid not in (0, os.geteuid()):
        raise DeniedError(
            f"others may read or change the credential {path}, or it is not systemd's",
            hint="systemd makes it with mode 0400; let LoadCredentialEncrypted= put it there",
        )
    return _parsed(path, raw)


def _read(path: Path, what: str, hint: str) -> tuple[os.stat_result, bytes]:
    try:
        with path.open("rb") as file:
            return os.fstat(file.fileno()), file.read(4096)
    except FileNotFoundError as error:
        raise AwayError(f"cannot read {what} {path}: {error.strerror}", hint=hint) from None
    except OSError as error:
        raise ConfigError(f"cannot read {what} {path}: {error.strerror}", hint=hint) from None


def _parsed(path: Path, raw: bytes) -> bytes:
    try:
        return _parse(raw.decode("ascii"))
    except ValueError:
        raise ConfigError(f"{path} is not a root key file", hint=f"it is one line that begins {_MAGIC}") from None


def _parse(text: str) -> bytes:
    line = text.removesuffix("\n")
    body = line.removeprefix(_MAGIC).translate(str.maketrans("-_+/=", "+/!!!"))
    root = a2b_base64(body + "=", strict_mode=True)
    if len(root) != SIZE or not line.startswith(_MAGIC):
        raise ValueError
    return root
