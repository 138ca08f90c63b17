from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from egotwin_sim.body.reference import Reference, difference
from egotwin_sim.body.trajectory import RobotTrajectory, velocities
from egotwin_sim.errors import UserError
from egotwin_sim.motion.rotations import axis_angle_to_quat, slerp
from tests.body.motions import robot_model, walking

NAMES = ("a", "b")
BLEND = 0.15


def steady(seconds: float, start: float = 0.0, fps: float = 16.0, shift: float = 0.0) -> RobotTrajectory:
    """Moves along x at 1 m/s, turns about z at 2 rad/s, hinges at 0.5 and -0.5 rad/s; `start` seconds into that."""
    times = start + np.arange(round(seconds * fps) + 1) / fps
    qpos = np.zeros((len(times), 9))
    qpos[:, 0], qpos[:, 1] = times, shift
    qpos[:, 3:7] = axis_angle_to_quat(times[:, None] * [0.0, 0.0, 2.0])
    qpos[:, 7], qpos[:, 8] = 0.5 * times, -0.5 * times + shift
    return RobotTrajectory(qpos, np.tile([1.0, 0, 0, 0, 0, 2.0, 0.5, -0.5], (len(times), 1)), fps, NAMES)


def reference(*parts: RobotTrajectory) -> Reference:
    made = Reference(NAMES, steady(0.0).qpos[0], BLEND)
    for i, part in enumerate(parts):
        made.append(part, at=0.0 if i == 0 else None)
    return made


def test_steady_motion_is_linear_and_slerp_between_frames():
    given, made = steady(1.0), reference(steady(1.0))
    for share in (0.1, 0.5, 0.9):
        qpos, qvel = made.sample((4 + share) / 16.0)
        np.testing.assert_allclose(qpos[3:7], slerp(given.qpos[4, 3:7], given.qpos[5, 3:7], share), atol=1e-9)
        np.testing.assert_allclose(qpos[[0, 7, 8]], steady(1.0, share / 16.0).qpos[4, [0, 7, 8]], atol=1e-9)
        np.testing.assert_allclose(qvel, given.qvel[0], atol=1e-9)


def test_frames_are_met_and_velocity_is_the_derivative():
    given = walking()
    made = Reference(given.joint_names, given.qpos[0], BLEND)
    made.append(given, at=0.0)
    for frame in (3, 17, 30):
        qpos, qvel = made.sample(frame / given.fps)
        np.testing.assert_allclose(qpos, given.qpos[frame], atol=1e-9)
        np.testing.assert_allclose(qvel, given.qvel[frame], atol=1e-9)
    step = 1e-4
    for t in (1.01, 1.52, 2.03):
        (before, _), (_, speed, change), (after, _) = (
            made.sample(t - step), made.sample_with_acceleration(t), made.sample(t + step)
        )  # fmt: skip
        np.testing.assert_allclose(difference(before, after) / (2 * step), speed, atol=0.05)
        rate = (made.sample(t + step)[1] - made.sample(t - step)[1]) / (2 * step)
        np.testing.assert_allclose(rate, change, atol=1e-3)


def test_a_chunk_that_goes_on_is_not_changed():
    whole, parts = reference(steady(2.0)), reference(steady(1.0), steady(1.0 - 1 / 16, start=1.0 + 1 / 16))
    assert parts.end_time == pytest.approx(2.0)
    for t in np.linspace(0.0, 2.0, 41):
        for one, other in zip(whole.sample(t), parts.sample(t), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-9)


def test_chunks_of_one_walk_make_the_walk():
    given, frames = walking(), 8
    made = Reference(given.joint_names, given.qpos[0], BLEND)
    made.append(given, at=0.0)
    chunks = Reference(given.joint_names, given.qpos[0], BLEND)
    for start in range(0, len(given), frames):
        chunk = given[start : start + frames]
        qvel = velocities(robot_model().bare, chunk.qpos, given.fps)  # of the chunk alone
        chunks.append(replace(chunk, qvel=qvel), at=0.0 if start == 0 else None)
    off = [difference(made.sample(t)[0], chunks.sample(t)[0]) for t in np.arange(0.0, made.end_time, 0.01)]
    # What one chunk cannot know of its neighbours, radians and metres.
    assert np.abs(off).mean() < 1e-3 and np.abs(off).max() < 0.2


