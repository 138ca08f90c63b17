"""A clip's motion as table columns, one row per video frame, and back without loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from egotwin_sim.motion import Layout, Motion, Skeleton, encode

VIDEO = "observation.images.ego"
DEPTH = "depth.ego"
STATE = "observation.state"
ACTION = "action"
ROOT_POSITION = "motion.root_position"
JOINT_QUAT = "motion.joint_quat_wxyz"


@dataclass(frozen=True)
class Column:
    """One numeric column.

    Attributes:
        dtype: "float32" or "int64".
        width: numbers per row; 1 is a plain scalar column.
        names: a name for each number, or None.
    """

    dtype: str
    width: int
    names: tuple[str, ...] | None = None

    def to_feature(self) -> dict[str, object]:
        """The entry in `features` of info.json."""
        return {"dtype": self.dtype, "shape": [self.width], "names": list(self.names) if self.names else None}


INDEX_COLUMNS: dict[str, Column] = {
    "timestamp": Column("float32", 1),
    "frame_index": Column("int64", 1),
    "episode_index": Column("int64", 1),
    "index": Column("int64", 1),
    "task_index": Column("int64", 1),
}


def motion_columns(skeleton: Skeleton, motion_per_frame: int) -> dict[str, Column]:
    """The columns that `motion_to_rows` fills.

    `observation.state` is the head-centric state at the video frame in the clip's canonical frame; `action` the
    states of the motion frames that follow, up to and with the next video frame's; `motion.*` the raw motion frames
    from this video frame up to the next.
    """
    layout, n = Layout(skeleton.num_joints), motion_per_frame
    state = [f"{name}.{i}" for name, part in layout.slices.items() for i in range(part.stop - part.start)]
    quat = [f"{joint}.{axis}" for joint in skeleton.names for axis in "wxyz"]
    return {
        STATE: Column("float32", layout.dim, tuple(state)),
        ACTION: Column("float32", n * layout.dim, _repeated(state, n)),
        ROOT_POSITION: Column("float32", 3 * n, _repeated(list("xyz"), n)),
        JOINT_QUAT: Column("float32", 4 * skeleton.num_joints * n, _repeated(quat, n)),
    }


def _repeated(names: list[str], times: int) -> tuple[str, ...]:
    return tuple(f"frame{k}.{name}" for k in range(times) for name in names)


def motion_to_rows(motion: Motion, motion_per_frame: int) -> dict[str, np.ndarray]:
    """Rows of the columns of `motion_columns`, float32 (T_v, width), for 1 + motion_per_frame (T_v - 1) frames.

    What would lie beyond the last frame repeats it.
    """
    n = motion_per_frame
    rows = (len(motion) - 1) // n + 1
    last = len(motion) - 1
    now = np.minimum(np.arange(rows * n), last)
    features = encode(motion)
    return {
        STATE: features[::n],
        ACTION: features[np.minimum(now + 1, last)].reshape(rows, -1),
        ROOT_POSITION: motion.root_position[now].reshape(rows, -1),
        JOINT_QUAT: motion.joint_quat_wxyz[now].reshape(rows, -1),
    }


def rows_to_motion(
    rows: Mapping[str, np.ndarray], motion_per_frame: int, skeleton: Skeleton, motion_fps: float
) -> Motion:
    """The motion of consecutive rows, bit for bit: up to the last row's video frame."""
    root = rows[ROOT_POSITION].reshape(-1, 3)
    quat = rows[JOINT_QUAT].reshape(-1, skeleton.num_joints, 4)
    frames = len(root) - motion_per_frame + 1
    return Motion(root[:frames], quat[:frames], skeleton, motion_fps)


def skeleton_to_json(skeleton: Skeleton) -> dict[str, object]:
    """Plain values; `skeleton_from_json` gives the same skeleton back."""
    return {
        "names": list(skeleton.names),
        "parents": list(skeleton.parents),
        "offsets": skeleton.offsets.tolist(),
        "head_offset": skeleton.head_offset.tolist(),
        "foot_height": skeleton.foot_height,
    }


def skeleton_from_json(value: Mapping[str, object]) -> Skeleton:
    """The inverse of `skeleton_to_json`."""
    return Skeleton(
        names=tuple(value["names"]),  # type: ignore[arg-type]
        parents=tuple(value["parents"]),  # type: ignore[arg-type]
        offsets=np.array(value["offsets"], dtype=np.float64),
        head_offset=np.array(value["head_offset"], dtype=np.float64),
        foot_height=float(value["foot_height"]),  # type: ignore[arg-type]
    )
