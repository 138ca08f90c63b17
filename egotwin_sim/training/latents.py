"""A data set in the models' own terms, computed once and kept on disk: latents, motion tokens, conditions, text."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from egotwin_sim.data import LeRobotReader
from egotwin_sim.errors import UserError
from egotwin_sim.models.checkpoint import fingerprint
from egotwin_sim.models.depth import DepthNet, unit_to_depth
from egotwin_sim.models.images import image_to_unit
from egotwin_sim.models.motion_vae import MotionVAE
from egotwin_sim.models.text_encoder import TextEncoder
from egotwin_sim.models.video_vae import FRAMES_PER_LATENT, VideoVAE
from egotwin_sim.models.view_condition import body_channels, view_condition
from egotwin_sim.models.view_memory import ViewMemory, vertical_field_of_view
from egotwin_sim.motion import Motion
from egotwin_sim.motion.head_centric import Layout
from egotwin_sim.pipelines.body import BodyState
from egotwin_sim.pipelines.tokens import motion_tokens

FORMAT = 1


@dataclass(frozen=True)
class LatentClips:
    """All clips of a split as arrays that are mapped from disk, N clips of L latents and M = 2L - 1 motion tokens.

    Attributes:
        latents: float16 (N, L, C, h, w), normalised.
        priors: float16 (N, L, C, h, w), the view memory's latents; zero for latent 0.
        channels: uint8 (N, L, E, h, w), the other condition channels times 255.
        tokens: float32 (N, M, Cm), normalised motion tokens, in the ``chunk`` form.
        text_index: int64 (N,), row of each clip in ``text`` and ``text_mask``.
        text: float16 (K, Lt, Dt); the last row is the null text.
        text_mask: bool (K, Lt).
    """

    latents: np.ndarray
    priors: np.ndarray
    channels: np.ndarray
    tokens: np.ndarray
    text_index: np.ndarray
    text: np.ndarray
    text_mask: np.ndarray

    def __len__(self) -> int:
        return len(self.latents)

    @property
    def null_text(self) -> int:
        """The row of the null text."""
        return len(self.text) - 1

    def batch(self, clips: np.ndarray, first: int = 0, last: int | None = None) -> dict[str, Tensor]:
        """Clips (B,) as tensors, latent 0 and latents ``first`` to ``last`` (excluded) with their motion tokens."""
        last = self.latents.shape[1] if last is None else last
        chosen = np.array(sorted({0, *range(first, last)}))
        token_index = np.array([t for k in chosen for t in ((0,) if k == 0 else (2 * k - 1, 2 * k))])
        rows = np.ix_(clips, chosen)
        return {
            "latents": torch.from_numpy(self.latents[rows]).float(),
            "priors": torch.from_numpy(self.priors[rows]).float(),
            "channels": torch.from_numpy(self.channels[rows]).float() / 255,
            "tokens": torch.from_numpy(self.tokens[np.ix_(clips, token_index)]),
            "text": torch.from_numpy(self.text[self.text_index[clips]]).float(),
            "text_mask": torch.from_numpy(self.text_mask[self.text_index[clips]]),
            "positions": torch.from_numpy(chosen),
        }

    def null(self) -> tuple[Tensor, Tensor]:
        """The null text's tokens (Lt, Dt) and mask (Lt,)."""
        return torch.tensor(self.text[-1]).float(), torch.tensor(self.text_mask[-1])


