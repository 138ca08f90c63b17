from __future__ import annotations

from collections import Counter
from functools import cache

import numpy as np
import pytest

from egotwin_sim.body.humanoid import PALM_DISTANCE
from egotwin_sim.errors import UserError
from egotwin_sim.motion import Motion, Skeleton
from egotwin_sim.motion.rotations import matrix_to_quat, rotation_angle
from egotwin_sim.room.goals import Goal, goals_of, success
from egotwin_sim.room.layout import RoomLayout, sample_layout
from egotwin_sim.room.synthesis import Synthesis, Synthesiser, ik, synthesise
from egotwin_sim.room.synthesis.navigation import TIGHT_MARGIN, find_route
from egotwin_sim.room.synthesis.texts import PHRASES
from egotwin_sim.room.world import RoomWorld

SKELETON = Skeleton.default()
SIDES = ("left", "right")
ROOMS, CLIPS = 7, 7
KINDS = {"idle", "walk", "turn", "look", "reach", "wave", "open", "crouch", "sit"}


@cache
def layout(seed: int) -> RoomLayout:
    return sample_layout(seed)


@cache
def world(seed: int) -> RoomWorld:
    return RoomWorld(layout(seed))


@cache
def clips() -> tuple[tuple[int, Synthesis], ...]:
    return tuple((room, synthesise(layout(room), 100 * room + k)) for room in range(ROOMS) for k in range(CLIPS))


def first_with(kind: str, **args: object) -> tuple[int, Synthesis]:
    """A clip that holds a segment of a kind whose args have the given values."""
    for seed in range(400):
        room = seed % ROOMS
        clip = synthesise(layout(room), seed)
        for segment in clip.segments:
            if segment.kind == kind and all(segment.args.get(key) == value for key, value in args.items()):
                return room, clip
    raise AssertionError(f"no {kind} in 400 clips")


def sole_corners(motion: Motion) -> np.ndarray:
    """World points (T, 12, 3) of the shoes' undersides: foot and toes of both legs."""
    positions, rotations = motion.joint_transforms()
    points = []
    for side in SIDES:
        for joint, below, ends in (("ankle", SKELETON.foot_height, (-0.05, 0.16)), ("foot", 0.025, (-0.005, 0.085))):
            j = SKELETON.index[f"{side}_{joint}"]
            for x in ends:
                for y in (-0.045, 0.045):
                    points.append(positions[:, j] + rotations[:, j] @ np.array([x, y, -below]))
    return np.stack(points, axis=1)


def palm(motion: Motion, side: str) -> np.ndarray:
    positions, rotations = motion.joint_transforms()
    j = SKELETON.index[f"{side}_wrist"]
    return positions[:, j] + rotations[:, j] @ np.array([0.0, PALM_DISTANCE * (1 if side == "left" else -1), 0.0])


def in_view(motion: Motion, points: np.ndarray) -> np.ndarray:
    """Whether points (T, 3) are inside the square view of 90 degrees."""
    head = motion.T_world_head()
    local = np.einsum("tji,tj->ti", head[:, :3, :3], points - head[:, :3, 3])
    return (local[:, 0] > 0) & (np.abs(local[:, 1:]) < local[:, :1]).all(axis=1)


def held_frames(window: tuple[float, float], count: int) -> slice:
    return slice(int(np.ceil(window[0] * 16)), min(int(window[1] * 16) + 1, count))


def test_a_clip_depends_on_its_arguments_alone():
    again, other = synthesise(layout(0), 3), synthesise(layout(0), 4)
    first = synthesise(layout(0), 3)
    assert first.text == again.text
    assert np.array_equal(first.motion.joint_quat_wxyz, again.motion.joint_quat_wxyz)
    assert np.array_equal(first.motion.root_position, again.motion.root_position)
    assert not np.array_equal(first.motion.root_position, other.motion.root_position)


@pytest.mark.parametrize("seconds, frames", [(5.0, 81), (2.0, 33), (0.25, 5), (12.0, 193)])
def test_a_clip_has_a_start_and_sixteen_frames_a_second(seconds: float, frames: int):
    assert len(synthesise(layout(1), 5, seconds=seconds).motion) == frames


