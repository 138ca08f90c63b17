"""The view memory draws what was seen from where the head is now, and leaves out what it cannot know."""

from __future__ import annotations

import math

import pytest
import torch

from egotwin_sim.models.view_condition import compose
from egotwin_sim.models.view_memory import ViewMemory, body_map, render
from egotwin_sim.motion import Skeleton

FOVY = math.pi / 2
SIZE = 64
SKELETON = Skeleton.default()
FAR_BODY = torch.full((1, SKELETON.num_joints, 3), -50.0) + torch.rand(1, SKELETON.num_joints, 3)


def wall(distance: float, yaw: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """A picture (1, 3, H, W) and depth of a wall at x = distance whose colour is a smooth function of (y, z)."""
    centre = (torch.arange(SIZE) + 0.5) - SIZE / 2
    focal = SIZE / 2
    v, u = torch.meshgrid(centre / focal, centre / focal, indexing="ij")
    y, z = -u * distance, -v * distance
    return paint(y, z)[None], torch.full((1, SIZE, SIZE), distance)


def paint(y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    return torch.stack([torch.sin(2 * y), torch.cos(2 * z), torch.sin(y + z)])


def pose(x: float = 0.0, y: float = 0.0, yaw: float = 0.0) -> torch.Tensor:
    T = torch.eye(4)
    T[:2, :2] = torch.tensor([[math.cos(yaw), -math.sin(yaw)], [math.sin(yaw), math.cos(yaw)]])
    T[0, 3], T[1, 3] = x, y
    return T


def memory_of_wall(distance: float = 3.0) -> ViewMemory:
    frame, depth = wall(distance)
    return ViewMemory.of(frame, depth, FAR_BODY, pose()[None], SKELETON.names, FOVY)


def test_same_pose_gives_the_same_picture() -> None:
    memory = memory_of_wall()
    frames, mask = render(memory, pose()[None, None], FOVY)
    assert frames.shape == (1, 1, 1, 3, SIZE, SIZE)
    assert mask.mean() > 0.95
    known = mask[0, 0, 0] > 0
    torch.testing.assert_close(frames[0, 0, 0][:, known], memory.frames[0, 0][:, known], atol=0.02, rtol=0)


@pytest.mark.parametrize("step", [(0.5, 0.0), (0.0, 0.4), (1.0, -0.3)])
def test_a_step_shows_the_wall_from_there(step: tuple[float, float]) -> None:
    frames, mask = render(memory_of_wall(), pose(*step)[None, None], FOVY)
    distance = 3.0 - step[0]
    centre = ((torch.arange(SIZE) + 0.5) - SIZE / 2) / (SIZE / 2)
    v, u = torch.meshgrid(centre, centre, indexing="ij")
    expected = paint(step[1] - u * distance, -v * distance)
    known = mask[0, 0, 0] > 0
    assert known.float().mean() > 0.7
    assert (frames[0, 0, 0] - expected)[:, known].abs().mean() < 0.03


def test_turning_left_moves_the_picture_right_and_uncovers_the_left() -> None:
    _, mask = render(memory_of_wall(), pose(yaw=math.radians(20))[None, None], FOVY)
    columns = mask[0, 0, 0].mean(0)
    assert columns[: SIZE // 6].max() < 0.05, "what was left of the old view is not known"
    assert columns[SIZE // 2 :].min() > 0.5


def test_a_near_thing_hides_the_wall_and_its_shadow_is_unknown() -> None:
    frame, depth = wall(3.0)
    block = slice(SIZE // 2 - 6, SIZE // 2 + 6)
    frame[:, :, block, block], depth[:, block, block] = 1.0, 1.0
    memory = ViewMemory.of(frame, depth, FAR_BODY, pose()[None], SKELETON.names, FOVY)
    frames, mask = render(memory, pose(y=-0.4)[None, None], FOVY)
    # Stepping right, the block (at 1 m) moves left by 0.4 of the focal length, 13 pixels; the wall by 4.
    middle = SIZE // 2
    moved = frames[0, 0, 0, :, middle, middle - 13]
    torch.testing.assert_close(moved, torch.ones(3), atol=0.05, rtol=0)
    assert mask[0, 0, 0, middle, middle - 13] == 1
    assert mask[0, 0, 0, middle, middle - 2] == 0, "the wall behind the block was never seen"


def test_ones_own_hand_is_not_remembered() -> None:
    joints = FAR_BODY.clone()
    joints[0, SKELETON.names.index("right_elbow")] = torch.tensor([0.3, -0.2, -0.3])
    joints[0, SKELETON.names.index("right_wrist")] = torch.tensor([0.5, 0.0, 0.0])
    frame, depth = wall(3.0)
    depth[:, SIZE // 2 - 3 : SIZE // 2 + 3, SIZE // 2 - 3 : SIZE // 2 + 3] = 0.5
    memory = ViewMemory.of(frame, depth, joints, pose()[None], SKELETON.names, FOVY)
    assert not memory.valid[0, 0, SIZE // 2, SIZE // 2]
    assert memory.valid[0, 0, 5, 5]


def test_body_map_shows_the_hand_where_it_is() -> None:
    joints = FAR_BODY.clone()
    joints[0, SKELETON.names.index("left_elbow")] = torch.tensor([0.30, 0.25, -0.2])
    joints[0, SKELETON.names.index("left_wrist")] = torch.tensor([0.50, 0.25, 0.0])
    drawn = body_map(joints, SKELETON.names, (16, 16), FOVY)
    assert drawn.shape == (1, 2, 16, 16)
    hands = drawn[0, 1]
    row, column = divmod(int(hands.argmax()), 16)
    assert hands.max() > 0.8
    assert column < 8, "the left hand is left of the middle"
    assert hands[:, 10:].max() < 0.1
    behind = FAR_BODY.clone()
    assert body_map(behind, SKELETON.names, (16, 16), FOVY).max() < 0.05


def test_what_changed_is_taken_from_the_newest_view() -> None:
    frames = torch.zeros(1, 2, 1, 3, 32, 32)
    frames[:, 1, :, :, :, 16:] = 1.0
    mask = torch.ones(1, 2, 1, 32, 32)
    mask[:, 1, :, :8] = 0
    picture = compose(frames, mask)[0, 0]
    assert picture[:, 20, 4].abs().max() == 0, "where they agree the first frame is used"
    assert picture[:, 20, 28].min() == 1, "where they differ the newest is believed"
    assert picture[:, 2, 28].abs().max() == 0, "where only the first knows, it is used"


def test_state_is_a_value() -> None:
    first = memory_of_wall(2.0)
    newest = memory_of_wall(3.0)
    both = first.remember(newest)
    assert first.frames.shape[1] == 1 and both.frames.shape[1] == 2
    assert torch.equal(both.remember(first).depth[:, 1], first.depth[:, 0])
    assert both.index(torch.tensor([0, 0])).frames.shape[0] == 2
