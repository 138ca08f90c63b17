"""All nodes in one process: a goal, a policy that pursues it, a dream under its tokens, and a body that follows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed; it comes with the extra test")

from egotwin_sim.room.goals import goals_of
from egotwin_sim.room.layout import sample_layout
from tests.ros.harness import Client, Diagnoses, NodeProcess
from tests.tiny import tiny_pipeline

ROOM = 3


def test_the_composed_nodes_play_together_and_end_on_sigint(
    launched: Callable[..., NodeProcess], client: Client, tmp_path: Path
) -> None:
    tiny_pipeline().save_pretrained(tmp_path / "tiny")
    goal = goals_of(sample_layout(ROOM))[0].text
    node = launched(
        "live_node", autostart=True, prompt=f"'{goal}'", model=tmp_path / "tiny", room_seed=ROOM, mode="kinematic",
        image_size=32, camera_hz=8.0, discovery_seconds=0.0, policy="scripted", body_from="tokens", token_seconds=30.0,
    )  # fmt: skip
    body, dream, policy = (Diagnoses(client, name) for name in ("mujoco_bridge", "world_model", "policy"))
    client.until(lambda: int(policy.values().get("answered", 0)) >= 2, "two answers of the policy", node)
    client.until(lambda: int(dream.values().get("chunks", 0)) >= 2, "two steps of the dream", node)
    client.until(lambda: int(body.values().get("trajectories", 0)) >= 2, "two trajectories that were taken", node)
    assert node.interrupt() == 0, node.log
    assert "Traceback" not in node.log
    assert node.orphans() == []
