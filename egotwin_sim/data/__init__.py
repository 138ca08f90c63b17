"""Clips on disk: LeRobot v3.0 datasets, their writer, reader, generator and checks."""

from egotwin_sim.data.camera import Camera
from egotwin_sim.data.clip import Clip
from egotwin_sim.data.lerobot_reader import LeRobotReader
from egotwin_sim.data.lerobot_writer import LeRobotWriter

__all__ = ["Camera", "Clip", "LeRobotReader", "LeRobotWriter"]
