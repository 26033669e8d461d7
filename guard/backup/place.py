"""Give a finished file its name, and make that last."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

_NO_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


def name_if_free(half: Path, path: Path) -> bool:
    """Give `half` the name `path` and return True; False, and `half` stays, when the name is taken.

    Atomic by a hard link; file systems without them are asked first and renamed then.
    """
    try:
        os.link(half, path, follow_symlinks=False)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(path):
            return False
        half.rename(path)
    else:
        half.unlink()
    return True


def sync_folder(folder: Path) -> None:
    """Flush a folder, so that the names in it outlive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
