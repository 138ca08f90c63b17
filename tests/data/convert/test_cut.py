"""What any source gives becomes clips of one length, rate and body, and is refused where it does not suffice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from egotwin_sim.data import Camera
from egotwin_sim.data.convert.cut import (
    CutConfig,
    cut,
    motion_between,
    nearest_frames,
    on_default_body,
    parse_size,
    picture_times,
    pieces,
    rate_note,
)
from egotwin_sim.data.convert.source import ClipRef, SourceClip
from egotwin_sim.errors import UserError
from egotwin_sim.motion import Motion, Skeleton
from egotwin_sim.motion.motion import default_skeleton
from egotwin_sim.motion.retarget import sole_heights
from egotwin_sim.motion.rotations import axis_angle_to_quat


def test_a_long_stretch_becomes_clips_one_behind_the_other() -> None:
    found = pieces(ClipRef("a", 3.0, 14.0, "walks"), 5.0)
    assert [(each.start_s, each.end_s, each.text) for each in found] == [(3.0, 8.0, "walks"), (8.0, 13.0, "walks")]
    assert len(pieces(ClipRef("a", 0.1, 0.1 + 3 * 0.7, "x"), 0.7)) == 3  # not two, for want of a last bit
    assert [each.end_s for each in pieces(ClipRef("a", 3.0, 6.5, "x"), 5.0)] == [8.0]
    assert pieces(ClipRef("a", 3.0, 5.9, "x"), 5.0) == []


def test_each_picture_is_the_frame_nearest_in_time() -> None:
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.uniform(0.02, 0.05, 400))
    wanted = picture_times(2.0, 5.0)
    assert len(wanted) == 41
    expected = [int(np.argmin(np.abs(times - each))) for each in wanted]
    assert nearest_frames(times, wanted).tolist() == expected
    assert nearest_frames(np.arange(41) / 8 + 0.06, picture_times(0.0, 5.0)).tolist() == list(range(41))


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (np.delete(np.arange(100) / 8, [20]), "no video frame within 63 ms of 2.500 s"),
        (np.arange(35) / 8, "too short"),
        (np.arange(300) / 7.9 + 0.02, "no video frame within|have to serve"),
        (np.arange(100) / 5, "no video frame within"),
        (np.array([0.0]), "no video frame within"),
    ],
)
def test_missing_frames_are_not_invented(times: np.ndarray, message: str) -> None:
    with pytest.raises(UserError, match=message):
        nearest_frames(times, picture_times(0.0, 5.0))


def test_a_rate_that_does_not_divide_is_told() -> None:
    assert rate_note(np.arange(100) / 24) is None and rate_note(np.arange(100) / 8) is None
    assert "15 frames/s" in str(rate_note(np.arange(100) / 15)) and "33 ms" in str(rate_note(np.arange(100) / 15))
    assert "29.97 frames/s" in str(rate_note(np.arange(100) * 1001 / 30000))


@pytest.mark.parametrize("fps", [16.0, 30.0, 59.94, 240.0])
def test_motion_between_frames_lies_on_the_arc(turning: Callable[..., Motion], fps: float) -> None:
    result = motion_between(turning(9.0, fps), 100.0, 103.21, 5.0)
    time = 3.21 + np.arange(81) / 16
    assert result.fps == 16.0 and len(result) == 81
    assert np.allclose(result.root_position[:, 0], 0.4 * time, atol=1e-5)
    expected = axis_angle_to_quat(np.stack((0 * time, 0 * time, 0.5 * time), axis=-1))
    assert np.abs((result.joint_quat_wxyz[:, 0] * expected).sum(axis=-1)).min() > 1 - 1e-6


def test_a_border_frame_is_held_for_one_frame_and_no_longer(turning: Callable[..., Motion]) -> None:
    motion = turning(4.95, 20.0)
    assert motion_between(motion, 0.0, 0.0, 5.0).root_position[-1, 0] == motion.root_position[-1, 0]
    with pytest.raises(UserError, match="from 0.000 s to 4.900 s, the clip from 0.000 s to 5.000 s"):
        motion_between(turning(4.9, 20.0), 0.0, 0.0, 5.0)
    with pytest.raises(UserError, match="the clip from -0.100 s"):
        motion_between(motion, 0.0, -0.1, 1.0)


def _bending(skeleton: Skeleton) -> Motion:
    """A body that walks, looks about, leans forward and crouches with level feet."""
    time = np.arange(81) / 16
    quat = np.tile((1.0, 0.0, 0.0, 0.0), (81, 22, 1))

    def turn(name: str, axis: int, angle: np.ndarray) -> None:
        vector = np.zeros((81, 3))
        vector[:, axis] = angle
        quat[:, skeleton.index[name]] = axis_angle_to_quat(vector)

    bend = 0.35 * (1 - np.cos(time))
    turn("spine1", 1, bend)
    turn("neck", 2, 0.5 * np.sin(2 * time))
    thigh, shin = (np.linalg.norm(skeleton.offsets[skeleton.index[name]]) for name in ("left_knee", "left_ankle"))
    for side in ("left", "right"):
        turn(f"{side}_hip", 1, -bend)
        turn(f"{side}_knee", 1, 2 * bend)
        turn(f"{side}_ankle", 1, -bend)
    height = skeleton.rest_root_height - (thigh + shin) * (1 - np.cos(bend))
    root = np.stack((0 * time, 0 * time, height), axis=-1)
    return Motion(root, quat, skeleton)


def test_another_body_keeps_its_feet_on_the_floor_or_its_head_where_it_was() -> None:
    small = Skeleton.default(1.5)
    longer_back = small.offsets.copy()
    longer_back[small.index["spine2"]] *= 1.3
    motion = _bending(replace(small, offsets=longer_back))
    planted, scale = on_default_body(motion, keep_head=False)
    assert planted.skeleton is default_skeleton() and scale == pytest.approx(1.75 / 1.5, abs=1e-6)
    assert np.abs(sole_heights(planted).min(axis=1)).max() < 0.01
    followed, same = on_default_body(motion, keep_head=True)
    assert same == scale
    head, theirs = followed.T_world_head(), motion.T_world_head()
    assert np.allclose(head[:, :3, :3], theirs[:, :3, :3], atol=1e-5)
    way = head[:, :3, 3] - scale * theirs[:, :3, 3]
    assert np.abs(way - way[0]).max() < 1e-4 and np.abs(way[0, :2]).max() < 1e-4
    assert np.abs(sole_heights(followed).min(axis=1)).max() < 0.04


def test_our_own_body_is_left_alone(turning: Callable[..., Motion]) -> None:
    motion = turning(5.0, 16.0)
    assert on_default_body(motion, keep_head=True) == (motion, 1.0)


def _camera(width: int = 96, height: int = 64) -> Camera:
    pose = np.eye(4)
    pose[:3] = [[0, 0, 1, 0.06], [-1, 0, 0, 0], [0, -1, 0, 0]]
    return Camera.from_fovy(1.0, width, height, pose)


def test_a_cut_clip_shows_the_right_pictures_at_the_right_poses(
    numbered: Callable[..., np.ndarray], number_of: Callable[[np.ndarray], int], turning: Callable[..., Motion]
) -> None:
    video = np.zeros((200, 64, 96, 3), dtype=np.uint8)
    video[:, :, 16:80] = numbered(200)
    times = 50.0 + np.arange(200) / 30
    found = SourceClip(video, times, _camera(), turning(8.0, 60.0), "walks  \n on ", ["a note"], motion_start_s=49.5)
    made = cut(found, ClipRef("a", 50.71, 55.71, "walks on"), CutConfig((32, 32)))
    assert made.clip is not None and made.text == "walks on" and made.notes == ["a note"]
    assert [number_of(picture) for picture in made.clip.video] == [round((0.71 + i / 8) * 30) for i in range(41)]
    assert np.allclose(made.motion.root_position[:, 0], 0.4 * (1.21 + np.arange(81) / 16), atol=1e-5)
    assert np.allclose(made.clip.camera.K[:2, 2], (16, 16)) and made.clip.camera.K[0, 0] == _camera().K[0, 0] / 2
    assert np.array_equal(made.clip.camera.T_head_camera, _camera().T_head_camera)


def test_a_camera_grows_with_its_body(numbered: Callable[..., np.ndarray]) -> None:
    found = SourceClip(numbered(41), np.arange(41) / 8, _camera(64, 64), _bending(Skeleton.default(1.4)), "bends", [])
    made = cut(found, ClipRef("a", 0.0, 5.0, "bends"), CutConfig((32, 32)))
    assert made.clip is not None
    assert made.clip.camera.T_head_camera[0, 3] == pytest.approx(0.06 * 1.75 / 1.4)


def test_small_pictures_are_enlarged_with_a_note(
    numbered: Callable[..., np.ndarray], turning: Callable[..., Motion]
) -> None:
    found = SourceClip(numbered(9), np.arange(9) / 8, _camera(64, 64), turning(1.0, 16.0), "walks", [])
    made = cut(found, ClipRef("a", 0.0, 1.0, "walks"), CutConfig((96, 96), 1.0))
    assert made.clip is not None and made.clip.video.shape == (9, 96, 96, 3)
    assert "64x64 are enlarged to 96x96" in made.notes[0]


def test_motion_alone(turning: Callable[..., Motion]) -> None:
    found = SourceClip(None, np.empty(0), None, turning(5.0, 120.0), "walks", [])
    made = cut(found, ClipRef("a", 0.0, 5.0, "walks"), CutConfig())
    assert made.clip is None and len(made.motion) == 81


def test_a_body_without_a_head_is_refused() -> None:
    whole = Skeleton.default()
    keep = [i for i, name in enumerate(whole.names) if name != "head"]
    parents = tuple(-1 if i == 0 else keep.index(whole.parents[i]) for i in keep)
    headless = Skeleton(tuple(whole.names[i] for i in keep), parents, whole.offsets[keep])
    motion = Motion(np.zeros((81, 3)), np.tile((1.0, 0, 0, 0), (81, 21, 1)), headless)
    found = SourceClip(None, np.empty(0), None, motion, "walks", [])
    with pytest.raises(UserError, match="no joint named head .*where the eyes are"):
        cut(found, ClipRef("a", 0.0, 5.0, "walks"), CutConfig())


def test_a_source_must_agree_with_itself(numbered: Callable[..., np.ndarray], turning: Callable[..., Motion]) -> None:
    video, motion = numbered(9), turning(1.0, 16.0)
    with pytest.raises(UserError, match="times of shape"):
        SourceClip(video, np.arange(8) / 8, _camera(64, 64), motion, "x", [])
    with pytest.raises(UserError, match="do not rise"):
        SourceClip(video, np.array([0, 1, 2, 2, 4, 5, 6, 7, 8.0]), _camera(64, 64), motion, "x", [])
    with pytest.raises(UserError, match="no camera"):
        SourceClip(video, np.arange(9) / 8, None, motion, "x", [])
    with pytest.raises(UserError, match="end behind the start"):
        ClipRef("a", 3.0, 3.0, "x")


def test_sizes_and_lengths() -> None:
    assert parse_size("256") == (256, 256) and parse_size("480x720") == (480, 720)
    assert CutConfig((480, 720)).frames == 41
    for text in ("", "x480", "480x", "-5", "1e3"):
        with pytest.raises(UserError, match="--size"):
            parse_size(text)
    for values in ({"size": (250, 256)}, {"size": (16, 16)}, {"seconds": 0.3}, {"seconds": 0.0}, {"seconds": np.nan}):
        with pytest.raises(UserError, match="--s"):
            CutConfig(**values)
