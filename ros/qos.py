"""The quality of service of every topic, by name of what it is for."""

from __future__ import annotations

from rclpy.qos import (
    QoSDurabilityPolicy,
    QoSHistoryPolicy,
    QoSProfile,
    QoSReliabilityPolicy,
    qos_profile_sensor_data,
)

RELIABLE, BEST_EFFORT = "reliable", "best_effort"


def _profile(
    depth: int,
    reliability: QoSReliabilityPolicy = QoSReliabilityPolicy.RELIABLE,
    durability: QoSDurabilityPolicy = QoSDurabilityPolicy.VOLATILE,
) -> QoSProfile:
    return QoSProfile(history=QoSHistoryPolicy.KEEP_LAST, depth=depth, reliability=reliability, durability=durability)


# States that come at 100 Hz; diagnostics.
STATE = _profile(10)
# Where only the newest counts, and it must arrive: commands, generated pictures.
NEWEST = _profile(1)
# The same, and whoever comes late gets the last one: the goal text, paths, static transforms.
LATCHED = _profile(1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
CLOCK = _profile(1, QoSReliabilityPolicy.BEST_EFFORT)
COMPRESSED = qos_profile_sensor_data


def image_profile(reliability: str) -> QoSProfile:
    """Pictures: depth 1, `reliable` or `best_effort`."""
    return _profile(
        1, {RELIABLE: QoSReliabilityPolicy.RELIABLE, BEST_EFFORT: QoSReliabilityPolicy.BEST_EFFORT}[reliability]
    )
