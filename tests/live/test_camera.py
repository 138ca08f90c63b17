"""The head camera's thread: what it hands out, what it drops, and that it leaves nothing behind."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from egotwin_sim.body.robot import RobotModel, our_robot
from egotwin_sim.errors import UserError
from egotwin_sim.live.camera import CameraFrame, HeadCamera, HeadView
from egotwin_sim.live.mailbox import Mailbox
from egotwin_sim.live.simulation import View
from egotwin_sim.room.layout import sample_layout
from egotwin_sim.room.physics import room_scene

WAIT = 60.0  # seconds, far more than any of this takes


@pytest.fixture(scope="module")
def robot_model() -> RobotModel:
    return RobotModel(our_robot(), room_scene(sample_layout(0)))


def view(robot_model: RobotModel, time_s: float = 0.0, x: float = 0.0, door: float = 0.0) -> View:
    qpos = robot_model.model.qpos0.copy()
    qpos[robot_model.qpos_index] = robot_model.standing
    qpos[robot_model.qpos_index[0]] = x
    qpos[robot_model.model.joint("door_hinge").qposadr[0]] = door
    return View(time_s, qpos)


class Frames:
    """Keeps frames and lets a test wait for them, or hold the camera up."""

    def __init__(self) -> None:
        self.all: list[CameraFrame] = []
        self._changed = threading.Condition()
        self.held = threading.Event()
        self.held.set()

    def __call__(self, frame: CameraFrame) -> None:
        with self._changed:
            self.all.append(frame)
            self._changed.notify_all()
        assert self.held.wait(WAIT)
        if frame.time_s < 2.0:
            raise RuntimeError("nobody home")

    def wait_for(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.all) >= count, WAIT)


def test_a_frame_is_of_its_moment(robot_model: RobotModel) -> None:
    head = HeadView(robot_model, 64)
    one, other = view(robot_model, 1.0, door=0.5), view(robot_model, 2.0, x=0.5)
    frame = head.draw(one)
    assert frame.rgb.shape == (64, 64, 3) and frame.rgb.dtype == np.uint8
    assert frame.time_s == 1.0 and frame.view is one and dict(frame.joints) == {"door_hinge": 0.5}
    np.testing.assert_allclose(frame.T_world_head, robot_model.head_poses(frame.qpos[None])[0], atol=1e-9)
    # The optical axis is the head's x, its x is the head's right, and both sit between the eyes.
    np.testing.assert_allclose(frame.T_world_camera[:3, 2], frame.T_world_head[:3, 0], atol=1e-9)
    np.testing.assert_allclose(frame.T_world_camera[:3, 0], -frame.T_world_head[:3, 1], atol=1e-9)
    np.testing.assert_allclose(frame.T_world_camera[:3, 3], frame.T_world_head[:3, 3], atol=1e-9)
    np.testing.assert_allclose(frame.intrinsics, [[32, 0, 32], [0, 32, 32], [0, 0, 1]], atol=1e-9)
    moved = head.draw(other)
    np.testing.assert_allclose(moved.T_world_head[:3, 3] - frame.T_world_head[:3, 3], [0.5, 0, 0], atol=1e-9)
    np.testing.assert_array_equal(head.draw(one).rgb, frame.rgb)
    head.close()


def test_the_thread_draws_the_newest_view_drops_the_others_and_outlives_its_listener(robot_model: RobotModel) -> None:
    views: Mailbox[View] = Mailbox()
    frames = Frames()
    camera = HeadCamera(robot_model, views, 32, frames)
    camera.start()
    with pytest.raises(UserError, match="started before"):
        camera.start()
    try:
        frames.held.clear()
        views.put(view(robot_model, 1.0))
        frames.wait_for(1)  # the camera is busy with it now
        for time in (2.0, 3.0, 4.0):
            views.put(view(robot_model, time, x=time))
        frames.held.set()
        frames.wait_for(2)
        assert [frame.time_s for frame in frames.all] == [1.0, 4.0]
        assert frames.all[1].T_world_head[0, 3] - frames.all[0].T_world_head[0, 3] == pytest.approx(4.0)
        told = camera.status()
        assert told["frames"] == 2 and told["dropped_views"] == 2
        assert told["listener_errors"] == 1 and told["listener_reason"] == "RuntimeError: nobody home"
    finally:
        camera.stop()
    camera.stop()
    assert not camera.running
    # Its context is gone with it; this thread draws as before.
    mine = HeadView(robot_model, 32)
    np.testing.assert_array_equal(mine.draw(view(robot_model, 1.0)).rgb, frames.all[0].rgb)
    mine.close()


def test_a_machine_that_cannot_draw_is_named_at_the_start(
    robot_model: RobotModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUJOCO_GL", "nonsense")
    camera = HeadCamera(robot_model, Mailbox(), 32, lambda frame: None)
    with pytest.raises(UserError, match="OpenGL could not be loaded with MUJOCO_GL=nonsense"):
        camera.start()
    assert not camera.running


@pytest.mark.parametrize("size", [0, 15, 641, 100000, 64.5, True])
def test_sizes_out_of_range_are_refused(robot_model: RobotModel, size: int) -> None:
    with pytest.raises(UserError, match="image size"):
        HeadCamera(robot_model, Mailbox(), size, lambda frame: None)
