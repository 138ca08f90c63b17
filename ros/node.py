"""What the project's nodes have in common: parameters, diagnostics, and a lifecycle whose failures have a reason."""

from __future__ import annotations

import traceback
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from rclpy.event_handler import (
    PublisherEventCallbacks,
    QoSOfferedIncompatibleQoSInfo,
    QoSRequestedIncompatibleQoSInfo,
    SubscriptionEventCallbacks,
)
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import QoSProfile

from egotwin_sim.errors import UserError

from .diagnostics import Diagnostics
from .parameters import declare, read

NAMESPACE = "egotwin"


class EgoTwinNode(LifecycleNode):
    """A lifecycle node.

    Configuring loads, activating starts threads, deactivating stops them, cleaning up frees. A transition that fails
    says why in the log and on `diagnostics`. With the parameter `autostart` the process brings the node to active,
    and ends where that fails.

    Args:
        give_up: called with the reason when the process should end.

    Raises:
        UserError: a parameter given at the start is refused.
    """

    NAME: ClassVar[str]
    CONFIG: ClassVar[type]

    def __init__(self, give_up: Callable[[str], None], **options: Any) -> None:
        super().__init__(self.NAME, namespace=NAMESPACE, **options)
        self._give_up = give_up
        self.last_failure = ""
        try:
            declare(self, self.CONFIG)
        except UserError:
            self.destroy_node()
            raise
        self.diagnostics = Diagnostics(self, lambda: {"state": self.state, **self.figures()})

    @property
    def config(self) -> Any:
        """The parameters as they are now."""
        return read(self, self.CONFIG)

    @property
    def state(self) -> str:
        """The lifecycle's state, such as "active"."""
        return str(self._state_machine.current_state[1])

    @abstractmethod
    def configure(self) -> None:
        """Load what is needed and make publishers, subscriptions and services.

        Raises:
            UserError: something is missing or does not fit.
        """

    @abstractmethod
    def activate(self) -> None:
        """Start the threads."""

    @abstractmethod
    def deactivate(self) -> None:
        """Stop the threads; may be called when there are none."""

    @abstractmethod
    def release(self) -> None:
        """Free what `configure` made, also when it made only a part of it."""

    @abstractmethod
    def figures(self) -> Mapping[str, object]:
        """Values for the diagnostics; called in every state, from any thread."""

    def end(self) -> None:
        """Stop and free everything, and destroy the node."""
        if self.state != "finalized":
            self.trigger_shutdown()
        self.diagnostics.flush()
        self.destroy_node()

    def leave(self, reason: str) -> None:
        """Report why the node cannot go on, and end the process."""
        self.diagnostics.fail("failure", reason)
        self.last_failure = reason
        self._give_up(reason)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load; after a failure nothing stays behind."""
        result = self._attempt("configuring", self.configure)
        if result != TransitionCallbackReturn.SUCCESS:
            self.release()
            return result
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Enable the publishers, then start the threads."""
        super().on_activate(state)
        result = self._attempt("activating", self.activate)
        if result != TransitionCallbackReturn.SUCCESS:
            self.deactivate()
            super().on_deactivate(state)
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop the threads, then disable the publishers."""
        result = self._attempt("deactivating", self.deactivate)
        super().on_deactivate(state)
        return result

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free what was loaded."""
        return self._attempt("cleaning up", self.release)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and free, from whatever state."""
        return self._attempt("shutting down", lambda: (self.deactivate(), self.release()))

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After an error: stop and free; the node is unconfigured then."""
        return self._attempt("recovering from an error", lambda: (self.deactivate(), self.release()))

    def _attempt(self, what: str, action: Callable[[], object]) -> TransitionCallbackReturn:
        try:
            action()
        except UserError as error:
            self.last_failure = str(error)
            self.diagnostics.fail(what, str(error))
            return TransitionCallbackReturn.FAILURE
        except Exception as error:  # rclpy would swallow it
            self.last_failure = f"{type(error).__name__}: {error}"
            self.get_logger().error(traceback.format_exc())
            self.diagnostics.fail(what, self.last_failure)
            return TransitionCallbackReturn.ERROR
        return TransitionCallbackReturn.SUCCESS

    def publishes(self, message: type, topic: str, profile: QoSProfile) -> Any:
        """A lifecycle publisher that reports readers whose quality of service it cannot serve."""

        def report(event: QoSOfferedIncompatibleQoSInfo) -> None:
            self.diagnostics.refuse(
                "incompatible qos",
                f"a reader of {topic} asks for more than is offered ({event.last_policy_kind.name}) and gets nothing",
            )

        events = PublisherEventCallbacks(incompatible_qos=report)
        return self.create_lifecycle_publisher(message, topic, profile, event_callbacks=events)

    def subscribes(self, message: type, topic: str, callback: Callable[[Any], None], profile: QoSProfile) -> Any:
        """A subscription whose callback may refuse a message with `UserError`, and that reports unfit writers."""

        def receive(received: Any) -> None:
            try:
                callback(received)
            except UserError as error:
                self.diagnostics.refuse(f"{topic} refused", str(error))

        def report(event: QoSRequestedIncompatibleQoSInfo) -> None:
            self.diagnostics.refuse(
                "incompatible qos",
                f"a writer of {topic} offers less than is asked for ({event.last_policy_kind.name}) and is not heard",
            )

        events = SubscriptionEventCallbacks(incompatible_qos=report)
        return self.create_subscription(message, topic, receive, profile, event_callbacks=events)