@torch.no_grad()
def body_track(motion: Motion, tokens: np.ndarray, motion_vae: MotionVAE) -> tuple[np.ndarray, np.ndarray]:
    """The head poses and joints that the tokens lead to, as in a roll-out that starts at the motion's first frame.

    Returns:
        T_world_head float32 (1 + 8K, 4, 4) and joint positions in the head frame (1 + 8K, J, 3).
    """
    layout = Layout(motion.skeleton.num_joints)
    body = BodyState.of(motion[:1])
    poses, joints = [body.motion.T_world_head()], [body.features[None, layout.joint_positions]]
    for k in range((len(tokens) - 1) // 2):
        state = torch.from_numpy(body.features[None])
        pair = torch.from_numpy(tokens[None, 2 * k + 1 : 2 * k + 3].copy())
        decoded = motion_vae.decode_chunk(state.to(motion_vae.device), pair.to(motion_vae.device))[0].cpu().numpy()
        body, chunk, features = body.advance(decoded)
        poses.append(chunk.T_world_head())
        joints.append(features[:, layout.joint_positions])
    track = np.concatenate(joints).reshape(-1, motion.skeleton.num_joints, 3)
    return np.concatenate(poses).astype(np.float32), track.astype(np.float32)


@torch.no_grad()
def clip_arrays(
    reader: LeRobotReader, index: int, vae: VideoVAE, depth_net: DepthNet, motion_vae: MotionVAE
) -> dict[str, np.ndarray]:
    """The video and motion entries of ``LatentClips`` for one clip."""
    clip = reader.clip(index, depth=False)
    names, fovy, device = clip.motion.skeleton.names, vertical_field_of_view(clip.camera.K), vae.device
    tokens = motion_tokens(clip.motion, motion_vae)
    poses, joints = (torch.from_numpy(x).to(device) for x in body_track(clip.motion, tokens, motion_vae))
    video = image_to_unit(torch.from_numpy(clip.video).to(device).permute(3, 0, 1, 2)[None])
    with torch.autocast(device.type, torch.bfloat16):
        latents = vae.encode(video)
        decoded = vae.decode(latents)[0]
        newest = decoded[0, :, :, -1].float().clamp(-1, 1)  # the last frame of every latent
        every = poses.shape[0] // (latents.shape[2] - 1)  # motion frames a chunk
        ends = torch.arange(0, poses.shape[0], every, device=device)
        frames = torch.cat([video[:, :, 0], newest[1:]])  # the first frame is given, the others are decoded
        depth = unit_to_depth(depth_net(frames, poses[ends], fovy))
        views = ViewMemory.of(frames, depth, joints[ends], poses[ends], names, fovy)
        chunks = latents.shape[2] - 1
        first = views.index(torch.zeros(chunks, dtype=torch.long))
        memory = first.remember(views.index(torch.arange(chunks)))
        stride = every // FRAMES_PER_LATENT
        seen = torch.arange(stride, poses.shape[0], stride, device=device).view(chunks, FRAMES_PER_LATENT)
        condition = view_condition(vae, memory, poses[seen], joints[seen], names, fovy)
    size = latents.shape[-2:]
    start = body_channels(joints[:1, None].expand(-1, FRAMES_PER_LATENT, -1, -1), names, (size[0], size[1]), fovy)
    known = torch.zeros(1, condition.channels.shape[1] - start.shape[1], *size, device=device)
    priors = torch.cat([torch.zeros_like(latents[:, :, 0]), condition.prior.float()])
    channels = torch.cat([torch.cat([known, start], dim=1), condition.channels.float()])
    return {
        "latents": latents[0].transpose(0, 1).half().cpu().numpy(),
        "priors": priors.half().cpu().numpy(),
        "channels": (channels.clamp(0, 1) * 255).round().byte().cpu().numpy(),
        "tokens": tokens.astype(np.float32),
    }


def latent_clips(
    reader: LeRobotReader,
    split: str,
    folder: Path,
    vae: VideoVAE,
    depth_net: DepthNet,
    motion_vae: MotionVAE,
    text_encoder: TextEncoder,
    limit: int | None = None,
) -> LatentClips:
    """Open the cached arrays of a split in ``folder``, computing them first if need be; goes on after a kill.

    Args:
        reader: the data set.
        split: "train" or "val".
        folder: where the arrays are kept.
        vae: codes the frames.
        depth_net: tells their depth.
        motion_vae: codes the motion.
        text_encoder: codes the texts.
        limit: only the first so many clips of the split.

    Raises:
        UserError: the folder holds the latents of another data set or model.
    """
    clips = np.array(reader.split(split))[:limit]
    folder = folder / split
    identity = {
        "format": FORMAT,
        "data": str(reader.root.resolve()),
        "split": split,
        "clips": len(clips),
        "networks": fingerprint({"video_vae": vae, "depth": depth_net, "motion_vae": motion_vae}),
    }
    told = folder / "latents.json"
    if told.exists():
        if json.loads(told.read_text())["identity"] != identity:
            raise UserError(f"{folder} holds the latents of another data set or model; remove it or use another --out")
    else:
        partial = folder.with_name(folder.name + ".partial")
        if partial.exists() and json.loads((partial / "latents.json").read_text())["identity"] != identity:
            shutil.rmtree(partial)
        _compute(reader, clips, partial, identity, vae, depth_net, motion_vae, text_encoder)
        partial.rename(folder)
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in LatentClips.__dataclass_fields__}
    return LatentClips(**arrays)


def _compute(
    reader: LeRobotReader,
    clips: np.ndarray,
    folder: Path,
    identity: dict[str, object],
    vae: VideoVAE,
    depth_net: DepthNet,
    motion_vae: MotionVAE,
    text_encoder: TextEncoder,
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    told = folder / "latents.json"
    done = json.loads(told.read_text())["done"] if told.exists() else 0
    maps: dict[str, np.ndarray] = {}
    for row in track(range(done, len(clips)), description=f"latents of {identity['split']}"):
        arrays = clip_arrays(reader, int(clips[row]), vae, depth_net, motion_vae)
        for name, value in arrays.items():
            if name not in maps:
                path, shape = folder / f"{name}.npy", (len(clips), *value.shape)
                mode = "r+" if path.exists() else "w+"
                maps[name] = np.lib.format.open_memmap(path, mode=mode, dtype=value.dtype, shape=shape)  # type: ignore[no-untyped-call]
            maps[name][row] = value
        if (row + 1) % 50 == 0 or row + 1 == len(clips):
            for array in maps.values():
                array.flush()  # type: ignore[attr-defined]
            told.write_text(json.dumps({"identity": identity, "done": row + 1}))
    texts = [reader.text(int(clip)) for clip in clips]
    unique = sorted(set(texts))
    embedded = [text_encoder.encode(unique[i : i + 64]) for i in range(0, len(unique), 64)] + [
        text_encoder.encode_null()
    ]
    np.save(folder / "text.npy", torch.cat([e.tokens for e in embedded]).half().cpu().numpy())
    np.save(folder / "text_mask.npy", torch.cat([e.mask for e in embedded]).cpu().numpy())
    np.save(folder / "text_index.npy", np.array([unique.index(text) for text in texts]))
