"""How much memory this process holds."""

from __future__ import annotations

import os
from pathlib import Path

from egotwin_sim.errors import UserError

STATM = Path("/proc/self/statm")


def resident_bytes() -> int:
    """Resident set size of this process, bytes.

    Raises:
        UserError: the system has no /proc.
    """
    if not STATM.is_file():
        raise UserError("resident memory is read from /proc, which this system has not: measure on Linux")
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
