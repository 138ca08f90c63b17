"""TransErr and RotErr on trajectories whose answer is known, and what becomes of clips that cannot be judged."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from egotwin_sim.data import Camera, Clip
from egotwin_sim.errors import UserError
from egotwin_sim.metrics.consistency import (
    LEAST_EXTENT,
    GeneratedClip,
    camera_trajectory,
    consistency_report,
    judge_trajectory,
    summarise,
)
from egotwin_sim.metrics.hand_detector import CalledHands
from egotwin_sim.metrics.trajectory import Trajectory
from egotwin_sim.motion import Motion, Skeleton
from egotwin_sim.motion.rotations import axis_angle_to_matrix

R_HEAD_CAMERA = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
Walk = Callable[..., np.ndarray]


def moved(poses: np.ndarray, scale: float) -> np.ndarray:
    """The poses in another world, at another scale."""
    world = np.eye(4)
    world[:3, :3], world[:3, 3] = axis_angle_to_matrix(np.array([0.3, 2.0, -0.7])), [4.0, -1.0, 9.0]
    other = world @ poses
    other[:, :3, 3] *= scale
    return other


@pytest.mark.parametrize("scale", [0.1, 1.0, 12.0])
def test_the_world_and_the_scale_do_not_matter(walk: Walk, scale: float) -> None:
    judged = judge_trajectory(Trajectory.of(moved(walk(), scale), 8.0), walk(), metric=False, name="a")
    assert judged.recovered and not judged.still and judged.registered == 1.0
    assert judged.trans_err_m == pytest.approx(0.0, abs=1e-9) and judged.rot_err == pytest.approx(0.0, abs=1e-6)
    assert judged.scale == pytest.approx(1 / scale)
    assert judged.metric_trans_err_m is None


def test_in_metres_the_scale_does_matter(walk: Walk) -> None:
    judged = judge_trajectory(Trajectory.of(moved(walk(), 1.2), 8.0), walk(), metric=True)
    assert judged.trans_err_m == pytest.approx(0.0, abs=1e-9)
    away = np.linalg.norm(walk()[:, :3, 3] - walk()[:, :3, 3].mean(axis=0), axis=-1).mean()
    assert judged.metric_trans_err_m == pytest.approx(0.2 * away, rel=1e-9)


def test_rotation_errors_by_hand(walk: Walk) -> None:
    poses = walk(40)
    # Half the frames are turned by +6, half by -6 degrees about the camera's own axis: 6 degrees from their mean.
    wobble = axis_angle_to_matrix(np.deg2rad(6.0) * np.where(np.arange(40) % 2, 1, -1)[:, None] * [0, 0, 1.0])
    told = poses.copy()
    told[:, :3, :3] = poses[:, :3, :3] @ wobble
    judged = judge_trajectory(Trajectory.of(moved(told, 3.0), 8.0), poses, metric=False)
    assert judged.rot_err == pytest.approx(np.deg2rad(6.0), rel=0.01)
    assert judged.trans_err_m == pytest.approx(0.0, abs=1e-9)


def test_translation_noise_is_found_again(walk: Walk, rng: np.random.Generator) -> None:
    told = walk()
    noise = 0.03 * rng.normal(size=(41, 3))
    told[:, :3, 3] += noise
    judged = judge_trajectory(Trajectory.of(moved(told, 0.5), 8.0), walk(), metric=False)
    # Seven parameters are fitted to 123 numbers, so a little less than the noise is left.
    assert judged.trans_err_m == pytest.approx(np.linalg.norm(noise, axis=-1).mean(), rel=0.1)


def test_a_straight_walk_has_a_rotation_error_all_the_same(walk: Walk) -> None:
    poses = walk()
    poses[:, :3, 3] = np.linspace(0, 2, 41)[:, None] * [1.0, 0, 0]
    judged = judge_trajectory(Trajectory.of(moved(poses, 2.0), 8.0), poses, metric=True)
    assert judged.rot_err == pytest.approx(0.0, abs=1e-6) and judged.trans_err_m == pytest.approx(0.0, abs=1e-9)


def test_a_still_clip_is_judged_by_its_rotations(walk: Walk, rng: np.random.Generator) -> None:
    poses = walk(length=0.9 * LEAST_EXTENT)
    told = moved(poses, 1.0)
    judged = judge_trajectory(Trajectory.of(told, 8.0), poses, metric=True)
    assert judged.still and judged.extent_m < LEAST_EXTENT
    assert judged.trans_err_m is None and judged.scale is None
    assert judged.rot_err == pytest.approx(0.0, abs=1e-6)
    assert judged.metric_trans_err_m == pytest.approx(0.0, abs=1e-9)
    # A still body and a video that flies through the room: metres tell, the free scale could not.
    flying = poses.copy()
    flying[:, :3, 3] += np.linspace(0, 2, 41)[:, None] * [0, 1.0, 0]
    judged = judge_trajectory(Trajectory.of(flying, 8.0), poses, metric=True)
    assert judged.trans_err_m is None and judged.metric_trans_err_m is not None and judged.metric_trans_err_m > 0.4


def test_a_frozen_video_of_a_walk_is_wrong_by_the_walk(walk: Walk) -> None:
    told = np.tile(np.eye(4), (41, 1, 1))
    judged = judge_trajectory(Trajectory.of(told, 8.0), walk(), metric=True)
    away = np.linalg.norm(walk()[:, :3, 3] - walk()[:, :3, 3].mean(axis=0), axis=-1).mean()
    assert judged.trans_err_m == judged.metric_trans_err_m == pytest.approx(away)
    assert judged.rot_err is not None and judged.rot_err > 0.1 and judged.scale is None


@pytest.mark.parametrize(("frames", "recovered"), [(0, False), (2, False), (20, False), (21, True), (41, True)])
def test_too_little_recovered_is_no_error_of_zero(walk: Walk, frames: int, recovered: bool) -> None:
    found = Trajectory(np.arange(41) / 8, walk(), np.arange(41) < frames)
    judged = judge_trajectory(found, walk(), metric=True)
    assert judged.recovered == recovered and judged.registered == pytest.approx(frames / 41)
    figures = (judged.trans_err_m, judged.metric_trans_err_m, judged.rot_err, judged.scale)
    assert all((figure is not None) == recovered for figure in figures)


def test_lengths_must_agree(walk: Walk) -> None:
    with pytest.raises(UserError, match="of one clip"):
        judge_trajectory(Trajectory.of(walk(20), 8.0), walk(), metric=False)


def test_interval_and_median() -> None:
    summary = summarise([None, 1.0, 2.0, 3.0, None, 10.0])
    assert summary is not None and summary.count == 4
    assert summary.mean == pytest.approx(4.0) and summary.median == pytest.approx(2.5)
    assert 1.0 <= summary.low < 4.0 < summary.high <= 10.0
    assert summarise([None, None]) is None
    single = summarise([2.0])
    assert single is not None and single.low == single.high == 2.0
    # Of a normal distribution the interval is that of the textbook: 1.96 standard errors either way.
    values = np.random.Generator(np.random.PCG64(0)).normal(size=400)
    many = summarise(list(values))
    assert many is not None
    assert many.high - many.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


class Scripted:
    """A recovery that gives the trajectories it was made with, by the clip's name."""

    name, metric = "scripted", True

    def __init__(self, found: dict[str, Trajectory]) -> None:
        self.found = found

    def recover(self, frames: np.ndarray, camera: Camera, fps: float, clip: str = "") -> Trajectory:
        return self.found[clip]


