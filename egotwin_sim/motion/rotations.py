"""Rotations in plain numpy, for any leading batch dimensions.

Quaternions are `wxyz`; matrices act on column vectors; the 6D form is the first two columns of the matrix
(Zhou et al. 2019, "On the Continuity of Rotation Representations in Neural Networks").
"""

from __future__ import annotations

import numpy as np

# Below this length a direction carries no information in float32.
_DEGENERATE = 1e-6
# Horizontal length of the x axis under which the heading is read from the z axis: 5.7 degrees from the vertical.
_STEEP = 0.1


def quat_normalize(quat_wxyz: np.ndarray) -> np.ndarray:
    """Scale quaternions (..., 4) to unit length.

    Raises:
        ValueError: a quaternion has no length.
    """
    length = np.linalg.norm(quat_wxyz, axis=-1, keepdims=True)
    if not np.all(length > _DEGENERATE):
        raise ValueError("a quaternion of length zero is no rotation")
    return quat_wxyz / length


def quat_conjugate(quat_wxyz: np.ndarray) -> np.ndarray:
    """The inverse of unit quaternions (..., 4)."""
    return quat_wxyz * np.array([1.0, -1.0, -1.0, -1.0], dtype=quat_wxyz.dtype)


def quat_multiply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Hamilton product (..., 4): first b, then a. Leading dimensions broadcast."""
    aw, ax, ay, az = a[..., 0], a[..., 1], a[..., 2], a[..., 3]
    bw, bx, by, bz = b[..., 0], b[..., 1], b[..., 2], b[..., 3]
    return np.stack(
        (
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ),
        axis=-1,
    )


def quat_to_matrix(quat_wxyz: np.ndarray) -> np.ndarray:
    """Rotation matrices (..., 3, 3) of quaternions (..., 4) of any length but zero."""
    w, x, y, z = quat_wxyz[..., 0], quat_wxyz[..., 1], quat_wxyz[..., 2], quat_wxyz[..., 3]
    s = 2.0 / (w * w + x * x + y * y + z * z)
    matrix = np.empty((*quat_wxyz.shape[:-1], 3, 3), dtype=quat_wxyz.dtype)
    matrix[..., 0, 0] = 1.0 - s * (y * y + z * z)
    matrix[..., 0, 1] = s * (x * y - w * z)
    matrix[..., 0, 2] = s * (x * z + w * y)
    matrix[..., 1, 0] = s * (x * y + w * z)
    matrix[..., 1, 1] = 1.0 - s * (x * x + z * z)
    matrix[..., 1, 2] = s * (y * z - w * x)
    matrix[..., 2, 0] = s * (x * z - w * y)
    matrix[..., 2, 1] = s * (y * z + w * x)
    matrix[..., 2, 2] = 1.0 - s * (x * x + y * y)
    return matrix


def matrix_to_quat(matrix: np.ndarray) -> np.ndarray:
    """Unit quaternions (..., 4) with w >= 0 of rotation matrices (..., 3, 3)."""
    m = matrix
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    # Four times the product of every pair of components; the row of the largest component is the accurate one.
    a, b, c = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    d, e, f = m[..., 1, 0] + m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 2, 1] + m[..., 1, 2]
    ww4, xx4 = 1.0 + xx + yy + zz, 1.0 + xx - yy - zz
    yy4, zz4 = 1.0 - xx + yy - zz, 1.0 - xx - yy + zz
    products = np.stack((ww4, a, b, c, a, xx4, d, e, b, d, yy4, f, c, e, f, zz4), axis=-1)
    products = products.reshape(*m.shape[:-2], 4, 4)
    largest = np.argmax(np.stack((ww4, xx4, yy4, zz4), axis=-1), axis=-1)
    quat = np.take_along_axis(products, largest[..., None, None], axis=-2)[..., 0, :]
    quat = quat / np.linalg.norm(quat, axis=-1, keepdims=True)
    return np.where(quat[..., :1] < 0, -quat, quat)


def slerp(a: np.ndarray, b: np.ndarray, t: np.ndarray | float) -> np.ndarray:
    """Spherical interpolation along the shorter arc.

    Args:
        a: unit quaternions (..., 4), the result at t = 0.
        b: unit quaternions (..., 4), the result at t = 1.
        t: fractions; the shape broadcasts against the leading dimensions of a and b.
    """
    t = np.asarray(t)[..., None]
    dot = np.sum(a * b, axis=-1, keepdims=True)
    b = np.where(dot < 0, -b, b)
    angle = np.arccos(np.minimum(np.abs(dot), 1.0))
    sine = np.sin(angle)
    near = sine < 1e-4  # the sine no longer divides well, and the straight line is exact to 1e-9
    safe = np.where(near, 1.0, sine)
    weight_a = np.where(near, 1.0 - t, np.sin((1.0 - t) * angle) / safe)
    weight_b = np.where(near, t, np.sin(t * angle) / safe)
    return quat_normalize(weight_a * a + weight_b * b)


def matrix_to_rotation_6d(matrix: np.ndarray) -> np.ndarray:
    """First column, then second column: (..., 3, 3) -> (..., 6)."""
    return np.concatenate((matrix[..., :, 0], matrix[..., :, 1]), axis=-1)


def is_degenerate_6d(rotation_6d: np.ndarray) -> np.ndarray:
    """True (...,) where a 6D rotation (..., 6) has a column of no length, or two parallel ones."""
    return ~_gram_schmidt(rotation_6d)[1]


def rotation_6d_to_matrix(rotation_6d: np.ndarray) -> np.ndarray:
    """Rotation matrices (..., 3, 3) of 6D rotations (..., 6) by Gram-Schmidt.

    Raises:
        ValueError: a 6D rotation has a column of no length, or two parallel ones.
    """
    matrix, regular = _gram_schmidt(rotation_6d)
    if not regular.all():
        raise ValueError("a 6D rotation with a zero column or two parallel columns is no rotation")
    return matrix


def _gram_schmidt(rotation_6d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Matrices (..., 3, 3), and where they are valid (...,)."""
    x, y = rotation_6d[..., :3], rotation_6d[..., 3:]
    length_x = np.sqrt(np.sum(x * x, axis=-1, keepdims=True))
    length_y = np.sqrt(np.sum(y * y, axis=-1, keepdims=True))
    x = x / np.maximum(length_x, _DEGENERATE)
    y = y / np.maximum(length_y, _DEGENERATE)
    y = y - np.sum(x * y, axis=-1, keepdims=True) * x
    area = np.sqrt(np.sum(y * y, axis=-1, keepdims=True))
    y = y / np.maximum(area, _DEGENERATE)
    matrix = np.empty((*rotation_6d.shape[:-1], 3, 3), dtype=x.dtype)
    matrix[..., 0] = x
    matrix[..., 1] = y
    matrix[..., 0, 2] = x[..., 1] * y[..., 2] - x[..., 2] * y[..., 1]
    matrix[..., 1, 2] = x[..., 2] * y[..., 0] - x[..., 0] * y[..., 2]
    matrix[..., 2, 2] = x[..., 0] * y[..., 1] - x[..., 1] * y[..., 0]
    regular = (length_x > _DEGENERATE) & (length_y > _DEGENERATE) & (area > _DEGENERATE)
    return matrix, regular[..., 0]


