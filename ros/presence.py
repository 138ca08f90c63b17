"""Whether another node does the same work in this namespace."""

from __future__ import annotations

import time

from rclpy.lifecycle import LifecycleNode

NEWCOMER_SECONDS = 10.0  # after its start, in which a node makes way for another one
_LOOK_SECONDS = 0.02
_UNKNOWN = "_NODE_NAME_UNKNOWN_"  # rmw's word


class Presence:
    """Looks for other publishers of a topic that only one node of a namespace may publish.

    Of two that start at once, the one whose publisher has the smaller id stays; one that has been there for a while
    stays in any case.

    Args:
        node: that wants to be the only one.
        topic: that marks its work.
    """

    def __init__(self, node: LifecycleNode, topic: str) -> None:
        self._node, self._topic = node, node.resolve_topic_name(topic)
        self._own: set[tuple[int, ...]] = set()
        self._since = 0.0

    def _publishers(self) -> dict[tuple[int, ...], str]:
        return {
            tuple(info.endpoint_gid): f"{info.node_namespace.rstrip('/')}/{info.node_name}"
            for info in self._node.get_publishers_info_by_topic(self._topic)
        }

    def wait(self, until: float) -> str | None:
        """The name of another one, as soon as it is seen; None when there is none at a time of `time.monotonic`."""
        while True:
            found = list(self._publishers().values())
            # A publisher is known a moment before the name of its node is.
            if named := [name for name in found if _UNKNOWN not in name]:
                return named[0]
            if time.monotonic() >= until:
                return found[0] if found else None
            time.sleep(_LOOK_SECONDS)

    def settle(self) -> None:
        """Take the place: the topic's publishers that are known now are this node's own."""
        self._own = set(self._publishers())
        self._since = time.monotonic()

    def others(self) -> list[str]:
        """Names of the others that are there now."""
        return [name for gid, name in self._publishers().items() if gid not in self._own]

    def must_leave(self) -> bool:
        """Whether this node is the one that makes way for the others."""
        other = [gid for gid in self._publishers() if gid not in self._own]
        new = time.monotonic() - self._since < NEWCOMER_SECONDS
        return bool(other) and new and min(other) < min(self._own, default=())
