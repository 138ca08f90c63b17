"""Camera recovery by structure from motion with COLMAP (the package pycolmap, extra `eval`)."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from egotwin_sim.data.camera import Camera
from egotwin_sim.metrics.recovery import check_video, import_tool
from egotwin_sim.metrics.trajectory import Trajectory

SEED = 0
OVERLAP = 10  # frames after each one that it is matched with
QUIET = 3  # COLMAP's log level of fatal errors


class ColmapRecovery:
    """`CameraRecovery` by incremental structure from motion, on the processor; up to an unknown scale.

    The intrinsics are those of the camera and stay as they are. Of several models the one with the most frames is
    kept. It needs texture and parallax: pictures of 256 pixels and more, and a head that goes somewhere.

    Args:
        threads: of COLMAP; -1 takes all cores.

    Raises:
        UserError: pycolmap is not installed.
    """

    metric = False

    def __init__(self, threads: int = -1) -> None:
        self.colmap = import_tool("pycolmap", "pycolmap", "ColmapRecovery")
        self.threads = threads
        self.name = f"pycolmap {self.colmap.__version__}"

    def recover(self, frames: np.ndarray, camera: Camera, fps: float, clip: str = "") -> Trajectory:
        """As `CameraRecovery.recover`."""
        frames = check_video(frames, fps)
        level = self.colmap.logging.minloglevel
        self.colmap.logging.minloglevel = QUIET
        try:
            with tempfile.TemporaryDirectory() as folder:
                model, inliers = self._reconstruct(frames, camera, Path(folder))
        finally:
            self.colmap.logging.minloglevel = level
        lost = Trajectory.lost(len(frames), fps)
        if model is None:
            return Trajectory(lost.times_s, lost.T_world_camera, lost.recovered, inliers)
        poses = np.tile(np.eye(4), (len(frames), 1, 1))
        recovered = np.zeros(len(frames), dtype=bool)
        for image in model.images.values():
            if image.has_pose:
                frame = int(Path(image.name).stem)
                poses[frame, :3] = image.cam_from_world().inverse().matrix()
                recovered[frame] = True
        return Trajectory(lost.times_s, poses, recovered, inliers)

    def _reconstruct(self, frames: np.ndarray, camera: Camera, folder: Path) -> tuple[Any, float | None]:
        """The largest model, None where there is none; and the share of matches that agree with two views' geometry."""
        colmap, database, images, models = self.colmap, folder / "database.db", folder / "images", folder / "models"
        images.mkdir()
        models.mkdir()
        for i, frame in enumerate(frames):
            Image.fromarray(frame).save(images / f"{i:06d}.png")
        K = camera.K
        reader = colmap.ImageReaderOptions()
        reader.camera_model = "PINHOLE"
        reader.camera_params = ",".join(f"{value:.9g}" for value in (K[0, 0], K[1, 1], K[0, 2], K[1, 2]))
        extraction = colmap.FeatureExtractionOptions()
        matching, pairing = colmap.FeatureMatchingOptions(), colmap.SequentialPairingOptions()
        mapping = colmap.IncrementalPipelineOptions()
        pairing.overlap = OVERLAP
        mapping.ba_refine_focal_length = False
        mapping.mapper.abs_pose_refine_focal_length = False
        mapping.random_seed = SEED
        for options in (extraction, matching, pairing, mapping):
            options.num_threads = self.threads
        colmap.set_random_seed(SEED)
        cpu = colmap.Device.cpu
        colmap.extract_features(
            database, images, camera_mode=colmap.CameraMode.SINGLE, reader_options=reader,
            extraction_options=extraction, device=cpu,
        )  # fmt: skip
        colmap.match_sequential(database, matching, pairing, device=cpu)
        found = colmap.incremental_mapping(database, images, models, mapping)
        largest = max(found.values(), key=lambda model: model.num_reg_images(), default=None)
        return largest, self._inliers(database)

    def _inliers(self, database: Path) -> float | None:
        """Share of all matches that agree with the geometry of their two views."""
        with self.colmap.Database.open(database) as opened:
            matched = sum(len(each) for each in opened.read_all_matches()[1])
            agreeing = sum(opened.read_two_view_geometry_num_inliers()[1])
        return agreeing / matched if matched else None
