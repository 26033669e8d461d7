"""Files that a command of another OS user may name: below `[agent] exchange`, and never one of guard's own.

The process that runs the command may read keys and state, its caller may not: a path of theirs must not lead there. So

* what is read is opened here, step by step and through no link, and the command gets that very file;
* what is written goes into folders that are the agent's and that nobody else may write to: nobody can put a link there.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any, Final

import click

from guard.errors import ConfigError

READ: Final[dict[tuple[str, ...], set[str]]] = {
    ("data", "accept"): {"source"},
    ("fields", "rebind"): {"map_"},
    ("keys", "export"): {"recipient"},
    ("keys", "recovery", "test"): {"share_files"},
    ("audit", "ingest"): {"file"},
    ("audit", "verify"): {"against"},
}
"""Parameters that name a file to read. Every other path is taken for one that is written to."""

NEEDED: Final[dict[tuple[str, ...], set[str]]] = {("audit", "prove"): {"out"}}
"""Paths that stand for the folder of the process where they are not given."""

_OPEN = os.O_NOFOLLOW | os.O_CLOEXEC


class Exchange:
    """The folder of `[agent] exchange`; None where guard.toml names none."""

    def __init__(self, folder: Path | None, home: Path, cwd: str = "/") -> None:
        """Relative paths begin at `cwd`, the caller's. Raises ConfigError where folder or home lies in the other."""
        self.folder = None if folder is None else Path(os.path.realpath(folder))
        self._called = folder
        self._cwd = cwd
        home = Path(os.path.realpath(home))
        if self.folder is not None and (self.folder.is_relative_to(home) or home.is_relative_to(self.folder)):
            raise ConfigError(
                f"agent.exchange in guard.toml is {self.folder}, which is not apart from guard's own folder {home}",
                hint="name a folder that holds nothing of guard's, e.g. /srv/guard-exchange",
            )

    def to_read(self, path: str) -> str:
        """Return a path that opens the file below the folder that is called so now. Raises ConfigError."""
        folder, *names = self._steps(path)
        try:
            descriptor = self._walk(folder, names[:-1], _nothing)
            try:
                found = os.open(names[-1] if names else ".", os.O_RDONLY | os.O_NONBLOCK | _OPEN, dir_fd=descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise _refused(path, _why(error)) from error
        status = os.fstat(found)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            os.close(found)
            raise _refused(path, "it is no file of its own: a folder, a pipe, a device or one of several links")
        os.set_blocking(found, True)
        return f"/proc/self/fd/{found}"  # it stays open as long as the process: one command

    def to_write(self, path: str) -> str:
        """Return the path below the folder, where nobody but the agent can put anything. Raises ConfigError."""
        folder, *names = self._steps(path)
        whole = Path(folder, *names)
        try:
            os.close(self._walk(folder, names[:-1], _require_own))
            status = whole.lstat()
        except FileNotFoundError:  # it is to be made where only the agent can make anything: all above was looked at
            if Path(folder).is_dir():
                return str(whole)
            raise _refused(path, f"{folder} is no folder") from None
        except OSError as error:
            raise _refused(path, _why(error)) from error
        is_file = stat.S_ISREG(status.st_mode) and status.st_nlink == 1
        if not is_file and not stat.S_ISDIR(status.st_mode):
            raise _refused(path, "it is a link, or no file or folder of its own")
        _require_own(status, path)
        return str(whole)

    def _steps(self, path: str) -> list[str]:
        """Return the folder, then each name below it. Nothing is followed here: `..` is taken as it is written."""
        if self.folder is None:
            raise ConfigError(
                "the agent reads and writes no file for you: guard.toml names no folder for it",
                hint='`[agent] exchange = "/srv/guard-exchange"` names one; "-" is standard input or output where a'
                " command takes it",
            )
        pure = PurePath(os.path.normpath(Path("/", self._cwd, path)))
        for folder in (self.folder, self._called):
            if folder is not None and pure.is_relative_to(folder):
                return [str(self.folder), *pure.relative_to(folder).parts]
        raise _refused(path, f"it does not lie below {self.folder}")

    @staticmethod
    def _walk(folder: str, names: list[str], check: Callable[[os.stat_result, str], None]) -> int:
        """Return a descriptor of the folder at the end of `names`. Raises ConfigError by `check`, OSError."""
        at, seen = os.open(folder, os.O_PATH | os.O_DIRECTORY | _OPEN), folder
        try:
            check(os.fstat(at), seen)
            for name in names:
                seen = f"{seen}/{name}"
                below = os.open(name, os.O_PATH | os.O_DIRECTORY | _OPEN, dir_fd=at)
                os.close(at)
                at = below
                check(os.fstat(at), seen)
        except BaseException:
            os.close(at)
            raise
        return at


def confine(command: click.Command, exchange: Exchange, words: tuple[str, ...] = ()) -> None:
    """Let every path that a command takes lie below the folder. Raises TypeError for a kind of path not known here."""
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            confine(each, exchange, (*words, name))
    for param in command.params:
        if isinstance(param.type, click.File):
            raise TypeError(f"{words}: {param.name} is a click.File, which cannot be confined")
        if isinstance(param.type, click.Path) and not isinstance(param.type, _Confined):
            reads = param.name in READ.get(words, ())
            param.type = _Confined(param.type, exchange.to_read if reads else exchange.to_write)
        if param.name in NEEDED.get(words, ()):
            param.required = True


class _Confined(click.Path):
    """A path below the folder."""

    def __init__(self, of: click.Path, confined: Callable[[str], str]) -> None:
        vars(self).update(vars(of))
        self._of = of
        self._confined = confined

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path that the command may use. Raises ConfigError."""
        if self.allow_dash and str(value) == "-":
            return self._of.convert(value, param, ctx)
        return self._of.convert(self._confined(os.fspath(value)), param, ctx)


def _nothing(_: os.stat_result, __: str) -> None:
    """A folder on the way to a file that is read may be anybody's: no link of it is followed."""


def _require_own(status: os.stat_result, path: str) -> None:
    if status.st_uid != os.geteuid() or (stat.S_IMODE(status.st_mode) & 0o022 and stat.S_ISDIR(status.st_mode)):
        raise _refused(path, "what is written goes into folders of the agent's that nobody else may write to")


def _refused(path: str, why: str) -> ConfigError:
    return ConfigError(f"the agent does not use {path}: {why}", hint="runbooks/several-people.md")


def _why(error: OSError) -> str:
    """Return why a path cannot be opened. A link, and a file where a folder has to be, are told alike."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, PermissionError):
        return "the agent's own OS user may not read it; its group or others have to"
    return "it is a link, or leads through one, or through what is no folder"
