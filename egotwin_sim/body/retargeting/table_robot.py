"""A humanoid that follows our motions by a retarget table."""

from __future__ import annotations

from dataclasses import dataclass

from egotwin_sim.body.retargeting.table import RetargetTable
from egotwin_sim.body.robot import Robot


@dataclass(frozen=True, eq=False, kw_only=True)
class TableRobot(Robot):
    """A humanoid with its retarget table.

    Attributes:
        table: how it follows our skeleton.
    """

    table: RetargetTable