def axis_angle_to_quat(axis_angle: np.ndarray) -> np.ndarray:
    """Unit quaternions (..., 4) of rotation vectors (..., 3), radians."""
    angle = np.linalg.norm(axis_angle, axis=-1, keepdims=True)
    # np.sinc(x) = sin(pi x) / (pi x), finite at zero.
    vector = axis_angle * (0.5 * np.sinc(angle / (2.0 * np.pi)))
    return np.concatenate((np.cos(0.5 * angle), vector), axis=-1)


def quat_to_axis_angle(quat_wxyz: np.ndarray) -> np.ndarray:
    """Rotation vectors (..., 3), of length at most pi, of unit quaternions (..., 4)."""
    quat = np.where(quat_wxyz[..., :1] < 0, -quat_wxyz, quat_wxyz)
    sine = np.linalg.norm(quat[..., 1:], axis=-1, keepdims=True)
    angle = 2.0 * np.arctan2(sine, quat[..., :1])
    return quat[..., 1:] * np.where(sine > 1e-12, angle / np.maximum(sine, 1e-12), 2.0)


def axis_angle_to_matrix(axis_angle: np.ndarray) -> np.ndarray:
    """Rotation matrices (..., 3, 3) of rotation vectors (..., 3), radians."""
    return quat_to_matrix(axis_angle_to_quat(axis_angle))


