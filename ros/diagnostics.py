"""What a node reports on `diagnostics`: figures every second, refusals and warnings at once with the reason."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from threading import Lock

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.node import Node

from .messages import time_message
from .qos import STATE

PERIOD_SECONDS = 1.0
FLUSH_SECONDS = 2.0
LOOK_SECONDS = 0.02


class Diagnostics:
    """Collects events from any thread and publishes them with the node's figures.

    A status is OK, WARN (something was refused or is not as it should be; `message` is the newest reason) or ERROR.
    It goes back to OK once no new event has come for a period. Every kind of event is counted since the start, and its
    last reason is kept, in the values `<kind>` and `<kind>: last`.

    Args:
        node: whose name and clock are used.
        figures: called at every publication, gives values by name; a value `warning` that is not empty makes it WARN.
    """

    def __init__(self, node: Node, figures: Callable[[], Mapping[str, object]]) -> None:
        self._node, self._figures = node, figures
        self._publisher = node.create_publisher(DiagnosticArray, "diagnostics", STATE)
        self._lock = Lock()
        self._counts: Counter[str] = Counter()
        self._reasons: dict[str, str] = {}
        self._pending: list[tuple[bytes, str]] = []
        self._failure = ""
        # Not the node's clock: that may be a simulation's, which stands still while it is paused.
        self._timer = node.create_timer(PERIOD_SECONDS, self.publish, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def refuse(self, kind: str, reason: str) -> None:
        """Something was given that is not taken, or has gone wrong and the node goes on: a warning, published now."""
        self._event(DiagnosticStatus.WARN, kind, reason)
        self._node.get_logger().warning(f"{kind}: {reason}")

    def fail(self, kind: str, reason: str) -> None:
        """Something without which the node cannot go on: an error, published now."""
        self._failure = f"{kind}: {reason}"
        self._event(DiagnosticStatus.ERROR, kind, reason)
        self._node.get_logger().error(f"{kind}: {reason}")

    def _event(self, level: bytes, kind: str, reason: str) -> None:
        with self._lock:
            self._counts[kind] += 1
            self._reasons[kind] = reason
            self._pending.append((level, f"{kind}: {reason}"))
        self.publish()

    def flush(self) -> None:
        """Wait until what was published has arrived, so that a reason is not lost with the process.

        A process that fails right after its start has not found its readers yet: its failure is said again to them.
        """
        if self._failure:
            until = time.monotonic() + FLUSH_SECONDS
            while self._publisher.get_subscription_count() < max(1, self._readers()) and time.monotonic() < until:
                time.sleep(LOOK_SECONDS)
            with self._lock:
                self._pending.append((DiagnosticStatus.ERROR, self._failure))
            self.publish()
        self._publisher.wait_for_all_acked(Duration(seconds=FLUSH_SECONDS))

    def _readers(self) -> int:
        return int(self._node.count_subscribers(self._publisher.topic_name))

    def publish(self) -> None:
        """Publish the present status."""
        values = {name: _text(value) for name, value in self._figures().items()}
        with self._lock:
            pending, self._pending = self._pending, []
            for kind, count in self._counts.items():
                values[kind] = str(count)
                values[f"{kind}: last"] = self._reasons[kind]
        level, message = max(pending, key=lambda event: event[0], default=(DiagnosticStatus.OK, "ok"))
        if level == DiagnosticStatus.OK and values.get("warning"):
            level, message = DiagnosticStatus.WARN, values["warning"]
        status = DiagnosticStatus(
            level=level,
            name=f"egotwin: {self._node.get_name()}",
            hardware_id=self._node.get_fully_qualified_name(),
            message=message,
            values=[KeyValue(key=name, value=value) for name, value in values.items()],
        )
        array = DiagnosticArray(status=[status])
        array.header.stamp = time_message(self._node.get_clock().now().nanoseconds)
        self._publisher.publish(array)


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
