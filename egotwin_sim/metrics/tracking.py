"""How well a body followed its reference, in the figures of the tracking literature, and how much it was helped."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from egotwin_sim.body.feet import PLANTED
from egotwin_sim.body.robot import RobotModel
from egotwin_sim.errors import UserError
from egotwin_sim.motion.rotations import rotation_angle

FAILED_AT = 0.5  # metres of mean body error; PHC's threshold (Luo et al. 2023)
FALLEN_AT = 0.5  # of the height of the reference's root


@dataclass(frozen=True)
class TrackingMetrics:
    """Figures of a tracked clip of T frames; bodies are all bodies of the robot, at their origins.

    Attributes:
        g_mpjpe_mm: G-MPJPE, mean distance of the bodies from their reference in the world.
        l_mpjpe_mm: the same of positions relative to the root's, root-relative MPJPE; rotations stay the world's.
        velocity_error_mm: mean length of the difference between the steps of body and reference, mm per frame.
        acceleration_error_mm: the same of the differences of successive steps, mm per frame^2.
        success: whether the mean error over the bodies was never above 0.5 m, and the simulation did not fail.
        fallen: whether the root was ever lower than half the height of the reference's.
        foot_slide_m_s: mean horizontal speed of the points of the soles that are less than 1 cm above the floor in two
            frames in a row; 0 where none is.
        penetration_mm: largest depth of a point of the soles under the floor z = 0.
        torque_saturation: mean share of the servos of which their torque limit or more was asked.
        assist_mean_bw: mean force of the assist, body weights.
        assist_p99_bw: its 99th percentile.
        head_error_mm: mean distance of the head camera from where the reference has it.
        head_error_deg: mean angle between the two cameras.
        real_time_factor: seconds of simulation for each second on the clock.
    """

    g_mpjpe_mm: float
    l_mpjpe_mm: float
    velocity_error_mm: float
    acceleration_error_mm: float
    success: bool
    fallen: bool
    foot_slide_m_s: float
    penetration_mm: float
    torque_saturation: float
    assist_mean_bw: float
    assist_p99_bw: float
    head_error_mm: float
    head_error_deg: float
    real_time_factor: float


def tracking_metrics(
    robot_model: RobotModel,
    qpos: np.ndarray,
    reference: np.ndarray,
    fps: float,
    *,
    assist_bw: np.ndarray,
    saturated: np.ndarray,
    real_time_factor: float,
    failed: bool = False,
) -> TrackingMetrics:
    """The figures of a tracked clip.

    Args:
        robot_model: the robot.
        qpos: (T, 7 + n), what it did.
        reference: (T, 7 + n), what it should have done at the same times.
        fps: frames per second of both; 30 for figures that compare with others'.
        assist_bw: force of the assist in every step of the simulation, body weights.
        saturated: share of the servos of which their limit or more was asked, in every step.
        real_time_factor: as measured.
        failed: whether the simulation failed.

    Raises:
        UserError: the two have different lengths, or fewer than three frames.
    """
    if len(qpos) != len(reference) or len(qpos) < 3:
        raise UserError(
            f"{len(qpos)} frames against {len(reference)} of the reference; expected as many, three at least"
        )
    bodies, wanted = robot_model.joint_positions(qpos), robot_model.joint_positions(reference)
    error = _length(bodies - wanted)
    relative = _length((bodies - bodies[:, :1]) - (wanted - wanted[:, :1]))
    off = bodies - wanted
    head, wanted_head = robot_model.head_poses(qpos), robot_model.head_poses(reference)
    soles = robot_model.sole_points(qpos)
    down = (soles[1:, :, 2] < PLANTED) & (soles[:-1, :, 2] < PLANTED)
    speed = _length(np.diff(soles[..., :2], axis=0)) * fps
    return TrackingMetrics(
        g_mpjpe_mm=1000.0 * float(error.mean()),
        l_mpjpe_mm=1000.0 * float(relative.mean()),
        velocity_error_mm=1000.0 * float(_length(np.diff(off, axis=0)).mean()),
        acceleration_error_mm=1000.0 * float(_length(np.diff(off, n=2, axis=0)).mean()),
        success=bool(error.mean(axis=1).max() <= FAILED_AT) and not failed,
        fallen=bool((qpos[:, 2] < FALLEN_AT * reference[:, 2]).any()),
        foot_slide_m_s=float(speed[down].mean()) if down.any() else 0.0,
        penetration_mm=1000.0 * max(0.0, -float(soles[..., 2].min())),
        torque_saturation=float(np.mean(saturated)),
        assist_mean_bw=float(np.mean(assist_bw)),
        assist_p99_bw=float(np.quantile(assist_bw, 0.99)),
        head_error_mm=1000.0 * float(_length(head[:, :3, 3] - wanted_head[:, :3, 3]).mean()),
        head_error_deg=float(np.rad2deg(rotation_angle(head[:, :3, :3], wanted_head[:, :3, :3])).mean()),
        real_time_factor=float(real_time_factor),
    )


def _length(vectors: np.ndarray) -> np.ndarray:
    return np.linalg.norm(vectors, axis=-1)
