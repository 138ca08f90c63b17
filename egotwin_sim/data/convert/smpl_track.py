"""SMPL parameters that have times of their own, read from a data set and brought to our axes."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from egotwin_sim.errors import UserError
from egotwin_sim.motion import Motion
from egotwin_sim.motion.rotations import axis_angle_to_quat, quat_multiply, quat_to_axis_angle, quat_to_matrix
from egotwin_sim.motion.smpl import smpl_to_motion
from egotwin_sim.motion.smpl_body import SMPLBody
from egotwin_sim.motion.timed import interpolated

_BODY_JOINTS = 21
# Between frames that are further apart, nothing is interpolated, seconds.
_MAX_GAP = 0.1
_SHORTEST = 1.0
# How much of a trunk points upward on average in a recording of everyday life, cosine; far more than of one that lies.
_UPRIGHT = 0.3
# From the pelvis to the head, in SMPL's order of joints.
_HEAD_CHAIN = (3, 6, 9, 12, 15)
_Z_FROM_Y_UP = np.array([np.sqrt(0.5), np.sqrt(0.5), 0.0, 0.0])


@dataclass(frozen=True, eq=False)
class SmplTrack:
    """A body as SMPL parameters over time, in a world with z up.

    Attributes:
        source: the file, for messages.
        times_s: float64 (T,), rising.
        quat_wxyz: float64 (T, 22, 4), the pelvis to the world, and 21 joints to their parents.
        transl: float64 (T, 3), metres.
        betas: float64 (10,), the shape.
        stretches: (start, end) indices of frames without a gap between them.
        notes: what was mended or assumed.
    """

    source: str
    times_s: np.ndarray
    quat_wxyz: np.ndarray
    transl: np.ndarray
    betas: np.ndarray
    stretches: tuple[tuple[int, int], ...]
    notes: tuple[str, ...]

    @classmethod
    def from_params(
        cls,
        source: str,
        times_s: np.ndarray,
        pose: np.ndarray,
        transl: np.ndarray,
        betas: np.ndarray,
        valid: np.ndarray,
        notes: list[str],
    ) -> SmplTrack:
        """Check parameters and find out which axis is up.

        Args:
            source: the file, for messages.
            times_s: (T,), seconds.
            pose: (T, 66 or more), rotation vectors of the pelvis, of 21 joints, and of what is not used.
            transl: (T, 3), metres.
            betas: (T, 10 or more).
            valid: bool (T,), which frames may be used.
            notes: of the reader.

        Raises:
            UserError: times run back, the body stands on neither of two axes, or no second of it is sound.
        """
        times_s = np.asarray(times_s, dtype=np.float64)
        if (np.diff(times_s) <= 0).any():
            frame = int(np.argmax(np.diff(times_s) <= 0))
            raise UserError(f"{source}: the clock does not rise after frame {frame}; drop the file")
        finite = np.isfinite(pose).all(axis=1) & np.isfinite(transl).all(axis=1) & np.isfinite(betas).all(axis=1)
        if not finite.all():
            notes = [*notes, f"{int((~finite).sum())} frames have numbers that are not finite and are left out"]
        use = valid & finite
        times_s, pose, transl, betas = (each[use] for each in (times_s, pose, transl, betas))
        breaks = np.concatenate(([0], np.flatnonzero(np.diff(times_s) > _MAX_GAP) + 1, [len(times_s)]))
        pairs = [(int(a), int(b)) for a, b in zip(breaks, breaks[1:], strict=False)]
        stretches = [(a, b) for a, b in pairs if b - a > 1 and times_s[b - 1] - times_s[a] >= _SHORTEST]
        if not stretches:
            raise UserError(
                f"{source} has no second of unbroken motion ({'; '.join(notes) or 'it is too short'}); drop it"
            )
        if len(pairs) > 1:
            notes = [*notes, f"{len(pairs) - 1} gaps of more than {_MAX_GAP:g} s split the body's motion"]
        quat = axis_angle_to_quat(pose[:, : 3 * (1 + _BODY_JOINTS)].reshape(len(pose), -1, 3).astype(np.float64))
        transl = transl.astype(np.float64)
        # SMPL's trunk points along y at rest.
        up = quat_to_matrix(quat[:, 0])[:, :, 1].mean(axis=0)
        if up[1] > max(2.0 * abs(up[2]), _UPRIGHT):
            quat[:, 0] = quat_multiply(_Z_FROM_Y_UP, quat[:, 0])
            transl = transl @ quat_to_matrix(_Z_FROM_Y_UP).T
            notes = [*notes, "the body's world has y up and was turned to z up"]
        elif not up[2] > max(2.0 * abs(up[1]), _UPRIGHT):
            raise UserError(
                f"{source}: the trunk points along {up.round(2).tolist()} on average; expected a world with y or z up"
            )
        shape = np.median(betas[:, :10].astype(np.float64), axis=0)
        return cls(source, times_s, quat, transl, shape, tuple(stretches), tuple(notes))

    def spans(self) -> list[tuple[float, float]]:
        """First and last time of every stretch, seconds."""
        return [(float(self.times_s[start]), float(self.times_s[end - 1])) for start, end in self.stretches]

    def head_quat_wxyz(self) -> np.ndarray:
        """Rotations (T, 4) of the head to the world."""
        quat = self.quat_wxyz[:, 0]
        for joint in _HEAD_CHAIN:
            quat = quat_multiply(quat, self.quat_wxyz[:, joint])
        return quat

    def motion(self, times_s: np.ndarray, fps: float, body: SMPLBody | None = None) -> Motion:
        """The body at evenly spaced times (N,) within one stretch.

        Args:
            times_s: (N,), seconds.
            fps: their number per second.
            body: the SMPL model, whose proportions the motion then has; ours without it.

        Raises:
            UserError: the times are not within one stretch.
        """
        for start, end in self.stretches:
            if self.times_s[start] <= times_s[0] and times_s[-1] <= self.times_s[end - 1]:
                part = slice(start, end)
                place = np.broadcast_to(self.transl[part, None], (end - start, self.quat_wxyz.shape[1], 3))
                transl, quat = interpolated(self.times_s[part], place, self.quat_wxyz[part], times_s)
                pose = quat_to_axis_angle(quat)
                return smpl_to_motion(
                    None, pose[:, 0], pose[:, 1:].reshape(len(pose), -1), transl[:, 0], fps, body=body
                )
        raise UserError(f"{self.source} has no unbroken motion from {times_s[0]:.3f} s to {times_s[-1]:.3f} s")


def read_arrays(path: Path, widths: dict[str, int]) -> dict[str, np.ndarray]:
    """Arrays of an `.npz` file, each with one row a frame.

    Args:
        path: the file.
        widths: how many numbers a row has at least, by name.

    Returns:
        The arrays, (T, N) each, or (T,) for a width of 0.

    Raises:
        UserError: the file is missing or damaged, lacks an array, or their lengths differ.
    """
    if not path.is_file():
        raise UserError(
            f"{path} is missing; expected the SMPL parameters of the body, download the group that holds them"
        )
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in widths if name not in file.files]
            data = {name: file[name] for name in widths if name in file.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} cannot be read as .npz ({error}); download it again") from error
    if missing:
        raise UserError(f"{path} lacks {', '.join(missing)}; expected SMPL parameters: is it another file?")
    # A leading axis of one person.
    data = {
        name: each[0] if each.ndim == (3 if widths[name] else 2) and len(each) == 1 else each
        for name, each in data.items()
    }
    counts = {len(each) for each in data.values()}
    for name, width in widths.items():
        shape = data[name].shape
        if len(counts) != 1 or len(shape) != (2 if width else 1) or (width and shape[1] < width):
            raise UserError(
                f"{path}: {name} has shape {shape}; expected one row for each of {max(counts)} frames"
                + (f", of {width} numbers or more" if width else "")
            )
    return data
