"""Secrets are named, not written: `{file = }`, `{env = }`, `{cmd = }` or `{credential = }` (systemd)."""

import os
import shlex
import stat
import subprocess
from pathlib import Path

import msgspec

from guard.errors import ConfigError


class Secret(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a secret is found; exactly one of the four is set."""

    file: str | None = None
    env: str | None = None
    cmd: str | None = None
    credential: str | None = None

    def __post_init__(self) -> None:
        if sum(place is not None for place in (self.file, self.env, self.cmd, self.credential)) != 1:
            raise ValueError("name exactly one of file, env, cmd, credential")


def reveal(secret: Secret, folder: Path) -> str:
    """Return the secret's text without a trailing newline. `folder`: what relative paths start from.

    Raises ConfigError when it is not there, is empty, or lies in a file that others may read.
    """
    if secret.file is not None:
        text = _read_private(folder / secret.file)
    elif secret.env is not None:
        text = os.environ.get(secret.env, "")
    elif secret.credential is not None:
        folder = Path(os.environ.get("CREDENTIALS_DIRECTORY", "/nonexistent"))
        text = _read_private(folder / secret.credential, from_systemd=True)
    else:
        text = _run(secret.cmd or "")
    if not (text := text.rstrip("\n")):
        raise ConfigError(f"the secret in {_place(secret)} is empty or not set")
    return text


def _place(secret: Secret) -> str:
    for name in ("file", "env", "cmd", "credential"):
        if value := getattr(secret, name):
            return f"{name} {value!r}"
    return "nowhere"


def group_may_read(status: os.stat_result) -> bool:
    """Tell whether a credential's mode for the group is the mask of systemd's access list, and no group's right.

    systemd lets a service's user read a file of root's by an access list; its mask shows as r for the group (acl(5)).
    """
    return (status.st_uid, status.st_gid) == (0, 0)


def _read_private(path: Path, *, from_systemd: bool = False) -> str:
    try:
        status = path.stat()
        allowed = stat.S_IRWXU | (stat.S_IRGRP if from_systemd and group_may_read(status) else 0)
        if stat.S_IMODE(status.st_mode) & ~allowed:
            raise ConfigError(f"{path} can be read by others", hint=f"chmod 600 {path}")
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the secret in {path}: {getattr(error, 'strerror', error)}") from error


def _run(command: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603  # the operator's own command from guard.toml, without a shell
            shlex.split(command), capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise ConfigError(f"the secret command {command!r} failed: {type(error).__name__}") from error
    return done.stdout