def test_clips_show_every_skill():
    kinds = Counter(segment.kind for seed in range(250) for segment in synthesise(layout(seed % ROOMS), seed).segments)
    assert set(kinds) == KINDS


def test_standing_feet_do_not_slide():
    speeds = []
    for _, clip in clips():
        positions, _ = clip.motion.joint_transforms()
        for side in SIDES:
            ball = positions[:, SKELETON.index[f"{side}_foot"]]
            speed = np.linalg.norm(np.diff(ball, axis=0), axis=1) * 16
            low = ball[:, 2] < SKELETON.foot_height + SKELETON.offsets[SKELETON.index["left_foot"], 2] + 0.005
            standing = low[1:] & low[:-1]
            speeds.append(speed[standing].mean())
    assert np.mean(speeds) < 0.03
    assert np.max(speeds) < 0.03


def test_planted_feet_are_those_that_stay():
    for _, clip in clips()[:12]:
        positions, _ = clip.motion.joint_transforms()
        for i, side in enumerate(SIDES):
            ball = positions[:, SKELETON.index[f"{side}_foot"]]
            both = clip.planted[1:, i] & clip.planted[:-1, i]
            assert np.linalg.norm(np.diff(ball, axis=0), axis=1)[both].max() < 1e-4


def test_one_foot_stands_at_any_time_and_the_body_really_steps():
    swings = 0
    for _, clip in clips():
        assert clip.planted.any(axis=1).all()
        swings += int((~clip.planted).any())
    assert swings > len(clips()) / 2


def test_soles_stay_above_the_floor():
    for _, clip in clips():
        assert sole_corners(clip.motion)[..., 2].min() > -0.01


def test_joint_limits_are_kept():
    model, kinematics = world(0).model, world(0).kinematics
    for _, clip in clips():
        qpos = kinematics.qpos_from_motion(clip.motion)
        for hinge in kinematics.hinges:
            joint = model.joint(hinge)
            angles, (low, high) = qpos[:, joint.qposadr[0]], joint.range
            assert low - 1e-3 < angles.min() and angles.max() < high + 1e-3, hinge


def test_the_view_turns_slowly_enough_for_the_frames_to_overlap():
    for _, clip in clips():
        head = clip.motion.T_world_head()[:, :3, :3]
        assert np.rad2deg(rotation_angle(head[1:], head[:-1])).max() * 16 < 95.0


def test_a_reaching_hand_is_at_its_target_and_in_view():
    reaches = 0
    for _, clip in clips():
        for segment in clip.segments:
            if segment.kind not in ("reach", "wave"):
                continue
            frames = held_frames(segment.args["hold"], len(clip.motion))
            held = clip.motion.root_position[frames]
            if not len(held):
                continue
            hand = palm(clip.motion, segment.args["side"])[frames]
            assert in_view(clip.motion[frames], hand).all()
            if segment.kind == "reach":
                reaches += 1
                assert np.linalg.norm(hand - segment.args["point"], axis=1).max() < 0.03
    assert reaches >= 5


@pytest.mark.parametrize("side", SIDES)
def test_either_hand_touches_things(side: str):
    room, clip = first_with("reach", side=side)
    segment = next(s for s in clip.segments if s.kind == "reach" and s.args["side"] == side)
    assert side in clip.text
    if segment.args["target"] is not None:
        assert segment.args["target"] in clip.text
        thing = layout(room).object(segment.args["target"])
        assert np.linalg.norm(segment.args["point"] - thing.position) < np.linalg.norm(thing.size) / 2 + 0.05


