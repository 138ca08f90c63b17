"""Errors of the disk, told to the user in one line."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from egotwin_sim.errors import UserError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def writing(path: Path, remedy: str = "free some space and try again") -> Iterator[None]:
    """Turn a full or read-only disk into a `UserError`; every other error passes.

    Args:
        path: what is being written, for the message.
        remedy: what to do when the disk is full.

    Raises:
        UserError: the disk is full or may not be written to.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise UserError(f"the disk is full while writing {path}: {remedy}") from error
        if error.errno in _REFUSED:
            raise UserError(f"cannot write {path} ({error.strerror}): choose a folder that you may write to") from error
        raise
