"""Camera recovery by another program: a folder of TUM files, one a clip, as DROID-SLAM and most others write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from egotwin_sim.data.camera import Camera
from egotwin_sim.errors import UserError
from egotwin_sim.metrics.recovery import check_video
from egotwin_sim.metrics.trajectory import Trajectory, read_tum

SUFFIX = ".txt"


class TumRecovery:
    """`CameraRecovery` that reads what a SLAM program has recovered before: `folder/<clip>.txt`.

    Times are seconds after the clip's first frame. Frames without a line were not recovered, nor was a clip without a
    file: the program failed on it.

    Args:
        folder: of the files.
        metric: whether the program knows the metre.

    Raises:
        UserError: no such folder, or no TUM file in it.
    """

    def __init__(self, folder: str | Path, *, metric: bool = False) -> None:
        self.folder, self.metric = Path(folder), metric
        if not any(self.folder.glob(f"*{SUFFIX}")):
            raise UserError(f"{self.folder} holds no TUM file (*{SUFFIX}); give a folder with one file a clip")
        self.name = f"TUM files of {self.folder.name}"

    def recover(self, frames: np.ndarray, camera: Camera, fps: float, clip: str = "") -> Trajectory:
        """As `CameraRecovery.recover`; `clip` names the file.

        Raises:
            UserError: the clip has no name, or its file is damaged.
        """
        frames = check_video(frames, fps)
        if not clip:
            raise UserError("a clip without a name has no TUM file; give each clip a name")
        path = self.folder / f"{clip}{SUFFIX}"
        if not path.is_file():
            return Trajectory.lost(len(frames), fps)
        return read_tum(path).at(np.arange(len(frames)) / fps)
