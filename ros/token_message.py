"""Motion tokens, and the request for them, in standard messages.

Both are `std_msgs/Float64MultiArray`. `layout.data_offset` is 2: before the array lie the number of the step, and the
deadline in seconds of ROS time. Element (i, j) of the array lies at `data_offset + i * dim[1].stride + j`, as the
message's own definition says. The array is:

* of a command: `token` (2) by `channel` (Cm), normalised motion tokens of the step;
* of a request: `frame` (n) by `value` (3 + 4 J), the body's last frames up to where the step begins, 1/16 s apart: the
  root's position in metres and the joints' quaternions wxyz, in the order of the skeleton's names.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import numpy as np
from std_msgs.msg import Float64MultiArray, MultiArrayDimension, MultiArrayLayout

from egotwin_sim.errors import UserError
from egotwin_sim.motion import Motion, Skeleton

OFFSET = 2  # step id and deadline come before the array
TOKENS = 2  # motion tokens of a chunk


@dataclass(frozen=True)
class TokenCommand:
    """What the body shall do in a step.

    Attributes:
        step_id: number of the step, from 0.
        deadline_s: of the request that it answers, seconds of ROS time.
        tokens: float32 (2, Cm), normalised.
    """

    step_id: int
    deadline_s: float
    tokens: np.ndarray


@dataclass(frozen=True)
class TokenRequest:
    """The question for a step's tokens.

    Attributes:
        step_id: number of the step.
        deadline_s: seconds of ROS time after which an answer comes too late.
        recent: the body's last frames, the last one being where the step begins.
    """

    step_id: int
    deadline_s: float
    recent: Motion


def command_message(command: TokenCommand) -> Float64MultiArray:
    """The message of a command."""
    return _message(command.step_id, command.deadline_s, command.tokens, "token", "channel")


def request_message(request: TokenRequest) -> Float64MultiArray:
    """The message of a request."""
    frames = len(request.recent)
    body = np.hstack([request.recent.root_position, request.recent.joint_quat_wxyz.reshape(frames, -1)])
    return _message(request.step_id, request.deadline_s, body, "frame", "value")


def token_command(message: Float64MultiArray) -> TokenCommand:
    """What a message commands.

    Raises:
        UserError: another layout, another number of values or tokens, a step that is no whole number, NaN or infinity.
    """
    step_id, deadline, tokens = _read(message, "token", "channel")
    if len(tokens) != TOKENS:
        raise UserError(f"the message holds {len(tokens)} tokens; expected {TOKENS}, those of one step")
    return TokenCommand(step_id, deadline, tokens.astype(np.float32))


def token_request(message: Float64MultiArray, skeleton: Skeleton, fps: float) -> TokenRequest:
    """What a message asks, of a body with a skeleton, frames per second.

    Raises:
        UserError: another layout, another number of values, a body that is none.
    """
    step_id, deadline, body = _read(message, "frame", "value")
    if body.shape[1] != 3 + 4 * skeleton.num_joints:
        raise UserError(f"a frame of the request has {body.shape[1]} values; expected {3 + 4 * skeleton.num_joints}")
    quats = body[:, 3:].reshape(len(body), skeleton.num_joints, 4)
    return TokenRequest(step_id, deadline, Motion(body[:, :3], quats, skeleton, fps))


def _message(step_id: int, deadline_s: float, array_: np.ndarray, row: str, column: str) -> Float64MultiArray:
    rows, columns = array_.shape
    layout = MultiArrayLayout(
        dim=[
            MultiArrayDimension(label=row, size=rows, stride=rows * columns),
            MultiArrayDimension(label=column, size=columns, stride=columns),
        ],
        data_offset=OFFSET,
    )
    values = np.concatenate([[step_id, deadline_s], array_.reshape(-1)]).astype(np.float64)
    return Float64MultiArray(layout=layout, data=array("d", values.tobytes()))


def _read(message: Float64MultiArray, row: str, column: str) -> tuple[int, float, np.ndarray]:
    dims, data = message.layout.dim, np.asarray(message.data, dtype=np.float64)
    labels = [dim.label for dim in dims]
    if labels != [row, column] or message.layout.data_offset != OFFSET:
        raise UserError(
            f"the message has dimensions {labels} and offset {message.layout.data_offset}; expected {[row, column]} "
            f"and {OFFSET}: step id, deadline, then the array"
        )
    rows, columns = dims[0].size, dims[1].size
    if len(data) != OFFSET + rows * columns or rows < 1:
        raise UserError(f"the message holds {len(data)} values; expected {OFFSET} and {rows} x {columns} {row}s")
    if not np.isfinite(data).all():
        raise UserError("the message holds NaN or infinity; expected finite numbers")
    if data[0] != int(data[0]) or data[0] < 0:
        raise UserError(f"the message is for step {data[0]:g}; expected a whole number from 0")
    return int(data[0]), float(data[1]), data[OFFSET:].reshape(rows, columns)
