"""The path of the body over the floor: a point and a heading that walk, turn and stand."""

from __future__ import annotations

import math

import numpy as np

from egotwin_sim.room.synthesis.timing import duration_for, quintic, wrap

RATE = 64  # steps per second of the path; a multiple of the motion rate
BODY_TURN_RATE = math.radians(68.0)
ACCELERATION = 1.3  # m/s^2, when a walk begins
BRAKING = 0.8  # m/s^2, when it ends
TURN_FIRST = math.radians(55.0)  # a walk whose direction differs by more begins with a turn on the spot
LOOK_AHEAD = 0.40  # metres along the path that the walker steers for


class Ground:
    """Grows a path step by step.

    Args:
        xy: (2,) start, metres.
        yaw: start heading, radians.
        speed: forward speed at the start, m/s.
        yaw_rate: turn rate at the start, rad/s.
        limit: seconds after which the path grows no further.
    """

    def __init__(self, xy: np.ndarray, yaw: float, speed: float = 0.0, yaw_rate: float = 0.0, limit: float = 60.0):
        self.x, self.y, self.yaw = float(xy[0]), float(xy[1]), float(yaw)
        self.speed, self.yaw_rate = float(speed), float(yaw_rate)
        self._limit = limit
        self._rows: list[tuple[float, float, float]] = [(self.x, self.y, self.yaw)]

    @property
    def time(self) -> float:
        """Seconds planned so far."""
        return (len(self._rows) - 1) / RATE

    @property
    def full(self) -> bool:
        """Whether the limit is reached."""
        return self.time >= self._limit

    def samples(self) -> np.ndarray:
        """The path (N, 3) of x, y and unwrapped heading at `RATE`."""
        return np.array(self._rows)

    def _step(self) -> None:
        dt = 1.0 / RATE
        self.yaw += self.yaw_rate * dt
        self.x += self.speed * math.cos(self.yaw) * dt
        self.y += self.speed * math.sin(self.yaw) * dt
        self._rows.append((self.x, self.y, self.yaw))

    def hold(self, seconds: float) -> None:
        """Stand, after braking from whatever speed there was."""
        for _ in range(round(seconds * RATE)):
            self.speed *= 1.0 - 6.0 / RATE
            self.yaw_rate *= 1.0 - 8.0 / RATE
            self._step()
        if abs(self.speed) < 0.02:
            self.speed = 0.0
        if abs(self.yaw_rate) < 0.02:
            self.yaw_rate = 0.0

    def turn(self, angle: float, rate: float = BODY_TURN_RATE) -> None:
        """Turn on the spot by `angle` radians (positive: left), at most at `rate`."""
        seconds = duration_for(angle, rate)
        count = max(2, round(seconds * RATE))
        start, first = self.yaw, self.yaw_rate
        profile = quintic(np.arange(1, count + 1) / count, np.array(start), np.array(start + angle), first * seconds)
        for yaw in profile.tolist():
            self.yaw_rate = (yaw - self.yaw) * RATE
            self.speed *= 1.0 - 6.0 / RATE
            self._step()
        self.speed = self.yaw_rate = 0.0

    def slide(self, xy: np.ndarray, yaw: float, seconds: float) -> None:
        """Move to a near point and heading with a minimum-jerk profile, stepping sideways or back if need be."""
        count = max(2, round(seconds * RATE))
        start = np.array([self.x, self.y, self.yaw])
        stop = np.array([*xy, self.yaw + wrap(yaw - self.yaw)])
        ahead = self.speed * seconds * np.array([math.cos(self.yaw), math.sin(self.yaw), 0.0])
        ahead[2] = self.yaw_rate * seconds
        for row in quintic((np.arange(1, count + 1) / count)[:, None], start, stop, ahead).tolist():
            self.x, self.y, self.yaw = row
            self._rows.append((self.x, self.y, self.yaw))
        self.speed = self.yaw_rate = 0.0

    def follow(self, route: np.ndarray, speed: float, seconds: float = math.inf) -> None:
        """Walk along a polyline (K, 2) to its end and stop there, or cease after some seconds.

        The route begins where the path is now.
        """
        until = self.time + seconds
        route = np.asarray(route, dtype=np.float64)
        steps = np.diff(route, axis=0)
        lengths = np.linalg.norm(steps, axis=1)
        keep = lengths > 1e-6
        if not keep.any():
            return
        starts, steps, lengths = route[:-1][keep], steps[keep], lengths[keep]
        total = float(lengths.sum())
        marks = np.concatenate([np.zeros(1), np.cumsum(lengths)])

        def point(distance: float) -> tuple[float, float]:
            k = min(int(np.searchsorted(marks, distance, side="right")) - 1, len(lengths) - 1)
            xy = starts[k] + steps[k] * ((distance - marks[k]) / lengths[k])
            return float(xy[0]), float(xy[1])

        tx, ty = point(min(LOOK_AHEAD, total))
        first = float(wrap(math.atan2(ty - self.y, tx - self.x) - self.yaw))
        if abs(first) > TURN_FIRST:
            # The last part of the turn is done in the walk: the whole body is never seen to stop.
            self.turn(first * 0.9)
        done, dt = 0.0, 1.0 / RATE
        final = math.atan2(float(steps[-1][1]), float(steps[-1][0]))
        patience = round((total / max(speed, 0.2) * 2.0 + 4.0) * RATE)
        for _ in range(patience):
            if self.full or self.time >= until:
                return
            left = total - done
            if left < 0.008 or (left < 0.05 and self.speed < 0.03):
                break
            # Beyond the end the route goes on straight, so that the heading stays defined up to the last step.
            over = max(0.0, done + LOOK_AHEAD - total)
            tx, ty = point(min(done + LOOK_AHEAD, total))
            tx, ty = tx + over * math.cos(final), ty + over * math.sin(final)
            error = float(wrap(math.atan2(ty - self.y, tx - self.x) - self.yaw))
            wanted_rate = max(-BODY_TURN_RATE, min(BODY_TURN_RATE, 2.6 * error))
            self.yaw_rate += max(-5.0 * dt, min(5.0 * dt, wanted_rate - self.yaw_rate))
            aligned = max(0.15, 1.0 - abs(error) / 0.9)
            wanted = min(speed * aligned, math.sqrt(2.0 * BRAKING * left), 4.0 * left + 0.04)
            self.speed += max(-2.5 * dt, min(ACCELERATION * dt, wanted - self.speed))
            self._step()
            done += max(self.speed * math.cos(error), 0.0) * dt
        self.speed = 0.0
        while abs(self.yaw_rate) > 0.02 and not self.full:
            self.yaw_rate *= 1.0 - 8.0 / RATE
            self._step()
        self.yaw_rate = 0.0
