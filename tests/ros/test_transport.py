"""Large pictures: what is said about them, and that the shipped profile delivers them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed; it comes with the extra test")

from egotwin_sim.ros.transport import PROFILE, SEGMENT_BYTES, LargeImageWarning
from tests.ros.harness import TIMEOUT, free_domain
from tests.test_packaging import ROOT

LARGE = 3 * 512 * 512


@pytest.fixture(autouse=True)
def default_transport(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTDDS_BUILTIN_TRANSPORTS"):
        monkeypatch.delenv(name, raising=False)


def warnings(reliability: str, *sizes: int) -> list[str]:
    said: list[str] = []
    warning = LargeImageWarning(reliability, said.append)
    for size in sizes:
        warning.check("head_camera/image_raw", size)
    return said


def test_a_large_picture_that_goes_out_best_effort_is_warned_of_once() -> None:
    (said,) = warnings("best_effort", SEGMENT_BYTES, LARGE, LARGE)
    assert "786432 bytes" in said and "fastdds_large_images.xml" in said


def test_what_arrives_is_not_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    assert warnings("best_effort", 256 * 256 * 3) == []
    assert warnings("reliable", LARGE) == []
    monkeypatch.setenv("FASTDDS_DEFAULT_PROFILES_FILE", "profile.xml")
    assert warnings("best_effort", LARGE) == []


PROGRAM = """
import sys

import numpy as np
import rclpy
from rclpy.node import Node
from sensor_msgs.msg import Image

from egotwin_sim.ros.messages import image_array, image_message
from egotwin_sim.ros.qos import image_profile

picture = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
rclpy.init()
node, received = Node(sys.argv[1]), []
if sys.argv[1] == "writer":
    publisher = node.create_publisher(Image, "large", image_profile("best_effort"))
    node.create_timer(0.05, lambda: publisher.publish(image_message(picture, 0, "camera")))
    rclpy.spin(node)
node.create_subscription(Image, "large", received.append, image_profile("best_effort"))
while len(received) < 20:
    rclpy.spin_once(node)
assert all((image_array(message) == picture).all() for message in received)
"""


def test_the_shipped_profile_delivers_large_pictures_best_effort() -> None:
    profile = str(ROOT / "ros" / "config" / PROFILE)
    environment = os.environ | {"FASTDDS_DEFAULT_PROFILES_FILE": profile, "ROS_DOMAIN_ID": str(free_domain())}
    start = [sys.executable, "-c", PROGRAM]
    writer = subprocess.Popen([*start, "writer"], env=environment, cwd=ROOT)
    try:
        reader = subprocess.run([*start, "reader"], env=environment, cwd=ROOT, timeout=TIMEOUT, capture_output=True)
        assert reader.returncode == 0, reader.stderr
        assert b"XML" not in reader.stderr  # Fast DDS says so when it cannot read a profile, and goes on without
    finally:
        writer.kill()
        writer.wait()
