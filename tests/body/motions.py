"""Synthesised motions with planted feet on an empty floor, and their trajectories."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from egotwin_sim.body.retargeting import ExactRetargeter
from egotwin_sim.body.robot import RobotModel, our_robot
from egotwin_sim.body.trajectory import RobotTrajectory
from egotwin_sim.motion import Motion
from egotwin_sim.motion.skeleton import Skeleton
from egotwin_sim.room.layout import sample_layout
from egotwin_sim.room.synthesis.body import MOTION_FPS, Style, perform
from egotwin_sim.room.synthesis.ground import Ground
from egotwin_sim.room.synthesis.skills import Plan


@cache
def robot_model() -> RobotModel:
    return RobotModel(our_robot())


def synthesised(skill: Callable[[Plan], object], seconds: float, seed: int = 0) -> Motion:
    skeleton, style, tail = Skeleton.default(), Style(), 1.4
    rng = np.random.Generator(np.random.PCG64(seed))
    plan = Plan(sample_layout(0), rng, style, Ground(np.zeros(2), 0.0, limit=seconds + tail), skeleton)
    skill(plan)
    plan.ground.hold(max(0.0, seconds + tail - plan.time))
    return perform(plan.score(), style, 1 + round(MOTION_FPS * seconds), skeleton, None)[0]


def _walk(plan: Plan) -> None:
    plan.ground.follow(np.array([[0.0, 0.0], [2.0, 0.0], [3.0, 1.5], [2.5, 4.0]]), 0.9)


def _reach(plan: Plan) -> None:
    while plan.time < 8.0:
        plan.reach(None)
        plan.idle(0.5)


@cache
def walking(seconds: float = 3.0) -> RobotTrajectory:
    """Walks round a corner at 0.9 m/s."""
    return ExactRetargeter(our_robot()).retarget(synthesised(_walk, seconds))


@cache
def squat() -> RobotTrajectory:
    return ExactRetargeter(our_robot()).retarget(synthesised(lambda plan: plan.crouch(), 4.5, seed=2))


@cache
def standing(seconds: float = 10.0) -> RobotTrajectory:
    return ExactRetargeter(our_robot()).retarget(synthesised(lambda plan: plan.idle(seconds), seconds))


@cache
def reaching() -> RobotTrajectory:
    """10 s of reaching with either hand."""
    return ExactRetargeter(our_robot()).retarget(synthesised(_reach, 10.0, seed=1))
