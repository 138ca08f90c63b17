"""A dream on the simulation's time line and in its world: what is dreamt next, and tying it to reality again."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from egotwin_sim.errors import UserError
from egotwin_sim.live.balance import Balance
from egotwin_sim.live.pictures import resized
from egotwin_sim.motion import Motion, canonical_frame, encode
from egotwin_sim.motion.head_centric import set_down
from egotwin_sim.motion.motion import same_skeleton
from egotwin_sim.motion.rotations import yaw_of
from egotwin_sim.pipelines.body import BodyState
from egotwin_sim.pipelines.state import DreamState
from egotwin_sim.pipelines.stream import Generated, StreamPipeline
from egotwin_sim.pipelines.tokens import chunk_tokens

KEPT = 4  # chunks whose motion is remembered, for frames that come late
# Seconds by which a frame to anchor on may be off the time where a step ends.
ANCHOR_TOLERANCE = 1 / 16
MARGIN = 0.1  # simulated seconds from the moment when a chunk is ready, but late, to its beginning
_SAME = 1e-6  # seconds


@dataclass(frozen=True, eq=False)
class DreamtChunk:
    """One step of a dream, in the simulation's world.

    Attributes:
        step_id: rising by one from step to step.
        deadline_s: simulated time from which it counts: the body shall then be as in `before`.
        frames: uint8 (4, H, W, 3), what is seen at `frame_times`.
        before: the body where the chunk begins, one frame.
        motion: 8 frames of the body, at `motion_times`.
        tokens: float32 (2, C), the motion as tokens.
        T_world_head: float64 (8, 4, 4).
        goal: the text it was dreamt for.
        seconds: on the wall, to dream it.
    """

    step_id: int
    deadline_s: float
    frames: np.ndarray
    before: Motion
    motion: Motion
    tokens: np.ndarray
    T_world_head: np.ndarray
    goal: str
    seconds: float

    @property
    def motion_times(self) -> np.ndarray:
        """(8,) simulated seconds."""
        return self.deadline_s + np.arange(1, len(self.motion) + 1) / self.motion.fps

    @property
    def frame_times(self) -> np.ndarray:
        """(4,) simulated seconds."""
        every = len(self.motion) // len(self.frames)
        return self.motion_times[every - 1 :: every]

    @property
    def end_s(self) -> float:
        """Simulated seconds of the last frame."""
        return self.deadline_s + len(self.motion) / self.motion.fps

    @property
    def recent(self) -> Motion:
        """`before` and `motion`."""
        return Motion.concatenate([self.before, self.motion])


class LiveDream:
    """A dream that goes on chunk by chunk; `Dreamer` runs one in a thread. It belongs to one thread.

    Args:
        pipeline: the model.
        seed: of the dream's noise.

    Attributes:
        pipeline, seed: as given.
        step_id: of the coming step; a step that fails does not advance it.
        end_s: simulated time up to which motion was dreamt.
        catches: how often a body that was lost has been set upright, see `Balance`; `caught` why the last time.
    """

    def __init__(self, pipeline: StreamPipeline, seed: int = 0) -> None:
        if seed < 0:
            raise UserError(f"the seed is {seed}; expected 0 or more")
        self.pipeline, self.seed = pipeline, seed
        self.step_id = 0
        self.end_s = 0.0
        self.catches, self.caught = 0, ""
        self._episode = -1
        self._state: DreamState | None = None
        self._T_world_start = np.eye(4)
        self._chunks: deque[DreamtChunk] = deque(maxlen=KEPT)
        self._before: deque[DreamState] = deque(maxlen=KEPT)  # each chunk's

    @property
    def begun(self) -> bool:
        """Whether there is a dream."""
        return self._state is not None

    @property
    def at_beginning(self) -> bool:
        """Whether nothing was dreamt since the beginning, or since it was cut off."""
        return not self._chunks

    @property
    def chunk_seconds(self) -> float:
        """Simulated seconds of one step."""
        return self.pipeline.motion_frames / self.pipeline.config.motion_fps

    @property
    def goal(self) -> str:
        """The text that is dreamt for; empty before the beginning."""
        return "" if self._state is None else self._state.goals[0]

    @property
    def recent(self) -> Motion:
        """The body's last frames up to `end_s`, in the simulation's world: nine, or one at the beginning."""
        body = self._to_world(self._body.motion)
        if not self._chunks:
            return body
        # After re-anchoring, the chunk before leads to where the body was expected; the body is where it was found.
        last = self._chunks[-1].recent
        moved = set_down(last, of=last[-1:], at=body)
        return Motion.concatenate([moved[:-1], body])

    def begin(self, first_frame: np.ndarray, body: Motion, text: str, at: float) -> None:
        """Begins a dream; one that was there is forgotten.

        Args:
            first_frame: what is seen, uint8 (S, S, 3).
            body: one frame, in the simulation's world.
            text: the goal.
            at: simulated seconds, when it is so.

        Raises:
            UserError: a picture or body that does not fit, an empty or too long text. The dream stays what it was.
        """
        body = self._checked(body)[-1:]
        picture = resized(first_frame, self.pipeline.config.image_size)
        episode = self._episode + 1
        stream = self.pipeline.start(picture, encode(body)[0], text, seed=self.seed, episode=episode)
        self._state, self._episode = stream.state, episode
        self._T_world_start = canonical_frame(body.T_world_head())[0]
        self._balance = Balance(self._to_dream(body))
        self._chunks.clear()
        self._before.clear()
        self.end_s = float(at)

    def set_goal(self, text: str) -> None:
        """Gives the dream another goal; what was dreamt stays.

        Raises:
            UserError: there is no dream, or the text is empty or too long; the goal stays what it was.
        """
        self._state = self.pipeline.set_goal(self._present, [0], [text])

    def step(self, tokens: np.ndarray | None = None, now: Callable[[], float] | None = None) -> DreamtChunk:
        """Dreams the next chunk.

        Args:
            tokens: (2, C), what the body does; None to dream that too. A body that the dream loses is set upright.
            now: tells the simulated time when the chunk is ready: if it should have begun by then, it begins `MARGIN`
                later.

        Raises:
            UserError: there is no dream, or the tokens do not fit.
            FloatingPointError: the model gave a number that is not finite. The dream stays where it was.
        """
        began = time.perf_counter()
        state = self._present
        before = self._to_world(self._body.motion)
        chunk = self.pipeline.generate(state, None if tokens is None else np.asarray(tokens)[None])
        if not bool(chunk.finite[0]):
            raise FloatingPointError(f"step {self.step_id} of the dream is not finite")
        if tokens is None and (lost := self._balance.lost(chunk.world_motion[0])):
            upright = self._balance.upright(self._body.motion, self.pipeline.motion_frames)
            # Tokens code what bodies do, and none does this: they draw the view, the body itself is set.
            chunk = replace(
                self._driven(state, upright),
                bodies=(self._body.moved(upright[1:]),),
                world_motion=(upright[1:],),
                T_world_head=upright[1:].T_world_head()[None],
            )
            self.catches, self.caught = self.catches + 1, f"step {self.step_id}: {lost}"
        after = self.pipeline.finalize(state, chunk)
        ready = self.end_s if now is None else now()
        dreamt = DreamtChunk(
            step_id=self.step_id,
            deadline_s=self.end_s if ready <= self.end_s else ready + MARGIN,
            frames=chunk.frames[0].cpu().numpy(),
            before=before,
            motion=self._to_world(chunk.world_motion[0]),
            tokens=chunk.motion_tokens[0].cpu().numpy(),
            T_world_head=self._T_world_start @ chunk.T_world_head[0],
            goal=state.goals[0],
            seconds=time.perf_counter() - began,
        )
        self._state = after
        self._chunks.append(dreamt)
        self._before.append(state)
        self.step_id += 1
        self.end_s = dreamt.end_s
        return dreamt

    def anchor(self, frame: np.ndarray, body: Motion, at: float, *, cut: bool = False) -> None:
        """Lets the dream go on from what was really seen and how the body really was.

        The dream is ahead of the simulation. It goes back to the state that it was in then; from the real frame and
        body it is dreamt once more up to where it was, under the motion that has been handed out already, which begins
        where the body really is.

        Args:
            frame: uint8 (S, S, 3).
            body: in the simulation's world, the last frame at that time; a frame before it gives the velocities.
            at: simulated seconds, when it was so: within `ANCHOR_TOLERANCE` of the end of a step, or later than all
                that was dreamt.
            cut: what was handed out from then on is not carried out, for something is in the way: the dream goes on
                from that moment, which may be any.

        Raises:
            UserError: there is no dream, it was so at another time, or too long ago, or a picture or body that does not
                fit.
            FloatingPointError: the model gave a number that is not finite. In each case the dream stays as it was.
        """
        state, body = self._present, self._checked(body)
        steps = 0 if cut else max(0, round((self.end_s - at) / self.chunk_seconds))
        off = 0.0 if cut else self.end_s - at - steps * self.chunk_seconds
        if off > ANCHOR_TOLERANCE + _SAME or (steps and off < -ANCHOR_TOLERANCE - _SAME):
            raise UserError(
                f"the frame to anchor on is of {at:.3f} s, {abs(off):.3f} s off the end of a step; expected at most "
                f"{ANCHOR_TOLERANCE:g} s"
            )
        if steps and (not self._chunks or at < self._chunks[0].deadline_s - _SAME):
            raise UserError(
                f"the frame to anchor on is of {at:.3f} s, and the dream is at {self.end_s:.3f} s; give newer ones"
            )
        picture = resized(frame, self.pipeline.config.image_size)
        undone = sum(chunk.deadline_s > at - self.chunk_seconds / 2 for chunk in self._chunks) if cut else steps
        past = self._of_now(self._before[-min(undone, len(self._before))]) if undone else state
        states = [self.pipeline.reanchor(past, [picture], [self._to_dream(body)])]
        for coming in self._handed_out(body, at, steps):
            states.append(self._under(states[-1], coming))
        self._state = states.pop()
        self.end_s = at + steps * self.chunk_seconds
        if cut:
            self._chunks.clear()
            self._before.clear()
        else:
            kept = list(self._before)[: len(self._before) - len(states)]
            self._before = deque([*kept, *states], maxlen=KEPT)

    def off_step(self, at: float) -> float:
        """Seconds from a time to the nearest end of a step; 0 for times beyond all that was dreamt."""
        off = max(0.0, self.end_s - at) % self.chunk_seconds
        return min(off, self.chunk_seconds - off)

    def _of_now(self, state: DreamState) -> DreamState:
        """A past state, with the goal of now."""
        goal = self._present.goals[0]
        return state if state.goals[0] == goal else self.pipeline.set_goal(state, [0], [goal])

    @property
    def _present(self) -> DreamState:
        if self._state is None:
            raise UserError("there is no dream yet; begin one")
        return self._state

    @property
    def _body(self) -> BodyState:
        return self._present.body(0, self.pipeline.skeleton, self.pipeline.config.motion_fps)

    def _checked(self, body: Motion) -> Motion:
        fps = self.pipeline.config.motion_fps
        if not same_skeleton(body.skeleton, self.pipeline.skeleton) or body.fps != fps:
            raise UserError(
                f"the body has {body.skeleton.num_joints} joints and {body.fps:g} frames/s; expected the model's "
                f"skeleton and {fps:g} frames/s: retarget and resample it"
            )
        return body

    def _handed_out(self, body: Motion, at: float, steps: int) -> list[Motion]:
        """The motion from `at` on that was handed out, led on from the body: `steps` parts of 1 + 8 frames."""
        if steps == 0:
            return []
        joined, times = self._chunks[0].recent, [self._chunks[0].deadline_s, *self._chunks[0].motion_times]
        for chunk in list(self._chunks)[1:]:
            if chunk.deadline_s > times[-1] + _SAME:  # the pose was held
                joined, times = Motion.concatenate([joined, joined[-1:]]), [*times, chunk.deadline_s]
            # Re-anchoring moved the dream, not the body: its way goes on where it was.
            joined = Motion.concatenate([joined, set_down(chunk.motion, of=chunk.before, at=joined[-1:])])
            times = [*times, *chunk.motion_times]
        fps, count = self.pipeline.config.motion_fps, self.pipeline.motion_frames
        when = at + np.arange(1 + count * steps) / fps
        coming = joined.sampled(np.interp(when, times, np.arange(len(times))), fps)
        coming = set_down(coming, of=coming[:1], at=body[-1:])
        return [coming[i * count : (i + 1) * count + 1] for i in range(steps)]

    def _under(self, state: DreamState, coming: Motion) -> DreamState:
        """The state after a chunk whose motion, 1 + 8 frames in the simulation's world, is known."""
        return self.pipeline.finalize(state, self._driven(state, self._to_dream(coming)))

    def _driven(self, state: DreamState, coming: Motion) -> Generated:
        """The chunk after a state whose motion, 1 + 8 frames in the dream's world, is known."""
        body = state.body(0, self.pipeline.skeleton, self.pipeline.config.motion_fps)
        tokens = chunk_tokens(body, coming[1:], self.pipeline.motion_vae, coming[:1])
        chunk = self.pipeline.generate(state, tokens[None])
        if not bool(chunk.finite[0]):
            raise FloatingPointError("a chunk of the dream whose motion is known is not finite")
        return chunk

    def _to_world(self, motion: Motion) -> Motion:
        T = self._T_world_start
        return motion.transformed(float(yaw_of(T[:3, :3])), T[:3, 3])

    def _to_dream(self, motion: Motion) -> Motion:
        T = np.linalg.inv(self._T_world_start)
        return motion.transformed(float(yaw_of(T[:3, :3])), T[:3, 3])
