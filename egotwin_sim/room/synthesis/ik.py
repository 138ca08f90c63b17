"""Closed-form inverse kinematics of limbs of two bones, over whole clips at once."""

from __future__ import annotations

import numpy as np

# A limb is never straightened further than this share of its length: the knee's or elbow's direction stays defined.
MAX_STRETCH = 0.995


def unit(vector: np.ndarray) -> np.ndarray:
    """Vectors (..., 3) scaled to length 1; the zero vector stays zero."""
    return vector / np.maximum(np.linalg.norm(vector, axis=-1, keepdims=True), 1e-9)


def bend(distance: np.ndarray, upper: float, lower: float) -> tuple[np.ndarray, np.ndarray]:
    """Angles of a two-bone limb whose ends are `distance` (...) metres apart.

    Returns:
        The angle between the first bone and the line root-to-tip, and the flexion of the middle joint (0 when
        straight), radians (...). A distance out of reach gives the nearest the limb can do.
    """
    d = np.clip(distance, abs(upper - lower) + 1e-6, MAX_STRETCH * (upper + lower))
    root = np.arccos(np.clip((upper**2 + d**2 - lower**2) / (2 * upper * d), -1.0, 1.0))
    inner = np.arccos(np.clip((upper**2 + lower**2 - d**2) / (2 * upper * lower), -1.0, 1.0))
    return root, np.pi - inner


def _frames(root: np.ndarray, tip: np.ndarray, pole: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit direction root-to-tip, unit bending direction (towards `pole`, orthogonal to it), and the distance."""
    line = tip - root
    distance = np.linalg.norm(line, axis=-1)
    line = unit(line)
    side = pole - np.sum(pole * line, axis=-1, keepdims=True) * line
    return line, unit(side), distance


def leg(
    hip: np.ndarray, ankle: np.ndarray, pole: np.ndarray, thigh: float, shin: float
) -> tuple[np.ndarray, np.ndarray]:
    """World rotation of the thigh (T, 3, 3) and knee flexion (T,) that put the ankle in place.

    Args:
        hip: (T, 3) world position of the hip joint.
        ankle: (T, 3) wanted world position of the ankle joint.
        pole: (T, 3) direction that the knee points to.
        thigh: metres, hip to knee.
        shin: metres, knee to ankle.

    Both bones lie along -z of their joint's frame in the rest pose; the knee bends about its +y axis.
    """
    line, forward, distance = _frames(hip, ankle, pole)
    angle, flexion = bend(distance, thigh, shin)
    bone = np.cos(angle)[..., None] * line + np.sin(angle)[..., None] * forward
    z = -bone
    y = unit(np.cross(z, forward))
    return np.stack([np.cross(y, z), y, z], axis=-1), flexion


def arm(
    shoulder: np.ndarray, hand: np.ndarray, pole: np.ndarray, upper: float, lower: float, side: float
) -> tuple[np.ndarray, np.ndarray]:
    """World rotation of the upper arm (T, 3, 3) and elbow flexion (T,) that put the hand in place.

    Args:
        shoulder: (T, 3) world position of the shoulder joint.
        hand: (T, 3) wanted world position of the hand, on the forearm's line `lower` metres from the elbow.
        pole: (T, 3) direction that the elbow points to.
        upper: metres, shoulder to elbow.
        lower: metres, elbow to hand.
        side: +1 for the left arm, -1 for the right one.

    Both bones lie along `side` * y of their joint's frame in the rest pose; the elbow bends about z by -side * flexion,
    which brings the hand forward.
    """
    line, out, distance = _frames(shoulder, hand, pole)
    angle, flexion = bend(distance, upper, lower)
    bone = np.cos(angle)[..., None] * line + np.sin(angle)[..., None] * out
    y = side * bone
    # The elbow points away from the way the forearm bends: the joint frame's +x is opposite to the pole.
    x = unit(-out - np.sum(-out * y, axis=-1, keepdims=True) * y)
    return np.stack([x, y, np.cross(x, y)], axis=-1), flexion