def test_the_hand_opens_the_door_and_nothing_else_does():
    opened = 0
    for seed in range(60):
        room = seed % ROOMS
        clip = synthesise(layout(room), seed)
        segment = next((s for s in clip.segments if s.kind == "open"), None)
        if segment is None or segment.args["moves"][1] > 4.9:
            continue
        opened += 1
        world(room).reset(clip.motion[:1])
        played = world(room).step(clip.motion[1:])
        assert played.door_angle[-1] == pytest.approx(segment.args["angle"], abs=np.deg2rad(4))
        assert (played.door_angle[: int(segment.args["moves"][0] * 16) - 1] < 0.01).all()
        frames = held_frames(segment.args["moves"], len(played.motion))
        hand = palm(clip.motion, segment.args["side"])[frames]
        handles = [
            layout(room).door.handle_position(angle) for angle in np.concatenate([[0], played.door_angle])[frames]
        ]
        assert np.linalg.norm(hand - handles, axis=1).max() < 0.03
        assert in_view(clip.motion[frames], hand).all()
        # The same walk with hanging arms leaves the door shut.
        quat = clip.motion.joint_quat_wxyz.copy()
        for name in ("shoulder", "elbow", "wrist"):
            for one in SIDES:
                quat[:, SKELETON.index[f"{one}_{name}"]] = quat[0, SKELETON.index[f"{one}_{name}"]]
        idle_hands = Motion(clip.motion.root_position, quat, SKELETON)
        world(room).reset(idle_hands[:1])
        assert world(room).step(idle_hands[1:]).door_angle.max() < 0.05
    assert opened >= 3


def test_furniture_stops_a_body_that_walks_into_it():
    room, clip = first_with("walk", blocked=True)
    target = next(s.args["target"] for s in clip.segments if s.args.get("blocked"))
    assert target in clip.text
    world(room).reset(clip.motion[:1])
    played = world(room).step(clip.motion[1:])
    assert played.blocked.sum() > 8
    clearance = layout(room).clearance(played.motion.root_position[:, :2], 0.0)
    assert clearance.min() > 0.2


def test_other_walks_are_free_of_collisions():
    for room, clip in clips():
        if not any(segment.args.get("blocked") for segment in clip.segments):
            world(room).reset(clip.motion[:1])
            assert world(room).step(clip.motion[1:]).blocked.mean() < 0.1, clip.text


def test_texts_vary_and_name_what_happens():
    texts = [clip.text for _, clip in clips()]
    assert len(set(texts)) > 0.9 * len(texts)
    assert all(text and "{" not in text for text in texts)
    assert all(len(set(phrases)) >= 3 for phrases in PHRASES.values())
    for room, clip in clips():
        for segment in clip.segments:
            if segment.kind == "walk" and segment.args.get("target") in layout(room).names and len(clip.segments) == 1:
                assert segment.args["target"] in clip.text


def state_of(frames: Motion, count: int) -> Motion:
    return frames[len(frames) - count :]


@pytest.mark.parametrize("kind", ["walk", "turn", "open"])
def test_a_clip_with_a_goal_pursues_it(kind: str):
    for room in range(4):
        goal = next(goal for goal in goals_of(layout(room)) if goal.kind == kind)
        clip = synthesise(layout(room), 7, seconds=8.0, goal=goal.text)
        assert (clip.goal_kind, clip.target) == (kind, goal.target)
        world(room).reset(clip.motion[:1])
        assert not success(goal, layout(room), clip.motion[:1], 0.0)
        reached = False
        for start in range(1, len(clip.motion), 4):
            played = world(room).step(clip.motion[start : start + 4])
            reached = reached or success(goal, layout(room), world(room).frame, float(played.door_angle[-1]))
        assert reached, goal


def test_a_plan_goes_on_from_the_state_without_a_jump():
    room, clip = first_with("walk")
    walking = clip.motion[20:22]
    plan = Synthesiser(layout(room), 0).plan(walking, "turn to the table", seconds=3.0)
    assert len(plan) == 49
    assert np.allclose(plan.root_position[0], walking.root_position[-1])
    assert np.allclose(np.abs((plan.joint_quat_wxyz[0] * walking.joint_quat_wxyz[-1]).sum(-1)), 1.0, atol=1e-5)
    before = walking.root_position[1] - walking.root_position[0]
    assert np.linalg.norm((plan.root_position[1] - plan.root_position[0]) - before) < 0.02
    joined = Motion.concatenate([walking[:1], plan])
    rate = 2 * np.arccos(np.clip(np.abs((joined.joint_quat_wxyz[1:] * joined.joint_quat_wxyz[:-1]).sum(-1)), 0, 1)) * 16
    assert rate.max() < 12.0


