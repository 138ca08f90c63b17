"""The body of a roll-out: where it is in the world, and what eight more frames of motion features do to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from egotwin_sim.errors import UserError
from egotwin_sim.motion import Motion, Skeleton, decode, encode
from egotwin_sim.motion.head_centric import Layout, canonical_frame, recanonicalise


@dataclass(frozen=True)
class BodyState:
    """The newest state of a body.

    Attributes:
        features: float32 (D,), head-centric, in its own canonical frame (head over the origin, heading zero).
        motion: the same pose in the world, one frame.
        T_world_canonical: float64 (4, 4), the canonical frame's pose in the world.
    """

    features: np.ndarray
    motion: Motion
    T_world_canonical: np.ndarray

    @classmethod
    def of(cls, motion: Motion) -> BodyState:
        """The state at the last frame of a motion; the frame before it, if any, gives the velocities."""
        features = encode(motion[-1:], previous=motion[-2:-1] if len(motion) > 1 else None)[0]
        return cls(features, motion[-1:], canonical_frame(motion[-1:].T_world_head())[0])

    @classmethod
    def from_pose(
        cls, pose: np.ndarray, skeleton: Skeleton, fps: float, T_world_canonical: np.ndarray | None = None
    ) -> BodyState:
        """An episode's start: the pose of a head-centric vector.

        The vector's changes and velocities are kept; its joint positions are computed again from the rotations.

        Args:
            pose: (D,), in any canonical frame.
            skeleton: the body.
            fps: motion frames per second.
            T_world_canonical: (4, 4), where in the world its canonical frame comes to lie; the identity without it.

        Raises:
            UserError: the vector has another width, is not finite, or holds no rotation.
        """
        pose = np.asarray(pose)
        layout = Layout(skeleton.num_joints)
        if pose.shape != (layout.dim,) or pose.dtype.kind not in "fiu":
            raise UserError(
                f"initial pose is {pose.dtype} {pose.shape}; expected float ({layout.dim},), a head-centric vector as "
                'in obs["motion"]'
            )
        if not np.isfinite(pose).all():
            raise UserError("initial pose holds NaN or infinity; expected finite numbers")
        frame = np.eye(4) if T_world_canonical is None else T_world_canonical
        motion = decode(recanonicalise(pose[None].astype(np.float32)), skeleton, fps, frame)
        features = encode(motion)[0]
        for part in (layout.head_rotation_change, layout.head_position_change, layout.joint_velocities):
            features[part] = pose[part]
        return cls(features, motion, frame)

    def advance(self, features: np.ndarray) -> tuple[BodyState, Motion, np.ndarray]:
        """Move on by one chunk.

        Args:
            features: (n, D), the coming states in this state's canonical frame. Only the pose is read; changes and
                velocities are computed again, so that the result is a body and not merely 282 numbers.

        Returns:
            The state after the chunk, its motion (n frames, world), and its features (n, D) in this state's
            canonical frame.
        """
        motion = decode(features, self.motion.skeleton, self.motion.fps, self.T_world_canonical)
        return self.moved(motion), motion, self.seen_from_here(motion)

    def moved(self, motion: Motion) -> BodyState:
        """The state at the end of a motion (n frames, world) that follows this state."""
        return BodyState.of(Motion.concatenate([self.motion, motion]))

    def seen_from_here(self, motion: Motion) -> np.ndarray:
        """Features (n, D) of the motion that follows this state, in this state's canonical frame."""
        return encode(Motion.concatenate([self.motion, motion]))[1:]
