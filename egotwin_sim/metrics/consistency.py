"""TransErr, RotErr and HandScore: does the video show what the body does (arXiv 2508.13013, evaluation).

The camera's trajectory is recovered from the video alone, the head camera's trajectory is read from the motion, and the
one is aligned to the other. The paper's definitions are known in outline only; docs/egotwin.md says what we chose.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from egotwin_sim.data.camera import Camera
from egotwin_sim.errors import UserError
from egotwin_sim.metrics.alignment import LEAST_POINTS, STILL, Alignment, align, align_turned, mean_rotation, spread
from egotwin_sim.metrics.hand_detector import HandDetector
from egotwin_sim.metrics.hand_score import HandScore, at_video_rate, hand_score, hands_expected
from egotwin_sim.metrics.recovery import CameraRecovery, check_video
from egotwin_sim.metrics.trajectory import Trajectory
from egotwin_sim.motion import Motion
from egotwin_sim.motion.rotations import rotation_angle

# Metres, root mean square distance of the head camera from its mean position. A head that stays within it sways, but
# goes nowhere: a free scale would be fitted to noise, so such a clip is judged by its rotations.
LEAST_EXTENT = 0.1
LEAST_REGISTERED = 0.5  # share of a clip's frames; what is recovered of fewer is not the clip's trajectory
RESAMPLES = 2000  # of the bootstrap
CONFIDENCE = 0.95


@dataclass(frozen=True)
class GeneratedClip:
    """A clip to be judged, generated or true.

    Attributes:
        video: uint8 (T, H, W, 3), RGB.
        motion: at a whole multiple of the video's rate, beginning with the video's first frame.
        camera: the head camera.
        fps: video frames per second.
        name: of the clip, for methods that look up what another program recovered.
    """

    video: np.ndarray
    motion: Motion
    camera: Camera
    fps: float = 8.0
    name: str = ""


@dataclass(frozen=True)
class ClipConsistency:
    """What one clip's video says of its motion.

    Attributes:
        name: of the clip.
        registered: share of its frames whose pose was recovered.
        inliers: what the method says of its own certainty, 0 to 1; None where it says nothing.
        extent_m: root mean square distance of the head camera from its mean position, metres.
        recovered: at least `LEAST_REGISTERED` of the frames were; otherwise there are no errors, not zeros.
        still: `extent_m` is below `LEAST_EXTENT`: no scale can be told.
        trans_err_m: mean distance of positions after Sim(3) alignment, metres; None if still or not recovered.
        metric_trans_err_m: the same after rigid alignment; None if the method is not metric, or not recovered.
        rot_err: mean angle between orientations, radians; None if not recovered.
        scale: factor of the Sim(3) alignment, 1 where a metric method is right; None where there is none.
    """

    name: str
    registered: float
    inliers: float | None
    extent_m: float
    recovered: bool
    still: bool
    trans_err_m: float | None = None
    metric_trans_err_m: float | None = None
    rot_err: float | None = None
    scale: float | None = None


@dataclass(frozen=True)
class Summary:
    """A figure over a set of clips.

    Attributes:
        count: clips that have the figure.
        mean, median: over them.
        low, high: 95 % bootstrap interval of the mean (percentiles, clips drawn with replacement).
    """

    count: int
    mean: float
    median: float
    low: float
    high: float


@dataclass(frozen=True)
class ConsistencyReport:
    """TransErr, RotErr and HandScore of a set of clips.

    Attributes:
        recovery: name of the method that recovered the trajectories.
        metric: whether it is in metres.
        clips: all clips.
        recovered_share: share of them whose trajectory could be recovered; only these have errors.
        registered: mean share of a clip's frames that were recovered, over all clips.
        inliers: mean over the clips where the method says it; None where it does not.
        still_share: share of all clips that are too still for a scale: in RotErr, not in TransErr.
        trans_err_m: TransErr, metres, Sim(3); None where no clip has it.
        metric_trans_err_m: metres, rigid alignment, still clips included; None where the method is not metric.
        rot_err: RotErr, radians.
        rot_err_deg: the same in degrees.
        detector: name of the hand detector; None where hands were not scored.
        hands: HandScore over all frames of all clips, recovered or not.
        per_clip: each clip's own figures.
    """

    recovery: str
    metric: bool
    clips: int
    recovered_share: float
    registered: float
    inliers: float | None
    still_share: float
    trans_err_m: Summary | None
    metric_trans_err_m: Summary | None
    rot_err: Summary | None
    rot_err_deg: Summary | None
    detector: str | None
    hands: HandScore | None
    per_clip: tuple[ClipConsistency, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def camera_trajectory(clip: GeneratedClip) -> np.ndarray:
    """T_world_camera (T, 4, 4) at the video's frames, as the motion's head carries the camera."""
    return at_video_rate(clip.motion, len(clip.video), clip.fps).T_world_head() @ clip.camera.T_head_camera


def judge_trajectory(found: Trajectory, reference: np.ndarray, *, metric: bool, name: str = "") -> ClipConsistency:
    """The errors of one recovered trajectory.

    TransErr: mean over the recovered frames of the distance between camera positions, after the Sim(3) that makes
    the squared distances least (Umeyama). A camera that was found not to move at all while the head moves fits at no
    scale: it stays at the mean position. RotErr: mean angle between camera orientations after the one rotation that
    brings them together best; not after the rotation of the positions' alignment, which is undetermined about the
    direction of a straight walk.

    Args:
        found: T frames.
        reference: T_world_camera (T, 4, 4) of the motion.
        metric: whether `found` is in metres.
        name: of the clip.

    Raises:
        UserError: lengths differ.
    """
    if len(found) != len(reference):
        raise UserError(f"{len(found)} recovered frames and {len(reference)} frames of motion; give both of one clip")
    extent = spread(reference[:, :3, 3])
    registered = float(found.recovered.mean())
    recovered = registered >= LEAST_REGISTERED and int(found.recovered.sum()) >= LEAST_POINTS
    still = extent < LEAST_EXTENT
    if not recovered:
        return ClipConsistency(name, registered, found.inliers, extent, recovered, still)
    poses, truth = found.T_world_camera[found.recovered], reference[found.recovered]
    turn = mean_rotation(truth[:, :3, :3] @ poses[:, :3, :3].swapaxes(-1, -2))
    rot_err = float(rotation_angle(turn @ poses[:, :3, :3], truth[:, :3, :3]).mean())
    frozen = spread(poses[:, :3, 3]) < STILL
    free = None if still else _aligned(poses, truth, frozen, with_scale=True)
    rigid = None
    if metric:
        rigid = align_turned(poses, truth) if still else _aligned(poses, truth, frozen, with_scale=False)
    return ClipConsistency(
        name=name,
        registered=registered,
        inliers=found.inliers,
        extent_m=extent,
        recovered=recovered,
        still=still,
        trans_err_m=None if free is None else _distance(free, poses, truth),
        metric_trans_err_m=None if rigid is None else _distance(rigid, poses, truth),
        rot_err=rot_err,
        scale=None if free is None or frozen else free.scale,
    )


def _aligned(poses: np.ndarray, truth: np.ndarray, frozen: bool, *, with_scale: bool) -> Alignment:
    # The recovered part of a moving clip may itself be still; as a still clip, it is aligned by its orientations.
    if frozen or spread(truth[:, :3, 3]) < STILL:
        return align_turned(poses, truth)
    return align(poses[:, :3, 3], truth[:, :3, 3], with_scale=with_scale)


def _distance(alignment: Alignment, poses: np.ndarray, truth: np.ndarray) -> float:
    return float(np.linalg.norm(alignment.move(poses[:, :3, 3]) - truth[:, :3, 3], axis=-1).mean())


def summarise(values: Sequence[float | None], seed: int = 0) -> Summary | None:
    """Mean, median and interval of the values that there are; None where there is none."""
    given = np.array([value for value in values if value is not None], dtype=np.float64)
    if not len(given):
        return None
    rng = np.random.default_rng(seed)
    means = given[rng.integers(0, len(given), (RESAMPLES, len(given)))].mean(axis=1)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Summary(len(given), float(given.mean()), float(np.median(given)), float(low), float(high))


def consistency_report(
    clips: Sequence[GeneratedClip],
    recovery: CameraRecovery,
    detector: HandDetector | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> ConsistencyReport:
    """TransErr, RotErr and HandScore of clips.

    Args:
        clips: generated clips; or true ones, which gives the noise floor of the instruments.
        recovery: recovers the camera's trajectory from a video.
        detector: sees hands in a video; None leaves HandScore out.
        progress: called with the clips done and all clips.

    Raises:
        UserError: no clips, or a clip whose video and motion do not belong together.
    """
    if not clips:
        raise UserError("there are no clips to judge; give at least one")
    judged, expected, seen = [], [], []
    for n, clip in enumerate(clips):
        frames = check_video(clip.video, clip.fps)
        found = recovery.recover(frames, clip.camera, clip.fps, clip.name)
        judged.append(judge_trajectory(found, camera_trajectory(clip), metric=recovery.metric, name=clip.name))
        if detector is not None:
            shown = at_video_rate(clip.motion, len(frames), clip.fps)
            expected.append(hands_expected(shown, clip.camera, (frames.shape[1], frames.shape[2])))
            seen.append(detector.detect(frames))
        if progress is not None:
            progress(n + 1, len(clips))
    certainty = [each.inliers for each in judged if each.inliers is not None]
    angles = [each.rot_err for each in judged]
    return ConsistencyReport(
        recovery=recovery.name,
        metric=recovery.metric,
        clips=len(judged),
        recovered_share=float(np.mean([each.recovered for each in judged])),
        registered=float(np.mean([each.registered for each in judged])),
        inliers=float(np.mean(certainty)) if certainty else None,
        still_share=float(np.mean([each.still for each in judged])),
        trans_err_m=summarise([each.trans_err_m for each in judged]),
        metric_trans_err_m=summarise([each.metric_trans_err_m for each in judged]),
        rot_err=summarise(angles),
        rot_err_deg=summarise([None if angle is None else float(np.rad2deg(angle)) for angle in angles]),
        detector=None if detector is None else detector.name,
        hands=None if detector is None else hand_score(expected, seen),
        per_clip=tuple(judged),
    )
