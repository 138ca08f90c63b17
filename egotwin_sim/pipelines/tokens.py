"""Any motion as motion tokens."""

from __future__ import annotations

import numpy as np
import torch

from egotwin_sim.models.motion_vae import MotionVAE
from egotwin_sim.motion import Layout, Motion, chunk_features, encode
from egotwin_sim.pipelines.body import BodyState


def motion_tokens(motion: Motion, motion_vae: MotionVAE) -> np.ndarray:
    """Normalised tokens (1 + 2K, Cm) of a motion of 1 + 8K frames.

    Each chunk is tokenised as seen from the state that the tokens before it lead to, so that a stream that is given
    all of them follows the motion without drifting (``MotionVAE.track``).
    """
    chunks = torch.from_numpy(chunk_features(motion))[None].to(motion_vae.device)
    with torch.no_grad():
        return motion_vae.track(chunks, skeleton=motion.skeleton, fps=motion.fps).tokens[0].cpu().numpy()


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