@pytest.fixture
def clips(walk: Walk) -> list[GeneratedClip]:
    """Five clips of a stiff body whose head walks, and one whose head stands."""
    skeleton = Skeleton.default()
    T_head_camera = np.eye(4)
    T_head_camera[:3, :3], T_head_camera[:3, 3] = R_HEAD_CAMERA, [0.1, 0.0, 0.02]
    camera = Camera.from_fovy(np.pi / 2, 16, 16, T_head_camera)
    quat = np.zeros((17, skeleton.num_joints, 4))
    quat[..., 0] = 1.0
    made = []
    for n in range(6):
        root = np.zeros((17, 3))
        root[:, 0] = 0.2 * np.arange(17) * (n != 5)
        root[:, 2] = skeleton.rest_root_height
        made.append(GeneratedClip(np.zeros((9, 16, 16, 3), np.uint8), Motion(root, quat), camera, 8.0, str(n)))
    return made


def test_the_camera_rides_on_the_head(clips: list[GeneratedClip]) -> None:
    poses = camera_trajectory(clips[0])
    head = clips[0].motion.T_world_head()[::2]
    np.testing.assert_allclose(poses[:, :3, 3], head[:, :3, 3] + [0.1, 0.0, 0.02])
    np.testing.assert_allclose(poses[:, :3, 2], np.tile([1.0, 0, 0], (9, 1)), atol=1e-12)  # it looks forward


