"""The `chunk` canonical form."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egotwin_sim.errors import UserError
from egotwin_sim.motion import (
    Layout,
    canonical_frame,
    chunk_features,
    compose_chunks,
    encode,
    head_pose,
    recanonicalise,
)
from egotwin_sim.motion.rotations import rotation_angle, yaw_of


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1000),
    yaw=st.floats(-10.0, 10.0),
    shift=st.tuples(st.floats(-50, 50), st.floats(-50, 50)),
)
def test_chunk_features_do_not_change_when_the_world_is_turned_and_shifted(walking_motion, seed, yaw, shift):
    motion = walking_motion(seed, 33)
    moved = motion.transformed(yaw, (*shift, 0.0))
    np.testing.assert_allclose(chunk_features(moved), chunk_features(motion), atol=5e-4)


def test_120_composed_chunks_follow_the_world_trajectory(walking_motion):
    motion = walking_motion(1, 961).transformed(2.0, (4.0, -7.0, 0.0))
    chunks = chunk_features(motion)
    assert chunks.shape == (120, 9, 282) and chunks.dtype == np.float32
    composed = compose_chunks(chunks, canonical_frame(motion.T_world_head()[0]))
    assert len(composed) == 961
    ours, theirs = composed.joint_transforms(), motion.joint_transforms()
    assert np.abs(ours[0] - theirs[0]).max() < 1e-3
    assert rotation_angle(ours[1], theirs[1]).max() < 1e-4


def test_every_chunk_starts_over_its_own_origin(walking_motion):
    chunks = chunk_features(walking_motion(2, 81))
    first = head_pose(chunks[:, 0])
    np.testing.assert_allclose(first[:, :2, 3], 0.0, atol=1e-5)
    np.testing.assert_allclose(yaw_of(first[:, :3, :3]), 0.0, atol=1e-5)


def test_a_chunk_starts_from_the_last_state_of_the_one_before(walking_motion):
    chunks = chunk_features(walking_motion(3, 41))
    for before, after in zip(chunks, chunks[1:], strict=False):
        np.testing.assert_allclose(recanonicalise(before, -1)[-1], after[0], atol=1e-5)


def test_velocities_across_the_seam_are_the_true_ones(walking_motion):
    motion, layout = walking_motion(4, 25), Layout(22)
    whole, chunks = encode(motion), chunk_features(motion)
    for part in (layout.head_position_change, layout.head_rotation_change, layout.joint_velocities):
        np.testing.assert_array_equal(chunks[1, 0, part], whole[8, part])
        assert np.abs(whole[8, part]).max() > 0
    later = chunk_features(motion[8:], previous=motion[:8])
    np.testing.assert_allclose(later, chunks[1:], atol=1e-5)


def test_the_number_of_frames_must_fit(walking_motion):
    with pytest.raises(UserError, match="has 80 frames; expected 1 \\+ 8 K .* cut it to 73"):
        chunk_features(walking_motion(5, 80))
    with pytest.raises(UserError, match="1 frames"):
        chunk_features(walking_motion(5, 1))
    assert chunk_features(walking_motion(5, 13), frames_per_chunk=4).shape == (3, 5, 282)
    with pytest.raises(UserError, match="expected \\(K, n \\+ 1, D\\)"):
        compose_chunks(encode(walking_motion(5, 9)))
