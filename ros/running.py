"""A process of nodes: from rclpy's start to a clean end on SIGINT or SIGTERM."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Sequence
from typing import NoReturn

import rclpy
from rclpy.executors import ExternalShutdownException, ShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.signals import SignalHandlerOptions

from egotwin_sim.errors import UserError

from .node import EgoTwinNode

EXIT_FAILURE = 1
EXIT_USER_ERROR = 2


class _Stop:
    """Why the process ends: a signal (no reason), or what a node could not go on without."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.reason = ""

    def give_up(self, reason: str) -> None:
        """End with a failure."""
        self.reason = self.reason or reason
        self.event.set()

    def on_signal(self, number: int, frame: object) -> None:
        """End; a second signal of the kind ends at once."""
        signal.signal(number, signal.SIG_DFL)
        self.event.set()


def run(kinds: Sequence[type[EgoTwinNode]], arguments: list[str] | None = None) -> NoReturn:
    """Run nodes in this process until SIGINT or SIGTERM.

    The executor has a thread of its own, so that the main one can wait for signals: rclpy's own handlers end the
    context under nodes that still publish.

    Raises:
        SystemExit: always. 0 after a signal, 1 when a node could not start or go on, 2 for a parameter refused.
    """
    stop = _Stop()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop.on_signal)
    rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    executor = SingleThreadedExecutor()
    nodes: list[EgoTwinNode] = []
    spinning = threading.Thread(target=_spin, args=(executor, stop), name="executor")
    try:
        for kind in kinds:
            node = kind(stop.give_up)
            nodes.append(node)
            executor.add_node(node)
        executor.create_task(_bring_up, [node for node in nodes if node.config.autostart], stop)
        spinning.start()
        stop.event.wait()
    except UserError as error:
        print(f"egotwin_sim: error: {error}", file=sys.stderr)
        raise SystemExit(EXIT_USER_ERROR) from None
    finally:
        stop.event.set()
        executor.create_task(_nothing)  # wakes the executor, which then sees that it should end
        if spinning.ident is not None:
            spinning.join()
        executor.shutdown()
        for node in reversed(nodes):
            node.end()
        rclpy.try_shutdown()
    if stop.reason:
        print(f"egotwin_sim: error: {stop.reason}", file=sys.stderr)
        raise SystemExit(EXIT_FAILURE)
    raise SystemExit(0)


def _spin(executor: SingleThreadedExecutor, stop: _Stop) -> None:
    try:
        while not stop.event.is_set():
            executor.spin_once()
    except (ExternalShutdownException, ShutdownException):
        stop.event.set()
    except BaseException as error:
        stop.give_up(f"{type(error).__name__}: {error}")
        raise


def _bring_up(nodes: list[EgoTwinNode], stop: _Stop) -> None:
    """Configure all nodes, then activate them: loading a model beside a running simulation would starve both."""
    for transition in ("trigger_configure", "trigger_activate"):
        for node in nodes:
            if not stop.event.is_set() and getattr(node, transition)() != TransitionCallbackReturn.SUCCESS:
                stop.give_up(node.last_failure)


def _nothing() -> None:
    pass
