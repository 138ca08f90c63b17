"""Camera recovery by tracked corners and the essential matrix (OpenCV, extra `eval`): fast, without a back end."""

from __future__ import annotations

import numpy as np

from egotwin_sim.data.camera import Camera
from egotwin_sim.metrics.recovery import check_video, import_tool
from egotwin_sim.metrics.trajectory import Trajectory

CORNERS = 1500  # sought in a frame
LEAST_TRACKS = 40  # below it two frames have too little in common
BACK_PIXELS = 1.0  # a track is kept when tracking it back ends within this distance of its start
EPIPOLAR_PIXELS = 0.7  # of an inlier
STILL_PIXELS = 0.8  # median distance from a pure rotation, below which the step is taken to have no parallax
LEAST_COMMON = 10  # points that carry the scale from one step to the next
FARTHEST = 200.0  # step lengths; what is farther has no parallax to measure it by
SEED = 0


class OpenCVRecovery:
    """`CameraRecovery` step by step, up to an unknown scale.

    Corners are tracked from each frame to the next (Lucas and Kanade), the essential matrix gives the turn and the
    direction of the step, and the depth of points that two steps share gives the ratio of their lengths. A step without
    parallax is a turn. Where too few points are tracked, or none carry the scale, the trajectory ends and another one
    begins; the longest is kept.

    Raises:
        UserError: OpenCV is not installed.
    """

    metric = False

    def __init__(self) -> None:
        self.cv2 = import_tool("cv2", "opencv-python-headless", "OpenCVRecovery")
        self.name = f"opencv {self.cv2.__version__} essential matrix"

    def recover(self, frames: np.ndarray, camera: Camera, fps: float, clip: str = "") -> Trajectory:
        """As `CameraRecovery.recover`."""
        frames = check_video(frames, fps)
        self.cv2.setRNGSeed(SEED)
        grey = [self.cv2.cvtColor(frame, self.cv2.COLOR_RGB2GRAY) for frame in frames]
        chains: list[dict[int, np.ndarray]] = [{0: np.eye(4)}]
        shares = []
        # Points of the last frame whose distance is known in the chain's unit: pixel and position in its camera.
        pixels = self._corners(grey[0], np.zeros((0, 2), np.float32))
        points = np.full((len(pixels), 3), np.nan)
        for t in range(1, len(grey)):
            before, after, kept = self._track(grey[t - 1], grey[t], pixels)
            step = self._step(before, after, points[kept], camera.K, scaled=len(chains[-1]) > 1)
            if step is None:
                chains.append({t: np.eye(4)})
                pixels = self._corners(grey[t], np.zeros((0, 2), np.float32))
                points = np.full((len(pixels), 3), np.nan)
                continue
            T_after_before, known, inliers = step
            shares.append(float(inliers.mean()))
            chains[-1][t] = chains[-1][t - 1] @ np.linalg.inv(T_after_before)
            pixels = self._corners(grey[t], after[inliers])
            points = np.full((len(pixels), 3), np.nan)
            points[: inliers.sum()] = known[inliers]
        longest = max(chains, key=len)
        poses, recovered = np.tile(np.eye(4), (len(frames), 1, 1)), np.zeros(len(frames), dtype=bool)
        if len(longest) > 1:
            for t, pose in longest.items():
                poses[t], recovered[t] = pose, True
        times = np.arange(len(frames)) / fps
        return Trajectory(times, poses, recovered, float(np.mean(shares)) if shares else 0.0)

    def _corners(self, grey: np.ndarray, kept: np.ndarray) -> np.ndarray:
        """Corners (N, 2), the kept ones first and new ones where there are none."""
        free = np.full(grey.shape, 255, np.uint8)
        for x, y in kept:
            self.cv2.circle(free, (round(float(x)), round(float(y))), 4, 0, -1)
        wanted = CORNERS - len(kept)
        found = self.cv2.goodFeaturesToTrack(grey, wanted, 0.005, 5, mask=free) if wanted > 0 else None
        new = np.zeros((0, 2), np.float32) if found is None else found.reshape(-1, 2)
        return np.concatenate([kept, new]).astype(np.float32)

    def _track(self, a: np.ndarray, b: np.ndarray, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Pixels in a, in b (M, 2), and which of the given ones (N,) these are."""
        if not len(pixels):
            return pixels, pixels, np.zeros(0, dtype=bool)
        options = {"winSize": (21, 21), "maxLevel": 4}
        there, found, _ = self.cv2.calcOpticalFlowPyrLK(a, b, pixels[:, None], None, **options)
        again, back, _ = self.cv2.calcOpticalFlowPyrLK(b, a, there, None, **options)
        near = np.linalg.norm(again[:, 0] - pixels, axis=-1) < BACK_PIXELS
        kept = (found[:, 0] == 1) & (back[:, 0] == 1) & near
        return pixels[kept], there[kept, 0], kept

    def _step(
        self, before: np.ndarray, after: np.ndarray, points: np.ndarray, K: np.ndarray, *, scaled: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """One step from tracked pixels (M, 2): T_after_before, known points (M, 3) in the new camera, inliers (M,).

        Args:
            before: in the frame before.
            after: in the new frame.
            points: (M, 3) in the camera before, NaN where unknown.
            K: intrinsics.
            scaled: whether the chain has a unit already.
        """
        if len(before) < LEAST_TRACKS:
            return None
        T = np.eye(4)
        # OpenCV's pixels have their centres at whole numbers, the camera's at halves.
        before, after = before.astype(np.float64) + 0.5, after.astype(np.float64) + 0.5
        from_before, from_after = _rays(before, K), _rays(after, K)
        turn, inliers, away = self._turn(from_before, from_after, focal=float(K[0, 0]))
        if away < STILL_PIXELS:
            T[:3, :3] = turn
            return T, points @ turn.T, inliers
        essential, mask = self.cv2.findEssentialMat(before, after, K, self.cv2.RANSAC, 0.999, EPIPOLAR_PIXELS)
        if essential is None or essential.shape != (3, 3):
            return None
        count, rotation, direction, mask = self.cv2.recoverPose(essential, before, after, K, mask=mask)
        inliers = mask[:, 0] > 0
        if count < LEAST_TRACKS:
            return None
        seen = _triangulate(from_before, from_after, rotation, direction[:, 0])  # in the camera before, unit step
        good = inliers & (seen[:, 2] > 0) & (seen[:, 2] < FARTHEST)
        both = good & np.isfinite(points).all(axis=-1)
        length = 1.0
        if scaled and np.isfinite(points).any():
            if both.sum() < LEAST_COMMON:
                return None
            length = float(np.median(points[both, 2] / seen[both, 2]))
        T[:3, :3], T[:3, 3] = rotation, length * direction[:, 0]
        known = np.where(both[:, None], points, np.where(good[:, None], length * seen, points))
        return T, known @ rotation.T + T[:3, 3], inliers

    def _turn(self, a: np.ndarray, b: np.ndarray, focal: float) -> tuple[np.ndarray, np.ndarray, float]:
        """The rotation that brings rays (M, 3) nearest to others, the inliers, and the median distance in pixels."""
        inliers = np.ones(len(a), dtype=bool)
        for _ in range(5):
            u, _, vt = np.linalg.svd(b[inliers].T @ a[inliers])
            rotation = u @ np.diag([1.0, 1.0, np.linalg.det(u) * np.linalg.det(vt)]) @ vt
            away = focal * np.linalg.norm(b - a @ rotation.T, axis=-1)
            inliers = away <= max(2 * float(np.median(away)), 0.1)
        return rotation, inliers, float(np.median(away))


def _rays(pixels: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Unit directions (M, 3) of pixels (M, 2)."""
    rays = np.concatenate([pixels, np.ones((len(pixels), 1))], axis=1) @ np.linalg.inv(K).T
    return rays / np.linalg.norm(rays, axis=-1, keepdims=True)


def _triangulate(a: np.ndarray, b: np.ndarray, rotation: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Points (M, 3) in a's camera that lie nearest to both rays, b's camera being at rotation x + shift."""
    turned = a @ rotation.T
    # d_a turned + shift = d_b b, by least squares in (d_a, d_b).
    aa, bb, ab = (turned * turned).sum(-1), (b * b).sum(-1), (turned * b).sum(-1)
    at, bt = turned @ shift, b @ shift
    distance = (ab * bt - bb * at) / np.maximum(aa * bb - ab * ab, 1e-12)
    return distance[:, None] * a
