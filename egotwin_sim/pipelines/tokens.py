"""Any motion as motion tokens, and motion tokens as a motion, whatever form the motion VAE was trained in."""

from __future__ import annotations

import numpy as np
import torch

from egotwin_sim.errors import UserError
from egotwin_sim.models.motion_vae import FRAMES_PER_TOKEN, MotionVAE
from egotwin_sim.motion import Layout, Motion, chunk_features, encode
from egotwin_sim.pipelines.body import BodyState

TOKENS_PER_CHUNK = 2


def motion_tokens(motion: Motion, motion_vae: MotionVAE) -> np.ndarray:
    """Normalised tokens (1 + 2K, Cm) of a motion of 1 + 8K frames, K at least 1.

    In the ``chunk`` form each chunk is tokenised as seen from the state that the tokens before it lead to, so that a
    stream that is given all of them follows the motion without drifting (``MotionVAE.track``). In the ``clip`` form the
    whole motion is coded at once, in the canonical frame of its first frame.

    Raises:
        UserError: another number of frames.
    """
    if motion_vae.config.canonical == "chunk":
        chunks = torch.from_numpy(chunk_features(motion))[None].to(motion_vae.device)
        with torch.no_grad():
            return motion_vae.track(chunks, skeleton=motion.skeleton, fps=motion.fps).tokens[0].cpu().numpy()
    chunks_given, rest = divmod(len(motion) - 1, TOKENS_PER_CHUNK * FRAMES_PER_TOKEN)
    if rest or chunks_given < 1:
        raise UserError(f"the motion has {len(motion)} frames; expected 1 + 8 K with K >= 1: cut it")
    return _tokenise(motion, motion_vae)


def pose_token(pose: Motion, motion_vae: MotionVAE) -> np.ndarray:
    """Normalised token (Cm,) of an initial pose, the last frame of a motion; it stands first among a motion's tokens.

    Its changes and velocities are zero, as those of a clip's first frame in training.
    """
    return _tokenise(pose[-1:], motion_vae)[0]


def _tokenise(motion: Motion, motion_vae: MotionVAE) -> np.ndarray:
    features = torch.from_numpy(motion_vae.representation.encode(motion))[None].to(motion_vae.device)
    with torch.no_grad():
        return motion_vae.tokenise(features)[0].cpu().numpy()


def tokens_to_motion(tokens: np.ndarray, start: Motion, motion_vae: MotionVAE) -> Motion:
    """The motion that tokens lead to from a given pose: the inverse of ``motion_tokens``, but for the VAE's error.

    Args:
        tokens: (1 + 2K, Cm), normalised. Token 0 stands for the start and is not decoded.
        start: the initial pose in the world, one frame.
        motion_vae: the model that the tokens are of.

    Returns:
        1 + 8K frames in the world; the first is ``start``.

    Raises:
        UserError: tokens of another shape or not finite, or a start of more than one frame.
    """
    tokens = np.asarray(tokens, dtype=np.float32)
    if tokens.ndim != 2 or len(tokens) < 1 + TOKENS_PER_CHUNK or len(tokens) % TOKENS_PER_CHUNK != 1:
        raise UserError(
            f"motion tokens have shape {tokens.shape}; expected (1 + 2 K, {motion_vae.config.latent_channels}), K >= 1"
        )
    if len(start) != 1:
        raise UserError(f"the start has {len(start)} frames; expected one, the initial pose")
    given = torch.from_numpy(tokens)[None].to(motion_vae.device)
    if motion_vae.config.canonical == "clip":
        return _decode_clip(given, start, motion_vae)
    body, parts = BodyState.of(start), [start]
    for pair in given[:, 1:].split(TOKENS_PER_CHUNK, dim=1):
        state = torch.from_numpy(body.features[None]).to(motion_vae.device)
        with torch.no_grad():
            features = motion_vae.decode_chunk(state, pair)[0]
        body, part, _ = body.advance(features.cpu().numpy())
        parts.append(part)
    return Motion.concatenate(parts)


def _decode_clip(tokens: torch.Tensor, start: Motion, motion_vae: MotionVAE) -> Motion:
    """The motion of a whole clip's tokens (1, 1 + 2K, Cm), in the canonical frame of the start."""
    form = motion_vae.representation
    state = torch.from_numpy(form.encode(start)).to(motion_vae.device)
    with torch.no_grad():
        features = motion_vae.detokenise(tokens, state)[0].cpu().numpy()
    motion = form.decode(features, start.skeleton, start.fps, form.frame(start))
    return Motion.concatenate([start, motion[1:]])


def chunk_tokens(body: BodyState, coming: Motion, motion_vae: MotionVAE, planned: Motion | None = None) -> np.ndarray:
    """Normalised tokens (2, Cm) of the 8 frames, in world coordinates, that follow a body state.

    Args:
        body: the state.
        coming: the frames.
        motion_vae: codes them.
        planned: where a plan, of which the frames are a part, has the body now (its last frame counts). The first
            frame's changes and velocities are then the plan's, as in training, and not those of the jump from the body.
    """
    features = np.concatenate([body.features[None], body.seen_from_here(coming)])
    if planned is not None:
        layout = Layout(coming.skeleton.num_joints)
        first = encode(coming[:1], previous=planned)[0]
        for part in (layout.head_rotation_change, layout.head_position_change, layout.joint_velocities):
            features[1, part] = first[part]
    with torch.no_grad():
        return motion_vae.tokenise(torch.from_numpy(features[None]).to(motion_vae.device))[0, 1:].cpu().numpy()
