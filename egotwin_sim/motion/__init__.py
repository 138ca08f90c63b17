"""Skeleton, rotations, head-centric features, importers of motion capture."""

from egotwin_sim.motion.asf_amc import load_amc
from egotwin_sim.motion.bvh import load_bvh
from egotwin_sim.motion.chunks import chunk_features, compose_chunks
from egotwin_sim.motion.head_centric import (
    Layout,
    canonical_frame,
    decode,
    decode_pose,
    encode,
    head_pose,
    recanonicalise,
)
from egotwin_sim.motion.motion import Motion
from egotwin_sim.motion.retarget import Imported, ImportReport
from egotwin_sim.motion.skeleton import Skeleton
from egotwin_sim.motion.xsens import load_xsens

__all__ = [
    "ImportReport",
    "Imported",
    "Layout",
    "Motion",
    "Skeleton",
    "canonical_frame",
    "chunk_features",
    "compose_chunks",
    "decode",
    "decode_pose",
    "encode",
    "head_pose",
    "load_amc",
    "load_bvh",
    "load_xsens",
    "recanonicalise",
]
