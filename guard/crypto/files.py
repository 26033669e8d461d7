"""Secrets in files: written once with mode 0600, never over another file."""

import os
from pathlib import Path

from guard.errors import ConfigError, InterlockError


def write_new(path: Path, text: str) -> None:
    """Write `text` to a new file that only its owner may read, safe on disk when this returns.

    Raises InterlockError when the file exists, ConfigError when it cannot be written; then nothing is left of it.
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise InterlockError(f"{path} exists and is not overwritten", hint="move it away, or name another") from None
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from None
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        sync_folder(path.absolute().parent)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise ConfigError(f"cannot write {path}: {error.strerror}") from None
    except BaseException:  # Ctrl-C: half a secret would stand in the way of the next try
        path.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Flush a folder, so that the names in it outlive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
