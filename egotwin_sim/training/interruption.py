"""Ctrl-C and SIGTERM while training: the step is finished, a checkpoint is written, then the process leaves."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType
from typing import Any

from egotwin_sim.training.processes import processes

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Within the block a first Ctrl-C or SIGTERM is a wish, and the second Ctrl-C of a lone process takes effect.

    `torchrun` hands the terminal's Ctrl-C on, so its processes get it twice: they take the second for the first.

    Attributes:
        wanted: the signal that came, 0 before.
    """

    def __init__(self) -> None:
        self.wanted = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and processes().count > 1:
            return  # `torchrun` sends SIGTERM to all when one has failed, and this one has yet to say what it met
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.wanted and processes().count == 1:
            signal.default_int_handler(number, frame)
        self.wanted = self.wanted or number

    def told(self) -> list[float]:
        """For each of ``SIGNALS`` whether it came to this process: 1 or 0."""
        return [float(self.wanted == number) for number in SIGNALS]

    def leave(self, signals: Sequence[float], step: int, tell: bool) -> None:
        """End the run after ``step`` steps, whose checkpoint is written; ``tell`` says so on stderr.

        Args:
            signals: as ``told``, over all processes.
            step: steps that are finished.
            tell: whether to say so on stderr.

        Raises:
            SystemExit: it was SIGTERM, with the status that a shell reports for it.
            KeyboardInterrupt: it was Ctrl-C.
        """
        if tell:
            print(f"stopped after step {step}, which is saved; go on with --resume", file=sys.stderr)
        if signals[SIGNALS.index(signal.SIGTERM)]:
            raise SystemExit(128 + signal.SIGTERM)
        raise KeyboardInterrupt
