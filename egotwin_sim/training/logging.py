"""Scalars of a run: JSON lines (the record) and TensorBoard (to look at)."""

from __future__ import annotations

import json
from pathlib import Path


class ScalarLog:
    """Writes `log.jsonl` and TensorBoard events in a run's folder.

    Lines of steps after `first_step` (written between the last checkpoint and a kill) are dropped, so a resumed run's
    record is that of an uninterrupted one.

    Args:
        directory: the run's folder.
        first_step: steps already finished; 0 for a new run.
    """

    def __init__(self, directory: Path, first_step: int = 0):
        from torch.utils.tensorboard import SummaryWriter

        self.path = directory / "log.jsonl"
        kept = []
        if first_step and self.path.exists():
            for line in self.path.read_text().splitlines():
                try:
                    record = json.loads(line)
                except json.JSONDecodeError:  # the line that the kill cut
                    continue
                if record["step"] <= first_step:
                    kept.append(line + "\n")
        self.path.write_text("".join(kept))
        self._file = self.path.open("a", buffering=1)
        self._board = SummaryWriter(str(directory / "tensorboard"), purge_step=first_step or None)

    def write(self, step: int, kind: str, scalars: dict[str, float]) -> None:
        """Record `scalars` (named values) of `kind` ("train" or "val") after `step` steps."""
        self._file.write(json.dumps({"step": step, "kind": kind, **scalars}) + "\n")
        for name, value in scalars.items():
            self._board.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        """Flush and close both."""
        self._file.close()
        self._board.close()


def read_log(directory: Path, kind: str) -> list[dict]:
    """The records of one kind in a run's `log.jsonl`, in order."""
    lines = (directory / "log.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == kind]
