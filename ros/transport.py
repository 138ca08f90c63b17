"""Large pictures and the transport: what is lost, when to say so, and the profile that delivers them."""

from __future__ import annotations

import os
from collections.abc import Callable

from .qos import BEST_EFFORT

PROFILE = "fastdds_large_images.xml"
# Fast DDS' shared memory segment by default. What does not fit goes out in fragments, and a best-effort reader loses
# the whole picture with any of them: of 512 x 512 rgb8 at 30 Hz, 4 of 180 arrived.
SEGMENT_BYTES = 512 * 1024
# Either variable makes room for large messages.
_REMEDIES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTDDS_BUILTIN_TRANSPORTS")


class LargeImageWarning:
    """Says once that a picture will not arrive.

    Args:
        reliability: of the topic, `reliable` or `best_effort`.
        warn: takes the text.
    """

    def __init__(self, reliability: str, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._silent = reliability != BEST_EFFORT or any(os.environ.get(name) for name in _REMEDIES)

    def check(self, topic: str, size: int) -> None:
        """Look at a picture of so many bytes."""
        if self._silent or size <= SEGMENT_BYTES:
            return
        self._silent = True
        self._warn(
            f"pictures on {topic} have {size} bytes, more than the {SEGMENT_BYTES} that the default transport takes at "
            "once, and go out best effort: most will be lost without a sign. Set image_qos to reliable, use the "
            f"compressed topic, or set FASTDDS_DEFAULT_PROFILES_FILE to {PROFILE} (the launch files do)"
        )
