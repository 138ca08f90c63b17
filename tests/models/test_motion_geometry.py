"""The torch twins against the numpy originals."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from egotwin_sim import motion as reference
from egotwin_sim.models import motion_geometry as ours
from egotwin_sim.motion import Motion, Skeleton
from egotwin_sim.motion.rotations import axis_angle_to_matrix, axis_angle_to_quat

RNG = np.random.default_rng(0)


def random_motion(frames: int = 9) -> Motion:
    return Motion(RNG.normal(size=(frames, 3)), axis_angle_to_quat(RNG.normal(size=(frames, 22, 3))))


def close(found: torch.Tensor, expected: np.ndarray, atol: float = 1e-5) -> None:
    np.testing.assert_allclose(found.numpy(), expected, atol=atol)


def test_head_pose_and_joint_positions() -> None:
    motion = random_motion()
    features = torch.from_numpy(reference.encode(motion))
    close(ours.head_pose(features), reference.head_pose(features.numpy()))
    position, _ = reference.decode(features.numpy()).joint_transforms()
    close(ours.joint_positions(features, Skeleton.default()), position, atol=1e-4)


@pytest.mark.parametrize("pitch", [0.0, 1.0, np.pi / 2, -np.pi / 2, np.pi / 2 + 0.05, 2.0])
def test_canonical_frame_at_every_pitch(pitch: float) -> None:
    pose = np.tile(np.eye(4), (50, 1, 1))
    yaw, roll = axis_angle_to_matrix(RNG.normal(size=(50, 1)) * [0, 0, 3]), axis_angle_to_matrix([0.1, 0, 0])
    pose[:, :3, :3] = yaw @ axis_angle_to_matrix(np.array([0, pitch, 0])) @ roll
    pose[:, :3, 3] = RNG.normal(size=(50, 3))
    close(ours.canonical_frame(torch.from_numpy(pose)), reference.canonical_frame(pose))


def test_moving_features_into_a_frame_of_their_own() -> None:
    features = torch.from_numpy(reference.encode(random_motion()))
    pose = ours.head_pose(features)
    moved = ours.move_features(features, ours.invert(ours.canonical_frame(pose[4])))
    close(moved, reference.recanonicalise(features.numpy(), 4))


def test_invert() -> None:
    pose = ours.head_pose(torch.from_numpy(reference.encode(random_motion())))
    torch.testing.assert_close(ours.invert(pose) @ pose, torch.eye(4).expand(9, 4, 4), atol=1e-5, rtol=0)


def test_consistent_state_is_what_encoding_the_decoded_motion_gives() -> None:
    features = reference.encode(random_motion())
    noisy = features + 0.05 * RNG.normal(size=features.shape).astype(np.float32)
    again = reference.recanonicalise(reference.encode(reference.decode(noisy)), 8)
    state = ours.consistent_state(*torch.from_numpy(noisy[None, 7:9]).unbind(1), Skeleton.default(), 16.0)
    close(state[0], again[8], atol=2e-3)
