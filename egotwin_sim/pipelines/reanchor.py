"""A dream tied to reality again: it goes on from the frame that was really seen and the body as it was measured.

What is dreamt drifts: small errors of view and body add up, and so do those of whatever carries the body out. All that
the coming view is drawn from is made anew from the real frame: the newest view that is remembered (the first one of the
episode stays), the decoder's memory, and the body with its place in the room. Kept are the keys and values of the past
chunks, from which the body knows what it is about (a walk begun anew every second would be a row of first steps), the
goal, the frame that the episode began in (the head's poses stay in it), and the noise's key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from egotwin_sim.errors import UserError
from egotwin_sim.motion import Motion
from egotwin_sim.pipelines.body import BodyState
from egotwin_sim.pipelines.state import DreamState

if TYPE_CHECKING:
    from egotwin_sim.pipelines.stream import StreamPipeline


def reanchored(
    pipeline: StreamPipeline, state: DreamState, frames: Sequence[np.ndarray], motions: Sequence[Motion]
) -> DreamState:
    """See ``StreamPipeline.reanchor``."""
    pipeline.check(state)
    if len(frames) != len(state) or len(motions) != len(state):
        raise UserError(f"{len(frames)} frames and {len(motions)} bodies were given for {len(state)} dreams")
    skeleton, fps = pipeline.skeleton, pipeline.config.motion_fps
    for motion in motions:
        if motion.skeleton.names != skeleton.names or motion.fps != fps:
            raise UserError(
                f"the body has {motion.skeleton.num_joints} joints at {motion.fps:g} frames/s; expected "
                f"{skeleton.num_joints} at {fps:g}: retarget and resample it"
            )
    if pipeline._row_by_row and len(state) > 1:
        each = zip(range(len(state)), frames, motions, strict=True)
        return DreamState.join([reanchored(pipeline, state.rows([row]), [f], [m]) for row, f, m in each])
    given = np.stack([pipeline._check_first_frame(frame) for frame in frames])
    pictures = pipeline._to_network(given)[0].transpose(0, 1)
    bodies = [BodyState.of(motion) for motion in motions]
    joints = pipeline._joints(np.stack([body.features for body in bodies]))
    view = pipeline._view(pictures, joints, np.concatenate([body.motion.T_world_head() for body in bodies]))
    anchored = replace(state, memory=state.memory.remember(view), decoder=pipeline._first(pictures)[1])
    return anchored.with_bodies(bodies)
