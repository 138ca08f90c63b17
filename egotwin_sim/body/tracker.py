"""Following a reference with a simulated body, in one of four declared modes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import mujoco
import numpy as np

from egotwin_sim.body.assist import Assist, AssistForce
from egotwin_sim.body.inverse_dynamics import InverseDynamics
from egotwin_sim.body.observation import Policy, observe
from egotwin_sim.body.reference import Reference
from egotwin_sim.body.robot import RobotModel
from egotwin_sim.body.trajectory import RobotTrajectory
from egotwin_sim.errors import UserError
from egotwin_sim.motion.rotations import axis_angle_to_quat, quat_to_matrix, yaw_of

SHORTEST_START_BLEND = 0.5  # seconds; a body that is thrown into a pose faster than that falls
_STARTS = ("reference", "blend")
_WARNINGS = {
    mujoco.mjtWarning.mjWARN_INERTIA: "the inertia matrix is close to singular",
    mujoco.mjtWarning.mjWARN_CONTACTFULL: "too many contacts",
    mujoco.mjtWarning.mjWARN_CNSTRFULL: "too many constraints",
    mujoco.mjtWarning.mjWARN_BADQPOS: "positions are not finite, or huge",
    mujoco.mjtWarning.mjWARN_BADQVEL: "velocities are not finite, or huge",
    mujoco.mjtWarning.mjWARN_BADQACC: "accelerations are not finite, or huge",
    mujoco.mjtWarning.mjWARN_BADCTRL: "a control is not finite",
}


class TrackingError(FloatingPointError):
    """The simulation has left the numbers: what MuJoCo reported, and when."""


class TrackingMode(StrEnum):
    """How a reference is followed. It is declared in every result.

    KINEMATIC sets the coordinates: no physics, no error. ASSISTED has servos, and an outside force on the root (see
    `Assist`). PD has servos alone. POLICY has servos whose targets a policy corrects.
    """

    KINEMATIC = "kinematic"
    ASSISTED = "assisted"
    PD = "pd"
    POLICY = "policy"


@dataclass(frozen=True)
class TrackerConfig:
    """How a tracker works.

    Attributes:
        mode: a `TrackingMode`, or its name.
        assist: strength of the assist, 0 to 1; it acts in the mode "assisted" only.
        blend_seconds: in which a jump of the reference fades out, see `Reference`.
        start: what `Tracker.begin` does: "reference" puts the body into the first frame, "blend" lets it stand and
            blends to the first frame.
        start_seconds: of that blend, at least 0.5.
        policy_hz: how often a policy is asked.

    Raises:
        UserError: an unknown mode or start, or a number out of range.
    """

    mode: TrackingMode | str = TrackingMode.ASSISTED
    assist: float = 1.0
    blend_seconds: float = 0.15
    start: str = "reference"
    start_seconds: float = 0.5
    policy_hz: float = 50.0

    def __post_init__(self) -> None:
        """Check."""
        names = [mode.value for mode in TrackingMode]
        if self.mode not in names:
            raise UserError(f"tracking mode {self.mode!r} is unknown; expected {', '.join(names)}")
        object.__setattr__(self, "mode", TrackingMode(self.mode))
        if self.start not in _STARTS:
            raise UserError(f"start {self.start!r} is unknown; expected {' or '.join(_STARTS)}")
        if not 0.0 <= self.assist <= 1.0:
            raise UserError(f"assist {self.assist}; expected 0 (none) to 1 (the root is led)")
        if not 0.0 < self.blend_seconds <= 10.0:
            raise UserError(f"blend_seconds {self.blend_seconds}; expected more than 0 and at most 10")
        if not SHORTEST_START_BLEND <= self.start_seconds <= 10.0:
            raise UserError(f"start_seconds {self.start_seconds}; expected {SHORTEST_START_BLEND} to 10")
        if not 1.0 <= self.policy_hz <= 1000.0:
            raise UserError(f"policy_hz {self.policy_hz}; expected 1 to 1000")

    @property
    def strength(self) -> float:
        """The assist that acts: 0 in every mode but "assisted"."""
        return self.assist if self.mode == TrackingMode.ASSISTED else 0.0


@dataclass(frozen=True, eq=False)
class BodyReading:
    """The body at one moment.

    Attributes:
        time_s: simulated time, seconds.
        mode: of the tracker; `strength` that of its assist.
        qpos, qvel: (7 + n,), (6 + n,), the robot's own.
        reference: (7 + n,), where it should be.
        T_world_head: (4, 4).
        assist_bw: force of the assist in the last step, body weights; `assist_torque_nm` its torque, N m.
        assist_slip_m: how far the assist has given way to something in its way, metres; see `Assist`.
        saturated: share of the servos of which their torque limit or more is asked.
        contacts: points where the body touches something.
        penetration_mm: of the deepest of them.
        underrun: whether the reference has ended, so that its last pose is held.
    """

    time_s: float
    mode: TrackingMode
    strength: float
    qpos: np.ndarray
    qvel: np.ndarray
    reference: np.ndarray
    T_world_head: np.ndarray
    assist_bw: float
    assist_torque_nm: float
    saturated: float
    contacts: int
    penetration_mm: float
    underrun: bool
    assist_slip_m: float = 0.0


class Tracker:
    """Simulates a robot that follows a reference, one time step a call.

    After every step, `data` has up-to-date kinematics and contacts of its coordinates. A tracker belongs to one thread.

    Args:
        robot_model: the robot in its scene.
        config: how.
        policy: for the mode "policy", a callable as `TrackingPolicy.act`, see `observe`.

    Attributes:
        robot_model, config: as given.
        data: the scene's state.
        reference: what is followed; append to it.
        assist_force: of the last step.
        saturated: share of the servos of which the last step asked for their torque limit or more.
        broken: whether the simulation failed; `reset` mends it.

    Raises:
        UserError: the mode "policy" without a policy, a policy without that mode, or one for another body.
    """

    def __init__(
        self, robot_model: RobotModel, config: TrackerConfig | None = None, policy: Policy | None = None
    ) -> None:
        self.robot_model = robot_model
        self.config = TrackerConfig() if config is None else config
        self._mode = TrackingMode(self.config.mode)
        if (policy is not None) != (self._mode == TrackingMode.POLICY):
            needs = (
                "needs a policy; give one" if policy is None else "takes no policy; leave it out, or use mode policy"
            )
            raise UserError(f"tracking mode {self._mode.value} {needs}")
        self._policy = policy
        self._policy_steps = max(1, round(1.0 / (self.config.policy_hz * robot_model.timestep)))
        model = robot_model.model
        self.data = mujoco.MjData(model)
        self._assist = Assist(model, self.config.strength, int(robot_model.qvel_index[0]))
        self._dynamics = InverseDynamics(model, robot_model.qvel_index)
        self._gains = robot_model.robot.gains
        self.reset()
        if policy is not None:  # one of another width fails here
            self._ask(policy, robot_model.standing, np.zeros(len(robot_model.qvel_index)))

    @property
    def time_s(self) -> float:
        """Simulated time, seconds."""
        return float(self.data.time)

    def reset(self, qpos: np.ndarray | None = None, qvel: np.ndarray | None = None) -> None:
        """Puts the body somewhere at time 0 and forgets the reference; it is held until there is another.

        Args:
            qpos: (7 + n,); default standing at the origin.
            qvel: (6 + n,); default at rest.
        """
        robot = self.robot_model
        pose = robot.standing if qpos is None else np.asarray(qpos, dtype=np.float64)
        if pose.shape != robot.standing.shape or not np.isfinite(pose).all():
            raise UserError(f"the pose has shape {pose.shape}; expected {robot.standing.shape}, all finite")
        mujoco.mj_resetData(robot.model, self.data)
        self.data.qpos[robot.qpos_index] = pose
        if qvel is not None:
            self.data.qvel[robot.qvel_index] = qvel
        self._assist.switch(self.data)
        self.reference = Reference(robot.joint_names, pose, self.config.blend_seconds)
        self.broken = False
        self._steps = 0
        self._offsets = np.zeros(len(robot.joint_names))
        self.assist_force, self.saturated = AssistForce(0.0, 0.0), 0.0
        self._prepare()
        self._warned = self.data.warning.number.copy()

    def begin(self, trajectory: RobotTrajectory) -> None:
        """Resets the body and lets it follow a trajectory from its first frame on, started as `config.start` says.

        With "blend", the body stands where the first frame is, faces its heading, and reaches it in `start_seconds`.
        """
        trajectory = trajectory.for_joints(self.robot_model.joint_names)
        first = trajectory.qpos[0]
        if self.config.start == "reference":
            self.reset(first, trajectory.qvel[0])
            self.reference.append(trajectory, at=0.0)
            self._prepare()
            return
        stand = self.robot_model.standing.copy()
        turn = yaw_of(quat_to_matrix(first[3:7]) @ quat_to_matrix(stand[3:7]).T)
        mujoco.mju_mulQuat(stand[3:7], axis_angle_to_quat(np.array([0.0, 0.0, turn])), self.robot_model.standing[3:7])
        stand[:2] = first[:2]
        self.reset(stand)
        self.reference.append(trajectory, at=self.config.start_seconds)

    def hold(self) -> None:
        """Forgets the reference; the pose that the body has now is held until there is another."""
        self.reference.clear(self.data.qpos[self.robot_model.qpos_index], self.data.time)
        self._assist.slip = np.zeros(3)

    def step(self) -> None:
        """Advances by one time step.

        Raises:
            TrackingError: MuJoCo warned, or a coordinate is no longer finite. Nothing is restored: the tracker is
                broken until `reset`.
        """
        if self.broken:
            raise TrackingError("the simulation has failed before; reset it")
        robot, model, data = self.robot_model, self.robot_model.model, self.data
        qpos, qvel, qacc = self.reference.sample_with_acceleration(data.time)
        if self._mode == TrackingMode.KINEMATIC:
            self._place(data.time + robot.timestep)
            return
        if self._policy is not None and self._steps % self._policy_steps == 0:
            self._offsets = self._ask(self._policy, qpos, qvel)
        data.ctrl[robot.actuators] = self._torque(qpos[7:] + self._offsets, qvel, qacc)
        mujoco.mj_step2(model, data)
        self.assist_force = self._assist.force(data)
        self._steps += 1
        if np.isfinite(data.qpos).all() and np.isfinite(data.qvel).all():
            self._prepare()
        self._check()

    def _torque(self, target: np.ndarray, qvel: np.ndarray, qacc: np.ndarray) -> np.ndarray:
        """What the servos give for target angles (n,), N m; see `Gains`.

        What the motion needs is given beforehand, so that the servos have only the error to mend. What they ask for is
        made smaller as a whole where it is too much for one of them: cut one by one, torques that belong together would
        turn into others, and a body that has fallen would flail.
        """
        data, robot, servos = self.data, self.robot_model, self.robot_model.servos
        error = target - data.qpos[robot.qpos_index[7:]]
        slower = qvel[6:] - data.qvel[robot.qvel_index[6:]]
        wanted = self._gains.stiffness * error + self._gains.damping * slower
        mending = self._dynamics.correcting(data, wanted) + servos.support * error
        known = self._dynamics.following(data, qvel, qacc)
        limit = servos.torque_limit
        self.saturated = np.count_nonzero(np.abs(known + mending) >= limit) / len(limit)
        return known + mending / max(1.0, float(np.max(np.abs(mending) / limit)))

    def _prepare(self) -> None:
        """Computes all that depends on position and velocity; where the assist leads to is a part of that."""
        self._assist.aim(self.data, *self.reference.sample(self.data.time))
        mujoco.mj_step1(self.robot_model.model, self.data)

    def _place(self, time: float) -> None:
        """Puts the body where the reference is at a time."""
        robot, data = self.robot_model, self.data
        data.time = time
        data.qpos[robot.qpos_index], data.qvel[robot.qvel_index] = self.reference.sample(time)
        mujoco.mj_kinematics(robot.model, data)
        mujoco.mj_camlight(robot.model, data)

    def _ask(self, policy: Policy, qpos: np.ndarray, qvel: np.ndarray) -> np.ndarray:
        data, robot = self.data, self.robot_model
        seen = observe(data.qpos[robot.qpos_index], data.qvel[robot.qvel_index], qpos, qvel)
        offsets = np.asarray(policy(seen), dtype=np.float64)
        expected = (len(robot.joint_names),)
        if offsets.shape != expected:
            raise UserError(
                f"the policy gave offsets of shape {offsets.shape}; expected {expected}, one for each hinge"
            )
        if not np.isfinite(offsets).all():
            self.broken = True
            raise TrackingError(f"the policy gave an offset that is not finite at {data.time:.3f} s")
        return offsets

    def _check(self) -> None:
        data = self.data
        warned = data.warning.number > self._warned
        if not warned.any() and np.isfinite(data.qpos).all() and np.isfinite(data.qvel).all():
            return
        said = [_WARNINGS.get(mujoco.mjtWarning(int(i)), f"warning {int(i)}") for i in np.flatnonzero(warned)]
        self.broken = True
        reason = "; ".join(said) or "a coordinate is not finite"
        raise TrackingError(f"the simulation failed at {data.time:.3f} s in mode {self._mode.value}: {reason}")

    def state(self) -> BodyReading:
        """The body as it is now."""
        robot, data = self.robot_model, self.data
        contact = data.contact
        ours = np.zeros(0, dtype=bool)
        if self._mode != TrackingMode.KINEMATIC:
            ours = robot.robot_geoms[contact.geom[:, 0]] | robot.robot_geoms[contact.geom[:, 1]]
        depth = -contact.dist[ours].min() if ours.any() else 0.0
        return BodyReading(
            time_s=self.time_s,
            mode=self._mode,
            strength=self.config.strength,
            qpos=data.qpos[robot.qpos_index].copy(),
            qvel=data.qvel[robot.qvel_index].copy(),
            reference=self.reference.sample(data.time)[0].copy(),
            T_world_head=robot.T_world_head(data),
            assist_bw=self.assist_force.force_n / robot.weight_n,
            assist_torque_nm=self.assist_force.torque_nm,
            saturated=self.saturated,
            contacts=int(ours.sum()),
            penetration_mm=1000.0 * max(0.0, float(depth)),
            underrun=self.reference.underrun(data.time),
            assist_slip_m=float(np.linalg.norm(self._assist.slip)),
        )