def test_a_plan_begins_in_any_pose():
    quat = np.zeros((1, SKELETON.num_joints, 4))
    quat[..., 0] = 1.0
    x, y, _ = layout(2).sample_spawn(np.random.default_rng(0), radius=0.5)
    pose = Motion(np.array([[x, y, SKELETON.rest_root_height]]), quat, SKELETON)
    plan = Synthesiser(layout(2), 0).plan(pose, "turn to the door")
    assert np.array_equal(plan.root_position[0], pose.root_position[0])
    rate = 2 * np.arccos(np.clip(np.abs((plan.joint_quat_wxyz[1:] * plan.joint_quat_wxyz[:-1]).sum(-1)), 0, 1)) * 16
    assert rate.max() < 12.0
    assert success(Goal("turn", "door"), layout(2), plan[-1], 0.0)


@pytest.mark.parametrize("room", [1, 2, 3])
def test_planning_anew_every_half_second_reaches_the_goals_too(room: int):
    here = layout(room)
    for goal in (Goal("open", "door"), Goal("walk", here.objects[0].name), Goal("turn", here.objects[-1].name)):
        start = synthesise(here, 50, goal=goal.text).motion[:1]
        world(room).reset(start)
        synthesiser, state = Synthesiser(here, 0), start
        for _ in range(30):
            plan = synthesiser.plan(state, goal.text, seconds=1.0, door_angle=world(room).door_angle)
            played = world(room).step(plan[1:9]).motion
            state = played[-2:]
            if success(goal, here, world(room).frame, world(room).door_angle):
                break
        assert success(goal, here, world(room).frame, world(room).door_angle), goal


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_a_length_that_is_none_is_refused(seconds: float):
    with pytest.raises(UserError, match="seconds"):
        synthesise(layout(0), 0, seconds=seconds)


def test_a_goal_that_the_room_does_not_know_is_refused():
    with pytest.raises(UserError, match="unknown word"):
        synthesise(layout(0), 0, goal="juggle the door")
    with pytest.raises(UserError):
        Synthesiser(layout(0), 0).plan(clips()[0][1].motion[:1], "")


def test_a_limb_puts_its_tip_where_it_is_wanted():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(50, 3))
    tip = root + ik.unit(rng.normal(size=(50, 3))) * rng.uniform(0.1, 0.8, size=(50, 1))
    pole = rng.normal(size=(50, 3))
    rotation, flexion = ik.leg(root, tip, pole, 0.42, 0.41)
    knee = root + rotation @ np.array([0.0, 0.0, -0.42])
    bent = rotation @ np.stack([-np.sin(flexion), np.zeros(50), -np.cos(flexion)], axis=-1)[..., None]
    assert np.allclose(knee + 0.41 * bent[..., 0], tip, atol=1e-9)
    for side in (1.0, -1.0):
        rotation, flexion = ik.arm(root, tip, pole, 0.42, 0.41, side)
        elbow = root + rotation @ np.array([0.0, side * 0.42, 0.0])
        bent = rotation @ np.stack([np.sin(flexion), side * np.cos(flexion), np.zeros(50)], axis=-1)[..., None]
        assert np.allclose(elbow + 0.41 * bent[..., 0], tip, atol=1e-9)
        assert np.allclose(np.linalg.norm(matrix_to_quat(rotation), axis=-1), 1.0)


def test_ways_keep_clear_of_furniture():
    found = 0
    for room in range(ROOMS):
        rng = np.random.default_rng(room)
        here = layout(room)
        for _ in range(6):
            a, b = (np.array(here.sample_spawn(rng)[:2]) for _ in range(2))
            route = find_route(here, a, b[None])
            if route is None:
                continue
            found += 1
            assert np.allclose(route[0], a) and np.allclose(route[-1], b)
            points = np.concatenate(
                [p + (q - p) * np.linspace(0, 1, 50)[:, None] for p, q in zip(route, route[1:], strict=False)]
            )
            assert here.clearance(points).min() > TIGHT_MARGIN - 0.03
    assert found > 0.8 * ROOMS * 6
