import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed; it comes with the extra test")

from egotwin_sim.errors import UserError
from egotwin_sim.motion import Motion, Skeleton
from egotwin_sim.ros.token_message import (
    TokenCommand,
    TokenRequest,
    command_message,
    request_message,
    token_command,
    token_request,
)
from tests.tiny import walking


def command() -> TokenCommand:
    return TokenCommand(17, 1_700_000_000.125, np.arange(12, dtype=np.float32).reshape(2, 6) / 8)


def test_tokens_come_back() -> None:
    back = token_command(command_message(command()))
    assert (back.step_id, back.deadline_s) == (17, 1_700_000_000.125)
    np.testing.assert_array_equal(back.tokens, command().tokens)


def test_a_request_brings_the_body_along() -> None:
    recent: Motion = walking(0, frames=9)
    back = token_request(request_message(TokenRequest(3, 0.5, recent)), Skeleton.default(), 16.0)
    assert (back.step_id, back.deadline_s) == (3, 0.5)
    np.testing.assert_array_equal(back.recent.joint_quat_wxyz, recent.joint_quat_wxyz)
    np.testing.assert_array_equal(back.recent.root_position, recent.root_position)


def test_the_layout_is_the_messages_own_formula() -> None:
    message = command_message(command())
    stride, offset = message.layout.dim[1].stride, message.layout.data_offset
    assert message.data[offset + 1 * stride + 4] == command().tokens[1, 4]


def test_other_layouts_and_numbers_are_refused() -> None:
    message = command_message(command())
    message.data = message.data[:-1]
    with pytest.raises(UserError, match="13 values; expected 2 and 2 x 6 tokens"):
        token_command(message)
    message = command_message(command())
    message.data[3] = float("nan")
    with pytest.raises(UserError, match="NaN or infinity"):
        token_command(message)
    message = command_message(command())
    message.data[0] = 1.5
    with pytest.raises(UserError, match="step 1.5"):
        token_command(message)
    with pytest.raises(UserError, match="1 tokens; expected 2"):
        token_command(command_message(TokenCommand(1, 0.0, np.zeros((1, 6)))))
    with pytest.raises(UserError, match="dimensions .*frame"):
        token_command(request_message(TokenRequest(1, 0.0, walking(0, frames=1))))
    with pytest.raises(UserError, match="91 values; expected 15"):
        token_request(request_message(TokenRequest(1, 0.0, walking(0, frames=1))), tail(), 16.0)


def tail() -> Skeleton:
    return Skeleton(("pelvis", "left_ankle", "head"), (-1, 0, 0), np.zeros((3, 3)))
