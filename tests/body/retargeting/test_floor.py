from __future__ import annotations

import mujoco
import numpy as np
import pytest

from egotwin_sim.body.feet import Foot, find_feet
from egotwin_sim.body.humanoid import build_humanoid
from egotwin_sim.body.retargeting.floor import floor_report

FPS = 16.0


@pytest.fixture(scope="module")
def model() -> mujoco.MjModel:
    return build_humanoid().compile()


@pytest.fixture(scope="module")
def feet(model: mujoco.MjModel) -> tuple[Foot, ...]:
    return find_feet(model, model.qpos0, 1)


def standing(model: mujoco.MjModel, frames: int = 10) -> np.ndarray:
    return np.tile(model.qpos0, (frames, 1))


def test_standing_still_is_contact_without_slide_or_depth(model: mujoco.MjModel, feet: tuple[Foot, ...]) -> None:
    report = floor_report(model, feet, standing(model), FPS)
    assert report.contacts.shape == (10, 2) and report.contacts.all()
    assert report.slide_m_s == pytest.approx(0.0) and report.penetration_mm == pytest.approx(0.0, abs=1e-6)


def test_a_body_that_is_carried_along_slides_at_its_speed(model: mujoco.MjModel, feet: tuple[Foot, ...]) -> None:
    qpos = standing(model)
    qpos[:, 0] += 0.4 * np.arange(10) / FPS
    assert floor_report(model, feet, qpos, FPS).slide_m_s == pytest.approx(0.4)


def test_a_body_in_the_air_neither_stands_nor_slides(model: mujoco.MjModel, feet: tuple[Foot, ...]) -> None:
    qpos = standing(model)
    qpos[:, 0] += 0.4 * np.arange(10) / FPS
    qpos[:, 2] += 0.05
    report = floor_report(model, feet, qpos, FPS)
    assert not report.contacts.any() and report.slide_m_s == 0.0 and report.penetration_mm == 0.0


def test_the_deepest_frame_is_the_penetration(model: mujoco.MjModel, feet: tuple[Foot, ...]) -> None:
    qpos = standing(model)
    qpos[4, 2] -= 0.03
    assert floor_report(model, feet, qpos, FPS).penetration_mm == pytest.approx(30.0, abs=1e-3)


def test_a_foot_that_rolls_over_its_toes_does_not_slide(model: mujoco.MjModel, feet: tuple[Foot, ...]) -> None:
    """The body turns about the tips of the toes."""
    toes = max(float(foot.points(_at(model, model.qpos0))[:, 0].max()) for foot in feet)
    qpos = standing(model, 6)
    for t, angle in enumerate(np.linspace(0.0, 0.3, 6)):
        turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
        pivot = np.array([toes, 0.0, 0.0])
        qpos[t, :3] = pivot + turn @ (model.qpos0[:3] - pivot)
        mujoco.mju_mat2Quat(qpos[t, 3:7], turn.ravel())
    assert floor_report(model, feet, qpos, FPS).slide_m_s < 1e-6


def test_one_frame_has_no_speed(model: mujoco.MjModel, feet: tuple[Foot, ...]) -> None:
    assert floor_report(model, feet, standing(model, 1), FPS).slide_m_s == 0.0


def _at(model: mujoco.MjModel, qpos: np.ndarray) -> mujoco.MjData:
    data = mujoco.MjData(model)
    data.qpos[:] = qpos
    mujoco.mj_kinematics(model, data)
    return data
