"""The recordings of AMASS, under whichever of its two ways to name them."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path, PurePath

import numpy as np

from egotwin_sim.data.convert.cut import on_default_body
from egotwin_sim.errors import UserError
from egotwin_sim.motion import Motion
from egotwin_sim.motion.motion import default_skeleton
from egotwin_sim.motion.retarget import floor_height, sole_heights
from egotwin_sim.motion.smpl import SMPLBody, SMPLParameters

LICENCE = (
    "AMASS is for research that is not commercial, and may not be passed on; SMPL's parameters are under the licence "
    "of the SMPL models. The same holds for what is made of them."
)

# Data sets that the SMPL-H release, the SMPL-X release and BABEL name differently; lower case letters and digits alone.
_ONE_NAME = {
    "biomotionlabntroje": "bmlrub",
    "dfaust67": "dfaust",
    "mpihdm05": "hdm05",
    "mpilimits": "poseprior",
    "mpimosh": "mosh",
    "ssmsynced": "ssm",
    "tcdhandmocap": "tcdhands",
    "transitionsmocap": "transitions",
}
# Of a recording's path, data set, subject and file tell it from others; archives unpack with more above them or not.
_PARTS = 3
_SMPLH, _SMPLX = "_poses", "_stageii"  # what the two releases end a recording's name with
# Files that hold a subject's shape, not a motion.
_NO_MOTION = ("shape", "betas")
# Between bodies of 1.3 m and 2.3 m; what lies outside was not standing on a floor at height zero.
_LEAST_SCALE, _MOST_SCALE = 0.75, 1.33
_UPRIGHT = 0.7  # of the height of a pelvis that stands


def recording_key(path: str | PurePath) -> str:
    """What a recording is called in all releases: data set, subject and file of a path, with or without its suffix."""
    *above, name = PurePath(path).parts[-_PARTS:]
    for ending in (".npz", ".npy", _SMPLH, _SMPLX):
        name = name.removesuffix(ending)
    if len(above) == _PARTS - 1:
        bare = re.sub("[^a-z0-9]", "", above[0].lower())
        above[0] = _ONE_NAME.get(bare, bare)
    return "/".join([*above, name]).replace(" ", "_")


def is_smplx_release(path: Path) -> bool:
    """Whether a file is of the SMPL-X release, whose frame rates are wrong in thousands of recordings.

    The SMPL-H release has the same frames and the right rates (nghorbani/amass#49).
    """
    return path.stem.endswith(_SMPLX)


def find_recordings(root: Path) -> list[Path]:
    """The files of all recordings under a folder, those of the SMPL-H release first, each in the order of names."""
    return sorted(
        (
            path
            for path in root.rglob("*.npz")
            if not path.name.startswith(".") and path.stem not in _NO_MOTION and not path.stem.endswith("_stagei")
        ),
        key=lambda path: (is_smplx_release(path), path),
    )


def load_recording(path: Path, models: Path | None) -> tuple[Motion, list[str]]:
    """A recording on our body, standing on the floor, at its own rate; read once as long as the file does not change.

    Args:
        path: the file.
        models: the vendor's model files (`find_smpl_file`); None to do without them.

    Returns:
        The motion, and what a user should know of it.

    Raises:
        UserError: the file cannot be used, or its model is not there.
    """
    status = path.stat()
    return _remembered(path, models, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=2)
def _remembered(path: Path, models: Path | None, changed_ns: int, size: int) -> tuple[Motion, list[str]]:
    parameters = SMPLParameters.load(path)
    if models is not None:
        body = SMPLBody(models, parameters.kind, parameters.gender)
        return on_default_body(parameters.motion(body), keep_head=False)[0], []
    return on_our_body(parameters.motion())


def on_our_body(motion: Motion) -> tuple[Motion, list[str]]:
    """Put a motion of a body of unknown size, told by rotations and the pelvis' way, on the floor with our body.

    The pelvis of one who stands tells the size: it is as high as the legs are long. So the way is scaled by how much
    higher ours is, in the frames in which the pelvis is high, if the floor is where z is zero.

    Args:
        motion: on the default skeleton, with the way of the other body.

    Returns:
        The motion, and a note of what was assumed.
    """
    high = motion.root_position[:, 2].astype(np.float64)
    ours = high - sole_heights(motion).min(axis=1)
    upright = ours > _UPRIGHT * default_skeleton().rest_root_height
    scale = float(np.median(ours[upright] / np.maximum(high[upright], 1e-3))) if upright.any() else 0.0
    note = f"no model file: proportions are ours, and the way is scaled by {scale:.2f}, from the height of the pelvis"
    if not _LEAST_SCALE <= scale <= _MOST_SCALE:
        scale = 1.0
        note = "no model file: proportions are ours, and the pelvis does not tell the size: the way is as it was"
    root = motion.root_position * scale
    motion = Motion(root, motion.joint_quat_wxyz, motion.skeleton, motion.fps)
    lift = np.array([0.0, 0.0, -floor_height(motion)])
    return Motion(root + lift, motion.joint_quat_wxyz, motion.skeleton, motion.fps), [note]


def check_models(models: Path | None) -> None:
    """Check an option that names model files.

    Raises:
        UserError: there is nothing at that path.
    """
    if models is not None and not models.exists():
        raise UserError(f"models={models} does not exist: give the vendor's model file, or the folder that holds them")
