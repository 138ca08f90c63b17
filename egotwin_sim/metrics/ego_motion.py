"""The learned recovery for nano's pictures: a small network reads the motion between near frames, in metres."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from egotwin_sim.data.camera import Camera
from egotwin_sim.errors import UserError
from egotwin_sim.metrics.ego_motion_net import SIZE, EgoMotionNet
from egotwin_sim.metrics.pose_graph import average_poses
from egotwin_sim.metrics.recovery import check_video
from egotwin_sim.metrics.trajectory import Trajectory
from egotwin_sim.models.checkpoint import fingerprint, load_whole
from egotwin_sim.models.images import image_to_unit

WEIGHTS = Path(__file__).resolve().parent.parent / "weights"
GAPS = (1, 2, 3)  # frames between the two of a pair; the head is trained on these
# A pair of frames of which less agrees with one motion of the camera tells nothing. Of pairs from unrelated rooms 99 %
# have less, of true pairs one frame apart 2 %, most of them of an opening door.
LEAST_INLIERS = 0.3
PAIRS_AT_ONCE = 16


def at_network_size(frames: Tensor) -> Tensor:
    """Pictures uint8 (T, 3, H, W), area-averaged to the network's size: (T, 3, SIZE, SIZE)."""
    if frames.shape[-2:] == (SIZE, SIZE):
        return frames
    parts = [F.interpolate(part.float(), size=(SIZE, SIZE), mode="area") for part in frames.split(16)]
    return torch.cat(parts).round().to(torch.uint8)


def unit_intrinsics(camera: Camera, height: int, width: int) -> Tensor:
    """Intrinsics (fx, fy, cx, cy) of pictures of `height` x `width` pixels, in units of their width and height."""
    K = camera.K
    return torch.tensor([K[0, 0] / width, K[1, 1] / height, K[0, 2] / width, K[1, 2] / height], dtype=torch.float32)


class EgoMotion:
    """`CameraRecovery` by the learned ego-motion head: metric, and made for the room's pictures.

    The motions between frames one, two and three apart are read (`ego_motion_net`) and averaged (`pose_graph`); pairs
    without enough agreement are left out, and frames that no pair connects to the others are not recovered.

    Args:
        net: the trained network.
    """

    metric = True

    def __init__(self, net: EgoMotionNet) -> None:
        self.net = net.float().eval()
        self.name = f"ego-motion head {fingerprint({'net': net})}"

    @classmethod
    def from_pretrained(cls, path: str | Path = "nano") -> EgoMotion:
        """The head of shipped weights by name, or of a folder that `egotwin train ego-motion` has written.

        Raises:
            UserError: no such weights.
        """
        shipped = WEIGHTS / str(path) / "ego_motion"
        folder = shipped if (shipped / "config.json").is_file() else Path(path)
        for place in (folder, folder / "ego_motion"):
            if (place / "config.json").is_file():
                return cls(load_whole(EgoMotionNet, place))
        raise UserError(
            f"no ego-motion head at {folder}: give shipped weights by name (nano), or the --out of "
            "`egotwin train ego-motion`"
        )

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the network in bf16, as it ships: `config.json` beside safetensors."""
        # torch's own `to`: diffusers' warns of modules to keep in float32 even where there are none.
        torch.nn.Module.to(copy.deepcopy(self.net), torch.bfloat16).save_pretrained(folder)
        # diffusers notes the folder that a network was loaded from, which means nothing elsewhere.
        path = Path(folder) / "config.json"
        config = json.loads(path.read_text())
        config.pop("_name_or_path", None)
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")

    @torch.inference_mode()
    def recover(self, frames: np.ndarray, camera: Camera, fps: float, clip: str = "") -> Trajectory:
        """As `CameraRecovery.recover`."""
        frames = check_video(frames, fps)
        if len(frames) < 2:
            return Trajectory.lost(len(frames), fps)
        pictures = at_network_size(torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2))
        K = unit_intrinsics(camera, *frames.shape[1:3])
        view = self.net.view(image_to_unit(pictures))
        count = len(frames)
        pairs = np.array([(t, t + gap) for gap in GAPS for t in range(count - gap)])
        motions, inliers = [], []
        for part in torch.from_numpy(pairs).split(PAIRS_AT_ONCE):
            told = self.net(view.at(part[:, 0]), view.at(part[:, 1]), K)
            motions.append(told.T_b_a)
            inliers.append(told.inliers)
        agreement = torch.cat(inliers).double().numpy()
        kept = agreement >= LEAST_INLIERS
        graph = average_poses(count, pairs[kept], torch.cat(motions).double().numpy()[kept])
        recovered = graph.connected & (graph.connected.sum() > 1)
        return Trajectory(np.arange(count) / fps, graph.T_world_camera, recovered, float(agreement.mean()))
