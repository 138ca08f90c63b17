"""What benchmarks/live.py measures with ROS: nodes as a user starts them, and a listener in a process of its own.

python benchmarks/live_ros.py listen --seconds S      # what the listener's process runs; prints one JSON line
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
PROFILE = ROOT / "ros" / "config" / "fastdds_large_images.xml"
NAMESPACE = "/egotwin_benchmark"
DOMAIN = 77
PATIENCE = 180.0  # seconds, for whatever is waited for
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")

GOALS = ("walk to the red box", "turn to the blue ball", "open the door", "walk to the green cylinder")


class NodeProcess:
    """`python -m egotwin_sim.ros.MODULE`, autostarted, with parameters."""

    def __init__(self, module: str, environment: dict[str, str] | None = None, **parameters: object) -> None:
        self.module = module
        words = [sys.executable, "-m", f"egotwin_sim.ros.{module}", "--ros-args", "-r", f"__ns:={NAMESPACE}"]
        for name, value in {"autostart": "true", **parameters}.items():
            words += ["-p", f"{name}:={value}"]
        self.started = time.monotonic()
        self._log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            words, env=_environment(environment), stdout=self._log, stderr=subprocess.STDOUT, start_new_session=True
        )

    def resident_mb(self) -> float:
        """Resident memory, MB."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * PAGE / 1e6

    def cpu_seconds(self) -> float:
        """Processor time used so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def kill(self) -> None:
        """What a crash is to the others."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGINT, and the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def check(self) -> None:
        """Fail with what the node printed if it has ended."""
        if self.process.poll() is not None:
            self._log.seek(0)
            raise RuntimeError(f"{self.module} ended:\n{self._log.read().decode(errors='replace')}")


def _environment(more: dict[str, str] | None = None) -> dict[str, str]:
    own = {"ROS_DOMAIN_ID": str(DOMAIN), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    return os.environ | own | (more or {})


class Ear:
    """A node that hears pictures, states, trajectories and diagnostics, and notes when and what."""

    def __init__(self, reliability: str) -> None:
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.node import Node
        from sensor_msgs.msg import Image, JointState
        from std_msgs.msg import String
        from trajectory_msgs.msg import JointTrajectory

        from egotwin_sim.ros.messages import stamp_ns
        from egotwin_sim.ros.qos import LATCHED, NEWEST, STATE, image_profile

        self.images: list[tuple[float, float]] = []  # stamp, and seconds from it until here
        self.states: list[float] = []  # stamps
        self.trajectories: list[float] = []  # when they came, monotonic
        self.figures: dict[str, dict[str, str]] = {}
        self._rclpy, self._string = rclpy, String
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=DOMAIN)
        self.node = Node("ear", namespace=NAMESPACE, context=self.context)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)

        def image(message: Any) -> None:
            stamp = stamp_ns(message.header.stamp) / 1e9
            self.images.append((stamp, time.time() - stamp))

        def figures(message: Any) -> None:
            for status in message.status:
                self.figures[status.name.removeprefix("egotwin: ")] = {v.key: v.value for v in status.values}

        hear = self.node.create_subscription
        hear(Image, "head_camera/image_raw", image, image_profile(reliability))
        hear(JointState, "joint_states", lambda m: self.states.append(stamp_ns(m.header.stamp) / 1e9), STATE)
        hear(JointTrajectory, "joint_trajectory", lambda _: self.trajectories.append(time.monotonic()), NEWEST)
        hear(DiagnosticArray, "diagnostics", figures, 50)
        self._prompt = self.node.create_publisher(String, "prompt", LATCHED)

    def prompt(self, text: str) -> None:
        """Give a goal."""
        self._prompt.publish(self._string(data=text))

    def listen(self, seconds: float) -> None:
        """Take in what comes for some seconds."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._executor.spin_once(max(0.0, end - time.monotonic()))

    def until(self, holds: Callable[[], Any], what: str, *nodes: NodeProcess) -> float:
        """Take in what comes until something holds; the moment, monotonic."""
        end = time.monotonic() + PATIENCE
        while not holds():
            self._executor.spin_once(0.05)
            for node in nodes:
                node.check()
            if time.monotonic() > end:
                raise RuntimeError(f"waited in vain for {what}")
        return time.monotonic()

    def forget(self) -> None:
        """Drop what was heard."""
        self.images.clear()
        self.states.clear()
        self.trajectories.clear()

    def close(self) -> None:
        """End."""
        self._executor.shutdown()
        self.node.destroy_node()
        self._rclpy.shutdown(context=self.context)


@dataclass(frozen=True)
class Transport:
    """How pictures travel."""

    name: str
    reliability: str
    environment: dict[str, str]


TRANSPORTS = (
    Transport("default, best effort", "best_effort", {}),
    Transport("default, reliable", "reliable", {}),
    Transport("shipped profile, best effort", "best_effort", {"FASTDDS_DEFAULT_PROFILES_FILE": str(PROFILE)}),
    Transport("shipped profile, reliable", "reliable", {"FASTDDS_DEFAULT_PROFILES_FILE": str(PROFILE)}),
)


def measure_images(size: int, transport: Transport, seconds: float) -> dict[str, Any]:
    """Loss and delay of the bridge's pictures at 30 a second, heard in another process."""
    bridge = NodeProcess(
        "mujoco_bridge_node",
        transport.environment,
        image_size=size,
        image_qos=transport.reliability,
        mode="kinematic",
        room_seed=7,
        discovery_seconds=0.0,
    )
    words = [sys.executable, __file__, "listen", "--reliability", transport.reliability, "--seconds", str(seconds)]
    try:
        ended = subprocess.run(words, env=_environment(transport.environment), capture_output=True, text=True)
        bridge.check()
        if ended.returncode:
            raise RuntimeError(f"the listener failed:\n{ended.stderr}")
        heard = json.loads(ended.stdout.strip().splitlines()[-1])
    finally:
        bridge.stop()
    return {"size": size, "bytes": 3 * size * size, "transport": transport.name, **heard}


