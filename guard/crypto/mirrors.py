"""Where the vault keeps epoch keys: places that hold small objects by name and honour deletion. docs/FORMATS.md, 3.

A folder is here; a bucket is any store of objects handed in together with a check that it keeps no versions; AWS KMS,
one key for each epoch, is in guard.crypto.kms_mirror. A mirror knows names and bytes, nothing of what they mean.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from stat import S_ISREG
from typing import Protocol

from guard.crypto.files import sync_folder
from guard.errors import DeniedError, InterlockError, TamperedError, UnavailableError

_HALF = ".half"


class Mirror(Protocol):
    """Objects by name. All methods raise UnavailableError, DeniedError or ConfigError when the place fails."""

    @property
    def name(self) -> str:
        """Its name in guard.toml."""
        ...

    @property
    def where(self) -> str:
        """What a person calls this place; holds no secret."""
        ...

    @property
    def delay(self) -> timedelta:
        """How long after `delete` an object can still be brought back."""
        ...

    @property
    def place(self) -> str | None:
        """What tells this place from any other by itself; None where a marker object has to."""
        ...

    def check(self) -> None:
        """Look whether the place answers and honours deletion. Raises InterlockError when it would keep copies."""
        ...

    def put(self, name: str, data: bytes, arn: str | None = None) -> str | None:
        """Keep an object durably. Raises TamperedError when there is another one of this name.

        Returns the ARN of what it lies under, where there is one: `get` and `delete` are given it, so that they find
        that and nothing else. `arn`: where it lay before.
        """
        ...

    def get(self, name: str, arn: str | None = None) -> bytes | None:
        """Return an object; None when there is none."""
        ...

    def names(self, prefix: str) -> frozenset[str]:
        """Return the names of all objects below `prefix`, half-written ones included."""
        ...

    def delete(self, name: str, arn: str | None = None) -> datetime | None:
        """Destroy an object; it is no error when there is none.

        Returns from when on nobody can read it again; None: from now on. Raises when that cannot be told.
        """
        ...


class FolderMirror:
    """Objects as files of mode 0600 below `root`. `inside`: folders in which it must not lie, for others copy those."""

    delay = timedelta()
    place = None

    def __init__(self, name: str, root: Path, inside: Sequence[Path] = ()) -> None:
        self._name = name
        self.root = root
        self._inside = inside

    @property
    def name(self) -> str:
        """Its name in guard.toml."""
        return self._name

    @property
    def where(self) -> str:
        """The folder."""
        return str(self.root)

    def check(self) -> None:
        """Look whether the folder is there, belongs to its owner alone, and is in no backup."""
        with self._explained():
            self._need_own()
            root = self.root.resolve()
            for folder in self._inside:
                if root.is_relative_to(folder.resolve()):
                    raise InterlockError(
                        f"the vault's folder {self.root} lies within {folder}, which backups copy",
                        hint="what is in a backup cannot be shredded; put the vault elsewhere",
                    )

    def put(self, name: str, data: bytes, arn: str | None = None) -> None:  # noqa: ARG002  # names are all there is
        """Write a file, flush it and its folder; what is half written has a name of its own."""
        path = self.root / name
        with self._explained():
            self._need_own()
            _make_folders(self.root, path.parent)
            if path.exists():
                if path.read_bytes() != data:
                    raise TamperedError(f"{path} is there already, and is another object")
                return
            half = _half(path)
            handle = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            half.replace(path)
            sync_folder(path.parent)

    def get(self, name: str, arn: str | None = None) -> bytes | None:  # noqa: ARG002  # as in `put`
        """Return a file's bytes; None when there is none."""
        with self._explained():
            self._need_root()
            try:
                return (self.root / name).read_bytes()
            except FileNotFoundError:
                return None

    def names(self, prefix: str) -> frozenset[str]:
        """Return the names of the files below `prefix`."""
        with self._explained():
            self._need_root()
            found = (path for path in (self.root / prefix).rglob("*") if path.is_file() or path.is_symlink())
            return frozenset(path.relative_to(self.root).as_posix().removesuffix(_HALF) for path in found)

    def delete(self, name: str, arn: str | None = None) -> datetime | None:  # noqa: ARG002  # as in `put`
        """Overwrite a file and what is half written of it, then remove them."""
        path = self.root / name
        with self._explained():
            self._need_own()
            for each in (path, _half(path)):
                with suppress(FileNotFoundError):
                    _overwrite(each)
                    each.unlink()
            if path.parent.is_dir():
                sync_folder(path.parent)
        return None

    def _need_root(self) -> None:
        if not self.root.is_dir():
            raise UnavailableError(
                f"the vault's folder {self.root} is not there", hint="is its disk mounted? a new one: mkdir -m 700"
            )

    def _need_own(self) -> None:
        """Look that the folder is the vault's: what a disk is mounted on is open to others, and holds nothing."""
        self._need_root()
        if self.root.stat().st_mode & 0o077:
            hint = f"is its disk mounted? else chmod 700 {self.root}"
            raise DeniedError(f"others may enter the vault's folder {self.root}", hint=hint)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except PermissionError as error:
            raise DeniedError(f"{self.root} may not be used: {error.strerror}", hint="check owner and mode") from error
        except OSError as error:
            raise UnavailableError(f"{self.root} cannot be used: {error.strerror or type(error).__name__}") from error