@pytest.mark.parametrize("at", [None, 0.5, 0.53])
def test_a_jump_fades_without_a_step(at):
    made = reference(steady(1.0))
    made.append(steady(1.0, start=1.0 + 1 / 16 if at is None else at, shift=0.2), at=at)
    times = np.arange(0.0, 1.4, 1 / 300)
    samples = [made.sample(t) for t in times]
    steps = np.array([difference(a[0], b[0]) for a, b in zip(samples, samples[1:], strict=False)])
    speeds = np.array([speed for _, speed in samples])
    assert np.abs(steps).max() < 1.5 * np.abs(speeds).max() / 300  # continuous, and the velocity is that of the steps
    seam = 1.0 + 1 / 16 if at is None else at
    assert samples[int(seam * 300) - 20][0][1] == pytest.approx(0.0, abs=1e-6)
    assert made.sample(seam + BLEND + 1 / 16)[0][1] == pytest.approx(0.2, abs=1e-6)
    if at is not None:  # within the old reference the velocity is continuous as well
        assert np.abs(np.diff(speeds, axis=0)).max() < 0.5


def test_beyond_its_end_it_holds_and_says_so():
    made = reference(steady(1.0))
    assert not made.underrun(1.0) and made.underrun(1.1)
    qpos, qvel = made.sample(3.0)
    np.testing.assert_allclose(qpos, steady(1.0).qpos[-1], atol=1e-12)
    assert not qvel.any()
    made.append(steady(1.0, start=1.0, shift=0.1))  # too late for 1.06 s: it begins now
    assert made.end_time == pytest.approx(4.0)
    np.testing.assert_allclose(made.sample(3.0)[0], qpos, atol=1e-9)


def test_a_gap_is_bridged():
    made = reference()
    made.append(steady(1.0, shift=0.3), at=0.5)
    heights = np.array([made.sample(t)[0][1] for t in np.linspace(0.0, 0.5, 51)])
    assert heights[0] == 0.0 and heights[-1] == pytest.approx(0.3) and (np.diff(heights) >= -1e-9).all()


def test_the_past_cannot_be_changed():
    made = reference(steady(2.0))
    made.sample(1.0)
    with pytest.raises(UserError, match="begins at 0.500 s, and it is 1.000 s already"):
        made.append(steady(1.0), at=0.5)
    with pytest.raises(UserError, match="begins at nan"):
        made.append(steady(1.0), at=float("nan"))
    made.append(steady(1.0, start=1.0), at=1.0)
    made.append(steady(1.0, start=2.0), at=2.0)
    with pytest.raises(UserError, match="known from"):
        made.sample(0.2)


def test_another_body_is_refused_and_another_order_is_not():
    made = reference(steady(1.0))
    with pytest.raises(UserError, match="another body"):
        made.append(replace(steady(1.0), joint_names=("a", "c")))
    given = steady(1.0, start=1.0 + 1 / 16)
    made.append(given.for_joints(("b", "a")))
    np.testing.assert_allclose(made.sample(1.5)[0][7:], [0.75, -0.75], atol=1e-9)


def test_cleared_reference_holds_a_pose():
    made = reference(steady(1.0))
    pose = steady(1.0).qpos[7]
    made.clear(pose, 5.0)
    np.testing.assert_array_equal(made.sample(6.0)[0], pose)
    with pytest.raises(UserError, match="pose to hold"):
        made.clear(robot_model().standing, 6.0)


def test_a_large_jump_takes_its_time():
    """Two metres do not happen within the 0.15 s of a seam, nor is the end of what was asked for missed."""
    made = reference(steady(1.0))
    made.append(steady(2.0, start=0.5, shift=2.0), at=0.5)
    times = np.arange(0.5, 2.5, 1 / 300)
    samples = [made.sample(t)[0] for t in times]
    speeds = np.array([np.abs(difference(a, b)).max() * 300 for a, b in zip(samples, samples[1:], strict=False)])
    assert speeds.max() < 4.5
    wanted = reference(steady(2.0, start=0.5, shift=2.0))
    np.testing.assert_allclose(samples[-1], wanted.sample(times[-1] - 0.5)[0], atol=1e-6)
