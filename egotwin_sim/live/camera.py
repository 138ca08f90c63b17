"""The head camera as a thread: it draws what the simulation leaves for it, with an OpenGL context of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from egotwin_sim.body import mujoco
from egotwin_sim.body.rendering import Canvas, free_context
from egotwin_sim.body.robot import IMAGE_SIZE, RobotModel
from egotwin_sim.errors import UserError
from egotwin_sim.live.mailbox import Mailbox
from egotwin_sim.live.simulation import View

SMALLEST = 16  # pixels
# A column is an axis of the optical frame (x right, y down, z forward) in MuJoCo's camera (x right, y up, z backward).
_OPTICAL = np.diag([1.0, -1.0, -1.0])


@dataclass(frozen=True, eq=False)
class CameraFrame:
    """What the head camera saw at one moment.

    Attributes:
        time_s: of the simulation, when it was so (not when it was drawn).
        rgb: uint8 (H, W, 3).
        T_world_head: float64 (4, 4).
        T_world_camera: float64 (4, 4), of the optical frame (z forward, x right, y down).
        intrinsics: float64 (3, 3), pixels.
        qpos: (7 + n,), the robot's coordinates at that moment.
        joints: angles of the scene's own hinges by name, such as "door_hinge", radians.
        view: the whole scene at that moment, to be drawn again; None where it is elsewhere.
    """

    time_s: float
    rgb: np.ndarray
    T_world_head: np.ndarray
    T_world_camera: np.ndarray
    intrinsics: np.ndarray
    qpos: np.ndarray
    joints: Mapping[str, float] = field(default_factory=dict)
    view: View | None = None


class HeadView:
    """Draws what the head camera sees; it belongs to the thread that made it.

    Args:
        robot_model: the robot in its scene.
        size: width and height of the pictures, pixels.

    Attributes:
        size: as given.
        intrinsics: float64 (3, 3), pixels.

    Raises:
        UserError: a size out of range, or a machine that cannot draw.
    """

    def __init__(self, robot_model: RobotModel, size: int = 256) -> None:
        check_size(size)
        self._robot, self.size = robot_model, size
        self._data = mujoco.MjData(robot_model.model)
        self._canvas = Canvas(robot_model.model, robot_model.robot.hidden_group)
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._camera.fixedcamid = robot_model.head_camera
        model, own = robot_model.model, set(robot_model.qpos_index.tolist())
        self._hinges = {
            model.joint(j).name: int(address)
            for j, address in enumerate(model.jnt_qposadr)
            if model.jnt_type[j] == mujoco.mjtJoint.mjJNT_HINGE and int(address) not in own
        }
        fovy = np.deg2rad(robot_model.model.cam_fovy[robot_model.head_camera])
        focal = size / 2 / np.tan(fovy / 2)
        self.intrinsics = np.array([[focal, 0.0, size / 2], [0.0, focal, size / 2], [0.0, 0.0, 1.0]])

    def draw(self, view: View) -> CameraFrame:
        """The picture of a moment."""
        self._place(view)
        self._canvas.draw(self._data, self._camera, self.size, self.size)
        robot, data = self._robot, self._data
        pose = np.eye(4)
        pose[:3, :3] = data.cam_xmat[robot.head_camera].reshape(3, 3) @ _OPTICAL
        pose[:3, 3] = data.cam_xpos[robot.head_camera]
        return CameraFrame(
            view.time_s,
            self._canvas.read_rgb(),
            robot.T_world_head(data),
            pose,
            self.intrinsics,
            view.qpos[robot.qpos_index],
            {name: float(view.qpos[address]) for name, address in self._hinges.items()},
            view,
        )

    def third_person(
        self, view: View, *, azimuth: float = 135.0, elevation: float = -35.0, distance: float = 4.0
    ) -> np.ndarray:
        """The body from outside, uint8 (size, size, 3), looking along `azimuth` and down; degrees and metres."""
        self._place(view)
        camera = mujoco.MjvCamera()
        camera.type = mujoco.mjtCamera.mjCAMERA_FREE
        camera.lookat[:] = self._data.xpos[self._robot.root_body]
        camera.azimuth, camera.elevation, camera.distance = azimuth, elevation, distance
        self._canvas.draw(self._data, camera, self.size, self.size, everything=True)
        return self._canvas.read_rgb()

    def close(self) -> None:
        """Frees what it holds on the graphics side."""
        self._canvas.close()

    def _place(self, view: View) -> None:
        self._data.qpos[:] = view.qpos
        mujoco.mj_kinematics(self._robot.model, self._data)
        mujoco.mj_camlight(self._robot.model, self._data)


class HeadCamera:
    """Draws the newest view again and again, in a thread that makes its OpenGL context and frees it.

    While it draws, views that come replace one another: none is drawn late, and the simulation counts what it left in
    vain.

    Args:
        robot_model: the robot in its scene.
        views: where the simulation leaves them; the thread ends when it is closed.
        size: width and height of the pictures, pixels.
        on_frame: called with each picture, in the camera's thread. What it raises is counted.

    Raises:
        UserError: a size out of range.
    """

    def __init__(
        self, robot_model: RobotModel, views: Mailbox[View], size: int, on_frame: Callable[[CameraFrame], None]
    ) -> None:
        check_size(size)
        self._robot, self._views, self._size, self._on_frame = robot_model, views, size, on_frame
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._stopping = False
        self._error: Exception | None = None
        self._frames = 0
        self._listener_errors, self._listener_reason = 0, ""

    def start(self) -> None:
        """Begins to draw, and returns once it can.

        Raises:
            UserError: the machine cannot draw, or it was started before.
        """
        if self._thread is not None:
            raise UserError("the head camera was started before; make another one")
        self._thread = threading.Thread(target=self._run, name="head_camera", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._error is not None:
            self._thread.join()
            raise self._error

    def stop(self) -> None:
        """Ends the thread, which frees its OpenGL context, and waits for its end; stopping twice does no harm."""
        self._stopping = True
        self._views.close()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    @property
    def running(self) -> bool:
        """Whether the thread is alive."""
        return self._thread is not None and self._thread.is_alive()

    def status(self) -> dict[str, Any]:
        """Figures: `frames` drawn, `dropped_views` replaced before they could be drawn, and what listeners raised."""
        return {
            "frames": self._frames,
            "dropped_views": self._views.dropped,
            "reason": "" if self._error is None else str(self._error),
            "listener_errors": self._listener_errors,
            "listener_reason": self._listener_reason,
        }

    def _run(self) -> None:
        head: HeadView | None = None
        try:
            head = HeadView(self._robot, self._size)
            self._ready.set()
            while not self._stopping:
                view = self._views.take()
                if view is None:
                    break
                frame = head.draw(view)
                self._frames += 1
                self._hand_out(frame)
        except Exception as error:
            self._error = error
        finally:
            if head is not None:
                head.close()
            free_context()
            self._ready.set()

    def _hand_out(self, frame: CameraFrame) -> None:
        try:
            self._on_frame(frame)
        except Exception as error:  # a listener's mistake must not blind the body
            self._listener_errors += 1
            self._listener_reason = f"{type(error).__name__}: {' '.join(str(error).split())}"


def check_size(size: int) -> None:
    """Refuse a size that cannot be drawn.

    Raises:
        UserError: it is no whole number from `SMALLEST` to `IMAGE_SIZE`.
    """
    if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or not SMALLEST <= size <= IMAGE_SIZE:
        raise UserError(f"image size {size}; expected {SMALLEST} to {IMAGE_SIZE} pixels")
