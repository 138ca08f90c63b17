"""The `chunk` canonical form: each chunk in the canonical frame of the body state that it starts from.

An absolute head position leaves the training range after a minute of walking. A chunk knows only its own first
state; the world trajectory is the composition of the chunks.
"""

from __future__ import annotations

import numpy as np

from egotwin_sim.errors import UserError
from egotwin_sim.motion.head_centric import canonical_frame, decode_pose, encode, head_pose, recanonicalise
from egotwin_sim.motion.motion import Motion, default_skeleton
from egotwin_sim.motion.rotations import matrix_to_quat, quat_multiply
from egotwin_sim.motion.skeleton import Skeleton


def chunk_features(motion: Motion, frames_per_chunk: int = 8, previous: Motion | None = None) -> np.ndarray:
    """Features of the overlapping chunks of a motion.

    Args:
        motion: 1 + n K frames, n being `frames_per_chunk`.
        frames_per_chunk: n, the frames that a chunk adds to the state it starts from.
        previous: what happened before the motion, for the changes and velocities of its first frame.

    Returns:
        float32 (K, n + 1, D). Chunk k holds the states n k .. n (k + 1) in the canonical frame of state n k. Changes
        and velocities are those of the whole motion, so a chunk's first state has the true ones.

    Raises:
        UserError: the number of frames is not 1 + n K with K >= 1.
    """
    count, rest = divmod(len(motion) - 1, frames_per_chunk)
    if rest or count < 1:
        raise UserError(
            f"the motion has {len(motion)} frames; expected 1 + {frames_per_chunk} K with K >= 1: cut it to "
            f"{1 + frames_per_chunk * max(count, 1)}"
        )
    starts = np.arange(count) * frames_per_chunk
    windows = encode(motion, previous)[starts[:, None] + np.arange(frames_per_chunk + 1)]
    return recanonicalise(windows)


def compose_chunks(
    chunks: np.ndarray,
    T_world_canonical0: np.ndarray | None = None,
    skeleton: Skeleton | None = None,
    fps: float = 16.0,
) -> Motion:
    """The world motion of consecutive chunks, the inverse of `chunk_features`.

    Each chunk is set down in the canonical frame of the last state of the one before; its own first state repeats
    that one and is dropped.

    Args:
        chunks: (K, n + 1, D).
        T_world_canonical0: (4, 4), the canonical frame of the first chunk in the world; the identity without it.
        skeleton: the body; the default one without it.
        fps: frames per second.

    Returns:
        A motion of 1 + n K frames.
    """
    skeleton = skeleton or default_skeleton()
    chunks = np.asarray(chunks)
    if chunks.ndim != 3 or chunks.shape[0] < 1 or chunks.shape[1] < 2:
        raise UserError(f"chunks have shape {chunks.shape}; expected (K, n + 1, D) with K >= 1 and n >= 1")
    root, quat = decode_pose(chunks, skeleton)
    frame = np.eye(4) if T_world_canonical0 is None else np.asarray(T_world_canonical0, dtype=np.float64)
    frames = [frame]
    for step in canonical_frame(head_pose(chunks[:-1, -1])):
        frames.append(frames[-1] @ step)
    placed = np.stack(frames)[:, None]
    root = (placed[..., :3, :3] @ root[..., None])[..., 0] + placed[..., :3, 3]
    quat[..., 0, :] = quat_multiply(matrix_to_quat(placed[..., :3, :3]), quat[..., 0, :])
    return Motion(
        np.concatenate((root[0, :1], root[:, 1:].reshape(-1, 3))),
        np.concatenate((quat[0, :1], quat[:, 1:].reshape(-1, *quat.shape[2:]))),
        skeleton,
        fps,
    )