def listen(reliability: str, seconds: float) -> dict[str, Any]:
    """The listener: from the first states on, pictures between two reports of the bridge's count."""
    ear = Ear(reliability)
    ear.until(lambda: len(ear.states) > 20 and "images_sent" in ear.figures.get("mujoco_bridge", {}), "the bridge")

    def sent() -> int:
        """The bridge's count, when it tells it next."""
        ear.figures.clear()
        ear.until(lambda: "images_sent" in ear.figures.get("mujoco_bridge", {}), "figures")
        return int(ear.figures["mujoco_bridge"]["images_sent"])

    ear.listen(2.0)  # late joining is not the transport's loss
    first = sent()
    ear.forget()
    ear.listen(seconds)
    given = sent() - first
    # What came while the count was waited for belongs to it.
    delays = [1000.0 * delay for _, delay in ear.images]
    states = np.diff(ear.states)
    ear.close()
    return {
        "sent": given,
        "received": len(delays),
        "lost_share": max(0.0, 1.0 - len(delays) / given) if given else None,
        "delay_ms_p50": float(np.median(delays)) if delays else None,
        "delay_ms_p99": float(np.percentile(delays, 99)) if delays else None,
        "states_hz": float(1.0 / states.mean()) if len(states) else None,
    }


def measure_reconnect(repeats: int) -> list[dict[str, Any]]:
    """Seconds until a listener, a world model and a bridge that come back are heard again."""
    found: dict[str, list[float]] = {"a new listener: first picture": [], "a world model killed and started again": []}
    found["a bridge killed and started again"] = []
    bridge = NodeProcess("mujoco_bridge_node", room_seed=7, discovery_seconds=0.0)
    model = NodeProcess("world_model_node", prompt=GOALS[0])
    ear = Ear("reliable")
    try:
        ear.until(lambda: ear.trajectories, "the first trajectory", bridge, model)
        for _ in range(repeats):
            began = time.monotonic()
            other = Ear("reliable")
            found["a new listener: first picture"].append(
                other.until(lambda other=other: other.images, "a picture", bridge) - began
            )
            other.close()
            model.kill()
            ear.listen(2.0)
            ear.forget()
            model = NodeProcess("world_model_node", prompt=GOALS[0])
            again = ear.until(lambda: ear.trajectories, "a trajectory", bridge, model)
            found["a world model killed and started again"].append(again - model.started)
            bridge.kill()
            ear.listen(2.0)
            ear.forget()
            bridge = NodeProcess("mujoco_bridge_node", room_seed=7, discovery_seconds=0.0)
            ear.until(lambda: ear.states, "states", bridge, model)
            ear.trajectories.clear()
            again = ear.until(lambda: ear.trajectories, "a trajectory", bridge, model)
            found["a bridge killed and started again"].append(again - bridge.started)
    finally:
        ear.close()
        model.stop()
        bridge.stop()
    return [{"what": what, "seconds": values, "median_s": float(np.median(values))} for what, values in found.items()]


