"""Data sets in the models' own terms, computed once and kept on disk: latents, motion tokens, conditions, text.

A cache is of one data set and of the networks that made it. What it holds depends on the form of the model: with a view
memory (nano) each latent has what was remembered of its view; in the published form there are the latents alone; and
for text to motion there is no video at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from egotwin_sim.data import LeRobotReader
from egotwin_sim.errors import UserError
from egotwin_sim.models.depth import unit_to_depth
from egotwin_sim.models.images import image_to_unit
from egotwin_sim.models.motion_vae import MotionVAE
from egotwin_sim.models.video_vae import FRAMES_PER_LATENT
from egotwin_sim.models.view_condition import body_channels, view_condition
from egotwin_sim.models.view_memory import ViewMemory, vertical_field_of_view
from egotwin_sim.motion import Motion, chunk_features
from egotwin_sim.motion.head_centric import Layout
from egotwin_sim.pipelines.body import BodyState
from egotwin_sim.pipelines.tokens import motion_tokens
from egotwin_sim.pipelines.video_codec import VideoCodec
from egotwin_sim.training.components import FrozenNetworks
from egotwin_sim.training.rows import Shards, computed_rows

FORMAT = 2
CLIPS_AT_ONCE = 64  # whose motion is coded together
TEXTS_AT_ONCE = 16

Array = np.ndarray | Shards


@dataclass(frozen=True)
class LatentClips:
    """All clips of a split as arrays that are mapped from disk, N clips of L latents and M = 2L - 1 motion tokens.

    Attributes:
        tokens: float32 (N, M, Cm), normalised motion tokens, in the motion VAE's form.
        text_index: int64 (N,), row of each clip in ``text`` and ``text_mask``.
        text: float16 (K, Lt, Dt); the last row is the null text.
        text_mask: bool (K, Lt).
        latents: float16 (N, L, C, h, w), normalised; None without video.
        priors: float16 (N, L, C, h, w), the view memory's latents, zero for latent 0; None without a view memory.
        channels: uint8 (N, L, E, h, w), the other condition channels times 255; likewise.
    """

    tokens: Array
    text_index: np.ndarray
    text: Array
    text_mask: Array
    latents: Array | None = None
    priors: Array | None = None
    channels: Array | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def num_latents(self) -> int:
        """L, latent 0 included."""
        return (self.tokens.shape[1] + 1) // 2

    @property
    def shape(self) -> tuple[int, ...]:
        """What clips of a batch must share: (M, Cm), and (C, h, w) with video."""
        return self.tokens.shape[1:] + (() if self.latents is None else self.latents.shape[2:])

    def batch(self, clips: np.ndarray, first: int = 0, last: int | None = None) -> dict[str, Tensor]:
        """Clips (B,) as tensors, latent 0 and latents ``first`` to ``last`` (excluded) with their motion tokens."""
        last = self.num_latents if last is None else last
        chosen = np.array(sorted({0, *range(first, last)}))
        token_index = np.array([t for k in chosen for t in ((0,) if k == 0 else (2 * k - 1, 2 * k))])
        rows, texts = np.ix_(clips, chosen), self.text_index[clips]
        batch = {
            "tokens": torch.from_numpy(self.tokens[np.ix_(clips, token_index)]),
            "text": torch.from_numpy(self.text[texts]).float(),
            "text_mask": torch.from_numpy(self.text_mask[texts]),
            "positions": torch.from_numpy(chosen),
        }
        if self.latents is not None:
            batch["latents"] = torch.from_numpy(self.latents[rows]).float()
        if self.priors is not None and self.channels is not None:
            batch["priors"] = torch.from_numpy(self.priors[rows]).float()
            batch["channels"] = torch.from_numpy(self.channels[rows]).float() / 255
        return batch

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
def view_arrays(reader: LeRobotReader, index: int, networks: FrozenNetworks) -> dict[str, np.ndarray]:
    """The video and motion entries of ``LatentClips`` for one clip of a model with a view memory."""
    vae, depth_net, motion_vae = networks.vae, networks.depth_net, networks.motion_vae
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


@torch.no_grad()
def published_arrays(reader: LeRobotReader, index: int, networks: FrozenNetworks) -> dict[str, np.ndarray]:
    """The video and motion entries of ``LatentClips`` for one clip in the published form; a latent is its mean."""
    vae = networks.vae
    frames = torch.from_numpy(reader.frames(index)).to(vae.device).permute(3, 0, 1, 2)[None]
    with torch.autocast(vae.device.type, torch.bfloat16):
        latents = VideoCodec(vae).encode(image_to_unit(frames))[0]
    tokens = motion_tokens(reader.motion(index), networks.motion_vae)
    return {"latents": latents.half().cpu().numpy(), "tokens": tokens.astype(np.float32)}


@torch.no_grad()
def clip_tokens(reader: LeRobotReader, clips: Sequence[int], motion_vae: MotionVAE) -> np.ndarray:
    """Motion tokens (N, M, Cm) of clips, as ``pipelines.tokens.motion_tokens`` makes them, but many at a time."""
    motions = [reader.motion(clip) for clip in clips]
    if motion_vae.config.canonical == "clip":
        features = np.stack([motion_vae.representation.encode(motion) for motion in motions])
        return motion_vae.tokenise(torch.from_numpy(features).to(motion_vae.device)).cpu().numpy()
    chunks = torch.from_numpy(np.stack([chunk_features(motion) for motion in motions])).to(motion_vae.device)
    return motion_vae.track(chunks, skeleton=reader.skeleton, fps=reader.motion_fps).tokens.cpu().numpy()


def latent_clips(
    reader: LeRobotReader, split: str, folder: Path, networks: FrozenNetworks, limit: int | None = None
) -> LatentClips:
    """Open the cached clips of a split, computing them first if need be; goes on after a kill.

    All processes have to call this; they share the work.

    Args:
        reader: the data set.
        split: "train" or "val".
        folder: where caches are kept, one folder below it for each data set.
        networks: what codes frames, motion and texts; loaded only if there is something to compute.
        limit: only the first so many clips of the split.

    Raises:
        UserError: clips of different lengths or without video, a text that is too long, or a folder that holds the
            latents of another data set or model.
    """
    clips = _clips(reader, split, limit)
    names = ("vae", "depth_net", "motion_vae") if networks.remembers else ("vae", "motion_vae")
    arrays = view_arrays if networks.remembers else published_arrays

    def compute(rows: range) -> dict[str, np.ndarray]:
        each = [arrays(reader, int(clips[row]), networks.on_device(*names)) for row in rows]
        return {name: np.stack([one[name] for one in each]) for name in each[0]}

    place = cache_folder(folder, reader)
    identity = {"format": FORMAT, "data": str(reader.root.resolve()), "networks": networks.digest(*names)}
    found = computed_rows(place / split, identity, len(clips), compute, title=f"latents of {split}")
    networks.release("vae")
    return LatentClips(**{**found, **text_features(reader, clips, place, networks)})


def motion_clips(
    reader: LeRobotReader, split: str, folder: Path, networks: FrozenNetworks, limit: int | None = None
) -> LatentClips:
    """As ``latent_clips``, but of the motion and the text alone; the data set need not have video."""
    clips = _clips(reader, split, limit)

    def compute(rows: range) -> dict[str, np.ndarray]:
        own = [int(clips[row]) for row in rows]
        return {"tokens": clip_tokens(reader, own, networks.on_device("motion_vae").motion_vae)}

    place = cache_folder(folder, reader)
    identity = {"format": FORMAT, "data": str(reader.root.resolve()), "networks": networks.digest("motion_vae")}
    found = computed_rows(
        place / f"{split}-motion", identity, len(clips), compute, at_once=CLIPS_AT_ONCE, title=f"motion of {split}"
    )
    return LatentClips(**{**found, **text_features(reader, clips, place, networks)})


def text_features(reader: LeRobotReader, clips: np.ndarray, folder: Path, networks: FrozenNetworks) -> dict[str, Any]:
    """The text entries of ``LatentClips``: each distinct text of the data set is coded and kept once."""
    texts = reader.tasks

    def compute(rows: range) -> Mapping[str, np.ndarray]:
        encoder = networks.on_device("text_encoder").text_encoder
        said = [texts[row] for row in rows if row < len(texts)]
        coded = ([encoder.encode(said)] if said else []) + ([encoder.encode_null()] if len(texts) in rows else [])
        tokens, mask = torch.cat([one.tokens for one in coded]), torch.cat([one.mask for one in coded])
        half = tokens.half().cpu().numpy()
        if not np.isfinite(half).all():
            raise FloatingPointError("the text encoder's states do not fit into half precision: use another encoder")
        return {"text": half, "text_mask": mask.cpu().numpy()}

    said = crc32("\n".join(texts).encode())
    identity = {"format": FORMAT, "texts": said, "networks": networks.digest("text_encoder")}
    found = computed_rows(
        folder / "text", identity, len(texts) + 1, compute, at_once=TEXTS_AT_ONCE, title="text features"
    )
    networks.release("text_encoder")
    row_of = {text: row for row, text in enumerate(texts)}
    return {"text_index": np.array([row_of[reader.text(int(clip))] for clip in clips]), **found}


def cache_folder(folder: Path, reader: LeRobotReader) -> Path:
    """Where the caches of a data set lie below the folder of all caches."""
    root = reader.root.resolve()
    return folder / f"{root.name}-{crc32(str(root).encode()):08x}"


def _clips(reader: LeRobotReader, split: str, limit: int | None) -> np.ndarray:
    clips = np.array(reader.split(split))[:limit]
    if not len(clips):
        raise UserError(f"{reader.root} has no clips of the split {split!r}: make more clips")
    lengths = {reader.length(int(clip)): int(clip) for clip in clips}
    if len(lengths) > 1 or any((length - 1) % FRAMES_PER_LATENT for length in lengths):
        told = ", ".join(f"{length} (episode {clip})" for length, clip in sorted(lengths.items())[:3])
        raise UserError(f"{reader.root} has clips of {told} frames; expected one length of 1 + 4 K: convert it again")
    return clips
