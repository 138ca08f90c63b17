"""Names of coordinate frames: REP-105 for the floor and the robot, REP-120 for the parts of a humanoid."""

MAP = "map"
ODOM = "odom"  # the simulation's world; the same as the map, since a simulation knows where it is
BASE = "base_link"  # the robot's root body, at the waist
FOOTPRINT = "base_footprint"  # below it on the floor, with its heading
GAZE = "gaze"  # the head: between the eyes, x forward, y left, z up
OPTICAL = "head_camera_optical_frame"  # z forward, x right, y down
