"""From motions of our skeleton to trajectories of a robot: exact for our body, inverse kinematics for others."""

from egotwin_sim.body.retargeting.exact import ExactRetargeter
from egotwin_sim.body.retargeting.mink_retargeter import MinkRetargeter, SolverConfig
from egotwin_sim.body.retargeting.retargeter import Retargeter, retargeter_for
from egotwin_sim.body.retargeting.table import RetargetTable, load_table, table_names

__all__ = [
    "ExactRetargeter",
    "MinkRetargeter",
    "RetargetTable",
    "Retargeter",
    "SolverConfig",
    "load_table",
    "retargeter_for",
    "table_names",
]