def matrix_to_axis_angle(matrix: np.ndarray) -> np.ndarray:
    """Rotation vectors (..., 3), of length at most pi, of rotation matrices (..., 3, 3)."""
    return quat_to_axis_angle(matrix_to_quat(matrix))


def rotation_angle(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Angle (...,) in radians between rotation matrices (..., 3, 3), accurate near zero and near pi."""
    return np.linalg.norm(matrix_to_axis_angle(np.swapaxes(a, -1, -2) @ b), axis=-1)


def shortest_turn(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The smallest rotations (..., 3, 3) that take the directions a (..., 3) to b (..., 3).

    None where one of them has no length; half a turn about any axis across them where they are opposite.
    """
    lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    safe = np.where(lengths > 0, lengths, 1.0)
    across, cosine = np.cross(a, b) / safe[..., None], np.sum(a * b, axis=-1) / safe
    sine = np.linalg.norm(across, axis=-1)
    parallel = sine < 1e-9
    any_across = np.cross(a, np.eye(3)[np.argmin(np.abs(a), axis=-1)])
    axis = np.where(parallel[..., None], any_across, across)
    length = np.linalg.norm(axis, axis=-1, keepdims=True)
    axis = axis / np.where(length > 0, length, 1.0)
    angle = np.where(parallel, np.where(cosine < 0, np.pi, 0.0), np.arctan2(sine, cosine))
    return axis_angle_to_matrix(axis * np.where(lengths > 0, angle, 0.0)[..., None])


def axis_matrix(axis: str, angle: np.ndarray) -> np.ndarray:
    """Rotation matrices (..., 3, 3) about the axis "x", "y" or "z" by angles (...,) in radians."""
    angle = np.asarray(angle)
    i = "xyz".index(axis)
    j, k = (i + 1) % 3, (i + 2) % 3
    matrix = np.zeros((*angle.shape, 3, 3), dtype=np.result_type(angle, np.float32))
    cosine, sine = np.cos(angle), np.sin(angle)
    matrix[..., i, i] = 1.0
    matrix[..., j, j] = cosine
    matrix[..., k, k] = cosine
    matrix[..., j, k] = -sine
    matrix[..., k, j] = sine
    return matrix


def yaw_matrix(yaw: np.ndarray | float) -> np.ndarray:
    """Rotations (..., 3, 3) about the vertical by angles (...,) in radians."""
    return axis_matrix("z", np.asarray(yaw))


def yaw_of(matrix: np.ndarray) -> np.ndarray:
    """Heading (...,) in radians of the x axis of rotations (..., 3, 3).

    Defined for every rotation: where the x axis is steep, the heading is that of the top of the head (looking
    down, the z axis points forward; looking up, backward). Turning the world by an angle adds that angle.
    """
    x, y = matrix[..., 0, 0], matrix[..., 1, 0]
    steep = np.hypot(x, y) < _STEEP
    sign = np.where(matrix[..., 2, 0] > 0, -1.0, 1.0)
    return np.arctan2(np.where(steep, sign * matrix[..., 1, 2], y), np.where(steep, sign * matrix[..., 0, 2], x))
