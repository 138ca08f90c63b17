"""Nodes that several tests share, and clients in the same domain."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Before any participant is made: what runs beside this on the network is no part of a test.
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"


@pytest.fixture(scope="module")
def domain() -> int:
    """A domain for the module's nodes."""
    pytest.importorskip("rclpy", reason="rclpy is not installed; it comes with the extra test")
    from tests.ros.harness import free_domain

    return free_domain()


@pytest.fixture(scope="module")
def namespace(domain: int) -> str:
    """A namespace that no other run of the tests has."""
    return f"/t{os.getpid()}_{domain}"


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory, domain: int, namespace: str) -> Iterator[Callable]:
    """Starts node processes, which end with the module at the latest."""
    from tests.ros.harness import NodeProcess

    folder: Path = tmp_path_factory.mktemp("ros")
    started: list[NodeProcess] = []

    def start(module: str, **parameters: object) -> NodeProcess:
        started.append(NodeProcess(module, domain, namespace, folder, **parameters))
        return started[-1]

    yield start
    for node in started:
        node.interrupt()


@pytest.fixture
def client(domain: int, namespace: str) -> Iterator:
    """A client for one test."""
    from tests.ros.harness import Client

    made = Client(domain, namespace)
    yield made
    made.close()