class Objects(Protocol):
    """A store of objects, as backups have them: what a bucket can do."""

    @property
    def where(self) -> str:
        """What a person calls this place."""
        ...

    def put_if_absent(self, name: str, data: bytes | bytearray) -> bool:
        """Write an object. False when there is another one of this name."""
        ...

    def get(self, name: str) -> bytes:
        """Return an object."""
        ...

    def list(self, prefix: str) -> Iterable[_Named]:
        """Yield the objects below `prefix`."""
        ...

    def size(self, name: str) -> int | None:
        """Return an object's size; None when there is none."""
        ...

    def delete(self, name: str) -> None:
        """Remove an object."""
        ...


class _Named(Protocol):
    @property
    def name(self) -> str: ...


class BucketMirror:
    """Objects in a bucket. `versions` tells in words why the bucket keeps what is deleted; None when it does not."""

    delay = timedelta()
    place = None

    def __init__(self, name: str, objects: Objects, versions: Callable[[], str | None]) -> None:
        self._name = name
        self._objects = objects
        self._versions = versions

    @property
    def name(self) -> str:
        """Its name in guard.toml."""
        return self._name

    @property
    def where(self) -> str:
        """The bucket and prefix."""
        return self._objects.where

    def check(self) -> None:
        """Look whether the bucket answers and keeps no versions."""
        if (why := self._versions()) is not None:
            raise InterlockError(
                f"{self.where} {why}: what is deleted there stays readable",
                hint="give the vault a bucket that never had versioning",
            )

    def put(self, name: str, data: bytes, arn: str | None = None) -> None:  # noqa: ARG002  # names are all there is
        """Put an object on the condition that there is none."""
        self.check()
        if not self._objects.put_if_absent(name, data):
            raise TamperedError(f"{name} is in {self.where} already, and is another object")

    def get(self, name: str, arn: str | None = None) -> bytes | None:  # noqa: ARG002  # as in `put`
        """Return an object; None when there is none."""
        return None if self._objects.size(name) is None else self._objects.get(name)

    def names(self, prefix: str) -> frozenset[str]:
        """Return the names of the objects below `prefix`."""
        return frozenset(each.name for each in self._objects.list(prefix))

    def delete(self, name: str, arn: str | None = None) -> datetime | None:  # noqa: ARG002  # as in `put`
        """Remove an object, and look that it is gone. Raises InterlockError when the bucket would keep it."""
        self.check()
        self._objects.delete(name)
        if self._objects.size(name) is not None:
            raise UnavailableError(f"{name} is still in {self.where} after it was deleted", hint="try again")
        return None


def _half(path: Path) -> Path:
    return path.with_name(path.name + _HALF)


def _overwrite(path: Path) -> None:
    """Write zeros over a file, so that a disk that writes in place does not keep it."""
    handle = os.open(path, os.O_WRONLY | os.O_NOFOLLOW)
    try:
        found = os.fstat(handle)
        if S_ISREG(found.st_mode):
            os.pwrite(handle, bytes(found.st_size), 0)
            os.fsync(handle)
    finally:
        os.close(handle)


def _make_folders(root: Path, folder: Path) -> None:
    missing = []
    while folder != root and not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)
        sync_folder(each.parent)
