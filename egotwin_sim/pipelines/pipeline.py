"""What all pipelines are made of: the networks, and how a first frame and a body become their inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from egotwin_sim.diffusion.schedule import NoiseSchedule
from egotwin_sim.errors import UserError
from egotwin_sim.models.checkpoint import load_whole
from egotwin_sim.models.depth import DepthNet, unit_to_depth
from egotwin_sim.models.images import image_to_unit
from egotwin_sim.models.motion_vae import MotionVAE
from egotwin_sim.models.text_encoder import TextEncoder, load_text_encoder
from egotwin_sim.models.transformer import EgoTwinTransformer3DModel
from egotwin_sim.models.video_vae import FRAMES_PER_LATENT, DecoderCache, VideoVAE
from egotwin_sim.models.view_condition import CONDITION_CHANNELS, ViewCondition, body_channels, view_condition
from egotwin_sim.models.view_memory import ViewMemory
from egotwin_sim.motion import Skeleton
from egotwin_sim.motion.head_centric import Layout
from egotwin_sim.pipelines.body import BodyState
from egotwin_sim.pipelines.weights import StreamConfig, find_weights, read_config, write_config

# In the order of ``Pipeline``'s arguments; each has a folder of this name among the weights.
NETWORKS = {"video_vae": VideoVAE, "depth": DepthNet, "motion_vae": MotionVAE, "transformer": EgoTwinTransformer3DModel}


@dataclass(frozen=True)
class Opening:
    """Chunk 0, the first frame and the initial pose as the networks see them; it stays clean.

    Attributes:
        inputs: (B, 1, C + C + E, h, w), the transformer's input for latent 0: the latent, no prior, and the body map.
        token: (B, 1, Cm), motion token 0.
        decoder: the video decoder's memory.
    """

    inputs: Tensor
    token: Tensor
    decoder: DecoderCache


class Pipeline:
    """The networks of one size, and what surrounds their denoising.

    Args:
        video_vae: codes the frames.
        depth_net: tells how far away what they show is, for the view memory.
        motion_vae: codes the body, in the ``chunk`` form.
        transformer: denoises.
        text_encoder: codes the text.
        config: rates, sizes and steps.
        precision: "bf16" (autocast), or "fp32", with which a dream does not depend on what shares its batch.

    Raises:
        UserError: networks that do not belong together.
    """

    def __init__(
        self,
        video_vae: VideoVAE,
        depth_net: DepthNet,
        motion_vae: MotionVAE,
        transformer: EgoTwinTransformer3DModel,
        text_encoder: TextEncoder,
        config: StreamConfig | None = None,
        precision: str = "bf16",
    ) -> None:
        if precision not in ("bf16", "fp32"):
            raise UserError(f"precision is {precision!r}; expected bf16 or fp32")
        self.precision = precision
        self.video_vae, self.motion_vae, self.transformer = video_vae.eval(), motion_vae.eval(), transformer.eval()
        self.depth_net, self.text_encoder = depth_net.eval(), text_encoder
        self.config = config or StreamConfig()
        self.schedule = NoiseSchedule()
        self.skeleton = Skeleton.default(self.config.stature)
        expected = 2 * video_vae.config.latent_channels + CONDITION_CHANNELS
        if transformer.config.in_channels != expected:
            raise UserError(
                f"the transformer takes {transformer.config.in_channels} video channels, this video VAE's stream "
                f"{expected}: the weights are of another config; train or load them together"
            )
        if transformer.config.motion_channels != motion_vae.config.latent_channels:
            raise UserError(
                f"the transformer takes motion tokens of {transformer.config.motion_channels} channels, this motion "
                f"VAE gives {motion_vae.config.latent_channels}: the weights are of another config; train or load them "
                "together"
            )

    @classmethod
    def from_pretrained(cls, path: str | Path = "nano", device: str | torch.device = "cpu", **options: Any) -> Self:
        """Load shipped weights by name ("nano") or a folder of ``save_pretrained``.

        Args:
            path: name or folder.
            device: where the networks go.
            **options: further arguments of the class. With ``precision="bf16"``, the default, the weights of products
                and convolutions are kept in bf16 (but the motion VAE's): call the networks themselves under autocast.

        Raises:
            UserError: no such weights, or weights of another config or with missing keys.
        """
        folder = find_weights(path)
        config = read_config(folder)
        loaded = [
            load_whole(kind, folder / name, torch_dtype=torch.float32).to(device) for name, kind in NETWORKS.items()
        ]
        for module in loaded:
            settle_weights(module, options.get("precision", "bf16"))
        video_vae, depth_net, motion_vae, transformer = loaded
        text_encoder = load_text_encoder(config.text_encoder)
        return cls(video_vae, depth_net, motion_vae, transformer, text_encoder, config, **options)

    def save_pretrained(self, path: str | Path, dtype: torch.dtype = torch.bfloat16) -> None:
        """Write the networks and the configuration to a folder, the weights as ``dtype``."""
        import copy
        import json

        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        for name, module in self._networks().items():
            # torch's own `to`: diffusers' warns of modules to keep in float32 even where there are none.
            torch.nn.Module.to(copy.deepcopy(module), dtype).save_pretrained(folder / name)
            # diffusers notes the folder that a network was loaded from, which means nothing elsewhere.
            config = json.loads((folder / name / "config.json").read_text())
            config.pop("_name_or_path", None)
            (folder / name / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        write_config(self.config, folder)

    def _networks(self) -> dict[str, Any]:
        networks = (self.video_vae, self.depth_net, self.motion_vae, self.transformer)
        return dict(zip(NETWORKS, networks, strict=True))

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        # diffusers' own property walks all modules, and a stream asks a dozen times a chunk.
        return next(self.transformer.parameters()).device

    @property
    def token_dim(self) -> int:
        """Cm, channels of a motion token."""
        return int(self.transformer.config.motion_channels)

    @property
    def motion_dim(self) -> int:
        """D, width of a head-centric state."""
        return Layout(self.skeleton.num_joints).dim

    @property
    def motion_frames(self) -> int:
        """Motion frames in a chunk."""
        return round(FRAMES_PER_LATENT * self.config.motion_fps / self.config.video_fps)

    def _check_first_frame(self, first_frame: np.ndarray) -> np.ndarray:
        size = self.config.image_size
        first_frame = np.asarray(first_frame)
        if first_frame.shape != (size, size, 3) or first_frame.dtype != np.uint8:
            raise UserError(
                f"first frame is {first_frame.dtype} {first_frame.shape}; expected uint8 ({size}, {size}, 3): resize it"
            )
        return first_frame

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def _to_network(self, frames: np.ndarray) -> Tensor:
        """Frames uint8 (T, H, W, 3) as (1, 3, T, H, W) in [-1, 1]."""
        return image_to_unit(torch.from_numpy(frames.copy()).to(self.device).permute(3, 0, 1, 2)[None])

    def _open(self, frames: Tensor, bodies: Sequence[BodyState]) -> Opening:
        """Chunk 0 from the first frames (B, 3, H, W) in [-1, 1] and the bodies."""
        latent, decoder = self._first(frames)
        features = np.stack([body.features for body in bodies])
        joints = self._joints(features)
        height, width = latent.shape[-2:]
        nothing = ViewCondition.absent(self.video_vae, joints, (height, width), torch.float32)
        still = joints[:, None].expand(-1, FRAMES_PER_LATENT, -1, -1)
        arms = body_channels(still, self.skeleton.names, (height, width), self.config.fovy)
        channels = torch.cat([nothing.channels[:, : -arms.shape[1]], arms], dim=1)
        inputs = torch.cat([latent[:, :, 0].float(), nothing.prior, channels], dim=1)[:, None]
        token = self.motion_vae.tokenise(torch.from_numpy(features[:, None]).to(self.device))
        return Opening(inputs, token[:, :1].float(), decoder)

    def _first(self, frames: Tensor) -> tuple[Tensor, DecoderCache]:
        """Latents (B, C, 1, h, w) of frames (B, 3, H, W) without a past, and the decoder's memory of them."""
        with self._autocast():
            latent = self.video_vae.encode(frames[:, :, None])
            _, decoder = self.video_vae.decode(latent)
        return latent, decoder

    def _joints(self, features: np.ndarray) -> Tensor:
        """Joints in the head frame (n, J, 3) of features (n, D)."""
        joints = features[:, Layout(self.skeleton.num_joints).joint_positions]
        return torch.from_numpy(joints.reshape(len(features), -1, 3)).to(self.device)

    def _view(self, frame: Tensor, joints: Tensor, pose: np.ndarray) -> ViewMemory:
        """Frames (B, 3, H, W) to remember, with the joints (B, J, 3) in the head and the head poses (B, 4, 4)."""
        poses = torch.from_numpy(pose.astype(np.float32)).to(self.device)
        with self._autocast():
            depth = unit_to_depth(self.depth_net(frame, poses, self.config.fovy))
        return ViewMemory.of(frame, depth, joints, poses, self.skeleton.names, self.config.fovy)

    def _seen_frames(self, per_motion_frame: np.ndarray) -> np.ndarray:
        """Of something given for n chunks' motion frames, that at their video frames: (n, 4, ...)."""
        stride = self.motion_frames // FRAMES_PER_LATENT
        return per_motion_frame.reshape(-1, FRAMES_PER_LATENT, stride, *per_motion_frame.shape[1:])[:, :, -1]

    def _condition(self, memory: ViewMemory, features: np.ndarray, poses: np.ndarray) -> ViewCondition:
        """The condition of the latents of n chunks.

        Args:
            memory: n rows.
            features: (n * motion_frames, D).
            poses: (n * motion_frames, 4, 4), T_world_head.
        """
        pose = torch.from_numpy(self._seen_frames(poses).astype(np.float32)).to(self.device)
        joints = self._joints(self._seen_frames(features).reshape(-1, features.shape[-1]))
        joints = joints.unflatten(0, (-1, FRAMES_PER_LATENT))
        with self._autocast():
            condition = view_condition(self.video_vae, memory, pose, joints, self.skeleton.names, self.config.fovy)
        return ViewCondition(condition.prior.float(), condition.channels.float())

    def _decode_motion(self, bodies: Sequence[BodyState], tokens: Tensor) -> np.ndarray:
        """What the tokens (B, 2, Cm) of a chunk make of each body: features (B, motion_frames, D) for ``advance``."""
        current = torch.from_numpy(np.stack([body.features for body in bodies])).to(self.device)
        return self.motion_vae.decode_chunk(current, tokens).float().cpu().numpy()


def settle_weights(module: nn.Module, precision: str) -> None:
    """Bring a loaded network's weights into the memory layout, and the precision, that it is fast in."""
    # Loaded weights lie in the file's memory: not aligned, and not in the layout that convolutions are fast in.
    layout = torch.channels_last if isinstance(module, VideoVAE | DepthNet) else torch.contiguous_format
    for weight in module.parameters():
        weight.data = weight.data.clone(memory_format=layout if weight.ndim == 4 else torch.contiguous_format)
    if precision == "bf16" and not isinstance(module, MotionVAE):
        cast_products(module)


def cast_products(module: nn.Module) -> None:
    """Bring the weights of products and convolutions to bf16 for good.

    Autocast would do so again at every call, which is an eighth of a stream's time; what comes out is the same.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d):
            for weight in part.parameters(recurse=False):
                weight.data = weight.data.to(torch.bfloat16)
