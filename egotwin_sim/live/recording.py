"""What happened in a live run, kept at the rate of the dream's frames."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from egotwin_sim.body.tracker import BodyReading
from egotwin_sim.live.camera import CameraFrame
from egotwin_sim.live.dream import DreamtChunk
from egotwin_sim.metrics.image import psnr, ssim
from egotwin_sim.metrics.motion import rotation_angle
from egotwin_sim.motion.rotations import matrix_to_quat, quat_to_matrix, slerp

_SAME = 1e-6  # seconds
KEPT_HZ = 8.0  # head-camera pictures kept a simulated second, as many as the dream has frames


@dataclass(frozen=True, eq=False)
class DriftCurve:
    """How far the dream is from the simulation, at the times of the dream's frames.

    Attributes:
        time_s: (N,), simulated seconds.
        head_m: (N,), metres between the dreamt and the simulated head.
        head_deg: (N,), degrees between their orientations.
        psnr_db, ssim: (N,), of the dreamt frame against what the head camera saw.
    """

    time_s: np.ndarray
    head_m: np.ndarray
    head_deg: np.ndarray
    psnr_db: np.ndarray
    ssim: np.ndarray

    def summary(self) -> dict[str, Any]:
        """Means over all, and of the first and the last ten seconds; None where there is nothing."""
        told: dict[str, Any] = {"frames": len(self.time_s)}
        end = self.time_s[-1] if len(self.time_s) else 0.0
        parts = {"": self.time_s >= 0, "_first_10_s": self.time_s <= 10.0, "_last_10_s": self.time_s > end - 10.0}
        for name in ("head_m", "head_deg", "psnr_db", "ssim"):
            for part, chosen in parts.items():
                values = getattr(self, name)[chosen]
                told[name + part] = float(values.mean()) if len(values) else None
        return told


@dataclass(eq=False)
class Recording:
    """Lists that grow while a live run goes on; each is written by one thread alone.

    Attributes:
        camera_hz: head-camera pictures that there are a simulated second.
        frames: those nearest to the times of the dream's frames; in the model's size as `seen`.
        readings: of the body, as often as it is published.
        chunks: what was dreamt, and `heads` (8, 4, 4), where the robot's head would be if it did just that.
    """

    camera_hz: float
    frames: list[CameraFrame] = field(default_factory=list)
    seen: list[np.ndarray] = field(default_factory=list)
    readings: list[BodyReading] = field(default_factory=list)
    chunks: list[DreamtChunk] = field(default_factory=list)
    heads: list[np.ndarray] = field(default_factory=list)

    def wants(self, time_s: float) -> bool:
        """Whether a picture of that time is one to keep."""
        target = self._target(time_s)
        new = not self.frames or target > self._target(self.frames[-1].time_s) + 0.5 / KEPT_HZ
        return new and abs(time_s - target) <= 0.5 / self.camera_hz + 1e-6

    def add_frame(self, frame: CameraFrame, seen: np.ndarray) -> None:
        """Take a picture in; `seen` is it in the model's size."""
        self.frames.append(frame)
        self.seen.append(seen)

    def _target(self, time_s: float) -> float:
        """The time of a dreamt frame, past or to come, that is nearest to a time."""
        phase = self.chunks[-1].deadline_s % (1.0 / KEPT_HZ) if self.chunks else 0.0
        return phase + round((time_s - phase) * KEPT_HZ) / KEPT_HZ

    def reading_at(self, time_s: float) -> BodyReading | None:
        """The reading nearest to a time; None where there is none within a period of the camera."""
        nearest: BodyReading | None = None
        for reading in reversed(self.readings):
            if nearest is not None and abs(reading.time_s - time_s) > abs(nearest.time_s - time_s):
                break
            nearest = reading
        return None if nearest is None or abs(nearest.time_s - time_s) > 1.0 / self.camera_hz else nearest

    def drift(self) -> DriftCurve:
        """The dream against the simulation, for every dreamt frame of whose time there is a picture.

        Where a chunk begins before the one before it has ended, for something was in the way, the newer one counts.
        """
        times = np.array([frame.time_s for frame in self.frames])
        moments = np.array([reading.time_s for reading in self.readings])
        rows: list[tuple[float, ...]] = []
        ends = [chunk.deadline_s for chunk in self.chunks[1:]] + [np.inf]
        for chunk, heads, end in zip(self.chunks, self.heads, ends, strict=False):
            every = len(heads) // len(chunk.frames)
            for picture, head, time in zip(chunk.frames, heads[every - 1 :: every], chunk.frame_times, strict=True):
                if not len(times) or not len(moments) or time > min(moments[-1], end + _SAME):
                    continue
                nearest = int(np.abs(times - time).argmin())
                if abs(times[nearest] - time) > 0.5 / KEPT_HZ:
                    continue
                body = self._head_at(moments, time)
                image = picture[None], self.seen[nearest][None]
                rows.append(
                    (
                        time,
                        float(np.linalg.norm(head[:3, 3] - body[:3, 3])),
                        float(np.rad2deg(rotation_angle(head[:3, :3], body[:3, :3]))),
                        float(psnr(*image)[0]),
                        float(ssim(*image)[0]),
                    )
                )
        columns = np.array(rows, dtype=np.float64).reshape(-1, 5).T
        return DriftCurve(*columns)

    def _head_at(self, moments: np.ndarray, time: float) -> np.ndarray:
        """The simulated head (4, 4) at a time between two readings."""
        after = min(int(np.searchsorted(moments, time)), len(moments) - 1)
        before = max(after - 1, 0)
        span = moments[after] - moments[before]
        share = float(np.clip((time - moments[before]) / span, 0.0, 1.0)) if span > 0 else 0.0
        first, second = self.readings[before].T_world_head, self.readings[after].T_world_head
        pose = np.eye(4)
        pose[:3, 3] = first[:3, 3] + share * (second[:3, 3] - first[:3, 3])
        turn = slerp(matrix_to_quat(first[:3, :3]), matrix_to_quat(second[:3, :3]), share)
        pose[:3, :3] = quat_to_matrix(turn)
        return pose
