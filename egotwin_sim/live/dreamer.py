"""The dream as a thread: it keeps a little ahead of the simulation, and takes what is new when it comes."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from egotwin_sim.errors import UserError
from egotwin_sim.live.dream import DreamtChunk, LiveDream
from egotwin_sim.motion import Motion
from egotwin_sim.pipelines.stream import StreamPipeline

HORIZON = 0.6  # simulated seconds of motion that are left when the next step is begun
# Seconds beyond the horizon that must be left to tie the dream to a frame, which takes as long as a step: else the step
# that is due next would come too late. The next frame will do as well.
ANCHOR_ROOM = 0.2
KEPT = 200  # steps whose times are kept for the quantiles
TOKEN_BOUND = 8.0  # as of the environments' actions: no motion is beyond


@dataclass(frozen=True, eq=False)
class StepRequest:
    """What a policy is asked: the motion of a step.

    Attributes:
        step_id: of the step.
        deadline_s: simulated time at which its motion begins.
        recent: the body's last frames up to then, nine or one, in the simulation's world.
        goal: the text.
    """

    step_id: int
    deadline_s: float
    recent: Motion
    goal: str


@dataclass(frozen=True, eq=False)
class _Beginning:
    frame: np.ndarray
    body: Motion
    text: str
    at: float


@dataclass(frozen=True, eq=False)
class _Anchor:
    frame: np.ndarray
    body: Motion
    at: float
    cut: bool


class Dreamer:
    """Runs a `LiveDream` in a thread of its own, ahead of a clock that it is told.

    A step is begun when less than `horizon` of motion is left. The newest goal and the newest anchor count, older ones
    that were not taken up yet are dropped and counted. What does not fit is refused, counted, and named in `status`; a
    step that fails is tried again and does not advance the step's number.

    Without `start`, `work` does in the caller's thread what the thread would do next.

    Args:
        pipeline: the model.
        seed: of the dream's noise.
        driven: whether the body's motion is given by `give_tokens`; otherwise it is dreamt from the goal.
        horizon: simulated seconds.
        on_chunk: called with each step, in the dreamer's thread. What it raises is counted.
        on_need: called when the tokens of a step are needed, in the dreamer's thread; once for a step, and again later
            if the step failed or it raised. It may give them at once.

    Attributes:
        dream: what is run; it belongs to the thread.

    Raises:
        UserError: a seed or horizon out of range.
    """

    def __init__(
        self,
        pipeline: StreamPipeline,
        *,
        seed: int = 0,
        driven: bool = False,
        horizon: float = HORIZON,
        on_chunk: Callable[[DreamtChunk], None] | None = None,
        on_need: Callable[[StepRequest], None] | None = None,
    ) -> None:
        self.dream = LiveDream(pipeline, seed)
        if not 0.0 <= horizon <= 5.0:
            raise UserError(f"horizon {horizon} s; expected 0 to 5")
        self.driven, self.horizon, self.on_chunk, self.on_need = driven, horizon, on_chunk, on_need
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._now = 0.0
        self._beginning: _Beginning | None = None
        self._goal: str | None = None
        self._anchor: _Anchor | None = None
        self._tokens: tuple[int, np.ndarray] | None = None
        self._asked = -1
        self._taken: set[str] = set()  # kinds of news that were taken up since the last step
        self._retry_at = -np.inf
        self._failing = False
        self._counts = dict.fromkeys(
            ("chunks", "anchors", "late", "dropped", "refused", "failures", "listener_errors"), 0
        )
        self._refused_reason = self._reason = self._listener_reason = ""
        self._seconds: deque[float] = deque(maxlen=KEPT)

    # From any thread.

    def start(self) -> None:
        """Begins to run.

        Raises:
            UserError: it was started before.
        """
        if self._thread is not None:
            raise UserError("the dreamer was started before; make another one")
        self._thread = threading.Thread(target=self._run, name="dreamer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread after the step that it is at, and waits for its end; stopping twice does no harm."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def tell_time(self, time_s: float) -> str | None:
        """Says how late it is in the simulation. A time before the one told last is refused; the reason is returned."""
        with self._changed:
            if not np.isfinite(time_s) or time_s < self._now:
                return self._refuse(f"the clock says {time_s:.3f} s after {self._now:.3f} s; it must not go backwards")
            self._now = time_s
            if self._due:
                self._changed.notify_all()
        return None

    def begin(self, first_frame: np.ndarray, body: Motion, text: str, at: float | None = None) -> None:
        """Begins a dream, in the place of one that was there; see `LiveDream.begin`.

        Args:
            first_frame: what is seen, uint8 (S, S, 3).
            body: one frame, in the simulation's world.
            text: the goal.
            at: simulated seconds, when it is so; the time told last without it.
        """
        with self._changed:
            self._beginning = _Beginning(first_frame, body, text, self._now if at is None else at)
            self._goal = self._anchor = self._tokens = None
            self._changed.notify_all()

    def set_goal(self, text: str) -> str | None:
        """Gives another goal; the last one counts. Returns why it was refused, or None."""
        with self._changed:
            if not isinstance(text, str) or not text.strip():
                return self._refuse("the goal is empty; give a text such as 'walk to the red box'")
            if not (self.dream.begun or self._beginning):
                return self._refuse("there is no dream yet; begin one")
            self._counts["dropped"] += self._goal is not None
            self._goal = text
            self._changed.notify_all()
        return None

    def anchor(self, frame: np.ndarray, body: Motion, at: float, *, cut: bool = False) -> None:
        """Ties the dream to a frame that was really seen, the newest one counts; see `LiveDream.anchor`.

        One that would make the coming step late is dropped.
        """
        with self._changed:
            self._counts["dropped"] += self._anchor is not None
            self._anchor = _Anchor(frame, body, at, cut)
            self._changed.notify_all()

    def give_tokens(self, step_id: int, tokens: np.ndarray) -> str | None:
        """Says what the body does in the coming step.

        Args:
            step_id: the coming step's.
            tokens: (2, C), normalised motion tokens.

        Returns:
            Why they were refused, or None.
        """
        with self._changed:
            coming = self.dream.step_id
            if not self.driven:
                return self._refuse("the body is dreamt from the goal; this dreamer takes no tokens")
            if step_id != coming:
                return self._refuse(f"tokens of step {step_id}; expected those of step {coming}")
            given, shape = np.asarray(tokens), (2, self.dream.pipeline.token_dim)
            if given.shape != shape or given.dtype.kind not in "fiu":
                return self._refuse(f"tokens are {given.dtype} {given.shape}; expected float32 {shape}")
            if not np.isfinite(given).all() or np.abs(given).max() > TOKEN_BOUND:
                return self._refuse(
                    f"tokens are not finite, or beyond {TOKEN_BOUND:g}; expected normalised motion tokens"
                )
            self._tokens = step_id, given.astype(np.float32)
            self._changed.notify_all()
        return None

    @property
    def buffered_until(self) -> float:
        """Simulated time up to which motion was dreamt."""
        return self.dream.end_s

    @property
    def running(self) -> bool:
        """Whether the thread is alive."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def state(self) -> str:
        """One of "waiting for a start", "dreaming", "waiting for tokens" and "failing"."""
        if not self.dream.begun:
            return "failing" if self._failing else "waiting for a start"
        if self._failing:
            return "failing"
        return "waiting for tokens" if self._lacks_tokens and self._is_time else "dreaming"

    def status(self) -> dict[str, Any]:
        """State and figures, ready for a message: numbers and texts.

        `refused` counts what others gave and was not taken, `failures` steps, beginnings and anchors that went wrong;
        `refused_reason`, `reason` and `listener_reason` say what was last. `late` counts steps that were ready after
        their time, `catches` bodies that the dream had lost and that were set upright, `caught` says why.
        """
        seconds = list(self._seconds)
        middle, long = np.percentile(seconds, [50.0, 99.0]) * 1000.0 if seconds else (0.0, 0.0)
        return {
            "state": self.state,
            "goal": self.dream.goal,
            "step_id": self.dream.step_id,
            "buffered_until_s": self.dream.end_s,
            "step_ms_p50": float(middle),
            "step_ms_p99": float(long),
            **self._counts,
            "catches": self.dream.catches,
            "caught": self.dream.caught,
            "refused_reason": self._refused_reason,
            "reason": self._reason,
            "listener_reason": self._listener_reason,
        }

    # The thread.

    def work(self) -> bool:
        """Does what is due: a beginning, a goal, an anchor, or else a step. Returns whether there was something."""
        with self._changed:
            beginning, goal, anchor = self._beginning, self._goal, self._anchor
            if beginning is not None:
                self._beginning = None
            else:
                # Between two steps that are due, each is taken up once: a flood of them must not stop the dream.
                goal = goal if self._may("goal", goal) else None
                anchor = anchor if goal is None and self._may("anchor", anchor) else None
                if anchor is not None and not self._has_room(anchor):
                    self._counts["dropped"] += 1
                    self._anchor = anchor = None
                if goal is not None:
                    self._goal = None
                elif anchor is not None:
                    self._anchor = None
                elif not self._due:
                    return False
        if beginning is not None:
            self._try(lambda: self.dream.begin(beginning.frame, beginning.body, beginning.text, beginning.at))
            self._asked, self._retry_at = -1, -np.inf
        elif goal is not None:
            self._taken.add("goal")
            self._try(lambda: self.dream.set_goal(goal))
        elif anchor is not None:
            self._taken.add("anchor")
            if self._try(lambda: self.dream.anchor(anchor.frame, anchor.body, anchor.at, cut=anchor.cut)):
                self._counts["anchors"] += 1
        else:
            self._taken.clear()
            if self._lacks_tokens:
                self._ask()
            else:
                self._step()
        return True

    def _may(self, name: str, waiting: object) -> bool:
        return waiting is not None and self.dream.begun and not (self._due and name in self._taken)

    def _has_room(self, anchor: _Anchor) -> bool:
        """Whether there is time for an anchor: much motion is left, or none, or something is in the way."""
        left = self.dream.end_s - self._now
        return anchor.cut or left <= 0.0 or left >= self.horizon + ANCHOR_ROOM - 1e-6

    def _run(self) -> None:
        # A core is left to the simulation and its camera: threads that wait for one another on too few cores take
        # longer than one alone. The number is this thread's own.
        torch.set_num_threads(max(1, min(torch.get_num_threads(), len(os.sched_getaffinity(0)) - 1)))
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or self._has_work)
                if self._stopping:
                    return
            self.work()

    @property
    def _has_work(self) -> bool:
        if self._beginning is not None:
            return True
        return self.dream.begun and (self._goal is not None or self._anchor is not None or self._due)

    @property
    def _is_time(self) -> bool:
        return self.dream.begun and self._now >= self.dream.end_s - self.horizon and self._now >= self._retry_at

    @property
    def _lacks_tokens(self) -> bool:
        return self.driven and self._tokens is None

    @property
    def _due(self) -> bool:
        """Whether there is a step to make, or tokens to ask for that were not asked for yet."""
        return self._is_time and (not self._lacks_tokens or self._asked != self.dream.step_id)

    def _ask(self) -> None:
        self._asked = self.dream.step_id
        if self.on_need is None:
            return
        deadline = max(self.dream.end_s, self._now)
        if not self._hear(self.on_need, StepRequest(self.dream.step_id, deadline, self.dream.recent, self.dream.goal)):
            self._try_later()

    def _step(self) -> None:
        with self._changed:
            given, self._tokens = self._tokens, None
        planned, first = self.dream.end_s, self.dream.at_beginning
        chunk: list[DreamtChunk] = []
        tokens = None if given is None else given[1]
        if not self._try(lambda: chunk.append(self.dream.step(tokens, lambda: self._now))):
            self._try_later()
            return
        self._counts["chunks"] += 1
        self._counts["late"] += not first and chunk[0].deadline_s > planned
        self._seconds.append(chunk[0].seconds)
        if self.on_chunk is not None:
            self._hear(self.on_chunk, chunk[0])

    def _try_later(self) -> None:
        self._asked, self._retry_at = -1, self._now + self.dream.chunk_seconds

    def _try(self, action: Callable[[], Any]) -> bool:
        try:
            action()
        except Exception as error:  # the thread must outlive whatever goes wrong in the model
            self._counts["failures"] += 1
            self._reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            self._failing = not isinstance(error, UserError) or not self.dream.begun
            return False
        self._failing = False
        return True

    def _hear(self, listener: Callable[[Any], None], said: Any) -> bool:
        try:
            listener(said)
        except Exception as error:  # a listener's mistake is no reason to stop dreaming
            self._counts["listener_errors"] += 1
            self._listener_reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            return False
        return True

    def _refuse(self, reason: str) -> str:
        self._counts["refused"] += 1
        self._refused_reason = reason
        return reason