def measure_soak(seconds: float, period: float = 10.0) -> dict[str, Any]:
    """Bridge and world model in two processes for a long time, with a new goal every half minute."""
    bridge = NodeProcess("mujoco_bridge_node", room_seed=7, discovery_seconds=0.0)
    model = NodeProcess("world_model_node", prompt=GOALS[0])
    ear = Ear("reliable")
    rows: list[dict[str, float]] = []
    try:
        ear.until(lambda: ear.trajectories, "the first trajectory", bridge, model)
        ear.listen(5.0)
        ear.forget()
        before = dict(ear.figures["mujoco_bridge"])
        began, used = time.monotonic(), (bridge.cpu_seconds(), model.cpu_seconds())
        while (elapsed := time.monotonic() - began) < seconds:
            ear.prompt(GOALS[int(elapsed // 30) % len(GOALS)])
            ear.listen(min(period, seconds - elapsed))
            for node in (bridge, model):
                node.check()
            now = ear.figures["mujoco_bridge"]
            rows.append(
                {
                    "s": time.monotonic() - began,
                    "bridge_mb": bridge.resident_mb(),
                    "model_mb": model.resident_mb(),
                    "real_time_factor": float(now["real_time_factor"]),
                }
            )
        elapsed = time.monotonic() - began
        after, dream = dict(ear.figures["mujoco_bridge"]), dict(ear.figures["world_model"])
        gaps = np.diff(ear.states)
        pictures = np.diff([stamp for stamp, _ in ear.images])
        cpu = (bridge.cpu_seconds() - used[0]) / elapsed, (model.cpu_seconds() - used[1]) / elapsed

        def rose(name: str) -> int:
            return int(float(after[name])) - int(float(before[name]))

        settled = [row for row in rows if row["s"] >= min(60.0, seconds / 4)]
        return {
            "seconds": elapsed,
            "real_time_factor": float(after["real_time_factor"]),
            "states_received": len(ear.states),
            "states_expected": round((ear.states[-1] - ear.states[0]) * 100) + 1,
            "states_longest_gap_ms": 1000.0 * float(gaps.max()),
            "states_dropped": rose("states_dropped"),
            "pictures_received": len(ear.images),
            "pictures_sent": rose("images_sent"),
            "pictures_dropped": rose("images_dropped") + rose("dropped_views"),
            "pictures_longest_gap_ms": 1000.0 * float(pictures.max()),
            "underruns": rose("underruns"),
            "resyncs": rose("resyncs"),
            "refused": rose("refused"),
            "lag_ms_p99": float(after["lag_ms_p99"]),
            "chunks": int(float(dream["chunks"])),
            "late_chunks": int(float(dream["late"])),
            "cores_bridge": cpu[0],
            "cores_world_model": cpu[1],
            "bridge_mb": [settled[0]["bridge_mb"], settled[-1]["bridge_mb"]],
            "model_mb": [settled[0]["model_mb"], settled[-1]["model_mb"]],
            "rows": rows,
        }
    finally:
        ear.close()
        model.stop()
        bridge.stop()


def main() -> None:
    """The listener's process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=["listen"])
    parser.add_argument("--reliability", default="reliable")
    parser.add_argument("--seconds", type=float, default=10.0)
    args = parser.parse_args()
    print(json.dumps(listen(args.reliability, args.seconds)))


if __name__ == "__main__":
    main()
