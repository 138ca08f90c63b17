"""The skeleton: 22 SMPL-X body joint names with our own anthropometric rest offsets."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

# Rest pose: T-pose, facing +x, left is +y, up is +z; metres, for a stature of 1.75 m. Segment lengths follow
# the stature fractions of Drillis and Contini (1966); the offsets are ours, not those of a licensed body model.
_JOINTS: tuple[tuple[str, str | None, tuple[float, float, float]], ...] = (
    ("pelvis", None, (0.0, 0.0, 0.0)),
    ("left_hip", "pelvis", (0.0, 0.090, -0.045)),
    ("right_hip", "pelvis", (0.0, -0.090, -0.045)),
    ("spine1", "pelvis", (0.0, 0.0, 0.110)),
    ("left_knee", "left_hip", (0.0, 0.0, -0.415)),
    ("right_knee", "right_hip", (0.0, 0.0, -0.415)),
    ("spine2", "spine1", (0.0, 0.0, 0.130)),
    ("left_ankle", "left_knee", (0.0, 0.0, -0.415)),
    ("right_ankle", "right_knee", (0.0, 0.0, -0.415)),
    ("spine3", "spine2", (0.0, 0.0, 0.100)),
    ("left_foot", "left_ankle", (0.130, 0.0, -0.050)),
    ("right_foot", "right_ankle", (0.130, 0.0, -0.050)),
    ("neck", "spine3", (0.0, 0.0, 0.170)),
    ("left_collar", "spine3", (0.0, 0.060, 0.110)),
    ("right_collar", "spine3", (0.0, -0.060, 0.110)),
    ("head", "neck", (0.010, 0.0, 0.090)),
    ("left_shoulder", "left_collar", (0.0, 0.125, 0.0)),
    ("right_shoulder", "right_collar", (0.0, -0.125, 0.0)),
    ("left_elbow", "left_shoulder", (0.0, 0.290, 0.0)),
    ("right_elbow", "right_shoulder", (0.0, -0.290, 0.0)),
    ("left_wrist", "left_elbow", (0.0, 0.260, 0.0)),
    ("right_wrist", "right_elbow", (0.0, -0.260, 0.0)),
)


@dataclass(frozen=True)
class Skeleton:
    """Joint names, parents and rest offsets of a body in its T-pose.

    Attributes:
        names: J joint names; the root comes first and every parent before its children.
        parents: (J,) index of each parent, -1 for the root.
        offsets: float64 (J, 3), metres, from the parent's origin in the parent's rest frame. All joint frames are
            aligned with the world in the rest pose (x forward, y left, z up).
        head_offset: float64 (3,), metres, from the head joint to the point between the eyes (the head frame's
            origin), in the head joint's frame. The head frame has the head joint's orientation.
        foot_height: metres from the ankle joint to the sole in the rest pose.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    offsets: np.ndarray
    head_offset: np.ndarray = field(default_factory=lambda: np.array([0.085, 0.0, 0.075]))
    foot_height: float = 0.075

    @cached_property
    def index(self) -> dict[str, int]:
        """Joint index by name."""
        return {name: i for i, name in enumerate(self.names)}

    @property
    def num_joints(self) -> int:
        """J."""
        return len(self.names)

    @cached_property
    def head_chain(self) -> tuple[int, ...]:
        """Joint indices from the root to the head, both included."""
        chain, joint = [], self.index["head"]
        while joint >= 0:
            chain.append(joint)
            joint = self.parents[joint]
        return tuple(reversed(chain))

    @cached_property
    def rest_root_height(self) -> float:
        """Height of the root above the floor when the body stands in the rest pose, metres."""
        height, joint = 0.0, self.index["left_ankle"]
        while joint > 0:
            height -= float(self.offsets[joint, 2])
            joint = self.parents[joint]
        return height + self.foot_height

    @classmethod
    def default(cls, stature: float = 1.75) -> Skeleton:
        """The project's own body, scaled to a stature in metres."""
        names = tuple(name for name, _, _ in _JOINTS)
        scale = stature / 1.75
        return cls(
            names=names,
            parents=tuple(-1 if parent is None else names.index(parent) for _, parent, _ in _JOINTS),
            offsets=np.array([offset for _, _, offset in _JOINTS]) * scale,
            head_offset=np.array([0.085, 0.0, 0.075]) * scale,
            foot_height=0.075 * scale,
        )