def test_a_report_of_a_set(clips: list[GeneratedClip]) -> None:
    found = {clip.name: Trajectory.of(moved(camera_trajectory(clip), 1.0), 8.0) for clip in clips}
    found["1"] = Trajectory.lost(9, 8.0)
    truth = camera_trajectory(clips[2])
    found["2"] = Trajectory(np.arange(9) / 8, truth, np.arange(9) < 6, inliers=0.8)
    steps: list[tuple[int, int]] = []
    report = consistency_report(
        clips,
        Scripted(found),
        CalledHands(lambda frames: np.ones(len(frames), bool), "always"),
        progress=lambda done, total: steps.append((done, total)),
    )
    assert report.recovery == "scripted" and report.metric and report.clips == 6
    assert report.recovered_share == pytest.approx(5 / 6)
    assert report.registered == pytest.approx((4 + 6 / 9) / 6)
    assert report.inliers == pytest.approx(0.8) and report.still_share == pytest.approx(1 / 6)
    assert report.trans_err_m is not None and report.trans_err_m.count == 4  # one is lost, one is still
    assert report.metric_trans_err_m is not None and report.metric_trans_err_m.count == 5
    assert report.rot_err is not None and report.rot_err.count == 5 and report.rot_err.mean < 1e-6
    assert report.rot_err_deg is not None
    assert report.hands is not None and report.hands.frames == 54 and report.hands.seen == 1.0
    assert report.detector == "always" and [each.name for each in report.per_clip] == list("012345")
    assert steps[-1] == (6, 6)
    assert report.to_json()["per_clip"][1]["rot_err"] is None


def test_nothing_recovered_at_all(clips: list[GeneratedClip]) -> None:
    report = consistency_report(clips, Scripted({clip.name: Trajectory.lost(9, 8.0) for clip in clips}))
    assert report.recovered_share == 0.0 and report.registered == 0.0 and report.inliers is None
    assert report.trans_err_m is report.metric_trans_err_m is report.rot_err is report.rot_err_deg is None
    assert report.hands is None and report.detector is None


def test_refusals(clips: list[GeneratedClip]) -> None:
    recovery = Scripted({})
    with pytest.raises(UserError, match="no clips"):
        consistency_report([], recovery)
    first = clips[0]
    video = GeneratedClip(first.video.astype(np.float32), first.motion, first.camera)
    with pytest.raises(UserError, match="uint8"):
        consistency_report([video], recovery)
    short = GeneratedClip(first.video, first.motion[:9], first.camera, 8.0, "0")
    recovery.found["0"] = Trajectory.lost(9, 8.0)
    with pytest.raises(UserError, match="reaches 5 video frames, the video has 9"):
        consistency_report([short], recovery)
    slow = GeneratedClip(first.video, Motion(first.motion.root_position, first.motion.joint_quat_wxyz, fps=12.0),
                         first.camera, 8.0, "0")  # fmt: skip
    with pytest.raises(UserError, match="whole multiple"):
        consistency_report([slow], recovery)


def test_a_clip_of_the_data_is_a_clip_to_be_judged(clips: list[GeneratedClip]) -> None:
    first = clips[0]
    clip = Clip(first.video, first.motion, "walks", first.camera)
    judged = GeneratedClip(clip.video, clip.motion, clip.camera, clip.fps)
    np.testing.assert_array_equal(camera_trajectory(judged), camera_trajectory(first))
