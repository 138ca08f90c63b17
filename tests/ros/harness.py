"""Nodes in processes of their own, and a client beside them that waits for what it expects."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions

TIMEOUT = 120.0  # seconds, for whatever is waited for; a machine under load must not fail a test
LAST_DOMAIN = 101
_counter = itertools.count()


def free_domain() -> int:
    """A domain id that no other worker of this run uses."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    return (int(worker) * 25 + next(_counter) % 25) % (LAST_DOMAIN + 1)


class NodeProcess:
    """`python -m egotwin_sim.ros.<module>` with parameters, as a user would start it."""

    def __init__(self, module: str, domain: int, namespace: str, folder: Path, **parameters: object) -> None:
        self.name = f"{module}-{next(_counter)}"
        self._log = folder / f"{self.name}.log"
        words = [sys.executable, "-m", f"egotwin_sim.ros.{module}", "--ros-args", "-r", f"__ns:={namespace}"]
        for name, value in parameters.items():
            words += ["-p", f"{name}:={value}"]
        environment = os.environ | {
            "ROS_DOMAIN_ID": str(domain),
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
            "ROS_LOG_DIR": str(folder),
            "OMP_NUM_THREADS": "1",
        }
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                words, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def interrupt(self) -> int:
        """SIGINT, and the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.wait()

    def kill(self) -> None:
        """What a crash is to the others: no goodbye."""
        self.process.kill()
        self.process.wait(TIMEOUT)

    def wait(self) -> int:
        try:
            return self.process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"{self.name} did not end:\n{self.log}") from None

    def orphans(self) -> list[int]:
        """Processes of the node's session that are still there."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                except OSError:
                    continue
                if int(fields[3]) == self.process.pid and fields[0] != "Z":
                    found.append(int(entry.name))
        return found


class Client:
    """A node of the test, whose executor has a thread of its own; `until` waits for its callbacks."""

    def __init__(self, domain: int, namespace: str, **options: Any) -> None:
        self.context = rclpy.Context()
        self.domain, self.namespace = domain, namespace
        rclpy.init(context=self.context, domain_id=domain, signal_handler_options=SignalHandlerOptions.NO)
        self.node = Node("client", namespace=namespace, context=self.context, **options)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._changed = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._spin)
        self._thread.start()

    def _spin(self) -> None:
        while not self._ended:
            self._executor.spin_once()
            with self._changed:
                self._changed.notify_all()

    def close(self) -> None:
        self._ended = True
        self._executor.create_task(lambda: None)
        self._thread.join()
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)

    def until(self, holds: Callable[[], Any], what: str, watch: NodeProcess | None = None) -> Any:
        """Wait until something holds, looking after every callback; returns it."""
        deadline = time.monotonic() + TIMEOUT
        with self._changed:
            while not (found := holds()):
                # The graph changes without a callback, so it is looked at from time to time as well.
                self._changed.wait(0.05)
                if time.monotonic() > deadline or (watch is not None and watch.process.poll() is not None):
                    raise AssertionError(f"waited in vain for {what}\n{watch.log if watch else ''}")
        return found

    def collect(self, message: type, topic: str, profile: QoSProfile | int, limit: int = 4096) -> list[Any]:
        """A list that fills with a topic's messages."""
        received: list[Any] = []

        def take(item: Any) -> None:
            received.append(item)
            del received[:-limit]

        self.node.create_subscription(message, topic, take, profile)
        return received

    def publisher(self, message: type, topic: str, profile: QoSProfile | int, readers: int = 1) -> Any:
        """A publisher that its readers have found."""
        publisher = self.node.create_publisher(message, topic, profile)
        self.until(lambda: publisher.get_subscription_count() >= readers, f"readers of {topic}")
        return publisher

    def call(self, kind: type, service: str, request: Any) -> Any:
        """A service's answer."""
        client = self.node.create_client(kind, service)
        self.until(client.service_is_ready, f"the service {service}")
        future = client.call_async(request)
        self.until(future.done, f"an answer of {service}")
        self.node.destroy_client(client)
        return future.result()


class Diagnoses:
    """What one node said on diagnostics."""

    def __init__(self, client: Client, node: str) -> None:
        self._client, self._name = client, f"egotwin: {node}"
        self._arrays = client.collect(DiagnosticArray, "diagnostics", 50)

    @property
    def topic(self) -> str:
        """The topic's full name."""
        return f"{self._client.namespace}/diagnostics"

    def forget(self) -> None:
        """Drop what was said so far."""
        self._arrays.clear()

    def statuses(self) -> list[Any]:
        return [s for array in list(self._arrays) for s in array.status if s.name == self._name]

    def values(self) -> dict[str, str]:
        """The newest figures."""
        statuses = self.statuses()
        return {value.key: value.value for value in statuses[-1].values} if statuses else {}

    def until_said(self, words: str, since: int = 0) -> str:
        """Wait for a warning or error with some words, and give it whole."""

        def said() -> str:
            return next((s.message for s in self.statuses()[since:] if words in s.message), "")

        return str(self._client.until(said, f"{words!r} on diagnostics; last: {self.values()}"))


class HostedNode:
    """One of the project's nodes in this process, with an executor in a thread of its own."""

    def __init__(self, kind: type, domain: int, namespace: str, **parameters: Any) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain, signal_handler_options=SignalHandlerOptions.NO)
        self.reasons: list[str] = []
        self.node = kind(
            self.reasons.append,
            context=self.context,
            cli_args=["--ros-args", "-r", f"__ns:={namespace}"],
            parameter_overrides=[Parameter(name, value=value) for name, value in parameters.items()],
        )
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._ended = False
        self._thread = threading.Thread(target=self._spin)
        self._thread.start()

    def _spin(self) -> None:
        while not self._ended:
            self._executor.spin_once()

    def run(self, action: Callable[[], Any]) -> Any:
        """What a call in the executor's thread gives."""
        done = threading.Event()
        results: list[Any] = []

        def task() -> None:
            try:
                results.append(action())
            finally:
                done.set()

        self._executor.create_task(task)
        assert done.wait(TIMEOUT), "the executor is stuck"
        return results[0]

    def close(self) -> None:
        self._ended = True
        self._executor.create_task(lambda: None)
        self._thread.join()
        self._executor.shutdown()
        self.node.end()
        rclpy.shutdown(context=self.context)
